"""The default crop size of a training."""

from collections.abc import Sequence

import numpy as np

LARGEST_CROP_PX = 512
CROP_MULTIPLE = 32  # the largest stride of the common encoders
_LOOKED_AT = 16


def automatic_crop(
    sizes: Sequence[tuple[int, int]], multiple: int = CROP_MULTIPLE
) -> tuple[int, int]:
    """Return the default crop (h, w) for images of these sizes (H, W).

    Each side is the lower median of the images, at most 512, rounded down to a multiple of
    `multiple`, and at least `multiple`.

    Example:
        >>> automatic_crop([(480, 640), (360, 480), (500, 300)])
        (480, 480)
    """
    lower_median = np.sort(np.array(sizes), axis=0)[(len(sizes) - 1) // 2]
    height, width = (
        max(multiple, min(LARGEST_CROP_PX, length) // multiple * multiple)
        for length in lower_median.tolist()
    )
    return height, width


def spread(length: int, *, most: int = _LOOKED_AT) -> list[int]:
    """Return up to `most` evenly spaced indices of a data set of `length` images.

    Example:
        >>> spread(32)[:3], len(spread(32)), spread(2)
        ([0, 2, 4], 16, [0, 1])
    """
    count = min(most, length)
    return [index * length // count for index in range(count)]
