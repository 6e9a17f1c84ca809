"""How a model is run over an image: the options of the verbs that run one."""

from enum import StrEnum
from typing import Annotated

import typer


class PrecisionChoice(StrEnum):
    """The kinds of `softiou.inference.Precision`, for the command line."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Precision = Annotated[
    PrecisionChoice,
    typer.Option(help="Of the network: fp32 as exported files compute; bf16, fp16 may be faster."),
]
Trust = Annotated[
    bool,
    typer.Option(
        help="Load a .pt2 file, which can run any code: only one that you wrote or trust as a "
        "program."
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE|HxW",
        help="Slide a window of so many pixels over large images; default: the whole image.",
        show_default=False,
    ),
]
Overlap = Annotated[float, typer.Option(help="Share of a window that the next one covers again.")]
Flips = Annotated[
    bool, typer.Option("--flips", help="Average over the image and its mirror image.")
]
Scales = Annotated[
    str, typer.Option(metavar="S,S,...", help="Average over the image at several sizes.")
]
BatchSize = Annotated[int, typer.Option(help="Windows in one pass of the network.")]


def factors(scales: str) -> tuple[float, ...]:
    """Read factors to resize by; ConfigError when one of them is no number."""
    from softiou.errors import ConfigError

    try:
        return tuple(float(factor) for factor in scales.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--scales: expected factors such as 0.75,1,1.25, but got {scales!r}."
        ) from error


def window_px(text: str | None) -> tuple[int, int] | None:
    """Read height and width of a window; ConfigError when they are no numbers."""
    from softiou.errors import ConfigError

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(
            f"--window: expected a side such as 512, or height x width such as 512x1024, in "
            f"pixels, but got {text!r}."
        )
    return int(parts[0]), int(parts[-1])
