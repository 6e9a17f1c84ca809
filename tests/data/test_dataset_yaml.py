from pathlib import Path

import pytest

from softiou.data.dataset_yaml import read_dataset_file
from softiou.data.problems import DataProblemsError


def read(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.yaml").write_text(text, encoding="utf-8")
    read_dataset_file(tmp_path)


def test_description(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("classes: [background, road]", encoding="utf-8")
    description = read_dataset_file(tmp_path).description
    assert description.classes == ("background", "road")
    assert description.ignore_index == 255
    assert description.palette[0] == (0, 0, 0)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataProblemsError, match=r"dataset\.yaml: .*found no dataset\.yaml\. Write"):
        read_dataset_file(tmp_path)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = "classes: [a, b]\nnames: [a]\nignored: 0\npalette: [[0, 0, 0]]\nlabel_map: {3: c, 4: 9}"
    with pytest.raises(DataProblemsError) as caught:
        read(tmp_path, text)
    assert [problem.message for problem in caught.value.problems] == [
        "`palette`: has 1 colours for 2 classes; got [[0, 0, 0]].",
        "`label_map`: maps to ['c', 9]: neither a class nor ignore_index; got {3: 'c', 4: 9}.",
        "Unknown key `names`.",
        "Unknown key `ignored`.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"Expected `classes`, but it is missing\. Add `classes: \["),
        ("ignore_index: 255", "Expected `classes`, but it is missing"),
        ("classes: [a]", "`classes`: needs at least two names; the background is a class as well"),
        ("classes: [a, b, a]", "`classes`: names a more than once"),
        ("classes: [yes, no]", r"`classes\.0`: .* got True\. Quote names such as yes, no and"),
        ("classes: {0: a, 1: b}", "`classes`: Input should be a valid list"),
        ("classes: [a, b]\npalette: [[0, 0, 0], [0, 0, 0]]", "`palette`: has a colour more than"),
        ("classes: [a, b]\npalette: [[0, 0, 0], [0, 0, 256]]", r"`palette\.1\.2`: .* got 256"),
        ("classes: [a, b]\nignore_index: none", "`ignore_index`: .* got 'none'"),
        ("classes: [a, b]\nlabel_map: {x: 0}", "`label_map.x.*: .* got 'x'"),
        ("- a\n- b", r"`dataset\.yaml`: .* dictionary"),
        ("classes: [a", "Not YAML: while parsing"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataProblemsError, match=message):
        read(tmp_path, text)
