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
    """Writes a checkpoint beside its place and renames it, so that a kill leaves the former one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save tensors and plain values to a file."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(buffer.getvalue(), Path(path))


class Checkpoints(Callback):
    """Keeps last.ckpt and best.ckpt, and ends the training when a stop was requested.

    The last is written before every validation, every quarter of an hour, and when the training is
    stopped; the best when the monitored metric of the validation is the best so far. After
    `patience` validations without a better one the training ends.
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
        self.validated = 0  # steps at the last validation that was finished
        self.waited = 0  # validations since the best
        self._sign = 1 if higher_is_better(monitor) else -1
        self._catching_up = False
        self._stopping = False
        self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Repeat a validation that was interrupted: Lightning would skip it."""
        self.stop.listen()  # Lightning put a handler of its own in between
        round_steps = trainer.num_training_batches // trainer.accumulate_grad_batches
        if trainer.global_step > self.validated and trainer.global_step % round_steps == 0:
            self._catching_up = True
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation.restarting = False
            trainer.validating = True
            validation.run()
            validation._has_run = False  # or Lightning takes the whole training for done
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
        """Save every quarter of an hour; save and stop when that was requested."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # a checkpoint does not hold the gradients of half a step
        overdue = time.monotonic() - self._saved > self.SAVE_SECONDS
        stop, overdue = (
            trainer.strategy.reduce_boolean_decision(mine, all=False)
            for mine in (self.stop.requested, overdue)
        )
        if stop or overdue:
            self._save_last(trainer)
        self._stopping = stop

    def on_train_batch_start(self, *_: Any) -> None:
        """Stop when that was requested; not before, or Lightning would not log the last step."""
        if self._stopping:
            raise Stopped

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before validating, so that an interruption there costs nothing."""
        if self._stopping:
            raise Stopped
        if self._catching_up:
            return
        if not all(bool(torch.isfinite(weights).all()) for weights in pl_module.parameters()):
            raise ConfigError(
                f"The weights are not finite any more at step {trainer.global_step}: the training "
                "diverged. Start again with a lower optim.learning_rate, or with precision=fp32; "
                f"{self.folder / 'best.ckpt'}, if it is there, is from before."
            )
        self._save_last(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop when that was requested; what was trained is saved already."""
        # Several processes have unequal shares of the images: they stop after the next step.
        if self.stop.requested and trainer.world_size == 1:
            raise Stopped

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best by the scores that were just logged; end when patience has run out."""
        self.validated = trainer.global_step
        score = float(trainer.callback_metrics[self.monitor])
        self.waited += 1
        # The first one counts whatever it is, but any score is better than an undefined one.
        if self.best is None or math.isnan(self.best) or self._sign * (score - self.best) > 0:
            self.best, self.waited = score, 0
            trainer.save_checkpoint(self.folder / "best.ckpt")
        if self.patience is not None and self.waited >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say why the training ended early."""
        if self.patience is not None and self.waited >= self.patience:
            self.say(
                f"early stop at step {trainer.global_step}: {self.monitor} has not improved for "
                f"{self.waited} validations"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the scores, for a checkpoint."""
        return {"best": self.best, "validated": self.validated, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.best = state_dict["best"]
        self.validated = state_dict["validated"]
        self.waited = state_dict.get("waited", 0)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt")
        self._saved = time.monotonic()


class JsonLinesLogger(Logger):
    """Appends every logged set of metrics to metrics.jsonl: one object a line.

        step          optimiser steps done
        seconds       of training, over all resumptions
        train/..., learning_rate    or    val/..., pseudo/..., labels/...    null where undefined

    A run that resumes at `step` drops later lines, because they are logged again.
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
        """Write nothing: config.yaml has them."""

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
        """Keep the lines up to a step, without its validation, which is repeated."""
        kept = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # a kill cut it short
                line = parse_json(text)
                if line["step"] < step or (line["step"] == step and "learning_rate" in line):
                    kept.append(line)
        write_atomically("".join(f"{json.dumps(line)}\n" for line in kept).encode(), self.path)
        self._start -= kept[-1]["seconds"] if kept else 0
