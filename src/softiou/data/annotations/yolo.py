"""YOLO: a text file for each image, a line for each polygon, with relative coordinates."""

from pathlib import Path

from softiou._reading import read_text, read_yaml
from softiou.data.annotations.parsing import AnnotatedImage, Annotations, ring
from softiou.data.drawings import Shape

_LISTS = ("classes.txt", "obj.names")


def read(path: Path, names: tuple[str, ...]) -> Annotations:
    """Read a file; without `names`, classes are named by their number."""
    found, shapes = Annotations(names=names), list[Shape]()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        first, *rest = line.split() or [""]
        where = f"line {number}"
        if not first:
            continue
        if not first.isdecimal() or (names and int(first) >= len(names)):
            limit = f"0..{len(names) - 1}" if names else "0 or more"
            raise ValueError(f"{where}: expected the number of a class, {limit}, not {first!r}")
        if len(rest) == 4:
            found.left_out["boxes"] += 1
            continue
        points = ring(rest, where)
        if len(points) and not (points.min() >= -1 and points.max() <= 2):
            raise ValueError(f"{where}: expected relative coordinates, 0 to 1")
        shapes += found.shape(names[int(first)] if names else f"class_{int(first)}", [points])
    found.images = [AnnotatedImage(path.stem, None, tuple(shapes))]
    return found


def names_of(root: Path) -> tuple[str, ...]:
    """Return the class names: `names` of a YAML file, or the lines of a list; empty if none."""
    for path in sorted(root.glob("*.y*ml")):
        content = read_yaml(path)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            names = [names[number] for number in sorted(names)]
        if isinstance(names, list):
            return tuple(map(str, names))
    lists = [root / name for name in _LISTS if (root / name).is_file()]
    return tuple(read_text(lists[0]).split("\n")) if lists else ()
