"""Pages in a real browser: Chromium without a window, if it is there.

Screenshots land in build/screenshots.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.fake_run import draw_scene, write_run
from browser.pages import MANY_IMAGES, NUM_IMAGES, Open, watched

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium on PATH ({', '.join(NAMES)})")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a page; `prepare` is a script that runs before its own."""
    opened: list[Any] = []

    def open_(path: Path, **settings: Any) -> Any:
        context = watched(browser, path, **settings)
        opened.append(context)
        return context.__enter__()

    yield open_
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_report(tmp_path_factory.mktemp("report"), NUM_IMAGES)


@pytest.fixture(scope="session")
def long_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_report(tmp_path_factory.mktemp("report"), MANY_IMAGES)


def _write_report(folder: Path, number: int) -> Path:
    from softiou.reports import write_report

    run = folder / "jml_bls-seed0"
    scenes = [
        draw_scene(f"seq{index % 3}/{index:04d}", seed=index, skill=0.6) for index in range(number)
    ]
    write_run(run, scenes)
    return write_report(run)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that compares two runs."""
    from softiou.comparison import compare
    from softiou.reports import write_comparison_report

    folder = tmp_path_factory.mktemp("comparison")
    runs = [folder / name for name in ("ce-seed0", "jml_bls-seed0")]
    for run, skill in zip(runs, (0.3, 0.7), strict=True):
        write_run(run, [draw_scene(f"{index:04d}", seed=index, skill=skill) for index in range(24)])
    made = compare(runs, resamples=200)
    return write_comparison_report(made, runs, folder / "comparison.html")


@pytest.fixture(scope="session")
def screenshots() -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
