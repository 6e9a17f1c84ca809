"""The settings of the data and of the labels."""

import math
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from softiou.configuration.limits import check_batch, check_limits
from softiou.configuration.section import (
    Auto,
    NotNegative,
    Positive,
    PositiveNumber,
    Section,
    Share,
    Workers,
    ordered,
    several,
    two,
)

Preset: TypeAlias = Literal["street", "aerial", "microscopy", "medical", "none"]
Zoom = Annotated[
    tuple[PositiveNumber, PositiveNumber], BeforeValidator(two), AfterValidator(ordered)
]
Degrees = Annotated[float, Field(ge=0, le=180)]

_NONE: dict[str, Any] = {
    "scale": (1.0, 1.0),
    "flip": 0.0,
    "vertical_flip": 0.0,
    "quarter_turns": False,
    "rotation": 0.0,
    "elastic": 0.0,
    "colour": 0.0,
    "gamma": 0.0,
    "blur": 0.0,
    "channel_dropout": 0.0,
    "noise": 0.0,
}
_AERIAL = {"flip": 0.5, "vertical_flip": 0.5, "quarter_turns": True, "colour": 0.2}
_SENSOR = {"elastic": 0.03, "gamma": 0.2, "blur": 1.0, "noise": 0.03}
PRESETS: dict[Preset, dict[str, Any]] = {
    "none": _NONE,
    "street": _NONE | {"scale": (0.5, 2.0), "flip": 0.5, "colour": 0.3},
    "aerial": _NONE | _AERIAL | {"scale": (0.75, 1.5)},
    "microscopy": _NONE | _AERIAL | _SENSOR | {"scale": (0.75, 1.33), "rotation": 45.0},
    "medical": _NONE | _SENSOR | {"scale": (0.8, 1.25), "rotation": 15.0, "colour": 0.2},
}


class DataConfig(Section):
    """The data set, and how its images are cropped, augmented and loaded."""

    source: str = Field(
        description="data set: a folder, LAYOUT:FOLDER such as voc:/data/VOCdevkit, or digits"
    )
    train_split: str = Field("train", description="split to train on")
    val_split: str = Field("val", description="validation split, which selects the best checkpoint")
    crop_px: Annotated[Auto | tuple[Positive, Positive], BeforeValidator(two)] = Field(
        "auto", description="height and width of the training crops in pixels"
    )
    augmentation: Auto | Preset = Field(
        "auto",
        description="preset for the settings from scale to noise that are null: street, aerial, "
        "microscopy, medical or none",
    )
    scale: Zoom | None = Field(None, description="smallest and largest factor of the random zoom")
    flip: Share | None = Field(None, description="probability of a horizontal flip")
    vertical_flip: Share | None = Field(None, description="probability of a vertical flip")
    quarter_turns: bool | None = Field(None, description="rotate by multiples of 90 degrees")
    rotation: Degrees | None = Field(None, description="maximum rotation in degrees")
    elastic: Share | None = Field(
        None, description="maximum elastic displacement, as a fraction of the crop's shorter side"
    )
    colour: Share | None = Field(None, description="strength of colour jitter")
    gamma: Share | None = Field(None, description="strength of the random gamma correction")
    blur: NotNegative | None = Field(None, description="maximum sigma of Gaussian blur, in pixels")
    channel_dropout: Share | None = Field(None, description="probability that a band is dropped")
    noise: Share | None = Field(
        None, description="maximum standard deviation of noise, as a fraction of the value range"
    )
    batch_size: Auto | Positive = Field("auto", description="images per batch in each process")
    repeat_threshold: Share = Field(
        0.0,
        description="images of a class that a smaller fraction of the images contains are drawn "
        "more often, by the square root of the ratio (repeat factors of LVIS); 0: off",
    )
    workers: Auto | Workers = Field("auto", description="number of data loading processes")
    skip_corrupt: bool = Field(False, description="skip unreadable images instead of stopping")
    verify: bool = Field(
        True, description="check before training that new and changed files can be decoded"
    )
    bands: Annotated[list[Positive], BeforeValidator(several), Field(min_length=1)] | None = Field(
        None, description="bands of the image files that the model reads, from 1; null: RGB"
    )
    band_ranges: list[Annotated[tuple[float, float], AfterValidator(ordered)]] | None = Field(
        None,
        description="for each band, the two values that are scaled to 0 and 1; null: mean - 2 and "
        "mean + 2 standard deviations of the training images",
    )
    neighbours: Annotated[int, Field(ge=0, le=50)] = Field(
        1, description="volumes: adjacent slices on each side that the model sees as extra bands"
    )
    axis: Literal["x", "y", "z"] | None = Field(
        None, description="volumes: axis of the slices, from dataset.yaml"
    )

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        check_batch(self.crop_px, self.batch_size)
        if any(low == high for low, high in self.band_ranges or ()):
            raise ValueError("band_ranges: the two values of a range must differ")
        return self


