"""Faults of disk and system: what is said, and that --resume after the cure gives the same end.

`python -m benchmarks.reliability --only faults` lets the real ones happen, which needs root.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.comparing import difference_of_trainings
from softiou.cli._endings import message_of
from softiou.data import TrainingStream
from softiou.errors import DataError
from softiou.recipes import SupervisedRecipe
from softiou.training import resume_training, start_training, workers

Make = Callable[..., Any]
STEPS = ("optim.steps=4", "optim.validations=4")


@pytest.fixture(scope="module")
def untroubled(tiny_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_training(tiny_config(*STEPS), directory=tmp_path_factory.mktemp("runs") / "run")


def refuse(number: int, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Make the system refuse to write any file once some checkpoints are there."""
    replace, written = Path.replace, 0

    def refused(self: Path, target: Path) -> Path:
        nonlocal written
        written += target.suffix == ".ckpt"
        if written > after:
            raise OSError(number, os.strerror(number), str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "No space left on device. Free space on the disk, or choose another path."),
        (errno.EROFS, "Read-only file system. Nothing can be written there: choose another path."),
        (errno.EACCES, "Permission denied. Change its permissions, or choose another path."),
        (errno.EFBIG, "File too large. Raise the limit of file sizes, ulimit -f"),
    ],
    ids=["full disk", "read-only", "no permission", "file too large"],
)
def test_a_disk_that_refuses(
    number: int,
    way_out: str,
    untroubled: Path,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as fault:
        refuse(number, fault, after=3)
        with pytest.raises(OSError, match="run/checkpoints/") as found:
            start_training(tiny_config(*STEPS), directory=run)
    said = message_of(found.value)
    assert said.startswith(f"{run}/checkpoints/")
    assert f".ckpt: {way_out}" in said
    assert said.endswith(f"\nAfter that, continue with: softiou train --resume {run}")
    with monkeypatch.context() as fault:
        refuse(number, fault, after=0)  # it lasts
        with pytest.raises(OSError, match="run/") as found:
            resume_training(run)
    assert f".ckpt: {way_out}" in message_of(found.value)
    resume_training(run)
    assert difference_of_trainings(run, untroubled) == ""


def test_a_run_that_may_not_be_written_to(
    untroubled: Path, tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_training(tiny_config(*STEPS), directory=tmp_path / "run")
    before = Path.open

    def denied(self: Path, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        if self.is_relative_to(run) and set(mode) & set("aw+"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return before(self, mode, *arguments, **settings)

    with monkeypatch.context() as fault:
        fault.setattr(Path, "open", denied)
        with pytest.raises(OSError, match="Permission") as found:
            resume_training(run)
    assert message_of(found.value) == (
        f"{run}/.lock: Permission denied. Change its permissions, or choose another path."
    )
    resume_training(run)
    assert difference_of_trainings(run, untroubled) == ""


@pytest.mark.parametrize("seconds", [-3e7, 3e7])
def test_a_clock_that_jumps(
    seconds: float,
    untroubled: Path,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a crash, so that what is older or newer than it should be is looked at again."""
    now, step = time.time, SupervisedRecipe.training_step
    steps = 0

    def jump_then_crash(self: SupervisedRecipe, batch: Any, index: int) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            fault.setattr(time, "time", lambda: now() + seconds)
        if steps == 4:
            raise RuntimeError("power cut")
        return step(self, batch, index)

    with monkeypatch.context() as fault:
        fault.setattr(SupervisedRecipe, "training_step", jump_then_crash)
        with pytest.raises(RuntimeError, match="power cut"):
            start_training(tiny_config(*STEPS), directory=tmp_path / "run")
    resume_training(tmp_path / "run")
    assert difference_of_trainings(tmp_path / "run", untroubled) == ""


SHARED = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"


@pytest.mark.parametrize(
    ("happens", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "a loading process was killed, as the sys"),
        (lambda: raise_it(SHARED), "the shared memory /dev/shm is full. Enlarge it (docker: "),
        (lambda: raise_it("received 0 items of ancdata"), "Raise the limit (ulimit -n 4096)."),
    ],
    ids=["killed worker", "shm fills", "descriptors run out"],
)
def test_a_loading_process_that_fails(
    happens: Callable[[], None],
    message: str,
    untroubled: Path,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, read = tmp_path / "run", TrainingStream.__getitem__

    def fail_at(self: TrainingStream, draw: int) -> Any:
        if draw == 5:
            happens()
        return read(self, draw)

    with monkeypatch.context() as fault:
        fault.setattr(TrainingStream, "__getitem__", fail_at)
        with pytest.raises(DataError) as found:
            start_training(tiny_config(*STEPS, "data.workers=1"), directory=run)
    said = message_of(found.value)
    assert message in said
    assert "data.workers=0 in training" in said
    assert said.endswith(f"\nAfter that, continue with: softiou train --resume {run}")
    resume_training(run)
    assert difference_of_trainings(run, untroubled) == ""


def test_a_loading_process_that_dies_meanwhile(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch then raises wherever the training is, for instance in the validation."""

    def hear_of_it(self: SupervisedRecipe, sample: Any, index: int) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(SupervisedRecipe, "validation_step", hear_of_it)
    with pytest.raises(DataError) as found:
        start_training(tiny_config(*STEPS), directory=tmp_path / "run")
    said = message_of(found.value)
    assert said.startswith("Loading failed: a loading process was killed, as the system does")
    assert said.endswith(f"\nAfter that, continue with: softiou train --resume {tmp_path / 'run'}")


def raise_it(text: str) -> None:
    """Raise what torch raises in a loading process."""
    raise RuntimeError(text)


@pytest.mark.parametrize(
    ("what", "free", "words"),
    [
        ("_free_shared_memory", 16 << 10, "0 MiB in /dev/shm (docker: --shm-size)"),
        ("_free_descriptors", 24, "24 file descriptors (ulimit -n)"),
    ],
    ids=["tiny shm", "few descriptors"],
)
def test_loading_without_processes_where_there_is_no_room(
    what: str,
    free: int,
    words: str,
    untroubled: Path,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, what, lambda: free)
    said: list[str] = []
    config = tiny_config(*STEPS, "data.workers=2")
    run = start_training(config, directory=tmp_path / "run", say=said.append)
    assert f"workers  0 instead of 2: there are only {words}" in said
    assert difference_of_trainings(run, untroubled) == ""
