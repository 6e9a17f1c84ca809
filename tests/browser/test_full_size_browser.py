"""Pictures at full size, zoom, truth beside prediction, and links to the images behind a value."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from browser.fake_run import CLASSES, draw_scene, write_run
from browser.pages import Open, until
from browser.test_gallery_browser import STEPS, gallery, pixels, pressed, shown
from softiou.data import default_palette
from softiou.evaluation.pictures import full_picture
from softiou.reports import write_report

SCENES = [draw_scene(f"seq/{index} %#", seed=index, skill=0.4) for index in range(8)]
SCALE = 3
DOT = (400, 500)  # a pixel of the full size that no thumbnail has: row, column
BOX = [300, 600, 400, 700]
NEXT_MS = 200.0


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose images are three times the size of their thumbnails."""
    run = tmp_path_factory.mktemp("large") / "run"
    write_run(run, SCENES)
    palette = default_palette([""] * len(CLASSES))
    for scene in SCENES:
        photo, target, preds = (
            torch.from_numpy(np.kron(x, np.ones((SCALE, SCALE, *[1] * (x.ndim - 2)), np.uint8)))
            for x in (scene.photo, scene.target, scene.preds)
        )
        preds[DOT] = (target[DOT] + 1) % len(CLASSES)
        for ending, content in full_picture(photo.movedim(2, 0), target, preds, palette).items():
            (run / "gallery" / f"{scene.stem}.{ending}").write_bytes(content)
    content = json.loads((run / "evaluation.json").read_text())
    content["images"][2]["suspects"] = [
        {"target": 1, "preds": 3, "pixels": 5000, "confidence": 97.5, "box": BOX}
    ]
    (run / "evaluation.json").write_text(json.dumps(content))
    return write_report(run)


@pytest.fixture
def page(open_page: Open, large: Path) -> Any:
    return gallery(open_page(large))


def sharp(page: Any) -> None:
    until(page, "() => (g => g.dataset.full && g.dataset.full === g.dataset.shown)(gallery)")


def test_thumbnail_gives_way_to_the_picture_at_full_size(page: Any) -> None:
    sharp(page)
    assert pixels(page, "preds").shape == (720, 960, 4)
    assert page.evaluate("document.querySelector('[data-pane=preds] img').naturalWidth") == 960
    page.keyboard.press("4")
    assert (pixels(page, "error")[DOT] == [255, 85, 0, 255]).all(), "one pixel of the full size"


def test_page_without_its_folder_shows_thumbnails(
    open_page: Open, large: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "report.html"
    shutil.copy(large, alone)
    page = open_page(alone, missing_files=True)
    until(page, "() => gallery.dataset.full === ''")
    assert pixels(page, "preds").shape == (240, 320, 4)


def test_next_image_at_full_size_shows_in_time(page: Any) -> None:
    sharp(page)
    waits = []
    for _ in range(3):
        steps = STEPS.replace("root.dataset.shown", "root.dataset.full")
        waits.append(sorted(page.evaluate(steps.replace("60)", "250)"), 2))[1])
    assert min(waits) <= NEXT_MS


# Zoom


def zoom(page: Any) -> float:
    return float(page.get_attribute("#gallery", "data-zoom"))


def test_keys_buttons_and_wheel_zoom(page: Any) -> None:
    page.keyboard.press("+")
    assert zoom(page) == 1.5
    page.click("[data-zoom=in]")
    assert zoom(page) == 2.25
    page.keyboard.press("-")
    page.click("[data-zoom=out]")
    assert zoom(page) == 1
    page.hover("[data-pane=preds] .stage")
    page.mouse.wheel(0, -300)
    until(page, "() => Number(gallery.dataset.zoom) > 1.3")
    page.keyboard.press("0")
    assert zoom(page) == 1
    page.dblclick("[data-pane=preds] .stage")
    assert zoom(page) == 4


def test_zoomed_image_is_dragged_and_moved_by_keys_and_read_where_it_is(page: Any) -> None:
    page.select_option("[data-part=sort]", label="Order of the split")
    sharp(page)
    for _ in range(3):
        page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    box = page.query_selector("[data-pane=preds] .stage").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] - 40)
    page.mouse.up()
    place = ["--x", "--y", "--zoom"]
    style = "getComputedStyle(document.querySelector('.stages')).getPropertyValue"
    x, y, scale = (float(page.evaluate(f"{style}('{name}')")) for name in place)
    assert scale == pytest.approx(1.5**3)
    assert x == pytest.approx(0.5 - scale / 2 - 0.15 + 60 / box["width"], abs=1e-3)
    assert y == pytest.approx(0.5 - scale / 2 - 40 / box["height"], abs=1e-3)
    # The pixel under the pointer, 10 pixels right and down of the corner of the stage.
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    column = (10 / box["width"] - x) / scale * 320
    row = (10 / box["height"] - y) / scale * 240
    name = CLASSES[SCENES[0].target[int(row), int(column)]]
    assert page.text_content("[data-part=readout]").startswith(f"truth {name} · ")


