"""Generate the reference page of the configuration: a table of settings for each section."""

import json
from collections.abc import Iterator
from typing import Any

from softiou.configuration.sections import Config, LabellingConfig

_HEAD = """\
# Configuration

Every setting of a run. On the command line they are `key=value` with YAML values
(`optim.steps=2000`, `data.crop_px='[512, 512]'`, `loss.class_weights='[1, 2, 2]'`); in a file for
`--config` they are sections of YAML. A run holds its complete `config.yaml`, in which every `auto`
has become a number. Unknown keys are errors, and all mistakes are reported at once.
"""
_LABELLING = """\
## Settings of `softiou label` { #label }

`softiou label DATA --teacher RUN --out STORE KEY=VALUE ...` has its own settings.
"""
_COLUMNS = "| setting | values | default | meaning |\n| --- | --- | --- | --- |"


def page() -> str:
    """Return the page in Markdown."""
    schema = Config.model_json_schema()
    sections = dict(_sections(schema))
    alone = {k: field for k, field in schema["properties"].items() if k not in sections}
    parts = [_HEAD, "## The run { #run }\n", _table(alone)]
    parts += [_section(name, part) for name, part in sections.items()]
    labelling = LabellingConfig.model_json_schema()["properties"]
    parts += [_LABELLING, _table(labelling, anchor="label.")]
    return "\n".join(parts)


def knobs() -> Iterator[str]:
    """Yield the dotted key of every setting of a run."""
    schema = Config.model_json_schema()
    sections = dict(_sections(schema))
    for key in Config.model_fields:
        if key in sections:
            yield from (f"{key}.{knob}" for knob in sections[key]["properties"])
        else:
            yield key


def _sections(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the schema of every section, including optional sections."""
    for name, field in schema["properties"].items():
        for one in (field, *field.get("anyOf", ())):
            if "$ref" in one:
                yield name, schema["$defs"][one["$ref"].rpartition("/")[2]]


def _section(name: str, part: dict[str, Any]) -> str:
    knobs = {f"{name}.{key}": field for key, field in part["properties"].items()}
    return f"## {name} {{ #{name} }}\n\n{part['description']}\n\n{_table(knobs)}"


def _table(knobs: dict[str, Any], *, anchor: str = "") -> str:
    rows = [_row(key, field, anchor=f"{anchor}{key}") for key, field in knobs.items()]
    return "\n".join([_COLUMNS, *rows, ""])


def _row(key: str, field: dict[str, Any], *, anchor: str) -> str:
    default = _code(field["default"]) if "default" in field else "required"
    values = ", ".join(dict.fromkeys(_values(field)))
    cells = [f"`{key}`{{ #{anchor} }}", values, default, field["description"]]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _values(field: dict[str, Any]) -> Iterator[str]:
    """Return a description of the values that a setting accepts."""
    if "anyOf" in field:
        for one in field["anyOf"]:
            yield from _values(one)
    elif "enum" in field:
        yield from map(_code, field["enum"])
    elif "const" in field:
        yield _code(field["const"])
    elif "prefixItems" in field:
        first, *others = field["prefixItems"]
        yield f"{1 + len(others)} × {' or '.join(_values(first))}"  # noqa: RUF001
    elif field["type"] == "array":
        yield f"list of: {' or '.join(_values(field['items']))}"
    else:
        yield f"{_TYPES[field['type']]}{_range(field)}"


_TYPES = {
    "boolean": "`true`, `false`",
    "integer": "whole number",
    "null": "`null`",
    "number": "number",
    "object": "mapping",
    "string": "text",
}


def _range(field: dict[str, Any]) -> str:
    """Return the range of a number, such as " ≥ 0" or " in [0, 1)"."""
    least, above = field.get("minimum"), field.get("exclusiveMinimum")
    most, below = field.get("maximum"), field.get("exclusiveMaximum")
    if most is not None or below is not None:
        low = f"({above}" if least is None else f"[{least}"
        high = f"{below})" if most is None else f"{most}]"
        return f" in {low}, {high}"
    if least is not None:
        return f" ≥ {least}"
    return "" if above is None else f" > {above}"


def _code(value: object) -> str:
    """Return a value as YAML, formatted as inline code."""
    return f"`{json.dumps(value)}`".replace('"', "")
