"""softiou label: a teacher's soft labels of a data set, made once and kept on disk."""

from pathlib import Path
from typing import Annotated

import typer


def label(
    data: Annotated[str, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.")],
    teacher: Annotated[
        Path, typer.Option(metavar="RUN|CKPT", help="Run directory or checkpoint of the teacher.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the soft labels; an existing one is continued.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="splits=[train] stride=auto k=auto mass=0.995 levels=58 precision=auto workers=1",
            show_default=False,
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Label only part I of N; by default torchrun's ranks share the work.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check every file that is there, and make damaged ones again."
        ),
    ] = False,
) -> None:
    """Store a teacher's soft labels, small and restartable, for softiou distill.

    An interrupted run continues where it stopped, and any number of processes and machines can
    share the work.
    """
    from softiou import jobs

    jobs.label(data, teacher=teacher, out=out, part=part, verify=verify, overrides=settings or [])
