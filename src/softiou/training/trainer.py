"""From a configuration to a run directory with checkpoints: a recipe, end to end."""

import logging
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks.weight_averaging import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader, Subset

from softiou._memory import keep_freed_memory
from softiou.configuration.sections import Config, DataConfig
from softiou.data import (
    Augmentation,
    ImageDataset,
    PartlyLabeled,
    Sample,
    SegmentationDataset,
    StrongColours,
    TargetKind,
    TrainingStream,
    UnlabeledStream,
    open_dataset,
    open_unlabeled,
    source_name,
    verify_readable,
)
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.models import ModelSpec
from softiou.recipes.base import Recipe
from softiou.recipes.baseline import BASELINE
from softiou.recipes.building import check_labels, data_labels
from softiou.recipes.distillation import (
    DistillationRecipe,
    identity_of,
    load_teacher,
    open_soft_labels,
)
from softiou.recipes.pseudo_labels import PseudoLabelReport
from softiou.recipes.semi_supervised import SemiSupervisedRecipe
from softiou.recipes.supervised import SupervisedRecipe
from softiou.soft_labels import SoftLabelReader
from softiou.training.callbacks import (
    AtomicCheckpointIO,
    Checkpoints,
    JsonLinesLogger,
    ProgressBar,
    ProgressLog,
)
from softiou.training.custom import NOTHING_CUSTOM, CustomParts
from softiou.training.loading import BatchStream
from softiou.training.processes import are_several, is_first, own_process_group, trainer_settings
from softiou.training.resolving import changes, resolve
from softiou.training.runs import new_run, next_free_run, refuse_existing, resumable
from softiou.training.stopping import Stopped, StopRequest, ignore_interrupts

_PRECISIONS: dict[str, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}


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

    Under torchrun all processes train together, and the first one writes and speaks.

    Args:
        config: What to do; "auto" values are resolved here, said, and written down.
        directory: The run directory, new or empty; None for the next free `runs/NAME-001`, NAME
            being the data set's.
        command: What started the run, for the record.
        say: Prints a line.
        progress_bar: Whether to show a bar of the batches.
        custom: Model, loss, data sets and more that are objects of Python.

    Returns:
        The run directory.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with a usable last.ckpt.
    """
    say = say if is_first() else _silent
    run = directory or _own_run(config)
    if is_first():
        refuse_existing(run)
    material = _open(config)
    _verify(material, skip=config.data.skip_corrupt, say=say)
    resolved = resolve(config, material.training, unlabeled=material.num_unlabeled)
    for line in changes(config, resolved):
        say(f"auto  {line}")
    weights = config.model.encoder_weights
    recipe, soft_labels = _recipe(resolved, material.training, encoder_weights=weights)
    if is_first():
        new_run(resolved, run, command=command)
    without = f" and {material.num_unlabeled} without masks" if material.unlabeled else ""
    say(
        f"run   {run}: {len(material.training)} images to train on{without}, "
        f"{len(material.validation)} to validate, {resolved.optim.steps} steps"
    )
    _fit(recipe, material, soft_labels, run, say=say, progress_bar=progress_bar)
    return run


def resolve_config(config: Config) -> Config:
    """Return the configuration that `train` would write down: "auto" values by data and machine.

    Raises:
        DataError: There is no such data set.
    """
    material = _open(config)
    return resolve(config, material.training, unlabeled=material.num_unlabeled)


def resume(
    run: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = False,
    custom: CustomParts = NOTHING_CUSTOM,
) -> Path:
    """Go on with a run from its last checkpoint, as if it had not been interrupted.

    Arguments and errors as in `train`.
    """
    say = say if is_first() else _silent
    config, last, content = resumable(run)
    material = _open(config)
    training = material.training
    if last and content["softiou"]["classes"] != list(training.description.classes):
        raise CheckpointError(
            f"{run} was begun with other classes than {config.data.source} has now: "
            f"{content['softiou']['classes']}. Restore its dataset.yaml, or start a new run."
        )
    step = content.get("global_step", 0)
    # Its weights come from the checkpoint, so nothing has to be downloaded again.
    weights = "none" if last else config.model.encoder_weights
    spec = ModelSpec(**content["softiou"]["model"]) if last else None
    recipe, soft_labels = _recipe(config, training, encoder_weights=weights, spec=spec)
    if last and content["softiou"].get("learns_from", "") != recipe.learns_from:
        raise CheckpointError(
            f"{run} was begun with another teacher than its config.yaml names now: the file was "
            "replaced. Put the old one back, or start a new run."
        )
    if last and not _same_weights(recipe, content):
        raise CheckpointError(
            f"{run} was begun by a softiou that trained other weights of this network: those that "
            "no logit depends on are left alone now. Start a new run; its checkpoints still load."
        )
    where = (
        f"from step {step}/{config.optim.steps}" if last else "from the start: no checkpoint yet"
    )
    say(f"run   {run}: going on {where}")
    _fit(
        recipe,
        material,
        soft_labels,
        run,
        say=say,
        progress_bar=progress_bar,
        checkpoint=last,
        step=step,
    )
    return run


def _same_weights(recipe: Recipe, content: dict[str, Any]) -> bool:
    """Say whether a checkpoint's optimiser holds as many weights as that of a recipe."""
    optimizer = recipe.configure_optimizers()["optimizer"]
    own = [len(group["params"]) for group in optimizer.param_groups]
    saved = content["optimizer_states"][0]["param_groups"]
    return own == [len(group["params"]) for group in saved]


