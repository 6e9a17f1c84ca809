"""Losses beside the Tversky family: generalised Dice, focal, Lovász-softmax."""

from typing import Any

import pytest
import torch
from torch import Tensor

from softiou import FocalLoss, GeneralizedDiceLoss, JaccardMetricLoss, LovaszSoftmaxLoss

LOGITS = 2 * torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (2, 40), generator=torch.Generator().manual_seed(1))
SOFT = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(2)).mul(3).softmax(1)


def gradient_of(loss: Any, logits: Tensor, *arguments: Any) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, *arguments), leaf)
    return gradient


def generalised_dice(probs: Tensor, y: Tensor) -> float:
    """Equation 1 of the paper with 1 / Y^2, and min(p, y) instead of p y."""
    overlap = mass = 0.0
    for c in range(probs.shape[1]):
        total = float(y[:, c].sum())
        if total > 0:
            overlap += float(torch.minimum(probs[:, c], y[:, c]).sum()) / total**2
            mass += float((probs[:, c] + y[:, c]).sum()) / total**2
    return 1 - 2 * overlap / mass


@pytest.mark.parametrize("impl", ["torch", "chunked", "native"])
def test_generalised_dice_agrees_with_its_formula(impl: str) -> None:
    one_hot = torch.nn.functional.one_hot(LABELS, 3).movedim(-1, 1).double()
    loss = GeneralizedDiceLoss(smooth=0, impl=impl)
    for target, y in ((LABELS, one_hot), (SOFT, SOFT.double()), (LABELS * 0, one_hot[:, :1])):
        expected = generalised_dice(LOGITS.double().softmax(1)[:, : y.shape[1]], y * 1.0)
        if y.shape[1] == 1:
            expected = generalised_dice(LOGITS.double().softmax(1)[:, :1], torch.ones_like(y))
        assert loss(LOGITS, target).item() == pytest.approx(expected, rel=1e-5)
    images = GeneralizedDiceLoss(smooth=0, per="image", impl=impl)(LOGITS, LABELS)
    each = [loss(LOGITS[n : n + 1], LABELS[n : n + 1]).item() for n in (0, 1)]
    assert images.item() == pytest.approx(sum(each) / 2, rel=1e-5)


def test_generalised_dice_is_least_at_a_soft_target() -> None:
    logits = LOGITS.double()
    loss = GeneralizedDiceLoss(smooth=0)
    assert loss(logits, logits.softmax(1)).item() == pytest.approx(0, abs=1e-12)
    assert loss(logits + 0.1 * torch.randn_like(logits), logits.softmax(1)).item() > 1e-3


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_generalised_dice_in_corners(smooth: float) -> None:
    loss = GeneralizedDiceLoss(smooth=smooth, ignore_index=255)
    nothing = torch.full((2, 40), 255)
    for target in (nothing, torch.zeros(2, 40).long()):
        assert torch.isfinite(gradient_of(loss, LOGITS, target)).all()
    assert loss(LOGITS, nothing).item() == 0
    y = torch.rand(2, 3, 8, dtype=torch.float64).softmax(1)
    logits = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: loss(z, y), (logits,))


def test_focal_is_the_setting_of_any_loss() -> None:
    expected = JaccardMetricLoss(cross_entropy=1.0, focal_gamma=2.0)
    for target in (LABELS, SOFT):
        torch.testing.assert_close(FocalLoss()(LOGITS, target), expected(LOGITS, target))
    plain = torch.nn.functional.cross_entropy(LOGITS, LABELS)
    torch.testing.assert_close(FocalLoss(gamma=0.0)(LOGITS, LABELS), plain)


def lovasz(probs: Tensor, labels: Tensor, classes: list[int]) -> float:
    """Algorithm 1 pixel by pixel: the Jaccard losses of growing sets of wrong pixels."""
    losses = []
    for c in classes:
        y = (labels == c).double()
        errors = (y - probs[:, c]).abs()
        order = errors.argsort(descending=True)
        before, loss = 0.0, 0.0
        for size in range(1, len(order) + 1):
            wrong = order[:size]
            hit = float(y.sum() - y[wrong].sum())
            union = float(y.sum() + (1 - y[wrong]).sum())
            jaccard = 1 - hit / union
            loss += float(errors[order[size - 1]]) * (jaccard - before)
            before = jaccard
        losses.append(loss)
    return sum(losses) / len(losses)


def flat(n: Any = slice(None)) -> tuple[Tensor, Tensor]:
    return LOGITS[n].double().softmax(1).movedim(1, -1).reshape(-1, 3), LABELS[n].reshape(-1)


def test_lovasz_agrees_with_loops() -> None:
    assert LovaszSoftmaxLoss()(LOGITS, LABELS).item() == pytest.approx(lovasz(*flat(), [0, 1, 2]))
    some = LovaszSoftmaxLoss(classes=[0, -1])(LOGITS, LABELS.unsqueeze(1))
    assert some.item() == pytest.approx(lovasz(*flat(), [0, 2]))
    by_image = [lovasz(*flat(slice(n, n + 1)), [0, 1, 2]) for n in (0, 1)]
    torch.testing.assert_close(LovaszSoftmaxLoss(classes=[-1, 2, 0])(LOGITS, LABELS), some)
    for wrong in (7, -5):
        with pytest.raises(ValueError, match=rf"indices in \[-3, 2\].*\[{wrong}\]"):
            LovaszSoftmaxLoss(classes=[wrong])(LOGITS, LABELS)
    found = LovaszSoftmaxLoss(per="image")(LOGITS, LABELS)
    assert found.item() == pytest.approx(sum(by_image) / 2)


def test_settings_are_printed() -> None:
    text = "LovaszSoftmaxLoss(per='image', classes='all', ignore_index=255)"
    assert repr(LovaszSoftmaxLoss(per="image", classes="all", ignore_index=255)) == text
    text = repr(GeneralizedDiceLoss(smooth=0.5))
    assert "smooth=0.5" in text
    assert "threshold" not in text
    assert "align_corners" not in text


def test_lovasz_leaves_pixels_out() -> None:
    labels = LABELS.clone()
    labels[:, :10] = 255
    found = LovaszSoftmaxLoss(ignore_index=255)(LOGITS, labels)
    expected = LovaszSoftmaxLoss()(LOGITS[..., 10:], LABELS[:, 10:])
    torch.testing.assert_close(found, expected)
    valid = labels != 255
    torch.testing.assert_close(LovaszSoftmaxLoss()(LOGITS, labels, valid=valid), expected)
    gradient = gradient_of(LovaszSoftmaxLoss(ignore_index=255), LOGITS, labels)
    assert gradient[..., :10].eq(0).all()
    nothing = gradient_of(LovaszSoftmaxLoss(ignore_index=255), LOGITS, torch.full((2, 40), 255))
    assert nothing.eq(0).all()


def test_lovasz_gradient() -> None:
    logits = torch.randn(1, 3, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1, 2, 0, 1, 1]])
    assert torch.autograd.gradcheck(lambda z: LovaszSoftmaxLoss()(z, labels), (logits,))


def test_lovasz_is_for_hard_labels() -> None:
    with pytest.raises(TypeError, match=r"not defined for soft labels. Use JaccardMetricLoss"):
        LovaszSoftmaxLoss()(LOGITS, SOFT)
    with pytest.raises(ValueError, match=r"found \[7\]"):
        LovaszSoftmaxLoss()(LOGITS, torch.full((2, 40), 7))
    with pytest.raises(ValueError, match=r"`classes` to be one of 'present', 'all'"):
        LovaszSoftmaxLoss(classes="label")
