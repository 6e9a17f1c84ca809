"""Which numbers the masks of a data set hold, and what they can only have meant."""

from collections import Counter
from collections.abc import Iterable

from softiou.data.base import DatasetDescription

_FULL_SCALE = (255, 65535)  # what 1 becomes when a mask is saved as a picture, by depth


class ValueCensus:
    """Counts the masks in which a number occurs."""

    def __init__(self) -> None:
        self.masks_with: Counter[int] = Counter()

    def add(self, masks: Iterable[Iterable[int]]) -> None:
        """Count some masks by the distinct numbers of each."""
        for values in masks:
            self.masks_with.update(values)


def meant_by(values: Iterable[int], description: DatasetDescription) -> dict[int, int] | None:
    """Return the `label_map` that all masks together leave no doubt about.

    It is 0 and 255 (or 65535) for two classes, where nothing but these occurs; or 1 to C for C
    classes, where the last occurs and 0 never does. Masks in which 0 and C occur may lack the name
    of a class, or have 0 for unlabelled pixels: that is for people to say. So it is where
    `ignore_index` is the number of a class, which every way to renumber would have ignored.

    Args:
        values: The distinct numbers of all masks.
        description: The classes and the `ignore_index`.

    Returns:
        The class of each number; None when there is nothing to mend, or more than one way.

    Example:
        >>> two = DatasetDescription(("ground", "box"))
        >>> meant_by({0, 255}, two), meant_by({1, 2, 255}, two), meant_by({0, 1, 2}, two)
        ({0: 0, 255: 1}, {1: 0, 2: 1}, None)
    """
    found, last = set(values), description.num_classes
    if description.ignores_a_class:
        return None
    for full in _FULL_SCALE:
        if last == 2 and found == {0, full}:
            return {0: 0, full: 1}
    labelled = found - {description.ignore_index}
    if last in labelled and min(labelled) == 1 and max(labelled) == last:
        return {value: value - 1 for value in range(1, last + 1)}
    return None