def test_two_fingers_zoom_and_one_moves(open_page: Open, large: Path) -> None:
    page = gallery(open_page(large, has_touch=True))
    pinch = """() => {
      const stage = document.querySelector("[data-pane=preds] .stage");
      const box = stage.getBoundingClientRect();
      const send = (kind, id, x) => stage.dispatchEvent(new PointerEvent(kind, {
        pointerId: id, bubbles: true, button: 0, clientX: box.left + x, clientY: box.top + 50,
      }));
      send("pointerdown", 1, 100); send("pointerdown", 2, 150); send("pointermove", 2, 250);
      send("pointerup", 1, 100); send("pointerup", 2, 250);
    }"""
    page.evaluate(pinch)
    assert zoom(page) == 3


# Truth and prediction


def test_truth_and_prediction_side_by_side(page: Any) -> None:
    page.keyboard.press("b")
    assert page.eval_on_selector_all(
        ".stages figure:not([hidden])",
        "all => all.map(one => [one.firstElementChild.textContent,"
        " ...[...one.querySelectorAll('canvas:not([hidden])')].map(c => c.dataset.layer)])",
    ) == [["Prediction", "preds"], ["Truth", "target"]]
    assert pressed(page) == ["image", "target", "preds"]
    page.keyboard.press("+")
    scenes = "all => new Set(all.map(one => getComputedStyle(one).transform.split(',')[0])).size"
    assert page.eval_on_selector_all("figure:not([hidden]) .scene", scenes) == 1, "zoom together"
    page.keyboard.press("4")
    assert pressed(page) == ["image", "error"]
    assert page.get_attribute("[data-mode=overlay]", "aria-pressed") == "true"


