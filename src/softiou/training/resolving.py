"""Values that a configuration leaves open, chosen by the data and the machine."""

import os
from collections.abc import Callable
from typing import Any

from softiou.configuration.resolved import ResolvedConfig
from softiou.configuration.sections import Config, LabelsConfig
from softiou.data import SegmentationDataset
from softiou.data.crops import automatic_crop, spread
from softiou.inference import best_device, best_precision
from softiou.recipes.averaging import ema_decay

EPOCHS = 40
THRESHOLD, LIKELY = 0.01, 0.5
SURE = 0.95


def resolve(config: Config, dataset: SegmentationDataset, *, unlabeled: int = 0) -> ResolvedConfig:
    """Replace every "auto" by a value; the steps become a multiple of the validations.

    - labels: votes for several annotators, hard otherwise; epsilon and width by kind
    - classes of the loss: label with smoothed labels or a teacher, present otherwise
    - crop: the median size of up to 16 images, at most 512, in multiples of 32
    - batch size: 8, or the number of images if that is smaller, at least 2 for batch norm
    - steps: 40 epochs, of the unlabelled images if there are more of them, at least 200
    - learning rate, weight decay and momentum: by the optimiser, see `OptimConfig`
    - ema: a half-life of 5 % of the steps
    - workers: a process for each core but one, at most 8
    - precision, also of a teacher: bf16 where the hardware has it, otherwise fp16 on GPUs and fp32
      elsewhere
    - semi_supervised: by the kind of pseudo-labels, see `SemiSupervisedConfig`

    Args:
        config: As the user gave it.
        dataset: The training split.
        unlabeled: Number of images without masks.
    """
    values = config.model_dump()
    values["labels"] = _labels(config.labels, dataset).model_dump()
    values["optim"] = config.optim.with_defaults().model_dump()
    _fill(values, "precision", lambda: best_precision(best_device()))
    _fill(values["data"], "crop_px", lambda: _crop(dataset))
    images = len(dataset) + (unlabeled if config.distillation is not None else 0)  # of one batch
    _fill(values["data"], "batch_size", lambda: max(2, min(8, images)))
    _fill(values["data"], "workers", _workers)
    _fill_loss(values["loss"], config)
    for section in (values["distillation"], values["semi_supervised"]):
        if section is not None:
            _fill(section, "teacher_precision", lambda: values["precision"])
    if values["semi_supervised"] is not None:
        _fill_semi_supervised(values["semi_supervised"], values, config)
    optim = values["optim"]
    _fill(optim, "steps", lambda: _steps(values, len(dataset), unlabeled))
    optim["steps"] += -optim["steps"] % optim["validations"]
    for section in (optim, values["semi_supervised"] or {}):
        if section.get("ema") == "auto":
            section["ema"] = ema_decay(optim["steps"])
    return ResolvedConfig.model_validate(values)


def changes(before: Config, after: Config) -> list[str]:
    """Return a line for each value that `resolve` filled in: "data.crop_px: 352 480"."""
    lines: list[str] = []
    loss = ("loss",) if after.loss.classes == "label" else ()
    method = (after.method,) if after.method else ()
    for section in ("data", "labels", *loss, "optim", *method):
        old, new = getattr(before, section), getattr(after, section)
        for key in type(old).model_fields:
            if getattr(old, key) != getattr(new, key):
                lines.append(f"{section}.{key}: {getattr(new, key)}")
    if before.precision != after.precision:
        lines.append(f"precision: {after.precision}")
    return lines


def _fill(values: dict[str, Any], key: str, choose: Callable[[], object]) -> None:
    """Choose a value where it is "auto" or null."""
    if values[key] in ("auto", None):
        values[key] = choose()


def _labels(labels: LabelsConfig, dataset: SegmentationDataset) -> LabelsConfig:
    kind = dataset.labels if labels.kind == "auto" else labels.kind
    return labels.model_copy(update={"kind": kind}).with_defaults()


def _fill_loss(loss: dict[str, Any], config: Config) -> None:
    # Smoothing and a teacher's softmax give every class some probability everywhere. Classes that
    # are in no image would be learnt as thin bands, so a class has to be likely somewhere.
    traces = config.labels.kind in ("uniform", "boundary") or config.distillation is not None
    likely = traces and loss["classes"] == "auto"
    _fill(loss, "classes", lambda: "label" if traces else "present")
    _fill(loss, "threshold", lambda: _likely(config) if likely else THRESHOLD)


def _likely(config: Config) -> float:
    """Return what a class has to exceed in some pixel; the label alone suffices in a mixture."""
    teacher = config.distillation
    if teacher is None or teacher.mix == "losses" or teacher.weight in (0, 1):
        return LIKELY
    return min(LIKELY, round(0.99 * (1 - teacher.weight), 3))


def _fill_semi_supervised(semi: dict[str, Any], values: dict[str, Any], config: Config) -> None:
    hard, classes = semi["pseudo_labels"] == "hard", config.loss.classes
    _fill(semi, "batch_size", lambda: values["data"]["batch_size"])
    _fill(semi, "confidence_threshold", lambda: SURE if hard else 0.0)
    _fill(semi, "cross_entropy", lambda: 1.0 if hard else config.loss.cross_entropy)
    _fill(semi, "classes", lambda: classes if isinstance(classes, list) else "both")


def _steps(values: dict[str, Any], labelled: int, unlabeled: int) -> int:
    """Return the steps of some epochs of the larger set of images."""
    batch_size = values["data"]["batch_size"]
    if values["semi_supervised"] is None:  # one batch of both kinds
        epoch = (labelled + unlabeled) / batch_size
    else:
        epoch = max(labelled / batch_size, unlabeled / values["semi_supervised"]["batch_size"])
    return max(200, int(EPOCHS * epoch / values["optim"]["accumulate"]))


def _crop(dataset: SegmentationDataset) -> tuple[int, int]:
    shapes = [dataset[index]["image"].shape for index in spread(len(dataset))]
    return automatic_crop([(height, width) for _, height, width in shapes])


def _workers() -> int:
    return min(8, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else 2
