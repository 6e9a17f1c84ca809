"""CVAT for images: an XML file with polygons, rectangles and run-length masks."""

from pathlib import Path
from xml.etree.ElementTree import Element

from softiou.data.annotations.parsing import (
    AnnotatedImage,
    Annotations,
    bitmap,
    rectangle,
    ring,
    size_of,
    xml_of,
)
from softiou.data.drawings import Shape


def read(path: Path) -> Annotations:
    """Read a file; shapes with a higher z_order are drawn later."""
    root = xml_of(path)
    if root.tag != "annotations":
        raise ValueError(f"expected <annotations>, but found <{root.tag}>")
    if root.find("track") is not None:
        raise ValueError("the file has video tracks: export it as `CVAT for images`")
    found = Annotations()
    found.names = tuple(name.text or "" for name in root.iterfind("meta//label/name"))
    for image in root.iterfind("image"):
        name = image.get("name", "")
        where = f"image {name!r}"
        size = size_of(
            {k: _whole(image, k, where) for k in ("height", "width")}, "height", "width", where
        )
        shapes = list[Shape]()
        for one in sorted(image, key=lambda one: _whole(one, "z_order", where, 0)):
            shapes += _shape(one, f"{where}, <{one.tag}>", found)
        found.images.append(AnnotatedImage(name, size, tuple(shapes), image.get("subset", "")))
    return found


def _shape(one: Element, where: str, found: Annotations) -> list[Shape]:
    label = one.get("label", "")
    if one.tag == "polygon":
        points = [pair.split(",") for pair in one.get("points", "").split(";")]
        return found.shape(label, [ring(points, where)])
    if one.tag == "box" and float(one.get("rotation", "0")) == 0:
        sides = [one.get(key, "") for key in ("xtl", "ytl", "xbr", "ybr")]
        return found.shape(label, [ring(rectangle(*ring(sides, where).ravel().tolist()), where)])
    if one.tag == "mask":
        numbers = {key: _whole(one, key, where) for key in ("height", "width", "top", "left")}
        runs = one.get("rle", "").split(",")
        place = numbers["top"], numbers["left"]
        inner = size_of(numbers, "height", "width", where)
        return [
            Shape(label, bitmap=bitmap([int(n) for n in runs if n.strip()], inner, where, place))
        ]
    if one.tag != "tag":
        found.left_out["lines, points, ellipses and cuboids"] += 1
    return []


def _whole(one: Element, key: str, where: str, default: int | None = None) -> int:
    text = one.get(key)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ValueError(f"{where}: expected {key} to be a whole number, not {text!r}") from None
