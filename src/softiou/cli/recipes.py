"""softiou recipes: list, print and copy the settings of published experiments."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli import _console
from softiou.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softiou.configuration.recipe_files import RecipeSummary

recipes = typer.Typer(
    help="List and copy recipes: complete settings of published experiments.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Name of a recipe, such as cityscapes-jml.")]


@recipes.command("ls")
def ls(
    part: Annotated[str, typer.Argument(help="Part of the name, such as cityscapes or kd.")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recipes with their data set, method, model and number of steps."""
    from softiou.configuration.recipe_files import recipe_names, summarise_recipe

    found = [summarise_recipe(name) for name in recipe_names() if part in name]
    if json_output:
        print(json.dumps([summary._asdict() for summary in found], indent=2))
    elif found:
        _print_table(found)
    else:
        raise ConfigError(f"No recipe's name contains {part!r}; `softiou recipes ls` lists all.")


@recipes.command("show")
def show(name: Name) -> None:
    """Print a recipe: its settings, the source of each value and the command to run it."""
    from softiou.configuration.recipe_files import recipe_path

    print(recipe_path(name).read_text(encoding="utf-8"), end="")


@recipes.command("cp")
def cp(
    name: Name,
    file: Annotated[
        Path | None,
        typer.Argument(help="New file, or a folder; default: NAME.yaml.", show_default=False),
    ] = None,
) -> None:
    """Copy a recipe to a new file that you can edit and pass to --config."""
    from softiou.configuration.recipe_files import copy_recipe, summarise_recipe

    copy = file or Path(f"{name}.yaml")
    if copy.is_dir():
        copy /= f"{name}.yaml"
    copy_recipe(name, copy)
    verb = summarise_recipe(name).verb
    _console.say(f"{copy}: edit it, and run  softiou {verb} DATA --config {copy}")


def _print_table(summaries: "Sequence[RecipeSummary]") -> None:
    from rich.box import SIMPLE_HEAD

    words = ("recipe", "data set", "method", "verb", "architecture", "encoder")
    table = _console.table_of(
        (*words, "steps", "crop", "batch"),
        words=len(words),
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption="softiou VERB DATA --config RECIPE",
    )
    for one in summaries:
        words = (one.name, one.data_set, one.method, one.verb, one.architecture, one.encoder)
        crop, steps = "x".join(map(str, one.crop_px)), f"{one.steps:,}"
        table.add_row(*words, steps, crop, str(one.batch_size))
    _console.print_table(table, width=150)
