"""The schema of evaluation.json: version 2, which also reads version 1.

Metrics are in per cent, and null if undefined. Fields with a default are missing in version 1.
Sizes: C classes, B bins of confidence.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from softiou._reading import read_json
from softiou._validation import validated
from softiou.errors import DataError

FILE = "evaluation.json"
SCHEMA_VERSION = 2

CAVEATS = {
    "training": "The model was trained on these images: the metrics do not apply to new images.",
    "selection": "The best checkpoint was chosen on these images: the metrics are a bit too high.",
}
Colour: TypeAlias = tuple[int, int, int]
Counts: TypeAlias = tuple[int, int, int]  # true positives, predicted, present: pixels
Interval: TypeAlias = tuple[float, float]  # low, high


def _without_nulls(pair: Any) -> Any:
    return None if isinstance(pair, list | tuple) and None in pair else pair


IntervalOrNone: TypeAlias = Annotated[Interval | None, BeforeValidator(_without_nulls)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Scored(_Part):
    """An entry with metrics, named as in `softiou.metrics.registry`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    def score(self, key: str) -> float | None:
        """Return a metric by its key in the registry; None if it is undefined or missing."""
        value: float | None = getattr(self, key, None)
        return value


class Inference(_Part):
    """How the model was run, see `softiou.inference.InferenceSettings`."""

    window_px: tuple[int, int] | None = Field(None, description="height, width; null: whole images")
    overlap: float = Field(0.5, description="fraction of a window that overlaps with the next one")
    flips: bool = Field(False, description="whether to average with the mirror image")
    scales: tuple[float, ...] = Field((1.0,), description="averaged scale factors")
    precision: str | None = Field(None, description="of the network; null if not recorded")

    def summary(self) -> str:
        """Describe the differences from fp32 on whole images; "" if there are none."""
        words = []
        if self.window_px:
            height, width = self.window_px
            words.append(f"windows of {height} x {width} pixels, overlap {self.overlap:g}")
        if self.flips:
            words.append("flips")
        if (scales := sorted(self.scales)) != [1]:
            words.append(f"scales {', '.join(f'{scale:.12g}' for scale in scales)}")
        if self.precision not in (None, "fp32"):
            words.append(f"precision {self.precision}")
        return ", ".join(words)


class Bootstrap(_Part):
    """How the intervals were computed."""

    resamples: int = Field(description="number of resamples of the images")
    seed: int = Field(description="random seed")
    level: float = Field(description="confidence level of the intervals, per cent")


class ClassScores(_Scored):
    """Metrics of a class over the data set, including those of `CLASS_METRICS`."""

    name: str
    iou: float | None
    iou_c: float | None = Field(description="mean of the IoU over the images of the class")
    dice: float | None
    interval: IntervalOrNone = Field(None, description="confidence interval of the IoU")
    target_pixels: int = Field(description="pixels of the class in the target")
    predicted_pixels: int | None = Field(None, description="pixels predicted to be the class")
    images: int = Field(description="images with the class in the target")


class ImageBins(_Part):
    """Sums over the pixels of an image for each confidence bin (B)."""

    count: tuple[float | None, ...] = Field(description="pixels")
    confidence: tuple[float | None, ...] = Field(description="sum of the confidences")
    correct: tuple[float | None, ...] = Field(description="correct pixels")


class Suspect(_Part):
    """A region where the model confidently predicts a class other than the label."""

    target: int = Field(description="labelled class")
    preds: int = Field(description="predicted class")
    pixels: int
    confidence: float = Field(description="mean confidence of the region, per cent")
    box: tuple[int, int, int, int] = Field(description="top, left, bottom, right: pixels")

    @property
    def weight(self) -> float:
        """Sum of the confidence over the pixels, used for ranking."""
        return self.pixels * self.confidence / 100


class ImageScores(_Scored):
    """Metrics of an image, including those of `IMAGE_METRICS`, and the sums behind them."""

    stem: str = Field(description="file name without the suffix")
    miou: float | None = Field(description="mean IoU of the classes in its target")
    accuracy: float | None
    size: tuple[int, ...] | None = Field(None, description="height, width")
    truth: str | None = Field(None, description="hash of the labels")
    counts: dict[int, Counts] | None = Field(
        None, description="{class: [true positives, predicted, present]}, without zero rows"
    )
    boundary_counts: dict[int, Counts] | None = Field(None, description="for the boundary bands")
    bins: ImageBins | None = Field(None, description="sums of all valid pixels")
    boundary_bins: ImageBins | None = Field(None, description="of pixels within 3 px of a boundary")
    brier: float | None = Field(None, description="sum of the squared errors")
    nll: float | None = Field(None, description="sum of the negative log-likelihoods, nats")
    pixels: int | None = Field(None, description="valid pixels")
    suspects: tuple[Suspect, ...] = Field((), description="labels that may be wrong, ranked")


class Reliability(_Part):
    """The bins of ece_d; null for empty bins."""

    edges: tuple[float, ...] = Field(description="edges of the bins, in [0, 1] (B + 1)")
    count: tuple[int, ...] = Field(description="pixels (B)")
    confidence: tuple[float | None, ...] = Field(description="mean confidence, in [0, 1] (B)")
    accuracy: tuple[float | None, ...] = Field(description="accuracy, in [0, 1] (B)")


