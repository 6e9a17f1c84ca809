"""Moving averages whose speed follows the length of the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from softiou.checkpoints import load_trained, read_checkpoint
from softiou.recipes.averaging import averaging, ema_decay
from softiou.training import resolve_config, start_training

Make = Callable[..., Any]


@pytest.mark.parametrize("steps", [20, 400, 600, 12_000])
def test_after_five_per_cent_of_the_steps_half_is_left(steps: int) -> None:
    assert ema_decay(steps) ** (0.05 * steps) == pytest.approx(0.5, abs=0.003)


def test_shortest_and_longest_runs() -> None:
    assert ema_decay(1) == 0.5
    assert ema_decay(10**6) == 0.999


def test_auto_is_resolved_in_both_sections(tiny_config: Make) -> None:
    config = resolve_config(tiny_config("optim.ema=auto", "optim.steps=400"))
    assert config.optim.ema == ema_decay(400) == 0.96594
    source = {"source": "digits"}
    semi = ("semi_supervised.ema=auto", "data.train_split=1_16", "optim.steps=600")
    config = resolve_config(tiny_config(*semi, **source))
    assert config.semi_supervised is not None
    assert config.semi_supervised.ema == ema_decay(600)
    fixed = resolve_config(tiny_config(*semi[1:], "semi_supervised.weight=1", **source))
    assert fixed.semi_supervised is not None
    assert fixed.semi_supervised.ema == 0.99


def test_average_moves_fast_at_the_start_and_then_with_the_decay() -> None:
    average, values = torch.zeros(1), []
    for update in range(1, 5):  # the first update, number 0, copies
        averaging(0.6)([average], [torch.ones(1)], torch.tensor(update))
        values.append(1 - average.item())
    left = [0.5]
    for decay in (0.6, 0.6, 0.6):
        left.append(left[-1] * decay)
    assert values == pytest.approx(left)


def test_evaluated_weights_are_the_average(tiny_config: Make, tmp_path: Path) -> None:
    run = start_training(tiny_config("optim.ema=0.5", "optim.steps=3"), directory=tmp_path / "run")
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    own = {name: x for name, x in content["current_model_state"].items() if "weight" in name}
    averaged = load_trained(run / "checkpoints" / "last.ckpt").model.state_dict()
    assert any(not averaged[name.removeprefix("model.")].equal(x) for name, x in own.items())
