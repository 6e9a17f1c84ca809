"""Files that others wrote: bounded in size, depth and repetition, wherever YAML or JSON is read."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from softiou import _reading
from softiou._reading import parse_json, parse_yaml, read_json, read_text, read_yaml
from softiou.comparison.reading import read_run
from softiou.configuration import load_config
from softiou.data.dataset_yaml import read_dataset_file
from softiou.errors import ConfigError, SoftiouError
from softiou.evaluation import read_evaluation
from softiou.reports.model_table import read_model_table
from softiou.soft_labels import SoftLabelStore

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
DEEP = "[" * 100_000


def test_ordinary_files_with_aliases_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffcolours: &c [[1, 2, 3]]\nagain: *c\nname: 1_8\n", encoding="utf-8")
    assert read_yaml(path) == {"colours": [[1, 2, 3]], "again": [[1, 2, 3]], "name": 18}
    path.write_text('\ufeff{"a": [1, NaN]}', encoding="utf-8")
    assert read_json(path, lambda _: None) == {"a": [1, None]}


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        DEEP,
        "&a [*a]",
        "a: *b",
        "2001-13-45",
        "1" * 5000,
        "? [a]\n: b",
        "\x01",
        "!!python/object/apply:os.mkdir [evil]",
        "{a: [}",
        "!!bool x",
        "!!int ''",
        "!!float a",
        "!!timestamp x",
        "a: 1" + ":1" * 500_000,  # a number of base 60
        "a: 1" + ":1" * 300 + ".5",
        "0x" + "f" * 1_000_000,
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_yaml(text)
    assert not Path("evil").exists()


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "1" * 5000, "{", b"\xff"])
def test_json_that_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reading, "MOST_VALUES", 100)
    assert len(parse_yaml("- a\n" * 99)) == 99
    with pytest.raises(ValueError, match="expected at most 100 values"):
        parse_yaml("- a\n" * 100)
    with pytest.raises(ValueError, match="expected at most 100 values"):
        parse_yaml("- &a [1, 2, 3]\n" + "- *a\n" * 25)


def test_large_files_and_pipes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file, of which only the bound is read
    with pytest.raises(ValueError, match="at most 1 MiB, but the file is larger"):
        read_text(path, most_bytes=1 << 20)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a regular file"):
        read_text(tmp_path / "pipe")


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "dataset.yaml": ("dataset.yaml", read_dataset_file),
    "configuration": ("config.yaml", lambda folder: load_config(file=folder / "config.yaml")),
    "evaluation": ("evaluation.json", read_evaluation),
    "compared run": ("evaluation.json", read_run),
    "comparison": ("comparison.json", read_model_table),
    "manifest": ("manifest.json", SoftLabelStore.open),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [DEEP, LAUGHS, "\xff\xfe", "[]", "", "null", "{}", "7"])
def test_every_reader_names_the_file(name: str, content: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    (tmp_path / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(SoftiouError, match=file):
        read(tmp_path)


@pytest.mark.parametrize("value", [DEEP, "{a: [}", "1" * 5000])
def test_settings_of_the_command_line(value: str) -> None:
    with pytest.raises(ConfigError, match=r"seed=.*the value is not valid YAML"):
        load_config(source="digits", overrides=[f"seed={value}"])


def test_security_names_tests_that_exist() -> None:
    root = Path(__file__).resolve().parents[1]
    named = re.findall(r"`(tests/[\w/]+\.py)`", (root / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(set(named)) > 8
    assert [name for name in named if not (root / name).is_file()] == []
