"""Loss functions: overlap losses for any target, the Lovász-softmax loss, and distillation."""

from softiou.losses.base import LossSettings, OverlapLoss, Targets, weights_of
from softiou.losses.channel_wise import ChannelWiseDistillation, channel_wise_divergence
from softiou.losses.correlation import correlation_distance
from softiou.losses.lovasz import LovaszSoftmaxLoss, lovasz_extension
from softiou.losses.overlap import (
    DiceSemimetricLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    JaccardMetricLoss,
    SoftJaccardLoss,
    TverskyLoss,
)

__all__ = [
    "ChannelWiseDistillation",
    "DiceSemimetricLoss",
    "FocalLoss",
    "GeneralizedDiceLoss",
    "JaccardMetricLoss",
    "LossSettings",
    "LovaszSoftmaxLoss",
    "OverlapLoss",
    "SoftJaccardLoss",
    "Targets",
    "TverskyLoss",
    "channel_wise_divergence",
    "correlation_distance",
    "lovasz_extension",
    "weights_of",
]