def test_swipe_divides_truth_and_prediction(page: Any) -> None:
    page.keyboard.press("s")
    page.fill("[data-part=divider]", "25")
    clips = page.eval_on_selector_all(
        "[data-pane=preds] canvas:not([hidden])",
        "all => all.map(c => getComputedStyle(c).clipPath)",
    )
    assert clips == ["inset(0px 75% 0px 0px)", "inset(0px 0px 0px 25%)"]
    box = page.query_selector("[data-pane=preds] .stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 100)
    page.mouse.up()
    assert float(page.input_value("[data-part=divider]")) == pytest.approx(60, abs=1)


# Links


def thumbs(page: Any) -> list[str]:
    return list(page.eval_on_selector_all(".thumb", "all => all.map(one => one.title)"))


def test_link_to_an_image_can_be_sent(open_page: Open, large: Path, page: Any) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    until(page, "() => location.hash.length > 1")
    page.wait_for_timeout(200)
    wanted, address = shown(page), page.url
    other = gallery(open_page(large, address=address.split("#")[1]))
    until(other, "stem => gallery.dataset.shown === stem", wanted)
    assert other.get_attribute("[data-part=stem]", "href") == "#" + address.split("#")[1]


def test_cell_of_the_confusion_matrix_leads_to_its_images(page: Any) -> None:
    page.focus(".matrix td[tabindex='0']")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    until(page, "() => !document.querySelector('[data-part=focus]').hidden")
    shares = {scene.stem: ((scene.target == 3) & (scene.preds == 1)).mean() for scene in SCENES}
    expected = sorted((s for s in shares if shares[s]), key=lambda stem: -shares[stem])
    assert page.text_content("[data-part=focus]") == "road → building ✕"
    assert thumbs(page) == expected
    until(page, "stem => gallery.dataset.full === stem", expected[0])
    scene = next(one for one in SCENES if one.stem == expected[0])
    wrong = (scene.target == 3) & (scene.preds == 1)
    drawn = (pixels(page, "error")[..., :3] == [255, 85, 0]).all(-1)
    assert np.array_equal(drawn[1::SCALE, 1::SCALE], wrong)
    page.click("[data-part=focus]")
    assert len(thumbs(page)) == len(SCENES)


def test_class_and_bin_lead_to_their_images(page: Any) -> None:
    page.click("#classes ~ .sortable tbody a >> text=pole")
    until(page, "() => document.querySelector('[data-part=focus]').textContent === 'pole ✕'")
    data = json.loads(page.text_content("#gallery-data"))
    ious = {one["stem"]: row[2] for one in data["images"] for row in one["classes"] if row[0] == 2}
    assert thumbs(page) == sorted(ious, key=lambda stem: (ious[stem] is None, ious[stem]))
    page.focus(".plot[data-bins] >> nth=0")
    page.keyboard.press("End")
    readout = page.eval_on_selector(".plot:focus", "one => one.closest('figure').innerText")
    assert "Confidence 93 to 100 %: accuracy " in readout
    page.keyboard.press("Enter")
    until(page, "() => document.querySelector('[data-part=focus]').textContent.includes('bin 15')")
    gaps = {one["stem"]: dict(one["bins"])[14] for one in data["images"]}
    assert thumbs(page) == sorted(gaps, key=lambda stem: -gaps[stem])


def test_suspect_labels_are_listed_sorted_and_outlined(page: Any) -> None:
    assert page.text_content("#suspects ~ .sortable tbody th") == SCENES[2].stem
    page.click("#suspects ~ .sortable tbody a")
    until(page, "stem => gallery.dataset.shown === stem", SCENES[2].stem)
    until(page, "() => Number(gallery.dataset.zoom) > 2")
    _, left, _, right = BOX
    stage, frame = (
        page.query_selector(f"[data-pane=preds] {name}").bounding_box()
        for name in (".stage", ".box")
    )
    scale = zoom(page) * stage["width"] / 960
    assert frame["width"] == pytest.approx(scale * (right - left), abs=1)
    middle = frame["x"] + frame["width"] / 2 - stage["x"]
    assert middle == pytest.approx(stage["width"] / 2, abs=1)
    page.keyboard.press("0")
    page.select_option("[data-part=sort]", label="Suspect labels")
    until(page, "stem => gallery.dataset.shown === stem", SCENES[2].stem)
    assert page.text_content(".thumb .score") == f"{100 * 5000 * 0.975 / (720 * 960):.1f}"


def test_curves_are_read_by_hover_and_keys(page: Any) -> None:
    plot = page.query_selector("#curves ~ .charts .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.98, box["y"] + box["height"] / 2)
    readout = "#curves ~ .charts [data-chart=readout]"
    assert page.text_content(readout).startswith("Step 2,000: loss 0.3")
    plot.focus()
    page.keyboard.press("Home")
    assert page.text_content(readout).startswith("Step 50: loss 1.058")
    page.keyboard.press("ArrowRight")
    assert page.text_content(readout).startswith("Step 100: loss ")
