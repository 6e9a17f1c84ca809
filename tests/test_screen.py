"""What is printed: names of files and classes cannot move the cursor or forge a line."""

import time
from pathlib import Path

import pytest

from softiou import _screen
from softiou._screen import Pace, Progress, doing, say, visible
from softiou.data import DatasetDescription
from softiou.data.dataset_yaml import read_dataset_file
from softiou.data.problems import Problem, some_of
from softiou.errors import DataError

RED = "\x1b[31mred"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, grün, 道路, 👩‍🚀", "plain, grün, 道路, 👩‍🚀"),
        (RED, "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\udce9", "caf\\xe9"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    shown.encode()


def test_lines_that_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"one\n{RED}\udce9")
    assert capsys.readouterr().out == "one\n\\x1b[31mred\\xe9\n"


def test_names_of_files_forge_no_line() -> None:
    problem = Problem("a\nerrors: 0.png", "Message.", "Remedy.")
    assert str(problem) == "a\\nerrors: 0.png: Message. Remedy."
    assert some_of(["a\nb", RED]) == "a\\nb, \\x1b[31mred"


def test_names_of_classes_are_letters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"without control characters, but got road\\n"):
        DatasetDescription(("sky", "road\n"))
    (tmp_path / "dataset.yaml").write_text('classes: [sky, "road\\e[2J"]', encoding="utf-8")
    with pytest.raises(DataError, match=r"control characters in road\\x1b\[2J"):
        read_dataset_file(tmp_path)


# Slow work


def test_a_line_at_each_tenth_or_thirty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(_screen, "SLOW_SECONDS", 2.0)

    def lines(total: int, seconds: float) -> list[int]:
        nonlocal now
        pace, found = Pace(total), []
        for done in range(1, total + 1):
            now += seconds
            found += [done] if pace.due(done) else []
        return found

    assert lines(100, 1) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert lines(1000, 1)[:3] == [30, 60, 90]  # a tenth would take 100 seconds
    assert lines(20, 0.25) == [8, 16]  # quick work is silent for two seconds


def test_lines_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_screen, "SLOW_SECONDS", 0.0)
    progress = Progress(lines=True, bars=False)
    assert list(progress.track("abcde", total=5, description="reading")) == list("abcde")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"reading  {done}/5" for done in range(1, 6)]
    silent = Progress(lines=False, bars=False)
    assert silent.track([1], total=1, description="") == [1]
    quiet = progress.without_notes()
    quiet.say("a result")
    assert list(quiet.track("a", total=1, description="scoring")) == ["a"]
    assert capsys.readouterr().out == "scoring  1/1\n"


def test_what_takes_long_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with doing("being quick"):
        pass
    monkeypatch.setattr(_screen, "SLOW_SECONDS", 0.01)
    with Progress(lines=True, bars=False).doing("loading PyTorch"):
        time.sleep(0.2)
    with Progress(lines=False, bars=False).doing("nothing that is shown"):
        time.sleep(0.1)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "softiou: loading PyTorch ...\n")
    said: list[str] = []
    with doing("opening the data set", said.append):
        time.sleep(0.2)
    assert said == ["opening the data set ..."]