def _own_run(config: Config) -> Path:
    """Return a new run directory, which one process alone can choose."""
    if are_several():
        raise ConfigError("Name the run with --run: several processes have to agree on it.")
    return next_free_run(source_name(config.data.source))


def _silent(line: str) -> None:
    """Leave the talking to the first process."""


@dataclass(frozen=True)
class _Material:
    """What a run learns from and is judged by."""

    training: SegmentationDataset
    validation: SegmentationDataset
    unlabeled: ImageDataset | None

    @property
    def num_unlabeled(self) -> int:
        return len(self.unlabeled) if self.unlabeled else 0


def _open(config: Config) -> _Material:
    data, kind = config.data, config.labels.kind
    if config.semi_supervised is not None and data.train_split in (data.val_split, "test"):
        raise ConfigError(
            f"data.train_split: '{data.train_split}' is a split that the model is scored on; what "
            "it learns there would be counted twice. Use train, or a part of it: `softiou split "
            "DATA --fractions 1/8` writes the list for --split 1_8."
        )
    # However the labels are softened, a model is chosen by all that is known of the images.
    truth: TargetKind = "soft" if kind == "soft" else "auto"
    training, validation = (
        open_dataset(data.source, split, labels=labels, skip_corrupt=data.skip_corrupt)
        for split, labels in ((data.train_split, data_labels(kind)), (data.val_split, truth))
    )
    check_labels(config.labels, training)
    semi, distillation = config.semi_supervised, config.distillation
    if semi is not None:
        return _Material(training, validation, _open_unlabeled(data, semi.unlabeled))
    if distillation is not None and distillation.unlabeled:
        training = PartlyLabeled(training, _open_unlabeled(data, None))
    return _Material(training, validation, None)


def _open_unlabeled(data: DataConfig, folder: str | None) -> ImageDataset:
    return open_unlabeled(
        data.source,
        data.train_split,
        folder=folder,
        evaluated=(data.val_split, "val", "test"),
        skip_corrupt=data.skip_corrupt,
    )


