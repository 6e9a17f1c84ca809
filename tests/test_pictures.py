"""The pictures of the README and the pages: from the results, small, and not out of date."""

import json

import pytest

from documentation import DOCS
from scripts.write_pictures import ASSETS, FRAME, MOST_BYTES, RECORD, SHOWN, chart, fingerprint


def test_chart_shows_the_results() -> None:
    assert (ASSETS / "gains.svg").read_text(encoding="utf-8") == chart(), (
        "write it again: python -m scripts.write_pictures"
    )
    assert "+2.1  (+0.9 to +3.1)" in chart()
    assert "+5.2  (+4.2 to +6.6)" in chart()


@pytest.mark.parametrize("name", SHOWN)
def test_screenshot_shows_the_templates_of_today(name: str) -> None:
    recorded = json.loads(RECORD.read_text())
    assert recorded[name] == fingerprint(SHOWN[name]), (
        f"The report looks different now: train on CamVid, so that its report shows {FRAME}, and "
        "run python -m scripts.write_pictures RUN."
    )


def test_pictures_are_small_and_used() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    pages += (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for path in (ASSETS / "gains.svg", *(ASSETS / f"{name}.jpg" for name in SHOWN)):
        assert path.stat().st_size <= MOST_BYTES
        assert f"assets/{path.name}" in pages
