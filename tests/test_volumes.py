"""Volumes that nibabel and pydicom wrote: their slices, splits, predictions and mistakes."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import softiou
from marks import slow
from softiou.checking import check_dataset, fix_dataset
from softiou.data import Bands, FolderDataset, divide_images, open_source
from softiou.data.bands import BandImage
from softiou.data.volumes import slices_of, volume_at
from softiou.errors import ConfigError, DataError
from softiou.recipes.custom import CustomParts
from softiou.recipes.data import open_labelled

nibabel: Any = pytest.importorskip("nibabel")  # which has few types

SIZE = (5, 40, 48)  # Z, Y, X: towards the head, to the back, to the left
SPACING = (0.7, 0.8, 3.0)  # of x, y, z in mm
LPS = nibabel.orientations.axcodes2ornt("LPS")


def organ(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return Hounsfield units (Z, Y, X) and the labels of a bright box."""
    values = np.random.default_rng(seed).normal(-50, 20, SIZE)
    labels = np.zeros(SIZE, np.uint8)
    labels[1:4, 10:25, 8 + seed : 30] = 1
    return (values + 150 * labels).round().astype(np.int16), labels


def write_nifti(path: Path, values: NDArray[Any], *, axes: str = "LPS", shift: float = 0) -> Path:
    """Write a volume (Z, Y, X) whose stored axes run to some directions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = nibabel.Nifti1Image(values.T, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1]))
    to = nibabel.orientations.axcodes2ornt(axes)
    stored = stored.as_reoriented(nibabel.orientations.ornt_transform(LPS, to))
    stored.affine[0, 3] += shift
    nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj), stored.affine), path)
    return path


def write_dicom(folder: Path, values: NDArray[Any], **tags: Any) -> Path:
    """Write a series (Z, Y, X), in an order by name that is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for z, pixels in enumerate(values):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
        one.SeriesInstanceUID, one.PixelSpacing = series, [SPACING[1], SPACING[0]]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0, 0, SPACING[2] * z]
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = (pixels.astype(np.int32) + 1024).astype("<u2").tobytes()
        for name, value in tags.items():
            setattr(one, name, value)
        one.save_as(folder / f"{(7 * z) % len(values)}.dcm", enforce_file_format=True)
    return folder


Write = Callable[[Path, NDArray[Any]], Path]
WRITERS: dict[str, tuple[str, Write]] = {
    "nii": (".nii", write_nifti),
    "nii.gz": (".nii.gz", write_nifti),
    "RAS": (".nii.gz", lambda path, values: write_nifti(path, values, axes="RAS")),
    "coronal": (".nii", lambda path, values: write_nifti(path, values, axes="LIA")),
    "sagittal": (".nii", lambda path, values: write_nifti(path, values, axes="PSR")),
    "dicom": ("", write_dicom),
}


def write_cases(root: Path, kind: str = "nii.gz", *, cases: int = 4, **about: Any) -> Path:
    """Write a data set of volumes; the masks are stored as NIfTI expects, whatever the images."""
    ending, write = WRITERS[kind]
    for seed in range(cases):
        values, labels = organ(seed)
        image = write(root / "images" / f"p{seed}{ending}", values)
        mask = root / "masks" / f"p{seed}.nii.gz"
        write_nifti(mask, labels)
        codes = "".join(nibabel.aff2axcodes(volume_at(image).affine))
        write_nifti(mask, labels, axes=codes)
    about = {"classes": ["other", "organ"], **about}
    (root / "dataset.yaml").write_text(yaml.safe_dump(about))
    return root


@pytest.mark.parametrize("kind", WRITERS)
def test_slices_are_the_same_however_they_are_stored(kind: str, tmp_path: Path) -> None:
    ending, write = WRITERS[kind]
    values, _ = organ(1)
    path = write(tmp_path / f"case{ending}", values)
    # x to the left, y to the back, z to the head; rows of y and x begin at the head
    along = {"z": values, "y": values[::-1].transpose(1, 0, 2), "x": values[::-1].T.swapaxes(1, 2)}
    for axis, expected in along.items():
        slices = slices_of(path, "case", axis)
        assert [*slices] == [f"case_{axis}{n:03d}" for n in range(len(expected))]
        for slice_path, pixels in zip(slices.values(), expected, strict=True):
            np.testing.assert_array_equal(BandImage(slice_path, Bands((1,)))[:, :][0], pixels)


