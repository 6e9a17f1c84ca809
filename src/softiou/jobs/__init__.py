"""Jobs: the verbs of the command line as functions that take plain values and return objects.

Names are imported on first use, so predicting with an exported file does not import the trainer.
"""

from typing import TYPE_CHECKING

from softiou._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from softiou.jobs.calibrating import calibrate
    from softiou.jobs.checking import SuspectLabel, check, suspect_labels
    from softiou.jobs.comparing import compare
    from softiou.jobs.exporting import export
    from softiou.jobs.labelling import label
    from softiou.jobs.predicting import Prediction, Predictions, SavedMasks, predict
    from softiou.jobs.reporting import ReportPage, report
    from softiou.jobs.run import Run, load
    from softiou.jobs.scoring import evaluate
    from softiou.jobs.training import distill, plan, semi, train

__all__ = [
    "Prediction",
    "Predictions",
    "ReportPage",
    "Run",
    "SavedMasks",
    "SuspectLabel",
    "calibrate",
    "check",
    "compare",
    "distill",
    "evaluate",
    "export",
    "label",
    "load",
    "plan",
    "predict",
    "report",
    "semi",
    "suspect_labels",
    "train",
]

__getattr__, __dir__ = _lazy_names(
    __name__,
    {
        "calibrating": "calibrate",
        "checking": "SuspectLabel check suspect_labels",
        "comparing": "compare",
        "exporting": "export",
        "labelling": "label",
        "predicting": "Prediction Predictions SavedMasks predict",
        "reporting": "ReportPage report",
        "run": "Run load",
        "scoring": "evaluate",
        "training": "distill plan semi train",
    },
)
