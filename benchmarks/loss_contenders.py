"""The compared losses: those of softiou, plain formulas, and those of other libraries.

All use the whole batch (`per="batch"`) without smoothing, so that they compute the same number;
only kornia's average over the images. Shapes: N images, C classes, (H, W) the target.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from softiou import JaccardMetricLoss, targets
from softiou.overlap.operators import IMPLEMENTATIONS

Loss = Callable[[Tensor, Tensor], Tensor]

PEERS = ("smp", "monai", "kornia", "kornia dice")
CROSS_ENTROPY = 0.25  # weight in the paper
EPSILON, WIDTH = 0.5, 3  # boundary label smoothing of the paper
_MONAI = {"softmax": True, "jaccard": True, "batch": True}


class UnavailableError(Exception):
    """A contender cannot be measured: a package is missing, or a case is not supported."""


def losses(case: str, activation: str = "softmax") -> dict[str, Loss]:
    """Return the contenders of a case by name; the first of softiou uses impl="auto"."""
    softiou = {
        "softiou" if impl == "auto" else f"softiou {impl}": softiou_loss(
            impl,
            cross_entropy=CROSS_ENTROPY if case in ("mixture", "step") else 0.0,
            upsample="bilinear" if case in ("stride4", "step") else None,
            activation=activation,
        )
        for impl in ("auto", *IMPLEMENTATIONS)
    }
    if activation == "sigmoid":
        return softiou | _of_one_class(soft=case == "dense")
    if case in ("hard", "tiny"):
        return softiou | _on_hard_labels()
    if case == "dense":
        return softiou | _on_soft_labels()
    if case == "smoothed":
        return {name: _with_boundary(loss) for name, loss in softiou.items()} | {
            name: _with_written_out_labels(loss) for name, loss in _on_soft_labels().items()
        }
    if case == "stride4":
        return softiou | {name: _interpolated(loss) for name, loss in _on_hard_labels().items()}
    if case == "mixture":
        return softiou | _mixtures()
    if case == "step":
        plain = {name: _mixtures()[name] for name in ("cross-entropy", "plain formula")}
        rivals = {name: _interpolated(loss) for name, loss in plain.items()}
        return {"softiou": softiou["softiou"]} | rivals
    raise ValueError(f"There is no case {case!r}.")


def softiou_loss(
    impl: str,
    *,
    cross_entropy: float = 0.0,
    upsample: str | None = None,
    activation: str = "softmax",
) -> Loss:
    """Return the Jaccard metric loss with an implementation of the pass.

    Without smoothing, so that all contenders compute the same number.
    """
    loss = JaccardMetricLoss(
        cross_entropy=cross_entropy, smooth=0.0, upsample=upsample, impl=impl, activation=activation
    )
    return loss if impl == "auto" else _unless_refused(loss)


def _unless_refused(loss: Loss) -> Loss:
    def guarded(logits: Tensor, target: Tensor) -> Tensor:
        try:
            return loss(logits, target)
        except ValueError as error:
            raise UnavailableError(str(error)) from error

    return guarded


def plain_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the Jaccard metric loss by its formula, for hard or soft labels."""
    p = logits.float().softmax(1)
    if not target.is_floating_point():
        target = F.one_hot(target, logits.shape[1]).movedim(-1, 1).float()
    P, Y, D = (x.sum((0, 2, 3)) for x in (p, target, (p - target).abs()))
    return (1 - (P + Y - D) / (P + Y + D)).mean()


def _on_hard_labels() -> dict[str, Loss]:
    smp = _peer("segmentation_models_pytorch.losses", "JaccardLoss", mode="multiclass")
    kornia = _peer("kornia.losses", "TverskyLoss", alpha=1.0, beta=1.0)
    # Dice instead of Jaccard, for which kornia has a faster implementation.
    kornia_dice = _peer("kornia.losses", "DiceLoss", average="macro")
    monai = _peer("monai.losses", "DiceLoss", to_onehot_y=True, **_MONAI)
    return {
        "cross-entropy": F.cross_entropy,
        "plain formula": plain_jaccard,
        "smp": smp,
        "monai": lambda logits, target: monai(logits, target.unsqueeze(1)),
        "kornia": kornia,
        "kornia dice": kornia_dice,
    }


