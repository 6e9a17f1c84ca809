"""Repeat factors: draw the images of rare classes more often.

Shapes: L images, C classes.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from softiou.data.base import Sample, SegmentationDataset, count_classes
from softiou.data.folder import stored_target
from softiou.data.verifying import bounded_map


def repeat_factors(dataset: SegmentationDataset, threshold: float) -> NDArray[np.float64]:
    """Return how often each image (L,) is to be drawn, relative to the others, at least 1.

        r_i = max over the classes c in image i of max(1, sqrt(t / f_c))

    f_c is the fraction of the images that contain class c, and t the threshold. With several
    annotators, an image contains the classes of all of them.

    References:
        Gupta, Dollar, Girshick, LVIS: A Dataset for Large Vocabulary Instance Segmentation,
        CVPR 2019, section "repeat factor sampling".
    """
    description = dataset.description

    def present(index: int) -> NDArray[np.bool_]:
        target = stored_target(cast(Sample, dataset.compact(index)))
        if not target.is_floating_point():
            return (count_classes(target, description) > 0).numpy()
        probs = target.where(target != description.ignore_index, 0)  # (C, H, W)
        return (probs > 0).flatten(1).any(1).numpy()

    occurs = np.array(list(bounded_map(present, range(len(dataset)))))  # (L, C)
    frequency = occurs.mean(0)
    factor = np.sqrt(np.maximum(1, threshold / np.maximum(frequency, 1 / len(occurs))))
    factors: NDArray[np.float64] = np.where(occurs, factor, 1.0).max(1)
    return factors


def repeated(factors: NDArray[np.float64], seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return L indices in which image i occurs L r_i / sum(r) times, rounded down or up at random.

    Example:
        >>> repeated(np.array([1.0, 1.0, 2.0, 4.0]), seed=(0,)).tolist()
        [1, 2, 3, 3]
    """
    ends = factors.cumsum() / factors.sum()
    places = (np.arange(len(factors)) + np.random.default_rng(seed).random()) / len(factors)
    indices: NDArray[np.int64] = ends.searchsorted(places, side="right").clip(max=len(ends) - 1)
    return indices
