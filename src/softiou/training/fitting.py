"""Run Lightning's trainer with a recipe: batches, callbacks, loggers and clear errors."""

import logging
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.callbacks.weight_averaging import WeightAveraging
from torch.utils.data import Subset

from softiou._memory import keep_freed_memory
from softiou._processes import are_several, connect, is_first
from softiou._screen import verbosity
from softiou.configuration import load_config
from softiou.configuration.data_sections import PRESETS
from softiou.configuration.resolved import ResolvedConfig, ResolvedData
from softiou.configuration.sections import Config, Precision
from softiou.data import Augmentation, CustomAugmentation, SegmentationDataset
from softiou.data.base import EvaluatedSamples
from softiou.data.sensors import SensorNoise
from softiou.errors import ConfigError, DataError
from softiou.inference import images_at_once
from softiou.recipes.averaging import averaging
from softiou.recipes.base import Augmentations, Recipe, Stream
from softiou.recipes.baseline import BASELINE
from softiou.recipes.custom import CustomParts
from softiou.recipes.data import TrainingData
from softiou.training.callbacks import AtomicCheckpointIO, Checkpoints, JsonLinesLogger
from softiou.training.loading import BatchStream
from softiou.training.loggers import named_loggers
from softiou.training.processes import JoinedBatchNorm, alone, trainer_settings
from softiou.training.progress import RunProgress
from softiou.training.stopping import Stopped, StopRequest
from softiou.training.workers import Loader, loading_error

_PRECISIONS: dict[Precision, Literal["bf16-mixed", "16-mixed", "32-true"]] = {
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "fp32": "32-true",
}


def fit(
    recipe: Recipe,
    data: TrainingData,
    run: Path,
    *,
    custom: CustomParts,
    say: Callable[[str], None],
    progress_bar: bool,
    checkpoint: Path | None = None,
    step: int = 0,
) -> None:
    """Train a recipe to its last step; `checkpoint` and its `step` are those of a resumed run."""
    config = recipe.config
    keep_freed_memory()
    connect()
    with (
        _clear_errors(recipe, run, say),
        _quiet(),
        StopRequest(say) as stop,
        named_loggers(config, run, step=step) as loggers,
    ):
        trainer = pl.Trainer(
            **_trainer_settings(config),
            callbacks=[
                *_callbacks(recipe, run, stop, say, bar=progress_bar and is_first()),
                *custom.callbacks,
            ],
            logger=[*loggers, JsonLinesLogger(run / "metrics.jsonl", step=step), *custom.loggers],
            enable_progress_bar=False,
            default_root_dir=run,
        )
        if config.strategy == "fsdp" and are_several():  # Lightning does this only for ddp
            JoinedBatchNorm().apply(recipe.model)
        augmentation = _augmentation(config, data, custom)
        trainer.fit(
            recipe,
            train_dataloaders=recipe.training_batches(
                data, augmentation, _stream(config, trainer, say)
            ),
            val_dataloaders=_validation_samples(config, data.validation, trainer),
            ckpt_path=checkpoint,
            weights_only=True,
        )


def one_step(recipe: Recipe, data: TrainingData, run: Path, *, custom: CustomParts) -> None:
    """Run only the first step of a training; callbacks may write into `run`."""
    config = recipe.config
    with _quiet():
        settings = _trainer_settings(config) | {
            **alone(),
            "max_epochs": 1,
            "limit_train_batches": config.optim.accumulate,
            "limit_val_batches": 0,
        }
        trainer = pl.Trainer(
            **settings, logger=False, enable_progress_bar=False, default_root_dir=run
        )
        augmentation = _augmentation(config, data, custom)
        stream = _stream(config, trainer, lambda line: None)
        with _clear_errors(recipe, run, lambda line: None):
            trainer.fit(recipe, recipe.training_batches(data, augmentation, stream))


