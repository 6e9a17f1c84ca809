"""The report of a small synthetic run: what is read, what stands on the page, what must not."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from reports.page_reading import Page
from softiou.errors import DataError
from softiou.evaluation.schema import ImageScores, Reliability
from softiou.reports import (
    ModelRow,
    ModelTable,
    ReportData,
    collect,
    render,
    save_model_table,
    write_report,
)
from softiou.reports.charts import MAX_POINTS, line_chart, line_look, reliability_chart
from softiou.reports.examples import read_example
from softiou.reports.history import Series
from softiou.reports.model_table import read_model_table
from softiou.reports.pictures import MISTAKE, colourize, mark_mistakes, present_classes

HOSTILE_STEM = "<script>alert(1)<&script>\"' onerror=x"
CLASSES = ["sky", "R&D <b>lab</b>", "unicorn"]
DASH = "\N{EN DASH}"
PALETTE = [(10, 20, 30), (200, 100, 50), (0, 255, 0)]

Edit = Callable[[dict[str, Any]], None]


def evaluation_json() -> dict[str, Any]:
    metrics = {"miou_d": 61.23, "miou_i": 58.04, "miou_c": 55.15, "accuracy": 90.26}
    return {
        "schema_version": 1,
        "softiou_version": "0.1.0",
        "created": "2025-06-01T14:03:22+00:00",
        "data": "data/<camvid>",
        "split": "test",
        "checkpoint": "checkpoints/best.ckpt",
        "num_images": 233,
        "classes": CLASSES,
        "palette": [list(colour) for colour in PALETTE],
        "metrics": metrics | {"mdice_d": 72.47, "mdice_i": None, "mdice_c": None, "ece_d": 3.18},
        "per_class": [
            class_json(CLASSES[0], iou=91.22, iou_c=88.31, dice=95.43, pixels=300, images=17),
            class_json(CLASSES[1], iou=31.24, iou_c=22.06, dice=47.61, pixels=100, images=9),
            class_json(CLASSES[2], iou=None, iou_c=None, dice=None, pixels=0, images=0),
        ],
        "reliability": {
            "edges": [0, 0.5, 0.75, 1],
            "count": [0, 100, 300],
            "confidence": [None, 0.6, 0.9],
            "accuracy": [None, 0.5, 0.85],
        },
        "images": [
            {"stem": "0001", "miou": 71.36, "accuracy": 97.12},
            {"stem": "0002", "miou": None, "accuracy": None},
            {"stem": HOSTILE_STEM, "miou": 12.84, "accuracy": 40.25},
        ],
        "examples": {"best": ["0001"], "worst": [HOSTILE_STEM, "0002"]},
    }


def class_json(
    name: str,
    *,
    iou: float | None,
    iou_c: float | None,
    dice: float | None,
    pixels: int,
    images: int,
) -> dict[str, Any]:
    scores = {"name": name, "iou": iou, "iou_c": iou_c, "dice": dice}
    return scores | {"target_pixels": pixels, "images": images}


def write_example(folder: Path, stem: str, *, size: tuple[int, int] = (48, 32)) -> None:
    width, height = size
    target = np.zeros((height, width), np.uint8)
    target[: height // 2] = 1
    target[:, : width // 4] = 255
    preds = np.zeros_like(target)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"{stem}.image.jpg")
    for name, indices in (("target", target), ("preds", preds)):
        mask = Image.fromarray(indices)
        # All 256 colors: with fewer, Pillow writes fewer bits a pixel and 255 does not survive.
        mask.putpalette([channel for colour in PALETTE for channel in colour] + [0] * 3 * 253)
        mask.save(folder / f"{stem}.{name}.png")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run; the pictures of example "0002" are missing."""
    run = tmp_path / "jml & boundary"
    (run / "examples").mkdir(parents=True)
    (run / "config.yaml").write_text("# softiou train <data>\nloss:\n  cross_entropy: 0.25\n")
    lines: list[dict[str, Any]] = []
    for step in range(100, 1100, 100):
        lines.append(
            {"step": step, "seconds": step * 0.3, "train/loss": 100 / step, "learning_rate": 0.1}
            | {"train/cross_entropy": 50 / step, "train/overlap": None}
        )
        if step % 200 == 0:
            lines.append({"step": step, "val/miou_d": 50 - abs(step - 600) / 100, "val/ece_d": 3.1})
    cut = '{"step": 1100, "seconds": 330.0, "train/lo'
    (run / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), cut]))
    (run / "evaluation.json").write_text(json.dumps(evaluation_json()))
    for stem in ("0001", HOSTILE_STEM):
        write_example(run / "examples", stem)
    return run


