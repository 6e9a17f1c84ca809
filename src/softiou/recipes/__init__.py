"""Recipes: from a configuration to a trained run (needs the extra `train`)."""

from softiou.recipes.config import Config, load_config, save_config, validate_config
from softiou.recipes.runs import next_free_run
from softiou.recipes.supervised import SupervisedRecipe, build_loss
from softiou.recipes.training import resume as resume_training
from softiou.recipes.training import train as start_training

__all__ = [
    "Config",
    "SupervisedRecipe",
    "build_loss",
    "load_config",
    "next_free_run",
    "resume_training",
    "save_config",
    "start_training",
    "validate_config",
]
