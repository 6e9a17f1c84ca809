"""The page around the sections: its policy, its script, and data that cannot break out."""

import base64
import hashlib
import json
import re
from html import unescape
from pathlib import Path

import pytest

from browser.fake_run import CLASSES, draw_scene, write_run
from reports.page_reading import Page
from softiou.reports import collect, render
from softiou.reports.templating import SCRIPTS, STYLES, _joined

HOSTILE = "</script><script>alert(1)</script>\N{LINE SEPARATOR}\"'<!--"


@pytest.fixture
def page(tmp_path: Path) -> str:
    classes = [HOSTILE, *CLASSES[1:]]
    write_run(tmp_path, [draw_scene(HOSTILE, seed=0, skill=0.5)], classes=classes)
    return render(collect(tmp_path))


def test_policy_allows_our_script_alone(page: str) -> None:
    script = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [unescape(value) for value in Page(page).values("content") if "default-src" in value]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert f"script-src 'sha256-{digest}'" in policies[0]
    assert "unsafe-inline" not in policies[0].split("script-src")[1]


def test_hostile_names_stay_text(page: str) -> None:
    parsed = Page(page)
    assert parsed.unclosed == []
    assert parsed.tags.count("script") == 3  # two with data, which do not run, and ours
    assert "<script>alert" not in page
    blocks = re.findall(r'<script type="application/json" id="([^"]*)">(.*?)</script>', page)
    assert [name for name, _ in blocks] == ["gallery-data", "confusion-data"]
    gallery, confusion = (json.loads(text) for _, text in blocks)
    assert gallery["classes"][0]["name"] == HOSTILE
    assert gallery["images"][0]["stem"] == HOSTILE
    assert confusion["names"][0] == HOSTILE
    assert not any("<" in text for _, text in blocks)


def test_script_writes_no_html_and_calls_nobody() -> None:
    script = _joined(SCRIPTS)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script
    for word in ("fetch(", "XMLHttpRequest", "import(", "localStorage", "http"):
        assert word not in script
    assert "</" not in script
    assert "url(" not in _joined(STYLES)


def test_links_lead_to_sections(page: str) -> None:
    parsed = Page(page)
    links = [value[1:] for value in parsed.values("href") if not value.startswith("#m")]
    targets = [link for link in links if "=" not in link]  # the others lead to images
    assert targets[:3] == ["figures", "images", "classes"]
    assert set(targets) <= set(parsed.values("id"))
