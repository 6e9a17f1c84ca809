"""Post-hoc calibration of a trained model, stored beside the checkpoint."""

from softiou.calibration.fitting import Calibration, Change, calibrate
from softiou.calibration.pixels import PixelSample, sample_pixels
from softiou.calibration.sidecar import (
    calibration_path,
    earlier_calibration,
    load_calibration,
    load_scaling,
    require_scaling,
    save_calibration,
)

__all__ = [
    "Calibration",
    "Change",
    "PixelSample",
    "calibrate",
    "calibration_path",
    "earlier_calibration",
    "load_calibration",
    "load_scaling",
    "require_scaling",
    "sample_pixels",
    "save_calibration",
]
