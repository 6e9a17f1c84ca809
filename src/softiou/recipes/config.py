"""The configuration of a run: checked as a whole, written completely, plain values elsewhere."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from softiou._files import write_atomically
from softiou.errors import ConfigError
from softiou.overlap.scores import parse_per

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


def _range(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the smallest must come first")
    return value


def _weights(value: list[float]) -> list[float]:
    if sum(value) <= 0:
        raise ValueError("not all weights may be 0")
    return value


def _reductions(value: dict[str, float]) -> dict[str, float]:
    return parse_per(value)


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class DataConfig(_Section):
    """What to train on, and how an image becomes a training sample."""

    source: str = Field(description="data set folder, or digits for the embedded one")
    train_split: str = Field("train", description="split to learn from")
    val_split: str = Field("val", description="split that chooses the best checkpoint")
    labels: Literal["auto", "hard", "soft"] = Field(
        "auto", description="auto is soft for several annotators, hard otherwise"
    )
    crop_px: Auto | tuple[Positive, Positive] = Field("auto", description="height, width")
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(_range)
    ] = Field((0.5, 2.0), description="random zoom, smallest and largest")
    flip: Share = Field(0.5, description="chance of a horizontal flip")
    colour: Share = Field(0.3, description="strength of colour jitter")
    batch_size: Auto | Positive = Field("auto", description="images a batch and process")
    workers: Auto | Annotated[int, Field(ge=0)] = Field("auto", description="loading processes")
    skip_corrupt: bool = Field(False, description="leave unreadable images out instead of stopping")


class ModelConfig(_Section):
    """Which network."""

    architecture: str = Field("deeplabv3plus", description="of segmentation_models_pytorch")
    encoder: str = Field(
        "mobilenet_v2", description="of segmentation_models_pytorch; tu-NAME: timm"
    )
    encoder_weights: str = Field("imagenet", description="none, imagenet or a safetensors file")


class LossConfig(_Section):
    """Which loss: cross_entropy * CE + (1 - cross_entropy) * overlap."""

    kind: Literal["jaccard", "dice", "tversky", "soft_jaccard"] = Field(
        "jaccard", description="jaccard, dice, tversky, soft_jaccard: the overlap part"
    )
    cross_entropy: Share = Field(0.25, description="share of the cross-entropy; 1 is CE alone")
    smooth: NotNegative = Field(1.0, description="pixels added above and below in the score")
    per: (
        Literal["batch", "image", "class"]
        | Annotated[
            dict[Literal["batch", "image", "class"], NotNegative], AfterValidator(_reductions)
        ]
    ) = Field("batch", description="what the overlap is taken over; or a mixture {batch: 1, ...}")
    classes: Literal["present", "all", "prob", "label", "both"] | list[int] = Field(
        "present", description="in the mean: present, all, prob, label, both or indices"
    )
    threshold: Share = Field(0.01, description="for classes: prob, label, both")
    class_weights: Annotated[list[NotNegative], AfterValidator(_weights)] | None = Field(
        None, description="a number for each class, in the overlap part; null: equal"
    )
    form: Literal[1, 2] = Field(1, description="form of the metric loss: 1 or 2")
    alpha: NotNegative = Field(0.5, description="tversky: false positives")
    beta: NotNegative = Field(0.5, description="tversky: false negatives")
    gamma: Annotated[float, Field(gt=0)] = Field(1.0, description="tversky: focal exponent")
    log: bool = Field(False, description="tversky: -log of the score")


class OptimConfig(_Section):
    """How the weights move."""

    steps: Auto | Positive = Field("auto", description="rounded up to a multiple of validations")
    validations: Positive = Field(10, description="how often to validate, evenly spread")
    learning_rate: Annotated[float, Field(gt=0)] = Field(5e-4, description="the highest, of AdamW")
    encoder_rate: NotNegative = Field(
        0.3, description="learning rate of a pretrained encoder, as a share of learning_rate"
    )
    weight_decay: NotNegative = Field(0.01, description="not of norms and biases")
    warmup: Share = Field(0.05, description="share of the steps that raise the learning rate")
    poly_power: NotNegative = Field(0.9, description="(1 - step / steps) ** power")
    clip_norm: NotNegative = Field(5.0, description="gradient norm; 0 is off")
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
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="bf16, fp16 (GPUs only) or fp32"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="of the weights and of everything random in the data"
    )


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
        except yaml.YAMLError:
            mistakes.append(f"{override}: not a value that YAML can read")
        except TypeError:
            mistakes.append(f"{override}: {key.rpartition('.')[0]} is a value, not a section")
    return validate_config(values, mistakes)


def validate_config(values: dict[str, Any], mistakes: list[str] | None = None) -> Config:
    """Build the configuration from nested plain values, or raise with all mistakes at once."""
    mistakes = list(mistakes or [])
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        mistakes += _mistakes(error)
    if mistakes:
        lines = "\n".join(f"  {line}" for line in mistakes)
        raise ConfigError(f"The configuration has mistakes:\n{lines}")
    return config


def save_config(config: Config, path: Path, *, header: str = "") -> None:
    """Write the complete configuration as YAML, each described knob with its comment."""
    comments = "".join(f"# {line}\n" for line in header.splitlines())
    write_atomically((comments + _to_yaml(config)).encode(), path)


def _to_yaml(config: Config) -> str:
    """One line a knob, with the field's description behind it."""
    lines = []
    for name, knob in Config.model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, _Section):
            lines.append(f"{name}: {_inline(value)}  # {knob.description}")
            continue
        lines.append(f"{name}:")
        for key, field in type(value).model_fields.items():
            lines.append(f"  {key}: {_inline(getattr(value, key))}  # {field.description}")
    return "\n".join(lines) + "\n"


