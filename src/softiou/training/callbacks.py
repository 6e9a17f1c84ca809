"""Callbacks of the training loop: checkpoints and metrics.jsonl."""

import io
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from softiou._files import write_atomically
from softiou._reading import parse_json
from softiou.errors import ConfigError
from softiou.metrics.registry import higher_is_better
from softiou.training.stopping import Stopped, StopRequest


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: if the process is killed, the previous one remains."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save tensors and plain values to a file."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(buffer.getvalue(), Path(path))


class Checkpoints(Callback):
    """Writes last.ckpt and best.ckpt, and ends the training when a stop was requested.

    last.ckpt is written before every validation, every 15 minutes, and when the training is
    stopped; best.ckpt when the monitored metric of a validation is the best so far. After
    `patience` validations without improvement the training ends.
    """

    SAVE_SECONDS = 900

    def __init__(
        self,
        folder: Path,
        stop: StopRequest,
        *,
        monitor: str = "val/miou_d",
        patience: int | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder
        self.stop = stop
        self.monitor = monitor
        self.patience = patience
        self.say = say
        self.best: float | None = None
        self.validated = 0  # step of the last completed validation
        self.waited = 0  # validations since the best one
        self._sign = 1 if higher_is_better(monitor) else -1
        self._catching_up = False
        self._stopping = False
        self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Repeat a validation that was interrupted, because Lightning would skip it."""
        self.stop.listen()  # Lightning has replaced the signal handlers
        round_steps = trainer.num_training_batches // trainer.accumulate_grad_batches
        if trainer.global_step > self.validated and trainer.global_step % round_steps == 0:
            self._catching_up = True
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation.restarting = False
            trainer.validating = True
            validation.run()
            validation._has_run = False  # otherwise Lightning considers the training finished
            trainer.training = True
            self._catching_up = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save every 15 minutes and when a stop was requested."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # a checkpoint does not contain accumulated gradients
        overdue = time.monotonic() - self._saved > self.SAVE_SECONDS
        stop, overdue = (
            trainer.strategy.reduce_boolean_decision(mine, all=False)
            for mine in (self.stop.requested, overdue)
        )
        if stop or overdue:
            self._save_last(trainer)
        self._stopping = stop

    def on_train_batch_start(self, *_: Any) -> None:
        """Stop if it was requested; only now, so that Lightning has logged the last step."""
        if self._stopping:
            raise Stopped

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before a validation, so that its interruption loses no training steps."""
        if self._stopping:
            raise Stopped
        if self._catching_up:
            return
        if not all(bool(torch.isfinite(weights).all()) for weights in pl_module.parameters()):
            raise ConfigError(
                f"The weights are NaN or infinite at step {trainer.global_step}: the training "
                "diverged. Start again with a lower optim.learning_rate, or with precision=fp32; "
                f"{self.folder / 'best.ckpt'}, if it exists, is from an earlier step."
            )
        self._save_last(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop if it was requested; the checkpoint is already written."""
        # Several processes validate different numbers of images, so they stop after the next step.
        if self.stop.requested and trainer.world_size == 1:
            raise Stopped

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best checkpoint, and stop after `patience` validations without improvement."""
        self.validated = trainer.global_step
        score = float(trainer.callback_metrics[self.monitor])
        self.waited += 1
        # The first score is always the best so far, even if it is NaN; any number replaces a NaN.
        if self.best is None or math.isnan(self.best) or self._sign * (score - self.best) > 0:
            self.best, self.waited = score, 0
            trainer.save_checkpoint(self.folder / "best.ckpt")
        if self.patience is not None and self.waited >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print why the training ended early."""
        if self.patience is not None and self.waited >= self.patience:
            self.say(
                f"early stop at step {trainer.global_step}: {self.monitor} has not improved for "
                f"{self.waited} validations"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and the counters, for a checkpoint."""
        return {"best": self.best, "validated": self.validated, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and the counters from a checkpoint."""
        self.best = state_dict["best"]
        self.validated = state_dict["validated"]
        self.waited = state_dict.get("waited", 0)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt")
        self._saved = time.monotonic()


class JsonLinesLogger(Logger):
    """Appends logged metrics to metrics.jsonl, one JSON object per line.

        step          number of optimiser steps
        seconds       training time, including that before resuming
        train/..., learning_rate    or    val/..., pseudo/..., labels/...    null where undefined

    When a run resumes at `step`, later lines are removed, because they are logged again.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._start = time.monotonic()
        if path.exists():
            self._go_back_to(step)

    @property
    def name(self) -> str:
        """Return the name of the logger."""
        return "jsonl"

    @property
    def version(self) -> str:
        """Return the version of the logger."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml contains the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        line: dict[str, float | None] = {
            "step": (step or 0) + 1,  # Lightning counts from 0
            "seconds": round(time.monotonic() - self._start, 2),
        }
        for name, value in metrics.items():
            if name != "epoch":
                line[name] = value if math.isfinite(value) else None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    @rank_zero_only
    def _go_back_to(self, step: int) -> None:
        """Keep the lines up to a step, but not its validation, which is repeated."""
        kept = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # the last line may be incomplete after a kill
                line = parse_json(text)
                if line["step"] < step or (line["step"] == step and "learning_rate" in line):
                    kept.append(line)
        write_atomically("".join(f"{json.dumps(line)}\n" for line in kept).encode(), self.path)
        self._start -= kept[-1]["seconds"] if kept else 0
