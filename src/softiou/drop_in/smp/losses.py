"""JaccardLoss, DiceLoss and TverskyLoss as segmentation_models_pytorch (0.6) calls them.

    score = (tp + smooth) / max(tp + alpha fp + beta fn + smooth, eps)
    loss = mean over classes of [class occurs] (1 - score),    or with log_loss    -log(score)

The sums run over the batch; a class without target mass counts as 0 in the mean.
Shapes: N images, C classes, *S space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softiou import _checks
from softiou.drop_in.distance import smoothed_distance
from softiou.drop_in.smp.inputs import MODES, read
from softiou.overlap import OverlapStatistics, overlap_statistics
from softiou.overlap.scores import overlap_and_errors
from softiou.targets import Target

BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE = MODES


class SmpLoss(nn.Module):
    """Base of the three losses, which differ in the weights of the errors.

    Args:
        mode: "binary", "multiclass" or "multilabel".
        classes: Indices of the classes that enter the mean; None for all.
        log_loss: Take -log of the score instead of 1 - score.
        from_logits: False for probabilities.
        smooth: Added above and below, at least 0.
        ignore_index: Label value whose pixels (entries for multilabel) do not count.
        eps: Least value of the denominator, and of the score under the logarithm, at least 0.
        class_weights: Weights of the classes in the mean (C,), at least 0; not for binary.
        alpha: Price of false positives, at least 0.
        beta: Price of false negatives, at least 0.
        gamma: Exponent of the mean, greater than 0.

    Raises:
        ValueError: A setting is out of range, or is not for this mode.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        mode: str,
        classes: Sequence[int] | None,
        log_loss: bool,
        from_logits: bool,
        smooth: float,
        ignore_index: int | None,
        eps: float,
        class_weights: Sequence[float] | None,
        *,
        alpha: float,
        beta: float,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        _checks.one_of("mode", mode, MODES)
        for name, value in {"smooth": smooth, "eps": eps, "alpha": alpha, "beta": beta}.items():
            _checks.in_range(name, value, 0.0)
        if not gamma > 0:
            raise ValueError(f"Expected `gamma` to be greater than 0, but got {gamma}.")
        for name, setting in {"classes": classes, "class_weights": class_weights}.items():
            if setting is not None and mode == BINARY_MODE:
                raise ValueError(
                    f"`{name}` is for several classes, and mode='binary' has one: leave it out."
                )
        self.mode, self.log_loss, self.from_logits = mode, log_loss, from_logits
        self.smooth, self.ignore_index, self.eps = smooth, ignore_index, eps
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.classes = None if classes is None else [int(c) for c in classes]
        self.register_buffer("class_weights", _weights(class_weights), persistent=False)

    def forward(self, y_pred: Tensor, y_true: Tensor | Target) -> Tensor:
        """Compute the loss.

        Args:
            y_pred: Logits, or probabilities with `from_logits=False`: (N, C, *S), for binary
                (N, 1, *S) or (N, *S).
            y_true: Labels (N, *S) or (N, 1, *S) for binary and multiclass, 0/1 (N, C, *S) for
                multilabel; for each mode also probabilities (N, C, *S), or a `softiou.targets`
                target.

        Returns:
            A scalar in float32 (float64 for float64 input), at least 0; a 0 that is still attached
            to the graph when no pixel counts.
        """
        if not self.from_logits:
            activation = "none"
        else:
            activation = "softmax" if self.mode == MULTICLASS_MODE else "sigmoid"
        y_pred, target = read(self.mode, y_pred, y_true, ignore_index=self.ignore_index)
        statistics = overlap_statistics(
            y_pred, target, activation=activation, ignore_index=self.ignore_index
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
            # What `eps` lifts the denominator by counts as error, as in 1 - score.
            lift = bound - total
            loss = smoothed_distance(
                tp, errors + lift, numerator=self.smooth, denominator=self.smooth
            )
        return torch.where(statistics.Y > 0, loss, 0.0).squeeze(0)

    def _mean(self, loss: Tensor) -> Tensor:
        """Average the classes (C,), and raise the mean to the power of gamma."""
        weights = self.class_weights
        if weights is not None and len(weights) != len(loss):
            raise ValueError(
                f"Expected {len(loss)} `class_weights`, one for each class of `y_pred`, but got "
                f"{len(weights)}."
            )
        if self.classes is not None:
            _check_indices(self.classes, len(loss))
            loss = loss[self.classes]
            weights = None if weights is None else weights[self.classes]
        mean = loss.mean() if weights is None else (loss * weights).sum() / weights.sum()
        if self.gamma == 1:
            return mean
        # Below 1 the slope at 0 is infinite, and infinity times a zero gradient is NaN.
        return torch.where(mean != 0, torch.where(mean != 0, mean, 1.0) ** self.gamma, 0.0)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"{self.mode!r}, from_logits={self.from_logits}, ignore_index={self.ignore_index}"


class JaccardLoss(SmpLoss):
    """`smp.losses.JaccardLoss`, in one pass over the pixels and for soft labels in every mode.

    With alpha = beta = 1; arguments as in `SmpLoss`. For new code: `softiou.JaccardMetricLoss`,
    whose mean leaves absent classes out.

    Example:
        >>> loss = JaccardLoss("multiclass", from_logits=False)
        >>> probs, labels = torch.tensor([[[1.0, 0.5], [0.0, 0.5]]]), torch.tensor([[0, 1]])
        >>> loss(probs, labels)  # 1 - 1 / 1.5 and 1 - 0.5 / 1
        tensor(0.4167)
    """

    def __init__(
        self,
        mode: str,
        classes: Sequence[int] | None = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: int | None = None,
        eps: float = 1e-7,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            mode,
            classes,
            log_loss,
            from_logits,
            smooth,
            ignore_index,
            eps,
            class_weights,
            alpha=1.0,
            beta=1.0,
        )


class DiceLoss(SmpLoss):
    """`smp.losses.DiceLoss`, in one pass over the pixels and for soft labels in every mode.

    With alpha = beta = 1/2; arguments as in `SmpLoss`. For new code: `softiou.DiceSemimetricLoss`.
    """

    def __init__(
        self,
        mode: str,
        classes: Sequence[int] | None = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: int | None = None,
        eps: float = 1e-7,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            mode,
            classes,
            log_loss,
            from_logits,
            smooth,
            ignore_index,
            eps,
            class_weights,
            alpha=0.5,
            beta=0.5,
        )


class TverskyLoss(SmpLoss):
    """`smp.losses.TverskyLoss`, in one pass over the pixels and for soft labels in every mode.

    Arguments as in `SmpLoss`; gamma is the exponent of the mean over the classes. For new code:
    `softiou.TverskyLoss`, which raises each class to the power of gamma.
    """

    def __init__(
        self,
        mode: str,
        classes: Sequence[int] | None = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: int | None = None,
        eps: float = 1e-7,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            mode,
            classes,
            log_loss,
            from_logits,
            smooth,
            ignore_index,
            eps,
            class_weights,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
        )


def _check_indices(classes: list[int], num_classes: int) -> None:
    wrong = [c for c in classes if not -num_classes <= c < num_classes]
    if wrong or not classes:
        raise ValueError(
            f"Expected `classes` to be indices of the {num_classes} classes of `y_pred`, at least "
            f"one, but got {classes}. Leave it out for all classes."
        )


def _weights(weights: Sequence[float] | None) -> Tensor | None:
    if weights is None:
        return None
    tensor = torch.as_tensor(weights, dtype=torch.float32).detach().clone()
    if tensor.ndim != 1 or not bool((tensor >= 0).all() & (tensor.sum() > 0)):
        raise ValueError(
            "Expected `class_weights` to be one number a class, at least 0 and not all 0, but got "
            f"{tensor.tolist()}."
        )
    return tensor
