"""softiou split: lists of a part of the training images, for learning from few masks."""

from pathlib import Path
from typing import Annotated

import typer


def split(
    data: Annotated[str, typer.Argument(help="Folder with dataset.yaml, or LAYOUT:/path.")],
    fractions: Annotated[
        str, typer.Option(help="Which parts of the training images, for instance 1/16,1/8,1/4.")
    ] = "1/16,1/8,1/4",
    seed: Annotated[int, typer.Option(min=0, help="Another seed chooses other images.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the lists; default: DATA/splits."),
    ] = None,
) -> None:
    """Choose parts of the training images, nested and with all classes in balance.

    Writes 1_8.txt for 1/8 and so on: `softiou semi DATA --split 1_8` learns from these masks alone
    and from the other images without theirs. Elsewhere than in DATA, give --split FOLDER/1_8.txt.
    """
    from softiou.cli import _console
    from softiou.data import parse_fractions, split_fractions, write_splits
    from softiou.errors import DataError

    if data == "digits":
        raise DataError("The digits have the splits 1_16, 1_8 and 1_4 already.")
    chosen = split_fractions(data, parse_fractions(fractions), seed=seed)
    for path, stems in zip(write_splits(data, chosen, folder=out), chosen.values(), strict=True):
        _console.say(f"{path}: {len(stems)} images")
