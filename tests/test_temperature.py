"""Scaling of logits: what is fitted, and that it is never worse than nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor

from softiou.metrics import ExpectedCalibrationError
from softiou.temperature import KINDS, Kind, LogitScaling, fit_scaling, negative_log_likelihood

every_kind = pytest.mark.parametrize("kind", KINDS)


def _logits(pixels: int, num_classes: int, *, spread: float = 3.0) -> Tensor:
    return spread * torch.randn(pixels, num_classes)


def _drawn(logits: Tensor) -> Tensor:
    """Labels that the softmax of the logits is right about."""
    return torch.multinomial(logits.softmax(1), 1).squeeze(1)


def _ece(logits: Tensor, target: Tensor) -> float:
    metric = ExpectedCalibrationError(num_classes=logits.shape[1])
    metric.update(logits.softmax(1).T.unsqueeze(0), target.unsqueeze(0))
    return float(metric.compute())


# Applying


def test_scaling_by_hand() -> None:
    scaling = LogitScaling("vector", scale=(2.0, 1.0, 0.5), bias=(0.0, 1.0, -1.0))
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    assert scaling.apply(logits).tolist() == [[2.0, 3.0, 1.0]]
    assert scaling.apply(logits.T, dim=0).T.tolist() == [[2.0, 3.0, 1.0]]
    maps = logits.view(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert scaling.apply(maps)[1, :, 3, 4].tolist() == [2.0, 3.0, 1.0]


def test_one_number_does_for_any_number_of_classes() -> None:
    scaling = LogitScaling("temperature", (0.5,))
    for num_classes in (2, 19):
        logits = _logits(10, num_classes)
        assert torch.equal(scaling.apply(logits), logits / 2)


def test_dtype_stays() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert (
            LogitScaling("temperature", (0.5,)).apply(torch.ones(1, 2, dtype=dtype)).dtype == dtype
        )


def test_scaling_commutes_with_interpolation() -> None:
    scaling = LogitScaling("vector", (2.0, 1.0, 0.5), (3.0, 1.0, -1.0))
    low = torch.randn(2, 3, 5, 7)
    before = torch.nn.functional.interpolate(scaling.apply(low), (33, 50), mode="bilinear")
    after = scaling.apply(torch.nn.functional.interpolate(low, (33, 50), mode="bilinear"))
    torch.testing.assert_close(before, after)


@given(st.floats(0.01, 100), st.integers(2, 30))
def test_one_temperature_never_changes_predictions(scale: float, num_classes: int) -> None:
    logits = torch.randn(100, num_classes)
    scaled = LogitScaling("temperature", (scale,)).apply(logits)
    assert torch.equal(scaled.argmax(1), logits.argmax(1))


def test_scaling_can_be_exported() -> None:
    scaling = LogitScaling("vector", (2.0, 1.0, 0.5), (3.0, 1.0, -1.0))

    class Scaled(torch.nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return scaling.apply(logits).softmax(1)

    logits = torch.randn(1, 3, 4, 4)
    exported = torch.export.export(Scaled(), (logits,)).module()
    torch.testing.assert_close(exported(logits), scaling.apply(logits).softmax(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tempreature", (1.0,)), "`kind` to be one of 'temperature', 'class_temperature', 'vect"),
        (("vector", (1.0, 2.0), (1.0, 2.0, 3.0)), "one for each class, but got 2 and 3"),
        (("vector", ()), "but got 0 and 1"),
    ],
)
def test_scaling_that_does_not_fit_together(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogitScaling(*arguments)


def test_other_number_of_classes_is_refused() -> None:
    scaling = LogitScaling("vector", (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match=r"`logits` to have 3 classes.*got 4 in shape \(5, 4\)"):
        scaling.apply(torch.zeros(5, 4))


# Likelihood


@pytest.mark.parametrize("scaling", [None, LogitScaling("vector", (2.0, 0.5), (0.0, 1.0))])
def test_likelihood_is_that_of_torch(scaling: LogitScaling | None) -> None:
    logits, target = _logits(1000, 2), torch.randint(2, (1000,))
    scaled = (logits if scaling is None else scaling.apply(logits)).double()
    expected = torch.nn.functional.cross_entropy(scaled, target)
    assert negative_log_likelihood(logits, target, scaling) == pytest.approx(float(expected))
    soft = torch.rand(1000, 2).double()
    soft /= soft.sum(1, keepdim=True)
    expected = torch.nn.functional.cross_entropy(scaled, soft)
    assert negative_log_likelihood(logits, soft, scaling) == pytest.approx(float(expected))


def test_likelihood_without_pixels_is_undefined() -> None:
    assert np.isnan(negative_log_likelihood(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)))


def test_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = _logits(1000, 5)
    target = _drawn(logits / 2)
    whole, scaling = negative_log_likelihood(logits, target), fit_scaling(logits, target)
    monkeypatch.setattr("softiou.temperature._CHUNK", 64)
    assert negative_log_likelihood(logits, target) == pytest.approx(whole, rel=1e-12)
    assert fit_scaling(logits, target).scale == pytest.approx(scaling.scale, rel=1e-6)


# Fitting


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_known_temperature_is_found(temperature: float) -> None:
    logits = _logits(100_000, 5, spread=3 * max(1, temperature))
    scaling = fit_scaling(logits, _drawn(logits / temperature))
    assert len(scaling.scale) == 1
    assert scaling.bias == (0.0,)
    assert 1 / scaling.scale[0] == pytest.approx(temperature, rel=0.03)


def test_temperature_is_that_of_scipy() -> None:
    logits = _logits(2000, 4)
    target = _drawn(logits / 1.7)

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / temperature, target))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-10})
    assert 1 / fit_scaling(logits, target).scale[0] == pytest.approx(best.x, rel=1e-5)


def test_known_temperatures_of_classes_are_found() -> None:
    scale = torch.tensor([0.3, 0.5, 1.0, 1.5])
    logits = _logits(200_000, 4)
    scaling = fit_scaling(logits, _drawn(logits * scale), kind="class_temperature")
    assert scaling.scale == pytest.approx(scale.tolist(), rel=0.05)
    assert set(scaling.bias) == {0.0}


def test_known_vector_is_found() -> None:
    scale, bias = torch.tensor([0.3, 0.5, 1.0]), torch.tensor([1.0, -1.5, 0.5])
    logits = _logits(200_000, 3)
    scaling = fit_scaling(logits, _drawn(logits * scale + bias), kind="vector")
    assert scaling.scale == pytest.approx(scale.tolist(), abs=0.02)
    assert scaling.bias == pytest.approx(bias.tolist(), abs=0.04)
    assert sum(scaling.bias) == pytest.approx(0, abs=1e-9)


@every_kind
def test_soft_targets_are_met_exactly(kind: Kind) -> None:
    """The true probabilities as targets leave no sampling error."""
    logits = _logits(3000, 3)
    scaling = fit_scaling(logits, (logits.double() / 2).softmax(1), kind=kind)
    assert scaling.scale == pytest.approx([0.5] * len(scaling.scale), abs=1e-4)
    assert scaling.bias == pytest.approx([0.0] * len(scaling.bias), abs=1e-4)


@every_kind
def test_one_hot_targets_are_hard_targets(kind: Kind) -> None:
    logits = _logits(3000, 3)
    target = _drawn(logits / 2)
    hard = fit_scaling(logits, target, kind=kind)
    soft = fit_scaling(logits, torch.nn.functional.one_hot(target).float(), kind=kind)
    assert soft.scale == pytest.approx(hard.scale, abs=1e-5)
    assert soft.bias == pytest.approx(hard.bias, abs=1e-5)


@every_kind
def test_over_confidence_falls(kind: Kind) -> None:
    logits = _logits(50_000, 6)
    target = _drawn(logits / 3)
    scaling = fit_scaling(logits, target, kind=kind)
    assert _ece(logits, target) > 0.15
    assert _ece(scaling.apply(logits), target) < 0.01


@every_kind
@given(seed=st.integers(0, 2**32 - 1), pixels=st.integers(1, 40), num_classes=st.integers(2, 5))
def test_likelihood_is_never_worse(kind: Kind, seed: int, pixels: int, num_classes: int) -> None:
    torch.manual_seed(seed)
    logits = _logits(pixels, num_classes, spread=float(10 * torch.rand(())))
    target = torch.randint(num_classes, (pixels,))
    scaling = fit_scaling(logits, target, kind=kind)
    before = negative_log_likelihood(logits, target)
    assert negative_log_likelihood(logits, target, scaling) <= before
    assert np.isfinite([*scaling.scale, *scaling.bias]).all()
    if kind != "vector":
        assert min(scaling.scale) > 0


def test_more_numbers_fit_no_worse() -> None:
    logits = _logits(5000, 4)
    target = _drawn(logits * torch.tensor([0.3, 1.0, 0.5, 2.0]) + torch.tensor([1.0, 0, 0, 0]))
    losses = [
        negative_log_likelihood(logits, target, fit_scaling(logits, target, kind=kind))
        for kind in KINDS
    ]
    assert losses == sorted(losses, reverse=True)


@every_kind
def test_perfect_and_hopeless_models_stay_finite(kind: Kind) -> None:
    logits = 5 * torch.nn.functional.one_hot(torch.arange(3).repeat(20)).float()
    for target in (logits.argmax(1), (logits.argmax(1) + 1) % 3):
        scaling = fit_scaling(logits, target, kind=kind)
        assert np.isfinite([*scaling.scale, *scaling.bias]).all()
    right = fit_scaling(logits, logits.argmax(1))
    assert right.scale[0] > 1  # surer, down to where the loss is nothing
    wrong = fit_scaling(logits, (logits.argmax(1) + 1) % 3)
    assert wrong.scale[0] < 0.1  # it knows nothing: no confidence at all


@pytest.mark.parametrize("kind", ["class_temperature", "vector"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_class_that_never_occurs_is_left_alone(kind: Kind, soft: bool) -> None:
    """Making it ever less likely would pay; then it could never be predicted again."""
    logits = _logits(20_000, 4)
    target = _drawn(logits[:, :3] / 2)
    truth = torch.nn.functional.one_hot(target, 4).float() if soft else target
    scaling = fit_scaling(logits, truth, kind=kind)
    assert scaling.scale[3] == fit_scaling(logits, truth).scale[0]
    assert scaling.bias[3] == 0
    assert scaling.scale[0] != scaling.scale[3]


@every_kind
def test_fit_repeats_itself_and_takes_no_gradient(kind: Kind) -> None:
    logits = _logits(1000, 3).requires_grad_()
    target = _drawn(logits.detach() / 2)
    first = fit_scaling(logits, target, kind=kind)
    with torch.no_grad():
        assert fit_scaling(logits, target, kind=kind) == first
    assert logits.grad is None


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), r"P > 0, but got .* \(0, 3\)"),
        (torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.long), r"shape \(P, C\)"),
        (torch.zeros(2, 3).long(), torch.zeros(2, dtype=torch.long), "floating"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), r"`target` to have shape \(2,\)"),
        (torch.zeros(2, 3), torch.zeros(2, 4), r"`target` to have shape \(2, 3\)"),
        (torch.tensor([[1.0, torch.inf]]), torch.zeros(1, dtype=torch.long), "`logits` to be fin"),
    ],
)
def test_pixels_that_cannot_be_fitted(logits: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_scaling(logits, target)


def test_unknown_kind() -> None:
    wrong: Any = "matrix"
    with pytest.raises(ValueError, match="`kind` to be one of"):
        fit_scaling(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), kind=wrong)
