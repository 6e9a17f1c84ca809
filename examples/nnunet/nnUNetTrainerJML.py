"""An nnU-Net v2 trainer with the Jaccard metric loss instead of the Dice loss.

    export nnUNet_extTrainer=/path/to/this/folder
    nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerJML

nnU-Net before 2.8 does not know `nnUNet_extTrainer`: copy this file into its
`nnunetv2/training/nnUNetTrainer/variants/loss`. Prediction needs the class, too.
"""

from typing import Any

from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from softiou import JaccardMetricLoss

SUM = 2  # nnU-Net adds the cross-entropy and the other loss; softiou takes their mean


class RegionLoss(nn.Module):
    """A loss for region-based training, with binary targets (N, R, *S) for each region.

    Args:
        loss: A loss for independent classes.
        ignore_channel: Whether the target has a last channel that says which voxels to ignore.
    """

    def __init__(self, loss: nn.Module, *, ignore_channel: bool) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_channel = ignore_channel

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, R, *S)."""
        valid = None
        if self.ignore_channel:
            target, ignored = target[:, :-1], target[:, -1]
            valid = ~ignored.bool()
        loss: Tensor = self.loss(logits, target.bool(), valid=valid)
        return SUM * loss


class LabelLoss(nn.Module):
    """A loss for the targets of nnU-Net: labels (N, 1, *S).

    Args:
        loss: A loss for mutually exclusive classes.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, C, *S)."""
        loss: Tensor = self.loss(logits, target[:, 0].long())
        return SUM * loss


class nnUNetTrainerJML(nnUNetTrainer):  # type: ignore[misc] # noqa: N801 - the naming of nnU-Net
    """nnU-Net with cross-entropy + Jaccard metric loss, otherwise unchanged.

    Deep supervision, the ignore label, regions and joined batches are those of nnU-Net.
    """

    def _build_loss(self) -> nn.Module:
        labels = self.label_manager
        joined = self.configuration_manager.batch_dice
        settings: dict[str, Any] = {
            "cross_entropy": 1 / SUM,
            "smooth": 1e-5,
            "per": "batch" if joined else "image",
            # Several processes: the statistics of all their images, where the batch is joined.
            "process_group": "world" if joined and self.is_ddp else None,
        }
        loss: nn.Module
        if labels.has_regions:
            of_regions = JaccardMetricLoss(activation="sigmoid", classes="all", **settings)
            loss = RegionLoss(of_regions, ignore_channel=labels.has_ignore_label)
        else:
            foreground = range(1, labels.num_segmentation_heads)
            of_labels = JaccardMetricLoss(
                classes=list(foreground), ignore_index=labels.ignore_label, **settings
            )
            loss = LabelLoss(of_labels)
        # Replace the loss inside the wrapper of nnU-Net, which keeps its deep-supervision weights.
        built: nn.Module = super()._build_loss()
        if isinstance(built, DeepSupervisionWrapper):
            built.loss = loss
            loss = built
        return loss
