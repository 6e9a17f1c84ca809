"""The page that compares runs: signs, marks, probabilities, and the runs side by side."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from browser.fake_run import CLASSES, draw_scene, write_run
from reports.page_reading import Page
from softiou.comparison import Comparison, Contrast, Difference, Estimate, Group, compare
from softiou.reports import render_comparison, write_comparison_report
from softiou.reports.comparison_page import mark
from softiou.reports.formatting import MINUS, signed

THIN = "\N{THIN SPACE}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / name for name in ("ce", "jml <b>")]
    for path, skill in zip(paths, (0.1, 0.9), strict=True):
        write_run(path, [draw_scene(str(index), seed=index, skill=skill) for index in range(4)])
    return paths


def difference(
    value: float | None,
    interval: tuple[float, float] | None = None,
    probability: float | None = None,
    better: Literal["higher", "lower"] = "higher",
) -> Difference:
    return Difference(value, interval, probability, better)


def comparison(runs: Sequence[Path], metrics: dict[str, Difference], **fields: Any) -> Comparison:
    """Made by hand; every estimate is 50 with an interval, every IoU gains 1."""
    estimate = Estimate(50.0, None, (49.0, 51.0))
    groups = tuple(
        Group(
            name=str(run),
            runs=(str(run),),
            seeds=(None if index else 3,),
            checkpoint="best.ckpt",
            metrics=dict.fromkeys(metrics, estimate),
            iou=(estimate,) * len(CLASSES),
        )
        for index, run in enumerate(runs)
    )
    contrasts = tuple(
        Contrast(0, index, metrics, (difference(1.0, (-1, 2), 0.75),) * len(CLASSES))
        for index in range(1, len(groups))
    )
    values = {"groups": groups, "contrasts": contrasts} | fields
    return Comparison("d<ata", "test", "hard", CLASSES, 4, 10_000, 7, 95.0, **values)


def rows(page: str) -> list[str]:
    found = re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)
    return [Page(row).text.strip() for row in found]


def test_difference_stands_with_sign_interval_probability_and_mark(runs: list[Path]) -> None:
    metrics = {
        "miou_d": difference(2.25, (0.5, 4.0), 0.9876),
        "ece_d": difference(-1.0, (-2.0, -0.5), 1.0, better="lower"),
        "accuracy": difference(-0.3, (-0.9, -0.1), 0.0001),
        "brier": difference(0.4, (-0.1, 0.7), 0.2, better="lower"),
        "nll": difference(-0.0125, None, None, better="lower"),
        "ged": difference(None, None, None),
    }
    page = render_comparison(comparison(runs, metrics), runs)
    text = rows(page)
    low_high = f"49.0{THIN}\N{EN DASH}{THIN}51.0".replace(THIN, " ")
    before = f"50.0 {low_high} 50.0 {low_high}"
    assert f"mIoU D {before} +2.2 +0.5 to +4.0 98.8 % better" in text
    assert f"ECE D ↓ {before} {MINUS}1.0 {MINUS}2.0 to {MINUS}0.5 > 99.9 % better" in text
    assert f"Accuracy {before} {MINUS}0.3 {MINUS}0.9 to {MINUS}0.1 < 0.1 % worse" in text
    assert f"Brier score ↓ {before} +0.4 {MINUS}0.1 to +0.7 20.0 %" in text
    assert any(f"{MINUS}0.013" in row or f"{MINUS}0.012" in row for row in text)
    assert any(row.startswith("Energy") and row.endswith("\N{EN DASH}") for row in text)
    assert f"sky {before} +1.0 {MINUS}1.0 to +2.0 75.0 %" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (difference(2.0, (1.0, 3.0)), "has 2.0 points more mIoU over the data set than ce (+"),
        (difference(0.0, (0.0, 0.0)), "and ce have the same mIoU over the data set"),
        (difference(-2.0, (-3.0, -1.0)), "has 2.0 points less mIoU over the data set than ce ("),
        (difference(0.2, (-1.0, 3.0)), "The interval includes zero."),
        (difference(0.2), "than ce; there is no interval."),
        (difference(None), ""),
    ],
)
def test_verdict(runs: list[Path], given: Difference, said: str) -> None:
    page = render_comparison(comparison(runs, {"miou_d": given}), runs)
    assert said in Page(page).text
    assert ('class="verdict' in page) == bool(said)


def test_page_is_well_formed_and_escaped(runs: list[Path]) -> None:
    page = render_comparison(comparison(runs, {"miou_d": difference(1.0)}), runs)
    parsed = Page(page)
    assert parsed.unclosed == []
    assert "<b>" not in re.sub(r"<b>[+\d]|<b>\N{MINUS SIGN}", "", page)
    assert "jml <b> against ce" in parsed.text
    assert "of d<ata" in parsed.text
    assert "10,000 resamples of the images, seed 7" in parsed.text
    assert "seed unknown; best.ckpt; whole image" in parsed.text
    assert "evaluated differently" not in parsed.text
    assert "The pictures are those of" not in parsed.text
    assert len(parsed.values("id")) == len(set(parsed.values("id")))
    assert parsed.tags.count("script") == 2


def test_runs_stand_side_by_side_on_the_same_images(runs: list[Path]) -> None:
    page = render_comparison(comparison(runs, {"miou_d": difference(1.0)}), runs)
    found = re.search(r'id="gallery-data">(.*?)</script>', page)
    assert found
    data = json.loads(found[1])
    assert data["sides"] == ["ce", "jml <b>"]
    assert [image["stem"] for image in data["images"]] == ["0", "1", "2", "3"]
    for image in data["images"]:
        first, second = image["scores"][0]
        assert image["sorts"][0] == pytest.approx(second - first, abs=0.011)
        assert len(image["sides"]) == 2
        assert image["sides"][0]["preds"] != image["sides"][1]["preds"]


def test_real_comparison_becomes_a_page(runs: list[Path], tmp_path: Path) -> None:
    out = write_comparison_report(compare(runs, resamples=50), runs, tmp_path / "comparison.html")
    assert out == tmp_path / "comparison.html"
    text = Page(out.read_text(encoding="utf-8")).text
    assert "points more mIoU over the data set than ce" in text
    assert "4 images of the split “test” of data/camvid, 11 classes." in text


def test_evaluation_file_may_stand_for_its_run(runs: list[Path]) -> None:
    files = [run / "evaluation.json" for run in runs]
    page = render_comparison(comparison(files, {"miou_d": difference(1.0)}), files)
    assert 'id="gallery"' in page
    # The last parts of both paths are the same, so the whole ones are shown.
    assert f"{files[1]} against {files[0]}" in Page(page).text


def test_three_groups_get_a_section_each(runs: list[Path]) -> None:
    three = [*runs, runs[0].parent / "jml <b>" / "evaluation.json"]
    page = render_comparison(comparison(three, {"miou_d": difference(1.0)}), three)
    assert page.count('id="contrast-') == page.count('id="classes-') == 2
    assert "Classes: evaluation.json against ce" in Page(page).text


def test_page_says_that_runs_were_evaluated_in_different_ways(runs: list[Path]) -> None:
    made = comparison(runs, {"miou_d": difference(1.0)})
    flipped = replace(made.groups[1], inference="flips, scales 0.5, 1")
    made = replace(made, groups=(made.groups[0], flipped))
    text = Page(render_comparison(made, runs)).text
    assert "ce: whole image; jml <b>: flips, scales 0.5, 1." in text
    assert "seed unknown; best.ckpt; flips, scales 0.5, 1" in text


def test_page_says_which_pictures_are_left_out(runs: list[Path], tmp_path: Path) -> None:
    five = [Path(shutil.copytree(runs[0], tmp_path / str(number))) for number in range(5)]
    made = comparison(five, {"miou_d": difference(1.0)})
    page = render_comparison(made, five)
    assert 'data-sides="4"' in page
    assert "The pictures are those of the first 4 of 5 groups: more would" in Page(page).text
    four = render_comparison(comparison(five[:4], {}), five)
    assert "The pictures are" not in four
    seeds = replace(made.groups[0], runs=tuple(map(str, five)), seeds=(0, 1, 2, 3, 4))
    lone = render_comparison(replace(made, groups=(seeds,), contrasts=()), five)
    assert "The pictures are those of the first 4 of 5 runs: more would" in Page(lone).text


def test_lone_group_shows_its_seeds_side_by_side(runs: list[Path]) -> None:
    made = comparison(runs, {"miou_d": difference(1.0)})
    spread = Estimate(50.0, 1.5, None)
    group = Group(
        "ce (2 seeds)", tuple(map(str, runs)), (0, 1), "best.ckpt", {"miou_d": spread}, ()
    )
    lone = comparison(runs, {}, groups=(group,), contrasts=())
    page = render_comparison(lone, runs)
    assert "one group, and there is nothing to compare it with" in Page(page).text
    assert 'data-sides="2"' in page
    contrast = made.contrasts[0]
    both = comparison(
        runs,
        {"miou_d": difference(1.0)},
        groups=(
            made.groups[0],
            Group(
                "jml (2 seeds)",
                (str(runs[1]),),
                (0, 1),
                "b",
                {"miou_d": spread},
                made.groups[1].iou,
            ),
        ),
        contrasts=(contrast,),
    )
    assert any("50.0 ± 1.5" in row for row in rows(render_comparison(both, runs)))


def test_runs_without_thumbnails_have_no_gallery(runs: list[Path], tmp_path: Path) -> None:
    bare = [tmp_path / run.name for run in runs]
    for path, run in zip(bare, runs, strict=True):
        path.mkdir()
        (path / "evaluation.json").write_bytes((run / "evaluation.json").read_bytes())
    page = render_comparison(comparison(bare, {"miou_d": difference(1.0)}), bare)
    assert 'id="gallery"' not in page
    assert "There are no pictures" in page


def test_run_that_was_not_given_is_named(runs: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"Expected `runs` to hold all .*jml"):
        render_comparison(comparison(runs, {"miou_d": difference(1.0)}), runs[:1])


def test_signs() -> None:
    assert [signed(value) for value in (1.26, -1.26, 0.0, -0.04, None)] == [
        "+1.3",
        f"{MINUS}1.3",
        "0.0",
        "0.0",
        "\N{EN DASH}",
    ]


def test_marks() -> None:
    assert mark(difference(1, None)) == ""
    assert mark(difference(1, (0.0, 2.0))) == ""
    assert mark(difference(1, (0.1, 2.0))) == "better"
    assert mark(difference(1, (0.1, 2.0), better="lower")) == "worse"
    assert mark(difference(-1, (-2.0, -0.1), better="lower")) == "better"
