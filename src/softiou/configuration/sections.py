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
    """Raise unless the weights in a list or dictionary have a positive sum."""
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
        raise ValueError("cut_mix + class_mix must be at most 1: a view gets at most one of them")


class ModelConfig(Section):
    """The network and its initial weights."""

    architecture: Architecture = Field(
        "deeplabv3plus",
        description="from segmentation_models_pytorch; linear or eomt, for ViTs; or transformers",
    )
    encoder: str = Field(
        "mobilenet_v2",
        description="encoder of segmentation_models_pytorch; tu-NAME from timm; for transformers, "
        "a model repository or folder",
    )
    encoder_weights: str = Field("imagenet", description="none, imagenet or a safetensors file")
    weights: str | None = Field(
        None,
        description="run or checkpoint of this network to start from; null: use encoder_weights",
    )
    output_stride: Literal[8, 16] | None = Field(
        None,
        description="stride of the encoder's output, 8 or 16, for deeplabv3, deeplabv3plus and "
        "pspnet (dilated convolutions); null: the architecture's default",
    )
    compile: bool = Field(False, description="use torch.compile; takes minutes at the start")
    gradient_checkpointing: bool = Field(
        False,
        description="recompute the encoder's activations in the backward pass: less memory, about "
        "a third more time; for encoders of timm (tu-NAME) and transformers",
    )
    freeze_encoder: bool = Field(
        False, description="train the decoder only; the encoder keeps its weights and statistics"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.freeze_encoder and self.encoder_weights == "none" and self.weights is None:
            raise ValueError(
                "freeze_encoder would keep random weights: set encoder_weights to imagenet or a "
                "file, or weights to a run"
            )
        if self.gradient_checkpointing and (self.freeze_encoder or self.compile):
            raise ValueError(
                "gradient_checkpointing excludes freeze_encoder, with which there is little to "
                "recompute, and compile: set one of them to false"
            )
        return self


class LossConfig(Section):
    """The loss: cross_entropy * CE + (1 - cross_entropy) * overlap loss."""

    kind: Literal["jaccard", "dice", "tversky", "soft_jaccard"] = Field(
        "jaccard", description="overlap loss: jaccard, dice, tversky or soft_jaccard"
    )
    cross_entropy: Share = Field(0.25, description="weight of cross-entropy; overlap has the rest")
    smooth: NotNegative = Field(1.0, description="added to numerator and denominator of the score")
    per: (
        Literal["batch", "image", "class"]
        | Annotated[dict[Literal["batch", "image", "class"], NotNegative], AfterValidator(_weights)]
    ) = Field("batch", description="overlap per batch, image or class, or weights {batch: 1, ...}")
    classes: Auto | Classes = Field(
        "auto",
        description="classes in the mean: present, all, prob, label, both or indices; auto: label "
        "with label smoothing or a teacher, present otherwise",
    )
    threshold: Share | None = Field(
        None, description="probability threshold of prob, label, both; null: 0.01, or 0.5 with auto"
    )
    focal_gamma: NotNegative = Field(
        0.0, description="exponent of the focal loss in the cross-entropy; 0: off, usually 2"
    )
    cross_entropy_weights: Annotated[list[NotNegative], AfterValidator(_weights)] | None = Field(
        None, description="weight of each class in the cross-entropy; null: equal weights"
    )
    class_weights: Annotated[list[NotNegative], AfterValidator(_weights)] | None = Field(
        None, description="weight of each class in the overlap loss; null: equal weights"
    )
    form: Literal[1, 2] = Field(1, description="jaccard: form 1 or 2 of the metric loss")
    alpha: NotNegative = Field(0.5, description="tversky: weight of false positives")
    beta: NotNegative = Field(0.5, description="tversky: weight of false negatives")
    gamma: PositiveNumber = Field(1.0, description="tversky: focal exponent")
    log: bool = Field(False, description="tversky: use -log(score) instead of 1 - score")
    auxiliary: NotNegative = Field(
        0.0, description="weight of the loss of an auxiliary head; 0: no such head, usually 0.4"
    )


LEARNING_RATE = {"adamw": 5e-4, "sgd": 0.01}
WEIGHT_DECAY = {"adamw": 0.01, "sgd": 5e-4}
MOMENTUM = 0.9


class OptimConfig(Section):
    """The optimiser, its schedule, and validation.

    - adamw: less sensitive to the learning rate; also trains transformers
    - sgd: with momentum, as in the classic recipes of convolutional networks
    """

    steps: Auto | Positive = Field("auto", description="optimiser steps, a multiple of validations")
    epochs: PositiveNumber | None = Field(
        None, description="training length in epochs instead of steps; null: use steps"
    )
    validations: Positive = Field(10, description="number of validations, evenly spaced")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw or sgd")
    learning_rate: Auto | PositiveNumber = Field(
        "auto", description="peak learning rate of the decoder; auto: adamw 0.0005, sgd 0.01"
    )
    encoder_rate: NotNegative = Field(
        0.3, description="learning rate of a pretrained encoder, as a fraction of learning_rate"
    )
    weight_decay: Auto | NotNegative = Field(
        "auto", description="not applied to norms and biases; auto: adamw 0.01, sgd 0.0005"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="momentum of sgd; null: 0.9 for sgd, unused for adamw"
    )
    warmup: Share = Field(0.05, description="fraction of the steps with linear warm-up")
    poly_power: NotNegative = Field(0.9, description="decay as (1 - step / steps) ** poly_power")
    clip_norm: NotNegative = Field(5.0, description="maximum norm of the gradient; 0: no clipping")
    accumulate: Positive = Field(1, description="batches per optimiser step")
    ema: Auto | Decay = Field(
        0.0,
        description="decay of a moving average of the weights, which is evaluated; rises from 0 at "
        "the start; 0: off, auto: a half-life of 5 % of the steps",
    )
    monitor: Annotated[str, AfterValidator(_of_validation)] = Field(
        "val/miou_d",
        description="validation metric that selects the best checkpoint: val/miou_d, val/mdice_d, "
        "val/ece_d, ...; whether higher or lower is better is known",
    )
    patience: Positive | None = Field(
        None, description="stop after this many validations without improvement; null: never"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.epochs is not None and self.steps != "auto":
            raise ValueError(
                f"steps={self.steps} and epochs={self.epochs:g} set the same thing: keep one"
            )
        if self.momentum is not None and self.optimizer != "sgd":
            raise ValueError(
                f"momentum needs the optimizer sgd, not {self.optimizer}: remove it, or set "
                "optimizer=sgd"
            )
        return self

    def with_defaults(self) -> Self:
        """Return the settings with the defaults of this optimiser filled in."""
        changes: dict[str, float] = {}
        if self.learning_rate == "auto":
            changes["learning_rate"] = LEARNING_RATE[self.optimizer]
        if self.weight_decay == "auto":
            changes["weight_decay"] = WEIGHT_DECAY[self.optimizer]
        if self.optimizer == "sgd" and self.momentum is None:
            changes["momentum"] = MOMENTUM
        return self.model_copy(update=changes)


class DistillationConfig(Method):
    """Distillation from a teacher: a network (`teacher`) or its stored output (`soft_labels`).

    - mix=targets: one loss against (1 - weight) * labels + weight * teacher; pixels that have only
      one of the two use that one
    - mix=losses: (1 - weight) * loss against the labels + weight * loss against the teacher
    """

    verb = "distill"

    teacher: str | None = Field(None, description="run directory or checkpoint of the teacher")
    soft_labels: str | None = Field(None, description="folder written by softiou label")
    weight: Share = Field(0.5, description="weight of the teacher; the labels have 1 - weight")
    mix: Literal["targets", "losses"] = Field(
        "targets",
        description="targets: one loss against the weighted mean of labels and teacher; losses: "
        "the weighted mean of two losses, as in the authors' code",
    )
    temperature: PositiveNumber = Field(
        1.0, description="temperature of the teacher's softmax; above 1 softens, below 1 sharpens"
    )
    calibrated: bool = Field(
        True,
        description="apply the teacher's calibration to its logits, if it has one, before the "
        "temperature; soft_labels are calibrated already",
    )
    student_temperature: bool = Field(
        False,
        description="in the cross-entropy against the teacher, divide the student's logits by the "
        "temperature, too, and multiply by temperature ** 2 (Hinton et al.)",
    )
    align: Share = Field(
        0.0,
        description="how far to move the teacher's class frequencies towards those of the labels; "
        "0: off, 1: equal",
    )
    threshold: Share = Field(
        0.0, description="ignore pixels in which no class reaches this probability; 0: off"
    )
    keep: Positive | None = Field(
        None, description="keep only the teacher's k most probable classes; null: all"
    )
    channel_wise: NotNegative = Field(
        0.0, description="weight of the added channel-wise distillation loss; usually 3"
    )
    channel_wise_temperature: PositiveNumber = Field(
        4.0, description="temperature of the channel-wise softmax over the pixels"
    )
    correlation: NotNegative = Field(
        0.0,
        description="weight of the added inter- and intra-class correlation loss (DIST); usually 1",
    )
    teacher_px: Annotated[tuple[Positive, Positive] | None, BeforeValidator(two)] = Field(
        None, description="height, width to which crops are resized for the teacher; null: not"
    )
    unlabeled: bool = Field(
        False,
        description="also use images without masks: DATA/unlabeled, and those not in the split",
    )
    labelled_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="with unlabeled: fraction of each batch that has masks"
    )
    strong: Literal["none", "unlabeled", "all"] = Field(
        "unlabeled",
        description="images with a strong view for the student and a weak one for the teacher: "
        "none, unlabeled (those without masks), all",
    )
    colour: Share = Field(0.5, description="strong views: strength of colour jitter")
    grey: Share = Field(0.2, description="strong views: probability of greyscale")
    blur: Share = Field(0.5, description="strong views: probability of blur")
    cut_mix: Share = Field(0.5, description="strong views: probability of CutMix")
    class_mix: Share = Field(0.25, description="strong views: probability of ClassMix")
    baseline: str = Field(
        "train", description="run to compare with, without a teacher: train, none or a directory"
    )
    teacher_precision: Auto | Precision = Field(
        "auto", description="precision of the teacher: bf16, fp16, fp32; auto: as the student"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.teacher is None) == (self.soft_labels is None):
            raise ValueError("set exactly one of teacher and soft_labels")
        if (self.channel_wise or self.correlation) and self.teacher is None:
            raise ValueError(
                "channel_wise and correlation need the teacher's logits, but soft_labels are "
                "probabilities: set teacher instead"
            )
        for name in ("teacher_px", "align"):
            if getattr(self, name) and self.teacher is None:
                raise ValueError(f"{name} has no effect with soft_labels: remove it or set teacher")
        if self.weight == self.channel_wise == self.correlation == 0:
            raise ValueError(
                "weight, channel_wise and correlation are all 0, so the teacher has no effect"
            )
        _check_mix(self.cut_mix, self.class_mix)
        return self


class SemiSupervisedConfig(Method):
    """Semi-supervised training: loss on labelled images + weight * loss on pseudo-labels.

    The teacher is a moving average of the student. It predicts a weak view of each unlabelled
    image, and the student is trained with these pseudo-labels on strong views of that image.

    - soft: the teacher's probabilities, with cross-entropy and overlap loss as for the labels
    - hard: the most probable class where it is confident, with cross-entropy alone (FixMatch)
    """

    verb = "semi"

    pseudo_labels: Literal["soft", "hard"] = Field(
        "soft", description="soft: probabilities; hard: classes, with cross-entropy alone"
    )
    unlabeled: str | None = Field(
        None, description="folder of images; null: DATA/unlabeled and images not in the split"
    )
    weight: NotNegative = Field(1.0, description="weight of the unlabelled loss; labelled: 1")
    ramp: Share = Field(0.25, description="fraction of the steps over which the weight ramps up")
    confidence_threshold: Share | None = Field(
        None,
        description="ignore pixels in which no class reaches this probability; 0: weight every "
        "pixel by its highest probability; null: soft 0, hard 0.95",
    )
    temperature: PositiveNumber = Field(
        1.0, description="temperature of the teacher's softmax; below 1 sharpens"
    )
    align: Share = Field(
        0.0,
        description="how far to move the class frequencies of the pseudo-labels towards those of "
        "the labels, which helps rare classes; 0: off, 1: equal",
    )
    class_confidence: bool = Field(
        False,
        description="weight pixels by their confidence relative to the mean confidence of their "
        "class, so that rare classes keep their weight; needs confidence_threshold=0",
    )
    cross_entropy: Share | None = Field(
        None, description="weight in the unlabelled loss; null: as in loss for soft, 1 for hard"
    )
    classes: Classes | None = Field(
        None,
        description="classes in the mean of the unlabelled overlap loss; null: the indices of "
        "loss.classes if it is a list, both otherwise",
    )
    classes_threshold: Share = Field(0.5, description="probability threshold of prob, label, both")
    ema: Auto | Decay = Field(
        0.99,
        description="decay of the moving average that is the teacher; rises from 0 at the start; "
        "auto: a half-life of 5 % of the steps",
    )
    batch_size: Auto | Positive = Field(
        "auto", description="unlabelled images per batch in each process; auto: data.batch_size"
    )
    views: Literal[1, 2] = Field(1, description="strong views of each image; UniMatch has 2")
    colour: Share = Field(0.5, description="strong views: strength of colour jitter")
    grey: Share = Field(0.2, description="strong views: probability of greyscale")
    blur: Share = Field(0.5, description="strong views: probability of blur")
    cut_mix: Share = Field(0.5, description="strong views: probability of CutMix")
    class_mix: Share = Field(0.25, description="strong views: probability of ClassMix")
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="fraction of features dropped in an extra view; 0: no such view"
    )
    teacher_precision: Auto | Precision = Field(
        "auto", description="precision of the teacher: bf16, fp16, fp32; auto: as the student"
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
    """Names of objects that were passed in Python; such a run must be resumed from Python."""

    model: str | None = Field(None, description="module used instead of the section model")
    loss: str | None = Field(None, description="callable used instead of the section loss")
    transform: str | None = Field(None, description="augmentation used instead of that of data")
    train_dataset: str | None = Field(None, description="data set used instead of data.train_split")
    val_dataset: str | None = Field(None, description="data set used instead of data.val_split")
    loggers: list[str] = Field([], description="additional Lightning loggers")
    callbacks: list[str] = Field([], description="additional Lightning callbacks")


class Config(Section):
    """All settings of a run: supervised, `distillation` or `semi_supervised`."""

    data: DataConfig
    labels: LabelsConfig = LabelsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    distillation: DistillationConfig | None = Field(None, description="null: no distillation")
    semi_supervised: SemiSupervisedConfig | None = Field(
        None, description="null: no semi-supervised training"
    )
    custom: CustomConfig | None = Field(None, description="null: no objects were passed in Python")
    loggers: list[LoggerName] = Field(
        ["tensorboard"], description="tensorboard, wandb, mlflow, csv, besides metrics.jsonl"
    )
    precision: Auto | Precision = Field("auto", description="bf16, fp16 (GPUs only) or fp32")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="with several processes: ddp, fsdp")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="seed of the initial weights, the data order and the augmentation"
    )

    @classmethod
    def verbs(cls) -> dict[str, str]:
        """Return the command that trains a run with each section of a training method."""
        return {name: kind.verb for name, kind in cls.sections() if issubclass(kind, Method)}

    @property
    def method(self) -> str:
        """Return the name of the section of the training method in use; "" if supervised."""
        return next((name for name in self.verbs() if getattr(self, name) is not None), "")

    @property
    def verb(self) -> str:
        """Return the command that trains and resumes such a run, for instance "distill"."""
        return self.verbs().get(self.method, "train")

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        used = [name for name in self.verbs() if getattr(self, name) is not None]
        if len(used) > 1:
            raise ValueError(
                f"{' and '.join(used)} exclude each other: set one to null. For distillation on "
                "images without masks, set distillation.unlabeled=true"
            )
        averaged = self.semi_supervised is not None or self.optim.ema
        if self.strategy == "fsdp" and (averaged or self.model.compile):
            raise ValueError("strategy=fsdp excludes semi_supervised, optim.ema and model.compile")
        if self.semi_supervised is not None and self.optim.ema:
            raise ValueError(
                "optim.ema has no effect with semi_supervised, whose teacher is already a moving "
                "average: set semi_supervised.ema instead"
            )
        return self


