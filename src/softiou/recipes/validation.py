"""Metrics on the validation images during training.

Shapes: C classes, (H, W) the image.
"""

from torch import Tensor, nn
from torchmetrics import MeanMetric

from softiou.data import DatasetDescription
from softiou.metrics import ExpectedCalibrationError, PixelSums, SegmentationScores, pixel_sums

# Names of the metrics, as in the registry.
SCORES = (
    *("miou_d", "miou_i", "miou_c", "miou_i_q10", "miou_i_q5", "miou_c_q10", "miou_c_q5"),
    *("mdice_d", "mdice_i", "mdice_c", "accuracy", "macc", "ece_d"),
)


class ValidationScores(nn.Module):
    """Metrics over a data set: mIoU, Dice, accuracy and calibration error.

    With a `confidence_threshold`, only pixels whose highest probability reaches it are evaluated;
    "kept" is their share.
    """

    def __init__(
        self, description: DatasetDescription, *, confidence_threshold: float | None = None
    ) -> None:
        super().__init__()
        num_classes, ignore = description.num_classes, description.ignore_index
        self.scores = SegmentationScores(num_classes, ignore_index=ignore)
        self.calibration = ExpectedCalibrationError(num_classes, ignore_index=ignore)
        self.kept = MeanMetric()
        self.confidence_threshold = confidence_threshold
        self._ignore_index = ignore

    def gather(self, probs: Tensor, target: Tensor) -> PixelSums:
        """Compute sums from probabilities (C, h, w) and the labels of `softiou.data.truth`."""
        if self.confidence_threshold is not None:
            sure = probs.amax(0) >= self.confidence_threshold
            self.kept.update(sure.float().mean(), sure.numel())
            target = target.where(sure, self._ignore_index)
        return pixel_sums(
            probs.unsqueeze(0),
            target.unsqueeze(0),
            num_classes=self.scores.num_classes,
            ignore_index=self._ignore_index,
        )

    def add(self, sums: PixelSums) -> None:
        """Add the sums of an image."""
        self.scores.add(sums.overlap)
        self.calibration.add(sums.calibration)

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name, in per cent."""
        scores = {**self.scores.compute(), "ece_d": self.calibration.compute()}
        if self.confidence_threshold is not None:
            scores["kept"] = self.kept.compute()
        return {name: 100 * value.float() for name, value in scores.items()}

    def num_pixels(self) -> int:
        """Return the number of labelled pixels."""
        with self.scores.sync_context():
            return int(self.scores.counts().merge_images().present.sum())

    def never_predicted(self) -> list[int]:
        """Return the classes that occur in the labels but are never predicted."""
        with self.scores.sync_context():
            total = self.scores.counts().merge_images()
        missing = (total.present > 0) & (total.predicted == 0)
        return [int(index) for index in missing[0].nonzero()]

    def reset(self) -> None:
        """Remove all images."""
        self.kept.reset()
        self.scores.reset()
        self.calibration.reset()