def _verify(material: _Material, *, skip: bool, say: Callable[[str], None]) -> None:
    """Stop before the training when files cannot be read, instead of in the middle of the night.

    The images without masks were looked at when they were opened.
    """
    datasets = [material.training, material.validation]
    if material.unlabeled and material.unlabeled.excluded:
        number = len(material.unlabeled.excluded)
        say(f"unlabelled: left out {number} images that splits of the data set hold, too")
    if skip:
        skipped = [(dataset.split, dataset.skipped) for dataset in datasets]
        skipped += [("unlabelled", material.unlabeled.skipped)] if material.unlabeled else []
        for name, stems in skipped:
            if stems:
                say(f"{name}: left out {len(stems)} unreadable images")
        return
    corrupt = {dataset.split: verify_readable(dataset) for dataset in datasets}
    counts = [f"{len(found)} in the split {split!r}" for split, found in corrupt.items() if found]
    if counts:
        problems = [problem for found in corrupt.values() for problem in found]
        lines = [f"  {problem.file}: {problem.message}" for problem in problems[:5]]
        lines += ["  ..."] if len(problems) > 5 else []
        names = "\n".join(lines)
        raise DataError(
            f"Files cannot be read, {' and '.join(counts)}:\n{names}\n"
            "Mend or remove them (`softiou check` lists them all), or leave them out with "
            "data.skip_corrupt=true."
        )


def _recipe(
    config: Config,
    training: SegmentationDataset,
    *,
    encoder_weights: str,
    spec: ModelSpec | None = None,
) -> tuple[Recipe, SoftLabelReader | None]:
    """Build what the configuration describes, and open the soft labels that it learns from."""
    settings, soft_labels, semi = config.distillation, None, config.semi_supervised
    teacher = load_teacher(settings, training) if settings and settings.teacher else None
    if settings and settings.soft_labels:
        soft_labels = open_soft_labels(settings, training)
    pl.seed_everything(config.seed, workers=False, verbose=False)
    recipe: Recipe
    model: Any = {"encoder_weights": encoder_weights, "spec": spec}
    if semi is not None:
        recipe = SemiSupervisedRecipe(config, training.description, settings=semi, **model)
    elif settings is None:
        recipe = SupervisedRecipe(config, training.description, **model)
    else:
        recipe = DistillationRecipe(
            config,
            training.description,
            settings=settings,
            teacher=teacher,
            **model,
        )
        recipe.learns_from = identity_of(settings)
    stride = recipe.model.input_stride
    crop: Any = config.data.crop_px
    if any(length % stride for length in crop):
        fitting = [length + -length % stride for length in crop]
        raise ConfigError(
            f"data.crop_px: {list(crop)} is no multiple of the encoder's stride {stride}; "
            f"{fitting} is."
        )
    if config.precision == "fp16" and not torch.accelerator.is_available():
        raise ConfigError("precision: fp16 needs a GPU, and there is none; use bf16 or fp32.")
    return recipe, soft_labels


