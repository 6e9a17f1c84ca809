"""Optimisers over groups of parameters, by hand."""

import pytest
import torch
from torch import Tensor

from softiou.recipes.schedule import build_optimizer


def _steps(name: str, *, momentum: float | None = None) -> tuple[float, float]:
    """Return a weight after one and after two steps; its gradient is 2, its rate 0.1."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [weight], "lr": 0.1, "weight_decay": 0.5}]
    optimizer = build_optimizer(name, groups, momentum=momentum)
    values: list[Tensor] = []
    for _ in range(2):
        weight.grad = torch.tensor([2.0])
        optimizer.step()
        values.append(weight.detach().clone())
    return float(values[0]), float(values[1])


def test_sgd_with_momentum_and_decay() -> None:
    # v1 = 2 + 0.5 * 1 = 2.5, w1 = 1 - 0.25; v2 = 0.9 * 2.5 + 2 + 0.5 * 0.75 = 4.625
    assert _steps("sgd", momentum=0.9) == pytest.approx((0.75, 0.75 - 0.4625))


@pytest.mark.parametrize("momentum", [None, 0.0])
def test_sgd_without_momentum(momentum: float | None) -> None:
    assert _steps("sgd", momentum=momentum) == pytest.approx((0.75, 0.75 - 0.1 * 2.375))


def test_adamw_decays_apart_from_the_gradient() -> None:
    # w1 = 1 * (1 - 0.1 * 0.5) - 0.1: the first step of Adam is the rate itself.
    first, second = _steps("adamw")
    assert first == pytest.approx(0.85)
    assert second == pytest.approx(0.85 * 0.95 - 0.1)


def test_groups_keep_their_own_rates() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [weight], "lr": rate, "weight_decay": 0.0}
        for weight, rate in zip(weights, (0.1, 0.01), strict=True)
    ]
    optimizer = build_optimizer("sgd", groups)
    for weight in weights:
        weight.grad = torch.ones(1)
    optimizer.step()
    assert [weight.item() for weight in weights] == pytest.approx([-0.1, -0.01])
