"""The command line: one file per verb. No slow import happens before a verb runs."""

import sys
from typing import Annotated

import typer

from softiou import __version__
from softiou._processes import are_several, end_with_parent
from softiou._screen import set_verbosity, visible
from softiou._signals import listen, received
from softiou.cli._command import Verb
from softiou.cli._endings import message_of, status_of_interruption
from softiou.cli.calibrate import calibrate
from softiou.cli.check import check, convert
from softiou.cli.compare import compare
from softiou.cli.config import config
from softiou.cli.demo import demo
from softiou.cli.env import env
from softiou.cli.evaluate import evaluate
from softiou.cli.export import export
from softiou.cli.fetch import fetch
from softiou.cli.label import label
from softiou.cli.models import models
from softiou.cli.predict import predict
from softiou.cli.recipes import recipes
from softiou.cli.report import report
from softiou.cli.split import split
from softiou.cli.train import distill, main_settings, semi, train

app = typer.Typer(
    name="softiou",
    help="Train segmentation models on IoU, with hard or soft labels.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)
for verb in (
    demo,
    fetch,
    check,
    convert,
    models,
    split,
    config,
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
    env,
):
    app.command(cls=Verb, epilog=main_settings() if verb is train else None)(verb)
app.add_typer(recipes, name="recipes")


@app.command("help")
def _help(
    verb: Annotated[list[str] | None, typer.Argument(help="Such as train, or recipes ls.")] = None,
) -> None:
    """Show the help of a verb."""
    app([*(verb or ()), "--help"], prog_name="softiou")


def _show_version(value: bool) -> None:
    if value:
        print(f"softiou {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show where an error comes from."),
) -> None:
    pass


def main() -> None:
    """Run the command line; an error ends in a message instead of a traceback."""
    debug = "--debug" in sys.argv  # also accepted after the verb
    sys.argv = [one for one in sys.argv if one != "--debug"]
    listen()
    if are_several():
        end_with_parent()  # a killed launcher cannot terminate its processes
    set_verbosity(0)
    try:
        app()
    except Exception as error:
        if debug:
            raise
        print(f"softiou: {visible(message_of(error), keep=chr(10))}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        # typer turns KeyboardInterrupt into 130; 0 means that a library swallowed the interrupt.
        if received() and end.code in (None, 0, 130):
            sys.exit(status_of_interruption())
        raise
