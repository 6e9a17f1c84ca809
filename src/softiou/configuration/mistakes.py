"""Error messages for invalid configurations: one line for each wrong key."""

from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from softiou.configuration.sections import Section


def mistakes_in(error: ValidationError, kind: type[Section]) -> list[str]:
    """Return a line for each wrong key: what was expected, and the value."""
    wrong: dict[str, list[Any]] = {}
    for detail in error.errors():
        location = [str(part) for part in detail["loc"]] or ["configuration"]
        key = ".".join(location[: 2 if location[0] in dict(kind.sections()) else 1])
        wrong.setdefault(key, []).append(detail)
    return [f"{key}: {_reason(key, details, kind)}" for key, details in wrong.items()]


def _reason(key: str, details: list[Any], kind: type[Section]) -> str:
    mistake = details[0]["type"]
    if mistake == "extra_forbidden":
        return f"unknown key{_did_you_mean(key, kind)}"
    if mistake == "missing":
        return "missing"
    if mistake == "model_type":
        return f"is a section; set {key}.KEY, for instance {_first_key(key, kind)}"
    # A union of types has an error for each of its members.
    texts = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in details)
    reasons = " or ".join(text[0].lower() + text[1:] for text in texts)
    return f"{reasons}, but got {details[0]['input']!r}"


def _first_key(section: str, kind: type[Section]) -> str:
    return f"{section}.{next(iter(dict(kind.sections())[section].model_fields))}"


def _did_you_mean(key: str, kind: type[Section]) -> str:
    """Suggest a known key whose last part is similar to that of an unknown one."""
    section = key.rpartition(".")[0]
    # Where sections share a name, the key of the same section comes last and stays.
    keys = sorted(_keys(kind), key=lambda dotted: dotted.rpartition(".")[0] == section)
    known = {dotted.split(".")[-1]: dotted for dotted in keys}
    own = [name for name, dotted in known.items() if section and dotted.startswith(f"{section}.")]
    name = key.split(".")[-1]
    close = get_close_matches(name, own, n=1, cutoff=0.5) or get_close_matches(name, known, n=1)
    return f"; did you mean {known[close[0]]}?" if close else ""


def _keys(kind: type[Section]) -> list[str]:
    """Return every dotted key, and the sections themselves."""
    inner = [f"{name}.{key}" for name, one in kind.sections() for key in one.model_fields]
    return [*kind.model_fields, *inner]
