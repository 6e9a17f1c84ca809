"""Arguments that several verbs share, and parsers of their values."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from softiou.errors import ConfigError

Truth = Annotated[
    Literal["auto", "hard", "soft", "votes", "staple"],
    typer.Option(
        help="Labels to compare with: hard (the majority), soft (probabilities of the data set), "
        "votes or staple (of several annotators); auto: soft for a model that was trained on soft "
        "labels, otherwise votes or hard."
    ),
]
Weights = Annotated[
    Literal["student", "teacher"],
    typer.Option(help="Of a semi-supervised run: student, or teacher (its moving average)."),
]
RunOrCheckpoint = Annotated[
    Path, typer.Argument(metavar="RUN|CKPT", help="Run directory or checkpoint file.")
]
RunOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|CKPT|FILE",
        help="Run directory, checkpoint file, or a file of `softiou export`.",
    ),
]
DataOfRun = Annotated[
    str | None,
    typer.Argument(
        help="Data set folder, LAYOUT:/path, or digits; default: the data of the run.",
        show_default=False,
    ),
]
DataOrSetting = Annotated[
    str | None, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.", show_default=False)
]


def _complete(incomplete: str) -> list[str]:
    """Return the keys that start with the typed text, for completion in the shell."""
    from softiou.configuration.sections import Config

    return [f"{key}=" for key in Config.dotted_keys() if key.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings, such as optim.steps=2000; softiou config prints all of them.",
        show_default=False,
        autocompletion=_complete,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|RECIPE",
        help="YAML file with settings, or the name of a recipe (softiou recipes ls).",
        show_default=False,
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="New run directory; default: the next free runs/NAME-001."),
]
TrainSplit = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE.txt",
        help="Images with masks: a split, a list in DATA/splits such as 1_8 (see softiou split), "
        "or the path of another list; default: train.",
    ),
]
RunToResume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Run directory to continue, after Ctrl-C or a crash."),
]
ResumeIfExists = Annotated[
    bool, typer.Option("--resume-if-exists", help="Continue --out RUN if it exists, else start it.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the settings as softiou config does, take one step, write nothing."
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16"],
    typer.Option(help="Of the network: fp32, as in exported files; bf16 and fp16 may be faster."),
]
Trust = Annotated[
    bool,
    typer.Option(
        help="Load a .pt2 file. Such a file can run any code: load only files that you wrote or "
        "trust."
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE|HxW",
        help="Sliding window of this size in pixels; default: 1024 above 2^24 pixels, else none.",
        show_default=False,
    ),
]
Overlap = Annotated[float, typer.Option(help="Share of a window that overlaps with the next one.")]
Flips = Annotated[
    bool, typer.Option("--flips", help="Average over the image and its mirror image.")
]
Scales = Annotated[
    str, typer.Option(metavar="S,S,...", help="Average over these scales of the image.")
]
BatchSize = Annotated[int, typer.Option(help="Windows per pass of the network.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]


def data_and_settings(
    data: str | None, overrides: list[str] | None
) -> tuple[str | None, list[str]]:
    """Return the data set and the settings; the first argument may be a setting."""
    settings = list(overrides or [])
    if data and "=" in data and not Path(data).exists():  # the file names the data set
        return None, [data, *settings]
    return data, settings


def factors(scales: str) -> tuple[float, ...]:
    """Parse scale factors; raise ConfigError unless all are numbers."""
    try:
        return tuple(float(factor) for factor in scales.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--scales: expected factors such as 0.75,1,1.25, but got {scales!r}."
        ) from error


def window_px(text: str | None) -> tuple[int, int] | None:
    """Parse height and width of a window; raise ConfigError unless they are numbers."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(
            f"--window: expected a side such as 512, or height x width such as 512x1024, in "
            f"pixels, but got {text!r}."
        )
    return int(parts[0]), int(parts[-1])
