"""Choose the settings that are "auto" or null, for the data set and the machine."""

from collections.abc import Callable
from functools import partial
from typing import Any

from softiou._processes import loading_processes
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
USUAL, MOST, FEWEST_STEPS = 8, 32, 2000  # batch size, largest on a GPU, and steps needed for that
THRESHOLD, LIKELY = 0.01, 0.5
SURE = 0.95

_NAMED = PRESETS["none"]  # the settings that a preset of the augmentation sets

# For each setting, the value that replaces "auto", or null where it has that meaning.
RULES = {
    "data.crop_px": "median size of up to 16 images, at most 512, a multiple of 32 or of the patch",
    "data.augmentation": "medical for volumes, aerial for DeepGlobe and chosen bands, else street",
    **{f"data.{key}": "as in the preset data.augmentation" for key in _NAMED},
    "data.batch_size": "8, or fewer for fewer images, but at least 2 for batch normalisation; on a "
    "GPU as many as fit in free memory, up to 32 if 40 epochs are still 2,000 steps",
    "data.bands": "for volumes: all bands of the slice and its neighbours",
    "data.neighbours": "0 if the images are not volumes",
    "data.axis": "for volumes: as in dataset.yaml",
    "data.band_ranges": "mean - 2 and mean + 2 standard deviations of up to 64 training images",
    "data.workers": "share of the cores of this process - 1, at most 16",
    "labels.kind": "votes for several annotators or parent classes, hard otherwise",
    "labels.epsilon": "0.1 for uniform, 0.5 for boundary",
    "labels.width": "1 for boundary, sigma rounded up for gaussian",
    "labels.adaptive": "true for boundary: thin objects stay hard",
    "labels.sigma": "1 for gaussian",
    "loss.classes": "label with label smoothing (uniform, boundary) or a teacher, else present",
    "loss.threshold": "0.5 if loss.classes was set to label, less with a teacher; otherwise 0.01",
    "optim.steps": "optim.epochs if given, else 40 epochs but at least 200 steps; rounded up to a "
    "multiple of optim.validations",
    "optim.validations": "at most optim.steps",
    "optim.epochs": "replaced by optim.steps",
    "optim.learning_rate": "0.0005 for adamw, 0.01 for sgd",
    "optim.weight_decay": "0.01 for adamw, 0.0005 for sgd",
    "optim.momentum": "0.9 for sgd",
    "optim.ema": "a half-life of 5 % of the steps",
    "semi_supervised.ema": "a half-life of 5 % of the steps",
    "distillation.teacher_precision": "same as precision",
    "semi_supervised.teacher_precision": "same as precision",
    "semi_supervised.batch_size": "same as data.batch_size",
    "semi_supervised.confidence_threshold": "0 for soft, 0.95 for hard",
    "semi_supervised.cross_entropy": "loss.cross_entropy for soft, 1 for hard",
    "semi_supervised.classes": "the indices of loss.classes if it is a list, else both",
    "precision": "bf16 if the hardware supports it, else fp16 on GPUs and fp32 on CPUs",
}


def resolve(config: Config, dataset: SegmentationDataset, *, unlabeled: int = 0) -> ResolvedConfig:
    """Replace every "auto" by a value, as `RULES` says; round steps up to full validations."""
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
    _fill(values["data"], "workers", loading_processes)
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
    """Return the values that `resolve` filled in, by dotted key."""
    method = (after.method,) if after.method else ()
    found = {
        f"{section}.{key}": value
        for section in ("data", "labels", "loss", "optim", *method)
        for key, value in getattr(after, section)
        if value != getattr(getattr(before, section), key)
    }
    return found | ({"precision": after.precision} if before.precision != after.precision else {})


def changes(before: Config, after: Config) -> list[str]:
    """Return a line for each important value that was filled in: "data.crop_px: 352 480".

    With --verbose, return a line for every value, with its rule.
    """
    found = changed(before, after)
    if verbosity() > 0:
        return [f"{key}: {value}  ({RULES[key]})" for key, value in found.items()]
    found = {key: value for key, value in found.items() if key.removeprefix("data.") not in _NAMED}
    if after.loss.classes != "label":
        found = {key: value for key, value in found.items() if not key.startswith("loss.")}
    return [f"{key}: {value}" for key, value in found.items()]


def differences(given: Config, written: Config) -> list[str]:
    """Return a line for each given setting that differs from those a run was started with."""
    asked = changed(Config.model_validate({"data": {"source": given.data.source}}), given)
    own = changed(given, written)
    same = {"data.source", "optim.epochs"}  # config.yaml has them in another form
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
    # Label smoothing and a teacher's softmax give every class a small probability in every pixel.
    # With classes="present", absent classes would enter the mean and be predicted in thin bands.
    traces = config.labels.kind in ("uniform", "boundary") or config.distillation is not None
    likely = traces and loss["classes"] == "auto"
    _fill(loss, "classes", lambda: "label" if traces else "present")
    _fill(loss, "threshold", lambda: _likely(config) if likely else THRESHOLD)


def _likely(config: Config) -> float:
    """Return the threshold of loss.classes=label, low enough for a hard label alone to pass it."""
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
    """Return the number of steps, counting epochs of the larger of the two sets of images."""
    batch_size = values["data"]["batch_size"]
    if values["semi_supervised"] is None:  # labelled and unlabelled images share a batch
        epoch = (labelled + unlabeled) / batch_size
    else:
        epoch = max(labelled / batch_size, unlabeled / values["semi_supervised"]["batch_size"])
    epochs = values["optim"]["epochs"]
    steps = (epochs or EPOCHS) * epoch / values["optim"]["accumulate"]
    return max(1, round(steps)) if epochs else max(200, int(steps))


def _preset(data: DataConfig, bands: Bands | None) -> Preset:
    """Return the preset of the augmentation for the kind of images.

    Older runs, which set scale, flip and colour but no preset, keep the preset of photographs.
    """
    given = None not in (data.scale, data.flip, data.colour)
    if bands and bands.axis and not given:
        return "medical"
    from_above = source_name(data.source) == "deepglobe" or data.bands is not None
    return "aerial" if from_above and not given else "street"


def _crop(dataset: SegmentationDataset, multiple: int = CROP_MULTIPLE) -> tuple[int, int]:
    shapes = [dataset.compact(index)["image"].shape for index in spread(len(dataset))]
    return automatic_crop([(height, width) for _, height, width in shapes], multiple)
