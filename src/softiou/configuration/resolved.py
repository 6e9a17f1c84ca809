"""Configurations in which no setting is "auto", as types of their own for the type checker.

Each class narrows the types of some settings; defaults and descriptions are in `sections`.
"""

from softiou.configuration import data_sections, section, sections


class ResolvedData(data_sections.DataConfig):
    """`DataConfig` with crop size, batch size, workers and all augmentation settings given."""

    crop_px: tuple[section.Positive, section.Positive]
    augmentation: data_sections.Preset = "street"
    scale: data_sections.Zoom
    flip: section.Share
    colour: section.Share
    # These have defaults because the config.yaml of older runs does not contain them.
    vertical_flip: section.Share = 0.0
    quarter_turns: bool = False
    rotation: data_sections.Degrees = 0.0
    elastic: section.Share = 0.0
    gamma: section.Share = 0.0
    blur: section.NotNegative = 0.0
    channel_dropout: section.Share = 0.0
    noise: section.Share = 0.0
    batch_size: section.Positive
    workers: section.Workers


class ResolvedLabels(data_sections.LabelsConfig):
    """`LabelsConfig` with the kind of labels given."""

    kind: data_sections.LabelsKind
    adaptive: bool | None = False  # older runs smooth thin objects


class ResolvedLoss(sections.LossConfig):
    """`LossConfig` with classes and threshold given."""

    classes: sections.Classes
    threshold: section.Share


class ResolvedOptim(sections.OptimConfig):
    """`OptimConfig` with steps, learning rate, weight decay and EMA decay given."""

    steps: section.Positive
    learning_rate: section.PositiveNumber
    weight_decay: section.NotNegative
    ema: section.Decay


class ResolvedDistillation(sections.DistillationConfig):
    """`DistillationConfig` with the precision of the teacher given."""

    teacher_precision: sections.Precision


class ResolvedSemiSupervised(sections.SemiSupervisedConfig):
    """`SemiSupervisedConfig` with everything given that depends on other settings."""

    confidence_threshold: section.Share
    cross_entropy: section.Share
    classes: sections.Classes
    batch_size: section.Positive
    ema: section.Decay
    teacher_precision: sections.Precision


class ResolvedConfig(sections.Config):
    """A configuration in which every value is given, as in the config.yaml of a run."""

    data: ResolvedData
    labels: ResolvedLabels
    loss: ResolvedLoss
    optim: ResolvedOptim
    distillation: ResolvedDistillation | None
    semi_supervised: ResolvedSemiSupervised | None
    precision: sections.Precision
