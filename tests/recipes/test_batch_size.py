"""The batch size that a GPU has room for, on a processor that stands for one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softiou.configuration import Config, load_config
from softiou.errors import ConfigError
from softiou.recipes.base import Recipe
from softiou.training import (
    CustomParts,
    config_of,
    plan_training,
    resume_training,
    start_training,
    trainer,
)
from softiou.training.batch_size import largest_batch

CPU = torch.device("cpu")


class Small(nn.Module):
    """A network that runs out of memory with more than some images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        out: Tensor = self.conv(x)
        return out


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor say how much memory is free."""
    monkeypatch.setattr(trainer, "free_memory", lambda device: 10 << 30)


@pytest.fixture
def auto(tiny: tuple[str, ...]) -> Callable[..., Config]:
    """Return a function that makes the configuration of a run without a batch size."""

    def make(source: str | Path, *overrides: str) -> Config:
        settings = [one for one in tiny if not one.startswith("data.batch_size")]
        settings += ["optim.steps=2", "optim.validations=1", *overrides]
        return load_config(source=str(source), overrides=settings)

    return make


@pytest.mark.parametrize(
    ("room", "most", "found", "tried"),
    [
        (1, 8, 2, [4]),  # whatever the first step takes, training says so
        (5, 32, 4, [4, 8]),
        (8, 32, 8, [4, 8, 16]),
        (20, 20, 20, [4, 8, 16, 20]),  # not 32
        (100, 5, 5, [4, 5]),
    ],
)
def test_sizes_double_until_the_memory_is_exhausted(
    room: int, most: int, found: int, tried: list[int]
) -> None:
    sizes: list[int] = []

    def step(size: int) -> None:
        sizes.append(size)
        if size > room:
            raise ConfigError("Out of memory") from torch.OutOfMemoryError()

    assert largest_batch(step, CPU, most=most, usual=8, key=f"{room} {most}", free=1) == found
    assert sizes == tried


def test_a_share_of_the_free_memory_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "softiou.training.batch_size._bytes_of", lambda step, size, device: size << 30
    )
    settings: Any = {"most": 32, "usual": 8, "key": "share"}
    assert largest_batch(lambda size: None, CPU, free=11 << 30, **settings) == 8
    assert largest_batch(lambda size: None, CPU, free=20 << 30, **settings) == 16  # of other memory


def test_another_error_is_raised() -> None:
    def step(size: int) -> None:
        raise ConfigError("something else")

    with pytest.raises(ConfigError, match="something else"):
        largest_batch(step, CPU, free=1, most=8, usual=8, key="error")


def test_the_number_is_written_down_and_kept(
    gpu: None, auto: Any, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said = Small(5), list[str]()
    before = model.conv.weight.clone()
    plan_training(auto(shapes), custom=CustomParts(model=model))
    assert model.conv.weight.equal(before)  # a copy has taken the steps
    custom = CustomParts(model=model)
    run = start_training(auto(shapes), directory=tmp_path / "run", say=said.append, custom=custom)
    assert "auto  data.batch_size: 4" in said
    assert config_of(run).data.batch_size == 4
    (run / "checkpoints" / "last.ckpt").unlink()
    monkeypatch.setattr(trainer, "free_memory", lambda device: 1 << 50)
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(Recipe, "on_train_start", lambda self: sizes.append(self.batch_sizes()))
    resume_training(run, custom=CustomParts(model=Small(100)))
    assert sizes == [(4, 0)]


def test_it_is_remembered_and_the_rate_stays(
    gpu: None, auto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def step(recipe: Recipe, *_: Any, **__: Any) -> None:
        sizes.append(recipe.config.data.batch_size)

    monkeypatch.setattr(trainer, "one_step", step)
    config = auto("digits", "optim.learning_rate=auto")
    for number in range(2):
        said: list[str] = []
        run = start_training(config, directory=tmp_path / str(number), say=said.append)
        assert "auto  data.batch_size: 32" in said
        assert "auto  optim.learning_rate is not scaled: it is for 8 images per step" in said
        assert sizes == [4, 8, 16, 32]
        written = config_of(run)
        assert (written.data.batch_size, written.optim.learning_rate) == (32, 0.0005)
    start_training(auto("digits", "data.crop_px=[64, 64]"), directory=tmp_path / "other")
    assert len(sizes) == 8


def test_few_images_keep_the_usual_batch(
    gpu: None, auto: Any, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "one_step", lambda *_, **__: None)
    assert plan_training(auto(shapes)).config.data.batch_size == 8  # of ten


def test_a_processor_takes_no_step(
    auto: Any, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(trainer, "one_step")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert plan_training(auto(shapes)).config.data.batch_size == 8
