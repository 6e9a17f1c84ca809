"""A network of segmentation_models_pytorch in Lightning, as in its own examples.

    python examples/smp_lightning.py [binary | multiclass]

Only the import of the loss differs from a script without softiou. `DiceLoss` has the same arguments
and the same value, also takes soft labels, and needs a fraction of the time for several classes.
"""

import sys
from typing import Any

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from softiou.data import DigitScenes
from softiou.drop_in.smp import DiceLoss  # was: from segmentation_models_pytorch.losses import ...


class Digits(Dataset[tuple[Tensor, Tensor]]):
    """Images in [0, 1] and masks: the digit, or for "binary" whether a pixel belongs to one."""

    def __init__(self, split: str, mode: str, size: int) -> None:
        self.scenes = DigitScenes(split, size=size)
        self.mode = mode

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the image (3, H, W), and the mask (1, H, W) floating or (H, W) integer."""
        scene = self.scenes[index]
        mask = scene["target"]
        if self.mode == "binary":
            mask = (mask > 0).float().unsqueeze(0)
        return scene["image"] / 255, mask


class SegmentationModel(pl.LightningModule):
    """A network and its loss; the metrics are those of the library."""

    def __init__(self, mode: str, classes: int) -> None:
        super().__init__()
        self.mode, self.classes = mode, classes
        self.model = smp.create_model(
            "unet", "tu-test_efficientnet", encoder_weights=None, classes=classes
        )
        self.loss_fn = DiceLoss(mode, from_logits=True)
        self.losses: list[float] = []
        self.iou = float("nan")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, masks = batch
        loss: Tensor = self.loss_fn(self.model(images), masks)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count what is right in a batch."""
        images, masks = batch
        logits = self.model(images)
        if self.mode == "binary":
            counts = smp.metrics.get_stats(logits.sigmoid() > 0.5, masks.long(), mode="binary")
        else:
            counts = smp.metrics.get_stats(
                logits.argmax(1), masks, mode="multiclass", num_classes=self.classes
            )
        self.iou = smp.metrics.iou_score(*counts, reduction="micro").item()
        self.log("valid_iou", self.iou)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def train(mode: str = "multiclass", *, steps: int = 200) -> SegmentationModel:
    """Train, and return the module with its `losses` and its `iou` on 32 other scenes."""
    pl.seed_everything(0, verbose=False)
    module = SegmentationModel(mode, classes=1 if mode == "binary" else 11)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=steps,
    )
    trainer.fit(
        module,
        DataLoader(Digits("train", mode, 8 * steps), batch_size=8, shuffle=True),
        DataLoader(Digits("val", mode, 32), batch_size=32),
    )
    return module


if __name__ == "__main__":
    module = train(*sys.argv[1:])
    print(f"loss {module.losses[0]:.3f} -> {module.losses[-1]:.3f}, IoU {module.iou:.3f}")
