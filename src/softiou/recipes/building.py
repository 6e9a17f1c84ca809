"""Build losses and targets from their settings."""

from inspect import signature

from torch import Tensor

from softiou import targets
from softiou.configuration.data_sections import LabelsConfig, LabelsKind
from softiou.configuration.section import Auto
from softiou.configuration.sections import LossConfig
from softiou.data import DatasetDescription, SegmentationDataset, TargetKind
from softiou.errors import ConfigError
from softiou.losses import LossSettings, OverlapLoss
from softiou.losses.overlap import OVERLAP_LOSSES
from softiou.targets import Target

_OF_ANNOTATORS = ("votes", "random", "staple")


def data_labels(kind: Auto | LabelsKind) -> TargetKind:
    """Return the kind of target that the data set returns for a kind of labels."""
    if kind in ("auto", "soft", "staple"):
        return kind
    return "votes" if kind in ("votes", "random") else "hard"


def check_labels(settings: LabelsConfig, dataset: SegmentationDataset) -> None:
    """Raise a ConfigError if the labels need several annotators, but the data set has one."""
    enough = dataset.annotators > 1 or (dataset.parents and settings.kind == "votes")
    if settings.kind in _OF_ANNOTATORS and not enough:
        raise ConfigError(
            f"labels.kind: {settings.kind} needs several annotators (folders masks_1/, masks_2/, "
            "...), but there is one mask per image. Use hard, uniform, boundary or gaussian."
        )


def build_target(
    target: Tensor, settings: LabelsConfig, description: DatasetDescription
) -> Tensor | Target:
    """Return the target of the loss for the labels of a batch.

    Args:
        target: Labels of a batch: integers (N, H, W) or (N, R, H, W), or probabilities
            (N, C, H, W).
        settings: The label smoothing.
        description: Description of the data set.
    """
    ignore_index = description.ignore_index
    if target.is_floating_point():
        return target
    if target.ndim == 4:
        return targets.votes(target, ignore_index=ignore_index)
    settings = settings.with_defaults()
    epsilon, width, sigma = settings.epsilon, settings.width, settings.sigma
    if settings.kind == "uniform" and epsilon is not None:
        return targets.smooth(target, epsilon, ignore_index=ignore_index)
    if settings.kind == "boundary" and epsilon is not None and width is not None:
        return targets.boundary(
            target, epsilon, width, ignore_index=ignore_index, adaptive=bool(settings.adaptive)
        )
    if settings.kind == "gaussian" and width is not None and sigma is not None:
        return targets.gaussian(target, sigma=sigma, width=width, ignore_index=ignore_index)
    return target


def check_loss(settings: LossConfig, num_classes: int) -> None:
    """Raise a ConfigError if weights or class indices do not match the number of classes."""
    classes = settings.classes
    for name in ("class_weights", "cross_entropy_weights"):
        weights = getattr(settings, name)
        if weights is not None and len(weights) != num_classes:
            raise ConfigError(
                f"loss.{name}: expected {num_classes} numbers, one for each class of the data "
                f"set, but got {len(weights)}."
            )
    if isinstance(classes, list) and not (classes and set(classes) <= set(range(num_classes))):
        raise ConfigError(
            f"loss.classes: expected indices in 0..{num_classes - 1}, at least one, but got "
            f"{classes}."
        )


def build_loss(settings: LossConfig, *, ignore_index: int | None) -> OverlapLoss:
    """Build the loss of a configuration."""
    common: LossSettings = {
        "upsample": "bilinear",  # models return logits at their own stride
        "cross_entropy": settings.cross_entropy,
        "smooth": settings.smooth,
        "per": settings.per if isinstance(settings.per, str) else dict(settings.per.items()),
        "classes": "present" if settings.classes == "auto" else settings.classes,
        "threshold": 0.01 if settings.threshold is None else settings.threshold,
        "class_weights": settings.class_weights,
        "cross_entropy_weights": settings.cross_entropy_weights,
        "focal_gamma": settings.focal_gamma,
        "ignore_index": ignore_index,
    }
    loss = OVERLAP_LOSSES[settings.kind]
    own = signature(loss).parameters.keys() & LossConfig.model_fields.keys() - common.keys()
    return loss(**{name: getattr(settings, name) for name in own}, **common)
