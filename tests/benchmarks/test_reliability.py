"""The program that tries reliability: what it takes for right, and for wrong."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability import comparing, inputs, kills
from benchmarks.reliability.commands import Command, Figure


def test_a_folder_that_differs_or_keeps_leftovers_is_wrong(tmp_path: Path) -> None:
    for name, created in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        values = {"created": created, "miou": 0.5}
        (tmp_path / name / "scores.json").write_text(json.dumps(values))
        (tmp_path / name / "mask.png").write_bytes(b"1")
    one, two = tmp_path / "a", tmp_path / "b"
    assert comparing.difference_of_folders(one, two) == ""
    (one / ".tmp-0-1-2").touch()
    assert comparing.difference_of_folders(one, two) == ".tmp-0-1-2 is in one of two folders only"
    (two / ".tmp-0-1-2").touch()
    assert comparing.difference_of_folders(one, two) == ".tmp-0-1-2 is left"
    (two / "mask.png").write_bytes(b"2")
    assert comparing.difference_of_folders(one, two) == "mask.png differs"
    (two / "scores.json").write_text(json.dumps({"miou": 0.6}))
    (two / "mask.png").write_bytes(b"1")
    assert comparing.difference_of_folders(one, two) == "scores.json differs"


def test_a_run_that_differs_is_wrong(trained: Any, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.directory, tmp_path / "run"))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    for home in (run, Path(shutil.copytree(run, tmp_path / "other"))):
        (home / "evaluation.json").write_text("{}")
        (home / "report.html").touch()
    assert comparing.difference_of_runs(run, tmp_path / "other") == ""
    (run / "metrics.jsonl").write_text("\n".join(lines[:-1]))
    assert comparing.difference_of_runs(run, tmp_path / "other") == "metrics.jsonl differs"
    (run / "evaluation.json").write_text('{"metrics": 1}')
    shutil.copy(tmp_path / "other" / "metrics.jsonl", run)
    wrong = comparing.difference_of_runs(run, tmp_path / "other")
    assert wrong == "metrics of evaluation.json differs"
    shutil.copy(run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt")
    assert "differs" in comparing.difference_of_runs(run, tmp_path / "other")


@pytest.mark.parametrize(
    ("status", "text", "is_right"),
    [
        (0, "", True),
        (2, "softiou: The mask is damaged.", True),
        (2, " ", False),
        (None, "", False),
        (-11, "softiou: ...", False),
        (2, "Traceback (most recent call last)", False),
        (2, "softiou: KeyError: 1\nThis should not happen.", False),
        (1, "a\x1b[2Jb", False),
    ],
)
def test_ends_that_are_right(status: int | None, text: str, is_right: bool) -> None:
    assert (inputs._wrong(status, text) == "") == is_right


def test_commands_are_forked_and_can_be_killed(tmp_path: Path) -> None:
    command = Command(["--version"], tmp_path)
    assert command.wait() == 0
    assert command.text().startswith("softiou ")
    sleeper = Command(["--version"], tmp_path, lambda: time.sleep(60))
    sleeper.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper.pid, 0)


def test_figures_count() -> None:
    figure = Figure("what", 2)
    figure.count("")
    figure.count("it broke")
    content = figure.as_dict()
    assert (content["tried"], content["passed"]) == (2, 1)
    assert content["failures"] == ["it broke"]


def test_a_failing_end_after_a_kill_is_wrong(tmp_path: Path) -> None:
    verb = kills.Verb(
        lambda path: ["models", "--nonsense"],
        lambda path: ["models", "--nonsense"],
        lambda a, b: "",
    )
    assert "ended with 2" in kills._trial(verb, tmp_path, tmp_path / "a", tmp_path / "b", [0, 0])
