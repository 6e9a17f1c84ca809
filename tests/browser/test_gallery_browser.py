"""The gallery in Chromium: real clicks and keys, and how long the reader waits."""

import base64
import json
import sys
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from browser.fake_run import CLASSES, draw_scene
from browser.pages import MANY_IMAGES, NUM_IMAGES, Open, until

OPEN_SECONDS, NEXT_MS = 1.0, 100.0  # what a reader should not have to wait longer than
TRIES = 3  # on a machine that does something else, too

# Steps with a key and waits until the next image is painted: milliseconds of each step.
STEPS = """async count => {
  const root = document.getElementById("gallery");
  const frame = () => new Promise(requestAnimationFrame);
  const waits = [];
  for (let step = 0; step < count; step += 1) {
    const before = root.dataset.shown;
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    while (root.dataset.shown === before) await frame();
    await frame();
    waits.push(performance.now() - start);
    await new Promise(resolve => setTimeout(resolve, 60));
  }
  return waits;
}"""


@pytest.fixture
def page(open_page: Open, report: Path) -> Any:
    return gallery(open_page(report))


@pytest.fixture
def long_page(open_page: Open, long_report: Path) -> Any:
    return gallery(open_page(long_report))


def gallery(page: Any) -> Any:
    """The same page, when its first image is shown and the gallery is in sight."""
    page.wait_for_selector("#gallery[data-shown]")
    page.evaluate("document.getElementById('images').scrollIntoView()")
    return page


def shown(page: Any) -> str:
    return str(page.get_attribute("#gallery", "data-shown"))


def wait_for(page: Any, position: int) -> None:
    """Until the image at a place of the order, counted from 1, is on the stage."""
    until(
        page,
        "n => document.querySelectorAll('.thumb')[n - 1].getAttribute('aria-current') === 'true'",
        position,
    )
    assert page.text_content("[data-part=position]").startswith(f"{position} of ")


def pressed(page: Any) -> list[str]:
    found = page.query_selector_all("button[data-layer][aria-pressed=true]")
    return [button.get_attribute("data-layer") for button in found]


def visible(page: Any) -> list[str]:
    """Layers that are drawn on the first stage, the photograph among them."""
    stage = page.query_selector(".stage")
    layers = [
        canvas.get_attribute("data-layer")
        for canvas in stage.query_selector_all("canvas")
        if canvas.is_visible()
    ]
    return ["image"] * stage.query_selector("img").is_visible() + layers


def scores_of_thumbs(page: Any) -> list[float]:
    return [float(text) for text in page.eval_on_selector_all(".thumb .score", TEXTS)]


TEXTS = "all => all.map(one => one.textContent)"


# How long it takes


def say(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when pytest keeps the output of tests that pass."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}, best of {TRIES}\n")


