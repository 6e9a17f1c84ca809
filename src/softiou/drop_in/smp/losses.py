"""JaccardLoss, DiceLoss and TverskyLoss of segmentation_models_pytorch (0.6).

    score = (tp + smooth) / max(tp + alpha fp + beta fn + smooth, eps)
    loss = mean over classes of [class occurs] (1 - score),    or with log_loss    -log(score)

The sums are over the batch; a class without target mass has a loss of 0 in the mean.
Shapes: N images, C classes, *S space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softiou import _checks
from softiou.drop_in.base import SettingsModule, settings, smoothed_distance
from softiou.drop_in.smp.inputs import MODES, class_weights_for, read, several_classes
from softiou.overlap import OverlapStatistics, overlap_statistics
from softiou.overlap.scores import class_indices, overlap_and_errors
from softiou.targets import Target

MULTICLASS_MODE = MODES[1]


@settings
class SmpLoss(SettingsModule):
    """Base class of the three losses, which differ in the weights of the errors.

    Attributes:
        mode: "binary", "multiclass" or "multilabel".
        classes: Indices of the classes in the mean; None for all.
        log_loss: Use -log(score) instead of 1 - score.
        from_logits: False if the input contains probabilities.
        smooth: Added to numerator and denominator, at least 0.
        ignore_index: Label of pixels (entries for multilabel) to ignore.
        eps: Lower bound of the denominator, and of the score in the logarithm, at least 0.
        class_weights: Weights of the classes in the mean (C,), at least 0; not for binary.
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0.
        gamma: Exponent of the mean, above 0.

    Raises:
        ValueError: A setting is out of range or not possible in this mode.
    """

    mode: str
    classes: Sequence[int] | None = None
    log_loss: bool = False
    from_logits: bool = True
    smooth: float = 0.0
    ignore_index: int | None = None
    eps: float = 1e-7

    alpha = beta = gamma = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        _checks.one_of("mode", self.mode, MODES)
        for name in ("smooth", "eps", "alpha", "beta"):
            _checks.in_range(name, getattr(self, name), 0.0)
        if not self.gamma > 0:
            raise ValueError(f"Expected `gamma` to be greater than 0, but got {self.gamma}.")
        weights = self.__dict__.pop("class_weights")
        several_classes(self.mode, classes=self.classes, class_weights=weights)
        self.classes = None if self.classes is None else [int(c) for c in self.classes]
        weights = _checks.class_weights("class_weights", weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self, y_pred: Tensor, y_true: Tensor | Target, valid: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            y_pred: Logits, or probabilities with `from_logits=False`: (N, C, *S), for binary
                (N, 1, *S) or (N, *S).
            y_true: Labels (N, *S) or (N, 1, *S) for binary and multiclass, 0/1 (N, C, *S) for
                multilabel; in each mode also probabilities (N, C, *S), or a target of
                `softiou.targets`.
            valid: Bool (N, *S) or (N, 1, *S), False for ignored pixels.

        Returns:
            A scalar in float32 (float64 for float64 input), at least 0. If no pixel is valid, a 0
            that is still attached to the graph.
        """
        if not self.from_logits:
            activation = "none"
        else:
            activation = "softmax" if self.mode == MULTICLASS_MODE else "sigmoid"
        y_pred, target = read(self.mode, y_pred, y_true, ignore_index=self.ignore_index)
        statistics = overlap_statistics(
            y_pred,
            target,
            activation=activation,
            ignore_index=self.ignore_index,
            valid=None if valid is None else valid.reshape(len(y_pred), *y_pred.shape[2:]),
        )
        return self._mean(self._per_class(statistics.merge_images()))

    def _per_class(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of each class (C,), 0 for those without target mass."""
        tp, errors = overlap_and_errors(statistics, alpha=self.alpha, beta=self.beta, form=1)
        total = tp + errors + self.smooth
        bound = total.clamp(min=self.eps)
        if self.log_loss:
            score = (tp + self.smooth) / torch.where(bound > 0, bound, 1.0)
            loss = -score.clamp(min=self.eps).log()
        else:
            # Where `eps` bounds the denominator, the difference is added to the errors.
            lift = bound - total
            loss = smoothed_distance(
                tp, errors + lift, numerator=self.smooth, denominator=self.smooth
            )
        return torch.where(statistics.Y > 0, loss, 0.0).squeeze(0)

    def _mean(self, loss: Tensor) -> Tensor:
        """Return the mean over the classes (C,) to the power of gamma."""
        weights = class_weights_for(self._buffers["class_weights"], len(loss))
        if self.classes is not None:
            chosen = class_indices(self.classes, len(loss))
            loss = loss[chosen]
            weights = None if weights is None else weights[chosen]
        mean = loss.mean() if weights is None else (loss * weights).sum() / weights.sum()
        if self.gamma == 1:
            return mean
        # For gamma < 1 the slope at 0 is infinite, and infinity times a zero gradient is NaN.
        return torch.where(mean != 0, torch.where(mean != 0, mean, 1.0) ** self.gamma, 0.0)


@settings
class JaccardLoss(SmpLoss):
    """`smp.losses.JaccardLoss`, in one pass over the pixels, with soft labels in every mode.

    With alpha = beta = 1; settings as in `SmpLoss`. In new code, use `softiou.JaccardMetricLoss`,
    which leaves absent classes out of the mean.

    Example:
        >>> loss = JaccardLoss("multiclass", from_logits=False)
        >>> probs, labels = torch.tensor([[[1.0, 0.5], [0.0, 0.5]]]), torch.tensor([[0, 1]])
        >>> loss(probs, labels)  # 1 - 1 / 1.5 and 1 - 0.5 / 1
        tensor(0.4167)
    """

    class_weights: Sequence[float] | Tensor | None = None


@settings
class DiceLoss(SmpLoss):
    """`smp.losses.DiceLoss`, in one pass over the pixels, with soft labels in every mode.

    With alpha = beta = 1/2; settings as in `SmpLoss`. In new code, use
    `softiou.DiceSemimetricLoss`.
    """

    class_weights: Sequence[float] | Tensor | None = None

    alpha = beta = 0.5


@settings
class TverskyLoss(SmpLoss):
    """`smp.losses.TverskyLoss`, in one pass over the pixels, with soft labels in every mode.

    Settings as in `SmpLoss`; gamma is the exponent of the mean over the classes. In new code, use
    `softiou.TverskyLoss`, which applies gamma to the loss of each class.
    """

    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 1.0
    class_weights: Sequence[float] | Tensor | None = None
