"""softiou split: divide a data set, or choose fractions of the training images."""

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
            help="Keep all images of a patient, video, ... in one split: a regular expression for "
            "their names, or a column of a table whose first column has the names.",
            show_default=False,
        ),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(
            help="Fractions of the training images; default: 1/16,1/8,1/4.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the lists; default: DATA/splits.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Divide the training images into class-balanced splits, or choose fractions of them.

    --val and --test write disjoint lists train.txt, val.txt and test.txt. Without them, the lists
    are nested fractions: 1_8.txt for 1/8 and so on. `softiou semi DATA --split 1_8` uses only these
    masks, and the other images without masks. After --out FOLDER, use --split FOLDER/1_8.txt.
    """
    from softiou.data import divide_images, parse_fractions, split_fractions, write_splits

    shares = {name: share for name, share in (("val", val), ("test", test)) if share is not None}
    if (fractions and (shares or by)) or (by and not shares):
        raise ConfigError("--by needs --val or --test; --fractions cannot be combined with them.")
    if data == "digits":
        raise DataError("The digits already have the splits val, test, 1_16, 1_8 and 1_4.")
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