class Calibrated(_Part):
    """The model after the scaling stored beside its checkpoint."""

    kind: str = Field(description="kind of the scaling")
    path: str = Field(description="file of the scaling")
    data: str = Field("", description="data set that it was fitted on")
    split: str = Field("", description="split that it was fitted on")
    metrics: dict[str, float | None] = Field(
        description="calibration metrics; overlap metrics as well if the scaling can change masks"
    )
    reliability: Reliability


class ExampleStems(_Part):
    """Images in examples/."""

    best: tuple[str, ...] = Field(description="images with the highest mIoU")
    worst: tuple[str, ...] = Field(description="images with the lowest mIoU")


class Evaluation(_Part):
    """One model evaluated on one split of a data set."""

    schema_version: int
    softiou_version: str
    created: str = Field(description="UTC")
    data: str = Field(description="name of the data set")
    split: str
    checkpoint: str
    checkpoint_sha256: str = ""
    labels: str = Field("hard", description='kind of the target: "hard", "soft", "votes", "staple"')
    inference: Inference = Inference()
    used_for: Literal["training", "selection"] | None = Field(
        None,
        description="previous use of these images: training, or selection of the best "
        "checkpoint; null: neither, or unknown",
    )
    num_images: int
    classes: tuple[str, ...] = Field(description="names (C)")
    palette: tuple[Colour, ...] = Field(description="colours (C)")
    ignore_index: int | None = None
    metrics: dict[str, float | None] = Field(
        description="by key in `softiou.metrics.METRICS`, in the units stated there"
    )
    intervals: dict[str, IntervalOrNone] = Field(
        {}, description="[low, high] of the metrics, see `softiou.resampling.intervals`"
    )
    bootstrap: Bootstrap | None = None
    scored_classes: int | None = Field(
        None, description="number of classes with a target pixel, over which means are taken"
    )
    per_class: tuple[ClassScores, ...] = Field(description="(C)")
    confusion: tuple[tuple[int, ...], ...] | None = Field(
        None, description="pixels (C, C); rows are the classes of the target"
    )
    reliability: Reliability
    calibrated: Calibrated | None = Field(None, description="null without a scaling")
    images: tuple[ImageScores, ...]
    examples: ExampleStems

    @property
    def caveat(self) -> str:
        """Return why the metrics may be too high, or ""."""
        return CAVEATS[self.used_for] if self.used_for else ""

    @property
    def level(self) -> float:
        """Level of the intervals, per cent."""
        return self.bootstrap.level if self.bootstrap else 95.0

    @property
    def absent_classes(self) -> str:
        """A sentence on the classes excluded from the means, or ""."""
        absent = [
            score.name
            + (f" (predicted in {score.predicted_pixels:,} px)" if score.predicted_pixels else "")
            for score in self.per_class
            if not score.target_pixels
        ]
        if not absent:
            return ""
        counted, total = len(self.classes) - len(absent), len(self.classes)
        return f"means over {counted} of {total} classes, without {', '.join(absent)}"

    @property
    def known_intervals(self) -> dict[str, Interval]:
        """The defined intervals."""
        return {name: pair for name, pair in self.intervals.items() if pair is not None}

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        size = len(self.classes)
        for name in ("palette", "per_class"):
            if len(getattr(self, name)) != size:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries of {size} classes")
        for image in self.images:
            counts = (image.counts or {}).keys() | (image.boundary_counts or {}).keys()
            if counts and not 0 <= min(counts) <= max(counts) < size:
                raise ValueError(f"image {image.stem} counts a class outside 0..{size - 1}")
        return self

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        required = ("size", "truth", "counts", "pixels") if self.schema_version > 1 else ()
        for n, image in enumerate(self.images):
            for name in required:
                if getattr(image, name) is None:
                    raise ValueError(f"images.{n}.{name}: Field required")
        return self


def evaluation_file(path: Path) -> Path:
    """Return the evaluation.json of a run directory; any other path is returned as it is."""
    return path / FILE if path.is_dir() else path


def read_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json, or that of a run directory; images listed twice are merged.

    Raises:
        DataError: The file is missing or incomplete, or has an unknown schema version.
    """
    file = evaluation_file(path)
    try:
        # JSON of other programs may contain NaN.
        content = read_json(file, lambda _: None)
        version = content["schema_version"]
        if version not in range(1, SCHEMA_VERSION + 1):
            raise DataError(_unknown_version(file, version))
        evaluation = validated(Evaluation, content)
    except FileNotFoundError as error:
        found = f"contains no {FILE}" if path.is_dir() else "does not exist"
        raise DataError(
            f"{path} {found}: expected an evaluated run directory, or its {FILE}. "
            "`softiou evaluate RUN DATA` writes one."
        ) from error
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error).lstrip(": ")
        raise DataError(
            f"Expected {file} to be a complete evaluation, but got {reason}. Write it again with "
            "`softiou evaluate RUN DATA`."
        ) from error
    unique = {image.stem: image for image in evaluation.images}
    if len(unique) == len(evaluation.images):
        return evaluation
    return evaluation.model_copy(update={"images": tuple(unique.values())})


def _unknown_version(file: Path, version: object) -> str:
    text = f"Expected `schema_version` 1 to {SCHEMA_VERSION} in {file}, but got {version!r}"
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return f"{text}, which is newer than this softiou. Update softiou."
    return f"{text}. Write it again with `softiou evaluate RUN DATA`."
