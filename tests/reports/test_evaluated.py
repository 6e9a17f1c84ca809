"""evaluation.json of schema version 2: what is read, and what stands on the page."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser.fake_run import CLASSES, draw_scene, write_run
from reports.page_reading import Page
from softiou.errors import DataError
from softiou.evaluation import Evaluation, read_evaluation
from softiou.metrics.registry import metrics_of
from softiou.reports import collect, render
from softiou.reports.formatting import interval_text
from softiou.reports.tables import LARGEST, confusion_view

SCENES = [draw_scene(f"s/{index}", seed=index, skill=0.6) for index in range(3)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", SCENES)
    return tmp_path / "run"


def edit(run: Path, **fields: Any) -> None:
    path = run / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def evaluation(run: Path) -> Evaluation:
    return read_evaluation(run / "evaluation.json")


# What is read


def test_everything_of_version_2_is_read(run: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    read = evaluation(run)
    low, high = content["intervals"]["miou_d"]
    assert read.known_intervals["miou_d"] == (low, high)
    assert read.level == 95
    assert read.metrics["nll"] == 0.4123
    assert read.confusion is not None
    assert [list(row) for row in read.confusion] == content["confusion"]
    road = read.per_class[3]
    assert road.interval == tuple(content["per_class"][3]["interval"])
    assert (road.score("cece"), road.score("accuracy")) == (
        1.8,
        content["per_class"][3]["accuracy"],
    )
    image = read.images[1]
    assert (image.stem, image.score("ece")) == ("s/1", content["images"][1]["ece"])
    assert image.counts is not None
    assert list(image.counts[3]) == content["images"][1]["counts"]["3"]
    assert read.calibrated is not None
    assert read.calibrated.kind == "scalar"
    assert read.calibrated.metrics["nll"] == pytest.approx(0.4 * 0.4123)


def test_what_is_null_is_none_and_empty_intervals_are_left_out(run: Path) -> None:
    edit(run, intervals={"miou_d": None, "miou_i": [None, 3.0], "miou_c": [1, 2]}, calibrated=None)
    read = evaluation(run)
    assert read.known_intervals == {"miou_c": (1, 2)}
    assert read.calibrated is None
    edit(run, intervals={}, bootstrap=None, confusion=None)
    assert evaluation(run).known_intervals == {}
    assert evaluation(run).confusion is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("split"), "split: Field required"),
        (lambda c: c["images"][1].pop("miou"), "images.1.miou: Field required"),
        (lambda c: c["images"][1].pop("truth"), "images.1.truth: Field required"),
        (
            lambda c: c["per_class"][2].update(iou="much"),
            "per_class.2.iou: Input should be a valid",
        ),
        (lambda c: c["palette"].pop(), "palette has 10 entries of 11 classes"),
        (
            lambda c: c["images"][0]["counts"].update({"11": [0, 0, 1]}),
            "s/0 counts a class outside",
        ),
        (
            lambda c: c["images"][0]["counts"].update({"-1": [0, 0, 1]}),
            "s/0 counts a class outside",
        ),
        (lambda c: c["images"][0]["counts"].update({"x": [0, 0, 1]}), "images.0.counts.x"),
    ],
)
def test_incomplete_file_names_file_and_field(
    run: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    change(content)
    (run / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as refusal:
        evaluation(run)
    assert f"Expected {run / 'evaluation.json'} to be a complete evaluation" in str(refusal.value)
    assert reason in str(refusal.value)


def test_nan_is_read_as_null(run: Path) -> None:
    edit(run, metrics={"miou_d": float("nan"), "nll": float("inf")})
    assert evaluation(run).metrics == {"miou_d": None, "nll": None}


def test_image_that_came_twice_counts_once(run: Path) -> None:
    images = json.loads((run / "evaluation.json").read_text())["images"]
    edit(run, images=images + images[:1])
    assert [one.stem for one in evaluation(run).images] == ["s/0", "s/1", "s/2"]


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"evaluation\.json does not exist: expected an evaluated run directory"
    ):
        read_evaluation(tmp_path / "evaluation.json")


# What stands on the page


def test_headline_has_its_interval_and_what_temperature_made_of_it(run: Path) -> None:
    read = evaluation(run)
    html = render(collect(run))
    text = Page(html).text
    assert interval_text(read.known_intervals["miou_d"]) in html
    after = read.calibrated and read.calibrated.metrics["ece_d"]
    assert f"{after:.1f} % after temperature" in text
    assert "in per cent with 95 % intervals" in text


def test_weights_and_way_of_running_the_model_are_told(run: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    content["checkpoint"] = "best.ckpt, teacher"
    content["inference"] = {"window_px": [64, 96], "flips": True, "scales": [1, 1.25]}
    (run / "evaluation.json").write_text(json.dumps(content))
    text = Page(render(collect(run))).text
    told = (
        "best.ckpt, teacher on the split “test” with windows of 64 x 96 pixels, overlap 0.5, flips"
    )
    assert f"{told}, scales 1, 1.25, in per cent" in text


def test_every_metric_of_the_file_stands_on_the_page(run: Path) -> None:
    read = evaluation(run)
    page = render(collect(run))
    parts = re.findall(r"<tr>.*?</tr>|<div class=\"figure card\">.*?</div>", page, flags=re.DOTALL)
    texts = [Page(part).text for part in parts]
    shown = metrics_of(among=read.metrics)
    assert len(shown) == len(read.metrics)
    for metric in shown:
        expected = metric.text(read.metrics[metric.key])
        assert any(metric.label in text and expected in text for text in texts), metric.key


def test_soft_metrics_are_shown_where_they_are(run: Path) -> None:
    assert "Against soft labels" not in render(collect(run))
    metrics = json.loads((run / "evaluation.json").read_text())["metrics"]
    edit(run, metrics=metrics | {"soft_iou_d": 43.21, "ged": 12.3})
    text = Page(render(collect(run))).text
    assert "Against soft labels" in text
    assert "43.2" in text
    assert "Energy" in text


def test_classes_have_intervals_and_the_columns_that_were_measured(run: Path) -> None:
    page = render(collect(run))
    start = page.index('<section aria-labelledby="classes">')
    table = page[start : page.index("</table>", start)]
    heads = [Page(cell).text.strip() for cell in re.findall(r"<th scope=\"col\".*?</th>", table)]
    assert heads == [
        *("Class", "IoU", "IoU C", "Dice", "Accuracy", "Boundary IoU", "ECE", "Pixels", "Images")
    ]
    assert table.count('class="whisker"') == sum(
        one.interval is not None for one in evaluation(run).per_class
    )
    low, high = evaluation(run).per_class[0].interval or (0, 0)
    assert f"{low:.1f}\N{THIN SPACE}\N{EN DASH}\N{THIN SPACE}{high:.1f}" in table


def test_two_reliability_diagrams_stand_side_by_side(run: Path) -> None:
    page = render(collect(run))
    assert page.count("Reliability diagram, ECE") == 2
    assert "After temperature (scalar)" in page
    assert "% as trained," in page
    edit(run, calibrated=None)
    page = render(collect(run))
    assert page.count("Reliability diagram, ECE") == 1
    assert "after temperature" not in Page(page).text


def test_interval_text() -> None:
    assert interval_text(None) == ""
    assert interval_text((1.25, 3.0), 2) == "1.25\N{THIN SPACE}\N{EN DASH}\N{THIN SPACE}3.00"


# The confusion matrix


def test_confusions_by_hand(run: Path) -> None:
    size = len(CLASSES)
    matrix = [[0] * size for _ in range(size)]
    matrix[0][0], matrix[0][3], matrix[8][9] = 60, 40, 5
    edit(run, confusion=matrix)
    view = confusion_view(evaluation(run))
    assert view is not None
    names = [name for name, _ in view["classes"]]
    (sky, road, *_), (car, pedestrian, of_class, of_all) = view["largest"]
    assert [names[index] for index in (sky, road, car, pedestrian)] == [
        "sky",
        "road",
        "car",
        "pedestrian",
    ]
    page = render(collect(run))
    assert page.count('class="right" style="--share: 60.00">60</td>') == 1
    assert page.count('class="wrong" style="--share: 40.00">40</td>') == 1
    assert of_class == 100
    assert of_all == pytest.approx(100 * 5 / 105)
    assert view["data"]["cells"] == [(0, 0, 60), (0, 3, 40), (8, 9, 5)]


def test_confusions_are_limited_and_left_out_without_pixels(run: Path) -> None:
    size = len(CLASSES)
    edit(run, confusion=[[7] * size] * size)
    view = confusion_view(evaluation(run))
    assert view is not None
    assert len(view["largest"]) == LARGEST
    edit(run, confusion=[[0] * size] * size)
    assert confusion_view(evaluation(run)) is None
    assert 'id="confusions"' not in render(collect(run))


def test_many_classes_get_a_canvas_instead_of_a_table(run: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    matrix = [[int(row == column) for column in range(33)] for row in range(33)]
    edit(
        run,
        confusion=matrix,
        classes=content["classes"] * 3,
        per_class=content["per_class"] * 3,
        palette=content["palette"] * 3,
    )
    page = render(collect(run))
    assert 'data-confusion="canvas"' in page
    assert 'data-confusion="table"' not in page
    assert "Confusion matrix of 33 classes" in page
