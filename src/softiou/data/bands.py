"""Bands of image files: which of them a model sees, and the range of each that becomes 0 to 1.

TIFFs are read by rasterio, which decodes no more than the window that is asked for; other files by
Pillow, as a whole. Missing values (NaN, infinity, the nodata value of a file) become NaN.

Shapes: B bands, H and W in pixels.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softiou.data.crops import spread
from softiou.data.members import Member
from softiou.data.problems import REPLACE, data_error
from softiou.data.volumes import SLICE, parts_of, slice_values
from softiou.errors import ConfigError

Box: TypeAlias = tuple[slice, slice]  # rows and columns

TIFF_SUFFIXES = (".tif", ".tiff")
_DRIVERS = {**dict.fromkeys(TIFF_SUFFIXES, "GTiff"), ".jp2": "JP2OpenJPEG"}
_READABLE = ("uint8", "int8", "uint16", "int16", "float32")
_CACHE_MIB = 64  # of GDAL, for the whole process, instead of a twentieth of the memory
_FILES, _SIDE_PX, _STEP = 64, 256, 4  # what is looked at: so many files, squares of each, pixels
_OUTLIERS = (0.1, 99.9)  # percentiles; values beyond are taken for them
_DEVIATIONS = 2.0  # on each side of the mean become 0..1
_WARNINGS = Lock()  # Python has one list of filters for all threads


@dataclass(frozen=True)
class Bands:
    """The bands of image files that a model sees.

    Args:
        numbers: Of the bands, from 1 as in remote sensing, in the order of the model.
        ranges: The values of each band that become 0 and 1; empty for values as they are stored.
        neighbours, axis: Slices on each side that are bands, too; "x", "y" or "z" for volumes.

    Example:
        >>> stored = torch.tensor([[[25.0]], [[100.0]]])
        >>> Bands((4, 1), ((0, 100), (50, 250))).scaled(stored).tolist()
        [[[0.25]], [[0.25]]]
    """

    numbers: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...] = ()
    neighbours: int = 0
    axis: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Bands | None":
        """Undo `dataclasses.asdict`; KeyError, TypeError or ValueError for other values."""
        if values is None:
            return None
        bands = cls(
            tuple(int(number) for number in values["numbers"]),
            tuple((float(low), float(high)) for low, high in values["ranges"]),
            int(values.get("neighbours", 0)),
            str(values.get("axis", "")),
        )
        if not len(bands.numbers) == len(bands.ranges) > 0:
            raise ValueError(f"{len(bands.ranges)} ranges of {len(bands.numbers)} bands")
        if bands.axis not in ("", "x", "y", "z") or not 0 <= bands.neighbours <= 50:
            raise ValueError(f"axis {bands.axis!r} with {bands.neighbours} neighbours")
        return bands

    def of(self, image: Path) -> "Bands | None":
        """Return the bands of such images, of slices all unless some are chosen; None for RGB."""
        numbers, around, axis = self.numbers, 1, ""
        if image.suffix == SLICE:
            axis, around = parts_of(image)[1], 2 * self.neighbours + 1
            if self.axis not in ("", axis):
                raise ConfigError(f"Expected slices along {self.axis}: say so in dataset.yaml.")
            all_bands = slice_values(image, self.neighbours).shape[-1]
            numbers = numbers or tuple(range(1, all_bands + 1))
        ranges = self.ranges * len(numbers) if len(self.ranges) == 1 else self.ranges
        if len(ranges) * around == len(numbers):
            ranges = tuple(one for one in ranges for _ in range(around))
        if self.ranges and (len(ranges) != len(numbers) or not numbers):
            found = f"{len(self.ranges)} ranges of {len(numbers)} bands"
            raise ConfigError(f"data.band_ranges has {found}: give one for all, or for each.")
        return Bands(numbers, ranges, around // 2, axis) if numbers else None

    def scaled(self, stored: Tensor) -> Tensor:
        """Map stored values (..., B, H, W) to floats, 0 to 1 within the ranges."""
        low, high = self._limits(stored)
        return (stored - low).div_(high - low)  # without a second copy

    def stored(self, scaled: Tensor) -> Tensor:
        """Undo `scaled`."""
        low, high = self._limits(scaled)
        return scaled * (high - low) + low

    def _limits(self, values: Tensor) -> tuple[Tensor, Tensor]:
        limits = torch.tensor(self.ranges, dtype=torch.float32, device=values.device)
        return limits[:, 0].view(-1, 1, 1), limits[:, 1].view(-1, 1, 1)


class Tiff:
    """A TIFF, JPEG 2000 or PNG whose windows rasterio reads; the last reference closes its file.

    `pages` are what rasterio opens: one, or all of several, which are bands then. `size` is (H, W),
    `nodata` the value of each band that stands for none, or None.
    """

    def __init__(self, path: Path, driver: str = "GTiff") -> None:
        try:
            import rasterio
        except ImportError as error:
            raise ConfigError(
                f"Reading the bands of {path} needs rasterio. Install it with: pip install rasterio"
            ) from error
        self.path = path
        with self._decoding(), _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            # No other of its formats: some name files elsewhere.
            file = path.open("rb") if isinstance(path, Member) else path
            whole = rasterio.open(file, driver=driver)
            several = whole.subdatasets
            block = max(height * width for height, width in whole.block_shapes)
            if len(several) > 1000 or max(whole.shape) > 1 << 18 or block > 1 << 28:
                message = "Expected at most 1000 pages, 2^18 pixels a side and 2^28 a tile, but "
                message += f"found {len(several) or 1} of {whole.shape} in parts of {block}."
                raise data_error(path, message, "Cut it, or write tiles.", kind="image_size")
            self.pages: list[Any] = [rasterio.open(name, driver="GTiff") for name in several]
        first, *more = self.pages = self.pages or [whole]
        self.size = (first.height, first.width)
        self.nodata = [page.nodatavals[0] for page in self.pages] if more else first.nodatavals

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> NDArray[Any]:
        """Read bands (B, h, w) of a window, as they are stored."""
        sides = zip((rows, columns), self.size, strict=True)
        window = tuple(side.indices(length)[:2] for side, length in sides)
        with self._decoding():
            if len(self.pages) == 1:
                return cast(NDArray[Any], self.pages[0].read(list(numbers), window=window))
            return np.stack([self.pages[number - 1].read(1, window=window) for number in numbers])

    @property
    def holds_numbers(self) -> bool:
        """Say whether there is one band, of the numbers that Pillow reads, too."""
        page, form = self.pages[0], "IMAGE_STRUCTURE"
        unusual = {"NBITS", "MINISWHITE"} & {*page.tags(ns=form), *page.tags(1, ns=form)}
        return len(self.nodata) == 1 and not unusual and page.dtypes[0] in ("uint8", "uint16")

    @property
    def palette(self) -> list[int]:
        """Return red, green and blue of each number, none of a file without such colours."""
        page = self.pages[0]
        colours = page.colormap(1) if page.colorinterp[0].name == "palette" else {}
        return [channel for number in sorted(colours) for channel in colours[number][:3]]

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """While entered, errors of the decoder become one that names the file."""
        import rasterio

        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB):
                yield
        except rasterio.errors.RasterioError as error:
            message = f"Cannot decode the image: {error}"
            raise data_error(self.path, message, REPLACE, kind="unreadable") from error


class BandImage:
    """An image file whose windows image[..., rows, columns] are read on demand, float32 (B, h, w).

    The window that was read last is kept, for those who need it, or a part of it, again.
    """

    def __init__(self, path: Path, bands: Bands) -> None:
        self.path, self.bands = path, bands
        self._last = (0, -1, slice(0), torch.empty(0))  # top, bottom, columns, and the window
        self._file: Tiff | NDArray[Any]
        if driver := _DRIVERS.get(path.suffix.lower()):
            self._file = Tiff(path, driver)
            found = {name for page in self._file.pages for name in page.dtypes} - {*_READABLE}
            sizes = sorted({page.shape for page in self._file.pages})
            if found or len(sizes) > 1:
                message = f"Expected bands of one size and of {', '.join(_READABLE)}, but found "
                message += ", ".join(map(str, [*sorted(found), *sizes]))
                raise data_error(path, f"{message}.", "Save them so.", kind="image_mode")
            (height, width), count = self._file.size, len(self._file.nodata)
        elif path.suffix == SLICE:
            self._file = slice_values(path, bands.neighbours)
            height, width, count = self._file.shape
        else:
            from softiou.data.reading import stored_pixels

            self._file = stored_pixels(path)
            height, width, count = self._file.shape
        if max(bands.numbers) > count:
            message = f"Expected a band {max(bands.numbers)}, but found {count}, counted from 1."
            remedy = "Name bands that all images have: data.bands=[1, 2, ...]."
            raise data_error(path, message, remedy, kind="image_mode")
        self.shape = (len(bands.numbers), height, width)

    def __reduce__(self) -> Any:
        return BandImage, (self.path, self.bands)

    def __getitem__(self, place: tuple[Any, ...]) -> Tensor:
        """Read a window: place is (..., rows, columns) or (:, rows), of slices with a step of 1."""
        rows, columns = (
            slice(*part.indices(length)[:2])
            for part, length in zip((*place[1:], slice(None)), self.shape[1:], strict=False)
        )
        top, bottom, within, kept = self._last
        if not (top <= rows.start and rows.stop <= bottom and columns == within):
            top, kept = rows.start, self._read(rows, columns)
            self._last = (top, rows.stop, columns, kept)
        return kept[:, rows.start - top : rows.stop - top]

    def _read(self, rows: slice, columns: slice) -> Tensor:
        """Read a window, scaled; missing values are NaN."""
        numbers = self.bands.numbers
        if isinstance(self._file, Tiff):
            values = self._file.read(numbers, rows, columns)
            nodata = [self._file.nodata[number - 1] for number in numbers]
        else:
            values = np.moveaxis(self._file[rows, columns][..., np.array(numbers) - 1], -1, 0)
            nodata = [None] * len(values)
        found = torch.from_numpy(values.astype(np.float32))
        for band, value in zip(found, nodata, strict=True):
            if value is not None:
                band.masked_fill_(band == value, torch.nan)
        if values.dtype.kind == "f":
            found.masked_fill_(~found.isfinite(), torch.nan)
        return self.bands.scaled(found) if self.bands.ranges else found


def missing(image: Tensor) -> Tensor:
    """Return which pixels of an image (B, H, W) lack a band, bool (H, W)."""
    found: Tensor = reduce(torch.logical_or, image.isnan())  # half the time of any(0)
    return found


def measured(files: Sequence[Path], bands: Bands) -> Bands:
    """Return bands whose ranges are two standard deviations around the mean, without outliers.

    Up to 64 files are looked at, spread evenly, and of each at most 4 squares of 256 pixels.
    """
    looked_at = spread(len(files), most=_FILES)
    values = np.concatenate([_sampled(BandImage(files[n], bands)) for n in looked_at], 1)
    ranges = []
    for number, band in zip(bands.numbers, values, strict=True):
        known = band[np.isfinite(band)].astype(np.float64)
        if not len(known):
            message = f"Expected values in band {number}, but all are missing."
            raise data_error(files[0].parent, message, "Leave it out of data.bands.")
        known = known.clip(*np.percentile(known, _OUTLIERS))
        spread_of = _DEVIATIONS * (known.std() or 0.5)
        ranges.append([float(f"{known.mean() + side * spread_of:.6g}") for side in (-1, 1)])
    return replace(bands, ranges=tuple((low, high) for low, high in ranges))


def _sampled(image: BandImage) -> NDArray[np.float32]:
    """Return values (B, P) of an image, from squares in its quarters."""
    _, height, width = image.shape
    squares = [
        image[:, slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX)][:, ::_STEP, ::_STEP]
        for top in {max(0, height * part // 4 - _SIDE_PX // 2) for part in (1, 3)}
        for left in {max(0, width * part // 4 - _SIDE_PX // 2) for part in (1, 3)}
    ]
    return np.concatenate([square.flatten(1).numpy() for square in squares], 1)
