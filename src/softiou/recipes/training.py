"""From a configuration to a run directory with checkpoints: the supervised recipe, end to end."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.callbacks.weight_averaging import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, Subset

from softiou.data import (
    Augmentation,
    Sample,
    SegmentationDataset,
    TrainingStream,
    open_dataset,
    verify_readable,
)
from softiou.errors import ConfigError, DataError
from softiou.recipes.auto import changes, resolve
from softiou.recipes.callbacks import AtomicCheckpointIO, Checkpoints, JsonLinesLogger, Narrator
from softiou.recipes.config import Config
from softiou.recipes.loading import BatchStream
from softiou.recipes.runs import new_run, resumable
from softiou.recipes.supervised import SupervisedRecipe

_PRECISIONS: dict[str, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}


def train(
    config: Config,
    *,
    directory: Path | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = False,
) -> Path:
    """Train a model into a new run directory.

    Args:
        config: What to do; "auto" values are resolved here, said, and written down.
        directory: The run directory, new or empty; None for the next free one in runs/.
        command: What started the run, for the record.
        say: Prints a line.
        progress_bar: Whether to show a bar of the batches.

    Returns:
        The run directory.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C, with a usable last.ckpt.
    """
    training, validation = _open(config)
    resolved = resolve(config, training)
    for line in changes(config, resolved):
        say(f"auto  {line}")
    _verify([training, validation], skip=config.data.skip_corrupt, say=say)
    recipe = _recipe(resolved, training, encoder_weights=config.model.encoder_weights)
    run = new_run(resolved, directory, command=command)
    _fit(recipe, training, validation, run, say=say, progress_bar=progress_bar)
    return run


def resume(
    run: Path, *, say: Callable[[str], None] = lambda line: None, progress_bar: bool = False
) -> Path:
    """Go on with a run from its last checkpoint, as if it had not been interrupted.

    Arguments and errors as in `train`.
    """
    config, last = resumable(run)
    training, validation = _open(config)
    # Its weights come from the checkpoint, so nothing has to be downloaded again.
    weights = "none" if last else config.model.encoder_weights
    recipe = _recipe(config, training, encoder_weights=weights)
    say(f"resuming {run} from {last.name if last else 'the start: it has no checkpoint yet'}")
    _fit(recipe, training, validation, run, say=say, progress_bar=progress_bar, checkpoint=last)
    return run


def _open(config: Config) -> tuple[SegmentationDataset, SegmentationDataset]:
    data = config.data
    training, validation = (
        open_dataset(data.source, split, labels=data.labels, skip_corrupt=data.skip_corrupt)
        for split in (data.train_split, data.val_split)
    )
    return training, validation


def _verify(
    datasets: list[SegmentationDataset], *, skip: bool, say: Callable[[str], None]
) -> None:
    """Stop before the training when images cannot be read, instead of in the middle of the night."""
    for dataset in datasets:
        if skip:
            if skipped := getattr(dataset, "skipped", ()):
                say(f"{dataset.split}: left out {len(skipped)} unreadable images")
            continue
        corrupt = verify_readable(dataset)
        if corrupt:
            names = "\n".join(f"  {problem}" for problem in corrupt[:5])
            raise DataError(
                f"{len(corrupt)} of {len(dataset)} images of the split {dataset.split!r} cannot be "
                f"read:\n{names}\nMend or remove them, or leave them out with "
                "data.skip_corrupt=true."
            )


def _recipe(
    config: Config, training: SegmentationDataset, *, encoder_weights: str
) -> SupervisedRecipe:
    pl.seed_everything(config.seed, workers=False, verbose=False)
    recipe = SupervisedRecipe(config, training.description, encoder_weights=encoder_weights)
    stride = recipe.model.input_stride
    crop: Any = config.data.crop_px
    if any(length % stride for length in crop):
        fitting = [length + -length % stride for length in crop]
        raise ConfigError(
            f"data.crop_px: {list(crop)} is no multiple of the encoder's stride {stride}; "
            f"{fitting} is."
        )
    return recipe


def _fit(
    recipe: SupervisedRecipe,
    training: SegmentationDataset,
    validation: SegmentationDataset,
    run: Path,
    *,
    say: Callable[[str], None],
    progress_bar: bool,
    checkpoint: Path | None = None,
) -> None:
    config = recipe.config
    optim, steps = config.optim, int(config.optim.steps)
    callbacks: list[Callback] = [Checkpoints(run / "checkpoints"), Narrator(say, steps)]
    if optim.ema > 0:
        callbacks.insert(0, EMAWeightAveraging(decay=optim.ema))
    if progress_bar:
        callbacks.append(RichProgressBar(leave=False))
    with _quiet():
        trainer = pl.Trainer(
            accelerator="auto",
            precision=_PRECISIONS[config.precision],
            max_epochs=optim.validations,
            accumulate_grad_batches=optim.accumulate,
            gradient_clip_val=optim.clip_norm or None,
            callbacks=callbacks,
            logger=[
                TensorBoardLogger(run, name="", version="tensorboard"),
                JsonLinesLogger(run / "metrics.jsonl"),
            ],
            log_every_n_steps=max(1, min(20, steps // optim.validations)),
            enable_checkpointing=False,
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=run,
        )
        trainer.fit(
            recipe,
            train_dataloaders=_training_batches(config, training, trainer),
            val_dataloaders=_validation_samples(config, validation, trainer),
            ckpt_path=checkpoint,
            weights_only=True,
        )


def _training_batches(
    config: Config, dataset: SegmentationDataset, trainer: pl.Trainer
) -> BatchStream:
    data: Any = config.data
    augmentation = Augmentation(
        crop_px=data.crop_px,
        scale=data.scale,
        flip=data.flip,
        colour=data.colour,
        ignore_index=dataset.description.ignore_index,
    )
    return BatchStream(
        TrainingStream(dataset, augmentation, seed=config.seed),
        batch_size=data.batch_size,
        batches=int(config.optim.steps) // config.optim.validations * config.optim.accumulate,
        workers=data.workers,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        pin_memory=trainer.strategy.root_device.type == "cuda",
    )


def _validation_samples(
    config: Config, dataset: SegmentationDataset, trainer: pl.Trainer
) -> DataLoader[Sample]:
    # Every image once, whatever the number of processes: a padded split would count some twice.
    own = range(trainer.global_rank, len(dataset), trainer.world_size)
    workers: Any = config.data.workers
    return DataLoader(Subset(dataset, own), batch_size=None, num_workers=workers)


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


