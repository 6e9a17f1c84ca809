import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from reference import overlap_loops
from reference.cases import Case, cases
from softiou.losses import (
    DiceSemimetricLoss,
    JaccardMetricLoss,
    OverlapLoss,
    SoftJaccardLoss,
    TverskyLoss,
)
from softiou.overlap import OverlapStatistics, overlap_statistics

NAN, INF = math.nan, math.inf

Kind = tuple[Callable[..., OverlapLoss], dict[str, Any], dict[str, Any]]


def tversky(**settings: Any) -> Kind:
    return TverskyLoss, settings, settings


# How to make each loss, and the settings of the reference that it is equal to.
KINDS: dict[str, Kind] = {
    "JML 1": (JaccardMetricLoss, {}, {}),
    "JML 2": (JaccardMetricLoss, {"form": 2}, {"form": 2}),
    "DSL 1": (DiceSemimetricLoss, {}, {"alpha": 0.5, "beta": 0.5}),
    "DSL 2": (DiceSemimetricLoss, {"form": 2}, {"alpha": 0.5, "beta": 0.5, "form": 2}),
    "soft Jaccard": (SoftJaccardLoss, {}, {"form": "product"}),
    "Tversky": tversky(alpha=0.3, beta=0.7),
    "Tversky 2": tversky(alpha=0.3, beta=0.7, form=2),
    "Tversky product": tversky(alpha=0.3, beta=0.7, form="product"),
    "focal": tversky(alpha=0.5, beta=0.5, gamma=2.0),
    "focal below 1": tversky(alpha=0.7, beta=0.3, gamma=0.75),
    "log": tversky(alpha=1.0, beta=1.0, log=True),
    "focal log": tversky(alpha=0.4, beta=0.6, log=True, gamma=1.5),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, **settings: Any) -> OverlapLoss:
    loss, own, _ = KINDS[kind]
    return loss(**own, **settings)


def gradient_of(loss: Tensor, of: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, of)
    return gradient


# Values by hand


def test_jaccard_metric_loss_by_hand() -> None:
    """Two classes of one softmax: p = (0.75, 0.25) on both pixels, one of each class."""
    logits = torch.tensor([[[math.log(3.0)] * 2, [0.0] * 2]])
    target = torch.tensor([[0, 1]])
    # Class 0: P = 1.5, Y = 1, D = 0.25 + 0.75; class 1: P = 0.5, Y = 1, D = 0.25 + 0.75.
    expected = ((1 - 1.5 / 3.5) + (1 - 0.5 / 2.5)) / 2
    assert JaccardMetricLoss(smooth=0)(logits, target).item() == pytest.approx(expected)


def test_smooth_is_added_to_overlap_and_union() -> None:
    p, y = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[1, 0, 1]])
    loss = JaccardMetricLoss(smooth=2.0, activation="none")
    assert loss(p, y).item() == pytest.approx(1 - (1 + 2) / (3 + 2))


def test_focal_and_log_by_hand() -> None:
    p, y = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[1, 0, 1]])  # tp = fp = fn = 1
    settings: dict[str, Any] = {"activation": "none", "smooth": 0.0}
    score = 1 / (1 + 0.3 + 0.7)
    for gamma in (0.5, 1.0, 3.0):
        focal = TverskyLoss(alpha=0.3, beta=0.7, gamma=gamma, **settings)
        assert focal(p, y).item() == pytest.approx((1 - score) ** gamma)
        log = TverskyLoss(alpha=0.3, beta=0.7, gamma=gamma, log=True, **settings)
        assert log(p, y).item() == pytest.approx((-math.log(score)) ** gamma)


def test_per_by_hand() -> None:
    """Image 0 has class 1 alone and is right; image 1 has both and misses class 1."""
    p = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    y = torch.tensor([[1, 1], [0, 1]])
    by = {
        per: JaccardMetricLoss(activation="none", smooth=0, per=per)(p, y).item()
        for per in ("batch", "image", "class")
    }
    assert by["batch"] == pytest.approx(((1 - 1 / 2) + (1 - 2 / 3)) / 2)
    assert by["image"] == pytest.approx((0 + (1 / 2 + 1) / 2) / 2)
    assert by["class"] == pytest.approx((1 / 2 + (0 + 1) / 2) / 2)
    mixture = JaccardMetricLoss(activation="none", smooth=0, per={"batch": 1, "class": 3})
    assert mixture(p, y).item() == pytest.approx(by["batch"] / 4 + 3 * by["class"] / 4)


