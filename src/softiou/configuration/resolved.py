"""Settings without "auto": types of their own, so that the code behind them needs no checks.

Each section narrows the types of some settings; defaults and descriptions are in `sections`.
"""

from softiou.configuration.data_sections import (
    DataConfig,
    Degrees,
    LabelsConfig,
    LabelsKind,
    Preset,
    Zoom,
)
from softiou.configuration.section import (
    Decay,
    NotNegative,
    Positive,
    PositiveNumber,
    Share,
    Workers,
)
from softiou.configuration.sections import (
    Classes,
    Config,
    DistillationConfig,
    LossConfig,
    OptimConfig,
    Precision,
    SemiSupervisedConfig,
)


class ResolvedData(DataConfig):
    """`DataConfig` with the size of crops and batches, and every setting of the augmentation."""

    crop_px: tuple[Positive, Positive]
    augmentation: Preset = "street"
    scale: Zoom
    flip: Share
    colour: Share
    # Those that older runs do not have.
    vertical_flip: Share = 0.0
    quarter_turns: bool = False
    rotation: Degrees = 0.0
    elastic: Share = 0.0
    gamma: Share = 0.0
    blur: NotNegative = 0.0
    channel_dropout: Share = 0.0
    noise: Share = 0.0
    batch_size: Positive
    workers: Workers


class ResolvedLabels(LabelsConfig):
    """`LabelsConfig` with a kind."""

    kind: LabelsKind


class ResolvedLoss(LossConfig):
    """`LossConfig` with a rule for the classes."""

    classes: Classes
    threshold: Share


class ResolvedOptim(OptimConfig):
    """`OptimConfig` with numbers of steps and rates."""

    steps: Positive
    learning_rate: PositiveNumber
    weight_decay: NotNegative
    ema: Decay


class ResolvedDistillation(DistillationConfig):
    """`DistillationConfig` with a precision."""

    teacher_precision: Precision


class ResolvedSemiSupervised(SemiSupervisedConfig):
    """`SemiSupervisedConfig` with what depends on the kind of pseudo-labels."""

    confidence_threshold: Share
    cross_entropy: Share
    classes: Classes
    batch_size: Positive
    ema: Decay
    teacher_precision: Precision


class ResolvedConfig(Config):
    """A configuration in which every value is known, as config.yaml of a run has it."""

    data: ResolvedData
    labels: ResolvedLabels
    loss: ResolvedLoss
    optim: ResolvedOptim
    distillation: ResolvedDistillation | None
    semi_supervised: ResolvedSemiSupervised | None
    precision: Precision
