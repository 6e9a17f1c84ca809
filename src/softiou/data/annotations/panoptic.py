"""COCO panoptic: a JSON file, and a PNG for each image whose colours encode segment ids."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softiou.data.annotations.coco import contents, entry_for
from softiou.data.annotations.parsing import IGNORED, AnnotatedImage, Annotations, entry
from softiou.data.drawings import Shape
from softiou.data.problems import data_error
from softiou.data.reading import colour_codes, opened

_last = local()  # cache of the last PNG, one per thread


@dataclass(frozen=True, eq=False)
class Segments:
    """A lazy bitmap: the pixels of some segments of a PNG."""

    path: Path
    size: tuple[int, int]  # (H, W)
    ids: tuple[int, ...]
    known: tuple[int, ...]  # all ids in the PNG
    place: tuple[int, int] = (0, 0)

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask (H, W)."""
        stamp = self.path, self.path.stat().st_mtime_ns
        if getattr(_last, "stamp", None) != stamp:
            with opened(self.path) as image:
                found = f"{image.mode} of {image.width}x{image.height}"
                ids = colour_codes(np.asarray(image.convert("RGB"))[..., ::-1])
            if found != (wanted := f"RGB of {self.size[1]}x{self.size[0]}"):
                message = f"Expected {wanted}, as the file states, but found {found}."
                raise data_error(self.path, message, "Export both again.", kind="size_mismatch")
            if wrong := np.setdiff1d(ids, self.known).tolist():
                message = f"Expected the segments of `segments_info`, but found {wrong[0]}."
                raise data_error(self.path, message, "Export both again.", kind="mask_colours")
            _last.stamp, _last.ids = stamp, ids
        return np.isin(_last.ids, self.ids)


def read(path: Path) -> Annotations:
    """Read a file; pixels of crowds and of no segment (id 0) are ignored."""
    names, images, annotations = contents(path)
    found = Annotations(names=tuple(names[number] for number in sorted(names)))
    for one in annotations:
        where = f"annotation of image {one.get('image_id') if isinstance(one, dict) else one}"
        name_of_image, size = entry_for(one, "image_id", images, where)
        of_name: dict[str | None, list[int]] = {IGNORED: [0]}
        for segment in entry(one, "segments_info", list, where):
            name: str | None = entry_for(segment, "category_id", names, where)
            name = IGNORED if segment.get("iscrowd") else name
            of_name.setdefault(name, []).append(entry(segment, "id", int, where))
        known = tuple(number for ids in of_name.values() for number in ids)
        png = _png(path, one, where)
        shapes = [
            Shape(name, bitmap=Segments(png, size, tuple(ids), known))
            for name, ids in of_name.items()
        ]
        found.images.append(AnnotatedImage(name_of_image, size, tuple(shapes)))
    found.left_out["images without segments"] += len(images) - len(annotations)
    return found


def _png(path: Path, one: Any, where: str) -> Path:
    """Return the PNG of an annotation, from the folder named like the JSON file or its own."""
    name = PurePosixPath(entry(one, "file_name", str, where)).name
    for place in (path.with_suffix("") / name, path.parent / name):
        if place.is_file():
            return place
    raise ValueError(f"{where}: expected {name} in the folder {path.stem}, but found no file")
