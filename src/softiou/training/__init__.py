"""Training: turns a configuration into a run directory with checkpoints."""

from softiou._processes import is_first
from softiou.recipes.custom import CustomParts
from softiou.training.planning import plan_training
from softiou.training.resolving import differences
from softiou.training.runs import config_of, finished_at, next_free_run
from softiou.training.trainer import resolve_config
from softiou.training.trainer import resume as resume_training
from softiou.training.trainer import train as start_training

__all__ = [
    "CustomParts",
    "config_of",
    "differences",
    "finished_at",
    "is_first",
    "next_free_run",
    "plan_training",
    "resolve_config",
    "resume_training",
    "start_training",
]
