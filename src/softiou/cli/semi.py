"""softiou semi: a few images with masks, and many without."""

import json
from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import (
    ConfigFile,
    DataOrSetting,
    NewRun,
    RunToResume,
    check_verb,
    data_and_settings,
)


def semi(
    data: DataOrSetting = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings, for instance semi_supervised.pseudo_labels=hard "
            "semi_supervised.weight=0.5.",
            show_default=False,
        ),
    ] = None,
    unlabeled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images without masks; default: DATA/unlabeled/images, and those of train that "
            "--split leaves out.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.txt",
            help="Images with masks: a split, a list in DATA/splits such as 1_8 (softiou split), "
            "or a list elsewhere; default: train.",
        ),
    ] = None,
    config: ConfigFile = None,
    run: NewRun = None,
    resume: RunToResume = None,
) -> None:
    """Train on images with masks and on images without, and compare student and teacher.

    The teacher is the moving average of the student; its pseudo-labels stand in for the masks that
    are missing. Masks of unlabelled images are never opened, even where there are some.
    """
    from softiou.cli import _console
    from softiou.configuration import load_config
    from softiou.errors import ConfigError
    from softiou.training import config_of, is_first, resume_training, start_training

    data, settings = data_and_settings(data, overrides)
    if resume:
        if data or settings or config or run or unlabeled or split:
            raise ConfigError("--resume goes on with the run's own settings; leave the others out.")
        check_verb(config_of(resume), "semi", resume=resume)
        done = resume_training(resume, say=_console.say, progress_bar=_console.interactive())
    else:
        if not data and not config:
            raise ConfigError("Name a data set: softiou semi DATA, or --config FILE.")
        done = start_training(
            load_config(
                source=data,
                file=config,
                overrides=_as_settings(unlabeled, split) + settings,
                section="semi_supervised",
            ),
            directory=run,
            command=_console.command_line(),
            say=_console.say,
            progress_bar=_console.interactive(),
        )
    if is_first():
        compare(done)


def _as_settings(unlabeled: Path | None, split: str | None) -> list[str]:
    """Return what options say as settings, so that the run remembers it."""
    settings = []
    if unlabeled:
        settings.append(
            f"semi_supervised.unlabeled={json.dumps(str(unlabeled.expanduser().resolve()))}"
        )
    if split:
        name = str(Path(split).expanduser().resolve()) if split.endswith(".txt") else split
        settings.append(f"data.train_split={json.dumps(name)}")
    return settings


def compare(run: Path) -> None:
    """Evaluate student and teacher on the same images, and write both into the report."""
    from softiou.checkpoints import load_trained
    from softiou.cli import _console
    from softiou.cli.evaluate import score
    from softiou.cli.train import finish
    from softiou.configuration import load_config
    from softiou.reports import Comparison, ComparisonRow, collect, save_comparison, write_report

    student = finish(run, show=False)
    split = student.content["split"]
    data = load_config(file=run / "config.yaml").data.source
    teacher = score(
        load_trained(run, weights="teacher"), data, split=split, labels=student.content["labels"]
    )
    history = collect(run).history
    rows = [
        ComparisonRow(name, str(run), one.metrics, history.last_step, history.seconds)
        for name, one in (("student", student), ("teacher, its average", teacher))
    ]
    save_comparison(Comparison(data, split, tuple(rows)), run)
    _console.score_table({row.name: row.metrics for row in rows}, title=f"{data}, {split}")
    _console.say(f"report  {write_report(run)}")
