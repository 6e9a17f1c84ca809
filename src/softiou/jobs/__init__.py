"""Jobs: the verbs of the command line as functions that take plain values and return objects."""

from softiou.jobs.calibrating import calibrate
from softiou.jobs.checking import check
from softiou.jobs.comparing import compare
from softiou.jobs.distilling import distill
from softiou.jobs.exporting import export
from softiou.jobs.labelling import label
from softiou.jobs.predicting import Prediction, Predictions, SavedMasks, predict
from softiou.jobs.reporting import ReportPage, report
from softiou.jobs.run import Run, load
from softiou.jobs.scoring import evaluate
from softiou.jobs.training import semi, train

__all__ = [
    "Prediction",
    "Predictions",
    "ReportPage",
    "Run",
    "SavedMasks",
    "calibrate",
    "check",
    "compare",
    "distill",
    "evaluate",
    "export",
    "label",
    "load",
    "predict",
    "report",
    "semi",
    "train",
]
