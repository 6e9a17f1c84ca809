"""Generalized energy distance: does the variation of predictions match that of the annotators?

Shapes: N images, S samples, R annotators, K = S + R masks, C classes, *S space, P pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.image_metrics import ExactMetric
from softiou.targets.hard import valid_labels


class GeneralizedEnergyDistance(ExactMetric):
    """Distance of the distribution of predictions from that of the annotators; mean over images.

        D^2 = 2 E[d(S, Y)] - E[d(S, S')] - E[d(Y, Y')]

    with samples S, S', annotators' masks Y, Y', and d = 1 - mean IoU over the classes that occur in
    either of the two masks; d = 0 if there are none. The expectations are means over all pairs,
    including each mask with itself, so the distance of the annotators to themselves is exactly 0.
    A single prediction (S = 1) cannot match annotators who disagree; to draw samples from a
    probability map, see `sample_levels`.

    Args:
        num_classes: C, at least 2.
        classes: Indices of the classes over which d averages; None for all. For a binary task, use
            [1] to leave out the background.
        ignore_index: Label of pixels that an annotator did not label.
        **kwargs: Arguments of `torchmetrics.Metric`.

    Note:
        The state is two float64 numbers. An update needs memory for two float64 matrices (K, P).

    Example:
        >>> metric = GeneralizedEnergyDistance(num_classes=2, classes=[1])
        >>> masks = torch.tensor([[[0, 1, 1], [0, 0, 1]]])  # two annotators with an IoU of 1/2
        >>> metric.update(torch.tensor([[[0, 0, 1]]]), masks)
        >>> metric.compute()  # 2 (1/2 + 0) / 2 - 0 - (0 + 1/2 + 1/2 + 0) / 4
        tensor(0.2500, dtype=torch.float64)

    References:
        Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous Images, NeurIPS 2018, arXiv
        1806.05034, "performance measures". The support of unlabelled pixels is an addition.
    """

    higher_is_better = False

    total: Tensor
    images: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        classes: Sequence[int] | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes = _chosen(classes, num_classes)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        for name in ("total", "images"):
            zero = torch.zeros((), dtype=torch.float64)
            self.add_state(name, default=zero, dist_reduce_fx="sum")
        self._share_states_by(num_classes, self.classes, ignore_index)

    def update(self, samples: Tensor, masks: Tensor, valid: Tensor | None = None) -> None:
        """Add images; for the shapes see `generalized_energy_distance`."""
        distances = generalized_energy_distance(
            samples,
            masks,
            num_classes=self.num_classes,
            classes=self.classes,
            ignore_index=self.ignore_index,
            valid=valid,
        )
        self.total += distances.nansum()
        self.images += distances.isfinite().sum()

    def compute(self) -> Tensor:
        """Return the mean D^2 of the images, a float64 scalar; NaN without labelled images."""
        return self.total / self.images


def generalized_energy_distance(
    samples: Tensor,
    masks: Tensor,
    *,
    num_classes: int,
    classes: Sequence[int] | None = None,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Compute the generalized energy distance D^2 of each image; see `GeneralizedEnergyDistance`.

    Args:
        samples: Predicted class indices (N, S, *S) of any integer dtype, S at least 1.
        masks: Class indices (N, R, *S) of the annotators, R at least 1; `ignore_index` and values
            that are not a class mark unlabelled pixels.
        num_classes, classes, ignore_index: As in `GeneralizedEnergyDistance`.
        valid: Bool (N, *S), False for pixels to ignore.

    Returns:
        float64 (N,), at most 2. At least 0 for a single class if all annotators labelled the same
        pixels. NaN for images without labelled pixels.

    Raises:
        TypeError: `samples` or `masks` are not of an integer dtype, or `valid` is not bool.
        ValueError: Shapes do not match, or samples lie outside the classes at a labelled pixel.

    Note:
        Two masks are compared in the pixels that both annotators labelled, two samples in those
        that any annotator labelled. Pairs without such pixels are left out, so images with fewer
        annotators can be padded with masks of `ignore_index`.
    """
    chosen = _chosen(classes, num_classes)
    _check_shapes(samples, masks)
    valid = _checks.pixel_map("valid", valid, (len(masks), *masks.shape[2:]), boolean=True)
    distances = torch.empty(len(masks), dtype=torch.float64, device=masks.device)
    for n in range(len(masks)):
        # One image at a time, to limit the memory to (K, P).
        seen, given = samples[n].flatten(1).long(), masks[n].flatten(1).long()
        labelled = valid_labels(given, num_classes=num_classes, ignore_index=ignore_index)
        if valid is not None:
            labelled &= valid[n].flatten()
        anyone = labelled.any(0)
        seen, given, labelled = seen[:, anyone], given[:, anyone], labelled[:, anyone]
        _check_range(seen, num_classes)
        pairs = _pair_distances(
            torch.cat([seen, given]),
            torch.cat([torch.ones_like(seen, dtype=torch.bool), labelled]),
            chosen,
        )
        S = len(seen)
        between, samples_alone, masks_alone = pairs[:S, S:], pairs[:S, :S], pairs[S:, S:]
        distances[n] = 2 * between.nanmean() - samples_alone.nanmean() - masks_alone.nanmean()
    return distances


