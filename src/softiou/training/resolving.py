"""Values that a configuration leaves open, chosen by the data and the machine."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from softiou._processes import cores
from softiou._screen import verbosity
from softiou.configuration.data_sections import PRESETS, DataConfig, LabelsConfig, Preset
from softiou.configuration.resolved import ResolvedConfig
from softiou.configuration.sections import Config
from softiou.data import Bands, SegmentationDataset
from softiou.data.crops import CROP_MULTIPLE, automatic_crop, spread
from softiou.data.source_names import source_name
from softiou.inference import best_device, best_precision
from softiou.models.building import crop_multiple
from softiou.recipes.averaging import ema_decay

EPOCHS = 40
USUAL, MOST, FEWEST_STEPS = 8, 32, 2000  # images a step, at most on a GPU, and then steps
THRESHOLD, LIKELY = 0.01, 0.5
SURE = 0.95

_NAMED = PRESETS["none"]  # settings that the name of their preset stands for

# How "auto", or null where it stands for that, is replaced.
RULES = {
    "data.crop_px": "median size of up to 16 images, at most 512, multiples of 32 or patches",
    "data.augmentation": "medical for volumes, aerial for DeepGlobe and chosen bands, else street",
    **{f"data.{key}": "of data.augmentation" for key in _NAMED},
    "data.batch_size": "8, at most the number of images, at least 2 for batch norm; on a GPU what "
    "its free memory has room for, up to 32 where 40 epochs are 2,000 steps",
    "data.bands": "all of the slices of volumes",
    "data.neighbours": "0 without volumes",
    "data.axis": "of dataset.yaml, for volumes",
    "data.band_ranges": "two standard deviations around the mean, of up to 64 images",
    "data.workers": "a process for each core but one, shared by torchrun's processes, at most 16",
    "labels.kind": "votes for several annotators and parent classes, hard otherwise",
    "labels.epsilon": "uniform 0.1, boundary 0.5",
    "labels.width": "boundary 1, gaussian sigma rounded up",
    "labels.sigma": "gaussian 1",
    "loss.classes": "label where smoothing or a teacher gives every class a trace, else present",
    "loss.threshold": "0.5 where classes became label, less beside a teacher; else 0.01",
    "optim.steps": "optim.epochs, or 40 epochs and at least 200 steps; a multiple of validations",
    "optim.validations": "at most the steps",
    "optim.epochs": "became steps",
    "optim.learning_rate": "adamw 0.0005, sgd 0.01",
    "optim.weight_decay": "adamw 0.01, sgd 0.0005",
    "optim.momentum": "sgd 0.9",
    "optim.ema": "a half-life of 5 % of the steps",
    "semi_supervised.ema": "a half-life of 5 % of the steps",
    "distillation.teacher_precision": "precision",
    "semi_supervised.teacher_precision": "precision",
    "semi_supervised.batch_size": "data.batch_size",
    "semi_supervised.confidence_threshold": "soft 0, hard 0.95",
    "semi_supervised.cross_entropy": "soft loss.cross_entropy, hard 1",
    "semi_supervised.classes": "both, or the indices of loss.classes",
    "precision": "bf16 where the hardware has it, else fp16 on GPUs and fp32 on CPUs",
}


def resolve(config: Config, dataset: SegmentationDataset, *, unlabeled: int = 0) -> ResolvedConfig:
    """Replace every "auto" by a value, see `RULES`; steps are a multiple of the validations."""
    values = config.model_dump()
    values["labels"] = _labels(config.labels, dataset).model_dump()
    values["optim"] = config.optim.with_defaults().model_dump()
    _fill(values, "precision", lambda: best_precision(best_device()))
    _fill(
        values["data"],
        "crop_px",
        lambda: _crop(dataset, crop_multiple(config.model.architecture, config.model.encoder)),
    )
    _fill(values["data"], "augmentation", lambda: _preset(config.data, dataset.bands))
    preset = PRESETS[values["data"]["augmentation"]]
    for key in preset:
        _fill(values["data"], key, partial(preset.get, key))
    images = len(dataset) + (unlabeled if config.distillation is not None else 0)  # of one batch
    _fill(values["data"], "batch_size", lambda: max(2, min(USUAL, images)))
    _fill(values["data"], "workers", _workers)
    if dataset.bands is not None:
        seen = dataset.bands
        values["data"] |= {"bands": seen.numbers, "band_ranges": seen.ranges}
        values["data"] |= {"neighbours": seen.neighbours, "axis": seen.axis or None}
    _fill_loss(values["loss"], config)
    for section in (values["distillation"], values["semi_supervised"]):
        if section is not None:
            _fill(section, "teacher_precision", lambda: values["precision"])
    if values["semi_supervised"] is not None:
        _fill_semi_supervised(values["semi_supervised"], values, config)
    optim = values["optim"]
    _fill(optim, "steps", lambda: _steps(values, len(dataset), unlabeled))
    if optim.pop("epochs"):
        optim["validations"] = min(optim["validations"], optim["steps"])
    optim["steps"] += -optim["steps"] % optim["validations"]
    for section in (optim, values["semi_supervised"] or {}):
        if section.get("ema") == "auto":
            section["ema"] = ema_decay(optim["steps"])
    return ResolvedConfig.model_validate(values)


def changed(before: Config, after: Config) -> dict[str, object]:
    """Return the values that `resolve` filled in, by their dotted keys."""
    method = (after.method,) if after.method else ()
    found = {
        f"{section}.{key}": value
        for section in ("data", "labels", "loss", "optim", *method)
        for key, value in getattr(after, section)
        if value != getattr(getattr(before, section), key)
    }
    return found | ({"precision": after.precision} if before.precision != after.precision else {})


def changes(before: Config, after: Config) -> list[str]:
    """Return a line for each value that is worth reading: "data.crop_px: 352 480".

    With --verbose these are all of them, each with its rule.
    """
    found = changed(before, after)
    if verbosity() > 0:
        return [f"{key}: {value}  ({RULES[key]})" for key, value in found.items()]
    found = {key: value for key, value in found.items() if key.removeprefix("data.") not in _NAMED}
    if after.loss.classes != "label":
        found = {key: value for key, value in found.items() if not key.startswith("loss.")}
    return [f"{key}: {value}" for key, value in found.items()]


def differences(given: Config, written: Config) -> list[str]:
    """Return what is set to something else than a run was started with: "data.crop_px: 352 480"."""
    asked = changed(Config.model_validate({"data": {"source": given.data.source}}), given)
    own = changed(given, written)
    same = {"data.source", "optim.epochs"}  # written in another way
    if given.optim.steps == "auto" or written.optim.steps == "auto":
        same.add("optim.steps")
    elif 0 <= written.optim.steps - given.optim.steps < written.optim.validations:
        same.add("optim.steps")  # rounded up
    return [f"{key}: {value}" for key, value in asked.items() if key in own and key not in same]


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
    epochs = values["optim"]["epochs"]
    steps = (epochs or EPOCHS) * epoch / values["optim"]["accumulate"]
    return max(1, round(steps)) if epochs else max(200, int(steps))


def _preset(data: DataConfig, bands: Bands | None) -> Preset:
    """Return the augmentation of what has no upright position, or that of photographs.

    Runs of before the presets have the first three settings, and the others were off.
    """
    given = None not in (data.scale, data.flip, data.colour)
    if bands and bands.axis and not given:
        return "medical"
    from_above = source_name(data.source) == "deepglobe" or data.bands is not None
    return "aerial" if from_above and not given else "street"


def _crop(dataset: SegmentationDataset, multiple: int = CROP_MULTIPLE) -> tuple[int, int]:
    shapes = [dataset.compact(index)["image"].shape for index in spread(len(dataset))]
    return automatic_crop([(height, width) for _, height, width in shapes], multiple)


def _workers() -> int:
    return max(0, min(16, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))
