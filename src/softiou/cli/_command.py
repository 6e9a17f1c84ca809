"""Options of every verb: -h, --quiet and --verbose; and hints for unknown options."""

import sys
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from softiou._screen import set_verbosity
from softiou.errors import ConfigError

# Renamed options; the old names work until the next minor release.
_RENAMED = {
    "--run": "--out",
    "--weights": "--model",
    "--not-calibrated": "--uncalibrated",
    "--input": "--input-dtype",
}
_SHARED = typer.Typer(add_completion=False)


@_SHARED.command()
def _options(
    quiet: Annotated[
        bool,
        typer.Option(
            "-q",
            "--quiet",
            callback=lambda value: set_verbosity(-1) if value else None,
            expose_value=False,
            help="Print only results and errors.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "-v",
            "--verbose",
            callback=lambda value: set_verbosity(1) if value else None,
            expose_value=False,
            help="Print the reasons for the values of auto, and messages of libraries.",
        ),
    ] = False,
) -> None:
    pass


class Verb(TyperCommand):
    """A softiou command with the shared options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.context_settings["help_option_names"] = ["-h", "--help"]
        self.params += typer.main.get_command(_SHARED).params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; for an option that is a setting, name the setting."""
        own = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        end = args.index("--") if "--" in args else len(args)
        for place, word in enumerate(args[:end]):
            option, equals, value = word.partition("=")
            if not option.startswith("--") or option in (*own, "--help"):
                continue
            if (new := _RENAMED.get(option)) in own:
                print(f"softiou: {option} was renamed to {new}", file=sys.stderr)
                args[place] = f"{new}{equals}{value}"
            elif not get_close_matches(option, own, cutoff=0.8):
                self._refuse_setting(option, value if equals else " ".join(args[place + 1 :][:1]))
        return super().parse_args(ctx, args)

    def _refuse_setting(self, option: str, value: str) -> None:
        """Raise ConfigError for an option that is a setting; the parser reports all others."""
        if not any("KEY=VALUE" in str(param.metavar) for param in self.params):
            return
        from softiou.configuration.mistakes import advice
        from softiou.configuration.sections import Config

        given = None if value.startswith("-") or not value else value
        if found := advice(option.removeprefix("--"), given, Config):
            raise ConfigError(f"{option}: settings are written KEY=VALUE; {found}")
