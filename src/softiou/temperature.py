"""Post-hoc calibration by scaling the logits, so that confidence matches accuracy.

Shapes: N images, C classes, *S space, P pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from softiou import _checks

Kind: TypeAlias = Literal["temperature", "class_temperature", "vector"]
KINDS: tuple[Kind, ...] = ("temperature", "class_temperature", "vector")

LARGEST_SCALE = 100.0  # limit, because the optimal scale of a perfect model is infinite
_CHUNK = 1 << 18  # float64 numbers per chunk
_Parameters: TypeAlias = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LogitScaling:
    """An affine map of the logits of each class, fitted on held-out data.

        z'_c = scale_c z_c + bias_c

    With the kind "temperature", scale = 1 / T and bias = 0 for all classes: the confidence changes,
    but not the predicted class. The other kinds may change predictions.

    Example:
        >>> half = LogitScaling("temperature", scale=(0.5,))  # T = 2
        >>> half.apply(torch.tensor([[4.0, 2.0]]))
        tensor([[2., 1.]])
    """

    kind: Kind  # kind of scaling, see `fit_scaling`
    # one number, or one for each class; positive unless the kind is "vector"
    scale: tuple[float, ...]
    bias: tuple[float, ...] = (0.0,)  # one number, or one for each class

    def __post_init__(self) -> None:
        _checks.one_of("kind", self.kind, KINDS)
        lengths = {len(self.scale), len(self.bias)}
        if 0 in lengths or len(lengths - {1}) > 1:
            raise ValueError(
                f"Expected `scale` and `bias` to have one number, or one for each class, but got "
                f"{len(self.scale)} and {len(self.bias)}."
            )

    def apply(self, logits: Tensor, *, dim: int = 1) -> Tensor:
        """Scale logits.

        The map is affine, so it commutes with bilinear interpolation: it can be applied at the
        decoder's stride or at full resolution, before the softmax.

        Args:
            logits: Floating (N, C, *S) or (P, C), at least float32, because half precision rounds.
            dim: Dimension of the classes; 0 for (C, *S).

        Returns:
            The scaled logits, same shape and dtype.
        """
        num_classes = max(len(self.scale), len(self.bias))
        if num_classes not in (1, logits.shape[dim]):
            raise ValueError(
                f"Expected `logits` to have {num_classes} classes, like the fitted scaling, "
                f"but got {logits.shape[dim]} in shape {tuple(logits.shape)}."
            )
        shape = [1] * logits.ndim
        shape[dim] = -1
        scale, bias = (logits.new_tensor(x).view(shape) for x in (self.scale, self.bias))
        return logits * scale + bias


def negative_log_likelihood(
    logits: Tensor, target: Tensor, scaling: LogitScaling | None = None
) -> float:
    """Compute the mean over pixels of -sum_c y_c log softmax(z)_c, in nats and float64.

    Args:
        logits: Floating (P, C).
        target: Class indices (P,), or probabilities (P, C).
        scaling: Scaling of the logits, or None.

    Returns:
        The mean in [0, inf); NaN without pixels.
    """
    total = 0.0
    for z, y in _chunks(logits, target):
        total += float(_total_nll(z if scaling is None else scaling.apply(z), y))
    return total / len(logits) if len(logits) else float("nan")


def fit_scaling(logits: Tensor, target: Tensor, *, kind: Kind = "temperature") -> LogitScaling:
    """Fit a scaling of logits by minimising the negative log-likelihood with L-BFGS in float64.

        "temperature"        z / T             one number, the usual choice
        "class_temperature"  z_c / T_c         C numbers
        "vector"             a_c z_c + b_c     2 C numbers, the mean of b is 0

    T is positive, because its logarithm is fitted. The per-class kinds start from the single
    temperature. A class without any share of the targets keeps this temperature and no bias;
    otherwise the loss would decrease without bound as the probability of the class goes to 0.

    Args:
        logits: Floating (P, C), for valid pixels.
        target: Class indices (P,), integer; or probabilities (P, C), floating, sum 1 over C.
        kind: Kind of scaling.

    Returns:
        The scaling; its loss on these pixels never exceeds that of the original logits.

    Raises:
        ValueError: There are no pixels, the shapes do not match or the logits are not finite.

    Note:
        Extra memory: one byte per logit, and about 20 MiB independent of P.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]] * 4)  # 98 % confident, 75 % correct
        >>> scaling = fit_scaling(logits, torch.tensor([0, 0, 0, 1]))
        >>> round(1 / scaling.scale[0], 2)  # T = 4 / log 3
        3.64

    References:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section
        4.2.
    """
    _checks.one_of("kind", kind, KINDS)
    _check(logits, target)
    logits = logits.detach()
    found = [LogitScaling(kind, (1.0,)), _fit_temperature(logits, target, kind)]
    if kind != "temperature":
        found.append(_fit_classes(logits, target, kind, start=found[-1].scale[0]))
    losses = [negative_log_likelihood(logits, target, scaling) for scaling in found]
    finite = [i for i, loss in enumerate(losses) if loss == loss]  # without NaN
    return found[min(finite, key=lambda i: losses[i])]


def _check(logits: Tensor, target: Tensor) -> None:
    if logits.ndim != 2 or not logits.is_floating_point() or len(logits) == 0:
        raise ValueError(
            f"Expected `logits` to be floating with shape (P, C) and P > 0, but got {logits.dtype} "
            f"and {tuple(logits.shape)}."
        )
    wanted = tuple(logits.shape) if target.is_floating_point() else (len(logits),)
    if tuple(target.shape) != wanted:
        raise ValueError(
            f"Expected `target` to have shape {wanted}, matching the logits "
            f"{tuple(logits.shape)}, but got {tuple(target.shape)}."
        )
    if not bool(logits.isfinite().all()):
        raise ValueError("Expected `logits` to be finite, but some are infinite or NaN.")


def _fit_temperature(logits: Tensor, target: Tensor, kind: Kind) -> LogitScaling:
    log_scale = torch.zeros(1, dtype=torch.float64, device=logits.device, requires_grad=True)
    bias = torch.zeros_like(log_scale, requires_grad=False)
    _minimise([log_scale], lambda: (_positive(log_scale), bias), logits, target)
    return LogitScaling(kind, tuple(_positive(log_scale).tolist()))


def _fit_classes(logits: Tensor, target: Tensor, kind: Kind, *, start: float) -> LogitScaling:
    """Fit the parameters of the classes that occur, starting from one temperature."""
    num_classes = logits.shape[1]
    occurs = _occurs(target, num_classes).to(logits.device)
    base = torch.full((num_classes,), start, dtype=torch.float64, device=logits.device)
    step = torch.zeros_like(base, requires_grad=True)
    shift = torch.zeros_like(base, requires_grad=kind == "vector")

    def parameters() -> tuple[Tensor, Tensor]:
        if kind == "vector":
            scale, bias = base + step, shift - shift[occurs].mean()
        else:
            scale, bias = _positive(base.log() + step), shift
        return torch.where(occurs, scale, base), torch.where(occurs, bias, 0.0)

    free = [step, shift] if kind == "vector" else [step]
    _minimise(free, parameters, logits, target)
    scale, bias = parameters()
    return LogitScaling(kind, tuple(scale.tolist()), tuple(bias.tolist()))


def _positive(log_scale: Tensor) -> Tensor:
    return log_scale.exp().clamp(1 / LARGEST_SCALE, LARGEST_SCALE)


def _occurs(target: Tensor, num_classes: int) -> Tensor:
    """Return the classes with any share of the target, bool (C,)."""
    if target.is_floating_point():
        return target.sum(0) > 0
    return torch.bincount(target, minlength=num_classes) > 0


def _minimise(free: list[Tensor], parameters: _Parameters, logits: Tensor, target: Tensor) -> None:
    """Minimise the loss of the scaled logits over free parameters."""
    optimiser = torch.optim.LBFGS(
        free,
        max_iter=200,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimiser.zero_grad()
        total = 0.0
        for z, y in _chunks(logits, target):
            scale, bias = parameters()
            loss = _total_nll(z * scale + bias, y) / len(logits)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        return total

    with torch.enable_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]


def _chunks(logits: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixels in chunks, the logits in float64."""
    pixels = max(1, _CHUNK // logits.shape[1])
    for z, y in zip(torch.split(logits, pixels), torch.split(target, pixels), strict=True):
        yield z.double(), y


def _total_nll(logits: Tensor, target: Tensor) -> Tensor:
    logs = logits.log_softmax(1)
    if target.is_floating_point():
        return -(target.double() * logs).sum()
    return -logs.gather(1, target.long().unsqueeze(1)).sum()
