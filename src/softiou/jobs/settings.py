"""Convert keyword settings to the text "dotted.key=value"."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softiou._reading import parse_yaml
from softiou.errors import ConfigError

_MAIN = ("data", "labels", "model", "loss", "optim")
_OF_TEXT = {"model": "model.architecture", "loss": "loss.kind"}  # model="unet", loss="dice"


def as_overrides(settings: Mapping[str, Any], *, section: str | None = None) -> list[str]:
    """Convert settings to "dotted.key=value", for `softiou.configuration.load_config`.

    Args:
        settings: By dotted key, by section with a mapping of its keys, or by a short name that only
            one section has, such as steps for optim.steps. An unknown name is kept as it is;
            `load_config` rejects it.
        section: "distillation" or "semi_supervised", to accept its short names too.

    Raises:
        ConfigError: Several sections have a key of this name.

    Example:
        >>> as_overrides({"steps": 500, "loss": {"cross_entropy": 0.5}, "encoder": "resnet18"})
        ['optim.steps=500', 'loss.cross_entropy=0.5', 'model.encoder=resnet18']
    """
    from softiou.configuration import Config

    known, lines = dict(Config.sections()), list[str]()
    for key, value in settings.items():
        if key in known and isinstance(value, Mapping):
            lines += [f"{key}.{name}={as_text(inner)}" for name, inner in value.items()]
        elif key in _OF_TEXT and isinstance(value, str):
            lines.append(f"{_OF_TEXT[key]}={as_text(value)}")
        else:
            lines.append(f"{_full_key(key, known, section)}={as_text(value)}")
    return lines


def as_text(value: Any) -> str:
    """Return a value as YAML on one line; a run or a path becomes its path."""
    if isinstance(value, str) and _is_plain(value):
        return value
    return json.dumps(value, default=lambda other: str(getattr(other, "path", other)))


def _is_plain(text: str) -> bool:
    """Return whether a text needs no quotes in YAML."""
    try:
        return bool(parse_yaml(text) == text)
    except ValueError:
        return False


def config_file(config: Path | str | None) -> Path | None:
    """Return the path of a configuration file, or of a built-in recipe if no file has the name."""
    from softiou.configuration import recipe_path

    if config is None:
        return None
    file = Path(config)
    if file.exists() or file.name != str(file) or file.suffix:
        return file
    try:
        return recipe_path(file.name)
    except ConfigError as error:
        raise ConfigError(f"--config {file}: the file does not exist. {error}") from error


def _full_key(key: str, known: dict[str, Any], section: str | None) -> str:
    """Return the dotted key that a short name means."""
    if "." in key or key in known:
        return key
    found = [name for name in (*_MAIN, section) if name and key in known[name].model_fields]
    found = found or [name for name, fields in known.items() if key in fields.model_fields]
    if len(found) > 1:
        dotted = ", ".join(f'"{name}.{key}"' for name in found)
        raise ConfigError(
            f"Expected `{key}` to be the name of one setting, but several sections have it. Write "
            f"one of {dotted} in a dictionary, as in **{{{dotted.split(',')[0]}: ...}}."
        )
    return f"{found[0]}.{key}" if found else key
