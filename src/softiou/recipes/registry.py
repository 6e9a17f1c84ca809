"""Which recipe learns by which section of the configuration."""

from softiou.configuration import Config
from softiou.recipes.base import Recipe
from softiou.recipes.distillation import DistillationRecipe
from softiou.recipes.semi_supervised import SemiSupervisedRecipe
from softiou.recipes.supervised import SupervisedRecipe

# By `Config.method`, the name of the section; a new recipe is a line here.
RECIPES: dict[str, type[Recipe]] = {
    "": SupervisedRecipe,
    "distillation": DistillationRecipe,
    "semi_supervised": SemiSupervisedRecipe,
}


def recipe_for(config: Config) -> type[Recipe]:
    """Return the recipe that a configuration describes."""
    return RECIPES[config.method]
