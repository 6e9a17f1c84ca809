"""Overlap losses with the names and arguments of `monai.losses`."""

from softiou.drop_in.monai.base import MonaiLoss
from softiou.drop_in.monai.dice import DiceLoss, GeneralizedDiceLoss, MaskedDiceLoss, TverskyLoss
from softiou.drop_in.monai.dice_ce import DiceCELoss
from softiou.drop_in.monai.focal import DiceFocalLoss, FocalLoss, GeneralizedDiceFocalLoss

__all__ = [
    "DiceCELoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalLoss",
    "GeneralizedDiceFocalLoss",
    "GeneralizedDiceLoss",
    "MaskedDiceLoss",
    "MonaiLoss",
    "TverskyLoss",
]
