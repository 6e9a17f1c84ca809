"""Base classes of the torchmetrics classes: they keep sums of every image until `compute`.

Shapes: N images, C classes, Q levels of the worst.
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


class ExactMetric(Metric, ABC):
    """A metric whose sums keep their dtype when the model around it is cast to half precision."""

    is_differentiable = False
    full_state_update = False

    def _share_states_by(self, *settings: object) -> None:
        """Let only metrics of the same settings share their states in a `MetricCollection`.

        It merges metrics whose states are equal after the first update, also when no pixel was
        valid, unless their names differ: this adds one, a digest of the settings.
        """
        identity = (self._place("update"), self._place("gather"), *settings)
        digest = sha256(repr(identity).encode()).hexdigest()[:16]
        none = torch.zeros((), dtype=torch.int64)
        self.add_state(f"settings_{digest}", default=none, dist_reduce_fx="max")

    def _place(self, method: str) -> str | None:
        """Return which class a method is from."""
        function = getattr(type(self), method, None)
        return function and f"{function.__module__}.{function.__qualname__}"

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Follow a model to its device, but not to half precision, which is too coarse for sums."""
        return super()._apply(lambda x: x.to(fn(x.new_empty(0)).device), exclude_state)


class ImageMetric(ExactMetric, Generic[S]):
    """A metric over sums of every image, which are its states, (N, ...) each.

    Memory is independent of the number of pixels, and the result is the same however the images are
    spread over batches and processes.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        empty: The sums of no image, with the shapes and dtypes of the states.
        independent: Whether the classes do not exclude each other.
        ignore_index: Label value of the pixels to ignore, for hard and soft targets.
        settings: Other settings that the sums of an image depend on, such as the width of a band.
            Metrics that agree in all of these may share their states in a
            `torchmetrics.MetricCollection`.
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
        """Return the arguments that this metric hands to the function which gathers its sums."""
        return {
            "num_classes": self.num_classes,
            "independent": self.independent,
            "ignore_index": self.ignore_index,
        }

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

        A float64 scalar; (C,) for "none", without the background (C - 1,); (Q,) for a list of
        `worst`, (Q, C) for both.
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
        """Return the sums of the classes that count: an ignored label is none of them."""
        ignored = self.ignore_index
        if ignored is not None and 0 <= ignored < self.num_classes and not self.independent:
            counted = sums.occurs().any(0)  # as where soft targets have it as a class
            counted[:ignored] = counted[ignored + 1 :] = True
            sums = sums.apply(lambda x: x * counted)
        return sums if self.include_background else sums.apply(lambda x: x[:, 1:])

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        names = ("num_classes", "per", "worst", "average", "absent", "include_background")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
