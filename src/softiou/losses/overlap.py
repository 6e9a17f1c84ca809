"""The overlap losses: each a small formula of the statistics, from `softiou.overlap`."""

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
    """Jaccard metric loss: equals the soft Jaccard loss on hard labels, stays right on soft ones.

        form 1:  1 - (P + Y - D) / (P + Y + D)        form 2:  1 - M / (M + D)

    with `smooth` added above and below (twice in form 1, which is a ratio of doubled masses). On
    [0, 1]^n both are metrics: zero only at p = y, symmetric, and they obey the triangle inequality.

    Args:
        form: 1 or 2; they agree on hard labels.
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
    """Dice semimetric loss: the Dice loss whose minimum for soft labels is at p = y.

        form 1:  1 - (P + Y - D) / (P + Y)        form 2:  1 - 2 M / (2 M + D)

    Args:
        form: 1 or 2; they agree on hard labels.
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
    """Product form of the soft Jaccard loss: the classic baseline, wrong for soft labels.

        1 - M / (P + Y - M)

    For a soft y its minimum is at a vertex of the cube instead of at p = y; use it to compare.

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
    """Tversky loss with its focal and logarithmic forms, right for soft labels.

        t = (alpha fp + beta fn) / (tp + alpha fp + beta fn + smooth)
        loss = t ** gamma,    or with log=True    (-log(1 - t)) ** gamma

    Args:
        alpha: Price of false positives, at least 0.
        beta: Price of false negatives, at least 0; more than alpha favours recall.
        gamma: Focal exponent, greater than 0. Above 1 it turns to the classes that are wrong, below
            1 to those that are almost right (Abraham and Khan's gamma is one over this one).
        log: Take -log of the score.
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
        # Below 1 the slope at 0 is infinite, and infinity times a zero gradient is NaN: a straight
        # line leads from the smallest distance that counts to 0.
        least = torch.finfo(t.dtype).eps
        power = t.clamp(min=least) ** self.gamma
        return torch.where(t > least, power, t * least ** (self.gamma - 1))


class GeneralizedDiceLoss(OverlapLoss):
    """Generalised Dice loss, whose classes count the more the rarer they are; for soft labels, too.

        loss = sum_c w_c D_c / (sum_c w_c (P_c + Y_c) + 2 smooth),    w_c = (min_k Y_k / Y_c)^2

    over the classes of the mean that have target mass. With smooth=0 the weights are the paper's
    1 / Y^2; `smooth` is in pixels of the rarest class. On soft labels the paper's numerator, of
    products, is not least at p = y; this one, of differences, is.

    Args:
        **settings: See `OverlapLoss`; there is one value for all classes, so that `class_weights`
            and reduction="none" tell the classes in the mean from the others, no more.

    References:
        Sudre, Li, Vercauteren, Ourselin, Cardoso, Generalised Dice Overlap as a Deep Learning Loss
        Function for Highly Unbalanced Segmentations, DLMIA 2017.
    """

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of an image in each of its classes (N, C)."""
        P, Y, D = statistics.P, statistics.Y, statistics.D
        active = active_classes(statistics, self.classes, threshold=self.threshold)
        counts = active & (LEAST_MASS < Y)
        rarest = torch.where(counts, Y, torch.inf).amin(1, keepdim=True)
        w = torch.where(counts, rarest / torch.where(counts, Y, 1.0), 0.0) ** 2
        mass = (w * (P + Y)).sum(1, keepdim=True) + 2 * self.smooth
        joint = (w * D).sum(1, keepdim=True) / torch.where(mass > LEAST_MASS, mass, torch.inf)
        return joint.expand_as(D)


class FocalLoss(OverlapLoss):
    """Focal cross-entropy by itself, for hard and soft labels.

        loss = mean over pixels of - sum_c |y_c - p_c|^gamma y_c log p_c

    For hard labels this is -(1 - p)^gamma log p of the label; with a sigmoid the absence of a class
    has a term, too. To mix it with an overlap, give any loss `cross_entropy` and `focal_gamma`; the
    Unified Focal loss is such a mixture, of `TverskyLoss(gamma=...)`.

    Args:
        gamma: Exponent, at least 0; 0 is the plain cross-entropy.
        **settings: See `OverlapLoss`; the paper's alpha is `cross_entropy_weights`, `pos_weight`.

    References:
        Lin, Goyal, Girshick, He, Dollár, Focal Loss for Dense Object Detection, ICCV 2017.
        Li et al., Generalized Focal Loss, NeurIPS 2020, equation 2, for soft labels.
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 95, 2022.
    """

    def __init__(self, *, gamma: float = 2.0, **settings: Unpack[LossSettings]) -> None:
        super().__init__(**(settings | LossSettings(cross_entropy=1.0, focal_gamma=gamma)))

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the Jaccard metric distance (N, C), which is reported and not learned."""
        return tversky_distance(statistics, smooth=self.smooth)


# Under the names of `loss.kind` in a configuration.
OVERLAP_LOSSES: dict[str, type[OverlapLoss]] = {
    "jaccard": JaccardMetricLoss,
    "dice": DiceSemimetricLoss,
    "tversky": TverskyLoss,
    "soft_jaccard": SoftJaccardLoss,
}
