"""Explain mask values that are not classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softiou.data.base import DatasetDescription
from softiou.data.problems import Problem, some_of

# A missing class adds few values; compression and smoothing add many.
_MANY_VALUES = 15


def explain_values(
    path: Path,
    *,
    found: NDArray[np.integer],
    offending: NDArray[np.integer],
    description: DatasetDescription,
    label_map: Mapping[int, int],
) -> Problem:
    """Report the invalid values of a mask, with the likely cause and a remedy.

    `found` has all distinct values, `offending` those that are neither a class nor ignored.
    """
    expected = f"values 0..{description.num_classes - 1} or {description.ignore_index} (ignored)"
    message = f"Expected {expected}, but found {some_of(offending.tolist())}."
    values = set(found.tolist()) - {description.ignore_index}
    remedy = _remedy(values, set(offending.tolist()), description, label_map)
    return Problem(str(path), message, remedy, kind="mask_values")


def _remedy(
    values: set[int],
    offending: set[int],
    description: DatasetDescription,
    label_map: Mapping[int, int],
) -> str:
    """Return the remedy for the most likely cause."""
    num_classes, ignored = description.num_classes, description.ignore_index
    unmapped = sorted(value for value in offending if 0 <= value < num_classes)
    if unmapped:
        # The index of a class is invalid only if a label map omits it.
        return (
            f"`label_map` maps {[raw for raw, to in label_map.items() if to == unmapped[0]]} to "
            f"class {unmapped[0]} but has no entry for the raw value {unmapped[0]} itself. "
            f"Add one, e.g. {unmapped[0]}: {ignored} to ignore it."
        )
    if description.ignores_a_class and offending == {num_classes}:
        return _free_ignore_index(description)
    if offending == {255} and values <= {0, 255}:
        if description.ignores_a_class:  # otherwise one of the two classes would be ignored
            return (
                "This is a 0/255 mask: write `ignore_index: 255` and `label_map: {255: 1}` in "
                f"dataset.yaml. `ignore_index: {ignored}` is also the index of a class."
            )
        return (
            "This is a 0/255 mask: divide it by 255, or write `label_map: {255: 1}` in "
            "dataset.yaml."
        )
    if offending == {num_classes} and 0 not in values:
        return (
            f"The values seem to start at 1 instead of 0: subtract 1, or write `label_map: "
            f"{{1: 0, 2: 1, ..., {num_classes}: {num_classes - 1}}}` in dataset.yaml."
        )
    if offending == {num_classes}:
        return (
            f"Either `classes` in dataset.yaml lacks a name, or 0 means unlabelled; then write "
            f"`label_map: {{0: {ignored}, 1: 0, ..., {num_classes}: {num_classes - 1}}}`."
        )
    if len(offending) > max(_MANY_VALUES, num_classes):
        return (
            "So many values indicate an anti-aliased, smoothly resized or JPEG-compressed mask, "
            "or instances: save class indices as PNG, and resize with nearest neighbour."
        )
    return (
        "Add the missing names to `classes`, or map the values with `label_map` in "
        f"dataset.yaml, e.g. {min(offending)}: {ignored} to ignore it."
    )


def _free_ignore_index(description: DatasetDescription) -> str:
    """Propose an `ignore_index` that is not the index of a class."""
    last, ignored = description.num_classes, description.ignore_index
    free = 255 if last <= 255 else 65535
    meanings = f"0: {free}, 1: 0, ..., {last}: {last - 1}" if ignored == 0 else f"{ignored}: {free}"
    return (
        f"`ignore_index: {ignored}` is also the index of the class "
        f"'{description.classes[ignored]}', whose pixels are always ignored. If {ignored} means "
        f"unlabelled in the masks, write `ignore_index: {free}` and `label_map: {{{meanings}}}` in "
        f"dataset.yaml{'' if ignored == 0 else ', and add the other values'}."
    )
