"""COCO: one JSON file of images, annotations and categories, polygons or run lengths."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softiou.data.annotations.parsing import (
    IGNORED,
    AnnotatedImage,
    Annotations,
    bitmap,
    entry,
    json_of,
    ring,
    size_of,
)
from softiou.data.drawings import Shape


def read(path: Path) -> Annotations:
    """Read a file; crowds are ignored."""
    content = json_of(path, dict)
    found = Annotations()
    categories = {
        entry(one, "id", int, "categories"): entry(one, "name", str, "categories")
        for one in entry(content, "categories", list, "the file")
    }
    found.names = tuple(categories[number] for number in sorted(categories))
    images: dict[int, Any] = {}
    for one in entry(content, "images", list, "the file"):
        number = entry(one, "id", int, "images")
        if number in images:
            raise ValueError(f"image {number} is there twice")
        images[number] = one
    shapes: dict[int, list[Shape]] = {number: [] for number in images}
    sizes = {n: size_of(one, "height", "width", f"image {n}") for n, one in images.items()}
    for one in entry(content, "annotations", list, "the file"):
        where = f"annotation {one.get('id') if isinstance(one, dict) else one}"
        number, category = (entry(one, key, int, where) for key in ("image_id", "category_id"))
        if number not in images or category not in categories:
            key = "category_id" if number in images else "image_id"
            raise ValueError(f"{where}: the file has no entry for `{key}` {one[key]}")
        name = IGNORED if one.get("iscrowd") else categories[category]
        shapes[number] += _shapes(one.get("segmentation"), name, sizes[number], where, found)
    found.images = [
        AnnotatedImage(entry(one, "file_name", str, f"image {n}"), sizes[n], tuple(shapes[n]))
        for n, one in images.items()
    ]
    return found


def _shapes(
    segmentation: Any, name: str | None, size: tuple[int, int], where: str, found: Annotations
) -> list[Shape]:
    if not segmentation:
        found.left_out["boxes and points"] += 1
        return []
    if isinstance(segmentation, list):
        parts = segmentation if isinstance(segmentation[0], list) else [segmentation]
        return found.shape(name, [ring(part, where) for part in parts])
    stated = entry(segmentation, "size", list, where)
    if stated != list(size):
        raise ValueError(f"{where}: expected run lengths of the size {list(size)}, not {stated}")
    counts = segmentation.get("counts")
    runs = decoded(counts, where) if isinstance(counts, str) else counts
    return [Shape(name, bitmap=bitmap(runs, size, where, by_columns=True))]


def decoded(text: str, where: str) -> NDArray[np.int64]:
    """Return the run lengths of COCO's text: 5 bits a letter, differences to the last but one."""
    letters = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if not len(letters) or letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise ValueError(f"{where}: expected run lengths as text, but it is damaged")
    ends = np.flatnonzero(letters < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(letters)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 6:
        raise ValueError(f"{where}: expected run lengths as text, but one is too long")
    values = np.add.reduceat((letters & 31) << (5 * places), starts)
    negative = letters[ends] & 16 > 0
    values -= np.where(negative, 1 << (5 * (places[ends] + 1)), 0)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values
