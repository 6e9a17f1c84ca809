"""TIFFs with bands, and small data sets of them."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio.transform import from_origin

from small_data import write_png

NODATA = -9999.0
PLACE = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def band_values(bands: int, dtype: str, *, size: tuple[int, int] = (5, 7)) -> NDArray[Any]:
    """Return different values (B, H, W) in each pixel, as far as the type allows."""
    values = np.arange(bands * size[0] * size[1]).reshape(bands, *size)
    return (values % 251 if dtype == "uint8" else values * 7 % 30_000).astype(dtype)


def write_bands(path: Path, values: NDArray[Any], **about: Any) -> Path:
    """Write (B, H, W) as a TIFF, or by another driver, with a georeference if `about` has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    about = {"driver": "GTiff", **about}
    if about.get("tiled"):
        about |= {"blockxsize": 32, "blockysize": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **shape, **about) as file:
            file.write(values)
    return path


def write_dataset(root: Path, *, bands: int, dtype: str, images: int = 4) -> Path:
    """Write boxes whose last band is brighter, with a corner that has no value, as GeoTIFFs."""
    random = np.random.default_rng(0)
    nodata = {"uint8": 0, "uint16": 0}.get(dtype, np.nan)
    for split, count in (("train", images), ("val", 2)):
        for number in range(count):
            mask = np.zeros((72, 88), np.uint8)
            top, left = random.integers(0, 40, 2)
            mask[top : top + 30, left : left + 30] = 1
            values = random.normal(100, 5, (bands, 72, 88))
            values[-1] += 80 * mask
            values[:, :4, :6] = nodata
            write_bands(
                root / split / "images" / f"{number}.tif",
                values.astype(dtype),
                nodata=nodata,
                **PLACE,
            )
            write_png(root / split / "masks" / f"{number}.png", mask)
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": ["ground", "box"]}))
    return root
