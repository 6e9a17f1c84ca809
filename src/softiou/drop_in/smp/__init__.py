"""Overlap losses with the names and arguments of `segmentation_models_pytorch.losses`."""

from softiou.drop_in.smp.losses import (
    BINARY_MODE,
    MULTICLASS_MODE,
    MULTILABEL_MODE,
    DiceLoss,
    JaccardLoss,
    SmpLoss,
    TverskyLoss,
)

__all__ = [
    "BINARY_MODE",
    "MULTICLASS_MODE",
    "MULTILABEL_MODE",
    "DiceLoss",
    "JaccardLoss",
    "SmpLoss",
    "TverskyLoss",
]
