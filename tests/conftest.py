"""What all tests share: how hypothesis runs, one seed, and a tiny run of the trainer."""

import atexit
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

from scripts.build_native import build
from softiou import _screen

# No deadline: the first call of an operator is slow, and so is a machine that also trains.
settings.register_profile("softiou", deadline=None, max_examples=50)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "softiou"))

pytest_plugins = ["small_data"]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the C files again after a change; the processes of a parallel run find them made."""
    if not hasattr(session.config, "workerinput"):
        build()


def pytest_collection_finish() -> None:
    """Keep what is imported out of garbage collections, each of which would go through it."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


def pytest_sessionfinish() -> None:
    """Let the libraries clean up, which count what is left."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remember nothing in the home of the user, here and in the processes that tests start."""
    os.environ["SOFTIOU_CACHE"] = str(tmp_path_factory.mktemp("cache"))


# Tests that run long and whose lines others run as well. They run without coverage, which makes
# what happens inside of Lightning, torch.compile or an exporter take half as long again.
WITHOUT_COVERAGE = (
    "tests/benchmarks/",
    "tests/browser/",
    "tests/examples/",
    "tests/cli/test_published.py::test_two_steps",
    "tests/exporting/test_running.py::test_files_predict_what_the_checkpoint_does[onnx-settings0]",
    "tests/models/test_architectures.py::test_logits_are_those_of_the_whole_network",
    "tests/models/test_architectures.py::test_two_steps",
    "tests/models/test_vit.py::test_exported_programs_take_any_size[linear",
    "tests/models/test_vit.py::test_two_steps[dpt-tu-eva02",
    "tests/models/test_vit.py::test_two_steps[eomt-tu-vit_small_patch16",
    "tests/models/test_vit.py::test_two_steps[linear-tu-eva02",
    "tests/overlap/test_compile.py::test_compiled_step_has_no_graph_break",
    "tests/recipes/test_configs.py::test_two_steps",
    "tests/recipes/test_distillation.py::test_resumed_run_is_the_same",
    "tests/recipes/test_distillation.py::test_self_training",
    "tests/recipes/test_semi_supervised.py::test_interrupted_run",
    "tests/recipes/test_training.py::test_interrupted_",
    "tests/recipes/test_training.py::test_training_learns",
    "tests/targets/test_every_kind.py::test_compiles_in_one_graph",
    "tests/test_docs.py::test_python_runs",
)

# Tests that look at the charts of reports, which take a second each report.
WITH_CHARTS = ("src/", "tests/browser/", "tests/examples/", "tests/reports/")

MakeShapes = Callable[..., Path]
MakeConfig = Callable[..., Any]

# A real network of a hundred thousand weights: 15 ms a step.
TINY = (
    "model.architecture=linknet",
    "model.encoder=tu-test_efficientnet",
    "model.encoder_weights=none",
    "data.crop_px=[32, 32]",
    "data.batch_size=2",
    "data.workers=0",
    "data.scale=[1, 1]",
    "data.colour=0",
    "optim.learning_rate=0.01",
    "optim.weight_decay=0.01",
    "precision=fp32",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run without coverage."""
    for item in items:
        if item.nodeid.startswith(WITHOUT_COVERAGE):
            item.add_marker("no_cover")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave the charts of reports out of all other tests, and of their fixtures."""
    charts: Any = sys.modules.get("softiou.reports.charts")
    if charts is not None:
        draw = vars(charts).setdefault("_draw", charts._to_svg)
        with_charts = item.nodeid.startswith(WITH_CHARTS)
        charts._to_svg = draw if with_charts else lambda *_: "<svg></svg>"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, the data set it was trained on and the lines that it printed."""

    directory: Path
    data: Path
    said: tuple[str, ...]


def _scene(random: np.random.Generator) -> tuple[Any, Any]:
    """A red box over a dark ground, and its mask; 40 x 48 pixels, no multiple of a stride."""
    image = random.integers(0, 60, (40, 48, 3))
    mask = np.zeros((40, 48), np.uint8)
    top, left = random.integers(0, 20, 2)
    mask[top : top + 18, left : left + 18] = 1
    image[mask == 1, 0] += 180
    return image.astype(np.uint8), mask


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function of another package, which calls none of ours, without coverage."""

    @wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*arguments, **settings)
        finally:
            sys.settrace(tracer)

    return call


@pytest.fixture(scope="session", autouse=True)
def _exporters_are_untraced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for home, name in ((torch.onnx, "export"), (torch.export, "save"), (torch.export, "load")):
            patch.setattr(home, name, untraced(getattr(home, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_slow() -> None:
    """A busy machine prints no lines about slow work: tests that want them say so."""
    _screen.SLOW_SECONDS = 600.0


@pytest.fixture(scope="session")
def make_shapes() -> MakeShapes:
    """Return a function that writes a folder of scenes."""

    def make(root: Path, *, annotators: int = 1, **sizes: int) -> Path:
        random = np.random.default_rng(0)
        for split, size in (sizes or {"train": 10, "val": 3, "test": 3}).items():
            for index in range(size):
                image, mask = _scene(random)
                for annotator in range(annotators):
                    name = "masks" if annotators == 1 else f"masks_{annotator + 1}"
                    path = root / split / name / f"{split}{index}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    # Annotators disagree on where the box begins.
                    Image.fromarray(np.roll(mask, annotator, axis=1)).save(path)
                (root / split / "images").mkdir(exist_ok=True)
                Image.fromarray(image).save(root / split / "images" / f"{split}{index}.png")
        classes = {"classes": ["ground", "box", "nothing"]}
        (root / "dataset.yaml").write_text(yaml.safe_dump(classes), encoding="utf-8")
        return root

    return make


@pytest.fixture(scope="session")
def shapes(make_shapes: MakeShapes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 10, 3 and 3 scenes with the classes ground, box and one that never occurs."""
    return make_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Settings of the smallest network."""
    return TINY


@pytest.fixture(scope="session")
def tiny_config(shapes: Path) -> MakeConfig:
    """Return a function that makes the configuration of a short run; later settings win."""
    from softiou.configuration import load_config

    def make(*overrides: str, source: Path = shapes) -> Any:
        short = ("optim.steps=6", "optim.validations=2")
        return load_config(source=str(source), overrides=[*TINY, *short, *overrides])

    return make


@pytest.fixture(scope="session")
def trained(
    shapes: Path, tiny_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> TrainedRun:
    """A run of 80 steps; tests must not write into it."""
    from softiou.training import start_training

    said: list[str] = []
    run = start_training(
        tiny_config("optim.steps=80", "optim.validations=4"),
        directory=tmp_path_factory.mktemp("runs") / "trained",
        command="softiou train shapes",
        say=said.append,
    )
    return TrainedRun(run, shapes, tuple(said))


@pytest.fixture
def processor_seconds() -> Callable[[str], float]:
    """The processor time of a Python program: on a busy machine the clock tells of neighbours."""

    import resource

    def seconds(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return seconds
