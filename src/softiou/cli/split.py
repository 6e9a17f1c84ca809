"""softiou split: lists for validation and test, or of a part of the training images."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli import _console
from softiou.cli._arguments import Json
from softiou.errors import ConfigError, DataError


def split(
    data: Annotated[str, typer.Argument(help="Folder with dataset.yaml, or LAYOUT:/path.")],
    val: Annotated[
        float | None,
        typer.Option(help="Share of the images for validation, such as 0.2.", show_default=False),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share of the images for test, such as 0.1.", show_default=False),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN|FILE.csv:COLUMN",
            help="Keeps images of a patient, video, ... in one split: a regular expression for the "
            "names, or a column of a table with the names in the first column.",
            show_default=False,
        ),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(
            help="Parts of the training images to list; default: 1/16,1/8,1/4.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the lists; default: DATA/splits.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Divide the training images into class-balanced splits, or choose parts of them.

    --val and --test write disjoint lists train.txt, val.txt and test.txt. Otherwise the lists are
    nested parts, 1_8.txt for 1/8 and so on: `softiou semi DATA --split 1_8` uses only these masks,
    and the other images without masks. With --out FOLDER, give --split FOLDER/1_8.txt.
    """
    from softiou.data import divide_images, parse_fractions, split_fractions, write_splits

    shares = {name: share for name, share in (("val", val), ("test", test)) if share is not None}
    if (fractions and (shares or by)) or (by and not shares):
        raise ConfigError("--by goes with --val and --test, and --fractions stands alone.")
    if data == "digits":
        raise DataError("The digits have the splits val, test, 1_16, 1_8 and 1_4 already.")
    if shares:
        chosen = divide_images(data, shares, by=by, seed=seed)
    else:
        chosen = split_fractions(data, parse_fractions(fractions or "1/16,1/8,1/4"), seed=seed)
    written = dict(zip(chosen, write_splits(data, chosen, folder=out), strict=True))
    if json_output:
        lists = {name: {"file": written[name], "images": chosen[name]} for name in chosen}
        _console.print_json(lists)
        return
    for name, path in written.items():
        _console.say(f"{path}: {len(chosen[name])} images")
