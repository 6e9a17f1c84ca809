"""Read volumes (NIfTI files and DICOM series) as images, one for each slice along an axis.

A slice has a virtual path: VOLUME/CASE_z012.slice is slice 12, counted from the feet. Independently
of the stored orientation, columns run to the patient's left (x: to the back), and rows to the back
(x and y: to the feet). Nothing is resampled.

Shapes: M channels, n slices, H and W in pixels; voxels are stored as (i, j, k).
"""

import glob
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from softiou.data.problems import REPLACE, DataProblemsError, Problem, data_error
from softiou.errors import ConfigError

SLICE, NIFTI = ".slice", (".nii", ".nii.gz")
# Directions of slices, rows and columns for an axis: superior, posterior, left, inferior.
_TOWARDS = {"z": "SPL", "y": "PIL", "x": "LIP"}
_LARGEST_PX = 1 << 26
_RATIO = 1032  # largest compression ratio of deflate
_GAP = 0.5  # largest relative difference of a slice distance from the median
_DEFLATED = "1.2.840.10008.1.2.1.99"  # deflated DICOM, which has to be decompressed as a whole


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume whose slices are read on demand."""

    path: Path  # its file, or the folder of a series
    affine: NDArray[np.float64]  # from voxels to millimetres: right, front, head (4, 4)
    shape: tuple[int, ...]  # (i, j, k)
    stored: Callable[[tuple[slice, ...]], NDArray[Any]]  # returns the voxels (M, i, j, k) of a box

    def size(self, axis: str) -> tuple[int, ...]:
        """Return (n, H, W), the number and size of the slices along an axis."""
        return tuple(self.shape[k] for k in self.turn(axis)[:, 0].argsort())

    def save(self, labels: NDArray[Any], axis: str, path: Path) -> None:
        """Write labels (n, H, W) of its slices as a NIfTI file with the same voxel grid."""
        import nibabel

        turned = nibabel.apply_orientation(labels, self.turn(axis, back=True))
        nibabel.save(nibabel.Nifti1Image(turned, self.affine), path)

    def difference(self, other: "Volume") -> Problem | None:
        """Report a problem if its corners differ from another volume's by a tenth of a voxel."""
        apart = np.abs((self.affine - other.affine) @ np.array([[0, 0, 0, 1], [*other.shape, 1]]).T)
        spacing = np.linalg.norm(other.affine[:3, :3], axis=0).min()
        if self.shape == other.shape and 10 * apart.max() <= spacing:
            return None
        wanted, found = (f"{v.shape} with the affine {v.affine.tolist()}" for v in (other, self))
        message = f"Expected the voxels of {other.path.name}, {wanted}, but found {found}."
        return Problem(str(self.path), message, "Resample one of them.", kind="size_mismatch")

    def turn(self, axis: str, *, back: bool = False) -> NDArray[np.float64]:
        """Return nibabel's transform (3, 2) from stored axes to slices, or its inverse."""
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        ends = io_orientation(self.affine), axcodes2ornt(_TOWARDS[axis])
        return cast(NDArray[np.float64], ornt_transform(*(reversed(ends) if back else ends)))


def slice_values(path: Path, neighbours: int = 0) -> NDArray[Any]:
    """Read a slice and its neighbours (H, W, bands), channel by channel."""
    volume, (_, axis, number) = volume_at(path.parent), parts_of(path)
    turn, count = volume.turn(axis), volume.size(axis)[0]
    around = np.arange(number - neighbours, number + neighbours + 1).clip(0, count - 1)
    first, stop = int(around[0]), int(around[-1]) + 1
    along, box = int(turn[:, 0].argmin()), [slice(None)] * 3
    box[along] = slice(first, stop) if turn[along, 1] > 0 else slice(count - stop, count - first)
    with _reading(path.parent):
        from nibabel import apply_orientation

        slices = [apply_orientation(one, turn) for one in volume.stored(tuple(box))]  # (n, H, W)
    return np.stack([one[k - first] for one in slices for k in around], axis=-1)


