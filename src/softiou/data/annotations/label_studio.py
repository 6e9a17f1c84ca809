"""Label Studio: a JSON file of tasks, with polygons in per cent and run-length brushes."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softiou.data.annotations.parsing import (
    AnnotatedImage,
    Annotations,
    entry,
    json_of,
    rectangle,
    ring,
    size_of,
)
from softiou.data.drawings import Bitmap, Shape


def read(path: Path) -> Annotations:
    """Read a file; of each task, the first annotation that was not cancelled is used."""
    found = Annotations()
    for number, task in enumerate(json_of(path, list)):
        where = f"task {task.get('id', number) if isinstance(task, dict) else number}"
        if isinstance(task, dict) and "annotations" not in task:
            raise ValueError(f"{where}: expected `annotations`; export it as JSON, not as JSON-MIN")
        annotations = entry(task, "annotations", list, where)
        kept = [
            one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")
        ]
        if not kept:
            found.left_out["tasks without annotation"] += 1
            continue
        results = entry(kept[0], "result", list, where)
        sizes = {
            size_of(one, "original_height", "original_width", where)
            for one in results
            if isinstance(one, dict) and "original_width" in one
        }
        if len(sizes) > 1:
            raise ValueError(f"{where}: expected one size, but found several")
        size = next(iter(sizes), None)
        shapes = [s for one in results if size for s in _shape(one, where, size, found)]
        found.images.append(AnnotatedImage(_name(task, where), size, tuple(shapes)))
    return found


def _name(task: dict[str, Any], where: str) -> str:
    """Return the image path, without the server address and the upload prefix."""
    data = entry(task, "data", dict, where)
    texts = [value for value in data.values() if isinstance(value, str)]
    name = str(data.get("image") or next(iter(texts), ""))
    return name.split("?d=")[-1].split("?")[0]


def _shape(one: Any, where: str, size: tuple[int, int], found: Annotations) -> list[Shape]:
    kind = entry(one, "type", str, where)
    if kind not in ("polygonlabels", "rectanglelabels", "brushlabels"):
        found.left_out["results of other kinds"] += 1
        return []
    if one.get("image_rotation"):
        raise ValueError(f"{where}: images rotated in the tool are not supported")
    value = entry(one, "value", dict, where)
    names = entry(value, kind, list, where)
    if len(names) != 1:
        raise ValueError(f"{where}: expected one label for each shape, but found {names}")
    name, scale = str(names[0]), (size[1] / 100, size[0] / 100)
    if kind == "brushlabels":
        mask = brush(entry(value, "rle", list, where), size, where)
        return [Shape(name, bitmap=Bitmap.of(mask))]
    if kind == "rectanglelabels":
        if value.get("rotation"):
            found.left_out["rotated rectangles"] += 1
            return []
        sides = [value.get(key) for key in ("x", "y", "width", "height")]
        x, y, width, height = ring(sides, where).ravel().tolist()
        return found.shape(name, [ring(rectangle(x, y, x + width, y + height), where, scale)])
    return found.shape(name, [ring(entry(value, "points", list, where), where, scale)])


def brush(data: list[Any], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Return the mask (H, W) of a brush: the alpha channel of run-length encoded RGBA bytes.

    The bit stream starts with the number of bytes (32 bits), the bits per value minus 1 (5), and
    the bits of four kinds of run lengths, minus 1 each (4 times 4). Then, for each run: 1 if its
    values differ (1), the kind of its length (2), its length minus 1, and one value or all values.
    """
    pixels = size[0] * size[1]
    broken = ValueError(f"{where}: expected a brush of {size[1]}x{size[0]}, but it is damaged")
    try:
        bits = "".join(f"{byte:08b}" for byte in bytes(data))
    except (TypeError, ValueError):
        raise broken from None
    if len(bits) < 53 or int(bits[:32], 2) != 4 * pixels or int(bits[32:37], 2) != 7:
        raise broken
    lengths = [int(bits[at : at + 4], 2) + 1 for at in range(37, 53, 4)]
    values, at, done = np.zeros(4 * pixels, np.uint8), 53, 0
    while done < 4 * pixels:
        head = bits[at : at + 3]
        if len(head) < 3:
            raise broken
        length_bits = lengths[int(head[1:], 2)]
        at += 3 + length_bits
        length = int(bits[at - length_bits : at] or "0", 2) + 1
        count = 8 if head[0] == "1" else 8 * length
        read = bits[at : at + count]
        if len(read) < count or done + length > 4 * pixels:
            raise broken
        values[done : done + length] = np.frombuffer(int(read, 2).to_bytes(count // 8), np.uint8)
        at, done = at + count, done + length
    mask: NDArray[np.bool_] = values.reshape(*size, 4)[..., 3] > 0
    return mask
