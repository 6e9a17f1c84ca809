"""softiou label: store a teacher's soft labels for a data set on disk."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli import _console
from softiou.cli._arguments import Json


def label(
    data: Annotated[str, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.")],
    teacher: Annotated[
        Path, typer.Option(metavar="RUN|CKPT", help="Run directory or checkpoint of the teacher.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the soft labels; an existing folder is continued.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings, by default stride=auto k=auto mass=0.995 levels=58 shard_mib=1024 "
            "precision=auto workers=1, and splits: train.",
            show_default=False,
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Label only part I of N; by default the ranks of torchrun share the work.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check all stored labels, and replace damaged files.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Store a teacher's soft labels on disk, for softiou distill.

    The same command continues an interrupted run. Any number of processes and machines can share
    the work.
    """
    given = _console.for_job(locals())
    given["overrides"] = given.pop("settings") or []
    with _console.loading():
        from softiou.jobs import label as store_labels
    store = store_labels(**given)
    if json_output:
        folders = [path.name for path in out.iterdir() if path.is_dir()]
        counts = {name: len(store.stems(name)) for name in sorted(folders)}
        _console.print_json({"store": out, "images": counts, "bytes": store.size_bytes()})
