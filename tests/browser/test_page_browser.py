"""The rest of the page in Chromium: tables, confusions, themes, and a phone."""

import json
from pathlib import Path
from typing import Any

import pytest

from browser.fake_run import CLASSES, draw_scene, write_run
from browser.pages import Open, until, watched
from softiou.reports import write_report

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2}
TEXTS = "all => all.map(one => one.textContent.trim())"


@pytest.fixture
def page(open_page: Open, report: Path) -> Any:
    return open_page(report)


# Tables


def test_table_of_classes_sorts_by_click(page: Any) -> None:
    column = "#classes ~ .sortable tbody tr td:nth-child(5)"
    before = page.eval_on_selector_all(column, TEXTS)
    page.click("#classes ~ .sortable th button >> text=Accuracy")
    after = [float(text) for text in page.eval_on_selector_all(column, TEXTS)]
    assert after == sorted(map(float, before), reverse=True)
    page.click("#classes ~ .sortable th button >> text=Accuracy")
    assert [float(t) for t in page.eval_on_selector_all(column, TEXTS)] == after[::-1]
    assert page.get_attribute("#classes ~ .sortable th[aria-sort]", "aria-sort") == "ascending"
    page.click("#classes ~ .sortable th button >> text=Class")
    names = page.eval_on_selector_all("#classes ~ .sortable tbody th", TEXTS)
    assert names == list(CLASSES)


def test_links_lead_to_their_section(page: Any) -> None:
    page.click("nav >> text=Calibration")
    assert (
        page.evaluate(
            "Math.abs(document.querySelector('#calibration').getBoundingClientRect().top)"
        )
        < 5
    )


# Confusions


def test_confusions_are_told_on_hover_and_by_keys(page: Any) -> None:
    data = json.loads(page.text_content("#confusion-data"))
    counts = {(target, preds): count for target, preds, count in data["cells"]}
    readout = "[data-confusion=readout]"

    def said(target: int, preds: int) -> str:
        count = counts.get((target, preds), 0)
        share = 100 * count / data["totals"][target]
        return (
            f"{CLASSES[target]} → {CLASSES[preds]}: {count:,} pixels, {share:.2f} % of "
            f"{CLASSES[target]}"
        )

    page.hover(".matrix tbody tr:nth-child(2) td:nth-of-type(4)")
    assert page.text_content(readout) == said(1, 3)
    page.focus(".matrix td[tabindex='0']")
    assert page.text_content(readout) == said(0, 0)
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert page.text_content(readout) == said(0, 2)
    assert page.eval_on_selector_all(".matrix td[tabindex='0']", "all => all.length") == 1


