"""Recipes: from a configuration to a trained run (needs the extra `train`)."""

from softiou.recipes.baseline import BASELINE, differences_to_baseline, without_teacher
from softiou.recipes.building import build_loss, build_target
from softiou.recipes.config import Config, LabellingConfig
from softiou.recipes.config_files import (
    load_config,
    load_labelling_config,
    save_config,
    validate_config,
)
from softiou.recipes.distillation import DistillationRecipe
from softiou.recipes.processes import is_first
from softiou.recipes.runs import config_of, next_free_run
from softiou.recipes.semi_supervised import SemiSupervisedRecipe
from softiou.recipes.supervised import SupervisedRecipe
from softiou.recipes.training import resolve_config
from softiou.recipes.training import resume as resume_training
from softiou.recipes.training import train as start_training

__all__ = [
    "BASELINE",
    "Config",
    "DistillationRecipe",
    "LabellingConfig",
    "SemiSupervisedRecipe",
    "SupervisedRecipe",
    "build_loss",
    "build_target",
    "config_of",
    "differences_to_baseline",
    "is_first",
    "load_config",
    "load_labelling_config",
    "next_free_run",
    "resolve_config",
    "resume_training",
    "save_config",
    "start_training",
    "validate_config",
    "without_teacher",
]
