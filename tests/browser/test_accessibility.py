"""Rules of accessibility (WCAG 2.2 A and AA), checked by axe-core in Chromium.

axe-core comes from npm: `npm ci` in this folder. Without it the tests skip.
"""

from pathlib import Path
from typing import Any

import pytest

from browser.fake_run import draw_scene, write_run
from browser.pages import Open
from softiou.reports import write_report

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SERIOUS = ("serious", "critical")

pytestmark = pytest.mark.skipif(
    not AXE.is_file(), reason="axe-core is not installed: `npm ci` in tests/browser"
)


def violations(page: Any) -> list[str]:
    """Rule, first element and number of the elements of each serious violation."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("tags => axe.run(document, { runOnly: tags })", TAGS)
    assert len(found["passes"]) > 20
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:300]} ({len(one['nodes'])})"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"][:1]
    ]


@pytest.fixture(scope="module")
def small_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("accessible") / "run"
    write_run(run, [draw_scene(str(index), seed=index, skill=0.5) for index in range(6)])
    return write_report(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["small_report", "comparison"])
def test_no_serious_violation(
    open_page: Open, request: pytest.FixtureRequest, name: str, scheme: str
) -> None:
    page = open_page(request.getfixturevalue(name), color_scheme=scheme, bypass_csp=True)
    page.wait_for_selector("#gallery[data-shown]")
    assert violations(page) == []


def test_a_violation_is_noticed(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<p style='color: #999; background: #fff'>Pale</p>" * 30)
    page = open_page(tmp_path / "bad.html")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run()")["violations"]
    assert "color-contrast" in {one["id"] for one in found}
