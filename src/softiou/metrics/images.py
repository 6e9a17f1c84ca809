"""What the metrics share: sums of every image, kept until the end, and their means.

Shapes: N images, C classes, Q levels of the worst.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from softiou import _checks

PER = ("dataset", "image", "class", "none")


@dataclass(frozen=True)
class ImageSums:
    """Sums over the pixels of each image.

    The fields of subclasses are tensors whose first dimension is that of the images, None, or such
    sums themselves.
    """

    def apply(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Change every tensor, such as `sums.apply(lambda x: x[:10])` for the first images."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, ImageSums):
                value = value.apply(function)
            elif value is not None:
                value = function(value)
            changed[field.name] = value
        return type(self)(**changed)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, those of sums within sums as "outer_inner"."""
        found: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, ImageSums):
                found |= {f"{field.name}_{name}": x for name, x in value.tensors().items()}
            elif value is not None:
                found[field.name] = value
        return found

    def merge_images(self) -> Self:
        """Join the images: (N, ...) -> (1, ...), as if they were one large image."""
        return self.apply(lambda x: x.sum(0, keepdim=True))


@dataclass(frozen=True)
class OverlapSums(ImageSums, ABC):
    """Sums of each image and class (N, C) that an IoU and a Dice score follow from."""

    @abstractmethod
    def occurs(self) -> Tensor:
        """Say which classes the target of each image holds, bool (N, C)."""

    @abstractmethod
    def iou(self) -> Tensor:
        """Compute the IoU in float64 (N, C); NaN where prediction and target are empty."""

    @abstractmethod
    def dice(self) -> Tensor:
        """Compute the Dice score in float64 (N, C); NaN where prediction and target are empty."""


S = TypeVar("S", bound=ImageSums)
O = TypeVar("O", bound=OverlapSums)  # noqa: E741


