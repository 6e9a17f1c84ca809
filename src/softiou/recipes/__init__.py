"""Recipes: the training methods, one class each, which compute the loss of a batch."""

from softiou._moved import moved_names
from softiou.recipes.base import Recipe
from softiou.recipes.baseline import BASELINE, differences_to_baseline, without_teacher
from softiou.recipes.building import build_loss, build_target
from softiou.recipes.distillation import DistillationRecipe
from softiou.recipes.semi_supervised import SemiSupervisedRecipe
from softiou.recipes.supervised import SupervisedRecipe

__all__ = [
    "BASELINE",
    "DistillationRecipe",
    "Recipe",
    "SemiSupervisedRecipe",
    "SupervisedRecipe",
    "build_loss",
    "build_target",
    "differences_to_baseline",
    "without_teacher",
]

__getattr__ = moved_names(
    __name__,
    {
        "softiou.configuration": "Config LabellingConfig load_config load_labelling_config "
        "save_config validate_config",
        "softiou.training": "config_of is_first next_free_run resolve_config resume_training "
        "start_training",
    },
)