# The slow reference


@st.composite
def reductions(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of the mean that do not depend on the number of classes."""
    names = st.sampled_from(["batch", "image", "class"])
    return {
        "per": draw(
            names | st.dictionaries(names, st.sampled_from([0.5, 1.0, 3.0]), min_size=1, max_size=3)
        ),
        "classes": draw(st.sampled_from(["present", "all", "prob", "label", "both", [0]])),
        "threshold": draw(st.sampled_from([0.01, 0.3])),
        "smooth": draw(st.sampled_from([0.0, 0.1, 1.0])),
    }


@given(
    case=cases(),
    kind=st.sampled_from(list(KINDS)),
    settings=reductions(),
    weighted=st.booleans(),
    share=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_losses_agree_with_loops(
    case: Case, kind: str, settings: dict[str, Any], weighted: bool, share: float
) -> None:
    if case.activation == "none":
        share = 0.0
    class_weights = [0.5, 2.0, 1.0, 0.0][: case.num_classes] if weighted else None
    loss = make(
        kind, **case.settings(), **settings, class_weights=class_weights, cross_entropy=share
    )
    logits, target = case.tensors()
    parts = loss.parts(logits, target, **case.maps())
    data = case.reference()
    overlap = overlap_loops.overlap_loss(
        data, class_weights=class_weights, **settings, **KINDS[kind][2]
    )
    # A focal exponent below 1 makes 1e-6 of a rounding error of 1e-12.
    tolerance = 1e-6 if kind == "focal below 1" else 1e-9
    assert parts["overlap"].item() == pytest.approx(overlap, abs=tolerance)
    cross_entropy = overlap_loops.mean_cross_entropy(data) if share else 0.0
    expected = share * cross_entropy + (1 - share) * overlap
    assert parts["loss"].item() == pytest.approx(expected, abs=tolerance)


# The mixture with the cross-entropy


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_mixture_and_its_parts(share: float) -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.randint(0, 3, (2, 8, 8))
    target[0, :2] = 255
    parts = JaccardMetricLoss(cross_entropy=share, ignore_index=255).parts(logits, target)
    cross_entropy = F.cross_entropy(logits, target, ignore_index=255)
    overlap = JaccardMetricLoss(ignore_index=255)(logits, target)
    assert list(parts) == ["loss", "overlap", "cross_entropy"]
    torch.testing.assert_close(parts["cross_entropy"], cross_entropy.detach())
    torch.testing.assert_close(parts["overlap"], overlap.detach())
    mixed = share * cross_entropy + (1 - share) * overlap
    torch.testing.assert_close(parts["loss"], mixed)
    torch.testing.assert_close(gradient_of(parts["loss"], logits), gradient_of(mixed, logits))
    assert [part.requires_grad for part in parts.values()] == [True, False, False]


def test_without_mixture_there_is_no_cross_entropy() -> None:
    parts = JaccardMetricLoss().parts(torch.randn(1, 2, 4), torch.zeros(1, 4, dtype=torch.long))
    assert list(parts) == ["loss", "overlap"]
    assert parts["loss"].item() == parts["overlap"].item()


def test_cross_entropy_of_one_is_plain_cross_entropy() -> None:
    logits, target = torch.randn(2, 5, 9, requires_grad=True), torch.randint(0, 5, (2, 9))
    loss = JaccardMetricLoss(cross_entropy=1.0)(logits, target)
    expected = F.cross_entropy(logits, target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient_of(loss, logits), gradient_of(expected, logits))


@pytest.mark.parametrize("soft", [False, True])
def test_binary_mixture_equals_torch(soft: bool) -> None:
    logits = torch.randn(2, 1, 6)
    target = torch.rand(2, 1, 6) if soft else torch.randint(0, 2, (2, 6))
    loss = DiceSemimetricLoss(activation="sigmoid", cross_entropy=1.0)
    dense = target if soft else target.unsqueeze(1).float()
    expected = F.binary_cross_entropy_with_logits(logits, dense)
    torch.testing.assert_close(loss(logits, target), expected)


# Properties


@every_kind
@hypothesis_settings(max_examples=25)
@given(case=cases())
def test_loss_is_never_negative(kind: str, case: Case) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits, target = case.tensors(dtype)
        loss = make(kind, smooth=0.0, **case.settings())(logits, target, **case.maps())
        assert 0 <= loss.item() < INF


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("soft Jaccard", "Tversky product")])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_loss_is_zero_where_prediction_and_soft_target_agree(kind: str, smooth: float) -> None:
    logits = torch.randn(2, 4, 9, dtype=torch.float64, requires_grad=True)
    loss = make(kind, smooth=smooth, impl="torch")(logits, logits.detach().softmax(1))
    assert loss.item() == 0
    assert torch.isfinite(gradient_of(loss, logits)).all()
    # A softmax of a tile rounds its last bit in its own way; gamma = 3/4 makes 1e-12 of 1e-16.
    tiles = make(kind, smooth=smooth, impl="chunked")(logits, logits.detach().softmax(1))
    assert 0 <= tiles.item() < (1e-11 if kind == "focal below 1" else 1e-15)
    assert torch.isfinite(gradient_of(tiles, logits)).all()


@every_kind
@pytest.mark.parametrize("per", ["batch", "image", "class"])
def test_order_of_images_classes_and_pixels_does_not_matter(kind: str, per: str) -> None:
    logits = torch.randn(3, 4, 7, dtype=torch.float64)
    y = torch.rand(3, 4, 7, dtype=torch.float64).softmax(1)
    images, classes, pixels = (torch.randperm(size) for size in logits.shape)
    loss = make(kind, per=per, cross_entropy=0.25)
    shuffled = [x[images][:, classes][..., pixels] for x in (logits, y)]
    torch.testing.assert_close(loss(*shuffled), loss(logits, y))


@every_kind
def test_hard_equals_one_hot_soft(kind: str) -> None:
    logits, target = torch.randn(2, 4, 9, requires_grad=True), torch.randint(0, 4, (2, 9))
    loss = make(kind, cross_entropy=0.25)
    hard, soft = loss(logits, target), loss(logits, F.one_hot(target, 4).mT.float())
    torch.testing.assert_close(hard, soft)
    torch.testing.assert_close(gradient_of(hard, logits), gradient_of(soft, logits))


@pytest.mark.parametrize("per", ["batch", "image", "class"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_jaccard_losses_agree_on_hard_labels(per: str, smooth: float) -> None:
    """In value and in gradient: JML 1 = JML 2 = soft Jaccard."""
    logits = torch.randn(2, 4, 9, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 4, (2, 9))
    losses = [
        make(kind, per=per, smooth=smooth)(logits, target)
        for kind in ("JML 1", "JML 2", "soft Jaccard")
    ]
    gradients = [gradient_of(loss, logits) for loss in losses]
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(gradient, gradients[0])


def test_tversky_is_jaccard_and_dice() -> None:
    logits, y = torch.randn(2, 4, 9), torch.rand(2, 4, 9).softmax(1)
    for alpha, kind in ((1.0, "JML 1"), (0.5, "DSL 1")):
        found = TverskyLoss(alpha=alpha, beta=alpha)(logits, y)
        assert torch.equal(found, make(kind)(logits, y))


@every_kind
def test_mean_does_not_shrink_with_absent_classes(kind: str) -> None:
    """Three more classes that are neither predicted nor there leave the loss as it is."""
    logits = torch.randn(2, 2, 9, dtype=torch.float64)
    target = torch.randint(0, 2, (2, 9))
    wide = torch.cat([logits, torch.full((2, 3, 9), -1e4, dtype=torch.float64)], 1)
    for per in ("batch", "image", "class"):
        loss = make(kind, per=per)
        torch.testing.assert_close(loss(wide, target), loss(logits, target))
    assert make(kind, classes="all")(wide, target) < make(kind)(wide, target)


@every_kind
@pytest.mark.parametrize("garbage", [NAN, INF])
def test_ignored_pixels_are_cut_out(kind: str, garbage: float) -> None:
    logits = torch.randn(2, 3, 10, dtype=torch.float64)
    y = torch.rand(2, 3, 10, dtype=torch.float64).softmax(1)
    cut = torch.tensor([0, 6])
    kept = torch.tensor([p for p in range(10) if p not in cut])
    small = logits[..., kept].clone().requires_grad_()
    logits[..., cut], valid = garbage, torch.ones(2, 10, dtype=torch.bool)
    dirty = y.clone()
    dirty[..., cut], valid[..., cut] = garbage, False
    logits.requires_grad_()
    loss = make(kind, cross_entropy=0.25, smooth=0.0)
    whole, part = loss(logits, dirty, valid=valid), loss(small, y[..., kept])
    torch.testing.assert_close(whole, part)
    gradient = gradient_of(whole, logits)
    torch.testing.assert_close(gradient[..., kept], gradient_of(part, small))
    assert torch.equal(gradient[..., cut], torch.zeros(2, 3, 2, dtype=torch.float64))


@every_kind
def test_a_label_outside_the_classes_is_cut_out(kind: str) -> None:
    logits, target = torch.randn(1, 3, 6), torch.tensor([[0, -1, 1, 2, 9, 1]])
    kept = [0, 2, 3, 5]
    loss = make(kind, cross_entropy=0.25, validate=False)
    torch.testing.assert_close(loss(logits, target), loss(logits[..., kept], target[:, kept]))
    for validate in (True, None):
        with pytest.raises(ValueError, match=r"found \[-1, 9\]"):
            make(kind, validate=validate)(logits, target)


# Nothing valid, almost nothing valid


@every_kind
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("per", ["batch", "image", "class"])
@pytest.mark.parametrize("classes", ["present", "all", "both"])
def test_all_ignored_is_an_attached_zero(kind: str, smooth: float, per: str, classes: str) -> None:
    logits = torch.randn(2, 3, 4)
    logits[0, :, 0] = NAN
    logits.requires_grad_()
    loss = make(
        kind, smooth=smooth, per=per, classes=classes, ignore_index=255, cross_entropy=0.25
    )(logits, torch.full((2, 4), 255, dtype=torch.uint8))
    assert loss.item() == 0
    assert loss.requires_grad
    assert torch.equal(gradient_of(loss, logits), torch.zeros(2, 3, 4))


@every_kind
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("logit", [0.0, 50.0, -50.0])
def test_one_valid_pixel(kind: str, smooth: float, logit: float) -> None:
    """Right, wrong or undecided: the loss and its gradient are finite."""
    logits = torch.zeros(2, 2, 4)
    logits[:, 1] = logit
    logits.requires_grad_()
    target = torch.full((2, 4), 255)
    target[1, 2] = 1
    loss = make(kind, smooth=smooth, ignore_index=255)(logits, target)
    gradient = gradient_of(loss, logits)
    assert torch.isfinite(gradient).all()
    data = overlap_loops.prepare(
        logits.detach().numpy(), target.numpy(), activation="softmax", ignore_index=255
    )
    expected = overlap_loops.overlap_loss(data, smooth=smooth, **KINDS[kind][2])
    assert loss.item() == pytest.approx(expected, abs=1e-6, rel=1e-6)
    gradient[1, :, 2] = 0
    assert gradient.eq(0).all()


def test_empty_image_predicted_empty_costs_nothing() -> None:
    logits, target = torch.full((1, 1, 9), -100.0), torch.zeros(1, 9, dtype=torch.long)
    for classes in ("all", "present", "both"):
        loss = DiceSemimetricLoss(activation="sigmoid", classes=classes)
        assert loss(logits, target).item() == 0


def test_empty_image_teaches_only_under_all() -> None:
    """By default a class without target mass is left out of the mean."""
    logits = torch.zeros(1, 1, 9, requires_grad=True)
    target = torch.zeros(1, 9, dtype=torch.long)
    present = DiceSemimetricLoss(activation="sigmoid")(logits, target)
    assert gradient_of(present, logits).eq(0).all()
    everywhere = DiceSemimetricLoss(activation="sigmoid", classes="all")(logits, target)
    assert gradient_of(everywhere, logits).gt(0).all()


# Gradients


@pytest.mark.parametrize("target_kind", ["hard", "soft", "hard with ignore_index", "weighted"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@every_kind
def test_gradcheck(kind: str, activation: str, target_kind: str) -> None:
    logits = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target: Tensor = torch.tensor([[0, 1, 2, 1], [2, 0, 1, 1]])
    maps: dict[str, Tensor] = {}
    if target_kind == "soft":
        target = torch.rand(2, 3, 4, dtype=torch.float64).softmax(1)
        with torch.no_grad():
            p = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "none": logits}
        # |p - y| has a kink at p = y; the step has to stay on one side of it.
        assert (p[activation] - target).abs().min() > 1e-4
    elif target_kind == "hard with ignore_index":
        target[0, 1] = 255
    elif target_kind == "weighted":
        maps = {"weights": torch.rand(2, 4, dtype=torch.float64)}
    share = 0.25 if activation != "none" else 0.0
    loss = make(
        kind,
        activation=activation,
        ignore_index=255,
        cross_entropy=share,
        per={"batch": 1.0, "image": 1.0, "class": 1.0},
        class_weights=[1.0, 2.0, 0.5],
    )
    assert torch.autograd.gradcheck(lambda z: loss(z, target, **maps), (logits,))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("log", [False, True])
def test_focal_below_one_is_zero_and_finite_at_a_perfect_prediction(
    gamma: float, smooth: float, log: bool
) -> None:
    logits = torch.full((1, 2, 4), -1e3)
    logits[:, 0] = 1e3
    logits.requires_grad_()
    target = torch.zeros(1, 4, dtype=torch.long)
    loss = TverskyLoss(gamma=gamma, smooth=smooth, log=log)(logits, target)
    assert loss.item() == 0
    assert torch.isfinite(gradient_of(loss, logits)).all()
    near = torch.full((1, 1, 4), 1 - 2e-7, requires_grad=True)
    loss = TverskyLoss(gamma=gamma, smooth=smooth, log=log, activation="none")(near, target + 1)
    assert loss.item() > 0
    gradient = gradient_of(loss, near)
    assert torch.isfinite(gradient).all()
    assert (gradient < 0).all()


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("form", [1, 2, "product"])
def test_log_form_pulls_up_a_missed_class(smooth: float, form: Any) -> None:
    """A softmax that is sure and wrong: score about 1e-9."""
    logits = torch.zeros(1, 2, 6)
    logits[:, 0] = 20.0
    logits.requires_grad_()
    loss = TverskyLoss(log=True, smooth=smooth, form=form)(logits, torch.ones(1, 6).long())
    gradient = gradient_of(loss, logits)
    assert math.isfinite(loss.item())
    assert (gradient[:, 1] < 0).all()
    assert (gradient[:, 0] > 0).all()


# Class weights


def test_class_weights_are_a_buffer() -> None:
    loss = JaccardMetricLoss(class_weights=[1.0, 2.0, 0.0])
    assert [name for name, _ in loss.named_buffers()] == ["class_weights"]
    other = JaccardMetricLoss(class_weights=torch.ones(3))
    other.load_state_dict(loss.state_dict())
    assert other.class_weights is not None
    assert other.class_weights.tolist() == [1.0, 2.0, 0.0]
    loss.to(torch.float64)
    assert loss.class_weights is not None
    assert loss.class_weights.dtype == torch.float64
    assert list(JaccardMetricLoss().state_dict()) == []


def test_class_weights_are_a_copy() -> None:
    weights = torch.ones(2)
    loss = JaccardMetricLoss(class_weights=weights)
    weights[0] = 7
    assert loss.class_weights is not None
    assert loss.class_weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("module_dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("per", ["image", "class"])
def test_loss_dtype_follows_the_logits_not_the_class_weights(
    module_dtype: torch.dtype, per: str
) -> None:
    loss = JaccardMetricLoss(class_weights=[1.0, 2.0], per=per).to(module_dtype)
    target = torch.zeros(1, 4, dtype=torch.long)
    assert loss(torch.zeros(1, 2, 4), target).dtype == torch.float32
    assert loss(torch.zeros(1, 2, 4, dtype=torch.float64), target).dtype == torch.float64


def test_equal_class_weights_change_nothing() -> None:
    logits, target = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    for per in ("batch", "image", "class"):
        plain = JaccardMetricLoss(per=per)(logits, target)
        weighted = JaccardMetricLoss(per=per, class_weights=[2.0] * 3)(logits, target)
        torch.testing.assert_close(weighted, plain)


def test_class_weights_of_another_length_raise() -> None:
    loss = JaccardMetricLoss(class_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"Expected 3 `class_weights`, .* but got 2"):
        loss(torch.zeros(1, 3, 4), torch.zeros(1, 4, dtype=torch.long))


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [0.0, 0.0], [NAN, 1.0], [INF, 1.0], [[1.0]], []])
def test_bad_class_weights_raise(weights: Any) -> None:
    with pytest.raises(ValueError, match=r"`class_weights` to be one number per class"):
        JaccardMetricLoss(class_weights=weights)


# Dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("soft", [False, True])
def test_half_precision_of_a_big_image(dtype: torch.dtype, soft: bool) -> None:
    """The loss of rounded logits is as exact as that of the same numbers in float32."""
    rounded = torch.randn(2, 3, 512, 512).mul(3).to(dtype)
    target: Tensor = torch.randint(0, 3, (2, 512, 512), dtype=torch.uint8)
    if soft:
        target = torch.randn(2, 3, 512, 512).softmax(1)
    loss = JaccardMetricLoss(cross_entropy=0.25)

    def value_and_gradient(logits: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits.detach().requires_grad_()
        value = loss(logits, target)
        # Scaled as a GradScaler does: the gradient of one pixel in 2^19 is tiny.
        return value, gradient_of(value * 2**14, logits)

    half, half_gradient = value_and_gradient(rounded)
    single, single_gradient = value_and_gradient(rounded.float())
    exact, exact_gradient = value_and_gradient(rounded.double())
    assert (half.dtype, half_gradient.dtype) == (torch.float32, dtype)
    assert exact.dtype == torch.float64
    assert abs(half - exact) <= 2 * abs(single - exact) + 1e-7
    assert torch.isfinite(half_gradient).all()
    torch.testing.assert_close(half_gradient, single_gradient.to(dtype), rtol=1e-2, atol=1e-6)
    assert single_gradient.dtype == torch.float32
    torch.testing.assert_close(single_gradient.double(), exact_gradient, rtol=1e-3, atol=1e-6)


def test_sums_of_a_big_image_are_exact_to_rounding() -> None:
    """2^19 pixels in float32, against float64, for every kind."""
    logits, target = torch.randn(2, 3, 512, 512), torch.randint(0, 3, (2, 512, 512))
    for kind in KINDS:
        loss = make(kind)
        single, double = loss(logits, target), loss(logits.double(), target)
        assert single.item() == pytest.approx(double.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    head = torch.nn.Conv2d(4, 3, 1)
    image, target = torch.randn(2, 4, 16, 16), torch.randint(0, 3, (2, 16, 16))
    loss = JaccardMetricLoss(cross_entropy=0.25, class_weights=[1.0, 2.0, 1.0])
    with torch.autocast("cpu", dtype=dtype):
        logits = head(image)
        inside = loss(logits, target)
    assert logits.dtype == dtype
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, loss(logits, target))
    inside.backward()
    assert head.weight.grad is not None
    assert torch.isfinite(head.weight.grad).all()
    assert head.weight.grad.abs().max() > 0


@pytest.mark.parametrize("soft", [False, True])
def test_memory_layout_does_not_matter(soft: bool) -> None:
    logits = torch.randn(2, 3, 6, 8)
    target: Tensor = torch.rand(2, 3, 6, 8).softmax(1) if soft else torch.randint(0, 3, (2, 6, 8))
    loss = JaccardMetricLoss(cross_entropy=0.25)
    plain = logits.clone().requires_grad_()
    expected = loss(plain, target)
    expected_gradient = gradient_of(expected, plain)
    for other in (
        logits.to(memory_format=torch.channels_last),
        logits.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        logits.repeat_interleave(2, dim=-1)[..., ::2],
    ):
        assert not other.is_contiguous()
        other.requires_grad_()
        strided = target.transpose(-1, -2).contiguous().transpose(-1, -2)
        found = loss(other, strided)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradient_of(found, other), expected_gradient)


# torch.compile


@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_loss_equals_eager(backend: str) -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.randint(0, 3, (2, 8, 8))
    target[0, 0] = 255
    loss = JaccardMetricLoss(cross_entropy=0.25, ignore_index=255)
    torch._dynamo.reset()
    found = torch.compile(loss, backend=backend, fullgraph=True)(logits, target)
    expected = loss(logits, target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient_of(found, logits), gradient_of(expected, logits))


# A loss of one's own, and settings


class WorstCase(OverlapLoss):
    """Share of the target that is missed."""

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        return 1 - (statistics.M + self.smooth) / (statistics.Y + self.smooth)


def test_a_loss_of_ones_own() -> None:
    logits, target = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 1, 0]])
    assert WorstCase(smooth=0)(logits, target).item() == pytest.approx(0.5)
    with pytest.raises(TypeError, match=r"abstract"):
        OverlapLoss()  # type: ignore[abstract]


def test_overlap_of_joined_statistics_is_the_loss_of_joined_pixels() -> None:
    """Accumulation: statistics first, one loss of all."""
    logits, target = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    loss = JaccardMetricLoss()
    halves = [
        overlap_statistics(logits[..., part], target[..., part])
        for part in (slice(0, 3), slice(3, 8))
    ]
    torch.testing.assert_close(loss.overlap(halves[0] + halves[1]), loss(logits, target))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cross_entropy": 1.5}, r"`cross_entropy` to be in \[0.0, 1.0\], but got 1.5"),
        ({"cross_entropy": NAN}, r"`cross_entropy` to be in"),
        ({"smooth": -1.0}, r"`smooth` to be at least 0.0, but got -1.0"),
        ({"threshold": 2.0}, r"`threshold` to be in \[0.0, 1.0\], but got 2.0"),
        ({"activation": "tanh"}, r"`activation` to be one of 'softmax'.*got 'tanh'"),
        ({"classes": "some"}, r"`classes` to be one of .*got 'some'"),
        ({"per": "pixel"}, r"`per` to be one of .*got 'pixel'"),
        ({"activation": "none", "cross_entropy": 0.5}, r"set `cross_entropy` to 0"),
    ],
)
def test_wrong_settings_raise(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JaccardMetricLoss(**settings)


@pytest.mark.parametrize("loss", [JaccardMetricLoss, DiceSemimetricLoss])
def test_metric_losses_have_no_product_form(loss: Callable[..., OverlapLoss]) -> None:
    with pytest.raises(ValueError, match=r"`form` to be one of 1, 2, but got 'product'"):
        loss(form="product")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, r"`alpha` to be at least 0.0"),
        ({"beta": -0.1}, r"`beta` to be at least 0.0"),
        ({"gamma": 0.0}, r"`gamma` to be greater than 0, but got 0.0"),
        ({"gamma": NAN}, r"`gamma` to be greater than 0"),
        ({"form": "sum"}, r"`form` to be one of 1, 2, 'product', but got 'sum'"),
    ],
)
def test_wrong_tversky_settings_raise(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TverskyLoss(**settings)


def test_unknown_settings_raise() -> None:
    with pytest.raises(TypeError, match=r"reduce"):
        JaccardMetricLoss(reduce="none")  # type: ignore[call-arg]


def test_printed_module_shows_the_settings() -> None:
    text = repr(JaccardMetricLoss(cross_entropy=0.25, per={"batch": 1, "image": 1}, smooth=0.5))
    assert "cross_entropy=0.25, smooth=0.5" in text
    assert "per={'batch': 1, 'image': 1}" in text
    assert "per='image'" in repr(DiceSemimetricLoss(per="image"))


def test_loss_can_be_used_in_double_and_half_modules() -> None:
    """A whole model's `.half()` does not break a loss inside it."""
    loss = JaccardMetricLoss(class_weights=[1.0, 3.0]).half()
    logits, target = torch.randn(1, 2, 8), torch.randint(0, 2, (1, 8))
    expected = JaccardMetricLoss(class_weights=[1.0, 3.0])(logits, target)
    torch.testing.assert_close(loss(logits, target), expected)
    assert np.isfinite(loss(logits, target).item())
