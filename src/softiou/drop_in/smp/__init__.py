"""Losses with the names and arguments of `segmentation_models_pytorch.losses`."""

from softiou.drop_in.smp.inputs import BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE
from softiou.drop_in.smp.losses import DiceLoss, JaccardLoss, SmpLoss, TverskyLoss
from softiou.drop_in.smp.pixelwise import (
    FocalLoss,
    LovaszLoss,
    MCCLoss,
    SoftBCEWithLogitsLoss,
    SoftCrossEntropyLoss,
)

__all__ = [
    "BINARY_MODE",
    "MULTICLASS_MODE",
    "MULTILABEL_MODE",
    "DiceLoss",
    "FocalLoss",
    "JaccardLoss",
    "LovaszLoss",
    "MCCLoss",
    "SmpLoss",
    "SoftBCEWithLogitsLoss",
    "SoftCrossEntropyLoss",
    "TverskyLoss",
]
