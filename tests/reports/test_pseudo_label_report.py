"""The report of a semi-supervised run: its curves, the classes of its pseudo-labels, its pictures.

The basename differs from that of the recipe's tests, for pytest wants each one once.
"""

import base64
import json
import re
from html import unescape
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reports.page_reading import Page
from softiou.recipes import pseudo_labels as recipe
from softiou.reports import collect, render
from softiou.reports.curves import learning_curves
from softiou.reports.history import read_history
from softiou.reports.pseudo_labels import FOLDER, LEAST_RATIO, ClassShares, PseudoLabels

# Neither in the order of the alphabet nor free of what needs care in HTML and in names of metrics.
CLASSES = ["sky", "car/<b>van</b>", "bus", "a bike"]
PALETTE = [(10, 20, 30), (200, 100, 50), (0, 255, 0), (1, 2, 3)]
OTHER_PALETTE = [(99, 98, 97), (200, 100, 50), (0, 255, 0), (1, 2, 3)]
HOSTILE_STEM = "<script>alert(1)</script>\"' onerror=x"
DASH = "\N{EN DASH}"
SIZE = (48, 32)

LABELS = [60.0, 30.0, 10.0, 0.0]
FIRST = [50.0, 30.0, 12.0, 8.0]
LAST = [70.0, 1.2, 20.0, 8.8]  # "car/<b>van</b>" has 4 % of its share of the labels


def validation(step: int, shares: list[float], *, kept: float = 100.0) -> dict[str, Any]:
    line: dict[str, Any] = {"step": step, "seconds": step * 0.3, "pseudo/kept": 50 + step / 10}
    for name, share, labels in zip(CLASSES, shares, LABELS, strict=True):
        line |= {f"pseudo/class/{name}": share, f"labels/class/{name}": labels}
    return line | {
        "val/miou_d": 40 + step / 100,
        "val/ece_d": 9.0,
        "val/teacher_miou_d": 42 + step / 100,
        "val/teacher_ece_d": 7.0,
        "val/pseudo_miou_d": 60.0,
        "val/pseudo_kept": kept,
    }


def training(step: int) -> dict[str, Any]:
    names = ("loss", "labelled", "unlabeled", "kept", "overlap", "cross_entropy")
    return {"step": step, "learning_rate": 0.1} | {f"train/{name}": 0.5 for name in names}


def write_metrics(run: Path, *lines: dict[str, Any]) -> None:
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))


