"""softiou: losses, metrics and training for IoU in semantic segmentation, with soft labels.

Names are imported on first use, so `import softiou` is fast and needs only torch.
"""

from typing import TYPE_CHECKING

from softiou._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from softiou import metrics, targets
    from softiou.accumulation import Accumulation
    from softiou.environment import show_env
    from softiou.jobs import (
        calibrate,
        check,
        compare,
        distill,
        evaluate,
        export,
        label,
        load,
        predict,
        semi,
        train,
    )
    from softiou.losses import (
        ChannelWiseDistillation,
        DiceSemimetricLoss,
        FocalLoss,
        GeneralizedDiceLoss,
        JaccardMetricLoss,
        LovaszSoftmaxLoss,
        OverlapLoss,
        SoftJaccardLoss,
        TverskyLoss,
    )
    from softiou.overlap import OverlapStatistics, overlap_statistics

__version__ = "0.1.0"

__all__ = [
    "Accumulation",
    "ChannelWiseDistillation",
    "DiceSemimetricLoss",
    "FocalLoss",
    "GeneralizedDiceLoss",
    "JaccardMetricLoss",
    "LovaszSoftmaxLoss",
    "OverlapLoss",
    "OverlapStatistics",
    "SoftJaccardLoss",
    "TverskyLoss",
    "calibrate",
    "check",
    "compare",
    "distill",
    "evaluate",
    "export",
    "label",
    "load",
    "metrics",
    "overlap_statistics",
    "predict",
    "semi",
    "show_env",
    "targets",
    "train",
]

__getattr__, _ = _lazy_names(
    __name__,
    {
        "accumulation": "Accumulation",
        "environment": "show_env",
        "jobs": "calibrate check compare distill evaluate export label load predict semi train",
        "losses": "ChannelWiseDistillation DiceSemimetricLoss FocalLoss GeneralizedDiceLoss "
        "JaccardMetricLoss LovaszSoftmaxLoss OverlapLoss SoftJaccardLoss TverskyLoss",
        "metrics": "metrics",
        "overlap": "OverlapStatistics overlap_statistics",
        "targets": "targets",
    },
)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