class ExactMetric(Metric, ABC):
    """A metric whose sums stay as exact as they are, whatever becomes of the model around it."""

    is_differentiable = False
    full_state_update = False

    def _share_states_by(self, *settings: object) -> None:
        """Let metrics of these settings alone share their states in a `MetricCollection`.

        It merges metrics whose states are equal after the first update, as they are by chance when
        no pixel counted. It also compares the names of the states, which this adds one to.
        """
        known = (self._place("update"), self._place("gather"), *settings)
        digest = sha256(repr(known).encode()).hexdigest()[:16]
        none = torch.zeros((), dtype=torch.int64)
        self.add_state(f"settings_{digest}", default=none, dist_reduce_fx="max")

    def _place(self, method: str) -> str | None:
        """Return which class a method is from."""
        function = getattr(type(self), method, None)
        return function and f"{function.__module__}.{function.__qualname__}"

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Follow a model to its device but not to half precision, which has no room for sums."""
        return super()._apply(lambda x: x.to(fn(x.new_empty(0)).device), exclude_state)


class ImageMetric(ExactMetric, Generic[S]):
    """A metric over sums of every image, which are its states, (N, ...) each.

    Memory is independent of the number of pixels, and the result is the same however the images are
    spread over batches and processes.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        empty: The sums of no image, which tell the shapes and dtypes.
        independent: Whether the classes do not exclude each other.
        ignore_index: Label value whose pixels do not count, for hard and soft targets.
        settings: Whatever else the sums of an image depend on, such as the width of a band. Metrics
            that agree in all of this may share their states in a `torchmetrics.MetricCollection`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    higher_is_better: bool | None = True

    def __init__(
        self,
        num_classes: int,
        *,
        empty: S,
        independent: bool = False,
        ignore_index: int | None = None,
        settings: tuple[object, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _checks.in_range("num_classes", num_classes, 1 if independent else 2)
        self.num_classes = num_classes
        self.independent = independent
        self.ignore_index = ignore_index
        self._empty = empty
        for name in empty.tensors():
            self.add_state(name, default=[], dist_reduce_fx="cat")
        shapes = {name: tuple(tensor.shape) for name, tensor in empty.tensors().items()}
        self._share_states_by(num_classes, independent, ignore_index, shapes, settings)

    def add(self, sums: S) -> None:
        """Add the sums of some images that were gathered elsewhere, instead of `update`."""
        # As the wrapper of torchmetrics around `update` does.
        self._computed = None
        self._update_count += 1
        self._append(sums)

    def _append(self, sums: S) -> None:
        for name, tensor in sums.tensors().items():
            getattr(self, name).append(tensor)

    def sums(self) -> S:
        """Return the sums of all images seen so far (N, ...)."""
        states = [getattr(self, name) for name in self._empty.tensors()]
        if not len(states[0]):
            return self._empty.apply(lambda x: x.to(self.device))
        joined = iter([dim_zero_cat(state) for state in states])
        return self._empty.apply(lambda _: next(joined))

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process that saw no image has to send a matrix, too; torchmetrics would send a vector.
        for name, tensor in self.sums().tensors().items():
            if not len(getattr(self, name)):
                setattr(self, name, [tensor])
        super()._sync_dist(*args, **kwargs)

    @abstractmethod
    def compute(self) -> Any:
        """Return the metric."""


class MeanMetric(ImageMetric[O]):
    """A score of image and class, averaged in one of three ways; see `MeanIoU`."""

    def __init__(
        self,
        num_classes: int,
        *,
        per: str = "dataset",
        worst: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        _check_average(per, worst)
        self.per = per
        self.worst = worst

    @abstractmethod
    def score(self, sums: O) -> Tensor:
        """Return the score (N, C), NaN where it is undefined."""

    def compute(self) -> Tensor:
        """Return the mean in [0, 1], NaN where undefined.

        A float64 scalar; (C,) for "none", (Q,) for a list of `worst`.
        """
        return mean_score(self.sums(), self.score, per=self.per, worst=self.worst)


def mean_score(
    sums: O,
    score: Callable[[O], Tensor],
    *,
    per: str,
    worst: float | Sequence[float] | None = None,
) -> Tensor:
    """Average a score of image and class as `MeanIoU` explains.

    Args:
        sums: Of all images (N, C): `OverlapCounts` or `OverlapMasses`.
        score: From sums (N, C) to values (N, C), NaN where undefined.
        per: "dataset", "image", "class" or "none".
        worst: Per cent of the images, in (0, 100], or a list of such: the mean of the lowest alone.

    Returns:
        A float64 scalar, (C,) for "none", (Q,) for a list of `worst`; NaN where undefined.

    Raises:
        ValueError: `per` is unknown, `worst` out of range or not for this `per`.
    """
    _check_average(per, worst)
    if per in ("dataset", "none"):
        by_class = score(sums.merge_images())[0]
        return by_class if per == "none" else by_class.nanmean()
    scores = torch.where(sums.occurs(), score(sums), torch.nan)
    if worst is None:
        return scores.nanmean(1 if per == "image" else 0).nanmean()
    if per == "image":
        return worst_mean(scores.nanmean(1), worst)
    return worst_mean(scores, worst).nanmean(-1)


def worst_mean(scores: Tensor, worst: float | Sequence[float]) -> Tensor:
    """Average the lowest scores along the images.

    Args:
        scores: (N, ...), NaN for those that do not count.
        worst: Per cent q of the scores that count, in (0, 100]. Of n scores the lowest
            ceil(q n / 100) are averaged, which is one at least.

    Returns:
        (...), or (Q, ...) for a list; NaN where no score counts.
    """
    if isinstance(worst, Sequence):
        return torch.stack([worst_mean(scores, q) for q in worst])
    ordered = scores.sort(0).values  # NaN comes last
    number = (~scores.isnan()).sum(0)
    # 0.7 * 1000 is a little more than 700 in floating point: no image more for that.
    kept = (number * worst / 100 - 1e-9).ceil()
    rank = torch.arange(len(scores), device=scores.device)
    rank = rank.view(-1, *[1] * (scores.ndim - 1))
    return torch.where(rank < kept, ordered, 0.0).sum(0) / kept


def _check_average(per: str, worst: float | Sequence[float] | None) -> None:
    """Raise unless these settings of an average make sense together."""
    _checks.one_of("per", per, PER)
    if worst is None:
        return
    if per not in ("image", "class"):
        raise ValueError(
            f"Expected `per` to be 'image' or 'class' with `worst`, but got {per!r}. The worst "
            "images can be told where every image has a score of its own."
        )
    levels = worst if isinstance(worst, Sequence) else [worst]
    if not levels or not all(0 < q <= 100 for q in levels):
        raise ValueError(f"Expected `worst` to be per cent in (0, 100], but got {worst}.")


def all_scores(sums: OverlapSums, *, iou: str, dice: str) -> dict[str, Tensor]:
    """Average IoU and Dice over data set, image and class: {iou}_d, {iou}_i, ..., {dice}_c."""
    return {
        f"{name}_{per[0]}": mean_score(sums, score, per=per)
        for name, score in ((iou, lambda s: s.iou()), (dice, lambda s: s.dice()))
        for per in ("dataset", "image", "class")
    }
