"""The gallery: all images with targets and predictions, reduced to fit in one page.

Pictures are stored as text in the page, and decoded by the browser when they are shown. Class maps
are stored as indices (deflated bytes), so that the browser can colour them, compare target and
prediction, and show the class under the pointer.

Sizes: H, W height and width of a thumbnail; C classes. Each run on the page is called a side.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from softiou._files import file_name
from softiou.errors import DataError
from softiou.evaluation.pictures import deflated, index_map
from softiou.evaluation.schema import ImageScores
from softiou.reports.formatting import View
from softiou.reports.pictures import open_image, open_index_map

FOLDER = "gallery"
BUDGET_BYTES = 8_500_000  # of the gallery; the rest of the page needs about one megabyte
MAX_IMAGES = 2000
PROBES = 24
UNCERTAINTY_LEVELS = 16
# It is smooth, and at full size would take as much space as the photograph.
UNCERTAINTY_SCALE = 2 / 3


@dataclass(frozen=True)
class Level:
    """Size and JPEG quality of the pictures; quality None keeps the files of the photographs."""

    long_side_px: int
    quality: int | None


LEVELS = (
    Level(320, None),
    Level(320, 75),
    Level(320, 60),
    Level(240, 70),
    Level(160, 70),
    Level(96, 65),
)


@dataclass(frozen=True)
class GalleryImage:
    """One image, with the folder of its pictures and its scores for each run."""

    stem: str
    folders: tuple[Path, ...]
    scores: tuple[ImageScores, ...]
    rank: float | None  # the initial order of the gallery


@dataclass(frozen=True)
class Packed:
    """Pictures encoded as text, and how they were reduced."""

    images: tuple[GalleryImage, ...]
    pictures: tuple[View, ...]
    level: Level
    left_out: int


def has_gallery(run_dir: Path) -> bool:
    """Return whether the evaluation of a run has written thumbnails."""
    return (run_dir / FOLDER).is_dir()


def pack(
    images: Sequence[GalleryImage],
    num_classes: int,
    *,
    budget: int = BUDGET_BYTES,
    max_images: int = MAX_IMAGES,
) -> Packed:
    """Encode the pictures of a gallery, as large as a budget of bytes allows.

    The pictures are reduced until they fit. If even the smallest do not fit, images are left out;
    the best, the worst and an even sample of the others are kept.
    """
    shown = choose(images, max_images)
    for level in LEVELS:
        if level is not LEVELS[-1] and _estimate(shown, num_classes, level) > budget:
            continue
        pictures = [encode(image, num_classes, level) for image in shown]
        total = sum(map(_size, pictures))
        if total <= budget:
            break
    while total > budget:
        shown = choose(shown, min(len(shown) - 1, int(len(shown) * budget / total)))
        kept = {image.stem for image in shown}
        pictures = [one for one in pictures if one["stem"] in kept]
        total = sum(map(_size, pictures))
    return Packed(tuple(shown), tuple(pictures), level, left_out=len(images) - len(shown))


def choose(images: Sequence[GalleryImage], count: int) -> list[GalleryImage]:
    """Select at most `count` images: a quarter the worst, a quarter the best, and a sample."""
    if len(images) <= count:
        return list(images)
    ranked = sorted(
        range(len(images)), key=lambda index: (images[index].rank is None, images[index].rank or 0)
    )
    ends = count // 4
    middle = ranked[ends : len(ranked) - ends]
    places = np.linspace(0, len(middle) - 1, count - 2 * ends).round().astype(int)
    best = ranked[len(ranked) - ends :]
    return [images[index] for index in sorted(ranked[:ends] + best + [middle[p] for p in places])]


def encode(image: GalleryImage, num_classes: int, level: Level) -> View:
    """Return the pictures of one image as text; None if there is no file.

    Returns:
        `stem`; `full`, whether all folders have the image at full size; `photo` as JPEG; `target`,
        and for each side `preds` and `uncertainty`, each {"width", "height", "data"} with base64 of
        deflated bytes. Indices have 8 bits, or 16 (little-endian) for more than 255 classes, with C
        for ignored pixels; uncertainty has levels 0..15 and a lower resolution.
    """
    first = image.folders[0]
    return {
        "stem": image.stem,
        "full": all(_path(folder, image.stem, "full.js").is_file() for folder in image.folders),
        "photo": _photo(_path(first, image.stem, "image.jpg"), level),
        "target": _indices(_path(first, image.stem, "target.png"), num_classes, level),
        "sides": [
            {
                "preds": _indices(_path(folder, image.stem, "preds.png"), num_classes, level),
                "uncertainty": _levels(_path(folder, image.stem, "uncertainty.png"), level),
            }
            for folder in image.folders
        ],
    }


def _path(folder: Path, stem: str, suffix: str) -> Path:
    """Return the path of a thumbnail; a stem must not lead out of the folder."""
    if ".." in PurePosixPath(stem).parts or PurePosixPath(stem).is_absolute():
        raise DataError(
            f"Expected the stem of an image to stay inside {folder}, but got {stem!r}. "
            "Evaluate the run again with `softiou evaluate`."
        )
    return folder / file_name(stem, f".{suffix}")


def _photo(path: Path, level: Level) -> View | None:
    image = open_image(path)
    if image is None:
        return None
    small = _shrink(image.convert("RGB"), level.long_side_px, Image.Resampling.LANCZOS)
    if level.quality is None and small.size == image.size:
        content = path.read_bytes()
    else:
        buffer = BytesIO()
        small.save(buffer, "jpeg", quality=level.quality or 80, optimize=True)
        content = buffer.getvalue()
    width, height = small.size
    return {"width": width, "height": height, "data": base64.b64encode(content).decode()}


def _indices(path: Path, num_classes: int, level: Level) -> View | None:
    picture = open_index_map(path)
    if picture is None:
        return None
    small = _shrink(picture, level.long_side_px, Image.Resampling.NEAREST)
    return index_map(small, num_classes)


def _levels(path: Path, level: Level) -> View | None:
    picture = open_image(path)
    if picture is None:
        return None
    longest = max(1, round(UNCERTAINTY_SCALE * min(level.long_side_px, max(picture.size))))
    small = _shrink(picture.convert("L"), longest, Image.Resampling.BOX)
    scaled = np.asarray(small, dtype=np.float64) * (UNCERTAINTY_LEVELS - 1) / 255
    return deflated(scaled.round().astype(np.uint8))


def _shrink(image: Image.Image, longest_px: int, resample: Image.Resampling) -> Image.Image:
    """Reduce a picture to at most this long side."""
    width, height = image.size
    scale = longest_px / max(width, height)
    if scale >= 1:
        return image
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), resample)


def _size(picture: View) -> int:
    """Return the bytes of the encoded pictures of one image, without scores."""
    parts = [picture["photo"], picture["target"]]
    for side in picture["sides"]:
        parts += side.values()
    return 200 + len(picture["stem"]) + sum(len(part["data"]) for part in parts if part)


def _estimate(images: Sequence[GalleryImage], num_classes: int, level: Level) -> float:
    """Estimate the bytes of all images from a few, to rule out most levels quickly."""
    step = max(1, len(images) // PROBES)
    probes = images[::step]
    total = sum(_size(encode(image, num_classes, level)) for image in probes)
    return total * len(images) / max(1, len(probes))
