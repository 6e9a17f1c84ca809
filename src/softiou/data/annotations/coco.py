"""COCO: a JSON file of images, categories and annotations (polygons or run-length masks)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

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

T = TypeVar("T")
Size: TypeAlias = tuple[int, int]  # (H, W)


def read(path: Path) -> Annotations:
    """Read a file; pixels of crowds are ignored."""
    names, images, annotations = contents(path)
    found = Annotations(names=tuple(names[number] for number in sorted(names)))
    shapes: dict[int, list[Shape]] = {number: [] for number in images}
    for one in annotations:
        where = f"annotation {one.get('id') if isinstance(one, dict) else one}"
        _, size = entry_for(one, "image_id", images, where)
        name: str | None = entry_for(one, "category_id", names, where)
        name = IGNORED if one.get("iscrowd") else name
        shapes[one["image_id"]] += _shapes(one.get("segmentation"), name, size, where, found)
    found.images = [AnnotatedImage(*one, tuple(shapes[n])) for n, one in images.items()]
    return found


def contents(path: Path) -> tuple[dict[int, str], dict[int, tuple[str, Size]], list[Any]]:
    """Return {id: category name}, {id: (image name, size)}, and the annotations."""
    content = json_of(path, dict)
    names = {
        entry(one, "id", int, "categories"): entry(one, "name", str, "categories")
        for one in entry(content, "categories", list, "the file")
    }
    images: dict[int, tuple[str, Size]] = {}
    for one in entry(content, "images", list, "the file"):
        number = entry(one, "id", int, "images")
        if number in images:
            raise ValueError(f"image id {number} occurs twice")
        size = size_of(one, "height", "width", f"image {number}")
        images[number] = entry(one, "file_name", str, f"image {number}"), size
    return names, images, entry(content, "annotations", list, "the file")


def entry_for(one: Any, key: str, known: Mapping[int, T], where: str) -> T:
    """Return the entry that an annotation refers to by id."""
    number = entry(one, key, int, where)
    if number not in known:
        raise ValueError(f"{where}: the file has no entry for `{key}` {number}")
    return known[number]


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
        raise ValueError(f"{where}: expected run lengths for the size {list(size)}, not {stated}")
    counts = segmentation.get("counts")
    runs = decoded(counts, where) if isinstance(counts, str) else counts
    return [Shape(name, bitmap=bitmap(runs, size, where, by_columns=True))]


def decoded(text: str, where: str) -> NDArray[np.int64]:
    """Decode COCO's run-length string: 5 bits per letter, differences to the last run but one."""
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
