"""The command line: one file a verb. Nothing heavy is imported before a verb runs."""

import sys
import warnings

import typer

from softiou import __version__
from softiou.cli._console import plain_message, visible
from softiou.cli.calibrate import calibrate
from softiou.cli.check import check
from softiou.cli.compare import compare
from softiou.cli.demo import demo
from softiou.cli.distill import distill
from softiou.cli.evaluate import evaluate
from softiou.cli.export import export
from softiou.cli.fetch import fetch
from softiou.cli.label import label
from softiou.cli.models import models
from softiou.cli.predict import predict
from softiou.cli.recipes import recipes
from softiou.cli.report import report
from softiou.cli.semi import semi
from softiou.cli.split import split
from softiou.cli.train import train
from softiou.errors import SoftiouError

app = typer.Typer(
    name="softiou",
    help="Train segmentation models on IoU, with labels as soft as reality.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
for verb in (
    demo,
    fetch,
    check,
    models,
    split,
    train,
    label,
    distill,
    semi,
    evaluate,
    calibrate,
    compare,
    export,
    predict,
    report,
):
    app.command()(verb)
app.add_typer(recipes, name="recipes")


def _show_version(value: bool) -> None:
    if value:
        print(f"softiou {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def _complain(message: str) -> None:
    print(f"softiou: {visible(message, keep=chr(10))}", file=sys.stderr)


def main() -> None:
    """Run the command line; a mistake in the input ends in a message instead of a traceback."""
    # Pillow's doubts about large images: a person has named them.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    try:
        app()
    except SoftiouError as error:
        _complain(plain_message(error))
        sys.exit(2)
    except OSError as error:  # the disk is full, a folder is not ours: names the file
        _complain(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        print("softiou: interrupted", file=sys.stderr)
        sys.exit(130)
