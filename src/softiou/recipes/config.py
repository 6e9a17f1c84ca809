"""The configuration of a run: validated as a whole, complete when written, plain values elsewhere."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from softiou.errors import ConfigError

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(_Section):
    """What to train on, and how an image becomes a training sample."""

    source: str = Field(description="data set folder, or digits for the embedded one")
    train_split: str = "train"
    val_split: str = Field("val", description="split that chooses the best checkpoint")
    labels: Literal["auto", "hard", "soft"] = Field(
        "auto", description="auto is soft for several annotators, hard otherwise"
    )
    crop_px: Auto | tuple[Positive, Positive] = Field("auto", description="height, width")
    scale: tuple[float, float] = Field((0.5, 2.0), description="random zoom, smallest and largest")
    flip: Share = Field(0.5, description="chance of a horizontal flip")
    colour: Annotated[float, Field(ge=0)] = Field(0.3, description="strength of colour jitter")
    batch_size: Auto | Positive = Field("auto", description="images a step and process")
    workers: Auto | Annotated[int, Field(ge=0)] = Field("auto", description="loading processes")
    skip_corrupt: bool = Field(False, description="leave unreadable images out instead of stopping")


class ModelConfig(_Section):
    """Which network."""

    architecture: str = "deeplabv3plus"
    encoder: str = Field("mobilenet_v2", description="of segmentation_models_pytorch; tu-NAME: timm")
    encoder_weights: str = Field("imagenet", description="none, imagenet or a safetensors file")


class LossConfig(_Section):
    """Which loss: cross_entropy * CE + (1 - cross_entropy) * overlap."""

    kind: Literal["jaccard", "dice", "tversky", "soft_jaccard"] = "jaccard"
    cross_entropy: Share = Field(0.25, description="share of the cross-entropy; 1 is CE alone")
    smooth: Annotated[float, Field(ge=0)] = 1.0
    per: Literal["batch", "image", "class"] | dict[Literal["batch", "image", "class"], float] = (
        Field("batch", description="what the overlap is taken over; or a mixture {batch: 1, ...}")
    )
    classes: Literal["present", "all", "prob", "label", "both"] | list[int] = "present"
    threshold: Share = Field(0.01, description="for classes: prob, label, both")
    class_weights: list[float] | None = None
    form: Literal[1, 2] = Field(1, description="form of the metric loss (jaccard, dice)")
    alpha: Annotated[float, Field(ge=0)] = Field(0.5, description="tversky: false positives")
    beta: Annotated[float, Field(ge=0)] = Field(0.5, description="tversky: false negatives")
    gamma: Annotated[float, Field(gt=0)] = Field(1.0, description="tversky: focal exponent")
    log: bool = Field(False, description="tversky: -log of the score")


class OptimConfig(_Section):
    """How the weights move."""

    steps: Auto | Positive = Field("auto", description="rounded up to a multiple of validations")
    validations: Positive = Field(10, description="how often to validate, evenly spread")
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    encoder_rate: Annotated[float, Field(ge=0)] = Field(
        0.3, description="learning rate of a pretrained encoder, as a share of learning_rate"
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = Field(0.05, description="share of the steps that raise the learning rate")
    poly_power: Annotated[float, Field(ge=0)] = Field(0.9, description="(1 - step / steps) ** power")
    clip_norm: Annotated[float, Field(ge=0)] = Field(5.0, description="gradient norm; 0 is off")
    accumulate: Positive = Field(1, description="batches a step")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="decay of the averaged weights that are evaluated; 0 is off"
    )


class Config(_Section):
    """A complete supervised run."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


def load_config(
    *, source: str | None = None, file: Path | None = None, overrides: list[str] | None = None
) -> Config:
    """Read a configuration: defaults, then the file, then `source`, then the overrides.

    Args:
        source: Data set; stands for `data.source`.
        file: YAML file.
        overrides: "dotted.key=value" with YAML values, for instance "optim.steps=500".

    Raises:
        ConfigError: Lists every mistake at once, with dotted keys.
    """
    values = _read_yaml(file) if file else {}
    if source is not None:
        _assign(values, "data.source", source)
    mistakes = []
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            mistakes.append(f"{override}: expected KEY=VALUE, for instance optim.steps=500")
            continue
        try:
            _assign(values, key, yaml.safe_load(text))
        except (yaml.YAMLError, TypeError):
            mistakes.append(f"{override}: not a value that YAML can read under this key")
    return validate_config(values, mistakes)


def validate_config(values: dict[str, Any], mistakes: list[str] | None = None) -> Config:
    """Build the configuration from nested plain values, or raise a ConfigError with all mistakes."""
    mistakes = list(mistakes or [])
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        mistakes += [_mistake(detail) for detail in error.errors()]
    if mistakes:
        # A union of types reports each of its members; the same key once is enough for a reader.
        lines = "\n".join(f"  {line}" for line in dict.fromkeys(mistakes))
        raise ConfigError(f"The configuration has mistakes:\n{lines}")
    return config


def save_config(config: Config, path: Path, *, header: str = "") -> None:
    """Write the complete configuration as YAML, each described knob with its comment."""
    comments = "".join(f"# {line}\n" for line in header.splitlines())
    path.write_text(comments + _to_yaml(config))


def _to_yaml(config: Config) -> str:
    """One line a knob, with the field's description behind it."""
    lines = []
    for name, value in config:
        if not isinstance(value, _Section):
            lines.append(f"{name}: {_inline(value)}")
            continue
        lines.append(f"{name}:")
        for key, field in type(value).model_fields.items():
            comment = f"  # {field.description}" if field.description else ""
            lines.append(f"  {key}: {_inline(getattr(value, key))}{comment}")
    return "\n".join(lines) + "\n"


def _inline(value: object) -> str:
    """A value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds no settings; see the config.yaml of any run.")
    return values


def _assign(values: dict[str, Any], dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise TypeError(dotted)
    values[key] = value


def _mistake(detail: Any) -> str:
    """One line for a pydantic error: dotted key, what is wrong, what came."""
    known = ("data", "model", "loss", "optim")
    key = ".".join(str(part) for part in detail["loc"][: 2 if detail["loc"][0] in known else 1])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{_did_you_mean(key)}"
    if detail["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, but got {detail['input']!r}"


def _did_you_mean(key: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key.split(".")[-1], [known.split(".")[-1] for known in _keys()], n=1)
    full = [known for known in _keys() if close and known.split(".")[-1] == close[0]]
    return f"; did you mean {full[0]}?" if full else ""


def _keys() -> list[str]:
    keys = []
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Section):
            keys += [f"{name}.{inner}" for inner in kind.model_fields]
        else:
            keys.append(name)
    return keys