def _pair_distances(masks: Tensor, labelled: Tensor, classes: Sequence[int]) -> Tensor:
    """Return d of all pairs of masks (K, P), float64 (K, K); NaN for pairs without common pixels.

    `labelled` is bool (K, P); `classes` are the indices of the classes to average over.
    """
    # float64 counts exactly, and is not affected by autocast.
    weight = labelled.double()
    common = weight @ weight.T
    total, number = torch.zeros_like(common), torch.zeros_like(common)
    for c in classes:
        member = (masks == c) & labelled
        if not bool(member.any()):
            continue  # most classes are absent, and this check is much faster than the products
        one = member.double()
        both = one @ one.T
        here = one @ weight.T  # pixels of class c in the first mask that the second one labelled
        union = here + here.T - both
        total += both / union.clamp(min=1)
        number += union > 0
    mean_iou = torch.where(number > 0, total / number, 1.0)
    return torch.where(common > 0, 1 - mean_iou, torch.nan)


def sample_levels(probs: Tensor, count: int) -> Tensor:
    """Draw `count` masks from one probability map, by the inverse CDF at evenly spaced levels.

        mask_i = the first class c with p_0 + ... + p_c > t_i,    t_i = (i + 1/2) / count

    In every pixel, the frequency of each class in the masks equals its probability to within one
    mask. For two classes the masks are the nested level sets {p_1 >= 1 - t_i}, like annotators who
    differ in how much foreground they draw. For more classes they depend on the order of the
    classes. The function is deterministic.

    Args:
        probs: Probabilities (N, C, *S), floating.
        count: Number of masks, at least 1.

    Returns:
        Class indices, int64 (N, count, *S).

    Raises:
        TypeError: `probs` are not floating.
        ValueError: `probs` have no dimension of classes, or `count` is below 1.

    Example:
        >>> sample_levels(torch.tensor([[[0.75, 0.25], [0.25, 0.75]]]), 4).tolist()
        [[[0, 0], [0, 1], [0, 1], [1, 1]]]
    """
    _checks.in_range("count", count, 1)
    if not probs.is_floating_point():
        raise TypeError(f"Expected `probs` to be floating probabilities, but got {probs.dtype}.")
    if probs.ndim < 3:
        raise ValueError(
            f"Expected `probs` to have shape (N, C, *S), but got {tuple(probs.shape)}. For one "
            "image, use `probs.unsqueeze(0)`."
        )
    N, C, *space = probs.shape
    levels = (torch.arange(count, dtype=torch.float64, device=probs.device) + 0.5) / count
    levels = levels.view(-1, *([1] * len(space)))  # (count, 1, ...)
    masks = torch.zeros(N, count, *space, dtype=torch.int64, device=probs.device)
    # The sum of half-precision probabilities may be below the last level, so divide by it.
    whole = probs.sum(1, dtype=torch.float64)
    below = torch.zeros_like(whole)
    for c in range(C - 1):
        below = below + probs[:, c]
        masks += (below / whole).unsqueeze(1) <= levels  # (N, 1, *S) -> (N, count, *S)
    return masks


def _chosen(classes: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    """Return the indices of the classes to average over."""
    _checks.in_range("num_classes", num_classes, 2)
    chosen = tuple(range(num_classes)) if classes is None else tuple(classes)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"Expected `classes` to be distinct and not empty, but got {chosen}.")
    for c in chosen:
        _checks.in_range("classes", c, 0, num_classes - 1)
    return chosen


def _check_shapes(samples: Tensor, masks: Tensor) -> None:
    """Raise unless these are class indices (N, S, *S) and (N, R, *S)."""
    for name, tensor in (("samples", samples), ("masks", masks)):
        if tensor.is_floating_point() or tensor.is_complex():
            raise TypeError(
                f"Expected `{name}` to hold integer class indices, but got {tensor.dtype}. For "
                "probabilities, use `sample_levels(probs, count)`."
            )
    same = samples.shape[:1] == masks.shape[:1] and samples.shape[2:] == masks.shape[2:]
    if masks.ndim < 3 or not same or 0 in (samples.shape[1], masks.shape[1]):
        raise ValueError(
            "Expected `samples` (N, S, *S) and `masks` (N, R, *S) of the same images and space, "
            f"but got {tuple(samples.shape)} and {tuple(masks.shape)}. For one prediction per "
            "image, use `unsqueeze(1)`."
        )


def _check_range(samples: Tensor, num_classes: int) -> None:
    if samples.numel() and bool(((samples < 0) | (samples >= num_classes)).any()):
        raise ValueError(
            f"Expected `samples` to hold class indices in [0, {num_classes - 1}] in labelled "
            f"pixels, but found {samples.min().item()} to {samples.max().item()}."
        )
