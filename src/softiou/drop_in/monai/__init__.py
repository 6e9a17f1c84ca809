"""Overlap losses with the names and arguments of `monai.losses`."""

from softiou.drop_in.monai.base import MonaiLoss
from softiou.drop_in.monai.dice import DiceLoss, MaskedDiceLoss
from softiou.drop_in.monai.dice_ce import DiceCELoss
from softiou.drop_in.monai.focal import DiceFocalLoss, FocalLoss, GeneralizedDiceFocalLoss
from softiou.drop_in.monai.generalized import GeneralizedDiceLoss
from softiou.drop_in.monai.tversky import TverskyLoss

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
