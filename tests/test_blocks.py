"""Every block of code of the README, the start and the how-to pages, alone: as it is pasted.

A block is alone in names and in its folder, which holds what pages take for granted. A comment
before it says what is different: `after the block above`, `each line alone`, or `not run:` with the
reason. Commands that train take one step of a small network (`--dry-run`); all others run as they
stand. Those that are not run are parsed as the command line would, settings included.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import TINY, TrainedRun
from documentation import DOCS, MARKED
from layout_trees import cityscapes, picture, voc

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", DOCS / "getting-started.md", DOCS / "troubleshooting.md"]
PAGES += sorted((DOCS / "how-to").glob("*.md"))
ELSEWHERE = "not run alone: "
# With a network that needs no download, and few steps.
SMALL = 'architecture="linknet", encoder="tu-test_efficientnet", encoder_weights="none"'
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
    code = code.replace("steps=2000", FEW).replace('encoder="resnet50"', SMALL)
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


# The shell


def shell_blocks() -> Iterator[Any]:
    """Yield the commands of each block that is run, one by one where lines are alternatives."""
    for page in PAGES:
        for number, (mark, language, code) in enumerate(
            MARKED.findall(page.read_text(encoding="utf-8"))
        ):
            if language in ("sh", "bash") and not mark.startswith("not run"):
                lines = [shlex.split(line, comments=True) for line in joined(code)]
                alone = [[words] for words in lines] if mark == "each line alone" else [lines]
                for part, commands in enumerate(alone):
                    yield pytest.param(commands, id=f"{page.stem}-{number}-{part}")


def joined(code: str) -> list[str]:
    return code.replace("\\\n", " ").splitlines()


@pytest.fixture(scope="module")
def prepared(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets, images, runs that are evaluated, soft labels: all that a page may name."""
    import softiou

    home = tmp_path_factory.mktemp("prepared")
    voc(home / "data" / "VOCdevkit")
    cityscapes(home / "data" / "cityscapes")
    data = home / "DATA"
    shutil.copytree(trained.data, data)
    for file in sorted(data.glob("*/*/*.png")):  # names of patients and scenes
        number = int(re.sub(r"\D", "", file.stem))
        file.rename(file.with_stem(f"p{number:02d}_scene{number}_patient{number:02d}_{file.stem}"))
    for number in range(3):
        for folder in ("DIR", "FOLDER", "DATA/unlabeled/images"):
            picture(home / folder / f"{folder[:3]}{number}.png")
    for name in ("a.jpg", "b.png", "scene.png"):
        picture(home / name)
    stems = [file.stem for file in (data / "train" / "images").iterdir()]
    rows = [f"{stem},{n % 5}" for n, stem in enumerate(stems)]
    (home / "frames.csv").write_text("\n".join(["name,video", *rows]))
    shutil.copytree(data, home / "shapes")
    for name in ("scans", "land"):
        shutil.copytree(data, home / name, ignore=shutil.ignore_patterns("val", "test"))
    shutil.copytree(data / "test" / "images", home / "IMAGES")
    run = shutil.copytree(trained.directory, home / "runs" / "NAME-001")
    softiou.load(run).evaluate(data, progress=False)
    for name in ("A", "B", "teacher", "few", "land-001", "shapes"):
        shutil.copytree(run, home / "runs" / name)
    return home


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is prepared, whose files are links: what softiou writes takes their place."""
    home = tmp_path / "home"
    shutil.copytree(prepared, home, copy_function=os.link)
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("commands", list(shell_blocks()))
def test_shell_runs_alone(
    commands: list[list[str]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softiou.cli import main

    for words in filter(None, commands):
        assert words[0] == "softiou", "say why the block is not run"
        monkeypatch.setattr(sys, "argv", run_here(words, place))
        with pytest.raises(SystemExit) as end:
            main()
        allowed = (0, 1) if words[1] == "check" else (0,)  # 1: it found something
        assert end.value.code in allowed, " ".join(words)


def run_here(words: list[str], place: Path) -> list[str]:
    """Return the words of a command with the paths of this machine, and a short training."""
    words = words[: words.index(">")] if ">" in words else words
    words = [word.replace(":/data/", f":{place}/data/") for word in words]
    if "--val" in words:  # a data set that is to be divided has no such split
        for split in ("val", "test"):
            shutil.rmtree(place / words[2] / split, ignore_errors=True)
    if words[1] in ("train", "semi", "distill") and "--resume" not in words:
        words[3:3] = [*TINY, "--dry-run"]
    return words


def test_most_shell_blocks_are_run() -> None:
    assert len(list(shell_blocks())) >= 25
