"""Groups of images that resemble each other, such as the slices of a patient."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from softiou.errors import DataError


def groups_of(stems: Sequence[str], together: str | int) -> Tensor:
    r"""Return the number of the group that each image belongs to.

    Args:
        stems: Names of the N images, in order.
        together: A regular expression: names that begin with the same match are one group, such as
            a patient; or a number of consecutive images, such as the frames of ten seconds.

    Returns:
        Integers (N,), from 0 in the order in which the groups begin.

    Raises:
        DataError: A name does not begin with a match, the expression is invalid, or the number
            is below 1.

    Example:
        >>> groups_of(["p07-a", "p07-b", "p12-a"], r"p\d+").tolist()
        [0, 0, 1]
        >>> groups_of(["f1", "f2", "f3"], 2).tolist()
        [0, 0, 1]
    """
    if isinstance(together, int):
        if together < 1:
            raise DataError(f"Expected `together` to be at least 1 image, but got {together}.")
        return torch.arange(len(stems)) // together
    try:
        pattern = re.compile(together)
    except re.error as error:
        raise DataError(
            f"Expected `together` to be a regular expression, but got '{together}': {error}."
        ) from None
    numbers: dict[str, int] = {}
    found = []
    for stem in stems:
        beginning = pattern.match(stem)
        if beginning is None:
            raise DataError(
                f"Expected `together` to match the beginning of every name, but '{together}' does "
                f"not match {stem}. Extend the expression."
            )
        found.append(numbers.setdefault(beginning[0], len(numbers)))
    return torch.tensor(found)
