"""softiou fetch: download published data sets, or print how to get them."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from softiou._screen import progress_of
from softiou.cli import _console
from softiou.errors import DataError


def fetch(
    name: Annotated[
        str,
        typer.Argument(help="cityscapes, voc, ade20k, deepglobe or camvid.", show_default=False),
    ],
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the data; default: only print instructions."),
    ] = None,
    sbd: Annotated[
        bool, typer.Option("--sbd", help="voc: also the 10,582 masks of trainaug (1.4 GB).")
    ] = False,
) -> None:
    """Download a published data set, or print where to get it and how to store it.

    voc and ade20k are downloaded with --to DIR. An interrupted download is resumed, archives
    are checked, and no file is ever overwritten.
    """
    from softiou.fetching import FETCHED, fetch_dataset, instructions

    if sbd and (to is None or name != "voc"):
        got = name if to is None else f"{name} --to {to}"
        raise DataError(
            f"Expected `--sbd` with `softiou fetch voc --to DIR`, but got `softiou fetch {got} "
            "--sbd`. Only voc has these masks; run `softiou fetch voc --to DIR --sbd` or omit it."
        )
    if to is None or name not in FETCHED:
        _console.say(instructions(name))
        if to is not None:
            _console.say(f"\nsoftiou can download only {' and '.join(FETCHED)}; nothing was done.")
            raise typer.Exit(1)
        return
    watch = partial(progress_of(None).track, description="downloading")
    fetched = fetch_dataset(name, to, sbd=sbd, say=_console.say, watch=watch)
    _console.say(f"Next: softiou check {fetched.source}")
