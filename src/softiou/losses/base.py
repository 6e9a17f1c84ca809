"""What all overlap losses share: a module that holds settings, over `softiou.overlap`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

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
    mean_over,
    needs_maxima,
    parse_per,
)
from softiou.targets import Target


class LossSettings(TypedDict, total=False):
    """The settings that every overlap loss takes; `OverlapLoss` explains them."""

    cross_entropy: float
    smooth: float
    activation: str
    per: str | Mapping[str, float]
    classes: str | Sequence[int]
    threshold: float
    class_weights: Tensor | Sequence[float] | None
    ignore_index: int | None
    validate: bool
    upsample: str | None
    align_corners: bool
    impl: str
    tile: int | None
    process_group: Any


Targets = Tensor | Target | Sequence[tuple[float, Tensor | Target]]


def _setting(name: str) -> Any:
    """Make a setting of the pass an attribute of the loss; a new value is checked."""

    def get(loss: "OverlapLoss") -> Any:
        return getattr(loss.settings, name)

    def put(loss: "OverlapLoss", value: Any) -> None:
        loss.settings = replace(loss.settings, **{name: value})

    return property(get, put, doc=f"Return `{name}` of the settings.")


class OverlapLoss(nn.Module, ABC):
    """What all overlap losses share: from logits and a target to a mean over classes and images.

        loss = w CE + (1 - w) mean_{n, c} distance(statistics),    w = cross_entropy

    Subclass it and implement `distance` to make a loss of your own from the statistics.

    Args:
        cross_entropy: Share w of the cross-entropy in [0, 1]; 0.25 is the paper's choice. 1 is the
            plain cross-entropy.
        smooth: Added above and below in the score, at least 0.
        activation: "softmax", "sigmoid" (binary with C = 1, and multilabel) or "none" for ready
            probabilities.
        per: What the overlap is taken over: "batch" joins the images first (aims at mIoU over the
            data set), "image" takes a score for each image (mIoU per image), "class" averages the
            images for each class first; or a mixture such as {"batch": 0.5, "image": 0.5}, whose
            weights are divided by their sum.
        classes: Which classes enter the mean: "present" (those with target mass), "all", a list of
            indices, or "prob", "label", "both" (those whose largest prediction, target, or either
            exceeds `threshold`), for the batch or for each image, according to `per`.
        threshold: For the last three, in [0, 1].
        class_weights: Weights of the classes in the mean of the overlap (C,); None for equal ones.
            A buffer, so it moves with the module. The cross-entropy is not weighted by class.
        ignore_index: Label value whose pixels do not count, for hard and soft targets.
        validate: Check the contents of the targets on every call (costs a sync).
        upsample: "bilinear" for logits at a stride: they are interpolated to the target tile by
            tile, and full-resolution logits never exist. None wants logits at full resolution.
        align_corners: Of the interpolation, as in `torch.nn.functional.interpolate`.
        impl: How the pass over the pixels is done: "auto", "torch", "chunked", "native" (CPU) or
            "triton" (CUDA); see `softiou.overlap_statistics`.
        tile: Pixels of a tile; None for a choice by device and classes.
        process_group: The processes whose images are one batch: a process group of
            `torch.distributed`, "world" for all, None for this process alone. Value and gradient
            are those of the joined batch, where the gradients of the processes are averaged, as
            DistributedDataParallel does; batches may be of different sizes.

    Note:
        Extra memory beyond the gradient of the logits is a tile; half-precision logits are read as
        they are and summed in float32. Gradients reach the logits alone, unless the target or the
        weights want one (then "auto" takes "torch"). `align_corners` is about the student's logits;
        a teacher's target has its own.

    References:
        Wang, Ning, Blaschko, Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels,
        NeurIPS 2023, https://arxiv.org/abs/2302.05666. Where we differ: the rule "both" takes the
        larger of prediction and target, not their sum.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        cross_entropy: float = 0.0,
        smooth: float = 1.0,
        activation: str = "softmax",
        per: str | Mapping[str, float] = "batch",
        classes: str | Sequence[int] = "present",
        threshold: float = 0.01,
        class_weights: Tensor | Sequence[float] | None = None,
        ignore_index: int | None = None,
        validate: bool = False,
        upsample: str | None = None,
        align_corners: bool = False,
        impl: str = "auto",
        tile: int | None = None,
        process_group: Any = None,
    ) -> None:
        super().__init__()
        _checks.in_range("cross_entropy", cross_entropy, 0.0, 1.0)
        _checks.in_range("smooth", smooth, 0.0)
        _checks.in_range("threshold", threshold, 0.0, 1.0)
        if isinstance(classes, str):
            _checks.one_of("classes", classes, CLASS_RULES)
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
        )
        self.cross_entropy = cross_entropy
        self.smooth = smooth
        self.per = parse_per(per)
        self.classes = classes
        self.threshold = threshold
        self.process_group = process_group
        self.register_buffer("class_weights", _class_weights(class_weights))

    activation = _setting("activation")
    ignore_index = _setting("ignore_index")
    validate = _setting("validate")
    upsample = _setting("upsample")
    align_corners = _setting("align_corners")
    impl = _setting("impl")
    tile = _setting("tile")

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
            target: Integers (N, *S), probabilities (N, C, *S), or a `Target`; or several of them
                with their weights, [(0.5, masks), (0.5, teacher)]: then the loss is the weighted
                sum of the losses against each, from one softmax.
            valid: Bool (N, *S), True where the pixel counts.
            weights: Floating (N, *S), at least 0: how much the pixel counts.

        Returns:
            A scalar in float32 (float64 for float64 logits), at least 0; when no pixel counts a 0
            that is still attached to the graph.
        """
        return self.parts(logits, target, valid=valid, weights=weights)["loss"]

    def parts(
        self,
        logits: Tensor,
        target: Targets,
        *,
        valid: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss and what it is made of.

        Returns:
            "loss", and detached "overlap" and, when mixed in, "cross_entropy".
        """
        statistics = self.statistics(logits, target, valid=valid, weights=weights)
        return self.parts_of(statistics, weights_of(target))

    def statistics(
        self,
        logits: Tensor,
        target: Targets,
        *,
        valid: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> list[OverlapStatistics]:
        """Gather what the loss is a function of, of all processes: an entry for each target."""
        cross_entropy, maxima = self.cross_entropy > 0, needs_maxima(self.classes)
        if (self.settings.cross_entropy, self.settings.maxima) != (cross_entropy, maxima):
            self.settings = replace(self.settings, cross_entropy=cross_entropy, maxima=maxima)
        targets = [one for _, one in _weighted(target)]
        found = gather_statistics(logits, targets, self.settings, valid=valid, weights=weights)
        if self.process_group is None:
            return found
        return [gather_images(one, self.process_group) for one in found]

    def parts_of(
        self, statistics: Sequence[OverlapStatistics], weights: Sequence[float]
    ) -> dict[str, Tensor]:
        """Compute `parts` from statistics that were gathered before, one for each weight."""
        if list(weights) == [1.0]:  # the common case, without a product by one
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
        entropy = statistics.mean_cross_entropy()
        parts = {"overlap": overlap.detach(), "cross_entropy": entropy.detach()}
        # Without the overlap in its graph at w = 1: 0 times an infinite gradient is NaN.
        share = self.cross_entropy
        return {"loss": entropy if share == 1 else torch.lerp(overlap, entropy, share), **parts}

    def overlap(self, statistics: OverlapStatistics) -> Tensor:
        """Reduce statistics to the overlap part of the loss: a scalar."""
        num_classes = statistics.P.shape[1]
        if self.class_weights is not None and self.class_weights.shape[0] != num_classes:
            raise ValueError(
                f"Expected {num_classes} `class_weights`, one for each class of the logits, but "
                f"got {self.class_weights.shape[0]}."
            )
        total, means = sum(self.per.values()), []
        for per, share in self.per.items():
            joined = statistics.merge_images() if per == "batch" else statistics
            mean = mean_over(
                self.distance(joined),
                active_classes(joined, self.classes, threshold=self.threshold),
                per="class" if per == "class" else "image",
                class_weights=self.class_weights,
            )
            means.append(mean if share == total else share / total * mean)
        return means[0] if len(means) == 1 else torch.stack(means).sum()

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        per = next(iter(self.per)) if len(self.per) == 1 else self.per
        return (
            f"cross_entropy={self.cross_entropy}, smooth={self.smooth}, "
            f"activation={self.activation!r}, per={per!r}, classes={self.classes!r}, "
            f"ignore_index={self.ignore_index}, upsample={self.upsample!r}, impl={self.impl!r}"
        )


def weights_of(target: Targets) -> list[float]:
    """Return the weights of the targets that a loss was given."""
    return [weight for weight, _ in _weighted(target)]


def _weighted(target: Targets) -> list[tuple[float, Tensor | Target]]:
    """Return targets with their weights; a single one has the weight 1."""
    if isinstance(target, Tensor | Target):
        return [(1.0, target)]
    pairs = list(target) if isinstance(target, Sequence) else []
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"Expected `target` to be a tensor, a Target, or a list of pairs (weight, target), but "
            f"got {type(target)}."
        )
    return pairs


def _class_weights(weights: Tensor | Sequence[float] | None) -> Tensor | None:
    if weights is None:
        return None
    weights = torch.as_tensor(weights, dtype=torch.float32).detach().clone()
    right = (weights >= 0).all() & weights.isfinite().all() & (weights.sum() > 0)
    if weights.ndim != 1 or not bool(right):
        raise ValueError(
            "Expected `class_weights` to be one number a class, finite, at least 0 and not all 0, "
            f"but got {weights.tolist()}."
        )
    return weights
