"""What is gathered of every image while a model is evaluated.

Shapes: C classes, (H, W) the image.
"""

from typing import Any

import torch
from torch import Tensor, nn

from softiou.data import DatasetDescription, Labels
from softiou.metrics import (
    BoundaryCalibrationError,
    BoundaryIoU,
    EvaluationScores,
    ImageStatistics,
    OverlapCounts,
    SoftScores,
    confusion_counts,
    generalized_energy_distance,
    mean_score,
    pixel_sums,
    sample_levels,
)

BORDER_PX = 3


class Gathered(nn.Module):
    """The sums of the images so far, of one set of probabilities.

    Args:
        description: Classes and ignored label.
        labels: What the data set hands out; soft labels and votes allow more figures.
    """

    def __init__(self, description: DatasetDescription, labels: Labels) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {
            "num_classes": description.num_classes,
            "ignore_index": description.ignore_index,
        }
        self.scores = EvaluationScores(**self._settings)
        self.boundary = BoundaryIoU(**self._settings)
        self.border_calibration = BoundaryCalibrationError(width=BORDER_PX, **self._settings)
        self.soft = SoftScores(**self._settings) if labels != "hard" else None
        self.confusion = torch.zeros(2 * [description.num_classes], dtype=torch.int64)
        # Of two classes the first is the background, which is hard to get wrong.
        self._compared = [1] if description.num_classes == 2 else None
        self._energy: list[Tensor] | None = [] if labels == "votes" else None

    def add(self, probs: Tensor, target: Tensor, masks: Tensor) -> Tensor:
        """Add an image: probabilities (C, H, W), the truth, and its labels as they came.

        Returns:
            The mean IoU of the image in [0, 1]; NaN where it is undefined.
        """
        probs, target = probs.unsqueeze(0), target.unsqueeze(0)
        preds = probs.argmax(1)
        sums = pixel_sums(probs, target, **self._settings)
        self.scores.add(sums)
        self.boundary.update(preds, target)
        self.border_calibration.update(probs, target)
        self.confusion += confusion_counts(preds, target, **self._settings)[0].cpu()
        if self.soft is not None:
            self.soft.update(probs, target)
        if self._energy is not None:
            # As many masks of the model as there are annotators, from its own probabilities.
            samples = sample_levels(probs, len(masks))
            self._energy.append(
                generalized_energy_distance(
                    samples, masks.unsqueeze(0), classes=self._compared, **self._settings
                )
            )
        return mean_score(sums.overlap, OverlapCounts.iou, per="image")

    def statistics(self) -> ImageStatistics:
        """Return what is known of every image, on the CPU."""
        return ImageStatistics.from_pixels(
            self.scores.sums(),
            boundary=self.boundary.sums(),
            boundary_bins=self.border_calibration.sums().equal_width(),
            masses=None if self.soft is None else self.soft.sums(),
            energy=None if self._energy is None else torch.cat(self._energy),
        ).apply(Tensor.cpu)

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram over all pixels."""
        return self.scores.reliability()