def test_neighbours_are_bands_of_each_channel(tmp_path: Path) -> None:
    (ct, _), (pet, _) = organ(0), organ(1)
    first = write_nifti(tmp_path / "a_0000.nii", ct)
    write_nifti(tmp_path / "a_0001.nii", pet)
    write_nifti(tmp_path / "ab_0000.nii", pet)
    bands = Bands((), ((0, 100), (0, 200)), neighbours=1)
    path = slices_of(first, "a", "z")["a_z000"]
    found = bands.of(path)
    assert found == Bands((1, 2, 3, 4, 5, 6), ((0, 100),) * 3 + ((0, 200),) * 3, 1, "z")
    window = BandImage(path, found)[:, 3:9, 5:30]
    expected = np.stack([*ct[[0, 0, 1]] / 100, *pet[[0, 0, 1]] / 200])[:, 3:9, 5:30]
    np.testing.assert_allclose(window, expected, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"band_ranges has 4 ranges of 6 bands"):
        Bands((), ((0, 1),) * 4, neighbours=1).of(path)


@pytest.mark.parametrize("kind", ["nii", "dicom", *slow("sagittal")])
def test_from_volumes_to_volumes(kind: str, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    axis, cases = ("z", 4) if kind == "nii" else ("y", 2)  # of five slices, and of forty
    data = write_cases(tmp_path / "data", kind, cases=cases, axis=axis)
    assert check_dataset(data).errors == ()
    settings = [*tiny, "data.band_ranges=[[-160,240]]", "optim.validations=1"]
    run = softiou.train(
        str(data), steps=2, overrides=settings, out=tmp_path / "run", progress=False
    )
    assert run.config.data.bands == [1, 2, 3]
    assert run.config.data.band_ranges == [(-160, 240)] * 3
    assert run.config.data.augmentation == "medical"
    scores = run.evaluate(split="train", progress=False)
    saved = run.predict(data / "images", progress=False).save(tmp_path / "maps")
    assert saved.failed == ()
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        f"p{n}.nii.gz" for n in range(cases)
    ]
    hit, either = 0, 0
    for n in range(cases):
        mask = nibabel.load(data / "masks" / f"p{n}.nii.gz")
        maps = nibabel.load(tmp_path / "maps" / f"p{n}.nii.gz")
        image = volume_at(next((data / "images").glob(f"p{n}*")))
        assert maps.shape == image.shape
        np.testing.assert_allclose(maps.affine, image.affine, atol=1e-5)
        organs = np.asarray(mask.dataobj) == 1, np.asarray(maps.dataobj) == 1
        hit, either = hit + (organs[0] & organs[1]).sum(), either + (organs[0] | organs[1]).sum()
    assert scores.content["per_class"][1]["iou"] == pytest.approx(100 * hit / either, abs=0.01)


def test_splits_do_not_part_a_volume(tmp_path: Path) -> None:
    data = write_cases(tmp_path, cases=6)
    for stems in (open_source(data).held_out(), *divide_images(data, {"val": 0.3}).values()):
        volumes = {stem[:2] for stem in stems}
        assert sorted(stems) == sorted(f"{case}_z{z:03d}" for case in volumes for z in range(5))
    assert len({stem[:2] for stem in open_source(data).held_out()}) == 1


def test_a_training_leaves_volumes_out_of_which_a_slice_is_validated(
    tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    data = write_cases(tmp_path / "data")
    (data / "splits").mkdir()
    (data / "splits" / "val.txt").write_text("p1_z002\n")
    settings = [*tiny, "optim.validations=1", "data.neighbours=0"]
    run = softiou.train(
        str(data), steps=2, overrides=settings, out=tmp_path / "run", progress=False
    )
    assert run.config.data.bands == [1]
    opened = open_labelled(run.config, CustomParts())
    assert {stem[:2] for stem in opened.training.stems} == {"p0", "p2", "p3"}
    assert opened.validation.stems == ("p1_z002",)


def test_the_folders_of_nnunet(tmp_path: Path) -> None:
    for seed in range(2):
        values, labels = organ(seed)
        write_nifti(tmp_path / "imagesTr" / f"p{seed}_0000.nii.gz", values)
        write_nifti(tmp_path / "imagesTr" / f"p{seed}_0001.nii.gz", values[::-1])
        write_nifti(tmp_path / "labelsTr" / f"p{seed}.nii.gz", labels.astype(np.float64))
    dataset = FolderDataset(tmp_path, "train", bands=Bands((1, 2), ((0, 1), (0, 1))))
    assert dataset.stems == tuple(f"p{n}_z{z:03d}" for n in range(2) for z in range(5))
    values, labels = organ(1)
    sample = dataset[7]
    np.testing.assert_array_equal(sample["image"], np.stack([values[2], values[::-1][2]]))
    np.testing.assert_array_equal(sample["target"], labels[2])


def four_dimensional(root: Path) -> None:
    values = np.zeros((4, 4, 4, 2), np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), root / "images" / "p1.nii.gz")


