"""Infer the classes from masks without dataset.yaml: one for each value or colour."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from softiou._cache import recall, remember
from softiou.data.base import Colour
from softiou.data.dataset_yaml import FILE_NAME, DatasetFile
from softiou.data.files import fingerprint
from softiou.data.layouts import Layout
from softiou.data.names import FileTable, Paths
from softiou.data.problems import data_error
from softiou.data.reading import grey_step, opened
from softiou.data.verifying import bounded_map
from softiou.errors import DataError

MOST = 100  # more values indicate photographs, instances or blurred borders
UNKNOWN = DatasetFile(classes=["no", "yes"])  # placeholder until the classes are inferred
_IGNORED = 255
_TOO_MANY = [(shade, 0, 0) for shade in range(MOST + 1)]


def inferred(layout: Layout) -> DatasetFile | None:
    """Return the dataset.yaml that fits the masks of a layout, or None without masks.

    Each value, or colour of RGB masks, is a class: class_0, class_7, class_128_0_0. 255 is ignored
    beside two or more other values. All masks are read; the result is cached until one changes.
    """
    try:
        found = [files for split in layout.splits for files in layout.masks(split)]
    except DataError:  # the layout has errors, which are reported first
        return None
    masks = [FileTable.of(files.by_stem).paths for files in found]
    return _contents(layout.root, masks) if any(masks) else None


def in_words(contents: DatasetFile) -> str:
    """Return a message with the inferred classes, and the lines of dataset.yaml to name them."""
    ignored = f", {_IGNORED} ignored" if contents.ignore_index == _IGNORED else ""
    text = f"there is no {FILE_NAME}, so masks define the classes: {', '.join(contents.classes)}"
    lines = [f"classes: [{', '.join(contents.classes)}]"]
    if contents.ignore_index != _IGNORED:
        lines.append(f"ignore_index: {contents.ignore_index}")
    if contents.label_map:
        lines.append(f"label_map: {contents.label_map}")
    if contents.palette:
        lines.append(f"palette: {[list(colour) for colour in contents.palette]}")
    return f"{text}{ignored}; to name them, write into this file `{'` and `'.join(lines)}`"


def _all_values(masks: Sequence[Paths]) -> set[int | Colour]:
    """Return the values and colours of all masks, from the cache if no mask has changed."""
    key = f"values of masks 1 {' '.join(map(fingerprint, masks))}"
    with suppress(ValueError):
        return set(TypeAdapter(list[int | Colour]).validate_json(recall(key)))
    values = set[int | Colour]().union(*bounded_map(_values, chain(*masks)))
    remember(key, json.dumps([*values]).encode())
    return values


def _contents(root: Path, masks: Sequence[Paths]) -> DatasetFile:
    values = _all_values(masks)
    colours = sorted(value for value in values if isinstance(value, tuple))
    numbers = sorted(value for value in values if isinstance(value, int))
    if colours and not numbers:
        names = ["class_" + "_".join(map(str, colour)) for colour in colours]
    else:
        if len(numbers) > 2 and _IGNORED in numbers:
            numbers.remove(_IGNORED)
        names = [f"class_{number}" for number in numbers]
    if (colours and numbers) or not 1 < len(names) <= MOST:
        kinds = "numbers and colours" if colours and numbers else f"{len(names)}"
        message = f"Expected {FILE_NAME}, or masks of 2 to {MOST} values, but found {kinds}."
        remedy = "Write the classes into the file: `classes: [background, road]`."
        raise data_error(root / FILE_NAME, message, remedy, kind="dataset_file")
    if colours:
        return DatasetFile(classes=names, palette=colours)
    own = {} if numbers == list(range(len(numbers))) else {n: i for i, n in enumerate(numbers)}
    free = next(value for value in (_IGNORED, 254, 253) if value not in numbers)
    return DatasetFile(classes=names, ignore_index=free, label_map=own)


def _values(path: Path) -> Iterable[int | Colour]:
    """Return the values or colours of a mask; empty if it cannot be read."""
    try:
        with opened(path) as image:
            if image.mode in ("RGB", "RGBA"):
                found: Any = image.convert("RGB").getcolors(MOST)  # None if there are more
                return [colour for _, colour in found or enumerate(_TOO_MANY)]
            if image.mode in ("L", "P"):
                step = grey_step(image)
                return [n // step for n, count in enumerate(image.histogram()) if count]
            return [int(number) for number in np.unique(np.asarray(image, np.int64))]
    except DataError:  # reported by `softiou check`
        return ()
