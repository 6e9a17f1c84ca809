"""The losses of segmentation_models_pytorch (0.6) that are not overlap losses, in plain PyTorch.

Shapes: N images, C classes, *S space, P valid pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.drop_in.base import SettingsModule, settings
from softiou.drop_in.smp.inputs import (
    MODES,
    MULTICLASS_MODE,
    MULTILABEL_MODE,
    class_weights_for,
    several_classes,
)
from softiou.losses import lovasz_extension
from softiou.targets.hard import validate_on_cpu

REDUCTIONS = ("mean", "sum", "none")


@settings
class FocalLoss(SettingsModule):
    """`smp.losses.FocalLoss`: the one-vs-rest focal loss of each class, then their mean.

        (1 - p_t)^gamma BCE(x, y),    p_t the probability of the label

    Args:
        mode: "binary", "multiclass" (also with probabilities as labels) or "multilabel".
        alpha: Factor for y = 1; that for y = 0 is 1 - alpha. None for no factors.
        gamma: Exponent, at least 0.
        ignore_index: Label of pixels (entries for multilabel) to ignore.
        from_logits: False if the input contains probabilities.
        eps: Probabilities are clipped to [eps, 1 - eps].
        reduction: Reduction over the pixels, "mean", "sum" or "none", before that over the classes.
        normalized: Divide by the sum of (1 - p_t)^gamma over the pixels of the class.
        reduced_threshold: The power is ((1 - p_t) / reduced_threshold)^gamma, or 1 where p_t is
            below it.
        class_weights: Weights of the classes in the mean (C,); not for binary.

    References:
        Lin, Goyal, Girshick, He, Dollar, Focal Loss for Dense Object Detection, ICCV 2017.
    """

    mode: str
    alpha: float | None = None
    gamma: float = 2.0
    ignore_index: int | None = None
    from_logits: bool = True
    eps: float = 1e-7
    reduction: str = "mean"
    normalized: bool = False
    reduced_threshold: float | None = None
    class_weights: Sequence[float] | Tensor | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        _checks.one_of("mode", self.mode, MODES)
        _checks.one_of("reduction", self.reduction, REDUCTIONS)
        several_classes(self.mode, class_weights=self.class_weights)
        self.class_weights = _checks.class_weights("class_weights", self.class_weights)

    def forward(self, y_pred: Tensor, y_true: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the loss; shapes as in `SmpLoss.forward`."""
        if not self.from_logits:
            y_pred = y_pred.clamp(self.eps, 1 - self.eps)
            y_pred = y_pred.log() if self.mode == MULTICLASS_MODE else y_pred.logit()
        classes = _classes(self.mode, y_pred, y_true, self.ignore_index, valid)
        losses = torch.stack([self._of_class(x, y) for x, y in classes])
        weights = class_weights_for(self.class_weights, len(losses))
        if weights is not None:
            weights = weights.to(losses)
            return (losses * weights.view(-1, *[1] * (losses.ndim - 1))).sum() / weights.sum()
        return losses.mean() if len(losses) > 1 else losses[0]

    def _of_class(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the one-vs-rest loss of a class for logits (P,)."""
        y = y.to(x.dtype)
        error = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        p = (-error).exp()
        focus = ((1 - p) / (self.reduced_threshold or 1.0)) ** self.gamma
        if self.reduced_threshold is not None:
            focus = focus.masked_fill(p < self.reduced_threshold, 1.0)
        loss = focus * error
        if self.alpha is not None:
            loss = loss * (self.alpha * y + (1 - self.alpha) * (1 - y))
        if self.normalized:
            loss = loss / focus.sum().clamp(min=1e-6)
        return _reduced(loss, self.reduction)


@settings
class LovaszLoss(SettingsModule):
    """`smp.losses.LovaszLoss`: Lovasz hinge (binary, multilabel) or Lovasz-softmax, hard labels.

    Args:
        mode: "binary", "multiclass" (mean over classes in the labels) or "multilabel" (as binary).
        per_image: Average over the losses of the images, instead of one loss for the batch.
        ignore_index: Label of pixels (entries for multilabel) to ignore.
        from_logits: Has no effect, as in the original: logits are expected.

    References:
        Berman, Rannen Triki, Blaschko, The Lovasz-Softmax Loss, CVPR 2018, algorithm 1.
    """

    mode: str
    per_image: bool = False
    ignore_index: int | None = None
    from_logits: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        _checks.one_of("mode", self.mode, MODES)

    def forward(self, y_pred: Tensor, y_true: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the loss; shapes as in `SmpLoss.forward`."""
        groups = [slice(n, n + 1) for n in range(len(y_pred))] if self.per_image else [slice(None)]
        losses = [
            self._of_images(y_pred[n], y_true[n], None if valid is None else valid[n])
            for n in groups
        ]
        return torch.stack(losses).mean()

    def _of_images(self, y_pred: Tensor, y_true: Tensor, valid: Tensor | None) -> Tensor:
        if self.mode != MULTICLASS_MODE:
            classes = _classes(self.mode, y_pred, y_true, self.ignore_index, valid)
            x, y = (torch.cat(tensors) for tensors in zip(*classes, strict=True))
            y = y.to(x.dtype)
            return lovasz_extension((1 - x * (2 * y - 1)).relu(), y)
        classes = _classes(self.mode, y_pred.softmax(1), y_true, self.ignore_index, valid)
        losses = [lovasz_extension((y.to(p) - p).abs(), y.to(p)) for p, y in classes if y.any()]
        return torch.stack(losses).mean() if losses else 0.0 * y_pred.sum()


@settings
class SoftCrossEntropyLoss(SettingsModule):
    """`smp.losses.SoftCrossEntropyLoss`: cross-entropy with label smoothing.

    In new code, use `JaccardMetricLoss(cross_entropy=1.0)` with `targets.smooth`.

    Args:
        reduction: "mean" over all pixels, in which ignored pixels have a loss of 0, "sum" or
            "none".
        smooth_factor: Label smoothing in [0, 1]; None for 0.
        ignore_index: Label of ignored pixels; None if there are none.
        dim: Dimension of the classes.
    """

    reduction: str = "mean"
    smooth_factor: float | None = None
    ignore_index: int | None = -100
    dim: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        _checks.one_of("reduction", self.reduction, REDUCTIONS)

    def forward(self, y_pred: Tensor, y_true: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the loss of logits (N, C, *S), labels (N, *S), and `valid`, bool of their shape.

        As in the original, "none" returns (N, 1, *S), or with ignore_index=None (N, *S).
        """
        logits = y_pred.movedim(self.dim, 1)
        if y_true.ndim == logits.ndim and not y_true.is_floating_point():
            y_true = y_true.squeeze(self.dim)
        loss = F.cross_entropy(
            logits,
            y_true,
            ignore_index=-100 if self.ignore_index is None else self.ignore_index,
            reduction="none",
            label_smoothing=self.smooth_factor or 0.0,
        )
        loss = loss if valid is None else loss.where(valid.reshape(loss.shape), 0.0)
        one = self.reduction == "none" and self.ignore_index is not None
        return _reduced(loss.unsqueeze(self.dim) if one else loss, self.reduction)


@settings
class SoftBCEWithLogitsLoss(SettingsModule):
    """`smp.losses.SoftBCEWithLogitsLoss`: binary cross-entropy with ignored and smoothed labels.

    Args:
        weight: As in `torch.nn.BCEWithLogitsLoss`.
        ignore_index: Label of entries that have a loss of 0; None if there are none.
        reduction: "mean" over all entries, "sum" or "none".
        smooth_factor: Label smoothing e: y becomes y (1 - e) + (1 - y) e; None for 0.
        pos_weight: As in `torch.nn.BCEWithLogitsLoss`.
    """

    weight: Tensor | None = None
    ignore_index: int | None = -100
    reduction: str = "mean"
    smooth_factor: float | None = None
    pos_weight: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        _checks.one_of("reduction", self.reduction, REDUCTIONS)
        for name in ("weight", "pos_weight"):
            self.register_buffer(name, self.__dict__.pop(name))

    def forward(self, y_pred: Tensor, y_true: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the loss of logits and labels of the same shape, and `valid`, bool (N, *S)."""
        if valid is not None:
            valid = valid.reshape(len(y_pred), -1, *y_pred.shape[2:]).expand_as(y_pred)
        validate_on_cpu(y_true, ignore_index=self.ignore_index, valid=valid)
        y = y_true.to(y_pred.dtype)
        if self.smooth_factor is not None:
            y = (1 - y) * self.smooth_factor + y * (1 - self.smooth_factor)
        loss = F.binary_cross_entropy_with_logits(
            y_pred, y, self.weight, pos_weight=self.pos_weight, reduction="none"
        )
        if self.ignore_index is not None:
            loss = loss.where(y_true != self.ignore_index, 0.0)
        loss = loss if valid is None else loss.where(valid, 0.0)
        return _reduced(loss, self.reduction)


@settings
class MCCLoss(SettingsModule):
    """`smp.losses.MCCLoss`: 1 - Matthews correlation coefficient, for probabilities of one class.

    Args:
        eps: Added to each of tp, tn, fp and fn.
    """

    eps: float = 1e-5

    def forward(self, y_pred: Tensor, y_true: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the loss of probabilities and labels 0/1, (N, *S) or (N, 1, *S)."""
        ((p, y),) = _classes("binary", y_pred, y_true, None, valid)
        y = y.to(p.dtype)
        pairs = ((p, y), (1 - p, 1 - y), (p, 1 - y), (1 - p, y))
        tp, tn, fp, fn = ((a * b).sum() + self.eps for a, b in pairs)
        product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return 1 - (tp * tn - fp * fn) / product.sqrt()


def _classes(
    mode: str, y_pred: Tensor, y_true: Tensor, ignore_index: int | None, valid: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """Return prediction and label (P,) of every class for the valid pixels."""
    num_classes = 2
    if mode == MULTICLASS_MODE and not y_true.is_floating_point():
        labels, num_classes = y_true.reshape(len(y_pred), *y_pred.shape[2:]), y_pred.shape[1]
        pairs = [(x, labels == c, labels) for c, x in enumerate(y_pred.unbind(1))]
    elif mode in (MULTICLASS_MODE, MULTILABEL_MODE):
        labels = y_true.reshape(y_pred.shape).movedim(1, 0)  # (C, N, *S)
        pairs = [(x, y, y) for x, y in zip(y_pred.unbind(1), labels, strict=True)]
    else:
        labels = y_true.reshape(-1)
        pairs = [(y_pred.reshape(-1), labels, labels)]
    valid = None if valid is None else valid.reshape(pairs[0][2].shape)
    validate_on_cpu(labels, num_classes=num_classes, ignore_index=ignore_index, valid=valid)
    found = []
    for x, y, label in pairs:
        keep = valid
        if ignore_index is not None:
            known = label != ignore_index
            keep = known if keep is None else keep & known
        found.append((x.reshape(-1), y.reshape(-1)) if keep is None else (x[keep], y[keep]))
    return found


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()
