"""The documentation as tests read it: built once, its pages, and the code in them."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
NEEDED = ("mkdocs", "material", "mkdocstrings", "latex2mathml")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARKED = re.compile(
    r"(?:^<!-- (after the block above|each line alone|not run: [^>]+) -->\n)?^```(\w+)\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
# Attributes by which a browser loads something, by tag; a link that is followed is none.
LOADS = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}


@cache
def build_site(parent: Path) -> Path:
    """Build the site strictly in a folder, once for all processes: a warning fails."""
    for module in NEEDED:
        pytest.importorskip(module, reason=f"{module} is not installed; softiou[docs] has it")
    if "PYTEST_XDIST_WORKER" in os.environ:
        parent = parent.parent  # each worker has a folder of its own in this one
    folder = parent / "site"
    with (parent / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(parent / "site being built").rename(folder)
    return folder


def _build(folder: Path) -> Path:
    # Not --quiet: mkdocs does not count warnings that it does not print.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@dataclass
class Page(HTMLParser):
    """What a page of the site holds."""

    source: str
    ids: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if LOADS.get(tag, "") in found:
            self.loads.append(str(found[LOADS[tag]]))
        if tag == "svg" and found.get("role") == "img":
            self.figures.append(str(found["aria-label"]))


def blocks(page: str, *languages: str) -> Iterator[str]:
    """Yield the code of a page of docs/ in some languages."""
    for language, code in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if language in languages:
            yield code