def slice_labels(path: Path) -> NDArray[np.integer]:
    """Read a slice of a mask as integers (H, W) of 8 or 16 bits."""
    values = slice_values(path)[..., 0]
    low, high = values.min(), values.max()
    if not (low >= 0 and high < 1 << 16 and (values == np.rint(values)).all()):
        message = f"Expected integers from 0 to 65535, but found values from {low:g} to {high:g}."
        raise data_error(path.parent, message, "Save class indices.", kind="mask_values")
    return values.astype(np.uint8 if high < 1 << 8 else np.uint16)


def volumes_in(place: Path, *, series: bool = True) -> dict[str, Path]:
    """Return the volumes in a folder by case: NIfTI files, otherwise folders of DICOM series."""
    inner = [place / name for name in sorted(os.listdir(place))] if place.is_dir() else [place]
    inner = [path for path in inner if not path.name.startswith(".")]
    found = {case: path for path in inner if (case := case_of(path, path.name))}
    if found or not series:
        return found
    return {path.resolve().name: path for path in (place, *inner) if _series_files(path)}


def case_of(path: Path, stem: str) -> str | None:
    """Return the case name of a NIfTI file; None for other files and additional channels."""
    if not path.name.endswith(NIFTI):
        return None
    stem = re.sub(r"\.nii(\.gz)?$", "", stem)
    if not re.fullmatch(r".+_\d{4}", stem):
        return stem
    first = path.with_name(path.name.replace(stem[-5:], "_0000"))
    return stem[:-5] if first == path else None if first.exists() else stem


def slices_of(path: Path, case: str, axis: str) -> dict[str, Path]:
    """Return the slice paths of a volume along an axis, by stem: CASE_z000 and so on."""
    with _reading(path):
        stems = [f"{case}_{axis}{number:03d}" for number in range(volume_at(path).size(axis)[0])]
    return {stem: path / f"{stem}{SLICE}" for stem in stems}


def parts_of(path: Path) -> tuple[str, str, int]:
    """Return the case, the axis and the number of a slice."""
    case, _, place = path.stem.rpartition("_")
    return case, place[0], int(place[1:])


def stored_file(path: Path) -> Path:
    """Return the file on disk: the volume of a slice, or the path itself."""
    return path.parent if str(path).endswith(SLICE) else path


def volume_at(path: Path) -> Volume:
    """Open a volume, cached until it changes; raise DataError if it is damaged."""
    with _reading(path):
        return _opened(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)  # includes the indices of compressed files, 1 % of their uncompressed size
