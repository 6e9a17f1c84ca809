"""The settings of data and labels."""

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
    """What to train on, and how an image becomes a training sample."""

    source: str = Field(
        description="data set folder, LAYOUT:FOLDER as in voc:/data/VOCdevkit, or digits"
    )
    train_split: str = Field("train", description="split to learn from")
    val_split: str = Field("val", description="split that chooses the best checkpoint")
    crop_px: Annotated[Auto | tuple[Positive, Positive], BeforeValidator(two)] = Field(
        "auto", description="height, width"
    )
    augmentation: Auto | Preset = Field(
        "auto",
        description="what the next settings are where they are null: street, aerial, microscopy, "
        "medical or none",
    )
    scale: Zoom | None = Field(None, description="random zoom, smallest and largest")
    flip: Share | None = Field(None, description="chance of a horizontal flip")
    vertical_flip: Share | None = Field(None, description="chance of a flip top to bottom")
    quarter_turns: bool | None = Field(None, description="turn by a random multiple of 90 degrees")
    rotation: Degrees | None = Field(None, description="largest rotation, in degrees")
    elastic: Share | None = Field(
        None, description="largest smooth displacement, as a share of the shorter side of the crop"
    )
    colour: Share | None = Field(None, description="strength of colour jitter")
    gamma: Share | None = Field(None, description="strength of a random gamma")
    blur: NotNegative | None = Field(None, description="largest Gaussian blur, sigma in pixels")
    channel_dropout: Share | None = Field(None, description="chance that a band is lost")
    noise: Share | None = Field(
        None, description="largest standard deviation of noise, as a share of the range of values"
    )
    batch_size: Auto | Positive = Field("auto", description="images a batch and process")
    workers: Auto | Workers = Field("auto", description="loading processes")
    skip_corrupt: bool = Field(False, description="leave unreadable images out instead of stopping")
    verify: bool = Field(
        True, description="check before training that new and changed files can be decoded"
    )
    bands: Annotated[list[Positive], BeforeValidator(several), Field(min_length=1)] | None = Field(
        None, description="of the image files, counted from 1, in the order of the model; null: RGB"
    )
    band_ranges: list[Annotated[tuple[float, float], AfterValidator(ordered)]] | None = Field(
        None,
        description="values of each band that become 0 and 1; null: two standard deviations around "
        "the mean, of train",
    )
    neighbours: Annotated[int, Field(ge=0, le=50)] = Field(
        1, description="slices on each side of that of a volume that the model sees as bands, too"
    )
    axis: Literal["x", "y", "z"] | None = Field(
        None, description="of the slices of volumes, as dataset.yaml says"
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
    """What the labels of the training split become before the loss sees them.

    - auto: votes for several annotators, hard otherwise; hard: class indices
    - soft: probabilities that the data set knows: covered shares, or the shares of the votes
    - coverage: the share of each pixel's area that each class covers, exact for polygons and for
      masks that the crop makes smaller
    - uniform, boundary, gaussian: smoothed everywhere, near other classes, by their surroundings
    - votes, majority, random, staple: of several annotators the shares of the votes, the most
      frequent class, one of them drawn for every sample, or the classes' probabilities by STAPLE
    """

    kind: Auto | LabelsKind = Field(
        "auto",
        description="hard, soft, coverage, uniform, boundary, gaussian; of several annotators: "
        "votes, majority, random, staple",
    )
    epsilon: Share | None = Field(
        None, description="share spread over the classes; null: uniform 0.1, boundary 0.5"
    )
    width: Positive | None = Field(
        None, description="pixels on each side; null: boundary 1, gaussian sigma rounded up"
    )
    adaptive: bool = Field(
        False,
        description="boundary: objects at most 2 width pixels thick, such as poles, stay hard",
    )
    sigma: PositiveNumber | None = Field(None, description="of the Gaussian, in pixels; null: 1")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Take `labels=boundary` for `labels.kind=boundary`."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        for setting, kinds in SETTINGS_OF_LABELS.items():
            if getattr(self, setting) not in (None, False) and self.kind not in kinds:
                raise ValueError(f"{setting} is for the kind {' or '.join(kinds)}, not {self.kind}")
        if self.kind == "gaussian":
            check_limits("sigma", self.width)
        return self

    def with_defaults(self) -> Self:
        """Return the settings with a value for each that the kind needs."""
        defaults: dict[str, float] = {}
        if self.kind in EPSILON:
            defaults["epsilon"] = EPSILON[self.kind]
        if self.kind == "boundary":
            defaults["width"] = BOUNDARY_PX
        if self.kind == "gaussian":
            defaults["sigma"] = self.sigma or SIGMA_PX
            defaults["width"] = math.ceil(defaults["sigma"])
        missing = {key: value for key, value in defaults.items() if getattr(self, key) is None}
        return self.model_copy(update=missing)