def edit_evaluation(run_dir: Path, edit: Edit) -> None:
    fields = evaluation_json()
    edit(fields)
    (run_dir / "evaluation.json").write_text(json.dumps(fields))


# What is read


def test_curves_are_read_and_the_cut_last_line_is_skipped(run_dir: Path) -> None:
    history = collect(run_dir).history
    lines = {line.name: line for line in history.series}
    assert history.last_step == 1000
    assert history.seconds == pytest.approx(300)
    assert lines["train/loss"].steps == tuple(range(100, 1100, 100))
    assert lines["val/miou_d"].values == (46.0, 48.0, 50.0, 48.0, 46.0)
    assert "train/overlap" not in lines  # null throughout


def test_line_cut_in_the_middle_of_a_character_is_skipped(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_bytes('{"step": 7, "train/loss": 1.5}\n{"step": 8, "é'.encode()[:-1])
    assert collect(run_dir).history.last_step == 7


def test_steps_repeated_by_a_resumed_run_count_once(run_dir: Path) -> None:
    lines = [(100, 3.0), (200, 2.5), (100, 2.9), (300, 2.0)]
    text = "\n".join(json.dumps({"step": step, "train/loss": loss}) for step, loss in lines)
    (run_dir / "metrics.jsonl").write_text(text)
    (line,) = collect(run_dir).history.series
    assert line == Series("train/loss", steps=(100, 200, 300), values=(2.9, 2.5, 2.0))


def test_evaluation_is_read_with_null_as_none(run_dir: Path) -> None:
    evaluation = collect(run_dir).evaluation
    assert evaluation is not None
    assert evaluation.metrics["miou_d"] == 61.23
    assert evaluation.metrics["mdice_i"] is None
    assert evaluation.per_class[2].iou is None
    assert evaluation.reliability.confidence == (None, 0.6, 0.9)
    assert evaluation.examples.worst == (HOSTILE_STEM, "0002")
    assert evaluation.images[2] == ImageScores(stem=HOSTILE_STEM, miou=12.84, accuracy=40.25)
    assert (evaluation.known_intervals, evaluation.confusion, evaluation.calibrated) == (
        {},
        None,
        None,
    )


def test_long_example_is_downscaled_and_its_masks_stay_indices(run_dir: Path) -> None:
    write_example(run_dir / "examples", "0001", size=(1280, 320))
    example = read_example(run_dir / "examples", ImageScores(stem="0001", miou=None, accuracy=None))
    assert example.image is not None
    assert example.target is not None
    assert example.image.shape == (160, 640, 3)
    assert example.target.shape == (160, 640)
    assert set(np.unique(example.target)) == {0, 1, 255}


# What is drawn


def test_classes_get_their_color_and_ignored_pixels_are_hatched() -> None:
    indices = np.full((8, 8), 255)
    indices[0] = 1
    drawn = colourize(indices, PALETTE)
    assert {tuple(pixel) for pixel in drawn[0].tolist()} == {PALETTE[1]}
    hatched = {tuple(pixel) for pixel in drawn[1:].reshape(-1, 3).tolist()}
    assert len(hatched) == 2
    assert all(red == green == blue for red, green, blue in hatched)


def test_mistakes_are_wrong_pixels_but_never_ignored_ones() -> None:
    target, preds = np.array([[0, 1, 255]]), np.array([[0, 0, 0]])
    drawn = mark_mistakes(np.zeros((1, 3, 3), np.uint8), target, preds, PALETTE)
    assert [tuple(pixel) == MISTAKE for pixel in drawn[0].tolist()] == [False, True, False]


def test_present_classes_are_ordered_by_size_over_both_maps() -> None:
    target, preds = np.array([[2, 2, 255]]), np.array([[0, 2, 2]])
    assert present_classes(target, preds, None, palette=PALETTE) == [2, 0]


def test_charts_suit_both_themes_and_stand_side_by_side() -> None:
    series = [Series("loss", (1, 2, 3), (3.0, 2.0, 1.0)), Series("overlap", (1,), (2.0,))]
    reliability = Reliability(
        edges=(0, 0.5, 1), count=(0, 4), confidence=(None, 0.9), accuracy=(None, 0.8)
    )
    charts = [
        line_chart(series, name="one", marked_step=2),
        line_chart(series, name="two"),
        reliability_chart(reliability, ece=10, name="three"),
    ]
    ids = [id_ for chart in charts for id_ in set(re.findall(r' id="([^"]*)"', chart))]
    assert len(ids) == len(set(ids))
    for chart in charts:
        assert chart.startswith("<svg viewBox=")
        assert chart.endswith("</svg>")
        assert "currentColor" in chart
        assert "http" not in chart
        assert "<style" not in chart
        references = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', chart))
        assert references <= set(ids)
    assert "ECE 10.0 %" in charts[2]


def test_charts_leave_no_trace_in_matplotlib_and_repeat_exactly() -> None:
    before = dict(mpl.rcParams)
    charts = [line_chart([Series("loss", (1, 2), (2.0, 1.0))], name="loss") for _ in range(2)]
    assert charts[0] == charts[1]
    assert dict(mpl.rcParams) == before


def test_many_lines_look_different() -> None:
    assert len({line_look(index) for index in range(18)}) == 18


def test_long_curves_are_thinned() -> None:
    steps = tuple(range(50_000))
    line = Series("loss", steps, tuple(float(step % 7) for step in steps))
    chart = line_chart([line], name="loss")
    assert chart.count("\nL") < MAX_POINTS + 50
    assert len(chart) < 30_000


def test_reliability_of_no_pixels_draws_empty_axes() -> None:
    empty = Reliability(
        edges=(0, 0.5, 1), count=(0, 0), confidence=(None, None), accuracy=(None, None)
    )
    assert "ECE undefined" in reliability_chart(empty, ece=None, name="empty")


# What stands on the page


def test_every_figure_appears(run_dir: Path) -> None:
    text = Page(render(collect(run_dir))).text
    for figure in ("61.2", "58.0", "55.1", "90.3", "72.5", "3.2"):  # headline
        assert figure in text
    for figure in ("91.2", "88.3", "95.4", "31.2", "22.1", "47.6", "75.00", "25.00"):  # classes
        assert figure in text
    assert "mIoU 71.4 % · accuracy 97.1 %" in text
    assert "mIoU 12.8 % · accuracy 40.2 %" in text
    assert f"mIoU {DASH} % · accuracy {DASH} %" in text
    assert "Trained for 1,000 steps in 5 min." in text
    assert "233 images of the split “test”, 3 classes." in text
    assert "best mIoU D, 50.0 % at step 600" in text
    assert "Median mIoU of an image 42.1 %" in text
    assert "Mean confidence 82.5 %, accuracy 76.2 %: on the whole over-confident by 6.2" in text
    assert "ECE 3.2 %" in text
    for origin in ("0.1.0", "2025-06-01T14:03:22+00:00", "checkpoints/best.ckpt", "data/<camvid>"):
        assert origin in text
    assert "# softiou train <data> loss: cross_entropy: 0.25" in text


def test_page_is_well_formed_and_accessible(run_dir: Path) -> None:
    page = Page(render(collect(run_dir)))
    assert page.unclosed == []
    assert page.tags.count("h1") == 1
    assert page.tags.count("caption") == page.tags.count("table") == 3
    assert page.tags.count("img") == len(page.values("alt")) == 8
    assert all(page.values("alt"))
    assert page.tags.count("svg") == page.values("role").count("img") == 5
    assert len(page.values("id")) == len(set(page.values("id")))


def test_absent_class_is_a_dash_and_said_to_be_left_out(run_dir: Path) -> None:
    def edit(fields: dict[str, Any]) -> None:
        fields["per_class"][-1]["predicted_pixels"] = 1234

    edit_evaluation(run_dir, edit)
    page = render(collect(run_dir))
    row = page[page.index("<span>unicorn</span>") :].split("</tr>")[0]
    assert re.findall(r">([^<>\s]+)<", row) == ["unicorn", DASH, DASH, DASH, "0.00", "0"]
    text = Page(page).text
    assert "means over 2 of 3 classes, without unicorn (predicted in 1,234 px)" in text
    assert "Mean (2 of 3)" in text


def test_no_dash_is_explained_when_every_class_occurs(run_dir: Path) -> None:
    def edit(fields: dict[str, Any]) -> None:
        fields["per_class"][2] |= {"iou": 5.0, "iou_c": 5.0, "dice": 9.5, "target_pixels": 9}

    edit_evaluation(run_dir, edit)
    assert "means over" not in render(collect(run_dir))


def test_every_text_is_escaped(run_dir: Path) -> None:
    def edit(fields: dict[str, Any]) -> None:
        for name in ("softiou_version", "created", "data", "split", "checkpoint"):
            fields[name] = '"><script>alert(2)</script>'

    edit_evaluation(run_dir, edit)
    (run_dir / "config.yaml").write_text("</code></pre><script>alert(3)</script>")
    with (run_dir / "metrics.jsonl").open("w") as file:
        file.write(json.dumps({"step": 1, "train/<script>alert(4)": 1.0, "train/$\\frac$": 2.0}))
    page = render(collect(run_dir))
    assert "<script>alert" not in page
    assert "<b>lab" not in page
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert HOSTILE_STEM in parsed.text
    assert CLASSES[1] in parsed.text
    assert "<script>alert(4)" in parsed.text


def test_page_reaches_for_nothing_outside_itself(run_dir: Path) -> None:
    page = render(collect(run_dir))
    assert not re.findall(r"https?://", page.replace("http://www.w3.org/2000/svg", ""))
    parsed = Page(page)
    assert not {"link", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert all(value.startswith("data:image/") for value in parsed.values("src"))
    assert all(value.startswith(("#", "data:text/csv;")) for value in parsed.values("href"))
    assert not re.findall(r"url\((?!#)|@import", page)


def test_pictures_on_the_page_open(run_dir: Path, tmp_path: Path) -> None:
    sources = Page(render(collect(run_dir))).values("src")
    kinds = []
    for index, source in enumerate(sources):
        path = tmp_path / f"{index}"
        path.write_bytes(base64.b64decode(source.split(",")[1]))
        with Image.open(path) as picture:
            kinds.append(picture.format)
            assert picture.size == (48, 32)
    assert kinds == ["JPEG", "PNG", "PNG", "JPEG"] * 2


def test_missing_pictures_are_said_to_be_missing(run_dir: Path) -> None:
    assert render(collect(run_dir)).count("pictures of this image are missing") == 1


def test_page_stays_small(run_dir: Path) -> None:
    def edit(fields: dict[str, Any]) -> None:
        fields["examples"] = {"best": ["0001"] * 4, "worst": [HOSTILE_STEM] * 4}

    edit_evaluation(run_dir, edit)
    for stem in ("0001", HOSTILE_STEM):  # noise is the worst case for JPEG
        write_example(run_dir / "examples", stem, size=(2048, 1024))
    assert write_report(run_dir).stat().st_size < 6_000_000


def test_many_classes_and_single_images_are_drawn(run_dir: Path) -> None:
    def edit(fields: dict[str, Any]) -> None:
        fields["classes"] = fields["classes"] * 50
        fields["per_class"] = fields["per_class"] * 50
        fields["palette"] = fields["palette"] * 50
        fields["images"] = fields["images"][:1]

    edit_evaluation(run_dir, edit)
    page = render(collect(run_dir))
    assert page.count('scope="row"') == 156
    assert "Median" not in page


def test_same_run_gives_the_same_page(run_dir: Path) -> None:
    assert render(collect(run_dir)) == render(collect(run_dir))


# A run that is not finished


def test_run_without_evaluation_shows_its_best_validation(run_dir: Path) -> None:
    (run_dir / "evaluation.json").unlink()
    data = collect(run_dir)
    text = Page(render(data)).text
    assert isinstance(data, ReportData)
    assert data.evaluation is None
    assert "Not evaluated yet" in text
    assert "Best validation so far, at step 600" in text
    assert "50.0" in text
    assert "Calibration" not in text


def test_run_with_a_configuration_only_gets_a_page(run_dir: Path) -> None:
    for name in ("evaluation.json", "metrics.jsonl"):
        (run_dir / name).unlink()
    text = Page(render(collect(run_dir))).text
    assert "No training recorded" in text
    assert "cross_entropy: 0.25" in text


def test_evaluation_without_a_run_around_it_gets_a_page(run_dir: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl"):
        (run_dir / name).unlink()
    text = Page(render(collect(run_dir))).text
    assert "61.2" in text
    assert "no config.yaml" in text


def test_evaluation_with_nothing_valid_gets_a_page(run_dir: Path) -> None:
    def edit(fields: dict[str, Any]) -> None:
        fields["metrics"] = dict.fromkeys(fields["metrics"])
        fields["reliability"] |= {"count": [0] * 3, "confidence": [None] * 3}
        fields["examples"] = {"best": [], "worst": []}
        for score in fields["per_class"]:
            score |= {"iou": None, "iou_c": None, "dice": None, "target_pixels": 0}

    edit_evaluation(run_dir, edit)
    text = Page(render(collect(run_dir))).text
    assert "No labelled pixels" in text
    assert "None were chosen" in text


# Writing, and errors


def test_report_is_written_whole_beside_the_run(run_dir: Path) -> None:
    (run_dir / "report.html").write_text("old")
    files = sorted([*(path.name for path in run_dir.iterdir()), "MODEL_CARD.md"])
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in run_dir.iterdir()) == files


def test_command_prints_the_path(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from softiou.cli.report import report

    report(run_dir)
    assert capsys.readouterr().out.strip() == str(run_dir / "report.html")


def test_other_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found none of these in .*Pass the directory"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="none of these"):
        collect(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema_version": 1}'])
def test_broken_evaluation_is_refused(run_dir: Path, text: str) -> None:
    (run_dir / "evaluation.json").write_text(text)
    with pytest.raises(DataError, match=r"evaluation\.json to be a complete evaluation"):
        collect(run_dir)


def test_evaluation_of_another_version_is_refused(run_dir: Path) -> None:
    edit_evaluation(run_dir, lambda fields: fields.update(schema_version=9))
    with pytest.raises(DataError, match=r"`schema_version` 1 to 2 in .*but got 9, which is newer"):
        collect(run_dir)


def test_broken_and_coloured_pictures_are_refused(run_dir: Path) -> None:
    mask = run_dir / "examples" / "0001.target.png"
    Image.new("RGB", (48, 32)).save(mask)
    with pytest.raises(DataError, match="class indices"):
        write_report(run_dir)
    mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(DataError, match=r"0001\.target\.png to be an image"):
        write_report(run_dir)


# The comparison


def _comparison() -> ModelTable:
    return ModelTable(
        "camvid",
        "test",
        (
            ModelRow("teacher <big>", "runs/t", {"miou_d": 55.5, "ece_d": None}),
            ModelRow("student", "runs/s", {"miou_d": 41.2, "ged": 12.5}, 2000, 600.0),
        ),
        ("A note.",),
    )


def test_comparison_comes_back(tmp_path: Path) -> None:
    assert read_model_table(tmp_path) is None
    save_model_table(_comparison(), tmp_path)
    assert read_model_table(tmp_path) == _comparison()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema_version": 9}', '{"schema_version": 1, "data": "d"}']
)
def test_damaged_comparison_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(DataError, match=r"comparison\.json to be a comparison of schema version 1"):
        read_model_table(tmp_path)


def test_comparison_is_a_table_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    assert "Comparison" not in render(collect(tmp_path))
    save_model_table(_comparison(), tmp_path)
    page = render(collect(tmp_path))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert f"teacher &lt;big&gt; 55.5 {DASH} {DASH}" in text  # what any row has is a column
    assert "41.2" in text
    assert "2,000 10 min" in text
    assert "Energy" in text  # one of the rows knows it
    assert "A note." in text
