"""softiou compare, in this process: what it prints, and what it refuses."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation_files import CLASSES, make_evaluation, write_run, write_runs
from softiou.cli.compare import _cell
from softiou.comparison import Difference

Run = Callable[..., Any]  # see conftest.py


@pytest.fixture
def pair(softiou: Run) -> list[Path]:
    """Two runs in the folder of the command; a class has a name that looks like markup."""
    classes = [*CLASSES[:2], "[bold]sky"]
    return [
        write_run(Path("ce"), make_evaluation(skill=0.80, seed=1, classes=classes)),
        write_run(Path("jml"), make_evaluation(skill=0.83, seed=2, classes=classes)),
    ]


def row(out: str, name: str) -> list[str]:
    """The cells of the row of this name."""
    (line,) = (line for line in out.splitlines() if re.match(rf"│ {re.escape(name)} +│", line))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_tables_show_both_runs_and_the_difference(softiou: Run, pair: list[Path]) -> None:
    result = softiou("compare", *pair, "--resamples", 300)
    assert (result.status, result.err) == (0, "")
    out = result.out
    lines = out.splitlines()
    assert lines[:3] == ["streets, test: 40 images", "A  ce", "B  jml"]
    assert lines[4].split() == ["┃", "┃", "A", "┃", "B", "┃", "B", "-", "A", "┃", "95", "%",
                                "interval", "┃", "P(B", "better)", "┃"]  # fmt: skip
    a, b, difference, interval, probability = row(out, "mIoU D")
    assert float(difference) == pytest.approx(float(b) - float(a), abs=0.02)
    assert difference.startswith("+")
    assert re.fullmatch(r"\+\d\.\d\d to \+\d\.\d\d", interval)
    assert probability == "> 99.9 %"
    assert row(out, "NLL (nats) ↓")[2].startswith("-")
    assert row(out, "NLL (nats) ↓")[4] == "> 99.9 %"
    assert row(out, "Boundary ECE D ↓") == ["50.00", "50.00", "0.00", "-", "-"]
    assert "per cent; ↓ lower is better" in out
    assert "IoU of the classes" in out
    for name in (*CLASSES[:2], "[bold]sky"):
        assert row(out, name)[2].startswith("+")
    assert "With one seed, intervals describe the choice of test images" in out


def test_level_and_seed(softiou: Run, pair: list[Path]) -> None:
    command = ("compare", *pair, "--level", "99.5", "--resamples", 50, "--seed")
    out = softiou(*command, 4).out
    assert "99.5 % interval" in out
    assert softiou(*command, 4).out == out
    assert softiou(*command, 5).out != out


def test_images_drawn_together(softiou: Run, pair: list[Path]) -> None:
    command = ("compare", *pair, "--resamples", 50, "--together")
    assert softiou(*command, "2").out.splitlines()[0].endswith(" images, resampled in groups of 2")
    result = softiou(*command, "nobody")
    assert result.status != 0
    assert "'nobody' does not match s00" in result.err


def test_json_is_the_result(softiou: Run, pair: list[Path]) -> None:
    result = softiou("compare", *pair, "--json", "--resamples", 50, "--out", "new.json")
    assert result.status == 0
    content = json.loads(result.out)
    assert content["schema_version"] == 1
    assert [group["name"] for group in content["groups"]] == ["ce", "jml"]
    assert content["contrasts"][0]["metrics"]["miou_d"]["probability"] == 1
    assert json.loads(Path("new.json").read_text()) == content


def test_nothing_is_overwritten(softiou: Run, pair: list[Path]) -> None:
    command = ("compare", *pair, "--resamples", 50, "--out", "new.json")
    result = softiou(*command)
    assert result.status == 0
    assert result.out.splitlines()[-1] == "comparison  new.json"
    before = Path("new.json").read_bytes()
    softiou(*command).assert_refused("new.json: the file already exists; nothing was changed.")
    assert Path("new.json").read_bytes() == before


def test_places_are_checked_before_anything_else(softiou: Run, pair: list[Path]) -> None:
    def refused(*arguments: object, because: str) -> None:
        # The second run does not even exist, which is found out later.
        softiou("compare", pair[0], "nowhere", *arguments).assert_refused(because)

    refused(
        "--out", "no/x.json", because="--out no/x.json: the folder no does not exist. Create it, or"
    )
    refused(
        "--report",
        "ce/no/p.html",
        because="--report ce/no/p.html: the folder ce/no does not exist.",
    )
    refused(
        "--out", "ce/evaluation.json/x", because="the folder ce/evaluation.json does not exist."
    )
    refused(
        "--out", "x", "--report", "ce/../x", because="--out and --report both name x. Choose two"
    )
    assert not Path("x").exists()


def test_page_with_both_runs(softiou: Run, run_copy: Path, shapes: Path, tmp_path: Path) -> None:
    assert softiou("evaluate", run_copy, shapes, "--split", "val").status == 0
    flipped = Path(shutil.copytree(run_copy, tmp_path / "flipped"))
    assert softiou("evaluate", flipped, shapes, "--split", "val", "--flips").status == 0
    command = ("compare", run_copy, flipped, "--resamples", 50, "--report", "page.html")
    result = softiou(*command)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "comparison  page.html"
    page = Path("page.html").read_text()
    assert "flipped against run" in page
    assert "run: whole image; flipped: flips." in page
    assert "A: whole image; B: flips." in " ".join(result.out.split())
    content = json.loads(softiou("compare", run_copy, flipped, "--resamples", 50, "--json").out)
    assert content["notes"][0].endswith(f"{run_copy}: whole image; {flipped}: flips.")
    metrics = content["contrasts"][0]["metrics"]
    assert {"cece_d", "ace_d", "mce_d", "biou_d", "bece_d"} <= set(metrics)
    assert [name for name, found in metrics.items() if found["interval"] is None] == []
    assert [name for name, found in metrics.items() if found["probability"] is None] == []
    softiou(*command).assert_refused("page.html: the file already exists", "--report")
    assert Path("page.html").read_text() == page


def test_seeds_are_pooled_and_shown(softiou: Run) -> None:
    a = write_runs(Path("runs"), "jml", (0, 1), skill=0.8)
    b = write_runs(Path("runs"), "ce", (0, 1, 2), skill=0.8)
    result = softiou("compare", *a, *b, "--resamples", 50)
    assert (result.status, result.err) == (0, "")
    out = result.out
    assert out.splitlines()[1:3] == [
        "A  runs/jml-0 (2 seeds): 0, 1",
        "B  runs/ce-0 (3 seeds): 0, 1, 2",
    ]
    assert re.fullmatch(r"\d+\.\d\d ± \d\.\d\d", row(out, "mIoU I")[0])
    assert "With one seed" not in out


def test_seeds_of_one_configuration_alone(softiou: Run) -> None:
    runs = write_runs(Path("runs"), "jml", (0, 1), skill=0.8)
    out = softiou("compare", *runs, "--resamples", 50).out
    mean, spread, interval = row(out, "mIoU D")
    assert 0 < float(spread) < float(mean)
    assert re.fullmatch(r"\d+\.\d\d to \d+\.\d\d", interval)
    assert len(row(out, "car")) == 3
    assert "better" not in out


def test_third_run_has_a_table_of_its_own(softiou: Run, pair: list[Path]) -> None:
    third = write_run(Path("third"), make_evaluation(classes=[*CLASSES[:2], "[bold]sky"]))
    out = softiou("compare", *pair, third, "--resamples", 50).out
    assert "B - A" in out
    assert "C - A" in out
    assert out.count("IoU of the classes") == 2


def test_mistakes_are_messages(softiou: Run, pair: list[Path]) -> None:
    def refused(*arguments: object, because: str) -> None:
        softiou("compare", *arguments).assert_refused(because)

    refused(pair[0], because="at least two runs: softiou compare RUN RUN")
    refused(pair[0], "nowhere", because="nowhere does not exist")
    refused(*pair, "--level", 100, because="--level: 100 is not between 0 and 100")
    write_run(pair[1], make_evaluation(split="val", classes=[*CLASSES[:2], "[bold]sky"]))
    refused(*pair, because="it was evaluated on the split val instead of test")
    assert softiou("compare", *pair, "--resamples", 0).status == 2
    assert softiou("compare", *pair, "--seed", 99999999999999999999).status == 2
    assert softiou("compare").status == 2


def test_cells() -> None:
    assert [_cell(x, sign=True) for x in (0.0, -0.001, 1.234, -5)] == [
        "0.00", "0.00", "+1.23", "-5.00",
    ]  # fmt: skip
    shares = (None, 0.0, 0.0004, 0.5, 0.9984, 1.0)
    assert [Difference(None, None, share, "higher").chance() for share in shares] == [
        "", "< 0.1 %", "< 0.1 %", "50.0 %", "99.8 %", "> 99.9 %",
    ]  # fmt: skip


def test_undefined_figures_are_dashes(softiou: Run, pair: list[Path]) -> None:
    for run in pair:
        content = json.loads((run / "evaluation.json").read_text())
        for image in content["images"]:
            image["counts"].pop("1", None)
        write_run(run, content)
    out = softiou("compare", *pair, "--resamples", 50).out
    assert row(out, "car") == ["-"] * 5
