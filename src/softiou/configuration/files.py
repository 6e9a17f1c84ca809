"""Read configurations from files and the command line, validate them, and write them."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from softiou._files import write_atomically
from softiou._reading import BoundedLoader, parse_yaml, read_yaml
from softiou.configuration.mistakes import mistakes_in
from softiou.configuration.section import Section, inline_yaml
from softiou.configuration.sections import Config, LabellingConfig
from softiou.errors import ConfigError

S = TypeVar("S", bound=Section)

# Settings whose defaults depend on another one: they are dropped when that setting is changed.
_DEPENDANTS = {
    ("labels", "kind"): ("epsilon", "width", "sigma", "adaptive"),
    ("optim", "epochs"): ("steps",),
    ("optim", "steps"): ("epochs",),
    ("optim", "optimizer"): ("learning_rate", "weight_decay", "momentum"),
    ("semi_supervised", "pseudo_labels"): ("confidence_threshold", "cross_entropy"),
}


def load_labelling_config(overrides: list[str]) -> LabellingConfig:
    """Read the settings of `softiou label` from "key=value", or raise a ConfigError."""
    values: dict[str, Any] = {}
    mistakes = _override(values, overrides)
    return _validated(LabellingConfig, values, mistakes)


def load_config(
    *,
    source: str | None = None,
    file: Path | None = None,
    overrides: list[str] | None = None,
    section: str | None = None,
) -> Config:
    """Read a configuration: the defaults, overridden by the file, `source` and the overrides.

    Args:
        source: Data set, the value of `data.source`.
        file: YAML file.
        overrides: "dotted.key=value" with YAML values, for instance "optim.steps=500".
        section: Name of an optional section to add, with its defaults.

    Raises:
        ConfigError: The configuration is not valid; the message lists all errors.
    """
    values = _read_yaml(file) if file else {}
    _forget_what_depends(values, overrides or [])
    if section is not None:
        values.setdefault(section, {})
    if source is not None:
        _assign(values, "data.source", source)
    before = deepcopy(values)
    mistakes = _override(values, overrides or [])
    try:
        return validate_config(values, mistakes)
    except ConfigError as error:
        at_fault = file is not None and not (overrides and _is_valid(before))
        raise ConfigError(f"{file}: {error}" if at_fault else str(error)) from error


def by_dotted_key(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested settings into a dictionary with keys "section.key"."""
    found: dict[str, Any] = {}
    for name, content in sections.items():
        inner = isinstance(content, dict)
        found |= {f"{name}.{key}": x for key, x in content.items()} if inner else {name: content}
    return found


def _is_valid(values: dict[str, Any]) -> bool:
    """Return whether the values are a valid configuration."""
    try:
        validate_config(values)
    except ConfigError:
        return False
    return True


def _forget_what_depends(values: dict[str, Any], overrides: list[str]) -> None:
    """Drop settings whose defaults depend on a setting that an override changes."""
    given = {key: text for key, _, text in (override.partition("=") for override in overrides)}
    for (section, name), dependants in _DEPENDANTS.items():
        held: Any = values.get(section)
        new = given.get(f"{section}.{name}", given.get(section))
        if isinstance(held, dict) and new not in (None, held.get(name)):
            for dependant in dependants:
                held.pop(dependant, None)


def _override(values: dict[str, Any], overrides: list[str]) -> list[str]:
    """Apply "dotted.key=value" to nested values, and return the errors of the overrides."""
    mistakes = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            mistakes.append(f"{override}: expected KEY=VALUE, for instance optim.steps=500")
            continue
        try:
            _assign(values, key, parse_yaml(text, _Loader))
        except ValueError:
            mistakes.append(f"{override[:200]}: the value is not valid YAML")
        except TypeError:
            mistakes.append(f"{override}: {key.rpartition('.')[0]} is a value, not a section")
    return mistakes


def validate_config(values: dict[str, Any], mistakes: list[str] | None = None) -> Config:
    """Build the configuration from nested plain values, or raise a ConfigError with all errors."""
    return _validated(Config, values, list(mistakes or []))


def _validated(kind: type[S], values: dict[str, Any], mistakes: list[str]) -> S:
    try:
        config = kind.model_validate(values)
    except ValidationError as error:
        mistakes += mistakes_in(error, kind)
    if mistakes:
        lines = "\n".join(f"  {line}" for line in mistakes)
        raise ConfigError(f"The configuration has mistakes:\n{lines}")
    return config


def save_config(config: Config, path: Path, *, header: str = "") -> None:
    """Write the complete configuration as YAML, with the description of each setting."""
    comments = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    write_atomically((comments + config_text(config)).encode(), path)


class _Loader(BoundedLoader):
    """A YAML loader that reads 1_8 as text, the name of a split, not as the number 18."""


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    return node.value if "_" in node.value else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def config_text(config: Config, notes: Mapping[str, str] | None = None) -> str:
    """Return all settings as YAML, each with its description and its note (by dotted key)."""
    lines, sections = [], dict(Config.sections())
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, Section):
            lines.append(_line(name, value, field.description, notes))
            continue
        lines.append(f"{name}:")
        # The fields of a resolved section have no descriptions: take those of the original.
        for key, setting in sections[name].model_fields.items():
            line = _line(f"{name}.{key}", getattr(value, key), setting.description, notes)
            lines.append(f"  {line}")
    return "\n".join(lines) + "\n"


def _line(key: str, value: object, description: str | None, notes: Mapping[str, str] | None) -> str:
    note = f"; {notes[key]}" if notes and key in notes else ""
    return f"{key.rpartition('.')[2]}: {inline_yaml(value)}  # {description}{note}"


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = read_yaml(file, _Loader)
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file} contains no settings; see the config.yaml of any run.")
    # A section whose settings are all commented out reads as null.
    return {key: value for key, value in values.items() if value is not None}


def _assign(values: dict[str, Any], dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        if isinstance(values.get(section), str) and section == "labels":
            values[section] = {"kind": values[section]}  # labels=boundary labels.width=2
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise TypeError(dotted)
    if key == "labels" and not sections and isinstance(value, str):
        values.setdefault(key, {})["kind"] = value  # labels.width=2 labels=boundary
        return
    values[key] = value
