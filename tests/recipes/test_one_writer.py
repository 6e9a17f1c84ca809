"""A run directory has one writer: it is taken at once, held by a lock, and free after a kill."""

import errno
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.commands import Command
from softiou import _files, jobs
from softiou._lock import only_writer
from softiou.errors import CheckpointError, RunExistsError
from softiou.jobs import calibrating, learning, model_tables
from softiou.training import finished_at, next_free_run, resume_training, start_training

Make = Callable[..., Any]

HOLD = """
import os, sys, time
from pathlib import Path
from softiou._lock import only_writer
with only_writer(Path(sys.argv[1])):
    if os.fork() == 0:  # as a loading process, which may live on for a while
        time.sleep(5)
        os._exit(0)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """A process that holds the run directory, and has a child."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def test_a_second_writer_is_told_who_the_first_one_is(holder: Any, tmp_path: Path) -> None:
    who = f"by process {holder.pid} on {platform.node()}, since {time.strftime('%Y')}-"
    with pytest.raises(RunExistsError, match=who), only_writer(tmp_path):
        pass


def test_the_lock_ends_with_its_process_though_a_child_lives(holder: Any, tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()
    with only_writer(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_files_elsewhere_are_not_written_through_links(name: str, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.write_text("whole")
    (run / name).symlink_to(other)
    with pytest.raises(RunExistsError, match=rf"run/{name} is a symbolic link.* Remove it"):
        only_writer(run).__enter__()
    assert other.read_text() == "whole"
    assert (run / name).is_symlink()


def test_the_same_process_is_locked_out_too(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        with (
            pytest.raises(RunExistsError, match="trained by this process"),
            only_writer(tmp_path / "."),
        ):
            pass
        assert (tmp_path / ".lock").exists()
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize(
    ("owner", "is_free"),
    [
        (f"process {2**22 + 1} on {platform.node()}, since 2025-01-01 10:00", True),
        (f"process {2**99} on {platform.node()}, since 2025-01-01 10:00", True),
        (f"process {os.getpid()} on {platform.node()}, since 2025-01-01 10:00", False),
        ("process 17 on elsewhere.example, since 2025-01-01 10:00", False),
        ("half of a li", True),
        ("", True),
    ],
    ids=["gone", "no number", "this process", "another host", "half", "empty"],
)
def test_without_locks_of_the_file_system_the_named_process_counts(
    owner: str, is_free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    (tmp_path / ".lock").write_text(owner)
    if is_free:
        with only_writer(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        return
    with pytest.raises(RunExistsError, match="If that process no longer exists, remove"):
        only_writer(tmp_path).__enter__()
    assert (tmp_path / ".lock").read_text() == owner


def test_of_many_that_ask_at_once_each_gets_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(next_free_run, ["digits"] * 40))
    assert sorted(map(str, found)) == [f"runs/digits-{number:03d}" for number in range(1, 41)]


def test_neither_start_nor_resume_while_another_trains(
    holder: Any, tiny_config: Make, trained: Any, tmp_path: Path
) -> None:
    with pytest.raises(RunExistsError, match=f"process {holder.pid}"):
        start_training(tiny_config(), directory=tmp_path)
    config = (trained.directory / "config.yaml").read_bytes()
    (tmp_path / "config.yaml").write_bytes(config)
    with pytest.raises(RunExistsError, match=f"process {holder.pid}"):
        resume_training(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.yaml"}


def test_a_start_that_was_killed_before_its_configuration_can_be_started_again(
    tiny_config: Make, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def die(*_: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def start() -> None:
        pytest.MonkeyPatch().setattr(_files, "move_into_place", die)
        start_training(tiny_config(), directory=run)

    assert Command(start, tmp_path).wait() == -signal.SIGKILL
    left = {path.name[:5] for path in run.iterdir()}
    assert left == {".lock", ".tmp-"}
    with pytest.raises(CheckpointError, match=f"interrupted before.*Start it with --out {run}"):
        resume_training(run)
    start_training(tiny_config("optim.steps=2"), directory=run)
    assert [path.name for path in run.rglob(".*")] == []


def test_a_run_that_was_killed_at_its_report_is_not_finished(trained: Any, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.directory, tmp_path / "run"))
    (run / "evaluation.json").write_text("{}")
    assert finished_at(run) == 80
    (run / ".lock").write_text("process 1 on elsewhere")
    assert finished_at(run) is None


@pytest.mark.parametrize("verb", ["train", "distill", "semi"])
def test_a_run_is_held_until_its_evaluation_has_ended(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = jobs.Run(tmp_path)
    held: list[str] = []

    def last_part(*_: object, **__: object) -> None:
        with pytest.raises(RunExistsError, match="trained by this process"), only_writer(tmp_path):
            pass
        held.append(verb)

    monkeypatch.setattr(learning, "_trained", lambda *_: run)
    monkeypatch.setattr(calibrating, "calibrate_run", lambda *_, **__: None)
    monkeypatch.setattr(jobs.Run, "evaluate", last_part)
    monkeypatch.setattr(model_tables, "add_baseline", last_part)
    monkeypatch.setattr(model_tables, "compare_with_teacher", last_part)
    assert getattr(jobs, verb)("digits", progress=False) is run
    assert held == [verb]
    assert list(tmp_path.iterdir()) == []
