"""The site of the documentation in Chromium, opened as files: search, colours, and a phone."""

from pathlib import Path
from typing import Any

import pytest

from browser.pages import Open, until
from documentation import build_site

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
INK = "getComputedStyle(document.querySelector('figure svg text')).fill"
OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.getbasetemp())


def search(page: Any, text: str) -> str:
    """Type into the search, and return the titles of what is found."""
    page.click(".md-search__input")
    page.keyboard.type(text)
    until(page, "document.querySelectorAll('.md-search-result__article').length > 0")
    return " ".join(page.locator(".md-search-result__article h1, h2").all_inner_texts())


@pytest.mark.parametrize(
    ("text", "found"), [("BoundaryIoU", "BoundaryIoU"), ("poly_power", "optim")]
)
def test_search_works_without_a_server(open_page: Open, site: Path, text: str, found: str) -> None:
    assert found in search(open_page(site / "index.html"), text)


def test_results_of_the_search_lead_to_their_page(open_page: Open, site: Path) -> None:
    page = open_page(site / "index.html")
    search(page, "JaccardMetricLoss")
    page.click(".md-search-result__link >> nth=0")
    until(page, "document.querySelector('h1') !== null && !location.href.endsWith('index.html')")


def test_figures_and_formulas_follow_the_colours(
    open_page: Open, site: Path, screenshots: Path
) -> None:
    page = open_page(site / "mathematics.html", color_scheme="light")
    page.screenshot(path=screenshots / "docs-light.png")
    light = page.evaluate(INK)
    page.click("label[title='To dark colours']")
    until(page, "document.body.dataset.mdColorScheme === 'slate'")
    until(page, f"{INK} !== '{light}'")
    page.screenshot(path=screenshots / "docs-dark.png")
    # A formula has a height: it is drawn, not spelt out.
    assert page.evaluate("document.querySelector('mfrac').getBoundingClientRect().height") > 20


@pytest.mark.parametrize(
    "name", ["index", "mathematics", "reference/losses", "reference/configuration", "results"]
)
def test_a_phone_scrolls_downwards_alone(
    open_page: Open, site: Path, name: str, screenshots: Path
) -> None:
    page = open_page(site / f"{name}.html", **PHONE)
    page.screenshot(path=screenshots / f"docs-phone-{name.replace('/', '-')}.png")
    assert page.evaluate(OVERHANG) <= 0