def _on_soft_labels() -> dict[str, Loss]:
    return {
        "cross-entropy": F.cross_entropy,
        "plain formula": plain_jaccard,
        "monai": _peer("monai.losses", "DiceLoss", soft_label=True, **_MONAI),
    }


def _of_one_class(*, soft: bool) -> dict[str, Loss]:
    """Return the sigmoid losses; the measured time includes the conversion of labels to floats."""
    settings = {**_MONAI, "softmax": False, "sigmoid": True}
    monai = _peer("monai.losses", "DiceLoss", **({"soft_label": True} if soft else {}), **settings)
    smp = _peer("segmentation_models_pytorch.losses", "JaccardLoss", mode="binary")

    def as_floats(loss: Loss) -> Loss:
        return lambda logits, target: loss(logits, target.view_as(logits).to(logits.dtype))

    return {
        "cross-entropy": as_floats(F.binary_cross_entropy_with_logits),
        "monai": as_floats(monai),
        **({} if soft else {"smp": lambda logits, target: smp(logits, target.unsqueeze(1))}),
    }


def _mixtures() -> dict[str, Loss]:
    """Return combinations with cross-entropy, and cross-entropy alone."""
    shares = {"lambda_ce": CROSS_ENTROPY, "lambda_dice": 1 - CROSS_ENTROPY}
    monai = _peer("monai.losses", "DiceCELoss", to_onehot_y=True, **shares, **_MONAI)
    hard = _on_hard_labels()
    return {
        "cross-entropy": F.cross_entropy,
        **{name: _mixed(hard[name]) for name in ("plain formula", "smp", "kornia", "kornia dice")},
        "monai": lambda logits, target: monai(logits, target.unsqueeze(1)),
    }


@cache
def _built(module: str, name: str, settings: tuple[tuple[str, Any], ...]) -> Loss:
    try:
        loss: Loss = getattr(importlib.import_module(module), name)(**dict(settings))
    except ImportError as error:
        raise UnavailableError(f"{module} is not installed.") from error
    return loss


def _peer(module: str, name: str, **settings: Any) -> Loss:
    """Return a loss of another package, which is imported at the first call."""
    key = tuple(settings.items())
    return lambda logits, target: _built(module, name, key)(logits, target)


def _mixed(loss: Loss) -> Loss:
    def mixture(logits: Tensor, target: Tensor) -> Tensor:
        cross_entropy = F.cross_entropy(logits, target)
        return CROSS_ENTROPY * cross_entropy + (1 - CROSS_ENTROPY) * loss(logits, target)

    return mixture


def _interpolated(loss: Loss) -> Loss:
    """Wrap a loss: interpolate low-resolution logits to the size of the labels first."""

    def interpolated(logits: Tensor, target: Tensor) -> Tensor:
        full = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)
        return loss(full, target)

    return interpolated


def _with_boundary(loss: Callable[..., Tensor]) -> Loss:
    return lambda logits, target: loss(logits, targets.boundary(target, EPSILON, WIDTH))


def _with_written_out_labels(loss: Loss) -> Loss:
    """Wrap a loss that needs dense soft labels: smooth the labels at boundaries first.

    This is part of the measured time, as it is for softiou, which also gets hard labels.
    """

    def written_out(logits: Tensor, target: Tensor) -> Tensor:
        C = logits.shape[1]
        band = targets.boundary_band(target, width=WIDTH, num_classes=C)
        epsilon = EPSILON * band.unsqueeze(1)
        one_hot = F.one_hot(target, C).movedim(-1, 1).float()
        return loss(logits, (one_hot * (1 - epsilon) + epsilon / C).to(logits.dtype))

    return written_out
