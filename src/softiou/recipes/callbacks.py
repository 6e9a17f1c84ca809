"""What happens around the training loop: checkpoints, Ctrl-C, metrics.jsonl, a line a validation."""

import io
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from softiou._files import write_atomically


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
    """Keeps last.ckpt and best.ckpt, and turns Ctrl-C into a clean stop after the current batch.

    The last is written after every validation and on Ctrl-C; the best when the validation mIoU
    over the data set is the highest so far.

    Args:
        folder: Where to write.
    """

    MONITOR = "val/miou_d"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best: float | None = None
        self._stop = False
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over Ctrl-C; a second one stops at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        self._previous = signal.signal(signal.SIGINT, stop)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop when Ctrl-C was pressed."""
        if self._stop:
            trainer.save_checkpoint(self.folder / "last.ckpt")
            raise KeyboardInterrupt

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop when Ctrl-C was pressed; what was trained is saved already."""
        if self._stop and not trainer.sanity_checking:
            raise KeyboardInterrupt

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before validating, so that an interruption there costs nothing."""
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best, judged by the scores that were just logged."""
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.MONITOR])
        # The first one counts whatever it is: an undefined score (NaN) compares as False.
        if self.best is None or score > self.best:
            self.best = score
            trainer.save_checkpoint(self.folder / "best.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """Remember the best score across a resumption."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.best = state_dict["best"]


class Narrator(Callback):
    """Says in one line how each validation went.

    Args:
        say: Prints a line.
        steps: Steps of the whole run.
    """

    def __init__(self, say: Callable[[str], None], steps: int) -> None:
        self.say = say
        self.steps = steps
        self._start = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print step, loss and the two headline scores."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        values = trainer.callback_metrics
        loss = float(values.get("train/loss", torch.nan))
        self.say(
            f"step {trainer.global_step:>6}/{self.steps}  loss {loss:.3f}  "
            f"val mIoU {float(values['val/miou_d']):5.1f} %  "
            f"ECE {float(values['val/ece_d']):4.1f} %  {time.monotonic() - self._start:5.0f} s"
        )


class JsonLinesLogger(Logger):
    """Appends every logged set of metrics to metrics.jsonl: one object a line, with the step.

    Args:
        path: The file; a resumed run goes on in the same one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._start = time.monotonic()

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
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        seconds = round(time.monotonic() - self._start, 2)
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "seconds": seconds} | values) + "\n")