def write_pictures(run: Path, *stems: str) -> None:
    """Of each image a green box of class 2, in the mixed map also 255 in the left quarter."""
    folder = run / "pseudo_labels"
    folder.mkdir(exist_ok=True)
    width, height = SIZE
    for number in range(len(stems)):
        for name in ("weak", "strong"):
            Image.new("RGB", SIZE, (90, 90, 90)).save(folder / f"{number}.{name}.jpg")
        indices = np.zeros((height, width), np.uint8)
        indices[: height // 2] = 2
        save_map(folder / f"{number}.pseudo.png", indices)
        indices[:, : width // 4] = 255
        save_map(folder / f"{number}.mixed.png", indices)
    (folder / "pictures.json").write_text(json.dumps({"step": 200, "stems": stems}))


def save_map(path: Path, indices: np.ndarray[Any, Any]) -> None:
    picture = Image.fromarray(indices)
    picture.putpalette([channel for colour in PALETTE for channel in colour] + [0] * 3 * 252)
    picture.save(path)


def write_evaluation(run: Path, palette: list[tuple[int, int, int]]) -> None:
    score = {"iou": 50.0, "iou_c": 50.0, "dice": 66.0, "target_pixels": 100, "images": 3}
    fields = dict.fromkeys(("softiou_version", "created", "data", "split", "checkpoint"), "x")
    content = fields | {
        "schema_version": 1,
        "num_images": 0,
        "classes": list(CLASSES),
        "palette": palette,
        "metrics": {"miou_d": 50.0},
        "per_class": [score | {"name": name} for name in CLASSES],
        "reliability": {"edges": [0, 1], "count": [0], "confidence": [None], "accuracy": [None]},
        "images": [],
        "examples": {"best": [], "worst": []},
    }
    (run / "evaluation.json").write_text(json.dumps(content))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that was interrupted before its evaluation."""
    (tmp_path / "config.yaml").write_text("semi_supervised: {}\n")
    write_metrics(
        tmp_path, training(50), validation(100, FIRST), training(150), validation(200, LAST)
    )
    write_pictures(tmp_path, "0001", HOSTILE_STEM)
    return tmp_path


def read(run: Path) -> PseudoLabels:
    found = collect(run).pseudo_labels
    assert found is not None
    return found


def decoded(sources: list[str]) -> list[np.ndarray[Any, Any]]:
    contents = [BytesIO(base64.b64decode(source.split(",")[1])) for source in sources]
    return [np.asarray(Image.open(content)) for content in contents]


def section(page: str) -> str:
    """The part of the page on pseudo-labels."""
    start = page.index('<section aria-labelledby="pseudo-labels">')
    return page[start : page.index("</section>", start)]


def words(html: str) -> str:
    """The text of a part of the page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


# What is read


def test_shares_are_read_in_the_order_of_the_classes(run_dir: Path) -> None:
    found = read(run_dir)
    assert (found.first_step, found.last_step, found.kept) == (100, 200, 70.0)
    assert found.classes == tuple(map(ClassShares, CLASSES, LABELS, FIRST, LAST))


def test_ratio_is_of_the_last_validation_and_undefined_without_labels(run_dir: Path) -> None:
    ratios = [one.ratio for one in read(run_dir).classes]
    assert ratios == [pytest.approx(70 / 60), pytest.approx(0.04), pytest.approx(2.0), None]
    assert [one.vanished for one in read(run_dir).classes] == [False, True, False, False]


def test_undefined_shares_are_none(run_dir: Path) -> None:
    broken = {name: None for name in validation(200, LAST) if name.startswith("pseudo/")}
    write_metrics(run_dir, validation(100, FIRST), validation(200, LAST) | broken)
    found = read(run_dir)
    assert found.kept is None
    assert found.classes[0] == ClassShares("sky", labels=60.0, first=50.0, last=None)
    assert not any(one.vanished for one in found.classes)


def test_rule_of_vanished_classes_is_that_of_the_recipe() -> None:
    labels, shares = [60.0, 30.0, 10.0, 0.0], [60.0, 1.49, 0.51, 0.0]
    ours = [
        index
        for index, (label, share) in enumerate(zip(labels, shares, strict=True))
        if ClassShares("", labels=label, first=None, last=share).vanished
    ]
    assert ours == recipe.vanished(torch.tensor(labels), torch.tensor(shares)) == [1]
    assert signature(recipe.vanished).parameters["ratio"].default == LEAST_RATIO
    assert recipe.FOLDER == FOLDER


def test_pictures_are_read_with_the_colours_stored_in_them(run_dir: Path) -> None:
    found = read(run_dir)
    assert found.pictures_step == 200
    assert [example.stem for example in found.examples] == ["0001", HOSTILE_STEM]
    example = found.examples[0]
    assert example.weak is not None
    assert example.weak.shape == (32, 48, 3)
    assert example.pseudo is not None
    assert set(np.unique(example.pseudo)) == {0, 2}
    assert example.mixed is not None
    assert set(np.unique(example.mixed)) == {0, 2, 255}
    assert found.palette == tuple(PALETTE)


def test_colours_of_the_evaluation_come_first(run_dir: Path) -> None:
    write_evaluation(run_dir, OTHER_PALETTE)
    assert read(run_dir).palette == tuple(OTHER_PALETTE)


def test_run_without_pseudo_labels_has_none(run_dir: Path) -> None:
    write_metrics(run_dir, training(50), {"step": 100, "val/miou_d": 40.0})
    data = collect(run_dir)
    assert data.pseudo_labels is None
    assert 'id="pseudo-labels"' not in render(data)


# Learning curves


def names_of_charts(*lines: dict[str, Any]) -> dict[str, list[str]]:
    curves = learning_curves(read_history("\n".join(map(json.dumps, lines))))
    return {curve["title"]: [name for name, *_ in curve["legend"]] for curve in curves}


def test_charts_show_teacher_and_share_kept_but_not_among_the_losses() -> None:
    assert names_of_charts(training(50), validation(100, FIRST), validation(200, LAST)) == {
        "Training loss": ["loss", "cross entropy", "labelled", "overlap", "unlabeled"],
        "Validation mIoU, %": ["mIoU D", "mIoU D of the teacher"],
        "Validation ECE, %": ["ECE D", "ECE D of the teacher"],
        "Learning rate": ["learning rate"],
        "Pseudo-labels kept, %": ["kept"],
    }


def test_iou_of_the_pseudo_labels_kept_is_drawn_where_some_are_left_out() -> None:
    charts = names_of_charts(validation(100, FIRST, kept=99.0), validation(200, LAST))
    kept = "mIoU D of the pseudo-labels kept"
    assert charts["Validation mIoU, %"] == ["mIoU D", "mIoU D of the teacher", kept]


def test_share_kept_is_told_to_readers_of_the_chart(run_dir: Path) -> None:
    labels = Page(render(collect(run_dir))).values("aria-label")
    assert "Pseudo-labels kept, %, over the steps. kept: from 60 to 70." in labels


# What stands on the page


def test_table_has_a_row_for_each_class(run_dir: Path) -> None:
    rows = re.findall("<tr>.*?</tr>", section(render(collect(run_dir))), flags=re.DOTALL)
    assert [words(row) for row in rows] == [
        "Class Labels Pseudo-labels, step 100 Pseudo-labels, step 200 Ratio",
        "sky 60.00 50.00 70.00 1.17",
        "car/<b>van</b> almost vanished 30.00 30.00 1.20 0.04",
        "bus 10.00 12.00 20.00 2.00",
        f"a bike 0.00 8.00 8.80 {DASH}",
    ]


def test_text_says_what_is_kept_and_what_vanished(run_dir: Path) -> None:
    text = Page(section(render(collect(run_dir)))).text
    assert "Before the last validation, at step 200, it was 70.0 %." in text
    assert "1 of 4 classes has almost vanished: less than 5 % of the share" in text
    assert "the ratio of a class without labels" in text


def test_nothing_is_marked_while_every_class_is_there(run_dir: Path) -> None:
    write_metrics(run_dir, validation(100, FIRST))
    text = Page(section(render(collect(run_dir)))).text
    assert "No class has vanished" in text
    assert "almost vanished" not in text


def test_four_pictures_an_image_stand_over_their_legend(run_dir: Path) -> None:
    write_pictures(run_dir, "0001")
    page = section(render(collect(run_dir)))
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == [
        "Weak view",
        "Pseudo-labels",
        "Strong view",
        "Pseudo-labels of the strong view",
    ]
    weak, pseudo, strong, mixed = decoded(Page(page).values("src"))
    assert {one.shape for one in (weak, pseudo, strong, mixed)} == {(32, 48, 3)}
    assert tuple(pseudo[0, 0]) == tuple(mixed[0, -1]) == PALETTE[2]
    assert tuple(pseudo[-1, 0]) == PALETTE[0]
    assert mixed[0, 0].tolist() in ([128] * 3, [188] * 3)  # hatched
    (legend,) = re.findall('<ul class="legend".*?</ul>', page, flags=re.DOTALL)
    assert words(legend) == "sky bus left out"


def test_page_is_well_formed_and_escaped(run_dir: Path) -> None:
    write_evaluation(run_dir, PALETTE)
    html = render(collect(run_dir))
    page = Page(html)
    assert page.unclosed == []
    assert "<script>alert" not in html
    assert "<b>van" not in html
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == len(page.values("alt")) == 8
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE_STEM in page.text
    assert len(page.values("id")) == len(set(page.values("id")))


# Pictures that are not there


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": null, "stems": []}', '{"step": 3'])
def test_damaged_list_of_pictures_hides_the_pictures_alone(run_dir: Path, text: str) -> None:
    (run_dir / "pseudo_labels" / "pictures.json").write_text(text)
    found = read(run_dir)
    assert (found.pictures_step, found.examples, found.palette) == (None, (), ())
    page = section(render(collect(run_dir)))
    assert "no pictures of pseudo-labels" in page
    assert "1.17" in page
    assert "swatch" not in page


def test_missing_and_broken_pictures_are_left_out(run_dir: Path) -> None:
    folder = run_dir / "pseudo_labels"
    whole = (folder / "0.pseudo.png").read_bytes()
    (folder / "0.pseudo.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", SIZE).save(folder / "0.mixed.png")
    (folder / "0.strong.jpg").write_bytes(b"no picture")
    for path in folder.glob("1.*"):
        path.unlink()
    page = section(render(collect(run_dir)))
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == ["Weak view"]
    assert page.count("pictures of this image are missing or broken") == 1


def test_maps_without_any_colours_are_left_out(run_dir: Path) -> None:
    write_pictures(run_dir, "0001")
    for name in ("pseudo", "mixed"):
        indices = np.full(SIZE[::-1], 2, np.uint16)
        Image.fromarray(indices).save(run_dir / "pseudo_labels" / f"0.{name}.png")
    assert read(run_dir).palette == ()
    page = section(render(collect(run_dir)))
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == ["Weak view", "Strong view"]
    write_evaluation(run_dir, PALETTE)
    drawn = decoded(Page(section(render(collect(run_dir)))).values("src"))[1]
    assert {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()} == {PALETTE[2]}
