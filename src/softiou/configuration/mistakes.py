"""Error messages for invalid configurations: one line for each wrong key."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from softiou.configuration.section import Section, inline_yaml

# The expected value, by pydantic's type of the error.
_WANTED = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "finite_number": "a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "missing", "too_long"), "two numbers, such as 352x480"),
    "string_type": "text",
    "list_type": "a list, such as [1, 2]",
    "dict_type": "a dictionary, such as {{batch: 1, image: 1}}",
}
# The main setting of a section, suggested when a value is given for the section itself.
_MAIN = {
    "data": "data.source",
    "model": "model.architecture",
    "loss": "loss.kind",
    "optim": "optim.optimizer",
}
# Names in other tools for what is not a setting here, and the entry of words.yaml that explains it.
_ALIKE = {
    **dict.fromkeys(("gpu", "device", "devices", "num_gpus", "accelerator"), "gpus"),
    **dict.fromkeys(("classes", "nc", "n_classes"), "num_classes"),
    **dict.fromkeys(("output", "output_dir", "save_dir", "project", "name", "run"), "out"),
    **dict.fromkeys(("checkpoint", "ckpt"), "resume"),
}


def mistakes_in(error: ValidationError, kind: type[Section]) -> list[str]:
    """Return a line for each wrong key: the expected value, the given one, and a suggestion."""
    wrong: dict[str, list[Any]] = {}
    for detail in error.errors():
        location = [str(part) for part in detail["loc"]] or ["configuration"]
        key = ".".join(location[: 2 if location[0] in dict(kind.sections()) else 1])
        wrong.setdefault(key, []).append(detail)
    return [f"{key}: {_reason(key, details, kind)}" for key, details in wrong.items()]


def advice(word: str, value: object, kind: type[Section]) -> str:
    """Suggest the setting of `kind` that a key or option may mean; "" if there is none."""
    key, usual = _meant(word.lower().replace("-", "_"), kind)
    if not key:
        return usual
    key = key if usual else _settable(key, kind)
    return f"did you mean {key}? For instance {key}={_example(key, value, usual, kind)}"


def _meant(word: str, kind: type[Section]) -> tuple[str, str]:
    """Return the key that a word may mean and a typical value; or "" and what to do instead."""
    section, _, name = word.rpartition(".")
    if word in kind.model_fields:
        return word, ""
    keys = [*kind.dotted_keys(), *kind.model_fields]  # all settings, then the sections themselves
    every = {key.rpartition(".")[2]: key for key in reversed(keys)}  # the first of equal names
    beside = {key[len(section) + 1 :]: key for key in keys if key.startswith(f"{section}.")}
    if close := get_close_matches(name, beside, n=1, cutoff=0.65):
        return beside[close[0]], ""
    if name in every:
        return every[name], ""
    words: dict[str, str] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text())
    example = words.get(_ALIKE.get(name, name), "")
    key, _, usual = example.partition("=")
    if example.startswith("no setting"):
        return "", example
    if key in keys:
        return key, usual
    for known, cutoff in ((beside, 0.5), (every, 0.6)):
        if close := get_close_matches(name, known, n=1, cutoff=cutoff):
            return known[close[0]], ""
    return "", ""


def _settable(key: str, kind: type[Section]) -> str:
    """Return a key as it is, or for a section the key of its main setting."""
    section = dict(kind.sections()).get(key)
    return _MAIN.get(key) or f"{key}.{next(iter(section.model_fields))}" if section else key


def _example(key: str, value: object, usual: str, kind: type[Section]) -> str:
    """Return an example: the given value if it is valid, else the usual one, else the default."""
    *section, name = key.split(".")
    fields = dict(kind.sections())[section[0]].model_fields if section else kind.model_fields
    field = fields[name]
    if not isinstance(value, bool | dict | None):
        try:
            TypeAdapter(field.rebuild_annotation()).validate_python(value)
            return str(value).replace(" ", "")
        except ValidationError:
            pass
    return usual or ("..." if field.is_required() else inline_yaml(field.default))


def _reason(key: str, details: list[Any], kind: type[Section]) -> str:
    mistake, value = details[0]["type"], details[0]["input"]
    if mistake == "extra_forbidden":
        name, inner = (
            next(iter(value.items())) if isinstance(value, dict) and value else (key, value)
        )
        found = advice(name, inner, kind) or advice(key, value, kind)
        if found.startswith("no setting"):
            return found
        return f"unknown key; {found}" if found else "unknown key; `softiou config` shows all"
    if mistake == "missing" and len(details[0]["loc"]) <= 2:
        return "missing"
    if mistake == "model_type":
        first = _settable(key, kind)
        example = _example(first, value, "", kind)
        return f"is a section, not a setting; use {key}.KEY, for instance {first}={example}"
    if mistake == "value_error":
        text = details[0]["msg"].removeprefix("Value error, ")
        return text if isinstance(value, dict) else f"{text}, but got {value!r}"
    # pydantic reports one error for each member of a union of types.
    reasons = " or ".join(dict.fromkeys(map(_wanted, details)))
    return f"expected {reasons}, but got {value!r}{_correction(details, key, kind)}"


def _wanted(detail: Any) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    plain: str = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return _WANTED.get(detail["type"], plain.replace("{", "{{")).format(**context)


def _correction(details: list[Any], key: str, kind: type[Section]) -> str:
    """Return the option that was probably meant, or else the description of the setting."""
    value = details[0]["input"]
    names = " ".join(_wanted(detail) for detail in details if detail["type"] == "literal_error")
    options = names.replace(",", "").replace(" or ", " ").split()
    word = str(value).lower().replace("+", "plus").replace("-", "")
    if close := get_close_matches(word, options, n=1, cutoff=0.6):
        return f"; did you mean {key}={close[0]}?"
    section, _, name = key.rpartition(".")
    fields = dict(kind.sections())[section].model_fields if section else kind.model_fields
    field = fields[name]
    if str(value).lower() == "none" and field.default is None:
        return f"; write {key}=null"
    default = "" if field.is_required() else f"; default {inline_yaml(field.default)}"
    return f" ({field.description}{default})"
