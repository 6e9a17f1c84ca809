"""The overlap losses: formulas of the overlap statistics."""

from typing import Unpack

import torch
from torch import Tensor

from softiou import _checks
from softiou.losses.base import LossSettings, OverlapLoss
from softiou.overlap import (
    FORMS,
    LEAST_MASS,
    Form,
    OverlapStatistics,
    active_classes,
    tversky_distance,
    tversky_log_distance,
)


class JaccardMetricLoss(OverlapLoss):
    """Jaccard metric loss: soft Jaccard loss for hard labels, and minimal at p = y for soft ones.

        form 1:  1 - (P + Y - D) / (P + Y + D)        form 2:  1 - M / (M + D)

    with `smooth` added to numerator and denominator (twice in form 1, a ratio of doubled masses).
    On [0, 1]^n both are metrics: zero only at p = y, symmetric, and with the triangle inequality.

    Args:
        form: 1 or 2; both are equal for hard labels.
        **settings: See `OverlapLoss`.

    Example:
        >>> logits = torch.tensor([[[4.0, -4.0], [-4.0, 4.0]]])
        >>> bool(JaccardMetricLoss()(logits, torch.tensor([[0, 1]])) < 0.01)
        True

    References:
        Wang, Ning, Blaschko, Jaccard Metric Losses, NeurIPS 2023, arXiv 2302.05666, definition 2.
    """

    def __init__(self, *, form: Form = 1, **settings: Unpack[LossSettings]) -> None:
        super().__init__(**settings)
        _checks.one_of("form", form, (1, 2))
        self.form = form

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return 1 minus the metric form of the Jaccard index (N, C)."""
        return tversky_distance(statistics, smooth=self.smooth, form=self.form)


class DiceSemimetricLoss(OverlapLoss):
    """Dice semimetric loss: the Dice loss for hard labels, and minimal at p = y for soft ones.

        form 1:  1 - (P + Y - D) / (P + Y)        form 2:  1 - 2 M / (2 M + D)

    Args:
        form: 1 or 2; both are equal for hard labels.
        **settings: See `OverlapLoss`.

    References:
        Wang, Popordanoska, Bertels, Lemmens, Blaschko, Dice Semimetric Losses, MICCAI 2023,
        arXiv 2303.16296.
    """

    def __init__(self, *, form: Form = 1, **settings: Unpack[LossSettings]) -> None:
        super().__init__(**settings)
        _checks.one_of("form", form, (1, 2))
        self.form = form

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return 1 minus the semimetric form of the Dice score (N, C)."""
        return tversky_distance(statistics, alpha=0.5, beta=0.5, smooth=self.smooth, form=self.form)