def _opened(path: Path, _changed: int) -> Volume:
    return _series(path) if path.is_dir() else _nifti(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Return a context that turns errors of the libraries into a DataError with the file."""
    try:
        yield
    except DataProblemsError:
        raise
    except ImportError as error:
        raise ConfigError(f"{path}: pip install nibabel pydicom indexed_gzip ({error}).") from error
    except Exception as error:  # the libraries raise many types of errors
        message = f"Cannot read the volume: {type(error).__name__}: {error}."
        raise data_error(path, message, REPLACE, kind="unreadable") from error


def _nifti(path: Path) -> Volume:
    """Open a NIfTI file and those of its additional channels."""
    form = glob.escape(path.name).replace("_0000.", "_[0-9][0-9][0-9][0-9].")
    first, *more = volumes = [_channel(file) for file in sorted(path.parent.glob(form))]
    if problem := next(filter(None, (one.difference(first) for one in more)), None):
        raise DataProblemsError(problem)
    return replace(first, stored=lambda box: np.concatenate([one.stored(box) for one in volumes]))


def _channel(path: Path) -> Volume:
    """Open a NIfTI file; raise unless its size matches its header."""
    import nibabel

    image = nibabel.load(path)
    kind, shape = image.get_data_dtype(), tuple(map(int, image.shape))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or 0 in shape or kind.kind not in "iuf":
        message = f"Expected numbers in three dimensions, but found {kind} of shape {shape}."
        remedy = "Save channels as CASE_0000.nii.gz, CASE_0001.nii.gz, and time points as cases."
        raise data_error(path, message, remedy, kind="image_mode")
    voxels = int(np.prod(shape, dtype=object))
    most = path.stat().st_size * (_RATIO if path.suffix == ".gz" else 1)
    if voxels * kind.itemsize > most:
        raise ValueError(f"at most {most} bytes of voxels instead of {voxels * kind.itemsize}")
    if voxels // min(shape) > _LARGEST_PX:
        raise ValueError(f"the shape {shape} has more than 2^26 pixels per slice")
    rest = (0,) * (image.ndim - 3)
    return Volume(path, image.affine, shape, lambda box: image.dataobj[(*box, *rest)][np.newaxis])


def _series_files(folder: Path) -> list[Path]:
    """Return the files of a DICOM series; empty if the first file name is no DICOM name."""
    names = [name for name in os.listdir(folder) if name[0] != "."] if folder.is_dir() else []
    found = re.search(r"^[^.]*$|\.(dcm|ima|\d+)$", min(names, default="."), re.IGNORECASE)
    files = [folder / name for name in sorted(names) if found and name != "DICOMDIR"]
    return [file for file in files if file.is_file()]


def _series(folder: Path) -> Volume:
    """Open a DICOM series with slices sorted by position; raise if it is incomplete."""
    slices = {file: _grid_and_place(file) for file in _series_files(folder)}
    first, *_ = slices
    grid = slices[first][0]
    if mixed := [file.name for file, (other, _) in slices.items() if other != grid]:
        message = f"Expected one series and grid, but those of {first.name} and {mixed[0]} differ."
        raise data_error(folder, message, "Put each series into a separate folder.")
    _, height, width, down, right, *sides = grid
    x, y = np.reshape(sides, (2, 3))
    files = sorted(slices, key=lambda file: float(slices[file][1] @ np.cross(x, y)))
    places = np.stack([slices[file][1] for file in files])
    step = (places[-1] - places[0]) / (len(files) - 1) if len(files) > 1 else np.cross(x, y)
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    usual = float(np.median([*gaps] or [0]))
    for n in np.flatnonzero(np.abs(gaps - usual) > _GAP * usual):
        message = f"Expected slices {usual:g} mm apart, but {files[n].name} and "
        message += f"{files[n + 1].name} are {gaps[n]:g} mm apart."
        raise data_error(folder, message, "Copy exactly one complete series into the folder.")
    affine = np.eye(4)
    affine[:3] = np.stack([x * right, y * down, step, places[0]], axis=1)
    affine[:2] *= -1  # DICOM's x and y axes point left and back
    shape = (width, height, len(files))
    return Volume(folder, affine, shape, lambda box: _planes(files[box[2]])[:, box[0], box[1]])


def _grid_and_place(path: Path) -> tuple[list[Any], NDArray[np.float64]]:
    """Return the grid, which all slices of a series share, and the position of a slice in mm."""
    import pydicom

    with _reading(path):
        if pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID == _DEFLATED:
            raise ValueError("the whole file is deflated: save it uncompressed")
        one = pydicom.dcmread(path, stop_before_pixels=True)
        several = one.get("SamplesPerPixel", 1) != 1 or (one.get("NumberOfFrames") or 1) != 1
        if several or one.Rows * one.Columns > _LARGEST_PX:
            raise ValueError("more than one frame, band or 2^26 pixels: convert it to NIfTI")
        sides = np.round([*one.PixelSpacing, *one.ImageOrientationPatient], 4).tolist()
        place = np.array(one.ImagePositionPatient, float)
        return [str(one.SeriesInstanceUID), int(one.Rows), int(one.Columns), *sides], place


def _planes(files: list[Path]) -> NDArray[Any]:
    """Read slices (1, i, j, k) of a series, in Hounsfield units for CT."""
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    slices = [apply_modality_lut((one := dcmread(file)).pixel_array, one) for file in files]
    return np.stack(slices).T[np.newaxis]