def _inline(value: object) -> str:
    """A value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds no settings; see the config.yaml of any run.")
    # A section whose knobs are all commented out reads as null.
    return {key: {} if value is None else value for key, value in values.items()}


def _assign(values: dict[str, Any], dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise TypeError(dotted)
    values[key] = value


def _mistakes(error: ValidationError) -> list[str]:
    """One line for each wrong key: what is wrong, and what came."""
    wrong: dict[str, list[Any]] = {}
    for detail in error.errors():
        location = [str(part) for part in detail["loc"]]
        key = ".".join(location[: 2 if location[0] in _sections() else 1])
        wrong.setdefault(key, []).append(detail)
    return [f"{key}: {_reason(key, details)}" for key, details in wrong.items()]


def _reason(key: str, details: list[Any]) -> str:
    kind = details[0]["type"]
    if kind == "extra_forbidden":
        return f"unknown key{_did_you_mean(key)}"
    if kind == "missing":
        return "missing"
    if kind == "model_type":
        return f"is a section; set {key}.KEY, for instance {_first_key(key)}"
    # A union of types complains once for each of its members.
    texts = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in details)
    reasons = " or ".join(text[0].lower() + text[1:] for text in texts)
    return f"{reasons}, but got {details[0]['input']!r}"


def _first_key(section: str) -> str:
    return f"{section}.{next(iter(_sections()[section].model_fields))}"


def _did_you_mean(key: str) -> str:
    """Find a known key whose last part looks like that of an unknown one."""
    known = {dotted.split(".")[-1]: dotted for dotted in _keys()}
    close = get_close_matches(key.split(".")[-1], known, n=1)
    return f"; did you mean {known[close[0]]}?" if close else ""


def _sections() -> dict[str, type[_Section]]:
    kinds = {name: field.annotation for name, field in Config.model_fields.items()}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, _Section)
    }


def _keys() -> list[str]:
    """Every dotted key, and the sections themselves."""
    inner = [f"{name}.{key}" for name, kind in _sections().items() for key in kind.model_fields]
    return [*Config.model_fields, *inner]
