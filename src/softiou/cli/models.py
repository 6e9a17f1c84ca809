"""`softiou models`: list the available networks and their cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli import _console
from softiou.errors import ConfigError

if TYPE_CHECKING:
    from softiou.models.catalogue import Cost


def models(
    architecture: Annotated[
        str | None,
        typer.Option(help="Only this architecture, with common encoders.", show_default=False),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Only this encoder; tu-NAME: of timm.", show_default=False)
    ] = None,
    crop: Annotated[int, typer.Option(help="Crop side in pixels, for the cost.", min=1)] = 512,
    classes: Annotated[int, typer.Option(help="Number of classes.", min=1)] = 19,
    search: Annotated[
        str | None,
        typer.Option(help="List the encoders whose name contains this text.", show_default=False),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List architectures and encoders with their parameters and compute."""
    from softiou.models.catalogue import costs, encoder_families, search_encoders

    if search is not None:
        _print_names(search, search_encoders(search), json_output=json_output)
        return
    found = costs(architecture=architecture, encoder=encoder, crop_px=crop, num_classes=classes)
    if json_output:
        content = {"models": [asdict(cost) for cost in found], "encoders": encoder_families()}
        print(json.dumps(content, indent=2))
        return
    _print_costs(found, crop=crop, classes=classes)
    if architecture is None and encoder is None:
        _print_families(encoder_families())


def _print_names(text: str, names: list[str], *, json_output: bool) -> None:
    if json_output:
        print(json.dumps(names, indent=2))
        return
    if not names:
        raise ConfigError(
            f"--search: no encoder's name contains {text!r}. Try a shorter text, such as convnext."
        )
    print("\n".join(names))


def _print_costs(found: list[Cost], *, crop: int, classes: int) -> None:
    """Print a row for each pair, and the reasons why other pairs are unavailable."""
    headings = ("architecture", "encoder", "parameters, M", "GMACs", "stride of the logits")
    caption = f"GMACs of a crop of {crop}x{crop}, for {classes} classes"
    table = _console.table_of(headings, words=2, caption=caption)
    for cost in found:
        if cost.refusal is None:
            figures = (f"{cost.parameters / 1e6:.1f}", f"{cost.gmacs:.1f}", str(cost.stride))
            table.add_row(cost.architecture, cost.encoder, *figures)
    _console.print_table(table)
    for cost in found:
        if cost.refusal is not None:
            print(cost.refusal)


def _print_families(families: dict[str, list[str]]) -> None:
    print("\nEncoders, in addition to those of timm as tu-NAME (--search convnext lists some):")
    for names in families.values():
        print(f"  {' '.join(names)}")
    print(
        "\nModels of Hugging Face: model.architecture=transformers model.encoder=REPOSITORY|FOLDER"
    )
