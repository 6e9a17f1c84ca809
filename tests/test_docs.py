"""The site of the documentation: complete, without network, and right where it shows code."""

import doctest
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import softiou
from conftest import TrainedRun
from documentation import DOCS, PAGES, Page, blocks, build_site

PACKAGES = (
    "softiou.calibration",
    "softiou.checking",
    "softiou.comparison",
    "softiou.configuration",
    "softiou.data",
    "softiou.drop_in.monai",
    "softiou.drop_in.smp",
    "softiou.evaluation",
    "softiou.exporting",
    "softiou.inference",
    "softiou.jobs",
    "softiou.losses",
    "softiou.metrics",
    "softiou.models",
    "softiou.recipes",
    "softiou.resampling",
    "softiou.soft_labels",
    "softiou.targets",
    "softiou.training",
)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    return build_site(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def read(site: Path) -> Callable[[str], Page]:
    """Return a function that reads a page of the site."""
    return cache(lambda name: Page((site / name).read_text(encoding="utf-8")))


# The site


def test_pages_are_those_of_the_navigation(site: Path) -> None:
    made = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    generated = {"reference/command-line.md", "reference/configuration.md", "security.md"}
    assert made - {"404.md"} == set(PAGES) | generated


def test_nothing_is_loaded_from_elsewhere(site: Path, read: Callable[[str], Page]) -> None:
    for path in site.rglob("*.html"):
        page = read(path.relative_to(site).as_posix())
        assert page.loads
        outside = [load for load in page.loads if re.match(r"(\w+:)?//", load)]
        assert not outside, f"{path.name} loads {outside}"
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(url\(\s*[\"']?|@import\s*[\"'])(https?:)?//", text), path.name


def test_ids_are_unique(site: Path, read: Callable[[str], Page]) -> None:
    for path in site.rglob("*.html"):
        ids = read(path.relative_to(site).as_posix()).ids
        twice = {one for one in ids if ids.count(one) > 1}
        assert not twice, f"{path.name} has {twice} twice"


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("wandb", "troubleshooting.html#wandb-mlflow-tensorboard"),
        ("multi gpu", "how-to/gpus.html#several-gpus-multi-gpu-in-one-machine"),
        ("out of memory", "troubleshooting.html#out-of-memory"),
        ("satellite", "how-to/remote-sensing.html"),
        ("slurm", "how-to/gpus.html#slurm"),
        ("proxy", "troubleshooting.html#offline-behind-a-proxy-no-internet"),
        ("medical", "how-to/medical.html"),
        ("cvat", "how-to/annotation-tools.html"),
    ],
)
def test_search_finds(site: Path, word: str, page: str) -> None:
    """The index of the search has a title or a text with all the words, at that place."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    words = word.split()
    found = [
        entry["location"]
        for entry in index["docs"]
        if all(one in f"{entry['title']} {entry['text']}".lower() for one in words)
    ]
    assert any(location.startswith(page) for location in found), found


# The reference


def public_names() -> Iterator[str]:
    """Yield what a reference page has to tell of: everyday names, classes and functions."""
    yield from (f"softiou.{name}" for name in softiou.__all__)
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.isclass(one) or inspect.isfunction(one):
                yield f"{package}.{name}"


def test_every_public_name_has_an_anchor(site: Path, read: Callable[[str], Page]) -> None:
    pages = [f"reference/{path.name}" for path in (site / "reference").glob("*.html")]
    anchors = {one for page in pages for one in read(page).ids}
    # What the packages of jobs and losses share with `softiou` is documented there.
    everyday = {f"softiou.{one}.{name}" for one in ("jobs", "losses") for name in softiou.__all__}
    # The site takes softiou.export for the module of this name, the old place of exporting.
    assert set(public_names()) - everyday - {"softiou.export"} <= anchors - {"softiou.export"}
    assert "softiou.jobs.export" in anchors


def test_every_verb_is_there_with_its_options(read: Callable[[str], Page]) -> None:
    from scripts.docs_site.command_line import verbs

    page = read("reference/command-line.html")
    for name, verb in verbs():
        assert name.replace(" ", "-") in page.ids
        for parameter in verb.params:
            option = ", ".join(parameter.opts)  # as in -q, --quiet
            assert not option.startswith("-") or f"<code>{option}" in page.source, option
    assert "700; x&gt;=5" in page.source  # default and range of `softiou demo --steps`


def test_every_knob_is_there(read: Callable[[str], Page]) -> None:
    from softiou.configuration import Config

    page = read("reference/configuration.html")
    for name, knob in Config.model_fields.items():
        section = getattr(knob.annotation, "model_fields", {})
        for key in [f"{name}.{inner}" for inner in section] or [name]:
            assert key in page.ids
    for key in ("distillation.temperature", "semi_supervised.ema", "label.stride"):
        assert key in page.ids
    assert "number in [0, 1)" in page.source  # optim.ema
    assert "<td><code>0.25</code></td>" in page.source  # loss.cross_entropy


# Formulas and figures


def test_formulas_are_mathml(site: Path, read: Callable[[str], Page]) -> None:
    text = (DOCS / "mathematics.md").read_text(encoding="utf-8")
    blocks_of_formulas = len(re.findall(r"^\$\$\n.*?^\$\$$", text, re.DOTALL | re.MULTILINE))
    page = read("mathematics.html")
    assert page.source.count('display="block"') == blocks_of_formulas > 15
    assert "<mfrac><mrow><mi>P</mi><mo>&#x0002B;</mo><mi>Y</mi>" in page.source
    for path in site.rglob("*.html"):
        assert "arithmatex" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize(
    ("tex", "made"),
    [
        ("p < y", "<mi>p</mi><mo>&#x0003C;</mo><mi>y</mi>"),
        (r"\frac{M}{D}", "<mfrac><mrow><mi>M</mi></mrow><mrow><mi>D</mi></mrow></mfrac>"),
    ],
)
def test_a_formula(tex: str, made: str) -> None:
    from scripts.docs_site.formulas import to_mathml

    escaped = tex.replace("<", "&lt;")
    page = to_mathml(f'a <span class="arithmatex">\\({escaped}\\)</span> b')
    assert page.startswith(f'a <math alttext="{escaped}" ')
    assert made in page


def test_reductions_are_raised() -> None:
    from scripts.docs_site.formulas import raise_reductions

    assert raise_reductions("mIoU^D, ^I") == "mIoU<sup>D</sup>, <sup>I</sup>"
    assert raise_reductions(r"\mathrm{mIoU}^D, 2^C") == r"\mathrm{mIoU}^D, 2^C"


def test_examples_of_docstrings_are_code(read: Callable[[str], Page]) -> None:
    source = read("reference/losses.html").source
    assert source.count("&gt;&gt;&gt; ") > 5
    assert '<details class="example"' not in source


def test_unknown_commands_of_a_formula_fail() -> None:
    from scripts.docs_site.formulas import to_mathml

    with pytest.raises(ValueError, match=r"Cannot turn the formula .* into MathML"):
        to_mathml('<span class="arithmatex">\\(\\nothing x\\)</span>')


def test_every_figure_is_drawn_and_told(site: Path, read: Callable[[str], Page]) -> None:
    drawn = {path.stem for path in (site / "figures").glob("*.svg")}
    shown = set()
    for name in PAGES:
        wanted = re.findall(r"!\[[^\]]+\]\([./]*figures/([\w-]+)\.svg\)", (DOCS / name).read_text())
        page = read(name.removesuffix("md") + "html")
        assert len(page.figures) == len(wanted)
        assert not any("figures/" in load for load in page.loads)
        shown |= set(wanted)
    assert shown == drawn
    assert len(drawn) >= 10


def test_figures_take_the_ink_of_the_page(site: Path) -> None:
    for path in (site / "figures").glob("*.svg"):
        drawing = path.read_text(encoding="utf-8")
        assert "currentColor" in drawing
        assert "<style" not in drawing  # it would be one for the whole page
        for colour in ("#000000", "#010203", "#ffffff"):
            assert colour not in drawing, f"{path.name} holds {colour}"


def test_figures_need_an_alternative_text() -> None:
    from scripts.docs_site.figures import inline

    with pytest.raises(ValueError, match=r"overlap needs an alternative text, but has 'masses'"):
        inline('<img alt="masses" src="../figures/overlap.svg" />')


def test_minima_are_where_the_figure_says() -> None:
    from scripts.docs_site.figures.losses import minimum

    markers: dict[str, list[float]] = {}
    for axis in minimum().axes:
        lines = iter(axis.lines)
        for line, dot in zip(lines, lines, strict=False):
            if dot.get_marker() == "o":
                markers.setdefault(str(line.get_label()), []).extend(np.asarray(dot.get_xdata()))
    assert markers["soft Jaccard (product)"] == [1.0, 1.0]
    for form in ("JML, form 1", "JML, form 2"):
        assert markers[form] == pytest.approx([0.3, 0.7])


def test_the_figure_of_mixtures_shows_a_switch_and_a_line() -> None:
    from scripts.docs_site.figures.losses import mixture

    right = mixture().axes[1]
    both, mixed = (np.asarray(line.get_ydata()) for line in right.lines)
    assert both[:50] == pytest.approx(1.0)
    assert both[51:] == pytest.approx(0.7)
    assert mixed == pytest.approx(np.linspace(1, 0.7, 101), abs=0.0026)  # half a step of the grid


# Code in the pages


@pytest.fixture(scope="module")
def calibrated(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run with a temperature beside its checkpoint."""
    from softiou.calibration import calibrate, save_calibration
    from softiou.checkpoints import load_trained
    from softiou.data import open_dataset

    run = shutil.copytree(trained.directory, tmp_path_factory.mktemp("runs") / "calibrated")
    data, model = str(trained.data), load_trained(run)
    dataset = open_dataset(data, "val")
    save_calibration(calibrate(model.model, dataset, data=data, precision="fp32"), model)
    return run


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calibrated: Path) -> dict[str, Any]:
    """What pages take for granted: tensors, and a folder with a run and images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for run in ("NAME-001", "shapes"):
        (tmp_path / "runs" / run).symlink_to(calibrated)
    Image.new("RGB", (48, 40)).save(tmp_path / "large.png")
    masks = torch.randint(0, 19, (2, 16, 16))
    raters = torch.randint(0, 2, (2, 3, 16, 16))
    probs = torch.rand(2, 19, 16, 16).softmax(1)
    return {"masks": masks, "annotators": raters, "batches": [(probs, masks)]}


@pytest.mark.parametrize(
    "page",
    [
        "index.md",
        "getting-started.md",
        "how-to/soft-labels.md",
        "how-to/evaluation.md",
        "how-to/prediction.md",
    ],
)
def test_python_runs(page: str, names: dict[str, Any]) -> None:
    found = list(blocks(page, "python"))
    assert found
    for code in found:
        exec(compile(code, page, "exec"), names)


def test_python_of_trainings_runs(
    names: dict[str, Any], trained: TrainedRun, tmp_path: Path
) -> None:
    """With a network that needs no download and a few steps instead of two thousand."""
    shutil.copytree(trained.data, tmp_path / "DATA")
    (tmp_path / "IMAGES").symlink_to(trained.data / "test" / "images")
    few = (
        'steps=10, precision="fp32", '
        'config={"data": {"crop_px": [32, 32], "batch_size": 2, "workers": 0}}'
    )
    tiny = 'architecture="linknet", encoder="tu-test_efficientnet", encoder_weights="none"'
    for code in blocks("how-to/from-python.md", "python"):
        code = code.replace("steps=2000", few).replace('encoder="resnet50"', tiny)
        exec(compile(code, "from-python.md", "exec"), names)
    assert names["run"].report().path.is_file()


def test_own_model_data_set_and_logger_take_fifteen_lines() -> None:
    (code,) = (code for code in blocks("how-to/from-python.md", "python") if "CSVLogger" in code)
    assert len([line for line in code.splitlines() if line]) <= 15
    exec(compile(code.partition("model =")[0], "from-python.md", "exec"), {"__name__": "alone"})


def test_sessions_say_what_they_say() -> None:
    failed, tried = doctest.testfile(str(DOCS / "mathematics.md"), module_relative=False)
    assert tried > 10
    assert failed == 0


def commands(page: str) -> Iterator[list[str]]:
    """Yield the words of each command of softiou in the shell blocks of a page."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["softiou"]:
                yield words


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_commands_and_settings_exist(page: str) -> None:
    from scripts.docs_site.command_line import verbs
    from scripts.docs_site.configuration import knobs
    from softiou.configuration.sections import LabellingConfig

    known = dict(verbs())
    settings = {*knobs(), *LabellingConfig.model_fields, "labels"}
    for words in commands(page):
        name = next(n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in known)
        options = {o for one in known[name].params for o in (*one.opts, *one.secondary_opts)}
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in {*options, "--help"}, " ".join(words)
            elif "=" in word:
                assert word.partition("=")[0] in settings, " ".join(words)


@pytest.mark.slow
def test_getting_started_works_to_the_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute of training, and what is done with the result."""
    monkeypatch.chdir(tmp_path)
    write_data, use_it, *_ = blocks("getting-started.md", "python")
    names: dict[str, Any] = {}
    exec(compile(write_data, "getting-started.md", "exec"), names)
    for words in commands("getting-started.md"):
        if words[1] != "demo":
            subprocess.run([sys.executable, "-m", *words], check=True, timeout=600)
    exec(compile(use_it, "getting-started.md", "exec"), names)
    assert names["mask"].shape == (96, 128)
    assert len(list((tmp_path / "masks").glob("*.png"))) >= 8
    assert (tmp_path / "runs" / "shapes" / "report.html").exists()
