"""Train and resume: from a configuration to a run directory with checkpoints."""

import hashlib
import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from softiou._processes import are_several, is_first, world_size
from softiou._screen import doing
from softiou.configuration.data_sections import DataConfig
from softiou.configuration.resolved import ResolvedConfig
from softiou.configuration.sections import Config
from softiou.data import SegmentationDataset, absolute_source, source_name, verify_readable
from softiou.data.crops import spread
from softiou.data.volumes import stored_file
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.inference import best_device, emulation
from softiou.models import ModelSpec
from softiou.models.memory import bytes_for_gradient
from softiou.recipes.base import Recipe
from softiou.recipes.custom import NOTHING_CUSTOM, CustomParts
from softiou.recipes.data import TrainingData, open_labelled
from softiou.recipes.registry import recipe_for
from softiou.recipes.splits import with_validation
from softiou.recipes.validation import SCORES
from softiou.training.batch_size import free_memory, largest_batch
from softiou.training.environment import save_environment
from softiou.training.fitting import fit, one_step
from softiou.training.loggers import check_installed
from softiou.training.resolving import EPOCHS, FEWEST_STEPS, MOST, USUAL, changes, resolve
from softiou.training.runs import existing_run, new_run, next_free_run, refuse_existing, resumable

_PATHS = (
    ("data", "source"),
    ("distillation", "teacher"),
    ("distillation", "soft_labels"),
    ("semi_supervised", "unlabeled"),
    ("model", "weights"),
)
_MOST_BYTES_A_PIXEL = 8192  # most activation memory per pixel; smaller batches are not measured


def train(
    config: Config,
    *,
    directory: Path | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = False,
    custom: CustomParts = NOTHING_CUSTOM,
) -> Path:
    """Train a model into a new run directory.

    Under torchrun all processes train together; only the first one writes files and prints.

    Args:
        config: Settings; "auto" values are resolved, printed, and written into config.yaml.
        directory: The run directory, new or empty; None for the next free `runs/NAME-001`, with the
            name of the data set.
        command: The command that started the run, for the first line of config.yaml.
        say: A function that prints a line.
        progress_bar: Whether to show a progress bar.
        custom: Python objects used instead of parts of the configuration, such as a model or loss.

    Returns:
        The run directory.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; the run can be resumed from last.ckpt.
    """
    say = say if is_first() else lambda line: None
    config = _absolute(with_own_validation(custom.recorded_in(config), custom))
    if directory is None and are_several():
        raise ConfigError("Give the run directory with --out: all processes need the same one.")
    if directory is not None and is_first():
        refuse_existing(directory)
    with doing("opening the data set", say):
        data = open_data(config, custom)
    for line in data.notes:
        say(line)
    if is_first():  # the other processes rely on its check
        with doing("reading each image and mask once", say):
            _verify(data, config.data, say=say)
    resolved = resolved_for(config, data, custom)
    lines = [f"auto  {line}" for line in changes(config, resolved)]
    if config.data.batch_size == "auto" and resolved.data.batch_size > USUAL:
        lines.append(f"auto  optim.learning_rate is not scaled: it is for {USUAL} images per step")
    for line in lines + emulation(best_device(), resolved.precision):
        say(line)
    with doing(f"building the network, weights {config.model.encoder_weights}", say):
        recipe = build_recipe(resolved, data, custom, encoder_weights=config.model.encoder_weights)
    run = directory or next_free_run(source_name(config.data.source))
    with new_run(resolved, run, command=command) if is_first() else nullcontext():
        say(
            f"run   {run}: {_image_counts(data, recipe)} {len(data.validation)} to validate, "
            f"{resolved.optim.steps} steps"
        )
        if is_first():
            save_environment(recipe.model, run)
        fit(recipe, data, run, custom=custom, say=say, progress_bar=progress_bar)
    return run


def _absolute(config: Config) -> Config:
    """Return a configuration with absolute paths, valid in every working directory."""
    values = config.model_dump()
    for section, key in _PATHS:
        if values[section] is not None and (path := values[section].get(key)) and path != "digits":
            values[section][key] = absolute_source(path)
    return Config.model_validate(values)


def _identity(data: SegmentationDataset) -> str:
    """Return a hash of all image names and some file sizes, to detect a changed data set."""
    digest = hashlib.sha256()
    for number, stem in enumerate(data.stems):
        digest.update(("\n" * (number > 0) + stem).encode(errors="surrogateescape"))
    for index in spread(len(data)):
        sizes = [stored_file(path).stat().st_size for path in data.files(index)]
        digest.update(str(sizes).encode())
    return digest.hexdigest()[:16]


