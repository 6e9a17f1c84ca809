"""Bands of image files: their selection, and the scaling of their values to [0, 1].

rasterio reads TIFF files, and decodes only the requested window; Pillow reads all other files as a
whole. Missing values (NaN, infinity, or the nodata value of the file) become NaN.

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
_CACHE_MIB = 64  # GDAL's cache for the process; its default is 5 % of the memory
_FILES, _SIDE_PX, _STEP = 64, 256, 4  # sampled files, side of the sampled squares, step in pixels
_OUTLIERS = (0.1, 99.9)  # percentiles; values outside are clipped to them
_DEVIATIONS = 2.0  # standard deviations around the mean that are scaled to 0..1
_WARNINGS = Lock()  # the warning filters are shared by all threads


@dataclass(frozen=True)
class Bands:
    """The bands of an image file that are the input of a model.

    Args:
        numbers: Band numbers, counted from 1 as in remote sensing, in the order of the input.
        ranges: Values of each band that are scaled to 0 and 1; empty for no scaling.
        neighbours, axis: For volumes: added slices on each side; "x", "y" or "z".

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
        """Invert `dataclasses.asdict`; raise KeyError, TypeError or ValueError if invalid."""
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
        """Return these bands for an image; for a slice, all bands by default; None for RGB."""
        numbers, around, axis = self.numbers, 1, ""
        if image.suffix == SLICE:
            axis, around = parts_of(image)[1], 2 * self.neighbours + 1
            if self.axis not in ("", axis):
                raise ConfigError(f"Expected slices along {self.axis}: set axis in dataset.yaml.")
            all_bands = slice_values(image, self.neighbours).shape[-1]
            numbers = numbers or tuple(range(1, all_bands + 1))
        ranges = self.ranges * len(numbers) if len(self.ranges) == 1 else self.ranges
        if len(ranges) * around == len(numbers):
            ranges = tuple(one for one in ranges for _ in range(around))
        if self.ranges and (len(ranges) != len(numbers) or not numbers):
            found = f"{len(self.ranges)} ranges of {len(numbers)} bands"
            raise ConfigError(f"data.band_ranges has {found}: give one for all bands, or one each.")
        return Bands(numbers, ranges, around // 2, axis) if numbers else None

    def scaled(self, stored: Tensor) -> Tensor:
        """Scale stored values (..., B, H, W) so that the ranges become [0, 1]."""
        low, high = self._limits(stored)
        return (stored - low).div_(high - low)  # without a second copy

    def stored(self, scaled: Tensor) -> Tensor:
        """Invert `scaled`."""
        low, high = self._limits(scaled)
        return scaled * (high - low) + low

    def _limits(self, values: Tensor) -> tuple[Tensor, Tensor]:
        limits = torch.tensor(self.ranges, dtype=torch.float32, device=values.device)
        return limits[:, 0].view(-1, 1, 1), limits[:, 1].view(-1, 1, 1)


class Tiff:
    """A TIFF, JPEG 2000 or PNG file that rasterio reads by windows.

    `pages` are the rasterio data sets: one, or several that are then the bands. `size` is (H, W).
    `nodata` has the missing value of each band, or None. The file is closed by garbage collection.
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
            # Only this driver: other formats of GDAL can refer to files elsewhere.
            file = path.open("rb") if isinstance(path, Member) else path
            whole = rasterio.open(file, driver=driver)
            several = whole.subdatasets
            block = max(height * width for height, width in whole.block_shapes)
            if len(several) > 1000 or max(whole.shape) > 1 << 18 or block > 1 << 28:
                message = "Expected at most 1000 pages, 2^18 px a side and 2^28 a tile, but "
                message += f"found {len(several) or 1} pages of {whole.shape} in tiles of {block}."
                raise data_error(path, message, "Cut it into smaller files.", kind="image_size")
            self.pages: list[Any] = [rasterio.open(name, driver="GTiff") for name in several]
        first, *more = self.pages = self.pages or [whole]
        self.size = (first.height, first.width)
        self.nodata = [page.nodatavals[0] for page in self.pages] if more else first.nodatavals

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> NDArray[Any]:
        """Return the stored values (B, h, w) of some bands in a window."""
        sides = zip((rows, columns), self.size, strict=True)
        window = tuple(side.indices(length)[:2] for side, length in sides)
        with self._decoding():
            if len(self.pages) == 1:
                return cast(NDArray[Any], self.pages[0].read(list(numbers), window=window))
            return np.stack([self.pages[number - 1].read(1, window=window) for number in numbers])

    @property
    def holds_numbers(self) -> bool:
        """Return whether the file has one band of integers, which Pillow reads equally."""
        page, form = self.pages[0], "IMAGE_STRUCTURE"
        unusual = {"NBITS", "MINISWHITE"} & {*page.tags(ns=form), *page.tags(1, ns=form)}
        return len(self.nodata) == 1 and not unusual and page.dtypes[0] in ("uint8", "uint16")

    @property
    def palette(self) -> list[int]:
        """Return the flat RGB palette of the file; empty if it has none."""
        page = self.pages[0]
        colours = page.colormap(1) if page.colorinterp[0].name == "palette" else {}
        return [channel for number in sorted(colours) for channel in colours[number][:3]]

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Return a context that turns errors of the decoder into a DataError with the file."""
        import rasterio

        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB):
                yield
        except rasterio.errors.RasterioError as error:
            message = f"Cannot decode the image: {error}"
            raise data_error(self.path, message, REPLACE, kind="unreadable") from error


