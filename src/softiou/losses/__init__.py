"""Losses: of the overlap statistics, against any target; and of a teacher's activation maps."""

from softiou.losses.base import LossSettings, OverlapLoss, Targets, weights_of
from softiou.losses.channel_wise import ChannelWiseDistillation, channel_wise_divergence
from softiou.losses.correlation import correlation_distance
from softiou.losses.overlap import (
    DiceSemimetricLoss,
    JaccardMetricLoss,
    SoftJaccardLoss,
    TverskyLoss,
)

__all__ = [
    "ChannelWiseDistillation",
    "DiceSemimetricLoss",
    "JaccardMetricLoss",
    "LossSettings",
    "OverlapLoss",
    "SoftJaccardLoss",
    "Targets",
    "TverskyLoss",
    "channel_wise_divergence",
    "correlation_distance",
    "weights_of",
]