@pytest.mark.slow
def test_page_opens_in_time(
    open_page: Open, long_report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waits, worked = [], []
    for _ in range(TRIES):
        page = open_page(long_report)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.reload()
        page.wait_for_selector("#gallery[data-shown]")
        waits.append(page.evaluate("performance.now()") / 1000)
        metrics = session.send("Performance.getMetrics")["metrics"]
        worked += [entry["value"] for entry in metrics if entry["name"] == "TaskDuration"]
    size = long_report.stat().st_size / 1e6
    opened = f"open in {min(waits):.2f} s, {min(worked):.2f} s of the processor"
    say(f"{MANY_IMAGES} images, {size:.1f} MB: {opened}", capsys)
    assert size <= 10
    # A busy machine makes the reader wait, too, but that is not the page's doing.
    assert 0 < min(worked) <= OPEN_SECONDS


def test_next_image_shows_in_time(long_page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    medians = [median(long_page.evaluate(STEPS, 15)) for _ in range(TRIES)]
    say(f"next image in {min(medians):.0f} ms (median of 15)", capsys)
    assert min(medians) <= NEXT_MS


def test_thumbnails_are_decoded_when_they_come_into_sight(long_page: Any) -> None:
    long_page.wait_for_selector(".thumb img")
    assert len(long_page.query_selector_all(".thumb")) == MANY_IMAGES
    assert 0 < len(long_page.query_selector_all(".thumb img")) < MANY_IMAGES / 2
    long_page.evaluate("document.querySelector('.strip').scrollTo(0, 1e6)")
    until(long_page, "document.querySelector('.thumb:last-child img')?.naturalWidth > 0")


# Order


@pytest.mark.parametrize("name", ["mIoU", "Accuracy", "Boundary IoU", "ECE", "Confidence"])
def test_sorts_by_every_score_both_ways(page: Any, name: str) -> None:
    page.select_option("[data-part=sort]", label=name)
    wait_for(page, 1)
    worst_first = scores_of_thumbs(page)
    assert len(worst_first) == NUM_IMAGES
    assert len(set(worst_first)) > 10
    assert worst_first == sorted(worst_first, reverse=name == "ECE")
    page.click("[data-part=direction]")
    wait_for(page, 1)
    assert scores_of_thumbs(page) == sorted(worst_first, reverse=name != "ECE")


def test_order_of_the_split(page: Any) -> None:
    page.select_option("[data-part=sort]", label="Order of the split")
    wait_for(page, 1)
    assert shown(page) == "seq0/0000"
    assert page.eval_on_selector_all(".thumb .score", TEXTS)[:2] == ["seq0/0000", "seq1/0001"]
    page.click("[data-part=direction]")
    until(page, "document.getElementById('gallery').dataset.shown === 'seq0/0039'")


def test_filter_keeps_images_with_the_class(page: Any) -> None:
    data = json.loads(page.text_content("#gallery-data"))
    pole = CLASSES.index("pole")
    expected = {
        image["stem"] for image in data["images"] if any(row[0] == pole for row in image["classes"])
    }
    assert 0 < len(expected) < NUM_IMAGES
    page.select_option("[data-part=filter]", label="with pole")
    assert set(page.eval_on_selector_all(".thumb", "all => all.map(one => one.title)")) == expected
    assert f"of {len(expected)}" in page.text_content("[data-part=position]")
    page.select_option("[data-part=filter]", label="all images")
    assert len(page.query_selector_all(".thumb")) == NUM_IMAGES


# Steps


def test_keys_step_through_the_images(page: Any) -> None:
    first = shown(page)
    page.keyboard.press("ArrowRight")
    wait_for(page, 2)
    assert shown(page) != first
    assert page.text_content("[data-part=stem]") == shown(page)
    page.keyboard.press("ArrowLeft")
    wait_for(page, 1)
    assert shown(page) == first
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("End")
    wait_for(page, NUM_IMAGES)
    assert page.is_disabled("[data-part=next]")
    page.keyboard.press("Home")
    wait_for(page, 1)
    assert page.is_disabled("[data-part=previous]")


def test_buttons_and_thumbnails_step_too(page: Any) -> None:
    page.click("[data-part=next]")
    wait_for(page, 2)
    page.click("[data-part=previous]")
    wait_for(page, 1)
    page.click(".thumb:nth-child(7)")
    wait_for(page, 7)
    page.keyboard.press("ArrowRight")
    wait_for(page, 8)
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    assert page.eval_on_selector_all(".thumb[tabindex='0']", "all => all.length") == 1


def test_keys_of_other_elements_stay_theirs(page: Any) -> None:
    page.focus("[data-part=opacity]")
    page.keyboard.press("ArrowRight")
    assert page.input_value("[data-part=opacity]") == "66"
    page.focus("[data-part=sort]")
    page.keyboard.press("4")
    page.keyboard.press("Control+ArrowRight")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert page.text_content("[data-part=position]") == f"1 of {NUM_IMAGES}"
    assert pressed(page) == ["image", "preds"]


def test_quick_steps_end_at_the_last_wish(page: Any) -> None:
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    wait_for(page, 13)
    assert page.get_attribute(".stage img", "alt") == f"Image {shown(page)}"
    assert len(page.query_selector_all(".stage img")) == 1


# Layers


def test_keys_and_clicks_switch_layers(page: Any) -> None:
    assert visible(page) == pressed(page) == ["image", "preds"]
    for digit, layer in ((2, "target"), (3, "preds"), (4, "error"), (5, "uncertainty")):
        page.keyboard.press(str(digit))
        assert visible(page) == pressed(page) == ["image", layer]
    page.click("button[data-layer=image]")
    assert visible(page) == ["uncertainty"]
    page.keyboard.press("5")
    assert visible(page) == []
    page.click("button[data-layer=image]")
    page.click("button[data-layer=target]")
    page.keyboard.press("Shift+4")
    assert visible(page) == ["image", "target", "error"]
    page.click("button[data-layer=uncertainty]", modifiers=["Shift"])
    assert visible(page) == ["image", "target", "error", "uncertainty"]
    page.keyboard.press("2")
    assert visible(page) == ["image", "error", "uncertainty"]


def test_layers_stay_when_the_image_changes(page: Any) -> None:
    page.keyboard.press("4")
    page.keyboard.press("ArrowRight")
    wait_for(page, 2)
    assert visible(page) == ["image", "error"]


def test_slider_changes_the_opacity_of_the_layers(page: Any) -> None:
    read = "document.querySelector('canvas[data-layer=preds]')"
    assert page.evaluate(f"getComputedStyle({read}).opacity") == "0.65"
    page.fill("[data-part=opacity]", "30")
    assert page.evaluate(f"getComputedStyle({read}).opacity") == "0.3"
    assert page.evaluate("getComputedStyle(document.querySelector('.stage img')).opacity") == "1"


def pixels(page: Any, layer: str) -> NDArray[np.uint8]:
    """Colours of a layer (H, W, 4)."""
    url = page.evaluate(
        """layer => {
          const canvas = document.querySelector(`canvas[data-layer=${layer}]`);
          const copy = document.createElement("canvas");
          copy.width = canvas.width;
          copy.height = canvas.height;
          copy.getContext("2d", { willReadFrequently: true }).drawImage(canvas, 0, 0);
          return copy.toDataURL("image/png");
        }""",
        layer,
    )
    content = BytesIO(base64.b64decode(url.split(",")[1]))
    return np.asarray(Image.open(content).convert("RGBA"))


def test_layers_show_what_was_evaluated(page: Any) -> None:
    page.select_option("[data-part=sort]", label="Order of the split")
    wait_for(page, 1)
    data = json.loads(page.text_content("#gallery-data"))
    colours = np.array([one["colour"] for one in data["classes"]])
    scene = draw_scene("seq0/0000", seed=0, skill=0.6)
    assert data["images"][0]["target"]["height"] == 240, "the thumbnails fit as they are"
    assert np.array_equal(pixels(page, "preds")[..., :3], colours[scene.preds])
    page.keyboard.press("4")
    valid = scene.target != 255
    error = pixels(page, "error")
    wrong = (error == [*data["mistake"], 255]).all(-1)
    assert np.array_equal(wrong, valid & (scene.target != scene.preds))
    assert not error[valid & ~wrong].any()
    page.keyboard.press("2")
    target = pixels(page, "target")
    assert np.array_equal(target[valid][:, :3], colours[scene.target[valid]])
    hatched = {tuple(colour) for colour in target[~valid].tolist()}
    assert hatched == {(128, 128, 128, 255), (188, 188, 188, 255)}
    page.keyboard.press("5")
    ramp = {tuple(colour) for colour in data["ramp"]}
    assert {
        tuple(colour) for colour in pixels(page, "uncertainty")[..., :3].reshape(-1, 3).tolist()
    } <= ramp


def test_pointing_at_the_image_reads_a_pixel(page: Any) -> None:
    page.select_option("[data-part=sort]", label="Order of the split")
    wait_for(page, 1)
    scene = draw_scene("seq0/0000", seed=0, skill=0.6)
    box = page.query_selector(".stage").bounding_box()
    row, column = 120, 160
    page.mouse.move(
        box["x"] + (column + 0.5) / 320 * box["width"], box["y"] + (row + 0.5) / 240 * box["height"]
    )
    names = [CLASSES[one[row, column]] for one in (scene.target, scene.preds)]
    said = page.text_content("[data-part=readout]")
    assert said.startswith(f"truth {names[0]} · prediction {names[1]} · unsure ")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 2)
    assert page.text_content("[data-part=readout]").startswith("truth ignored · ")
    page.mouse.move(2, 2)
    assert "Point at the image" in page.text_content("[data-part=readout]")


def test_pointing_at_a_class_singles_it_out(page: Any) -> None:
    assert set(np.unique(pixels(page, "preds")[..., 3])) == {255}
    page.hover(".present li:first-child button")
    strong = (pixels(page, "preds")[..., 3] == 255).mean()
    assert 0 < strong < 1
    page.keyboard.press("4")
    some = (pixels(page, "error")[..., 3] == 255).sum()
    page.mouse.move(2, 2)
    assert (pixels(page, "error")[..., 3] == 255).sum() > some


def test_names_in_markup_are_text(page: Any) -> None:
    labels = page.eval_on_selector_all("[data-part=filter] option", TEXTS)
    assert 'with fence "</script>"' in labels
    assert "with sign & <b>symbol</b>" in labels
    assert page.query_selector(".present b") is None


def test_browser_without_inflation_shows_photographs_and_says_so(
    open_page: Open, report: Path
) -> None:
    page = gallery(open_page(report, prepare="delete window.DecompressionStream"))
    assert visible(page) == ["image"]
    assert "too old to draw the layers" in page.text_content("[data-part=key]")


# Touch and small screens


def test_swiping_steps(open_page: Open, report: Path) -> None:
    page = gallery(
        open_page(report, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    )
    swipe = """distance => {
      const stages = document.querySelector(".stages");
      const touch = x => [new Touch({ identifier: 1, target: stages, clientX: x, clientY: 300 })];
      for (const [kind, x] of [["touchstart", 180], ["touchend", 180 + distance]]) {
        stages.dispatchEvent(new TouchEvent(kind, { changedTouches: touch(x), bubbles: true }));
      }
    }"""
    page.evaluate(swipe, -90)
    wait_for(page, 2)
    page.evaluate(swipe, 15)
    page.evaluate(swipe, 90)
    wait_for(page, 1)


# Two runs side by side


def test_two_runs_show_the_same_image_with_the_same_layers(
    open_page: Open, comparison: Path
) -> None:
    page = gallery(open_page(comparison))
    captions = page.eval_on_selector_all(".stages figure:not([hidden]) figcaption", TEXTS)
    assert captions == ["ce-seed0", "jml_bls-seed0"]
    alts = page.eval_on_selector_all(".stage img", "all => all.map(one => one.alt)")
    assert alts == [f"Image {shown(page)}"] * 2
    page.keyboard.press("3")
    assert page.eval_on_selector_all(
        ".stage canvas:not([hidden])", "all => all.map(one => one.dataset.layer)"
    ) == ["preds", "preds"]
    gains = [
        float(text.replace("\N{MINUS SIGN}", "-"))
        for text in page.eval_on_selector_all(".thumb .score", TEXTS)
    ]
    assert gains == sorted(gains)
    head = page.eval_on_selector_all("[data-part=scores] tr:first-child td", TEXTS)
    assert head == ["ce-seed0", "jml_bls-seed0", "gain"]
    page.hover(".stage >> nth=1")
    assert page.text_content("[data-part=readout]").startswith("jml_bls-seed0: truth ")
