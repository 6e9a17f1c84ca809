"""The configuration of a run, its files, and the packaged recipes; nothing here imports torch."""

from softiou.configuration.files import (
    config_text,
    load_config,
    load_labelling_config,
    save_config,
    validate_config,
)
from softiou.configuration.plan import Cost, Plan
from softiou.configuration.recipe_files import (
    RecipeSummary,
    copy_recipe,
    recipe_names,
    recipe_path,
    summarise_recipe,
)
from softiou.configuration.sections import Config, LabellingConfig

__all__ = [
    "Config",
    "Cost",
    "LabellingConfig",
    "Plan",
    "RecipeSummary",
    "config_text",
    "copy_recipe",
    "load_config",
    "load_labelling_config",
    "recipe_names",
    "recipe_path",
    "save_config",
    "summarise_recipe",
    "validate_config",
]
