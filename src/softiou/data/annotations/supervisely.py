"""Supervisely: a JSON file for each image in ann/, and the images in img/."""

from pathlib import Path
from typing import Any

from softiou.data.annotations.parsing import (
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


def read(path: Path, names: tuple[str, ...]) -> Annotations:
    """Read a file; `names` are the class names of meta.json."""
    content = json_of(path, dict)
    size = size_of(entry(content, "size", dict, "the file"), "height", "width", "size")
    found, shapes = Annotations(names=names), list[Shape]()
    for number, one in enumerate(entry(content, "objects", list, "the file")):
        shapes += _shape(one, f"object {number}", size, found)
    found.images = [AnnotatedImage(path.name.removesuffix(".json"), size, tuple(shapes))]
    return found


def names_of(root: Path) -> tuple[str, ...]:
    """Return the class names of meta.json; empty if the file does not exist."""
    if not (root / "meta.json").is_file():
        return ()
    classes = entry(json_of(root / "meta.json", dict), "classes", list, "meta.json")
    return tuple(entry(one, "title", str, "classes") for one in classes)


def _shape(one: Any, where: str, size: tuple[int, int], found: Annotations) -> list[Shape]:
    name, kind = entry(one, "classTitle", str, where), one.get("geometryType")
    if kind == "bitmap":
        stored = entry(one, "bitmap", dict, where)
        (x, y), data = entry(stored, "origin", list, where), entry(stored, "data", str, where)
        return [
            Shape(name, bitmap=Bitmap.of(picture(data, where, size, packed=True), (int(y), int(x))))
        ]
    if kind not in ("polygon", "rectangle"):
        found.left_out["lines, points and other kinds"] += 1
        return []
    points = entry(one, "points", dict, where)
    outline = ring(entry(points, "exterior", list, where), where)
    if kind == "rectangle" and len(outline) == 2:
        outline = ring(rectangle(*outline.ravel().tolist()), where)
    holes = [ring(hole, where) for hole in points.get("interior") or ()]
    return found.shape(name, [outline], holes)
