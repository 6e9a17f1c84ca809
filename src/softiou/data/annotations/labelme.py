"""LabelMe: a JSON file for each image."""

import math
from pathlib import Path
from typing import Any

from softiou.data.annotations.parsing import (
    IGNORED,
    AnnotatedImage,
    Annotations,
    entry,
    json_of,
    picture,
    rectangle,
    ring,
    size_of,
)
from softiou.data.drawings import Bitmap, Shape

_CORNERS = 64  # corners of the polygon that replaces a circle; its area is 0.2 % smaller


def read(path: Path) -> Annotations:
    """Read a file; pixels of shapes named __ignore__ are ignored."""
    content = json_of(path, dict)
    size = size_of(content, "imageHeight", "imageWidth", "the file")
    found, shapes = Annotations(), list[Shape]()
    for number, one in enumerate(entry(content, "shapes", list, "the file")):
        shapes += _shape(one, f"shape {number}", size, found)
    name = content.get("imagePath") or path.stem
    found.images = [AnnotatedImage(str(name), size, tuple(shapes))]
    return found


def _shape(one: Any, where: str, size: tuple[int, int], found: Annotations) -> list[Shape]:
    label: str | None = entry(one, "label", str, where)
    name = IGNORED if label == "__ignore__" else label
    points = ring(entry(one, "points", list, where), where)
    kind = one.get("shape_type") or "polygon"
    if kind == "mask" and len(points):
        mask = picture(entry(one, "mask", str, where), where, size)
        place = int(points[:, 1].min()), int(points[:, 0].min())
        return [Shape(name, bitmap=Bitmap.of(mask, place))]
    if kind == "rectangle" and len(points) == 2:
        return found.shape(name, [ring(rectangle(*points.ravel().tolist()), where)])
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0].tolist(), math.dist(*points.tolist())
        turns = [2 * math.pi * corner / _CORNERS for corner in range(_CORNERS)]
        around = [[x + radius * math.cos(t), y + radius * math.sin(t)] for t in turns]
        return found.shape(name, [ring(around, where)])
    if kind != "polygon":
        found.left_out["lines and points"] += 1
        return []
    return found.shape(name, [points])
