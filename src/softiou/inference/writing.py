"""Write predictions of image files as masks, probabilities and overlays."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from softiou._files import atomic_file, atomic_path, file_name, write_atomically
from softiou.data import DatasetDescription, read_image
from softiou.data.bands import TIFF_SUFFIXES, BandImage, Tiff, missing
from softiou.data.files import IMAGE_SUFFIXES, visible_files
from softiou.data.inferring import UNKNOWN
from softiou.data.layouts import WebDataset
from softiou.data.shards import shards_in
from softiou.data.volumes import SLICE, parts_of, slices_of, stored_file, volume_at, volumes_in
from softiou.errors import ConfigError, DataError, RunExistsError
from softiou.inference.pictures import encode_image, index_image, overlay
from softiou.inference.prediction import probability_bands
from softiou.inference.predictors import Predictor, require_finite
from softiou.inference.settings import WHOLE_IMAGE, InferenceSettings

_COMPANIONS = (".probs.npy", ".overlay.jpg", ".geojson", ".tif")
_LARGEST_PASS = 1 << 25  # pixels; networks need a few hundred bytes per pixel


@dataclass(frozen=True)
class MaskWriter:
    """Predicts image files and writes the results into a folder.

    Attributes:
        predictor: A model on the device to use, or an exported file.
        description: Classes of the model.
        out: Folder for STEM.png (CASE.nii.gz for slices), STEM.probs.npy, STEM.overlay.jpg and
            STEM.geojson; and for STEM.tif, the georeferenced mask of a georeferenced image, if
            rasterio is installed.
        probabilities: Whether to write probabilities (C, H, W) in float16.
        overlays: Whether to write the image blended with the colours of its classes.
        polygons: Whether to write the outlines of each class, see `polygons`.
        settings: Windows, flips and scales.

    Raises:
        ConfigError: `polygons` is set and rasterio is missing.
    """

    predictor: Predictor
    description: DatasetDescription
    out: Path
    probabilities: bool = False
    overlays: bool = False
    polygons: bool = False
    settings: InferenceSettings = WHOLE_IMAGE

    _slices: dict[Path, NDArray[Any]] = field(default_factory=dict)  # masks of the current volume

    def __post_init__(self) -> None:
        if self.polygons and find_spec("rasterio") is None:
            raise ConfigError("Polygons need rasterio. Install it with: pip install rasterio")

    def paths(self, file: Path) -> list[Path]:
        """Return the files that `write` creates for an image, the mask first."""
        placed = georeference(file) is not None
        wanted = (self.probabilities, self.overlays, self.polygons, placed)
        asked = zip(_COMPANIONS, wanted, strict=True)
        names = [file_name(file.stem, ending) for ending, one in asked if one]
        mask = file_name(file.stem, ".png")
        if file.suffix == SLICE:
            mask = file_name(parts_of(file)[0], ".nii.gz")
        return [self.out / name for name in (mask, *names)]

    def prepare(self, files: list[Path], *, overwrite: bool) -> None:
        """Create the folder, and check that no file would be overwritten.

        Raises:
            DataError: Two images have the same stem, or a result would replace an image.
            RunExistsError: A result already exists, and `overwrite` is False.
        """
        stems: dict[str, Path] = {}
        for file in files:
            if (other := stems.setdefault(file.stem, file)) is not file:
                raise DataError(f"{other} and {file} would write the same mask. Rename one.")
        results = list(dict.fromkeys(path for file in files for path in self.paths(file)))
        own = {stored_file(file).resolve() for file in files}
        for path in results:
            if path.resolve() in own:
                raise DataError(f"The mask would replace the image {path}. Choose another --out.")
        there = [path for path in results if path.exists()]
        if there and not overwrite:
            raise RunExistsError(
                f"{len(there)} results already exist, such as {there[0]}; nothing was changed. "
                "Choose another folder with --out, or add --overwrite."
            )
        self.out.mkdir(parents=True, exist_ok=True)
        if overwrite:  # remove results of an earlier model
            for file in files:
                for ending in _COMPANIONS:
                    path = self.out / file_name(file.stem, ending)
                    if path not in results and path.resolve() not in own:
                        path.unlink(missing_ok=True)

    def write(self, file: Path, image: Tensor | BandImage | None = None) -> None:
        """Predict an image, given or read from its file, and write the results atomically.

        Probabilities are written band by band, so besides the image and its mask, only one row of
        windows is in memory.

        Raises:
            DataError: The image cannot be read, or is too large for one pass.
        """
        image = read_image(file) if image is None else image
        self._check_size(file, image)
        preds, mixed = self._predict(file, image)
        if mixed is not None:
            picture = encode_image(Image.fromarray(mixed), "JPEG")
            write_atomically(picture, self.out / file_name(file.stem, ".overlay.jpg"))
        place = georeference(file)
        if self.polygons:
            content = polygons(preds.numpy(), self.description, place or {})
            write_atomically(
                json.dumps(content).encode(), self.out / file_name(file.stem, ".geojson")
            )
        if place:
            self._write_geotiff(preds.numpy(), place, self.out / file_name(file.stem, ".tif"))
        if file.suffix == SLICE:
            self._write_slice(file, preds.numpy())
            return
        mask = encode_image(index_image(preds, self.description.palette), "PNG")
        write_atomically(mask, self.out / file_name(file.stem, ".png"))

    def _write_slice(self, file: Path, preds: NDArray[Any]) -> None:
        """Store the mask of a slice; write the volume after its last slice."""
        case, axis, _ = parts_of(file)
        self._slices[file] = preds
        files = [*slices_of(file.parent, case, axis).values()]
        if file == files[-1]:
            if self._slices.keys() >= {*files}:
                masks = np.stack([self._slices[one] for one in files])
                with atomic_path(self.paths(file)[0], suffix=".nii.gz") as temporary:
                    volume_at(file.parent).save(masks, axis, temporary)
            self._slices.clear()

    def _write_geotiff(self, preds: NDArray[Any], place: dict[str, Any], path: Path) -> None:
        import rasterio

        height, width = preds.shape
        about = {"height": height, "width": width, "count": 1, "dtype": preds.dtype, **place}
        about |= {"nodata": ignored_number(self.description, preds.dtype), "compress": "deflate"}
        with (
            atomic_path(path, suffix=".tif") as temporary,  # a cloud-optimised GeoTIFF
            rasterio.open(
                temporary, "w", driver="COG", overview_resampling="nearest", **about
            ) as file,
        ):
            if preds.dtype == np.uint8:
                file.write_colormap(1, dict(enumerate(self.description.palette)))
            file.write(preds, 1)

    def _check_size(self, file: Path, image: Tensor | BandImage) -> None:
        height, width = image.shape[-2:]
        if self.settings.window_px is None and height * width > _LARGEST_PASS:
            raise DataError(
                f"{file} has {width} x {height} pixels, too many for one forward pass. Use "
                "sliding windows, such as --window 1024."
            )

    def _predict(
        self, file: Path, image: Tensor | BandImage
    ) -> tuple[Tensor, NDArray[np.uint8] | None]:
        """Return class indices (H, W) in the dtype of the mask, and write probabilities.

        Pixels with a missing band are ignored. The second result is the overlay (H, W, 3) or None.
        """
        num_classes = self.description.num_classes
        height, width = image.shape[-2:]
        preds = np.empty((height, width), np.uint8 if num_classes <= 255 else np.uint16)
        ignored = ignored_number(self.description, preds.dtype)
        mixed = np.empty((height, width, 3), np.uint8) if self.overlays else None
        bands = probability_bands(self.predictor, image, settings=self.settings)
        with ExitStack() as stack:
            stored = None
            if self.probabilities:
                path = self.out / file_name(file.stem, ".probs.npy")
                shape = (num_classes, height, width)
                stored = ProbabilityFile(stack.enter_context(atomic_file(path)), shape)
            for rows, probs in bands:
                require_finite(probs, model="The model", image=str(file))
                preds[rows] = probs.argmax(0).cpu().numpy()
                if (pixels := image[:, rows]).is_floating_point():
                    preds[rows][missing(pixels).cpu().numpy()] = ignored
                if mixed is not None:
                    classes = torch.from_numpy(preds[rows])
                    mixed[rows] = np.asarray(overlay(pixels, classes, self.description.palette))
                if stored is not None:
                    stored.write(rows, probs)
        return torch.from_numpy(preds), mixed


def ignored_number(about: DatasetDescription, dtype: np.dtype[Any]) -> int:
    """Return the mask value of ignored pixels; the largest value if it does not fit."""
    index, largest = about.ignore_index, int(np.iinfo(dtype).max)
    return index if 0 <= index <= largest else largest


def polygons(
    preds: NDArray[Any], about: DatasetDescription, place: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the outlines of each class of a mask (H, W) as GeoJSON, along pixel edges.

    Each connected region is a feature, with the name and index of its class. With a coordinate
    system, points are longitude and latitude (RFC 7946); otherwise they are x and y by the
    transform of the image, or pixels. Ignored pixels are omitted.
    """
    from rasterio.features import shapes
    from rasterio.warp import transform_geom

    crs, known = place.get("crs"), preds != ignored_number(about, preds.dtype)
    where = {"transform": place["transform"]} if place else {}
    features = []
    for outline, number in shapes(preds, mask=known, **where):
        names = {"class": about.classes[int(number)], "class_index": int(number)}
        outline = transform_geom(crs, "EPSG:4326", outline) if crs else outline
        features.append({"type": "Feature", "properties": names, "geometry": outline})
    return {"type": "FeatureCollection", "features": features}