def truncated(root: Path) -> None:
    path = root / "images" / "p1.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])


def no_gzip(root: Path) -> None:
    (root / "images" / "p1.nii.gz").write_bytes(b"no volume at all" * 30)


def larger_than_its_bytes(root: Path) -> None:
    path = root / "images" / "p1.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([30_000, 30_000, 30_000], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def of_other_size(root: Path) -> None:
    write_nifti(root / "masks" / "p1.nii.gz", organ(1)[1][:, :30])


def elsewhere(root: Path) -> None:
    write_nifti(root / "masks" / "p1.nii.gz", organ(1)[1], shift=5)


def of_fractions(root: Path) -> None:
    write_nifti(root / "masks" / "p1.nii.gz", organ(1)[1] / 2)


def without_mask(root: Path) -> None:
    (root / "masks" / "p1.nii.gz").unlink()


def of_unequal_channels(root: Path) -> None:
    (root / "images" / "p1.nii.gz").rename(root / "images" / "p1_0000.nii.gz")
    write_nifti(root / "images" / "p1_0001.nii.gz", organ(1)[0][:4])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (four_dimensional, r"p1.nii.gz: Expected numbers in three dimensions.*\(4, 4, 4, 2\)"),
        (truncated, r"p1.nii.gz: Cannot read the volume"),
        (no_gzip, r"p1.nii.gz: Cannot read the volume"),
        (larger_than_its_bytes, r"p1.nii.gz: Cannot read the volume.*bytes of voxels instead"),
        (of_other_size, r"masks/p1.nii.gz: Expected the voxels of p1.nii.gz, \(48, 40, 5\)"),
        (elsewhere, r"masks/p1.nii.gz: Expected the voxels of p1.nii.gz.*0.0, 0.0, 5.0"),
        (
            of_fractions,
            r"masks/p1.nii.gz: Expected integers from 0 to 65535, but found values from 0 to 0.5",
        ),
        (without_mask, r"Images without a mask here: 5 \(p1_z000"),
        (of_unequal_channels, r"p1_0001.nii.gz: Expected the voxels of p1_0000.nii.gz"),
    ],
)
def test_what_is_wrong_is_said(damage: Callable[[Path], None], match: str, tmp_path: Path) -> None:
    data = write_cases(tmp_path)
    damage(data)
    found = "\n".join(map(str, check_dataset(data).errors))
    assert re.search(match, found), found


@pytest.mark.parametrize(
    ("tags", "gone", "match"),
    [
        ({}, 2, r"p1: Expected slices 3 mm apart, but 2.dcm and 1.dcm are 6 mm apart"),
        (
            {"SeriesInstanceUID": "1.2.3"},
            None,
            r"p1: Expected one series and grid, but those of 0.dcm and 1.dcm",
        ),
        (
            {"ImagePositionPatient": [0, 0, 3]},
            None,
            r"p1: Expected slices 3 mm apart, but .* are 0 mm apart",
        ),
        ({"NumberOfFrames": 2}, None, r"0.dcm: Cannot read the volume.*more than one frame"),
        ({"Rows": 39}, None, r"Expected one series and grid"),
    ],
)
def test_incomplete_and_mixed_series(
    tags: dict[str, Any], gone: int | None, match: str, tmp_path: Path
) -> None:
    values, _ = organ(0)
    folder = write_dicom(tmp_path / "p1", values)
    if gone is not None:
        (folder / f"{(7 * gone) % 5}.dcm").unlink()
    if tags:
        file = pydicom.dcmread(folder / "0.dcm")
        for name, value in tags.items():
            setattr(file, name, value)
        file.save_as(folder / "0.dcm")
    with pytest.raises(DataError, match=match):
        slices_of(folder, "p1", "z")


def test_volumes_are_not_copied(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    with pytest.raises(DataError, match="Volumes cannot"):
        fix_dataset(data, tmp_path / "copy", report=check_dataset(data))
