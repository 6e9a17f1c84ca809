"""The overlap losses: each a small formula of the statistics, from `softiou.overlap`."""

from typing import Unpack

import torch
from torch import Tensor

from softiou import _checks
from softiou.losses.base import LossSettings, OverlapLoss
from softiou.overlap import (
    FORMS,
    Form,
    OverlapStatistics,
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
        if not 0 < gamma < float("inf"):
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


# Under the names of `loss.kind` in a configuration.
OVERLAP_LOSSES: dict[str, type[OverlapLoss]] = {
    "jaccard": JaccardMetricLoss,
    "dice": DiceSemimetricLoss,
    "tversky": TverskyLoss,
    "soft_jaccard": SoftJaccardLoss,
}
