"""The same picture under two names, found by the digests of the pixels."""

from collections.abc import Iterator, Sequence

import numpy as np

from softiou.data.files import SampleFiles
from softiou.data.problems import Problem

EVALUATED = frozenset({"val", "test"})


class Digests:
    """Collects 24 bytes for each sample: those of the image and those of its masks."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, picture: bytes | None, masks: bytes | None) -> None:
        """Append a sample; without a picture it equals no other."""
        self._bytes += picture + (masks or bytes(8)) if picture else bytes(24)

    def pairs(self) -> Iterator[tuple[int, int, bool]]:
        """Yield the numbers of two samples with one picture, and whether the masks are equal.

        Of three or more with one picture, each is paired with the first.
        """
        words = np.frombuffer(self._bytes, dtype=np.uint64).reshape(-1, 3)
        order = np.lexsort((words[:, 1], words[:, 0]))  # stable: the first of equals comes first
        pictures, masks = words[order, :2], words[order, 2]
        equal = np.zeros(len(order), bool)  # to the one before
        equal[1:] = (pictures[1:] == pictures[:-1]).all(axis=1) & pictures[1:].any(axis=1)
        first = np.maximum.accumulate(np.where(equal, 0, np.arange(len(order))))
        for place in np.flatnonzero(equal):
            two = masks[[first[place], place]]
            same = bool(two[0] == two[1] or not two.all())  # 0: masks that cannot be used
            yield int(order[first[place]]), int(order[place]), same


def duplicate(
    files: SampleFiles,
    splits: Sequence[str],
    first: SampleFiles,
    first_splits: Sequence[str],
    *,
    same_masks: bool,
) -> Problem:
    """Tell of a pair: an error when one is learnt from and the other one is evaluated on."""
    masks = "" if same_masks else ", with other masks"
    message = f"The same picture as {first.image} of the split {', '.join(first_splits)}{masks}."
    if _learnt_and_evaluated(splits, first_splits):
        remedy = "Remove one: a model that has seen what it is scored on scores too well."
        return Problem(str(files.image), message, remedy, kind="duplicate_between_splits")
    remedy = "Remove one: it counts twice."
    if not same_masks:
        remedy = "Keep the one with the right masks: they contradict each other."
    return Problem(str(files.image), message, remedy, "warning", kind="duplicate")


def _learnt_and_evaluated(splits: Sequence[str], others: Sequence[str]) -> bool:
    """Say whether two samples belong to different kinds of splits, or to val and to test."""
    return any(
        one != other and (one in EVALUATED or other in EVALUATED)
        for one in splits
        for other in others
    )
