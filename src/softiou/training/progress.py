"""The progress of a training: a bar in a terminal or notebook, or lines of text otherwise."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from softiou._screen import Pace, doing, in_notebook, notebook_bar
from softiou.data.problems import some_of
from softiou.recipes.base import Recipe

_SMOOTHING = 0.98  # of the loss, a mean over about the last 50 batches
_REFRESH_SECONDS = 0.5  # not for every batch, because reading the loss synchronises with the GPU


class _TerminalBar:
    """A progress bar of rich; printed lines appear above it."""

    def __init__(self, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        words, values = "{task.description}", TextColumn("{task.fields[values]}")
        columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), values)
        self._progress = Progress(*columns, transient=True)
        self._task = self._progress.add_task("starting", total=steps, values="")
        self._progress.start()

    def show(self, step: int, what: str, values: str) -> None:
        self._progress.update(self._task, completed=step, description=what, values=values)

    def close(self) -> None:
        self._progress.stop()


class _NotebookBar:
    """A progress bar of tqdm, because that of rich needs widgets in a notebook."""

    def __init__(self, steps: int) -> None:
        form = "{desc}{bar}{n_fmt}/{total_fmt}{postfix}"
        self._bar = notebook_bar(total=steps, bar_format=form)

    def show(self, step: int, what: str, values: str) -> None:
        self._bar.n = step
        self._bar.set_description(what, refresh=False)
        self._bar.set_postfix_str(values)

    def close(self) -> None:
        self._bar.close()


class RunProgress(Callback):
    """Shows steps, smoothed loss, images per second and the remaining time.

    With `bar`, they are shown in a progress bar, otherwise in a line after every tenth of the steps
    or every 30 seconds. There is a line for each validation, and one at the end for the classes
    that are never predicted. `images` is the number of images per batch and process.
    """

    def __init__(
        self, say: Callable[[str], None], *, steps: int, images: int, bar: bool = False
    ) -> None:
        self.say, self.steps, self.images = say, steps, images
        self._wants_bar = bar
        self._bar: _TerminalBar | _NotebookBar | None = None
        self._pace = Pace(steps)
        self._waiting = ExitStack()  # the message that is shown until the first batch is done
        self._start = self._shown = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first batch was done, and its step
        self._batches = 0  # after the first one
        self._validating = 0.0  # seconds
        self._loss, self._weight = torch.zeros(()), 0.0

    @property
    def loss(self) -> float | None:
        """The smoothed loss; None before the first batch."""
        return float(self._loss) / self._weight if self._weight else None

    def values(self, step: int) -> str:
        """Return loss, images per second and remaining time, as far as they are known."""
        loss = self.loss
        parts = [f"loss {loss:.3f}"] if loss is not None else []
        if self._first and self._batches:
            seconds = max(time.monotonic() - self._first[0] - self._validating, 1e-9)
            parts.append(f"{self._batches * self.images / seconds:.1f} images/s")
        return "  ".join(parts) + self._left(step)

    def _left(self, step: int) -> str:
        """Return the remaining time as text; "" before this process has finished a step."""
        if self._first is None or step <= self._first[1]:
            return ""
        begin, first = self._first
        left = (time.monotonic() - begin) / (step - first) * (self.steps - step)
        return f"  ETA {timedelta(seconds=round(left))}"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar, or print that the first batch is being loaded."""
        self.images *= trainer.world_size
        if self._wants_bar:
            self._bar = _NotebookBar(self.steps) if in_notebook() else _TerminalBar(self.steps)
            self._bar.show(trainer.global_step, "starting", "")
        elif trainer.is_global_zero:
            self._waiting.enter_context(doing("running the first training step", self.say))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the smoothed loss, and show it from time to time."""
        step = trainer.global_step
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._loss = _SMOOTHING * self._loss.to(loss) + (1 - _SMOOTHING) * loss
        self._weight = _SMOOTHING * self._weight + (1 - _SMOOTHING)
        if self._first is None:
            self._waiting.close()
            self._first = (time.monotonic(), step)
        else:
            self._batches += 1
        if self._bar and time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._bar.show(step, "training", self.values(step))
            self._shown = time.monotonic()
        elif self._wants_bar or not trainer.is_global_zero:
            return
        elif batch_idx + 1 < trainer.num_training_batches and self._pace.due(step):
            # Not after the last batch before a validation, which prints a line itself.
            self.say(f"step {step:>6}/{self.steps}  {self.values(step)}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show in the bar that a validation is running."""
        self._began = time.monotonic()
        if self._bar:
            self._bar.show(trainer.global_step, "validating", self.values(trainer.global_step))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print step, loss, mIoU and calibration error."""
        self._validating += time.monotonic() - self._began if self._first else 0.0
        if not trainer.is_global_zero:
            return
        values, step = trainer.callback_metrics, trainer.global_step
        # Directly after resuming there is no loss yet.
        loss = "    -" if self.loss is None else f"{self.loss:.3f}"
        self.say(
            f"step {step:>6}/{self.steps}  loss {loss}  "
            f"val mIoU {float(values['val/miou_d']):5.1f} %  "
            f"ECE {float(values['val/ece_d']):4.1f} %  {time.monotonic() - self._start:5.0f} s"
            f"{self._left(step)}"
        )
        self._pace.restart(step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the classes that are never predicted, with advice."""
        self._close()
        if not (trainer.is_global_zero and isinstance(pl_module, Recipe)):
            return
        if lost := pl_module.never_predicted:
            share = pl_module.config.loss.cross_entropy
            advice = f"lower optim.learning_rate ({pl_module.config.optim.learning_rate:g})"
            if share < 1:
                advice = (
                    "the overlap loss has no gradient for such a class, so raise "
                    f"loss.cross_entropy ({share:g}), {advice}"
                )
            self.say(
                f"note  never predicted on the validation images: {some_of(lost)}; {advice} or "
                "train longer"
            )

    def on_exception(self, *_: Any) -> None:
        """Remove the bar."""
        self._close()

    def _close(self) -> None:
        self._waiting.close()
        if self._bar:
            self._bar.close()
            self._bar = None
