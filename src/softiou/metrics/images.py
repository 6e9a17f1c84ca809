"""What the metrics share: sums of every image and class, kept until the end, and their means.

Shapes: N images, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from softiou import _checks

PER = ("dataset", "image", "class", "none")


@dataclass(frozen=True)
class ImageSums(ABC):
    """Sums over the pixels of each image and class; the fields of subclasses are tensors (N, C)."""

    def merge_images(self) -> Self:
        """Join the images: (N, C) -> (1, C), as if they were one large image."""
        return type(self)(*(getattr(self, f.name).sum(0, keepdim=True) for f in fields(self)))

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


class ExactMetric(Metric, ABC):
    """A metric whose sums stay as exact as they are, whatever becomes of the model around it."""

    is_differentiable = False
    full_state_update = False

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Follow a model to its device but not to half precision, which has no room for sums."""
        return super()._apply(lambda x: x.to(fn(x.new_empty(0)).device), exclude_state)


class ImageMetric(ExactMetric, Generic[S]):
    """A metric over sums of every image and class, which are its states, (N, C) each.

    Memory is independent of the number of pixels, and the result is the same however the images are
    spread over batches and processes. Subclasses name the `kind` of their sums and its dtype.

    Args:
        num_classes: C, at least 2.
        ignore_index: Label value whose pixels do not count, for hard and soft targets.
        **kwargs: Of `torchmetrics.Metric`.
    """

    higher_is_better = True

    kind: type[S]
    kind_dtype: torch.dtype

    def __init__(self, num_classes: int, *, ignore_index: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _checks.in_range("num_classes", num_classes, 2)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        for name in self._names():
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def _names(self) -> list[str]:
        return [field.name for field in fields(self.kind)]

    def _append(self, sums: S) -> None:
        """Add the sums of some images."""
        for name in self._names():
            getattr(self, name).append(getattr(sums, name))

    def sums(self) -> S:
        """Return the sums of all images seen so far (N, C)."""
        columns = [getattr(self, name) for name in self._names()]
        if not len(columns[0]):
            shape = (0, self.num_classes)
            empty = torch.zeros(shape, dtype=self.kind_dtype, device=self.device)
            return self.kind(*([empty] * len(columns)))
        return self.kind(*(dim_zero_cat(column) for column in columns))

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process that saw no image has to send a matrix, too; torchmetrics would send a vector.
        empty = self.sums()
        for name in self._names():
            if not len(getattr(self, name)):
                setattr(self, name, [getattr(empty, name)])
        super()._sync_dist(*args, **kwargs)

    @abstractmethod
    def compute(self) -> Any:
        """Return the metric in [0, 1]."""


class MeanMetric(ImageMetric[S]):
    """A score of image and class, averaged in one of three ways; see `MeanIoU`."""

    def __init__(
        self,
        num_classes: int,
        *,
        per: str = "dataset",
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index=ignore_index, **kwargs)
        _checks.one_of("per", per, PER)
        self.per = per

    @abstractmethod
    def score(self, sums: S) -> Tensor:
        """Return the score (N, C), NaN where it is undefined."""

    def compute(self) -> Tensor:
        """Return the mean in [0, 1] (float64 scalar; (C,) for "none"), NaN where undefined."""
        return mean_score(self.sums(), self.score, per=self.per)


def mean_score(sums: S, score: Callable[[S], Tensor], *, per: str) -> Tensor:
    """Average a score of image and class as `MeanIoU` explains.

    Args:
        sums: Of all images (N, C): `OverlapCounts` or `OverlapMasses`.
        score: From sums (N, C) to values (N, C), NaN where undefined.
        per: "dataset", "image", "class" or "none".

    Returns:
        A float64 scalar, (C,) for "none"; NaN where undefined.
    """
    if per in ("dataset", "none"):
        by_class = score(sums.merge_images())[0]
        return by_class if per == "none" else by_class.nanmean()
    scores = torch.where(sums.occurs(), score(sums), torch.nan)
    return scores.nanmean(1 if per == "image" else 0).nanmean()


def all_scores(sums: ImageSums, *, iou: str, dice: str) -> dict[str, Tensor]:
    """Average IoU and Dice over data set, image and class: {iou}_d, {iou}_i, ..., {dice}_c."""
    return {
        f"{name}_{per[0]}": mean_score(sums, score, per=per)
        for name, score in ((iou, lambda s: s.iou()), (dice, lambda s: s.dice()))
        for per in ("dataset", "image", "class")
    }
