"""Base classes of the metrics, subclasses of torchmetrics.Metric with sums of every image.

Shapes: N images, C classes, Q worst-case percentages.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from softiou import _checks
from softiou.metrics.image_sums import ImageSums, OverlapSums
from softiou.metrics.weighted import Worst, check_average, mean_score

S = TypeVar("S", bound=ImageSums)
O = TypeVar("O", bound=OverlapSums)  # noqa: E741
# The settings of all metrics, in the order of `repr`.
_SETTINGS = (
    *("num_classes", "per", "worst", "average", "absent", "include_background", "num_bins"),
    *("adaptive", "width", "ratio", "independent", "threshold", "ignore_index"),
)


class ExactMetric(Metric, ABC):
    """A metric whose states keep their dtype when a model that contains it is cast to half."""

    is_differentiable = False
    full_state_update = False

    def _share_states_by(self, *settings: object) -> None:
        """Prevent a `MetricCollection` from sharing states between metrics with other settings.

        It shares the states of metrics if they have the same names and, after the first update, the
        same values, which also happens if no pixel is valid. This adds a state whose name contains
        a hash of the settings.
        """
        identity = (self._place("update"), self._place("gather"), *settings)
        digest = sha256(repr(identity).encode()).hexdigest()[:16]
        none = torch.zeros((), dtype=torch.int64)
        self.add_state(f"settings_{digest}", default=none, dist_reduce_fx="max")

    def _place(self, method: str) -> str | None:
        """Return the qualified name of a method, including the class that defines it."""
        function = getattr(type(self), method, None)
        return function and f"{function.__module__}.{function.__qualname__}"

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Move the states to the device of a model, but do not cast them to half precision."""
        return super()._apply(lambda x: x.to(fn(x.new_empty(0)).device), exclude_state)


class ImageMetric(ExactMetric, Generic[S]):
    """A metric whose states are sums of every image, (N, ...) each.

    Memory does not depend on the number of pixels, and the result does not depend on how the images
    are distributed over batches and processes.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes.
        empty: The sums of no image, with the shapes and dtypes of the states.
        independent: Whether the classes do not exclude each other.
        ignore_index: Label of pixels to ignore, for hard and soft targets.
        settings: Other settings that affect the sums of an image, such as the width of a band.
            Metrics with equal settings may share their states in a `torchmetrics.MetricCollection`.
        **kwargs: Arguments of `torchmetrics.Metric`.
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
        _checks.one_label(ignore_index)
        self.num_classes = num_classes
        self.independent = independent
        self.ignore_index = ignore_index
        self._empty = empty
        for name in empty.tensors():
            self.add_state(name, default=[], dist_reduce_fx="cat")
        shapes = {name: tuple(tensor.shape) for name, tensor in empty.tensors().items()}
        self._share_states_by(num_classes, independent, ignore_index, shapes, settings)

    def options(self) -> dict[str, Any]:
        """Return the arguments for the function that computes the sums."""
        return {
            "num_classes": self.num_classes,
            "independent": self.independent,
            "ignore_index": self.ignore_index,
        }

    def extra_repr(self) -> str:
        """Return the settings for `repr`."""
        shown = [name for name in _SETTINGS if hasattr(self, name)]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)

    def add(self, sums: S) -> None:
        """Add sums of images that have already been computed, instead of calling `update`."""
        # The same as the wrapper of torchmetrics around `update`.
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
        # torchmetrics would send a vector from a process without images, instead of a matrix.
        for name, tensor in self.sums().tensors().items():
            if not len(getattr(self, name)):
                setattr(self, name, [tensor])
        super()._sync_dist(*args, **kwargs)

    @abstractmethod
    def compute(self) -> Any:
        """Return the value of the metric."""


class MeanMetric(ImageMetric[O]):
    """A score for each image and class, averaged as described in `MeanIoU`."""

    def __init__(
        self,
        num_classes: int,
        *,
        per: str = "dataset",
        worst: Worst = None,
        average: str = "macro",
        absent: str = "exclude",
        include_background: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        check_average(per, worst, average, absent)
        self.per = per
        self.worst = worst
        self.average = average
        self.absent = absent
        self.include_background = include_background

    @abstractmethod
    def score(self, sums: O) -> Tensor:
        """Return the score (N, C), NaN where it is undefined."""

    def compute(self) -> Tensor:
        """Return the mean in [0, 1], NaN where undefined.

        A float64 scalar; (C,) for "none", (C - 1,) without background; (Q,) for a list `worst`,
        (Q, C) for both.
        """
        return mean_score(
            self._of_classes(self.sums()),
            self.score,
            per=self.per,
            worst=self.worst,
            average=self.average,
            absent=self.absent,
        )

    def _of_classes(self, sums: O) -> O:
        """Return the sums without the ignored label, and without the background if excluded."""
        ignored = self.ignore_index
        if ignored is not None and 0 <= ignored < self.num_classes and not self.independent:
            counted = sums.occurs().any(0)  # a soft target may contain the ignored label as a class
            counted[:ignored] = counted[ignored + 1 :] = True
            sums = sums.apply(lambda x: x * counted)
        return sums if self.include_background else sums.apply(lambda x: x[:, 1:])
