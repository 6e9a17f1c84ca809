"""The page of the command line, from the verbs themselves."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from softiou.cli import app

_HEAD = """\
# Command line

Every verb tells the same with `--help`. Settings are `key=value`; the page
[configuration](configuration.md) lists them. A mistake in the input ends in a message and the exit
status 2, Ctrl-C in 130.

| verb | what it does |
| --- | --- |
"""
# What stands in brackets behind the help of a parameter: its default, its range, or "required".
_NOTE = re.compile(r"\s*\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]$")
_KEEP = "\b"  # click keeps the lines of a paragraph behind it


def page() -> str:
    """Write the page in Markdown: a table of the verbs, and a section each."""
    found = list(verbs())
    rows = [f"| [`{name}`](#{_anchor(name)}) | {_first_line(verb)} |" for name, verb in found]
    return _HEAD + "\n".join([*rows, *(_section(name, verb) for name, verb in found)]) + "\n"


def verbs() -> Iterator[tuple[str, Any]]:
    """Yield what is typed, "softiou train", and its command."""
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
    """Return help as Markdown."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        f"```text\n{one.removeprefix(_KEEP).strip()}\n```" if one.startswith(_KEEP) else one
        for one in paragraphs
    )
