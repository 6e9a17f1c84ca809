"""The recipe for each section of the configuration."""

from softiou.configuration import Config
from softiou.recipes.base import Recipe
from softiou.recipes.distillation import DistillationRecipe
from softiou.recipes.semi_supervised import SemiSupervisedRecipe
from softiou.recipes.supervised import SupervisedRecipe

# Recipes by `Config.method`, the name of their section.
RECIPES: dict[str, type[Recipe]] = {
    "": SupervisedRecipe,
    "distillation": DistillationRecipe,
    "semi_supervised": SemiSupervisedRecipe,
}


def recipe_for(config: Config) -> type[Recipe]:
    """Return the recipe class of a configuration."""
    return RECIPES[config.method]