def _fit(
    recipe: Recipe,
    material: _Material,
    soft_labels: SoftLabelReader | None,
    run: Path,
    *,
    say: Callable[[str], None],
    progress_bar: bool,
    checkpoint: Path | None = None,
    step: int = 0,
) -> None:
    config = recipe.config
    optim, steps = config.optim, int(config.optim.steps)
    keep_freed_memory()
    with _quiet(), StopRequest(say) as stop, own_process_group():
        trainer = pl.Trainer(
            accelerator="auto",
            **trainer_settings(),
            sync_batchnorm=torch.cuda.is_available(),  # where there are several processes
            precision=_PRECISIONS[config.precision],
            max_epochs=optim.validations,
            accumulate_grad_batches=optim.accumulate,
            gradient_clip_val=optim.clip_norm or None,
            callbacks=[
                *([ProgressBar(leave=False)] if progress_bar and is_first() else []),
                *([EMAWeightAveraging(decay=optim.ema)] if optim.ema else []),
                *([PseudoLabelReport(run, say)] if material.unlabeled else []),
                Checkpoints(run / "checkpoints", stop),
                ProgressLog(say, steps),
            ],
            logger=[
                TensorBoardLogger(run, name="", version="tensorboard", purge_step=step or None),
                JsonLinesLogger(run / "metrics.jsonl", step=step),
            ],
            log_every_n_steps=max(1, min(20, steps // optim.validations)),
            enable_checkpointing=False,
            enable_progress_bar=progress_bar and is_first(),
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=run,
        )
        try:
            trainer.fit(
                recipe,
                train_dataloaders=_training_batches(config, material, soft_labels, trainer),
                val_dataloaders=_validation_samples(config, material.validation, trainer),
                ckpt_path=checkpoint,
                weights_only=True,
            )
        except Stopped:
            say(f"interrupted; go on with: {resume_command(config, run)}")
            raise KeyboardInterrupt from None
        except torch.OutOfMemoryError as error:
            semi = config.semi_supervised
            more = f", semi_supervised.batch_size ({semi.batch_size})" if semi else ""
            raise ConfigError(
                f"Out of memory: lower data.batch_size ({config.data.batch_size}; optim.accumulate "
                f"makes up for it){more} or data.crop_px ({list(config.data.crop_px)}). {error}"
            ) from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"data.batch_size: {config.model.architecture} has a batch norm over the images "
                f"alone, and {config.data.batch_size} is too few; use at least 2."
            ) from error


def resume_command(config: Config, run: Path) -> str:
    """Return the command that goes on with a run: a baseline is part of the student's run."""
    verb = config.verb
    if run.name == BASELINE and (run.parent / "config.yaml").is_file():
        verb, run = "distill", run.parent
    return f"softiou {verb} --resume {shlex.quote(str(run))}"


def _training_batches(
    config: Config,
    material: _Material,
    soft_labels: SoftLabelReader | None,
    trainer: pl.Trainer,
) -> BatchStream | CombinedLoader:
    """Return the stream of batches with labels, or of pairs of a batch with and one without."""
    data: Any = config.data
    augmentation = Augmentation(
        crop_px=data.crop_px,
        scale=data.scale,
        flip=data.flip,
        colour=data.colour,
        ignore_index=material.training.description.ignore_index,
    )
    stream: dict[str, Any] = {
        "batches": int(config.optim.steps) // config.optim.validations * config.optim.accumulate,
        "workers": data.workers,
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
        "pin_memory": trainer.strategy.root_device.type == "cuda",
    }
    labelled = TrainingStream(
        material.training,
        augmentation,
        seed=config.seed,
        random_rater=config.labels.kind == "random",
        soft_labels=soft_labels,
    )
    batches = BatchStream(labelled, batch_size=data.batch_size, **stream)
    semi: Any = config.semi_supervised
    if semi is None or material.unlabeled is None:
        return batches
    unlabeled = UnlabeledStream(
        material.unlabeled,
        augmentation,
        StrongColours(colour=semi.colour, grey=semi.grey, blur=semi.blur),
        views=semi.views,
        seed=config.seed,
    )
    others = BatchStream(unlabeled, batch_size=semi.batch_size, **stream)
    # Both have the same number of batches a round, and each its own epochs.
    return CombinedLoader({"labelled": batches, "unlabeled": others}, mode="min_size")


def _validation_samples(
    config: Config, dataset: SegmentationDataset, trainer: pl.Trainer
) -> DataLoader[Sample]:
    if len(dataset) < trainer.world_size:
        raise ConfigError(
            f"The split {dataset.split!r} has {len(dataset)} images, and {trainer.world_size} "
            "processes would share them: use fewer processes."
        )
    # Every image once, whatever the number of processes: a padded split would count some twice.
    own = range(trainer.global_rank, len(dataset), trainer.world_size)
    workers: Any = config.data.workers
    return DataLoader(
        Subset(dataset, own),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=ignore_interrupts,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and hints about loaders out of the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        warnings.filterwarnings("ignore", module=r"torch\.optim\.lr_scheduler")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
