"""The settings of the pass: checked once, kept by copies; and what a small call costs."""

import copy
import io
import json
import math
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softiou.losses import JaccardMetricLoss, OverlapLoss, TverskyLoss
from softiou.overlap import PassSettings, operators, overlap_statistics

LOGITS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))


def step(loss: OverlapLoss, logits: Tensor = LOGITS) -> tuple[Tensor, Tensor]:
    """Value and gradient."""
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, LABELS)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


# One object of settings


def test_settings_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, made = JaccardMetricLoss(cross_entropy=0.25, ignore_index=2), []
    monkeypatch.setattr(PassSettings, "__post_init__", lambda self: made.append(self))
    step(loss)
    assert made == []
    overlap_statistics(LOGITS, LABELS)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"activation": "tanh"}, "`activation` to be one of 'softmax'"),
        ({"impl": "fast"}, "`impl` to be one of 'auto'"),
        ({"upsample": "nearest"}, "`upsample` to be one of None"),
        ({"tile": 0}, "`tile` to be at least 1"),
        ({"activation": "none", "cross_entropy": True}, "set `cross_entropy` to 0"),
    ],
)
def test_wrong_settings_raise_when_they_are_made(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PassSettings(**wrong)


def test_attributes_of_a_loss_can_be_changed() -> None:
    loss = JaccardMetricLoss()
    loss.ignore_index, loss.impl, loss.tile = 1, "torch", 16
    assert loss.settings == PassSettings(ignore_index=1, impl="torch", tile=16)
    assert step(loss)[0] == step(JaccardMetricLoss(ignore_index=1, impl="torch"))[0]
    with pytest.raises(ValueError, match="`impl` to be one of"):
        loss.impl = "fast"
    assert loss.impl == "torch"


def test_what_is_gathered_follows_the_attributes() -> None:
    loss = JaccardMetricLoss()
    loss.cross_entropy, loss.classes = 0.25, "both"
    expected = JaccardMetricLoss(cross_entropy=0.25, classes="both")
    torch.testing.assert_close(step(loss), step(expected), rtol=0, atol=0)


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle", "save"])
def test_copies_compute_the_same(how: str) -> None:
    loss = JaccardMetricLoss(cross_entropy=0.25, ignore_index=2, class_weights=[1.0, 2.0, 3.0])
    if how == "save":
        buffer = io.BytesIO()
        torch.save(loss, buffer)
        buffer.seek(0)
        other = torch.load(buffer, weights_only=False)
    else:
        ways: dict[str, Callable[[Any], Any]] = {
            "copy": copy.copy,
            "deepcopy": copy.deepcopy,
            "pickle": lambda one: pickle.loads(pickle.dumps(one)),
        }
        other = ways[how](loss)
    assert other.settings == loss.settings
    assert list(other.state_dict()) == ["class_weights"]
    torch.testing.assert_close(step(other), step(loss), rtol=0, atol=0)


# The way there in eager mode


def test_nothing_is_written_as_text_in_eager_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("no text is needed here")

    expected = step(JaccardMetricLoss(cross_entropy=0.25))
    for module, name in ((operators, "pack"), (operators, "unpack"), (json, "loads")):
        monkeypatch.setattr(module, name, fail)
    torch.testing.assert_close(step(JaccardMetricLoss(cross_entropy=0.25)), expected)


def test_a_target_is_described_once_for_value_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from softiou.overlap import native

    if isinstance(native.library(), str):
        pytest.skip("no C compiler")
    calls: list[object] = []

    class Counted(native._Call):
        def __init__(self, job: Any) -> None:
            calls.append(job)
            super().__init__(job)

    monkeypatch.setattr(native, "_Call", Counted)
    step(JaccardMetricLoss(cross_entropy=0.25))
    assert len(calls) == 1


def test_logits_are_freed_by_the_backward_pass() -> None:
    """The graph may live longer, as in a training step that returns its loss."""
    from weakref import ref

    weight = torch.ones(1, requires_grad=True)
    logits = LOGITS * weight
    watched, loss = ref(logits.untyped_storage()), JaccardMetricLoss()(logits, LABELS)
    del logits
    loss.backward()
    assert watched() is None


@pytest.mark.parametrize("impl", ["auto", "chunked"])
def test_gradient_of_logits_that_were_packed_in_between(impl: str) -> None:
    """Hooks that move saved tensors hand back other memory, perhaps in another layout."""
    loss = JaccardMetricLoss(cross_entropy=0.25, impl=impl)
    expected = step(loss)

    def unpack(x: Tensor) -> Tensor:
        return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.ndim == 4 else x.clone()

    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
        found = step(loss)
    torch.testing.assert_close(found, expected)


def test_gradient_twice_with_the_graph_retained() -> None:
    leaf = LOGITS.clone().requires_grad_()
    value = JaccardMetricLoss(cross_entropy=0.25)(leaf, LABELS)
    (one,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (other,) = torch.autograd.grad(2 * value, leaf)
    torch.testing.assert_close(2 * one, other)


def test_logits_changed_in_place_are_noticed() -> None:
    leaf = LOGITS.clone().requires_grad_()
    logits = leaf * 1
    value = JaccardMetricLoss()(logits, LABELS)
    logits.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own import
@pytest.mark.parametrize("settings", [{}, {"impl": "torch"}])
def test_forward_mode_is_no_silent_zero(settings: dict[str, Any]) -> None:
    loss = JaccardMetricLoss(cross_entropy=0.25, **settings)
    tangent = torch.randn_like(LOGITS)
    leaf = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, LABELS), leaf)
    expected = (gradient * tangent).sum()
    value, found, *_ = torch.func.jvp(lambda z: loss(z, LABELS), (LOGITS,), (tangent,))
    torch.testing.assert_close(value, loss(LOGITS, LABELS))
    torch.testing.assert_close(found, expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(LOGITS, tangent)  # type: ignore[no-untyped-call]
        of_dual = torch.autograd.forward_ad.unpack_dual(loss(dual, LABELS)).tangent  # type: ignore[no-untyped-call]
    torch.testing.assert_close(of_dual, expected)
    torch.testing.assert_close(torch.func.grad(loss)(LOGITS, LABELS), gradient)
    jacobian = torch.func.jacfwd(lambda z: loss(z, LABELS))(LOGITS)
    torch.testing.assert_close(jacobian, gradient)


def test_images_of_a_vmap_are_those_of_a_loop() -> None:
    loss = JaccardMetricLoss(cross_entropy=0.25)
    each = torch.func.vmap(loss)(LOGITS.unsqueeze(1), LABELS.unsqueeze(1))
    for n, value in enumerate(each):
        torch.testing.assert_close(value, loss(LOGITS[n : n + 1], LABELS[n : n + 1]))


@pytest.mark.parametrize("impl", ["chunked", "native"])
def test_other_implementations_have_no_forward_mode(impl: str) -> None:
    loss = JaccardMetricLoss(impl=impl)
    with pytest.raises(ValueError, match=r"no derivative in forward mode .* use 'auto' or 'torch'"):
        torch.func.jvp(lambda z: loss(z, LABELS), (LOGITS,), (torch.ones_like(LOGITS),))
    with pytest.raises(ValueError, match=r"does not run under torch.func"):
        torch.func.grad(loss)(LOGITS, LABELS)


def test_a_small_call_costs_a_small_multiple_of_the_plain_formula() -> None:
    """Measured in turns; it took six times as long when targets travelled as text."""
    leaf, loss = LOGITS.clone().requires_grad_(), JaccardMetricLoss(cross_entropy=0.25)

    def plain() -> None:
        p = leaf.softmax(1)
        y = torch.nn.functional.one_hot(LABELS, 3).movedim(-1, 1).float()
        overlap = (p * y).sum((0, 2, 3))
        union = (p + y).sum((0, 2, 3)) - overlap
        value = (1 - (overlap + 1) / (union + 1)).mean()
        torch.autograd.grad(value, leaf)

    seconds: dict[str, list[float]] = {"plain": [], "loss": []}
    for _ in range(200):
        for name, run in (("plain", plain), ("loss", lambda: step(loss, leaf))):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    assert sorted(seconds["loss"])[20] < 4.5 * sorted(seconds["plain"])[20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per": 3}, r"Expected `per` to be one of 'batch'.*, but got 3"),
        ({"per": ["batch"]}, r"Expected `per` to be one of"),
        ({"activation": np.ones(3), "pos_weight": 1.0}, "Expected `activation` to be one of"),
        ({"reduction": torch.ones(3)}, "Expected `reduction` to be one of"),
        ({"class_weights": "x"}, "Expected `class_weights` to be one number per class"),
        ({"class_weights": {"a": 1}}, "Expected `class_weights` to be one number per class"),
        ({"class_weights": 1.0}, "Expected `class_weights` to be one number per class"),
        ({"gamma": {}}, "Expected `gamma` to be greater than 0"),
        ({"gamma": math.nan}, "Expected `gamma` to be greater than 0"),
    ],
)
def test_settings_of_another_kind_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        TverskyLoss(**settings)
