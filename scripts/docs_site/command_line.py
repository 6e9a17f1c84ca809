"""Generate the reference page of the command line from the click commands."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from softiou.cli import app

_HEAD = """\
# Command line

Every command prints the same text with `--help`. Settings are `key=value`; the page
[configuration](configuration.md) lists them. The exit status is 2 after an error in the
input, and 130 after Ctrl-C.

| command | description |
| --- | --- |
"""
# The text in brackets after the help of a parameter: its default, its range, or "required".
_NOTE = re.compile(r"\s*\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]$")
_KEEP = "\b"  # click does not rewrap a paragraph after this mark


def page() -> str:
    """Return the page in Markdown: a table of the commands, and a section for each."""
    found = list(verbs())
    rows = [f"| [`{name}`](#{_anchor(name)}) | {_first_line(verb)} |" for name, verb in found]
    return _HEAD + "\n".join([*rows, *(_section(name, verb) for name, verb in found)]) + "\n"


def verbs() -> Iterator[tuple[str, Any]]:
    """Yield pairs of a full name, such as "softiou train", and the click command."""
    yield from _leaves(typer.main.get_command(app), "softiou")


def _leaves(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, verb in group.commands.items():
        if hasattr(verb, "commands"):
            yield from _leaves(verb, f"{path} {name}")
        else:
            yield f"{path} {name}", verb


def _section(name: str, verb: Any) -> str:
    context = verb.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *verb.collect_usage_pieces(context)])
    parts = [
        f"\n## {name} {{ #{_anchor(name)} }}",
        _text(verb.help),
        f"```text\n{usage}\n```",
        *(_table(kind, verb, context) for kind in ("argument", "option")),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(kind: str, verb: Any, context: Any) -> str:
    records = (one.get_help_record(context) for one in verb.params if one.param_type_name == kind)
    rows = [_row(*record) for record in records if record]
    head = [f"| {kind} | meaning | default, range |", "| --- | --- | --- |"]
    return "\n".join(head + rows) if rows else ""


def _row(name: str, text: str) -> str:
    note = _NOTE.search(text)
    meaning = text[: note.start()] if note else text
    said = note[1].removeprefix("default: ") if note else ""
    return f"| `{_cell(name)}` | {_cell(meaning).replace('<', '&lt;')} | {_cell(said)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _first_line(verb: Any) -> str:
    return str(verb.help).strip().partition("\n")[0]


def _text(text: str) -> str:
    """Convert a help text to Markdown."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        f"```text\n{one.removeprefix(_KEEP).strip()}\n```" if one.startswith(_KEEP) else one
        for one in paragraphs
    )
