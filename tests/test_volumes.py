"""The page on volumes: its code, on volumes that nibabel and pydicom wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import softiou
from documentation import blocks

nibabel: Any = pytest.importorskip("nibabel")  # which has few types

SIZE = (5, 40, 48)  # Z, Y, X
AFFINE = np.diag([-0.7, 0.7, 3.0, 1.0])  # x runs to the right of the patient: not canonical

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def organ(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return Hounsfield units (Z, Y, X) and the labels of a bright box."""
    values = np.random.default_rng(seed).normal(-50, 20, SIZE).astype(np.float32)
    labels = np.zeros(SIZE, np.uint8)
    labels[1:4, 10:25, 8 + seed : 30] = 1
    values[labels == 1] += 150
    return values, labels


def write_nifti(path: Path, values: NDArray[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.T[::-1], AFFINE), path)


def write_dicom(folder: Path, values: NDArray[Any]) -> None:
    folder.mkdir()
    for z, pixels in enumerate(values):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleSlope, one.RescaleIntercept = 2, -1024
        one.ImagePositionPatient = [0, 0, 3 * z]
        one.PixelData = ((pixels.round() + 1024) // 2).astype("<u2").tobytes()
        # In an order by name that is not that of the slices.
        one.save_as(folder / f"{(7 * z) % 5}.dcm", enforce_file_format=True)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], str]:
    """Volumes of two patients, what the first block defines, and the second block."""
    monkeypatch.chdir(tmp_path)
    for seed, patient in enumerate(("p01", "p02")):
        values, labels = organ(seed)
        write_nifti(tmp_path / "imagesTr" / f"{patient}.nii.gz", values)
        write_nifti(tmp_path / "labelsTr" / f"{patient}.nii.gz", labels)
    first, second = blocks("how-to/volumes.md", "python")
    names: dict[str, Any] = {}
    exec(compile(first, "volumes.md", "exec"), names)
    return names, second


def test_slices_have_their_neighbours(page: tuple[dict[str, Any], str]) -> None:
    values, labels = organ(1)
    for z, around in ((0, (0, 0, 1)), (2, (1, 2, 3)), (4, (3, 4, 4))):
        with rasterio.open(f"ct/train/images/p02_{z:04d}.tif") as file:
            np.testing.assert_array_equal(file.read(), values[list(around)])
        np.testing.assert_array_equal(Image.open(f"ct/train/masks/p02_{z:04d}.png"), labels[z])


def test_dicom_is_sorted_and_in_hounsfield_units(page: tuple[dict[str, Any], str]) -> None:
    values, _ = organ(0)
    write_dicom(Path("series"), values)
    np.testing.assert_allclose(page[0]["read_dicom"]("series"), values, atol=2)


def test_from_volumes_to_volumes(page: tuple[dict[str, Any], str], tiny: tuple[str, ...]) -> None:
    names, second = page
    settings = [*tiny, "data.bands=[1,2,3]", "data.band_ranges=[[-160,240],[-160,240],[-160,240]]"]
    settings += ["data.augmentation=medical", "optim.validations=1"]
    Path("ct/splits").mkdir()
    Path("ct/splits/val.txt").write_text("".join(f"p02_{z:04d}\n" for z in range(5)))
    run = softiou.train("ct", steps=2, overrides=settings, out="run", progress=False)
    run.predict("ct/train/images").save("maps")
    exec(compile(second, "volumes.md", "exec"), names)
    written, given = nibabel.load("p01.nii.gz"), nibabel.load("imagesTr/p01.nii.gz")
    assert written.shape == SIZE[::-1]
    grid = nibabel.as_closest_canonical(given)
    np.testing.assert_allclose(written.affine, grid.affine, atol=1e-4)
    middle = np.asarray(Image.open("maps/p01_0002.png"))
    np.testing.assert_array_equal(written.get_fdata()[:, :, 2].T, middle)
