"""Compute the exact loss of a large batch from micro-batches, with two passes."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from softiou.losses import OverlapLoss, Targets, weights_of
from softiou.losses.base import PixelMaps
from softiou.overlap import OverlapStatistics


class Accumulation:
    """The loss of several micro-batches, with the gradient of the joined batch.

    An overlap loss is not a mean over images, so the mean of the losses of micro-batches has
    another value and gradient than the loss of the joined batch. Here, each micro-batch goes
    through the model twice: first for its statistics, a matrix (N, C), then for its gradient given
    the statistics of the others. The memory is that of one micro-batch.

    Args:
        loss: An overlap loss, which may have a `process_group`.

    Note:
        With a `process_group`, all processes need equally many micro-batches. The logits must be
        equal in both passes: dropout needs the same random state, and batch norm in training mode
        updates its running statistics twice.

    Example:
        >>> from softiou import JaccardMetricLoss
        >>> loss = JaccardMetricLoss()
        >>> logits, target = torch.randn(4, 3, 8, requires_grad=True), torch.randint(0, 3, (4, 8))
        >>> whole = Accumulation(loss)
        >>> for part in (slice(0, 1), slice(1, 4)):
        ...     whole.add(logits[part], target[part])
        >>> for part in (slice(0, 1), slice(1, 4)):
        ...     whole.loss(logits[part], target[part]).backward()
        >>> joined = loss(logits.detach().requires_grad_(), target)
        >>> bool((whole.value() - joined).abs() < 1e-6)
        True
    """

    def __init__(self, loss: OverlapLoss) -> None:
        self.criterion = loss
        self._parts: list[list[OverlapStatistics]] = []
        self._turn = 0

    @torch.no_grad()
    def add(self, logits: Tensor, target: Targets, **maps: Unpack[PixelMaps]) -> None:
        """Add the statistics of a micro-batch; the arguments are those of the loss.

        Raises:
            ValueError: A loss was already computed.
        """
        if self._turn > 0:
            raise ValueError(
                "Expected all micro-batches to be added before the first loss is computed, because "
                "the gradient of each depends on all others. Use two loops."
            )
        self._parts.append(self.criterion.statistics(logits, target, **maps))
        self._weights = weights_of(target)

    def value(self) -> Tensor:
        """Return the loss of all added micro-batches, without a gradient."""
        if not self._parts:
            raise ValueError("Expected micro-batches to be added before their loss is computed.")
        return self.criterion.parts_of(self._joined(self._parts), self._weights)["loss"]

    def loss(self, logits: Tensor, target: Targets, **maps: Unpack[PixelMaps]) -> Tensor:
        """Compute the loss of the joined batch, differentiable with respect to one micro-batch.

        Pass the micro-batches in the order in which they were added, and call `backward` on each
        result. The gradients add up; do not divide by the number of micro-batches.

        Raises:
            ValueError: More micro-batches than were added, or another number of images.
        """
        own = self.criterion.statistics(logits, target, **maps)
        turn = self._turn
        if turn >= len(self._parts):
            raise ValueError(
                f"Expected {len(self._parts)} micro-batches, as many as were added, but got one "
                "more. Create a new Accumulation for each step."
            )
        expected, found = len(self._parts[turn][0].P), len(own[0].P)
        if expected != found:
            raise ValueError(
                f"Expected micro-batch {turn} to have {expected} images, as when it was added, but "
                f"got {found}."
            )
        self._turn += 1
        parts = [*self._parts[:turn], own, *self._parts[turn + 1 :]]
        return self.criterion.parts_of(self._joined(parts), self._weights)["loss"]

    def _joined(self, parts: Sequence[list[OverlapStatistics]]) -> list[OverlapStatistics]:
        """Concatenate the images of all micro-batches, for each target."""
        return [OverlapStatistics.stack(found) for found in zip(*parts, strict=True)]
