"""The recipes that come with the package: complete configurations of published experiments.

They are YAML files, so that they can be read, copied and changed. A name is DATASET-METHOD.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from softiou._files import write_atomically
from softiou.errors import ConfigError

FOLDER = Path(__file__).parent / "recipes"


class RecipeSummary(NamedTuple):
    """A row of the list of recipes."""

    name: str
    data_set: str
    method: str
    title: str
    verb: str
    architecture: str
    encoder: str
    steps: int
    crop_px: tuple[int, int]
    batch_size: int


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def recipe_path(name: str) -> Path:
    """Return the file of a recipe, or raise a ConfigError that suggests similar names."""
    names = recipe_names()
    if name in names:
        return FOLDER / f"{name}.yaml"
    close = [one for one in names if name in one] + get_close_matches(name, names)
    few = list(dict.fromkeys(close))[:3]
    meant = f"Did you mean one of {', '.join(few)}? " if few else ""
    raise ConfigError(f"There is no recipe {name!r}. {meant}`softiou recipes ls` lists them all.")


def summarise_recipe(name: str) -> RecipeSummary:
    """Return the main settings of a recipe."""
    import yaml

    from softiou.configuration.sections import Config

    text = recipe_path(name).read_text(encoding="utf-8")
    values: Mapping[str, Any] = yaml.safe_load(text)
    height, width = values["data"]["crop_px"]
    data_set, _, method = name.partition("-")
    return RecipeSummary(
        name=name,
        data_set=data_set,
        method=method,
        title=text.splitlines()[0].removeprefix("# "),
        verb=next((verb for key, verb in Config.verbs().items() if values[key]), "train"),
        architecture=values["model"]["architecture"],
        encoder=values["model"]["encoder"],
        steps=values["optim"]["steps"],
        crop_px=(height, width),
        batch_size=values["data"]["batch_size"],
    )


def copy_recipe(name: str, file: Path) -> None:
    """Copy a recipe to a new file.

    Raises:
        ConfigError: The recipe does not exist, the file exists, or its folder does not.
    """
    content = recipe_path(name).read_bytes()
    if file.exists():
        raise ConfigError(f"{file} already exists: give another name, or move it away.")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: the folder {file.parent} does not exist; create it first.")
    write_atomically(content, file)