def _trainer_settings(config: ResolvedConfig) -> dict[str, Any]:
    optim, processes = config.optim, trainer_settings(config.strategy)
    return {
        **processes,
        "precision": _PRECISIONS[config.precision],
        "max_epochs": optim.validations,
        "accumulate_grad_batches": optim.accumulate,
        "gradient_clip_val": optim.clip_norm or None,
        "log_every_n_steps": max(1, min(20, optim.steps // optim.validations)),
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "plugins": [AtomicCheckpointIO(), *processes["plugins"]],
    }


def _callbacks(
    recipe: Recipe, run: Path, stop: StopRequest, say: Callable[[str], None], *, bar: bool
) -> list[Callback]:
    optim = recipe.config.optim
    return [
        *([WeightAveraging(multi_avg_fn=averaging(optim.ema))] if optim.ema else []),
        *recipe.callbacks(run, say),
        Checkpoints(
            run / "checkpoints", stop, monitor=optim.monitor, patience=optim.patience, say=say
        ),
        RunProgress(say, steps=optim.steps, images=sum(recipe.batch_sizes()), bar=bar),
    ]


def _augmentation(config: ResolvedConfig, data: TrainingData, custom: CustomParts) -> Augmentations:
    about, settings = data.training.description, config.data
    if custom.transform is not None:  # it replaces the built-in augmentation; crops remain
        settings = settings.model_copy(update=PRESETS["none"])
    crop = augmentation_of(
        settings,
        ignore_index=about.ignore_index,
        coverage=about.num_classes if config.labels.kind == "coverage" else None,
    )
    return crop if custom.transform is None else CustomAugmentation(custom.transform, crop)


def augmentation_of(
    data: ResolvedData, *, ignore_index: int, coverage: int | None = None
) -> Augmentation:
    """Return the augmentation of a configuration; for other arguments see `Augmentation`."""
    return Augmentation(
        data.crop_px,
        data.scale,
        data.flip,
        data.colour,
        data.vertical_flip,
        data.quarter_turns,
        data.rotation,
        data.elastic,
        SensorNoise(data.gamma, data.blur, data.channel_dropout, data.noise),
        ignore_index=ignore_index,
        coverage=coverage,
        bands=data.bands is not None,
    )


def _stream(config: ResolvedConfig, trainer: pl.Trainer, say: Callable[[str], None]) -> Stream:
    """Return a function that makes a stream of batches: stream(samples, batch_size)."""
    optim = config.optim
    return lambda samples, batch_size: BatchStream(
        samples,
        batch_size=batch_size,
        batches=optim.steps // optim.validations * optim.accumulate,
        rounds=optim.validations,
        workers=config.data.workers,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        pin_memory=trainer.strategy.root_device.type == "cuda",
        say=say,
    )


@contextmanager
def _clear_errors(recipe: Recipe, run: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Convert errors in this context to errors of softiou with advice."""
    config = recipe.config
    way_on = f"After that, continue with: {resume_command(config, run)}"
    try:
        yield
    except Stopped:
        say(f"interrupted; continue with: {resume_command(config, run)}")
        raise KeyboardInterrupt from None
    except (OSError, DataError) as error:
        error.add_note(way_on)
        raise
    except torch.OutOfMemoryError as error:
        more = "".join(f", {setting}" for setting in recipe.memory_settings())
        raise ConfigError(
            f"Out of memory: lower data.batch_size ({config.data.batch_size}; optim.accumulate "
            f"makes up for it){more} or data.crop_px ({list(config.data.crop_px)}). {error}"
        ) from error
    except RuntimeError as error:  # torch may report a dead loading process anywhere
        if "DataLoader worker" not in str(error) or (clear := loading_error(error)) is None:
            raise
        clear.add_note(way_on)
        raise clear from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"data.batch_size: {config.model.architecture} has batch normalisation over the images "
            f"only, for which {config.data.batch_size} is too few; use at least 2."
        ) from error


def resume_command(config: Config, run: Path) -> str:
    """Return the command that resumes a run; for a baseline, that of the student's run."""
    verb = config.verb
    if run.name == BASELINE and (run.parent / "config.yaml").is_file():
        verb, run = load_config(file=run.parent / "config.yaml").verb, run.parent
    return f"softiou {verb} --resume {shlex.quote(str(run))}"


def _validation_samples(
    config: ResolvedConfig, dataset: SegmentationDataset, trainer: pl.Trainer
) -> Loader:
    if len(dataset) < trainer.world_size:
        raise ConfigError(
            f"The split {dataset.split!r} has {len(dataset)} images, fewer than the "
            f"{trainer.world_size} processes: use fewer processes."
        )
    # Without padding to equal numbers of images, which would count some images twice.
    own = range(trainer.global_rank, len(dataset), trainer.world_size)
    samples = Subset(EvaluatedSamples(dataset), own)
    device = trainer.strategy.root_device
    return Loader(
        samples,
        batch_size=images_at_once(device),
        collate_fn=list,  # images of different sizes
        workers=config.data.workers,
        pin_memory=device.type == "cuda",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's tips and its warnings about data loaders, unless --verbose is given."""
    if verbosity() > 0:
        yield
        return
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
