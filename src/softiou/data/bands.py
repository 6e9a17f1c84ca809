"""Bands of image files: which of them a model sees, and the range of each that becomes 0 to 1.

TIFFs are read by rasterio, which decodes no more than the window that is asked for; other files by
Pillow, as a whole. Missing values (NaN, infinity, the nodata value of a file) become NaN.

Shapes: B bands, H and W in pixels.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softiou.data.crops import spread
from softiou.data.problems import REPLACE, data_error
from softiou.errors import ConfigError

TIFF_SUFFIXES = (".tif", ".tiff")
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

    Example:
        >>> stored = torch.tensor([[[25.0]], [[100.0]]])
        >>> Bands((4, 1), ((0, 100), (50, 250))).scaled(stored).tolist()
        [[[0.25]], [[0.25]]]
    """

    numbers: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Bands | None":
        """Undo `dataclasses.asdict`; KeyError, TypeError or ValueError for other values."""
        if values is None:
            return None
        bands = cls(
            tuple(int(number) for number in values["numbers"]),
            tuple((float(low), float(high)) for low, high in values["ranges"]),
        )
        if not len(bands.numbers) == len(bands.ranges) > 0:
            raise ValueError(f"{len(bands.ranges)} ranges of {len(bands.numbers)} bands")
        return bands

    def scaled(self, stored: Tensor) -> Tensor:
        """Map stored values (..., B, H, W) to floats, 0 to 1 within the ranges."""
        low, high = self._limits(stored)
        return (stored - low) / (high - low)

    def stored(self, scaled: Tensor) -> Tensor:
        """Undo `scaled`."""
        low, high = self._limits(scaled)
        return scaled * (high - low) + low

    def _limits(self, values: Tensor) -> tuple[Tensor, Tensor]:
        limits = torch.tensor(self.ranges, dtype=torch.float32, device=values.device)
        return limits[:, 0].view(-1, 1, 1), limits[:, 1].view(-1, 1, 1)


class BandImage:
    """An image file whose windows image[:, rows, columns] are read on demand, float32 (B, h, w)."""

    def __init__(self, path: Path, bands: Bands) -> None:
        self.path, self.bands = path, bands
        self._pixels: NDArray[Any] | None = None
        if path.suffix.lower() in TIFF_SUFFIXES:
            with opened_tiff(path) as pages:
                count = len(pages) if len(pages) > 1 else pages[0].count
                height, width = pages[0].height, pages[0].width
                found = {name for page in pages for name in page.dtypes} - {*_READABLE}
                sizes = sorted({page.shape for page in pages})
            if found or len(sizes) > 1:
                message = f"Expected bands of one size and of {', '.join(_READABLE)}, but found "
                message += ", ".join(map(str, [*sorted(found), *sizes]))
                raise data_error(path, f"{message}.", "Save them so.", kind="image_mode")
        else:
            from softiou.data.reading import stored_pixels

            self._pixels = stored_pixels(path)
            height, width, count = self._pixels.shape
        if max(bands.numbers) > count:
            message = f"Expected a band {max(bands.numbers)}, but found {count}, counted from 1."
            remedy = "Name bands that all images have: data.bands=[1, 2, ...]."
            raise data_error(path, message, remedy, kind="image_mode")
        self.shape = (len(bands.numbers), height, width)

    def __len__(self) -> int:
        return len(self.bands.numbers)

    def __getitem__(self, place: tuple[Any, ...]) -> Tensor:
        """Read a window: place is (..., rows, columns) or (:, rows), of slices with a step of 1."""
        rows, columns = (
            slice(*part.indices(length)[:2])
            for part, length in zip((*place[1:], slice(None)), self.shape[1:], strict=False)
        )
        if self._pixels is None:
            values = _window(self.path, self.bands.numbers, rows, columns)
        else:
            numbers = np.array(self.bands.numbers) - 1
            values = np.moveaxis(self._pixels[rows, columns][..., numbers], -1, 0)
        found = torch.from_numpy(values.astype(np.float32))
        found = found.masked_fill_(~found.isfinite(), torch.nan)
        return self.bands.scaled(found) if self.bands.ranges else found


@contextmanager
def opened_tiff(path: Path) -> Iterator[list[Any]]:
    """Open a TIFF with rasterio: its page, or all of several; errors name the file."""
    try:
        import rasterio
    except ImportError as error:
        raise ConfigError(
            f"Reading the bands of {path} needs rasterio. Install it with: pip install rasterio"
        ) from error
    pages: list[Any] = []
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB), _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            # No other of its formats: some name files elsewhere.
            pages.append(rasterio.open(path, driver="GTiff"))
            if several := pages[0].subdatasets:
                pages.pop().close()
                pages += [rasterio.open(name, driver="GTiff") for name in several]
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB):
            yield pages
    except rasterio.errors.RasterioError as error:
        message = f"Cannot decode the image: {error}"
        raise data_error(path, message, REPLACE, kind="unreadable") from error
    finally:
        for page in pages:
            page.close()


def _window(path: Path, numbers: Sequence[int], rows: slice, columns: slice) -> NDArray[Any]:
    """Read bands (B, h, w) of a window of a TIFF; missing values are NaN."""
    window = ((rows.start, rows.stop), (columns.start, columns.stop))
    with opened_tiff(path) as pages:
        if len(pages) == 1:
            values = pages[0].read(list(numbers), window=window)
            missing = [pages[0].nodatavals[number - 1] for number in numbers]
        else:
            values = np.stack([pages[number - 1].read(1, window=window) for number in numbers])
            missing = [pages[number - 1].nodatavals[0] for number in numbers]
    if any(value is not None for value in missing):
        values = values.astype(np.float32)
        for band, value in zip(values, missing, strict=True):
            if value is not None:
                band[band == np.float32(value)] = np.nan
    return cast(NDArray[Any], values)


def missing(image: Tensor) -> Tensor:
    """Return which pixels of an image (B, H, W) lack a band, bool (H, W)."""
    return image.isnan().any(0)


def measured(files: Sequence[Path], numbers: tuple[int, ...]) -> Bands:
    """Return bands whose ranges are two standard deviations around the mean, without outliers.

    Up to 64 files are looked at, spread evenly, and of each at most 4 squares of 256 pixels.
    """
    looked_at = spread(len(files), most=_FILES)
    values = np.concatenate([_sampled(BandImage(files[n], Bands(numbers))) for n in looked_at], 1)
    ranges = []
    for number, band in zip(numbers, values, strict=True):
        known = band[np.isfinite(band)].astype(np.float64)
        if not len(known):
            message = f"Expected values in band {number}, but all are missing."
            raise data_error(files[0].parent, message, "Leave it out of data.bands.")
        known = known.clip(*np.percentile(known, _OUTLIERS))
        spread_of = _DEVIATIONS * (known.std() or 0.5)
        ranges.append([float(f"{known.mean() + side * spread_of:.6g}") for side in (-1, 1)])
    return Bands(numbers, tuple((low, high) for low, high in ranges))


def _sampled(image: BandImage) -> NDArray[np.float32]:
    """Return values (B, P) of an image, from squares in its quarters."""
    _, height, width = image.shape
    squares = [
        image[:, slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX)][:, ::_STEP, ::_STEP]
        for top in {max(0, height * part // 4 - _SIDE_PX // 2) for part in (1, 3)}
        for left in {max(0, width * part // 4 - _SIDE_PX // 2) for part in (1, 3)}
    ]
    return np.concatenate([square.flatten(1).numpy() for square in squares], 1)
