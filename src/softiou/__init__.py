"""softiou: train segmentation models on the metric people report, with labels as soft as reality.

Names are imported on first use, so `import softiou` costs nothing and needs torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "Accumulation": "softiou.accumulation",
    "ChannelWiseDistillation": "softiou.losses",
    "DiceSemimetricLoss": "softiou.losses",
    "FocalLoss": "softiou.losses",
    "GeneralizedDiceLoss": "softiou.losses",
    "JaccardMetricLoss": "softiou.losses",
    "LovaszSoftmaxLoss": "softiou.losses",
    "OverlapLoss": "softiou.losses",
    "OverlapStatistics": "softiou.overlap",
    "SoftJaccardLoss": "softiou.losses",
    "TverskyLoss": "softiou.losses",
    "calibrate": "softiou.jobs",
    "check": "softiou.jobs",
    "compare": "softiou.jobs",
    "distill": "softiou.jobs",
    "evaluate": "softiou.jobs",
    "export": "softiou.jobs",
    "label": "softiou.jobs",
    "load": "softiou.jobs",
    "metrics": "softiou",
    "overlap_statistics": "softiou.overlap",
    "predict": "softiou.jobs",
    "semi": "softiou.jobs",
    "show_env": "softiou.environment",
    "targets": "softiou",
    "train": "softiou.jobs",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'softiou' has no attribute {name!r}")
    home = _HOMES[name]
    return (
        import_module(f"softiou.{name}")
        if home == "softiou"
        else getattr(import_module(home), name)
    )


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
