"""Overlap losses with the names and arguments of `monai.losses`."""

from softiou.drop_in.monai.base import MonaiLoss
from softiou.drop_in.monai.dice import DiceLoss
from softiou.drop_in.monai.dice_ce import DiceCELoss
from softiou.drop_in.monai.generalized import GeneralizedDiceLoss
from softiou.drop_in.monai.tversky import TverskyLoss

__all__ = ["DiceCELoss", "DiceLoss", "GeneralizedDiceLoss", "MonaiLoss", "TverskyLoss"]
