"""What all tests share: how hypothesis runs, one seed, and a tiny run of the trainer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

# No deadline: the first call of an operator is slow, and so is a machine that also trains.
settings.register_profile("softiou", deadline=None)
settings.load_profile("softiou")

pytest_plugins = ["small_data"]

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
