"""Models that can be exported at once, and trained ones made of them."""

from pathlib import Path

import torch
from torch import nn

from softiou.checkpoints import TrainedModel
from softiou.data import DatasetDescription
from softiou.models import ModelSpec, SegmentationModel

CLASSES = DatasetDescription(
    ("ground", "bôx", "disc"), ignore_index=7, palette=((9, 9, 9), (200, 0, 0), (0, 0, 90))
)


def draw(spec: ModelSpec) -> SegmentationModel:
    """A model whose batch norms remember something, as those of a trained one do."""
    torch.manual_seed(0)
    model = SegmentationModel(spec).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def trained_model(model: SegmentationModel, folder: Path) -> TrainedModel:
    """What `load_trained` would return of a checkpoint with that model."""
    path = folder / "best.ckpt"
    path.write_bytes(b"a checkpoint")
    return TrainedModel(model, CLASSES, {}, path, 3)
