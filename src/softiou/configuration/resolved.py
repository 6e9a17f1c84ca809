"""Settings without "auto": types of their own, so that the code behind them needs no checks.

Each section narrows the types of some settings; defaults and descriptions are in `sections`.
"""

from softiou.configuration import data_sections, section, sections


class ResolvedData(data_sections.DataConfig):
    """`DataConfig` with the size of crops and batches, and every setting of the augmentation."""

    crop_px: tuple[section.Positive, section.Positive]
    augmentation: data_sections.Preset = "street"
    scale: data_sections.Zoom
    flip: section.Share
    colour: section.Share
    # Those that older runs do not have.
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
    """`LabelsConfig` with a kind."""

    kind: data_sections.LabelsKind


class ResolvedLoss(sections.LossConfig):
    """`LossConfig` with a rule for the classes."""

    classes: sections.Classes
    threshold: section.Share


class ResolvedOptim(sections.OptimConfig):
    """`OptimConfig` with numbers of steps and rates."""

    steps: section.Positive
    learning_rate: section.PositiveNumber
    weight_decay: section.NotNegative
    ema: section.Decay


class ResolvedDistillation(sections.DistillationConfig):
    """`DistillationConfig` with a precision."""

    teacher_precision: sections.Precision


class ResolvedSemiSupervised(sections.SemiSupervisedConfig):
    """`SemiSupervisedConfig` with what depends on the kind of pseudo-labels."""

    confidence_threshold: section.Share
    cross_entropy: section.Share
    classes: sections.Classes
    batch_size: section.Positive
    ema: section.Decay
    teacher_precision: sections.Precision


class ResolvedConfig(sections.Config):
    """A configuration in which every value is known, as config.yaml of a run has it."""

    data: ResolvedData
    labels: ResolvedLabels
    loss: ResolvedLoss
    optim: ResolvedOptim
    distillation: ResolvedDistillation | None
    semi_supervised: ResolvedSemiSupervised | None
    precision: sections.Precision