def _image_counts(data: TrainingData, recipe: Recipe) -> str:
    """Return the number of training images, and those with and without masks in a batch."""
    labelled, (with_masks, without) = len(data.training), recipe.batch_sizes()
    if not without:
        return f"{labelled} images to train on,"
    return (
        f"{labelled + data.num_unlabeled} images to train on, {labelled} with masks; each batch "
        f"has {with_masks} with masks and {without} without;"
    )


def resolve_config(config: Config) -> ResolvedConfig:
    """Resolve a configuration as `train` does; raise a DataError if the data set is missing."""
    config = with_own_validation(config, NOTHING_CUSTOM)
    return resolved_for(config, open_data(config, NOTHING_CUSTOM), NOTHING_CUSTOM)


def resolved_for(config: Config, data: TrainingData, custom: CustomParts) -> ResolvedConfig:
    """Replace every "auto" as `resolve` does, and on a GPU find the largest batch size."""

    def sized(batch_size: object) -> ResolvedConfig:
        section = config.data.model_copy(update={"batch_size": batch_size})
        other = config.model_copy(update={"data": section})
        return resolve(other, data.training, unlabeled=data.num_unlabeled)

    def step(size: int) -> None:
        parts = replace(custom, model=deepcopy(custom.model))
        recipe = build_recipe(sized(size), data, parts, encoder_weights="none")
        with TemporaryDirectory() as folder:
            one_step(recipe, data, Path(folder), custom=parts)

    resolved, device = sized(config.data.batch_size), best_device()
    if config.data.batch_size != "auto" or not (free := free_memory(device)):
        return resolved
    usual, many = resolved.data.batch_size, EPOCHS * len(data.training) // FEWEST_STEPS
    most = max(usual, min(MOST, many) // world_size())
    names = {"data", "model", "loss", "labels", "precision", resolved.method or "custom"}
    key = f"{custom.model} {custom.loss} {resolved.model_dump(include=names)}"
    return sized(largest_batch(step, device, free=free, most=most, usual=usual, key=key))


def resume(
    run: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = False,
    custom: CustomParts = NOTHING_CUSTOM,
) -> Path:
    """Continue a run from its last checkpoint, with the same result as without interruption.

    Arguments and errors are those of `train`.
    """
    say = say if is_first() else lambda line: None
    with existing_run(run) if is_first() else nullcontext():
        written, last, content = resumable(run)
        written = custom.recorded_in(written)
        with doing("opening the data set", say):
            data = open_data(written, custom)
        # The config.yaml of an earlier version may lack settings that were added later.
        config = resolve(written, data.training, unlabeled=data.num_unlabeled)
        step, weights = content.get("global_step", 0), config.model.encoder_weights
        if last is None:
            recipe = build_recipe(config, data, custom, encoder_weights=weights)
            say(f"run   {run}: starting again, because there is no checkpoint yet")
        else:
            config = _for_these_processes(run, config, content["softiou"])
            spec = ModelSpec.from_dict(content["softiou"]["model"], file=last)
            _check_classes(run, content, data, config)
            # The weights come from the checkpoint, so no pretrained weights are downloaded.
            recipe = build_recipe(config, data, custom, encoder_weights="none", spec=spec)
            _check_same(run, content, recipe)
            say(f"run   {run}: continuing from step {step}/{config.optim.steps}")
        shown: dict[str, Any] = {"custom": custom, "say": say, "progress_bar": progress_bar}
        fit(recipe, data, run, checkpoint=last, step=step, **shown)
    return run


def _for_these_processes(
    run: Path, config: ResolvedConfig, saved: dict[str, Any]
) -> ResolvedConfig:
    """Adapt the batch size per process, so that the total batch is the same as before."""
    before, now = saved.get("processes", world_size()), world_size()
    values = config.model_dump()
    for section in ("data", "semi_supervised"):
        if values[section] is None:
            continue
        joined = before * saved["config"][section]["batch_size"]
        if joined % now:
            raise ConfigError(
                f"{run} was trained by {before} processes with {joined} images per step in total, "
                f"which {now} cannot share evenly. Use a number of processes that divides {joined}."
            )
        values[section]["batch_size"] = joined // now
    return ResolvedConfig.model_validate(values)


def _check_classes(
    run: Path, content: dict[str, Any], data: TrainingData, config: ResolvedConfig
) -> None:
    if content["softiou"]["classes"] != list(data.training.description.classes):
        raise CheckpointError(
            f"{run} was started with other classes than {config.data.source} has now: "
            f"{content['softiou']['classes']}. Restore its dataset.yaml, or start a new run."
        )


def _check_same(run: Path, content: dict[str, Any], recipe: Recipe) -> None:
    """Raise a CheckpointError if the teacher, the images or the trained weights have changed."""
    if content["softiou"].get("learns_from", "") != recipe.learns_from:
        raise CheckpointError(
            f"{run} was started with another teacher: the file that its config.yaml names has been "
            "replaced. Restore the old file, or start a new run."
        )
    if content["softiou"].get("data", recipe.data_identity) != recipe.data_identity:
        raise CheckpointError(
            f"{run} was started with other images than {recipe.config.data.source} has now. "
            "Restore the old images, or start a new run."
        )
    optimizer = recipe.configure_optimizers()["optimizer"]
    saved = content["optimizer_states"][0]["param_groups"]
    own, others = ([len(g["params"]) for g in groups] for groups in (optimizer.param_groups, saved))
    if own != others:
        raise CheckpointError(
            f"{run} was started with an earlier version, which also trained weights that do not "
            "affect the logits. Start a new run; the checkpoints can still be loaded."
        )


def with_own_validation(config: Config, custom: CustomParts) -> Config:
    """Return a configuration with the validation split; unchanged with custom data sets."""
    own = custom.train_dataset is not None or custom.val_dataset is not None
    return config if own else with_validation(config)


def open_data(config: Config, custom: CustomParts) -> TrainingData:
    """Open the training and validation data of a configuration."""
    check_installed(config.loggers)
    return recipe_for(config).open_data(config, open_labelled(config, custom))


def _verify(data: TrainingData, config: DataConfig, *, say: Callable[[str], None]) -> None:
    """Raise a DataError if files cannot be read, before the training starts.

    The images without masks have been checked when they were opened.
    """
    datasets = [data.training, data.validation]
    if data.unlabeled and data.unlabeled.excluded:
        number = len(data.unlabeled.excluded)
        say(f"unlabelled: skipped {number} images that are also in splits of the data set")
    if config.skip_corrupt:
        skipped = [(dataset.split, dataset.skipped) for dataset in datasets]
        skipped += [("unlabelled", data.unlabeled.skipped)] if data.unlabeled else []
        for name, stems in skipped:
            if stems:
                say(f"{name}: skipped {len(stems)} unreadable images")
    if config.skip_corrupt or not config.verify:
        return
    corrupt = {dataset.split: verify_readable(dataset) for dataset in datasets}
    counts = [f"{len(found)} in the split {split!r}" for split, found in corrupt.items() if found]
    if counts:
        problems = [problem for found in corrupt.values() for problem in found]
        lines = [f"  {problem.file}: {problem.message}" for problem in problems[:5]]
        lines += ["  ..."] if len(problems) > 5 else []
        lines += [problem.remedy for problem in problems[:1] if problem.kind != "unreadable"]
        names = "\n".join(lines)
        raise DataError(
            f"Files cannot be read, {' and '.join(counts)}:\n{names}\n"
            "Repair or remove them (`softiou check` lists all), or skip them with "
            "data.skip_corrupt=true."
        )


def build_recipe(
    config: ResolvedConfig,
    data: TrainingData,
    custom: CustomParts,
    *,
    encoder_weights: str,
    spec: ModelSpec | None = None,
) -> Recipe:
    """Build the recipe of a configuration, and check that it can be trained."""
    recipe = recipe_for(config).build(
        config, data, encoder_weights=encoder_weights, spec=spec, custom=custom
    )
    recipe.data_identity = _identity(data.training)
    stride, crop = recipe.model.input_stride, config.data.crop_px
    if any(length % stride for length in crop):
        fitting = [length + -length % stride for length in crop]
        raise ConfigError(
            f"data.crop_px: {list(crop)} is not a multiple of the encoder's stride {stride}; "
            f"{fitting} is."
        )
    _check_memory(recipe, (config.data.batch_size, recipe.model.spec.channels, *crop))
    if config.precision == "fp16" and not torch.accelerator.is_available():
        raise ConfigError("precision: fp16 needs a GPU, but there is none; use bf16 or fp32.")
    if config.optim.monitor not in (known := [f"val/{name}" for name in SCORES]):
        raise ConfigError(
            f"optim.monitor: expected one of {', '.join(known)}, but got {config.optim.monitor!r}."
        )
    return recipe


def _check_memory(recipe: Recipe, shape: tuple[int, ...]) -> None:
    """Raise a ConfigError if the activations of a batch do not fit in memory."""
    device, config = best_device(), recipe.config
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:  # Windows
        return
    if math.prod(shape) // shape[1] * _MOST_BYTES_A_PIXEL < memory:
        return
    needed = bytes_for_gradient(recipe.model, shape) // (1 if config.precision == "fp32" else 2)
    if needed > memory:
        raise ConfigError(
            f"data.batch_size x data.crop_px: the activations of {config.data.batch_size} x "
            f"{list(config.data.crop_px)} pixels need {needed / 2**30:.1f} GiB, but there are "
            f"{memory / 2**30:.1f} GiB of memory. Lower one of them; optim.accumulate "
            "makes up for a smaller batch."
        )
