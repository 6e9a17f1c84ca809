"""Calibration: does a pixel that the model is 80 % sure of turn out right 80 % of the time."""

from typing import Any

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.counts import top_label
from softiou.metrics.images import ExactMetric
from softiou.targets import Target, to_probs


class ExpectedCalibrationError(ExactMetric):
    """Top-label expected calibration error over the data set, from streaming bins.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    where bin b holds the pixels whose largest probability lies in [b / B, (b + 1) / B). For a soft
    target the accuracy of a pixel is the target's probability of the predicted class.

    Args:
        num_classes: C, at least 2.
        num_bins: B, at least 1.
        ignore_index: Label value whose pixels do not count.
        **kwargs: Of `torchmetrics.Metric`.

    Note:
        The state is 3 B numbers (counts int64, sums float64), whatever the number of pixels, and
        additive over processes.

    Example:
        >>> metric = ExpectedCalibrationError(num_classes=2)
        >>> metric.update(torch.tensor([[[0.75], [0.25]]]), torch.tensor([[1]]))
        >>> metric.compute()  # 75 % sure and wrong
        tensor(0.7500, dtype=torch.float64)

    References:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, eq. 3.
    """

    higher_is_better = False

    bin_count: Tensor
    bin_confidence: Tensor
    bin_correct: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        num_bins: int = 15,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _checks.in_range("num_classes", num_classes, 2)
        _checks.in_range("num_bins", num_bins, 1)
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.ignore_index = ignore_index
        count = torch.zeros(num_bins, dtype=torch.int64)
        self.add_state("bin_count", default=count, dist_reduce_fx="sum")
        self.add_state("bin_confidence", default=count.double(), dist_reduce_fx="sum")
        self.add_state("bin_correct", default=count.double(), dist_reduce_fx="sum")

    def update(self, probs: Tensor, target: Tensor | Target, valid: Tensor | None = None) -> None:
        """Add pixels.

        Args:
            probs: Probabilities (N, C, *S).
            target: Class indices (N, *S), probabilities (N, C, *S), or a `Target` such as
                `targets.votes(masks)`, which is written out as probabilities.
            valid: Bool (N, *S), True where the pixel counts.

        Raises:
            ValueError: `probs` has another number of classes or another space than the target.
        """
        known = None
        if isinstance(target, Target):
            target = target.completed(self.ignore_index, tuple(probs.shape[2:]))
            target, known = to_probs(target, num_classes=self.num_classes)
        labels, counts = top_label(
            target, num_classes=self.num_classes, ignore_index=self.ignore_index
        )
        wanted = (labels.shape[0], self.num_classes, *labels.shape[1:])
        if tuple(probs.shape) != wanted:
            raise ValueError(
                f"Expected `probs` to have shape (N, C, *S) = {wanted}, matching the target, but "
                f"got {tuple(probs.shape)}."
            )
        valid = _checks.pixel_map("valid", valid, tuple(labels.shape), boolean=True)
        if valid is not None:
            counts = counts & valid
        if known is not None:
            counts = counts & known
        confidence, preds = probs.detach().max(1)
        if target.is_floating_point():
            correct = target.gather(1, preds.unsqueeze(1)).squeeze(1).double()
        else:
            correct = (preds == labels).double()
        confidence, correct = confidence[counts].double(), correct[counts]
        bins = (confidence * self.num_bins).long().clamp(0, self.num_bins - 1)
        self.bin_count += torch.bincount(bins, minlength=self.num_bins)
        self.bin_confidence += torch.bincount(bins, confidence, minlength=self.num_bins)
        self.bin_correct += torch.bincount(bins, correct, minlength=self.num_bins)

    def compute(self) -> Tensor:
        """Return the error in [0, 1], a float64 scalar; NaN without pixels."""
        return (self.bin_correct - self.bin_confidence).abs().sum() / self.bin_count.sum()

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram of what was seen in this process.

        Returns:
            "edges" (B + 1,), "count" (B,), and mean "confidence" and "accuracy" of the bins (B,),
            NaN for empty ones.
        """
        return {
            "edges": torch.linspace(0, 1, self.num_bins + 1, dtype=torch.float64),
            "count": self.bin_count.clone(),
            "confidence": self.bin_confidence / self.bin_count,
            "accuracy": self.bin_correct / self.bin_count,
        }
