"""Write the packaged recipes, complete configuration files, from the grid in recipes.yaml.

python -m scripts.write_recipes
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from softiou.configuration import Config, save_config, validate_config
from softiou.configuration.recipe_files import FOLDER

GRID = Path(__file__).with_name("recipes.yaml")
PAPER = (
    "Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels (Wang, Ning, Blaschko, "
    "NeurIPS 2023, arXiv 2302.05666)"
)
ORIGIN = (
    f"Method: {PAPER}. Where a line below says authors, the numbers are those of their "
    "configuration files, github.com/zifuwanggg/JDTLosses."
)
UNIMATCH = (
    "UniMatch: Revisiting Weak-to-Strong Consistency (Yang et al., CVPR 2023, arXiv 2208.09910), "
    "github.com/LiheYoung/UniMatch."
)
NO_FIGURE = (
    "no published results for exactly these settings; for other networks, see the tables of the "
    "paper."
)
WIDTH = 98  # and "# " in front


class Recipe(NamedTuple):
    """A configuration, and the comment at the top of its file."""

    config: Config
    header: str


def recipes() -> dict[str, Recipe]:
    """Return all recipes of the grid by name."""
    grid = yaml.safe_load(GRID.read_text(encoding="utf-8"))
    layers = {
        f"{data_set}-{method}": [
            grid["shared"],
            grid["data_sets"][data_set],
            grid["methods"][method],
            grid["methods"][method].get("data_sets", {}).get(data_set, {}),
            {"figures": grid["figures"][f"{data_set}-{method}"]}
            if f"{data_set}-{method}" in grid["figures"]
            else {},
        ]
        for data_set in grid["data_sets"]
        for method in grid["methods"]
    }
    for name, variant in grid["variants"].items():
        layers[name] = [*layers[variant["of"]], {"figures": None}, variant]
    return {name: _recipe(name, parts) for name, parts in layers.items()}


def write(folder: Path = FOLDER) -> None:
    """Write all files, and delete those that are no longer in the grid."""
    written = recipes()
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.yaml"):
        if path.stem not in written:
            path.unlink()
    for name, recipe in written.items():
        save_config(recipe.config, folder / f"{name}.yaml", header=recipe.header)


def _recipe(name: str, layers: list[Mapping[str, Any]]) -> Recipe:
    settings: dict[str, Any] = {}
    sources: dict[str, str] = {}
    said: dict[str, Any] = {}
    for layer in layers:
        settings |= layer.get("settings", {})
        sources |= layer.get("sources", {})
        said |= {key: layer[key] for key in ("source", "figures") if key in layer}
    titles = [layer["title"] for layer in layers if "title" in layer]
    settings["data.source"] = said["source"]
    config = validate_config(_nested(settings, data_set=name.partition("-")[0]))
    title = f"{titles[0]}: {titles[-1]}"
    return Recipe(config, _header(name, title, config, sources, said.get("figures")))


def _nested(settings: Mapping[str, Any], *, data_set: str) -> dict[str, Any]:
    """Convert keys such as "optim.steps" to nested sections."""
    values: dict[str, Any] = {}
    for dotted, value in settings.items():
        section, _, key = dotted.partition(".")
        text = value.format(data_set=data_set) if isinstance(value, str) else value
        values.setdefault(section, {})[key] = text
    return values


def _header(
    name: str, title: str, config: Config, sources: Mapping[str, str], figures: str | None
) -> str:
    origin = [ORIGIN] if config.data.source.partition(":")[0] != "camvid" else [f"Method: {PAPER}."]
    if "UniMatch" in " ".join(sources.values()):
        origin.append(UNIMATCH)
    lines = [title, "", *(f"    {command}" for command in _commands(name, config)), ""]
    for paragraph in origin:
        lines += _wrapped(paragraph)
    for section in type(config).model_fields:
        if section in sources:
            lines += _entry(section, sources[section])
    return "\n".join([*lines, *_entry("figures", figures or NO_FIGURE)])


def _commands(name: str, config: Config) -> list[str]:
    """Return the commands that run a recipe, including the previous step."""
    source = config.data.source
    last = f"softiou {config.verb} {source} --config {name}"
    if config.data.train_split.startswith("splits/"):
        return [f"softiou split {source} --fractions 1/8 --out splits", last]
    if config.distillation:
        teacher = str(config.distillation.teacher)
        first = f"softiou train {source} --config {Path(teacher).name} --out {teacher}"
        return [first, last]
    return [last]


def _entry(word: str, text: str) -> list[str]:
    return _wrapped(text, first=f"  {word}: ", next_ones="    ")


def _wrapped(text: str, *, first: str = "", next_ones: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=next_ones,
        break_on_hyphens=False,
        break_long_words=False,
    )


if __name__ == "__main__":
    write()
