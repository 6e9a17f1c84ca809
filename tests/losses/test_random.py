"""Random settings, targets and implementations against the float64 loops, value and gradient.

1,000 comparisons in the default run, 10,000 under the marker `slow`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference import overlap_loops
from softiou import TverskyLoss, targets

CHUNK = 50
KINDS = ("hard", "ignored", "soft", "one-hot", "smoothed", "votes", "sparse", "mixed")


def labels_of(rng: np.random.Generator, shape: tuple[int, ...], num_classes: int) -> Tensor:
    return torch.from_numpy(rng.integers(0, max(num_classes, 2), shape))


def draw_target(rng: np.random.Generator, shape: tuple[int, ...], activation: str) -> Any:
    """Draw any kind of target that fits the activation."""
    N, C, *space = shape
    hard = labels_of(rng, (N, *space), C)
    exclusive = activation != "sigmoid" and C > 1
    kind = str(rng.choice(KINDS if exclusive else KINDS[:4]))
    soft = torch.from_numpy(rng.random(shape))
    if exclusive:
        soft = torch.from_numpy(np.moveaxis(rng.dirichlet([0.5] * C, (N, *space)), -1, 1).copy())
    if kind == "ignored":
        return torch.where(torch.from_numpy(rng.random((N, *space)) < 0.2), 255, hard)
    if kind == "one-hot":
        return torch.nn.functional.one_hot(hard, max(C, 2)).movedim(-1, 1)[:, -C:]
    choices: dict[str, Callable[[], Any]] = {
        "hard": lambda: hard,
        "soft": lambda: soft,
        "smoothed": lambda: targets.boundary(hard, float(rng.random())),
        "votes": lambda: targets.votes(torch.stack([hard, hard.flip(-1)], 1)),
        "sparse": lambda: targets.sparse(*soft.topk(2, 1)[::-1]),
        "mixed": lambda: targets.mix((0.3, hard), (0.7, soft)),
    }
    return choices[kind]()


def draw_more(rng: np.random.Generator, shape: tuple[int, ...], target: Any) -> dict[str, Any]:
    """Draw a dtype, a reduction, and sometimes one of the targets that are computed from others."""
    exclusive = not isinstance(target, Tensor)  # so are the kinds that are no tensors
    if exclusive and rng.integers(3) == 0:
        hard = labels_of(rng, (shape[0], *shape[2:]), shape[1])
        logits = torch.from_numpy(rng.normal(0, 3, shape)).float()
        target = [targets.gaussian(hard, sigma=0.7), targets.teacher(logits, temperature=2.0)][
            rng.integers(2)
        ]
    dtypes = [torch.float32, torch.float32, torch.bfloat16, torch.float16]
    reduction = str(rng.choice(["mean", "mean", "sum", "none"]))
    return {"target": target, "dtype": dtypes[rng.integers(4)], "reduction": reduction}


def draw_settings(rng: np.random.Generator, activation: str, C: int) -> dict[str, Any]:
    mixed = activation != "none"
    weights = [float(w) for w in rng.choice([0.5, 1.0, 2.0], C)]
    settings: dict[str, Any] = {
        "form": [1, 2, "product"][rng.integers(3)],
        "alpha": float(rng.choice([0.3, 0.5, 1.0])),
        "beta": float(rng.choice([0.5, 0.7, 1.0])),
        "gamma": float(rng.choice([0.75, 1.0, 1.0, 2.0])),
        "log": bool(rng.integers(2)),
        "smooth": float(rng.choice([0.0, 1e-6, 1.0])),
        "per": str(rng.choice(["batch", "image", "class"])),
        "classes": [*("present", "all", "label"), [0]][rng.integers(4)],
        "class_weights": weights if rng.integers(2) else None,
    }
    entropy: dict[str, Any] = {}
    if mixed and rng.integers(2):
        entropy = {"label_smoothing": float(rng.choice([0.0, 0.1]))}
        entropy["focal_gamma"] = float(rng.choice([0.0, 2.0]))
    return {"share": 0.25 * bool(entropy), "settings": settings, "entropy": entropy}


def expected_of(data: Any, drawn: dict[str, Any], weights: Any, reduction: str) -> float:
    share = drawn["share"]
    more: dict[str, Any] = {"reduction": reduction}
    value = (1 - share) * overlap_loops.overlap_loss(data, **drawn["settings"], **more)
    if share:
        entropy = overlap_loops.mean_cross_entropy(
            data, class_weights=weights, **drawn["entropy"], **more
        )
        value += share * entropy
    return float(value)


def compare(seed: int) -> None:
    rng = np.random.default_rng(seed)
    activation = str(rng.choice(["softmax", "softmax", "sigmoid", "none"]))
    C = int(rng.integers(2 if activation == "softmax" else 1, 5))
    shape = (int(rng.integers(1, 3)), C, int(rng.integers(1, 4)), int(rng.integers(1, 6)))
    # Up to gaps of a hundred, where float32 leaves denormal numbers.
    logits = torch.from_numpy(rng.normal(0, rng.choice([1.0, 5.0, 30.0]), shape)).float()
    if activation == "none":
        logits = torch.from_numpy(rng.random(shape)).float()
    target = draw_target(rng, shape, activation)
    more = draw_more(np.random.default_rng([seed, 1]), shape, target)
    target, reduction = more["target"], more["reduction"]
    logits = logits.to(more["dtype"])
    drawn = draw_settings(rng, activation, C)
    weights = [float(w) for w in rng.choice([0.5, 1.0, 2.0], C)] if rng.integers(2) else None
    options = drawn["settings"] | drawn["entropy"] | {"ignore_index": 255}
    options |= {"activation": activation, "cross_entropy": drawn["share"]}
    options |= {"reduction": reduction}
    options |= {"cross_entropy_weights": weights} if drawn["share"] else {}
    maps: dict[str, Any] = {}
    if rng.integers(2):
        maps["weights"] = torch.from_numpy(rng.choice([0.0, 0.5, 2.0], (shape[0], *shape[2:])))
    plain = target if isinstance(target, Tensor) else target.dense(C, torch.float64).y
    data = overlap_loops.prepare(
        logits.double().numpy(),
        plain.numpy(),
        activation=activation,
        ignore_index=255,
        weights=maps["weights"].numpy() if maps else None,
    )
    expected = expected_of(data, drawn, weights, reduction)
    exact = logits.double().requires_grad_()
    value = TverskyLoss(impl="torch", **options)(exact, target, **maps).sum()
    assert value.item() == pytest.approx(expected, rel=1e-8, abs=1e-8), seed
    (right,) = torch.autograd.grad(value, exact)
    impl = str(rng.choice(["torch", "chunked", "native"]))
    leaf = logits.clone().requires_grad_()
    value = TverskyLoss(impl=impl, tile=int(rng.integers(1, 8)), **options)(leaf, target, **maps)
    value = value.sum()
    (found,) = torch.autograd.grad(value, leaf)
    # A root of float32's rounding is what gamma = 3/4 makes of it, near agreement.
    loose = options["gamma"] < 1
    rel, least = (1e-2, 1e-4) if loose else (2e-5, 2e-5)
    assert value.item() == pytest.approx(expected, rel=rel, abs=least), (seed, impl, options)
    assert torch.isfinite(found).all()
    # 1 - p has the rounding of float32, whatever is left of it, times a slope that is as steep as a
    # logarithm is large.
    scale = max(float(right.abs().max()), 1e-4 * max(1.0, abs(expected)))
    error = float((found.double() - right).abs().max()) / scale
    rounding = torch.finfo(logits.dtype).eps  # of the gradient, which has the dtype of the logits
    assert error < (5e-2 if loose else 2e-3) + rounding, (seed, impl, options, error)


@pytest.mark.parametrize("chunk", range(20))
def test_random_settings(chunk: int) -> None:
    for seed in range(CHUNK * chunk, CHUNK * (chunk + 1)):
        compare(seed)


def test_a_certain_pixel_under_a_steep_logarithm() -> None:
    compare(2786)  # the loss is 154, and p * (1 / p) is not always 1


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(20, 200))
def test_random_settings_to_ten_thousand(chunk: int) -> None:
    for seed in range(CHUNK * chunk, CHUNK * (chunk + 1)):
        compare(seed)
