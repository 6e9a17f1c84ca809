"""The program that tries reliability: what it takes for right, and for wrong."""

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks._machine import ROOT
from benchmarks.reliability import calls, comparing, hostile, inputs, kills, memory
from benchmarks.reliability.commands import Command, Figure
from softiou.errors import DataError


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
    assert (inputs.wrong_end(status, text) == "") == is_right


def test_commands_are_forked_and_can_be_killed(tmp_path: Path) -> None:
    command = Command(["--version"], tmp_path)
    assert command.wait() == 0
    assert command.text().startswith("softiou ")
    sleeper = Command(["--version"], tmp_path, lambda: time.sleep(60))
    sleeper.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper.pid, 0)


def test_functions_are_forked_too(tmp_path: Path) -> None:
    def refuse() -> None:
        raise DataError("Expected another file.")

    for function, status, text in (
        (refuse, 2, "Expected another file.\n"),
        (lambda: None, 0, ""),
        (lambda: os.environ["NO SUCH KEY"], 99, "KeyError: 'NO SUCH KEY'"),
    ):
        command = Command(function, tmp_path)
        assert command.wait() == status
        assert text in command.text()


def test_figures_count_and_go_on() -> None:
    figure = Figure("what", 3)
    figure.count("", "one")
    figure.count("it broke", "two")
    content = figure.as_dict()
    assert (content["tried"], content["passed"]) == (2, 1)
    assert content["failures"] == ["it broke"]
    assert content["details"] == {"trials": {"one": 1, "two": 1}}
    more = Figure("what", 3)
    more.go_on(content | {"seconds": 100.0})
    more.count("", "one")
    content = more.as_dict()
    assert (content["tried"], content["passed"]) == (3, 2)
    assert content["details"] == {"trials": {"one": 2, "two": 1}}
    assert 100 <= content["seconds"] < 110


def test_a_process_that_has_ended_does_not_live_on() -> None:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    for _ in range(500):
        if os.getpgid(pid) == pid:
            break
        time.sleep(0.01)
    assert memory.living(pid) == [pid]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it ends, and nobody has asked for it
    assert memory.living(pid) == []
    os.waitpid(pid, 0)


def test_what_is_done_outside_is_seen(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("1")
    watched = hostile.Watched(tmp_path)
    assert watched.seen() == {}
    (tmp_path / "secret").read_text()
    assert watched.seen() == {"read": 1}
    (tmp_path / "secret").write_text("2")
    assert watched.seen()["overwritten"] == 1
    (tmp_path / "new").touch()
    assert watched.seen()["overwritten"] == 1
    subprocess.run(["touch", tmp_path / "executed"], check=True)
    assert watched.seen() == {"executed": 1}
    assert watched.seen() == {}


def test_each_kind_of_file_in_security_is_tried() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line[2:] for line in text.splitlines() if line.startswith("| ")][2:]
    kinds = [kind for kind, _ in hostile.CASES]
    untried = [row[:30] for row in rows if not any(row.startswith(kind) for kind in kinds)]
    assert untried == [
        "compiled library | built with "  # nothing that a file can change
    ]
    assert [kind for kind in kinds if not any(row.startswith(kind) for row in rows)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        # The tests of training kill it, start it twice and fill the disk, too; those of data sets,
        # of the command line and of the targets have hostile files, words and values.
        ["inputs", "hostile", "values"],
        ["kills", "starts", "faults"],
    ],
    ids=" ".join,
)
def test_the_short_form_finds_nothing_wrong(names: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.reliability", "--short", "--minutes", "2"]
    command += ["--only", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"(\w+): (\d+) of (\d+) .*", line)
        assert match, line
        found[match[1]] = (int(match[2]), int(match[3]))
    assert list(found) == names
    assert all(passed == tried > 0 for passed, tried in found.values())
    if "hostile" in names:
        assert found["hostile"] == (len(hostile.CASES),) * 2
        seen = "'seen': {'executed': 0, 'overwritten': 0, 'read': 0, 'network': 0}"
        assert seen in done.stdout


def test_calls_from_python_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    answered = 0
    for number in range(300):
        called = calls.call(random.Random(number), tmp_path, tmp_path, tmp_path)
        with suppress(TypeError, ValueError):  # what they say is looked at inside
            called()
            answered += 1
    assert 5 < answered < 150


def test_a_call_that_ends_in_another_error_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for function, message in (
        (lambda _: torch.tensor(math.nan), "without a word"),
        (lambda _: [1].index(0), "does not say what was expected"),
    ):
        monkeypatch.setattr(calls, "CALLS", {"loss": function})
        with pytest.raises(RuntimeError, match=message):
            calls.call(random.Random(0), tmp_path, tmp_path, tmp_path)()


def test_a_failing_end_after_a_kill_is_wrong(tmp_path: Path) -> None:
    verb = kills.Verb(
        lambda path: ["models", "--nonsense"],
        lambda path: ["models", "--nonsense"],
        lambda a, b: "",
    )
    assert "ended with 2" in kills._trial(verb, tmp_path, tmp_path / "a", tmp_path / "b", [0, 0])
