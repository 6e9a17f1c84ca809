"""Every block of code of the README, the start and the how-to pages, alone: as it is pasted.

A block is alone in names and in its folder, which holds what pages take for granted. A comment
before it says what is different: `after the block above`, or `not run:` with the reason. Blocks of
the shell are parsed as the command line would, settings included, but nothing is trained.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import TrainedRun
from documentation import DOCS, MARKED

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", DOCS / "getting-started.md", DOCS / "troubleshooting.md"]
PAGES += sorted((DOCS / "how-to").glob("*.md"))
ELSEWHERE = "not run alone: "
# With a network that needs no download, and few steps.
TINY = 'architecture="linknet", encoder="tu-test_efficientnet", encoder_weights="none"'
FEW = (
    'steps=2, precision="fp32", config={"data": {"crop_px": [32, 32], "batch_size": 2, '
    '"workers": 0}, "optim": {"validations": 1}}'
)
# The others are words of another program, such as pip or torchrun.
SOFTIOU = re.compile(r"(?:^|\s)softiou\s")


def python_blocks() -> Iterator[Any]:
    """Yield page and code of each block that is run; "after" has the blocks before it in front."""
    for page in PAGES:
        text, before = page.read_text(encoding="utf-8"), ""
        if page.name == "export.md" or ELSEWHERE in text:
            continue  # tests/exporting/test_page.py runs the blocks of export.md alone
        for number, (mark, language, code) in enumerate(MARKED.findall(text)):
            if language not in ("python", "py"):
                continue
            whole = before + code if mark.startswith("after") else code
            before = whole
            if not mark.startswith("not run"):
                yield pytest.param(whole, id=f"{page.stem}-{number}")


@pytest.fixture
def folder(tmp_path: Path, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pages take for granted: DATA, IMAGES, large.png, shapes, and runs of these."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.data, tmp_path / "DATA")
    (tmp_path / "IMAGES").symlink_to(trained.data / "test" / "images")
    (tmp_path / "shapes" / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (48, 40)).save(tmp_path / "large.png")
    Image.new("RGB", (48, 40)).save(tmp_path / "shapes" / "test" / "images" / "0.png")
    (tmp_path / "runs").mkdir()
    for name in ("NAME-001", "shapes"):
        shutil.copytree(trained.directory, tmp_path / "runs" / name)
    return tmp_path


@pytest.mark.parametrize("code", list(python_blocks()))
def test_python_runs_alone(code: str, folder: Path) -> None:
    if "from transformers import" in code:
        pytest.importorskip("transformers", reason="needs softiou[transformers]")
    code = code.replace("steps=2000", FEW).replace('encoder="resnet50"', TINY)
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_most_blocks_are_run() -> None:
    assert len(list(python_blocks())) >= 20
    marks = [
        mark
        for page in PAGES
        for mark, language, _ in MARKED.findall(page.read_text(encoding="utf-8"))
        if language in ("python", "py") and mark
    ]
    assert len(marks) <= 4, "few blocks may need others, or not run"


def commands() -> Iterator[Any]:
    """Yield the words of each command of softiou in the shell blocks of the pages."""
    for page in PAGES:
        for _, language, code in MARKED.findall(page.read_text(encoding="utf-8")):
            if language not in ("sh", "bash"):
                continue
            for line in code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "softiou" in words and SOFTIOU.search(line):
                    given = words[words.index("softiou") :]
                    given = given[: given.index(">")] if ">" in given else given
                    yield pytest.param(given, id=f"{page.stem}: {' '.join(given)[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_command_is_parsed(words: list[str]) -> None:
    """Verb, arguments, options and their values are known, and settings are valid together."""
    from scripts.docs_site.command_line import verbs
    from softiou.configuration import load_config

    known = dict(verbs())
    name = next(n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in known)
    given = words[len(name.split()) :]
    known[name].make_context(name, list(given))
    settings = [word for word in given if re.match(r"[a-z_.]+=", word)]
    if settings and name != "softiou label":
        if name == "softiou distill":
            settings.append("distillation.teacher=runs/teacher")
        section = "semi_supervised" if name == "softiou semi" else None
        load_config(source="DATA", overrides=settings, section=section)