def georeference(path: Path) -> dict[str, Any] | None:
    """Return the georeference of a TIFF for rasterio; None without one or without rasterio."""
    if path.suffix.lower() not in TIFF_SUFFIXES or find_spec("rasterio") is None:
        return None
    try:
        page = Tiff(path).pages[0]
        crs, transform = page.crs, page.transform
    except DataError:  # reported when the image is read
        return None
    return None if crs is None and transform.is_identity else {"crs": crs, "transform": transform}


def find_images(path: Path, axis: str = "z") -> list[Path]:
    """Return the images of a file, folder, shards or volumes; raise DataError if none."""
    files = visible_files(path, IMAGE_SUFFIXES)
    volumes = volumes_in(path, series=not files)
    files += [s for case, one in volumes.items() for s in slices_of(one, case, axis).values()]
    if path.is_file() and path.suffix != ".tar" and not files:
        return [path]
    if not files and shards_in(path):
        layout = WebDataset(path, UNKNOWN)
        own = (layout.images(split).by_stem for split in layout.own)
        files = [images[stem] for images in own for stem in images]
    if not files:
        what = "contains no images" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}: expected an image, or a folder of images.")
    return files


class ProbabilityFile:
    """A .npy file of `shape` (C, H, W) in float16, written in bands of rows.

    It does not use a memory map, which counts as memory of the process, and kills the process
    instead of raising an error if the disk is full.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, int, int]) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        self._file = file
        self._shape = shape
        self._start = file.tell()

    def write(self, rows: slice, probs: Tensor) -> None:
        """Write the probabilities (C, rows, W) of a band."""
        _, height, width = self._shape
        halves = probs.half().cpu().numpy().astype("<f2", copy=False)
        for index, plane in enumerate(halves):
            self._file.seek(self._start + 2 * width * (index * height + rows.start))
            self._file.write(plane.tobytes())
