"""What is gathered of every image while a model is evaluated.

Shapes: C classes, (H, W) the image.
"""

from typing import Any

import torch
from torch import Tensor, nn

from softiou.data import DatasetDescription, TargetKind
from softiou.metrics import (
    BoundaryCalibrationError,
    BoundaryIoU,
    EvaluationScores,
    ImageStatistics,
    OverlapCounts,
    SoftScores,
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
        labels: What the data set hands out; soft labels and votes allow more figures. None leaves
            these out.
        boundaries: Whether to gather the boundary IoU.
    """

    def __init__(
        self, description: DatasetDescription, labels: TargetKind | None, *, boundaries: bool = True
    ) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {
            "num_classes": description.num_classes,
            "ignore_index": description.ignore_index,
        }
        self.scores = EvaluationScores(**self._settings)
        self.boundary = BoundaryIoU(**self._settings) if boundaries else None
        self.border_calibration = BoundaryCalibrationError(width=BORDER_PX, **self._settings)
        self.soft = None if labels in (None, "hard") else SoftScores(**self._settings)
        # Of two classes the first is the background, which is hard to get wrong.
        self._compared = [1] if description.num_classes == 2 else None
        self._energy: list[Tensor] | None = [] if labels == "votes" else None

    def add(self, probs: Tensor, preds: Tensor, target: Tensor, masks: Tensor) -> Tensor:
        """Add an image.

        Args:
            probs: Probabilities (C, H, W).
            preds: Their likeliest classes (H, W).
            target: The truth.
            masks: The labels as they came.

        Returns:
            The mean IoU of the image in [0, 1]; NaN where it is undefined.
        """
        probs, preds, target = (x.unsqueeze(0) for x in (probs, preds, target))
        sums = pixel_sums(probs, target, **self._settings)
        self.scores.add(sums)
        if self.boundary is not None:
            self.boundary.update(preds, target)
        self.border_calibration.update(probs, target)
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
            boundary=None if self.boundary is None else self.boundary.sums(),
            boundary_bins=self.border_calibration.sums().equal_width(),
            masses=None if self.soft is None else self.soft.sums(),
            energy=None if self._energy is None else torch.cat(self._energy),
        ).apply(Tensor.cpu)

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram over all pixels."""
        return self.scores.reliability()