LabelsKind: TypeAlias = Literal[
    "hard", "soft", "coverage", "uniform", "boundary", "gaussian", "votes", "majority", "random",
    "staple",
]  # fmt: skip

EPSILON = {"uniform": 0.1, "boundary": 0.5}
BOUNDARY_PX = 1
SIGMA_PX = 1.0
SETTINGS_OF_LABELS = {
    "epsilon": ("uniform", "boundary"),
    "width": ("boundary", "gaussian"),
    "sigma": ("gaussian",),
    "adaptive": ("boundary",),
}


class LabelsConfig(Section):
    """How the labels of the training split are turned into the targets of the loss.

    - auto: votes if there are several annotators, hard otherwise; hard: class indices
    - soft: the probabilities of the data set: area fractions, or the annotators' votes
    - coverage: the fraction of each pixel's area that each class covers, exact for polygons and for
      masks that are downscaled
    - uniform, boundary, gaussian: label smoothing in every pixel, near class boundaries, or as a
      Gaussian-weighted average of the neighbours' labels
    - votes, majority, random, staple: with several annotators, the fraction of votes of each class,
      the majority class, one annotator at random per sample, or the probabilities of STAPLE
    """

    kind: Auto | LabelsKind = Field(
        "auto",
        description="hard, soft, coverage, uniform, boundary, gaussian; for several annotators: "
        "votes, majority, random, staple",
    )
    epsilon: Share | None = Field(
        None, description="probability spread over the classes; null: uniform 0.1, boundary 0.5"
    )
    width: Positive | None = Field(
        None, description="pixels on each side; null: boundary 1, gaussian sigma rounded up"
    )
    adaptive: bool | None = Field(
        None, description="keep objects of at most 2 * width pixels hard; null: boundary true"
    )
    sigma: PositiveNumber | None = Field(None, description="gaussian: sigma in pixels; null: 1")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Accept `labels=boundary` as a short form of `labels.kind=boundary`."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        for setting, kinds in SETTINGS_OF_LABELS.items():
            if getattr(self, setting) not in (None, False) and self.kind not in kinds:
                raise ValueError(f"{setting} needs kind {' or '.join(kinds)}, not {self.kind}")
        if self.kind == "gaussian":
            check_limits("sigma", self.width)
        return self

    def with_defaults(self) -> Self:
        """Return the settings with the defaults of this kind filled in."""
        defaults: dict[str, Any] = {}
        if self.kind in EPSILON:
            defaults["epsilon"] = EPSILON[self.kind]
        if self.kind == "boundary":
            defaults |= {"width": BOUNDARY_PX, "adaptive": True}
        if self.kind == "gaussian":
            defaults["sigma"] = self.sigma or SIGMA_PX
            defaults["width"] = math.ceil(defaults["sigma"])
        missing = {key: value for key, value in defaults.items() if getattr(self, key) is None}
        return self.model_copy(update=missing)
