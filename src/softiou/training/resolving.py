"""Values that a configuration leaves to us, resolved from the data and the machine."""

import os
from typing import Any

from softiou.configuration.sections import (
    Config,
    DistillationConfig,
    LabelsConfig,
    LossConfig,
    SemiSupervisedConfig,
)
from softiou.data import SegmentationDataset
from softiou.data.crops import automatic_crop, spread
from softiou.inference import best_device, best_precision

EPOCHS = 40
THRESHOLD, LIKELY = 0.01, 0.5


def resolve(config: Config, dataset: SegmentationDataset, *, unlabeled: int = 0) -> Config:
    """Replace every "auto" by a value; the steps become a multiple of the validations.

    - labels: votes for several annotators, hard otherwise; epsilon and width by kind
    - classes of the loss: label with smoothed labels or a teacher, present otherwise
    - crop: the median size of up to 16 images, at most 512, in multiples of 32
    - batch size: 8, or the number of images if that is smaller, at least 2 for batch norm
    - steps: 40 epochs, of the unlabelled images if there are more of them, at least 200
    - learning rate, weight decay and momentum: by the optimiser, see `OptimConfig`
    - workers: a process for each core but one, at most 8
    - precision, also of a teacher: bf16 where the hardware has it, otherwise fp16 on GPUs and fp32
      elsewhere
    - semi_supervised: by the kind of pseudo-labels, see `SemiSupervisedConfig`

    Args:
        config: As the user gave it.
        dataset: The training split.
        unlabeled: Number of images without masks.
    """
    data, optim = config.data, config.optim.with_defaults()
    batch_size: Any = data.batch_size
    if batch_size == "auto":
        batch_size = max(2, min(8, len(dataset)))
    steps: Any = optim.steps
    if steps == "auto":
        semi: Any = config.semi_supervised
        other = batch_size if semi is None or semi.batch_size == "auto" else semi.batch_size
        epoch = max(len(dataset) / batch_size, unlabeled / other)  # batches of the longer one
        steps = max(200, int(EPOCHS * epoch / optim.accumulate))
    steps += -steps % optim.validations
    precision = best_precision(best_device()) if config.precision == "auto" else config.precision
    return config.model_copy(
        update={
            "precision": precision,
            "labels": _labels(config.labels, dataset),
            "loss": _loss(config),
            "distillation": _distillation(config.distillation, precision),
            "semi_supervised": _semi_supervised(config, batch_size, precision),
            "optim": optim.model_copy(update={"steps": steps}),
            "data": data.model_copy(
                update={
                    "batch_size": batch_size,
                    "crop_px": _crop(dataset) if data.crop_px == "auto" else data.crop_px,
                    "workers": _workers() if data.workers == "auto" else data.workers,
                }
            ),
        }
    )


def changes(before: Config, after: Config) -> list[str]:
    """Return a line for each value that `resolve` filled in: "data.crop_px: 352 480"."""
    lines: list[str] = []
    loss = ("loss",) if after.loss.classes == "label" else ()
    semi = ("semi_supervised",) if after.semi_supervised else ()
    for section in ("data", "labels", *loss, "optim", *semi):
        old, new = getattr(before, section), getattr(after, section)
        for key in type(new).model_fields:
            if getattr(old, key) != getattr(new, key):
                lines.append(f"{section}.{key}: {getattr(new, key)}")
    if before.precision != after.precision:
        lines.append(f"precision: {after.precision}")
    return lines


def _labels(labels: LabelsConfig, dataset: SegmentationDataset) -> LabelsConfig:
    kind = dataset.labels if labels.kind == "auto" else labels.kind
    return labels.model_copy(update={"kind": kind}).with_defaults()


def _loss(config: Config) -> LossConfig:
    # What smoothing spreads and what a softmax never quite denies is everywhere: classes that are
    # in no image would be taught as thin bands and traces. A class has to be likely somewhere.
    loss = config.loss
    traces = config.labels.kind in ("uniform", "boundary") or config.distillation is not None
    likely = loss.classes == "auto" and traces
    changes: dict[str, Any] = {}
    if loss.classes == "auto":
        changes["classes"] = "label" if traces else "present"
    if loss.threshold is None:
        changes["threshold"] = LIKELY if likely else THRESHOLD
    return loss.model_copy(update=changes)


def _distillation(settings: DistillationConfig | None, precision: str) -> DistillationConfig | None:
    if settings is None or settings.teacher_precision != "auto":
        return settings
    return settings.model_copy(update={"teacher_precision": precision})


def _semi_supervised(
    config: Config, batch_size: int, precision: str
) -> SemiSupervisedConfig | None:
    if config.semi_supervised is None:
        return None
    return config.semi_supervised.with_defaults(
        config.loss, batch_size=batch_size, precision=precision
    )


def _crop(dataset: SegmentationDataset) -> tuple[int, int]:
    shapes = [dataset[index]["image"].shape for index in spread(len(dataset))]
    return automatic_crop([(height, width) for _, height, width in shapes])


def _workers() -> int:
    return min(8, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else 2