class SoftJaccardLoss(OverlapLoss):
    """Soft Jaccard loss in its product form, a baseline that is unsuitable for soft labels.

        1 - M / (P + Y - M)

    For soft y its minimum is not at p = y, but at a p of zeros and ones.

    Args:
        **settings: See `OverlapLoss`.

    References:
        Rahman, Wang, Optimizing Intersection-over-Union in Deep Neural Networks for Image
        Segmentation, ISVC 2016.
    """

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return 1 minus the product form of the Jaccard index (N, C)."""
        return tversky_distance(statistics, smooth=self.smooth, form="product")


class TverskyLoss(OverlapLoss):
    """Tversky loss, with focal and logarithmic forms, minimal at p = y for soft labels.

        t = (alpha fp + beta fn) / (tp + alpha fp + beta fn + smooth)
        loss = t ** gamma,    or with log=True    (-log(1 - t)) ** gamma

    Args:
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0; beta > alpha favours recall.
        gamma: Focal exponent, above 0. More than 1 emphasises classes with a high loss, less than 1
            those with a low loss (the gamma of Abraham and Khan is 1 / gamma).
        log: Use -log(1 - t) instead of t.
        form: 1, 2 or "product", as in `softiou.overlap`.
        **settings: See `OverlapLoss`.

    References:
        Salehi, Erdogmus, Gholipour, Tversky Loss Function, MLMI 2017, equation 4.
        Abraham, Khan, A Novel Focal Tversky Loss Function, ISBI 2019, equation 4.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        log: bool = False,
        form: Form = 1,
        **settings: Unpack[LossSettings],
    ) -> None:
        super().__init__(**settings)
        _checks.finite("alpha", alpha, 0.0)
        _checks.finite("beta", beta, 0.0)
        _checks.one_of("form", form, FORMS)
        if not isinstance(gamma, int | float) or not 0 < gamma < float("inf"):
            raise ValueError(f"Expected `gamma` to be greater than 0, but got {gamma}.")
        self.alpha, self.beta, self.gamma, self.log, self.form = alpha, beta, gamma, log, form

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the focal Tversky distance, or its logarithmic form (N, C)."""
        compute = tversky_log_distance if self.log else tversky_distance
        t = compute(
            statistics, alpha=self.alpha, beta=self.beta, smooth=self.smooth, form=self.form
        )
        if self.gamma == 1:
            return t
        if self.gamma > 1:
            return t**self.gamma
        # For gamma < 1 the slope at 0 is infinite, and infinity times a zero gradient is NaN. Below
        # `least` the power is therefore replaced by a line through 0.
        least = torch.finfo(t.dtype).eps
        power = t.clamp(min=least) ** self.gamma
        return torch.where(t > least, power, t * least ** (self.gamma - 1))


class GeneralizedDiceLoss(OverlapLoss):
    """Generalised Dice loss, which gives rare classes more weight, for hard and soft labels.

        loss = sum_c w_c D_c / (sum_c w_c (P_c + Y_c) + 2 smooth),    w_c = (min_k Y_k / Y_c)^2

    over the classes of the mean that have target mass. With smooth=0 the weights are the paper's
    1 / Y^2; `smooth` is in pixels of the rarest class. For soft labels, the numerator D is minimal
    at p = y; the paper's numerator, a sum of products, is not.

    Args:
        **settings: See `OverlapLoss`. The loss has one value for all classes, so `class_weights`
            do not change the mean, and reduction="none" repeats the value for each class in it.

    References:
        Sudre, Li, Vercauteren, Ourselin, Cardoso, Generalised Dice Overlap as a Deep Learning Loss
        Function for Highly Unbalanced Segmentations, DLMIA 2017.
    """

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of each image, repeated for all classes (N, C)."""
        P, Y, D = statistics.P, statistics.Y, statistics.D
        active = active_classes(statistics, self.classes, threshold=self.threshold)
        counts = active & (LEAST_MASS < Y)
        rarest = torch.where(counts, Y, torch.inf).amin(1, keepdim=True)
        w = torch.where(counts, rarest / torch.where(counts, Y, 1.0), 0.0) ** 2
        mass = (w * (P + Y)).sum(1, keepdim=True) + 2 * self.smooth
        joint = (w * D).sum(1, keepdim=True) / torch.where(mass > LEAST_MASS, mass, torch.inf)
        return joint.expand_as(D)


class FocalLoss(OverlapLoss):
    """Focal loss (focal cross-entropy), for hard and soft labels.

        loss = mean over pixels of - sum_c |y_c - p_c|^gamma y_c log p_c

    For hard labels this is -(1 - p)^gamma log p of the label; with a sigmoid, negatives have a term
    as well. To combine it with an overlap loss, set `cross_entropy` and `focal_gamma` of that loss;
    for instance, the Unified Focal loss combines it with `TverskyLoss(gamma=...)`.

    Args:
        gamma: Exponent, at least 0; 0 is plain cross-entropy.
        **settings: See `OverlapLoss`; for the paper's alpha, use `cross_entropy_weights` (softmax)
            or `pos_weight` (sigmoid).

    References:
        Lin, Goyal, Girshick, He, Dollár, Focal Loss for Dense Object Detection, ICCV 2017.
        Li et al., Generalized Focal Loss, NeurIPS 2020, equation 2, for soft labels.
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 95, 2022.
    """

    def __init__(self, *, gamma: float = 2.0, **settings: Unpack[LossSettings]) -> None:
        super().__init__(**(settings | LossSettings(cross_entropy=1.0, focal_gamma=gamma)))

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the Jaccard metric loss (N, C), which is reported but not optimised."""
        return tversky_distance(statistics, smooth=self.smooth)


# The classes by the values of `loss.kind` in a configuration.
OVERLAP_LOSSES: dict[str, type[OverlapLoss]] = {
    "jaccard": JaccardMetricLoss,
    "dice": DiceSemimetricLoss,
    "tversky": TverskyLoss,
    "soft_jaccard": SoftJaccardLoss,
}