class LabellingConfig(Section):
    """The settings of `softiou label`: how a teacher predicts, and how its output is stored."""

    splits: list[str] = Field(["train"], description="splits to label; unlabeled: without masks")
    stride: Auto | Positive = Field("auto", description="stride of the maps; auto: the teacher's")
    k: Auto | Positive = Field("auto", description="classes stored per cell; auto: set by mass")
    mass: Annotated[float, Field(gt=0, le=1)] = Field(
        0.995, description="for k: auto, the probability that the stored classes have together"
    )
    levels: Annotated[int, Field(ge=1, le=255)] = Field(
        58, description="quantisation levels of a probability; fewer make smaller files"
    )
    calibrated: bool = Field(
        True, description="apply the teacher's calibration to its logits, if it has one"
    )
    flip: bool = Field(False, description="average over the image and its mirror image")
    scales: Annotated[tuple[PositiveNumber, ...], Field(min_length=1)] = Field(
        (1.0,), description="average over predictions at these scales of the image"
    )
    precision: Auto | Precision = Field("auto", description="precision of the teacher")
    shard_mib: Annotated[int, Field(ge=0)] = Field(
        1024, description="size of each file in MiB, for many images; 0: one file per image"
    )
    workers: Workers = Field(1, description="number of data loading processes")
    skip_corrupt: bool = Field(False, description="skip unreadable images instead of stopping")