def test_many_classes_are_drawn_on_a_canvas(
    open_page: Open, tmp_path: Path, screenshots: Path
) -> None:
    names = [f"class {index}" for index in range(150)]
    scenes = [draw_scene(str(index), seed=index, skill=0.5, num_classes=150) for index in range(6)]
    write_run(tmp_path / "many", scenes, classes=names)
    page = open_page(write_report(tmp_path / "many"))
    canvas = page.query_selector("[data-confusion=canvas]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    cell = box["width"] / 150
    assert cell >= 4
    page.mouse.move(box["x"] + 3.5 * cell, box["y"] + 1.5 * cell)
    assert page.text_content("[data-confusion=readout]").startswith("class 1 → class 3: ")
    page.focus("[data-confusion=canvas]")
    page.keyboard.press("ArrowRight")
    assert page.text_content("[data-confusion=readout]").startswith("class 1 → class 4: ")
    page.query_selector(".confusion").screenshot(path=screenshots / "confusions-150.png")


# Themes and sizes


def luminance(rgb: str) -> float:
    """Relative luminance of "rgb(r, g, b)", WCAG 2.2."""
    channels = [int(part) / 255 for part in rgb[4:-1].split(",")]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(page: Any, selector: str, behind: str) -> float:
    """Ratio of the luminances of a text and of what lies behind it, 1 to 21."""
    colours = [
        page.evaluate(f"getComputedStyle(document.querySelector({name!r})).{field}")
        for name, field in ((selector, "color"), (behind, "backgroundColor"))
    ]
    low, high = sorted(luminance(colour) for colour in colours)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_readable_in_both_themes(
    open_page: Open, report: Path, comparison: Path, screenshots: Path, scheme: str
) -> None:
    for path, name in ((report, "report"), (comparison, "comparison")):
        page = open_page(path, color_scheme=scheme)
        page.wait_for_selector("#gallery[data-shown]")
        dark = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1
        assert dark == (scheme == "dark")
        for selector, behind in (
            ("h1", "body"),
            (".summary", "body"),
            (".figure .interval", ".figure"),
            (".facts .scores th", ".gallery"),
            (".help", ".gallery"),
            (".layers [aria-pressed=true]", ".layers [aria-pressed=true]"),
        ):
            assert contrast(page, selector, behind) >= 4.5, selector
        page.screenshot(path=screenshots / f"{name}-{scheme}-top.png")
        page.evaluate("document.getElementById('images').scrollIntoView()")
        until(page, "document.querySelectorAll('.thumb img').length > 8")
        page.keyboard.press("2")
        page.wait_for_timeout(150)
        page.screenshot(path=screenshots / f"{name}-{scheme}-gallery.png")
        page.screenshot(path=screenshots / f"{name}-{scheme}.png", full_page=True)


def test_phone_needs_no_scrolling_sideways(
    open_page: Open, report: Path, comparison: Path, screenshots: Path
) -> None:
    for path, name in ((report, "report"), (comparison, "comparison")):
        page = open_page(path, has_touch=True, is_mobile=True, **PHONE)
        page.wait_for_selector("#gallery[data-shown]")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.eval_on_selector_all(
            ".gallery button:not(.thumb):not(.present button):not([hidden]), .gallery select",
            "all => all.filter(one => one.offsetHeight < 40).length",
        )
        assert small == 0, "a finger needs larger buttons"
        page.evaluate("document.getElementById('images').scrollIntoView()")
        page.wait_for_timeout(150)
        page.screenshot(path=screenshots / f"{name}-phone-gallery.png")
        page.screenshot(path=screenshots / f"{name}-phone.png", full_page=True)


def test_tablet_cuts_no_table_of_results_and_shades_what_scrolls(
    open_page: Open, report: Path
) -> None:
    page = open_page(report, viewport={"width": 768, "height": 1000})
    widths = "all => all.map(one => one.scrollWidth - one.clientWidth)"
    assert set(page.eval_on_selector_all(".group-table", widths)) == {0}
    classes = "#classes ~ .sortable"
    assert page.eval_on_selector_all(classes, widths)[0] > 0
    behind = page.evaluate(f"getComputedStyle(document.querySelector('{classes}')).backgroundImage")
    assert behind.count("linear-gradient") == 2


# Other pages


def test_evaluation_of_version_1_opens(open_page: Open, tmp_path: Path) -> None:
    write_run(tmp_path / "old", [draw_scene(str(index), seed=index, skill=0.5) for index in (0, 1)])
    path = tmp_path / "old" / "evaluation.json"
    content = json.loads(path.read_text())
    for name in ("intervals", "bootstrap", "confusion", "calibrated"):
        del content[name]
    content["images"] = [
        {name: image[name] for name in ("stem", "miou", "accuracy")} for image in content["images"]
    ]
    content |= {"schema_version": 1, "examples": {"best": ["0"], "worst": ["1"]}}
    path.write_text(json.dumps(content))
    (tmp_path / "old" / "gallery").rename(tmp_path / "old" / "examples")
    page = open_page(write_report(tmp_path / "old"))
    assert len(page.query_selector_all(".example")) == 2
    assert page.query_selector("#gallery") is None
    page.click("#classes ~ .sortable th button >> text=Dice")
    assert page.get_attribute("#classes ~ .sortable th[aria-sort]", "aria-sort") == "descending"


def test_a_complaint_of_a_page_is_noticed(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<script>console.log('here')</script>")
    with pytest.raises(AssertionError, match="log: here"), watched(browser, tmp_path / "bad.html"):
        pass
