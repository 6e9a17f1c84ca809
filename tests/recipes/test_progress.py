"""What a training shows: steps, smoothed loss, images per second, the time left, validations."""

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest
import rich
import torch

from conftest import MakeConfig
from softiou import _screen
from softiou.training import start_training
from softiou.training.progress import RunProgress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def run(
    shown: RunProgress, clock: Clock, steps: range, *, validate: int = 0, world: int = 1
) -> Any:
    """Go through steps of a second each with the loss 1/step, and validations of ten seconds."""
    scores = {"val/miou_d": torch.tensor(50.0), "val/ece_d": torch.tensor(2.0)}
    trainer: Any = SimpleNamespace(
        world_size=world, is_global_zero=True, accumulate_grad_batches=1, callback_metrics=scores
    )
    trainer.num_training_batches = validate or 1000
    trainer.global_step = steps.start - 1
    module: Any = None
    shown.on_train_start(trainer, module)
    for step in steps:
        number = (step - 1) % trainer.num_training_batches
        clock.now += 1
        trainer.global_step = step
        shown.on_train_batch_end(trainer, module, {"loss": torch.tensor(1 / step)}, None, number)
        if validate and step % validate == 0:
            shown.on_validation_start(trainer, module)
            clock.now += 10
            shown.on_validation_end(trainer, module)
    return trainer


def test_loss_rate_and_time_left(clock: Clock) -> None:
    shown = RunProgress(lambda line: None, steps=20, images=8)
    run(shown, clock, range(1, 11), validate=5)
    # Nine seconds of training after the first batch, and 20 of validation, which the time left
    # includes: 29 / 9 seconds a step.
    assert shown.values(10) == f"loss {shown.loss:.3f}  8.0 images/s  ETA 0:00:32"
    weights = [0.98 ** (10 - step) for step in range(1, 11)]
    mean = sum(w / step for step, w in enumerate(weights, start=1)) / sum(weights)
    assert shown.loss == pytest.approx(mean, rel=1e-6)


def test_a_resumed_run_counts_its_own_steps(clock: Clock) -> None:
    shown = RunProgress(lambda line: None, steps=100, images=4)
    assert shown.values(50) == ""
    run(shown, clock, range(51, 62), world=2)
    assert shown.values(61).endswith("8.0 images/s  ETA 0:00:39")


def test_lines_in_a_file(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_screen, "SLOW_SECONDS", 2.0)
    said: list[str] = []
    run(RunProgress(said.append, steps=40, images=1), clock, range(1, 13), validate=6)
    assert [line.split("  loss")[0] for line in said] == [
        "step      4/40",
        "step      6/40",
        "step     10/40",  # a tenth after the validation
        "step     12/40",
    ]
    assert said[1].endswith("val mIoU  50.0 %  ECE  2.0 %     16 s  ETA 0:01:42")
    assert said[0].endswith("1.0 images/s  ETA 0:00:36")


def test_one_bar_for_the_whole_run(
    tiny_config: MakeConfig, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softiou.training.progress._REFRESH_SECONDS", 0.0)
    terminal, before = io.StringIO(), rich.get_console().__dict__.copy()
    rich.reconfigure(file=terminal, force_terminal=True, width=100)
    said: list[str] = []
    try:
        start_training(
            tiny_config(), directory=tmp_path / "run", say=said.append, progress_bar=True
        )
    finally:
        rich.get_console().__dict__ = before
    shown = terminal.getvalue()
    assert "0/6" in shown, "the bar is there before the first batch"
    assert "validating" in shown
    assert "images/s" in shown
    assert "ETA" in shown
    assert "\x1b[?25h" in shown, "the cursor is back"
    assert [line.split("  loss")[0] for line in said if "val mIoU" in line] == [
        "step      3/6",
        "step      6/6",
    ]


def test_the_first_batch_is_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Timer:
        def __init__(self, seconds: float, say: Any, words: tuple[str]) -> None:
            self.say, self.words = say, words

        def start(self) -> None:
            self.say(*self.words)

        def cancel(self) -> None:
            started.append("cancelled")

    monkeypatch.setattr(_screen, "Timer", Timer)
    run(RunProgress(started.append, steps=9, images=1), clock, range(1, 2))
    assert started == ["running the first training step ...", "cancelled"]
