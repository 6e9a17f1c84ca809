"""The cross-entropy part: weights, smoothing, focal; and what is returned of both parts."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reference import overlap_loops
from softiou import JaccardMetricLoss, TverskyLoss, targets

IMPLS = ("torch", "chunked", "native")
every_impl = pytest.mark.parametrize("impl", IMPLS)
LOGITS = 2 * torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (2, 40), generator=torch.Generator().manual_seed(1))
SOFT = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(2)).mul(3).softmax(1)
WEIGHTS = [0.5, 2.0, 1.0]


def value_and_gradient(loss: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
    leaf = LOGITS.clone().requires_grad_()
    value = loss(leaf, *arguments)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@every_impl
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_equals_torch(impl: str, label_smoothing: float, weights: Any) -> None:
    labels = torch.where(torch.arange(40) % 7 == 0, 255, LABELS)
    loss = JaccardMetricLoss(
        cross_entropy=1.0,
        cross_entropy_weights=weights,
        label_smoothing=label_smoothing,
        ignore_index=255,
        impl=impl,
    )

    def expected(logits: Tensor) -> Tensor:
        weight = None if weights is None else torch.tensor(weights)
        return F.cross_entropy(
            logits, labels, weight, ignore_index=255, label_smoothing=label_smoothing
        )

    torch.testing.assert_close(value_and_gradient(loss, labels), value_and_gradient(expected))


@every_impl
@pytest.mark.parametrize("soft", [False, True])
def test_binary_equals_torch(impl: str, soft: bool) -> None:
    y = SOFT if soft else F.one_hot(LABELS, 3).movedim(-1, 1).float()
    weights, pos_weight = torch.tensor(WEIGHTS), torch.tensor([3.0, 1.0, 0.2])
    loss = JaccardMetricLoss(
        cross_entropy=1.0,
        activation="sigmoid",
        cross_entropy_weights=WEIGHTS,
        pos_weight=pos_weight,
        impl=impl,
    )

    def expected(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, y, weights[:, None], pos_weight=pos_weight[:, None]
        )

    torch.testing.assert_close(value_and_gradient(loss, y), value_and_gradient(expected))


@every_impl
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_of_labels_is_the_focal_loss(impl: str, gamma: float) -> None:
    """Lin et al., equation 4, for both activations."""
    loss = JaccardMetricLoss(cross_entropy=1.0, focal_gamma=gamma, impl=impl)

    def expected(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(1).gather(1, LABELS.unsqueeze(1))
        return (-((1 - logs.exp()) ** gamma) * logs).mean()

    torch.testing.assert_close(value_and_gradient(loss, LABELS), value_and_gradient(expected))
    one_hot = F.one_hot(LABELS, 3).movedim(-1, 1).float()
    loss = JaccardMetricLoss(cross_entropy=1.0, focal_gamma=gamma, activation="sigmoid", impl=impl)

    def binary(logits: Tensor) -> Tensor:
        cost = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
        return ((1 - (-cost).exp()) ** gamma * cost).mean()

    torch.testing.assert_close(value_and_gradient(loss, one_hot), value_and_gradient(binary))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_focal_of_soft_labels_is_least_at_the_target(activation: str) -> None:
    logits = LOGITS.double().requires_grad_()
    y = logits.detach().softmax(1) if activation == "softmax" else logits.detach().sigmoid()
    loss = JaccardMetricLoss(cross_entropy=1.0, focal_gamma=2.0, activation=activation)
    value = loss(logits, y)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(value, logits)[0].abs().max() < 1e-9


def all_targets() -> dict[str, Any]:
    labels, soft = LABELS.view(2, 5, 8), SOFT.view(2, 3, 5, 8)
    return {
        "hard": labels,
        "dense": soft,
        "smoothed": targets.smooth(labels, 0.2),
        "boundary": targets.boundary(labels),
        "gaussian": targets.gaussian(labels),
        "votes": targets.votes(torch.stack([labels, labels.flip(1)], 1)),
        "sparse": targets.sparse(*soft.topk(2, 1)[::-1]),
        "teacher": targets.teacher(soft.mul(9)),
        "mixed": targets.mix((0.5, labels), (0.5, soft)),
    }


@every_impl
@pytest.mark.parametrize("kind", list(all_targets()))
def test_every_option_for_every_kind_of_target(impl: str, kind: str) -> None:
    """Value against the loops in float64, gradient against the definition."""
    target = all_targets()[kind]
    y = target if isinstance(target, Tensor) else target.dense(3, torch.float64).y
    logits = LOGITS.view(2, 3, 5, 8)
    data = overlap_loops.prepare(logits.double().numpy(), y.numpy(), activation="softmax")
    every: list[dict[str, Any]] = [
        {"label_smoothing": 0.1},
        {"focal_gamma": 2.0},
        {"label_smoothing": 0.2, "focal_gamma": 1.5},
    ]
    for options in every:
        loss = JaccardMetricLoss(
            cross_entropy=1.0, cross_entropy_weights=WEIGHTS, impl=impl, **options
        )
        exact = JaccardMetricLoss(
            cross_entropy=1.0, cross_entropy_weights=WEIGHTS, impl="torch", **options
        )
        expected = overlap_loops.mean_cross_entropy(data, class_weights=WEIGHTS, **options)
        leaf, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
        value = loss(leaf, target)
        assert value.item() == pytest.approx(expected, rel=1e-5)
        (found,) = torch.autograd.grad(value, leaf)
        (right,) = torch.autograd.grad(exact(double, target), double)
        torch.testing.assert_close(found.double(), right, rtol=1e-4, atol=1e-7)


# Reductions


@pytest.mark.parametrize("per", ["batch", "image", "class"])
def test_none_adds_up_to_sum(per: str) -> None:
    settings: dict[str, Any] = {
        "per": per,
        "cross_entropy": 0.25,
        "class_weights": WEIGHTS,
        "cross_entropy_weights": WEIGHTS,
    }
    each = JaccardMetricLoss(reduction="none", **settings)(LOGITS, LABELS)
    assert each.shape == ((3,) if per == "batch" else (2, 3))
    total = JaccardMetricLoss(reduction="sum", **settings)(LOGITS, LABELS)
    torch.testing.assert_close(each.sum(), total)
    # By hand: the overlap of each class, and the cross-entropy of each pixel.
    plain = JaccardMetricLoss(reduction="sum", per=per, class_weights=WEIGHTS)(LOGITS, LABELS)
    cost = F.cross_entropy(LOGITS, LABELS, torch.tensor(WEIGHTS), reduction="sum")
    torch.testing.assert_close(total, 0.25 * cost + 0.75 * plain)


def test_sum_by_hand() -> None:
    p = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    y = torch.tensor([[0, 1, 1]])
    settings: dict[str, Any] = {"activation": "none", "smooth": 0.0}
    each = JaccardMetricLoss(reduction="none", **settings)(p, y)
    assert each.tolist() == [0.5, 0.5]
    assert JaccardMetricLoss(reduction="sum", **settings)(p, y).item() == 1.0
    weighted = JaccardMetricLoss(reduction="sum", class_weights=[1.0, 3.0], **settings)
    assert weighted(p, y).item() == 2.0


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_absent_classes_add_nothing(reduction: str) -> None:
    loss = JaccardMetricLoss(reduction=reduction)
    leaf = LOGITS.clone().requires_grad_()
    found = loss(leaf, torch.zeros(2, 40).long())
    if reduction == "none":
        assert found[1:].tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("per", ["batch", "image", "class"])
def test_per_class_averages_to_the_mean(per: str) -> None:
    """Where each image holds each class, the mean of the classes is that of the loss."""
    loss = TverskyLoss(per=per, gamma=1.5)
    each = loss.per_class(LOGITS, LABELS)
    torch.testing.assert_close(each.mean(), loss(LOGITS, LABELS))
    absent = loss.per_class(LOGITS, torch.zeros(2, 40).long())
    assert absent[1:].isnan().all()
    assert absent[0].isfinite()


def test_per_class_of_a_mixture() -> None:
    loss = JaccardMetricLoss(cross_entropy=0.25)
    leaf = LOGITS.clone().requires_grad_()
    each = loss.per_class(leaf, LABELS)
    overlap = JaccardMetricLoss().per_class(LOGITS, LABELS)
    for c in range(3):
        own = c == LABELS
        cost = F.cross_entropy(LOGITS, LABELS, reduction="none")[own].mean()
        torch.testing.assert_close(each[c].detach(), 0.25 * cost + 0.75 * overlap[c])
    (gradient,) = torch.autograd.grad(each.sum(), leaf)
    assert torch.isfinite(gradient).all()
    binary = JaccardMetricLoss(cross_entropy=1.0, activation="sigmoid")
    one_hot = F.one_hot(LABELS, 3).movedim(-1, 1).float()
    cost = F.binary_cross_entropy_with_logits(LOGITS, one_hot, reduction="none")
    torch.testing.assert_close(binary.per_class(LOGITS, one_hot), cost.mean((0, 2)))


def test_per_class_of_several_targets() -> None:
    loss = JaccardMetricLoss(cross_entropy=0.25)
    pair = loss.per_class(LOGITS, [(0.3, LABELS), (0.7, SOFT)])
    one, other = loss.per_class(LOGITS, LABELS), loss.per_class(LOGITS, SOFT)
    torch.testing.assert_close(pair, 0.3 * one + 0.7 * other)


def test_a_mixture_of_reductions_has_no_none() -> None:
    with pytest.raises(ValueError, match=r"a single `per` with reduction='none'"):
        JaccardMetricLoss(per={"batch": 1, "image": 1}, reduction="none")


def test_weights_of_another_length_raise() -> None:
    with pytest.raises(ValueError, match=r"3 `cross_entropy_weights`, .* but got 2"):
        JaccardMetricLoss(cross_entropy=0.5, cross_entropy_weights=[1.0, 2.0])(LOGITS, LABELS)


def test_printed_module_shows_what_differs() -> None:
    text = repr(
        TverskyLoss(alpha=0.3, beta=0.7, gamma=2.0, log=True, form=2, class_weights=WEIGHTS)
    )
    for part in (
        "alpha=0.3, beta=0.7, gamma=2.0, log=True, form=2",
        "class_weights=[0.5, 2.0, 1.0]",
    ):
        assert part in text
    assert "threshold" not in text
    assert "threshold=0.5" in repr(JaccardMetricLoss(classes="label", threshold=0.5))
