"""Overlap losses with the names and arguments of `monai.losses`.

Names of `monai.losses` without a replacement, such as `HausdorffDTLoss`, are MONAI's own.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import Any as _Any

from softiou.drop_in.monai import dice, focal
from softiou.drop_in.monai.base import MonaiLoss
from softiou.drop_in.monai.dice import DiceLoss, GeneralizedDiceLoss, MaskedDiceLoss, TverskyLoss
from softiou.drop_in.monai.dice_ce import DiceCELoss
from softiou.drop_in.monai.focal import DiceFocalLoss, FocalLoss, GeneralizedDiceFocalLoss

dice_ce = DiceCELoss  # as in MONAI, instead of the module
_SHORT_NAMES = {
    "Dice": DiceLoss,
    "dice_focal": DiceFocalLoss,
    "generalized_dice": GeneralizedDiceLoss,
    "generalized_dice_focal": GeneralizedDiceFocalLoss,
    "focal_loss": focal,
    "tversky": dice,
}

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


def __getattr__(name: str) -> _Any:
    if name in _SHORT_NAMES:
        return _SHORT_NAMES[name]
    if name.startswith("_") or _find_spec("monai") is None:
        raise AttributeError(
            f"softiou.drop_in.monai has no {name!r}. If it is a loss of MONAI, install monai."
        )
    return getattr(_import_module("monai.losses"), name)