class BandImage:
    """An image file whose windows image[..., rows, columns] are read on demand, float32 (B, h, w).

    The last window is cached, because image and target often read the same one.
    """

    def __init__(self, path: Path, bands: Bands) -> None:
        self.path, self.bands = path, bands
        self._last = (0, -1, slice(0), torch.empty(0))  # top, bottom, columns and pixels
        self._file: Tiff | NDArray[Any]
        if driver := _DRIVERS.get(path.suffix.lower()):
            self._file = Tiff(path, driver)
            found = {name for page in self._file.pages for name in page.dtypes} - {*_READABLE}
            sizes = sorted({page.shape for page in self._file.pages})
            if found or len(sizes) > 1:
                message = f"Expected bands of one size and of {', '.join(_READABLE)}, but found "
                message += ", ".join(map(str, [*sorted(found), *sizes]))
                raise data_error(path, f"{message}.", "Convert the bands.", kind="image_mode")
            (height, width), count = self._file.size, len(self._file.nodata)
        elif path.suffix == SLICE:
            self._file = slice_values(path, bands.neighbours)
            height, width, count = self._file.shape
        else:
            from softiou.data.reading import stored_pixels

            self._file = stored_pixels(path)
            height, width, count = self._file.shape
        if max(bands.numbers) > count:
            message = f"Expected a band {max(bands.numbers)}, but the file has bands 1 to {count}."
            remedy = "Choose bands that all images have: data.bands=[1, 2, ...]."
            raise data_error(path, message, remedy, kind="image_mode")
        self.shape = (len(bands.numbers), height, width)

    def __reduce__(self) -> Any:
        return BandImage, (self.path, self.bands)

    def __getitem__(self, place: tuple[Any, ...]) -> Tensor:
        """Read a window; `place` is (..., rows, columns) or (:, rows), slices of step 1."""
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
        """Read a window and scale it; missing values are NaN."""
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
    """Return the pixels (H, W) of an image (B, H, W) where a band is missing, as bool."""
    found: Tensor = reduce(torch.logical_or, image.isnan())  # twice as fast as any(0)
    return found


def measured(files: Sequence[Path], bands: Bands) -> Bands:
    """Return bands with ranges of two standard deviations around the mean, outliers clipped.

    At most 64 evenly spaced files are sampled, with at most 4 squares of 256 pixels each.
    """
    looked_at = spread(len(files), most=_FILES)
    values = np.concatenate([_sampled(BandImage(files[n], bands)) for n in looked_at], 1)
    ranges = []
    for number, band in zip(bands.numbers, values, strict=True):
        known = band[np.isfinite(band)].astype(np.float64)
        if not len(known):
            message = f"Expected values in band {number}, but all are missing."
            raise data_error(files[0].parent, message, "Remove it from data.bands.")
        known = known.clip(*np.percentile(known, _OUTLIERS))
        spread_of = _DEVIATIONS * (known.std() or 0.5)
        ranges.append([float(f"{known.mean() + side * spread_of:.6g}") for side in (-1, 1)])
    return replace(bands, ranges=tuple((low, high) for low, high in ranges))


def _sampled(image: BandImage) -> NDArray[np.float32]:
    """Return sampled values (B, P) of an image, from one square in each quarter."""
    _, height, width = image.shape
    squares = [
        image[:, slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX)][:, ::_STEP, ::_STEP]
        for top in {max(0, height * part // 4 - _SIDE_PX // 2) for part in (1, 3)}
        for left in {max(0, width * part // 4 - _SIDE_PX // 2) for part in (1, 3)}
    ]
    return np.concatenate([square.flatten(1).numpy() for square in squares], 1)
