"""The settings of a run, one class for each section of the configuration."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from softiou.configuration.data_sections import DataConfig, LabelsConfig
from softiou.configuration.section import (
    Auto,
    Decay,
    Method,
    NotNegative,
    Positive,
    PositiveNumber,
    Section,
    Share,
    Workers,
    two,
)

Precision: TypeAlias = Literal["bf16", "fp16", "fp32"]
LoggerName: TypeAlias = Literal["tensorboard", "wandb", "mlflow", "csv"]
Classes: TypeAlias = Literal["present", "all", "prob", "label", "both"] | list[int]


def _weights(value: Any) -> Any:
    """Raise unless the numbers of a list or dictionary have a sum above 0."""
    if sum(value.values() if isinstance(value, dict) else value) <= 0:
        raise ValueError("not all weights may be 0")
    return value


def _of_validation(value: str) -> str:
    return value if "/" in value else f"val/{value}"


Architecture: TypeAlias = Literal[
    "deeplabv3", "deeplabv3plus", "dpt", "eomt", "fpn", "linear", "linknet", "manet", "pan",
    "pspnet", "segformer", "unet", "unetplusplus", "upernet", "transformers",
]  # fmt: skip


def _check_mix(cut_mix: float, class_mix: float) -> None:
    if cut_mix + class_mix > 1:
        raise ValueError("cut_mix and class_mix are shares of the same views: at most 1 in all")


class ModelConfig(Section):
    """Which network."""

    architecture: Architecture = Field(
        "deeplabv3plus",
        description="of segmentation_models_pytorch; linear, eomt for ViTs; or transformers",
    )
    encoder: str = Field(
        "mobilenet_v2",
        description="of segmentation_models_pytorch; tu-NAME: timm; of transformers: a repository "
        "or folder",
    )
    encoder_weights: str = Field("imagenet", description="none, imagenet or a safetensors file")
    weights: str | None = Field(
        None,
        description="run directory or checkpoint of the same network to begin with; null: "
        "encoder_weights",
    )
    output_stride: Literal[8, 16] | None = Field(
        None,
        description="of the encoder, by dilation: 8 or 16 for deeplabv3, deeplabv3plus, pspnet; "
        "null: the architecture's own",
    )
    compile: bool = Field(
        False, description="torch.compile the network in training: some minutes at the start"
    )


class LossConfig(Section):
    """Which loss: cross_entropy * CE + (1 - cross_entropy) * overlap."""

    kind: Literal["jaccard", "dice", "tversky", "soft_jaccard"] = Field(
        "jaccard", description="jaccard, dice, tversky, soft_jaccard: the overlap part"
    )
    cross_entropy: Share = Field(0.25, description="share of the cross-entropy; 1 is CE alone")
    smooth: NotNegative = Field(1.0, description="pixels added above and below in the score")
    per: (
        Literal["batch", "image", "class"]
        | Annotated[dict[Literal["batch", "image", "class"], NotNegative], AfterValidator(_weights)]
    ) = Field("batch", description="what the overlap is taken over; or a mixture {batch: 1, ...}")
    classes: Auto | Classes = Field(
        "auto",
        description="in the mean: present, all, prob, label, both or indices; auto is label where "
        "smoothing or a teacher gives every class a trace, and present otherwise",
    )
    threshold: Share | None = Field(
        None, description="for classes: prob, label, both; null: 0.01, and 0.5 with classes: auto"
    )
    focal_gamma: NotNegative = Field(
        0.0, description="focal exponent of the cross-entropy; 0: plain, 2 is usual"
    )
    cross_entropy_weights: Annotated[list[NotNegative], AfterValidator(_weights)] | None = Field(
        None, description="a number for each class, in the cross-entropy; null: equal"
    )
    class_weights: Annotated[list[NotNegative], AfterValidator(_weights)] | None = Field(
        None, description="a number for each class, in the overlap part; null: equal"
    )
    form: Literal[1, 2] = Field(1, description="form of the metric loss: 1 or 2")
    alpha: NotNegative = Field(0.5, description="tversky: false positives")
    beta: NotNegative = Field(0.5, description="tversky: false negatives")
    gamma: PositiveNumber = Field(1.0, description="tversky: focal exponent")
    log: bool = Field(False, description="tversky: -log of the score")
    auxiliary: NotNegative = Field(
        0.0, description="weight of the loss of an auxiliary head; 0: none, the papers' is 0.4"
    )


LEARNING_RATE = {"adamw": 5e-4, "sgd": 0.01}
WEIGHT_DECAY = {"adamw": 0.01, "sgd": 5e-4}
MOMENTUM = 0.9


class OptimConfig(Section):
    """How the weights move.

    - adamw: forgives a wrong learning rate, and trains transformers
    - sgd: with momentum, what the classic recipes of convolutional networks use
    """

    steps: Auto | Positive = Field("auto", description="rounded up to a multiple of validations")
    epochs: PositiveNumber | None = Field(
        None, description="passes over the images of train, in place of steps; null: by steps"
    )
    validations: Positive = Field(10, description="how often to validate, evenly spread")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw or sgd")
    learning_rate: Auto | PositiveNumber = Field(
        "auto", description="the highest, that of the heads; auto: adamw 0.0005, sgd 0.01"
    )
    encoder_rate: NotNegative = Field(
        0.3, description="learning rate of a pretrained encoder, as a share of learning_rate"
    )
    weight_decay: Auto | NotNegative = Field(
        "auto", description="not of norms and biases; auto: adamw 0.01, sgd 0.0005"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="of sgd; null: 0.9, and none for adamw"
    )
    warmup: Share = Field(0.05, description="share of the steps that raise the learning rate")
    poly_power: NotNegative = Field(0.9, description="(1 - step / steps) ** power")
    clip_norm: NotNegative = Field(5.0, description="gradient norm; 0 is off")
    accumulate: Positive = Field(1, description="batches a step")
    ema: Auto | Decay = Field(
        0.0,
        description="decay of the averaged weights that are evaluated, from 0 up at the start; 0: "
        "off, auto: a half-life of 5 % of the steps",
    )
    monitor: Annotated[str, AfterValidator(_of_validation)] = Field(
        "val/miou_d",
        description="metric of the validation that chooses the best checkpoint, by its own "
        "direction: val/miou_d, val/mdice_d, val/ece_d, ...",
    )
    patience: Positive | None = Field(
        None, description="validations without a better one after which training stops; null: never"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.epochs is not None and self.steps != "auto":
            raise ValueError(
                f"steps={self.steps} and epochs={self.epochs:g} say the same: set one of them"
            )
        if self.momentum is not None and self.optimizer != "sgd":
            raise ValueError(
                f"momentum is for the optimizer sgd, not {self.optimizer}: leave it out, or set "
                "optimizer=sgd"
            )
        return self

    def with_defaults(self) -> Self:
        """Return the settings with a value for each that depends on the optimiser."""
        changes: dict[str, float] = {}
        if self.learning_rate == "auto":
            changes["learning_rate"] = LEARNING_RATE[self.optimizer]
        if self.weight_decay == "auto":
            changes["weight_decay"] = WEIGHT_DECAY[self.optimizer]
        if self.optimizer == "sgd" and self.momentum is None:
            changes["momentum"] = MOMENTUM
        return self.model_copy(update=changes)


class DistillationConfig(Method):
    """What a teacher adds to the labels; one of `teacher` and `soft_labels` names it.

    - mix=targets: one loss, against (1 - weight) * labels + weight * teacher in each pixel that has
      both, and against the one that there is in the others
    - mix=losses: (1 - weight) * loss against the labels + weight * loss against the teacher
    """

    verb = "distill"

    teacher: str | None = Field(None, description="run directory or checkpoint; run at every step")
    soft_labels: str | None = Field(None, description="folder that softiou label has written")
    weight: Share = Field(0.5, description="share of the teacher; the labels have the rest")
    mix: Literal["targets", "losses"] = Field(
        "targets",
        description="targets: one loss against the mean of label and teacher; losses: the mean of "
        "two losses, as in the authors' code",
    )
    temperature: PositiveNumber = Field(
        1.0, description="of the teacher's softmax; above 1 softens, below 1 sharpens"
    )
    calibrated: bool = Field(
        True,
        description="scale the logits of teacher by its calibration, if it has one, before the "
        "temperature; soft_labels are scaled already",
    )
    student_temperature: bool = Field(
        False,
        description="divide the student's logits by the temperature, too, where cross-entropy "
        "compares them with the teacher's, and multiply it by the square, as Hinton et al.",
    )
    align: Share = Field(
        0.0,
        description="how far the classes of teacher get the shares that they have in the labels; "
        "0: off, 1: wholly",
    )
    threshold: Share = Field(
        0.0, description="leave out pixels whose most probable class is below; 0 is off"
    )
    keep: Positive | None = Field(
        None, description="most probable classes kept of the teacher; null is all"
    )
    channel_wise: NotNegative = Field(
        0.0, description="weight of channel-wise distillation, added to the rest; 3 is usual"
    )
    channel_wise_temperature: PositiveNumber = Field(
        4.0, description="of the softmax over the pixels"
    )
    correlation: NotNegative = Field(
        0.0,
        description="weight of the correlations between and within classes, added to the rest, as "
        "in DIST; 1 is usual",
    )
    teacher_px: Annotated[tuple[Positive, Positive] | None, BeforeValidator(two)] = Field(
        None, description="height, width the teacher sees the crop in; null is as it is"
    )
    unlabeled: bool = Field(
        False,
        description="learn from the teacher on images without masks, too: DATA/unlabeled and what "
        "the split leaves out",
    )
    labelled_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="of the images of a batch that have masks, with unlabeled"
    )
    strong: Literal["none", "unlabeled", "all"] = Field(
        "unlabeled",
        description="images of which the student sees a strong view, and the teacher the weak one: "
        "none, unlabeled (those without masks), all",
    )
    colour: Share = Field(0.5, description="strong views: strength of colour jitter")
    grey: Share = Field(0.2, description="strong views: share without colour")
    blur: Share = Field(0.5, description="strong views: share that is blurred")
    cut_mix: Share = Field(0.5, description="strong views: share with a box of another image")
    class_mix: Share = Field(0.25, description="strong views: share with classes of another image")
    baseline: str = Field(
        "train", description="the student without teacher: train, none, or a run directory"
    )
    teacher_precision: Auto | Precision = Field(
        "auto", description="of the teacher: bf16, fp16, fp32; auto is that of the run"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.teacher is None) == (self.soft_labels is None):
            raise ValueError("needs one of teacher and soft_labels")
        if (self.channel_wise or self.correlation) and self.teacher is None:
            raise ValueError(
                "channel_wise and correlation need the teacher's logits, and soft_labels are "
                "probabilities: give teacher instead"
            )
        for name in ("teacher_px", "align"):
            if getattr(self, name) and self.teacher is None:
                raise ValueError(f"{name} is for a teacher that looks at crops; it has no use here")
        if self.weight == self.channel_wise == self.correlation == 0:
            raise ValueError(
                "weight, channel_wise and correlation are all 0, so nothing is learnt from it"
            )
        _check_mix(self.cut_mix, self.class_mix)
        return self


class SemiSupervisedConfig(Method):
    """What images without masks add: loss against the labels + weight * against pseudo-labels.

    The teacher is the moving average of the student. It labels a weak view of each image, and the
    student learns these pseudo-labels on strong views of it.

    - soft: the probabilities of the teacher, in cross-entropy and overlap as for the labels
    - hard: its likeliest class where it is sure, in cross-entropy alone, as in FixMatch, UniMatch
    """

    verb = "semi"

    pseudo_labels: Literal["soft", "hard"] = Field(
        "soft", description="soft: probabilities; hard: classes, with cross-entropy alone"
    )
    unlabeled: str | None = Field(
        None, description="folder of images; null: DATA/unlabeled and what the split leaves out"
    )
    weight: NotNegative = Field(1.0, description="of the unlabelled loss, beside 1 of the labelled")
    ramp: Share = Field(0.25, description="share of the steps in which the weight rises")
    confidence_threshold: Share | None = Field(
        None,
        description="leave out pixels whose likeliest class is below; 0 keeps all and weighs them "
        "by it; null: soft 0, hard 0.95",
    )
    temperature: PositiveNumber = Field(
        1.0, description="of the teacher's softmax; below 1 sharpens"
    )
    align: Share = Field(
        0.0,
        description="how far the classes of the pseudo-labels get the shares that they have in the "
        "labels, for teachers that neglect rare ones; 0: off, 1: wholly",
    )
    cross_entropy: Share | None = Field(
        None, description="share in the unlabelled loss; null: soft that of the loss, hard 1"
    )
    classes: Classes | None = Field(
        None,
        description="in the mean of the unlabelled overlap, as loss.classes; null: its indices if "
        "it has some, otherwise both",
    )
    classes_threshold: Share = Field(0.5, description="for classes: prob, label, both")
    ema: Auto | Decay = Field(
        0.99,
        description="decay of the teacher's average, from 0 up at the start; auto: a half-life of "
        "5 % of the steps",
    )
    batch_size: Auto | Positive = Field(
        "auto", description="unlabelled images a batch and process; auto: as data.batch_size"
    )
    views: Literal[1, 2] = Field(1, description="strong views of each image; 2 as in UniMatch")
    colour: Share = Field(0.5, description="strong views: strength of colour jitter")
    grey: Share = Field(0.2, description="strong views: share without colour")
    blur: Share = Field(0.5, description="strong views: share that is blurred")
    cut_mix: Share = Field(0.5, description="strong views: share with a box of another image")
    class_mix: Share = Field(0.25, description="strong views: share with classes of another image")
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the features dropped in a third view; 0 is off, UniMatch 0.5"
    )
    teacher_precision: Auto | Precision = Field(
        "auto", description="of the teacher: bf16, fp16, fp32; auto is that of the run"
    )

    @model_validator(mode="after")
    def _check_mix(self) -> Self:
        _check_mix(self.cut_mix, self.class_mix)
        if self.batch_size == 1 and self.cut_mix + self.class_mix > 0:
            raise ValueError(
                "cut_mix and class_mix need another image in the batch: set both to 0, or a "
                "batch_size of at least 2"
            )
        return self


class CustomConfig(Section):
    """Names of parts that were given from Python; a run with some is resumed from Python, too."""

    model: str | None = Field(None, description="module in place of the section model")
    loss: str | None = Field(None, description="callable in place of the section loss")
    transform: str | None = Field(None, description="augmentation in place of that of data")
    train_dataset: str | None = Field(None, description="data set in place of data.train_split")
    val_dataset: str | None = Field(None, description="data set in place of data.val_split")
    loggers: list[str] = Field([], description="loggers of Lightning")
    callbacks: list[str] = Field([], description="callbacks of Lightning")


class Config(Section):
    """A complete run: supervised, with a teacher (`distillation`), or `semi_supervised`."""

    data: DataConfig
    labels: LabelsConfig = LabelsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    distillation: DistillationConfig | None = Field(None, description="null: no teacher")
    semi_supervised: SemiSupervisedConfig | None = Field(
        None, description="null: nothing is learnt from images without masks"
    )
    custom: CustomConfig | None = Field(None, description="null: no parts were given from Python")
    loggers: list[LoggerName] = Field(
        ["tensorboard"], description="tensorboard, wandb, mlflow, csv; beside metrics.jsonl"
    )
    precision: Auto | Precision = Field("auto", description="bf16, fp16 (GPUs only) or fp32")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="of several processes: ddp, fsdp")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="of the weights and of everything random in the data"
    )

    @classmethod
    def verbs(cls) -> dict[str, str]:
        """Return the verb of each section that belongs to a recipe."""
        return {name: kind.verb for name, kind in cls.sections() if issubclass(kind, Method)}

    @property
    def method(self) -> str:
        """Return the name of the section of the recipe that is used; "" for labels alone."""
        return next((name for name in self.verbs() if getattr(self, name) is not None), "")

    @property
    def verb(self) -> str:
        """Return the verb of the command line that trains and resumes such a run."""
        return self.verbs().get(self.method, "train")

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        used = [name for name in self.verbs() if getattr(self, name) is not None]
        if len(used) > 1:
            raise ValueError(
                f"{' and '.join(used)} exclude each other: set one to null. A student learns "
                "from images without masks, too, with distillation.unlabeled"
            )
        averaged = self.semi_supervised is not None or self.optim.ema
        if self.strategy == "fsdp" and (averaged or self.model.compile):
            raise ValueError("strategy=fsdp excludes semi_supervised, optim.ema and model.compile")
        if self.semi_supervised is not None and self.optim.ema:
            raise ValueError(
                "optim.ema has no use with semi_supervised: its teacher is that average; set "
                "semi_supervised.ema"
            )
        return self


class LabellingConfig(Section):
    """What of a teacher's probabilities `softiou label` keeps."""

    splits: list[str] = Field(["train"], description="of the data set; unlabeled for its images")
    stride: Auto | Positive = Field("auto", description="pixels a cell; auto: the teacher's own")
    k: Auto | Positive = Field("auto", description="classes kept; auto: as many as hold the mass")
    mass: Annotated[float, Field(gt=0, le=1)] = Field(0.995, description="of a pixel, for k: auto")
    levels: Annotated[int, Field(ge=1, le=255)] = Field(58, description="of a byte; fewer: smaller")
    calibrated: bool = Field(
        True, description="scale the teacher's logits by its calibration, if it has one"
    )
    flip: bool = Field(False, description="average over the image and its mirror image")
    scales: Annotated[tuple[PositiveNumber, ...], Field(min_length=1)] = Field(
        (1.0,), description="average over these sizes of the image"
    )
    precision: Auto | Precision = Field("auto", description="of the teacher")
    shard_mib: Annotated[int, Field(ge=0)] = Field(
        1024, description="size of the files, each with the labels of many images; 0: one an image"
    )
    workers: Workers = Field(1, description="loading processes")
    skip_corrupt: bool = Field(False, description="leave unreadable images out instead of stopping")
