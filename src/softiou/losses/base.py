"""The base class of the overlap losses, which reduce the statistics of `softiou.overlap`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from softiou import _checks
from softiou.overlap import (
    CLASS_RULES,
    OverlapStatistics,
    PassSettings,
    active_classes,
    gather_images,
    gather_statistics,
    mean_by_class,
    mean_over,
    needs_maxima,
    parse_per,
)
from softiou.targets import Target


class LossSettings(TypedDict, total=False):
    """The keyword arguments of every overlap loss, documented in `OverlapLoss`."""

    cross_entropy: float
    cross_entropy_weights: Tensor | Sequence[float] | None
    pos_weight: Tensor | Sequence[float] | None
    label_smoothing: float
    focal_gamma: float
    smooth: float
    activation: str
    per: str | Mapping[str, float]
    reduction: str
    classes: str | Sequence[int] | Tensor
    threshold: float
    class_weights: Tensor | Sequence[float] | None
    ignore_index: int | Sequence[int] | None
    validate: bool | None
    upsample: str | None
    align_corners: bool
    impl: str
    tile: int | None
    process_group: Any


class PixelMaps(TypedDict, total=False):
    """The optional arguments `valid` and `weights` of `OverlapLoss.forward`."""

    valid: Tensor | None
    weights: Tensor | None


Targets = Tensor | Target | Sequence[tuple[float, Tensor | Target]]
REDUCTIONS = ("mean", "sum", "none")
_ALWAYS_SHOWN = ("cross_entropy", "smooth", "activation", "per", "classes", "ignore_index")
_FIRST_CALLS = 3  # number of calls whose arguments are checked completely


def _setting(name: str) -> Any:
    """Make a setting of the pass an attribute of the loss, which checks assigned values."""

    def get(loss: "OverlapLoss") -> Any:
        return getattr(loss.settings, name)

    def put(loss: "OverlapLoss", value: Any) -> None:
        loss.settings = replace(loss.settings, **{name: value})

    return property(get, put, doc=f"Return `{name}` of the settings.")


class OverlapLoss(nn.Module, ABC):
    """Base class of the overlap losses: a mean over classes and images, mixed with cross-entropy.

        loss = w CE + (1 - w) mean_{n, c} distance(statistics),    w = cross_entropy

    To define a new loss from the overlap statistics, subclass it and implement `distance`.

    Args:
        cross_entropy: Weight w of the cross-entropy, in [0, 1]; the paper uses 0.25, and 1 is
            cross-entropy alone.
        cross_entropy_weights: Class weights of the cross-entropy (C,), as `weight` in
            `torch.nn.functional.cross_entropy`: the mean is divided by the weights of the targets
            (for soft targets by the weighted mass). Stored as a buffer.
        pos_weight: With a sigmoid, weights of the positive terms (C,), as in
            `torch.nn.functional.binary_cross_entropy_with_logits`. Stored as a buffer.
        label_smoothing: Label smoothing of the cross-entropy, in [0, 1]; the overlap loss uses the
            target without it.
        focal_gamma: Exponent of the focal loss: the terms of the cross-entropy are multiplied by
            |y - p|^focal_gamma. 0 is plain cross-entropy; 2 is common.
        smooth: Constant added to numerator and denominator of the score, at least 0.
        activation: "softmax", "sigmoid" (binary with C = 1, or multilabel) or "none" if the input
            contains probabilities.
        per: Where the overlap is computed: "batch" over all images together (optimises the mIoU of
            the data set), "image" for each image (mIoU per image), "class" averages each class over
            the images first; or weights such as {"batch": 0.5, "image": 0.5}, which are normalised
            to a sum of 1.
        reduction: "mean" as above; "sum" adds up the losses of the classes (and images), and the
            cross-entropy of the pixels; "none" returns the terms of this sum: (C,) for
            per="batch", otherwise (N, C), 0 for classes outside the mean.
        classes: Which classes enter the mean: "present" (those with target mass, see
            `softiou.overlap.active_classes`), "all", a list or tensor of indices, or "prob",
            "label", "both" (those whose largest prediction, target, or either exceeds
            `threshold`), for the batch or for each image, according to `per`.
        threshold: Threshold of "prob", "label" and "both", in [0, 1].
        class_weights: Weights of the classes (C,) in the weighted mean of the overlap loss; None
            for equal weights. Divided by their sum, which the authors' code does not do. They do
            not affect the cross-entropy. Stored as a buffer.
        ignore_index: Label of ignored pixels, for hard and soft targets; or several labels.
        validate: Check the contents of targets and weights: True on every call (synchronises with a
            GPU), False never. None checks everything on the first three calls, and on the CPU
            labels, probabilities and weights on every call.
        upsample: "bilinear" for low-resolution logits: they are interpolated to the size of the
            target tile by tile, without allocating full-resolution logits. None requires logits of
            the size of the target.
        align_corners: As in `torch.nn.functional.interpolate`, for `upsample`.
        impl: Implementation of the pass over the pixels: "auto", "torch", "chunked", "native" (CPU)
            or "triton" (CUDA); see `softiou.overlap_statistics`.
        tile: Pixels per tile; None chooses it by device and number of classes.
        process_group: Processes that share a batch: a process group of `torch.distributed`,
            "world" for all, None for this process alone. Value and gradient are those of the joint
            batch, provided that gradients are averaged over the processes, as
            DistributedDataParallel does. The processes may have different batch sizes.

    Note:
        Memory beyond the gradient of the logits is that of one tile; half-precision logits are read
        without a copy and summed in float32. Only the logits receive gradients, unless the target
        or the weights require them (then "auto" chooses "torch"). `align_corners` applies to the
        logits; a `TeacherTarget` has its own.

    References:
        Wang, Ning, Blaschko, Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels,
        NeurIPS 2023, https://arxiv.org/abs/2302.05666. Difference: "both" uses the maximum of
        prediction and target, not their sum.
    """

    class_weights: Tensor | None
    cross_entropy_weights: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        *,
        cross_entropy: float = 0.0,
        cross_entropy_weights: Tensor | Sequence[float] | None = None,
        pos_weight: Tensor | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        smooth: float = 1.0,
        activation: str = "softmax",
        per: str | Mapping[str, float] = "batch",
        reduction: str = "mean",
        classes: str | Sequence[int] | Tensor = "present",
        threshold: float = 0.01,
        class_weights: Tensor | Sequence[float] | None = None,
        ignore_index: int | Sequence[int] | None = None,
        validate: bool | None = None,
        upsample: str | None = None,
        align_corners: bool = False,
        impl: str = "auto",
        tile: int | None = None,
        process_group: Any = None,
    ) -> None:
        super().__init__()
        _checks.in_range("cross_entropy", cross_entropy, 0.0, 1.0)
        _checks.finite("smooth", smooth, 0.0)
        _checks.in_range("threshold", threshold, 0.0, 1.0)
        _checks.one_of("reduction", reduction, REDUCTIONS)
        if isinstance(classes, str):
            _checks.one_of("classes", classes, CLASS_RULES)
        else:
            classes = list(_checks.indices("classes", classes))
        self.settings = PassSettings(
            activation=activation,
            ignore_index=ignore_index,
            cross_entropy=cross_entropy > 0,
            maxima=needs_maxima(classes),
            validate=validate,
            upsample=upsample,
            align_corners=align_corners,
            impl=impl,
            tile=tile,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
        )
        if pos_weight is not None and activation != "sigmoid":
            raise ValueError(
                f"`pos_weight` needs activation='sigmoid', but got {activation!r}. Use "
                "`cross_entropy_weights`."
            )
        self.cross_entropy = cross_entropy
        self.smooth = smooth
        self.per, self.reduction = parse_per(per), reduction
        if reduction == "none" and len(self.per) > 1:
            raise ValueError(
                f"Expected a single `per` with reduction='none', but got {per}, whose parts have "
                "different shapes. Use two losses."
            )
        self.classes: str | list[int] = classes
        self.threshold = threshold
        self.process_group = process_group
        self._calls = 0
        given = (class_weights, cross_entropy_weights, pos_weight)
        names = ("class_weights", "cross_entropy_weights", "pos_weight")
        for name, values in zip(names, given, strict=True):
            self.register_buffer(name, _checks.class_weights(name, values))

    activation = _setting("activation")
    ignore_index = _setting("ignore_index")
    validate = _setting("validate")
    upsample = _setting("upsample")
    align_corners = _setting("align_corners")
    impl = _setting("impl")
    tile = _setting("tile")
    label_smoothing = _setting("label_smoothing")
    focal_gamma = _setting("focal_gamma")

    @abstractmethod
    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of each image and class (N, C), 0 where prediction and target agree."""

    def forward(
        self,
        logits: Tensor,
        target: Targets,
        *,
        valid: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            logits: Scores (N, C, *S), any floating dtype; (N, C, h, w) with `upsample`.
            target: Integers (N, *S), (N, 1, *S) or one-hot (N, C, *S), probabilities (N, C, *S),
                or a `Target`. A list of pairs such as [(0.5, masks), (0.5, teacher)] gives the
                weighted sum of the losses against each target, with a single softmax.
            valid: Bool (N, *S), False for ignored pixels.
            weights: Pixel weights (N, *S), floating, at least 0.

        Returns:
            A scalar in float32 (float64 for float64 logits), at least 0. If no pixel is valid, a 0
            that is still attached to the graph. With reduction="none", a tensor.
        """
        return self.parts(logits, target, valid=valid, weights=weights)["loss"]

    def parts(
        self, logits: Tensor, target: Targets, **maps: Unpack[PixelMaps]
    ) -> dict[str, Tensor]:
        """Compute the "loss", and its detached parts "overlap" and, if used, "cross_entropy".

        The arguments are those of `forward`.
        """
        merged = list(self.per) == ["batch"] and self.process_group is None
        found = self._statistics(logits, target, merged=merged, **maps)
        return self.parts_of(found, weights_of(target))

    def per_class(self, logits: Tensor, target: Targets, **maps: Unpack[PixelMaps]) -> Tensor:
        """Compute the loss of each class; the arguments are those of `forward`.

            loss_c = w CE_c + (1 - w) mean_n distance_{n, c}

        over the images n in which the class is active. CE_c is the cross-entropy divided by the
        target mass of the class, or with a sigmoid by the number of pixels. `reduction`,
        `class_weights` and `cross_entropy_weights` have no effect.

        Returns:
            Losses (C,), differentiable; NaN for classes that are not in the mean.
        """
        found, shares = self.statistics(logits, target, **maps), weights_of(target)
        return sum(
            (share * self._per_class(one) for share, one in zip(shares, found, strict=True)),
            start=logits.new_zeros((), dtype=found[0].P.dtype),
        )

    def _per_class(self, statistics: OverlapStatistics) -> Tensor:
        total, overlap = sum(self.per.values()), None
        for per, share in self.per.items():
            joined, active = self._joined(statistics, per)
            mean = share / total * mean_by_class(self.distance(joined), active)
            overlap = mean if overlap is None else overlap + mean
        if overlap is None:
            raise RuntimeError("a loss without a reduction")
        if self.cross_entropy == 0:
            return overlap
        entropy = statistics.sum_cross_entropy(pos_weight=self.pos_weight).sum(0)
        mass = statistics.Y.sum(0)
        if self.settings.activation == "sigmoid":
            mass = (statistics.weight.sum() / len(mass)).expand_as(mass)
        entropy = entropy / mass.clamp(min=torch.finfo(mass.dtype).tiny)
        return torch.lerp(
            overlap, torch.where(overlap.isnan(), overlap, entropy), self.cross_entropy
        )

    def statistics(
        self, logits: Tensor, target: Targets, **maps: Unpack[PixelMaps]
    ) -> list[OverlapStatistics]:
        """Compute the overlap statistics of the batch of all processes, one entry per target."""
        return self._statistics(logits, target, merged=False, **maps)

    def _statistics(
        self, logits: Tensor, target: Targets, *, merged: bool, **maps: Unpack[PixelMaps]
    ) -> list[OverlapStatistics]:
        """Compute `statistics`, of the merged images if only these are needed."""
        cross_entropy, maxima = self.cross_entropy > 0, needs_maxima(self.classes)
        if (self.settings.cross_entropy, self.settings.maxima) != (cross_entropy, maxima):
            self.settings = replace(self.settings, cross_entropy=cross_entropy, maxima=maxima)
        targets = [one for _, one in _weighted(target)]
        found = gather_statistics(
            logits, targets, self.settings, **maps, in_full=self._is_first_call(), merged=merged
        )
        if self.process_group is None:
            return found
        return [gather_images(one, self.process_group) for one in found]

    def _is_first_call(self) -> bool:
        """Count the calls, and return whether this one is to be checked completely."""
        if torch.compiler.is_compiling() or self._calls >= _FIRST_CALLS:
            return False
        self._calls += 1
        return True

    def parts_of(
        self, statistics: Sequence[OverlapStatistics], weights: Sequence[float]
    ) -> dict[str, Tensor]:
        """Compute `parts` from the result of `statistics` and the weights of the targets."""
        if list(weights) == [1.0]:  # the common case, without multiplications
            (only,) = statistics
            return self._parts(only)
        total: dict[str, Tensor] = {}
        for weight, found in zip(weights, statistics, strict=True):
            for name, value in self._parts(found).items():
                value = weight * value
                total[name] = total[name] + value if name in total else value
        return total

    def _parts(self, statistics: OverlapStatistics) -> dict[str, Tensor]:
        """Return the parts of the loss against one target."""
        overlap = self.overlap(statistics)
        if self.cross_entropy == 0:
            return {"loss": overlap, "overlap": overlap.detach()}
        entropy = self._entropy(statistics)
        parts = {"overlap": overlap.detach(), "cross_entropy": entropy.detach()}
        # For w = 1 the overlap must not be in the graph: 0 times an infinite gradient is NaN.
        share = self.cross_entropy
        return {"loss": entropy if share == 1 else torch.lerp(overlap, entropy, share), **parts}

    def _entropy(self, statistics: OverlapStatistics) -> Tensor:
        """Compute the cross-entropy part of the loss from the statistics."""
        weights, num_classes = self.cross_entropy_weights, statistics.P.shape[1]
        _check_length("cross_entropy_weights", weights, num_classes)
        _check_length("pos_weight", self.pos_weight, num_classes)
        if self.reduction == "mean":
            return statistics.mean_cross_entropy(class_weights=weights, pos_weight=self.pos_weight)
        if "batch" in self.per:
            statistics = statistics.merge_images()
        total = statistics.sum_cross_entropy(class_weights=weights, pos_weight=self.pos_weight)
        return self._reduced(total)

    def overlap(self, statistics: OverlapStatistics) -> Tensor:
        """Compute the overlap part of the loss from the statistics, reduced by `reduction`."""
        _check_length("class_weights", self.class_weights, statistics.P.shape[1])
        total, means = sum(self.per.values()), []
        for per, share in self.per.items():
            joined, active = self._joined(statistics, per)
            distance = self.distance(joined)
            if self.reduction == "mean":
                mean = mean_over(
                    distance,
                    active,
                    per="class" if per == "class" else "image",
                    class_weights=self.class_weights,
                )
            else:
                weights = active if self.class_weights is None else active * self.class_weights
                mean = self._reduced(distance * weights)
            means.append(mean if share == total else share / total * mean)
        return means[0] if len(means) == 1 else torch.stack(means).sum()

    def _joined(self, statistics: OverlapStatistics, per: str) -> tuple[OverlapStatistics, Tensor]:
        """Return the statistics, merged over the images for per="batch", and the active classes."""
        joined = statistics.merge_images() if per == "batch" else statistics
        return joined, active_classes(joined, self.classes, threshold=self.threshold)

    def _reduced(self, of_classes: Tensor) -> Tensor:
        """Apply reduction="sum" or "none" to losses (N, C), or (1, C) for per="batch"."""
        if self.reduction == "sum":
            return of_classes.sum()
        return of_classes.squeeze(0) if "batch" in self.per else of_classes

    def extra_repr(self) -> str:
        """Return the settings for `repr`: those of this class, and others if not the default."""
        shared = signature(OverlapLoss).parameters
        own = [
            name for name in signature(type(self)).parameters if name not in {*shared, "settings"}
        ]
        shown = {name: getattr(self, name) for name in own if hasattr(self, name)}
        for name, parameter in shared.items():
            value = getattr(self, name)
            if name == "per" and len(self.per) == 1:
                value = next(iter(self.per))
            if isinstance(value, Tensor):
                value = value.tolist()
            if name in _ALWAYS_SHOWN or value != parameter.default:
                shown[name] = value
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def weights_of(target: Targets) -> list[float]:
    """Return the weights of the targets passed to a loss; a single target has the weight 1."""
    return [weight for weight, _ in _weighted(target)]


def _weighted(target: Targets) -> list[tuple[float, Tensor | Target]]:
    """Return pairs of weight and target; a single target has the weight 1."""
    if isinstance(target, (Tensor, Target)):
        return [(1.0, target)]
    pairs = list(target) if isinstance(target, Sequence) else []
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"Expected `target` to be a tensor, a Target, or a list of pairs (weight, target), but "
            f"got {type(target)}. Convert arrays with `torch.as_tensor`."
        )
    for weight, _ in pairs:
        _checks.finite("weight of a target", weight, 0.0)
    return pairs


def _check_length(name: str, weights: Tensor | None, num_classes: int) -> None:
    if weights is not None and weights.shape[0] != num_classes:
        raise ValueError(
            f"Expected {num_classes} `{name}`, one for each class of the logits, but got "
            f"{weights.shape[0]}."
        )
