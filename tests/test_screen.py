"""What is printed: names of files and classes cannot move the cursor or forge a line."""

from pathlib import Path

import pytest

from softiou._screen import say, visible
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
