"""Corners that other libraries' tests and fuzzed calls found, each with its value in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference import overlap_loops
from softiou import JaccardMetricLoss, TverskyLoss, targets
from softiou.losses import OverlapLoss
from softiou.overlap import overlap_statistics
from softiou.targets import HardTarget, as_target

IMPLS = ("torch", "chunked", "native")
every_impl = pytest.mark.parametrize("impl", IMPLS)


def gradient_of(loss: OverlapLoss, logits: Tensor, target: Any) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, target), leaf)
    return gradient


def loops(logits: Tensor, target: Tensor, activation: str = "softmax", **options: Any) -> float:
    data = overlap_loops.prepare(logits.numpy(), target.numpy(), activation=activation)
    return overlap_loops.overlap_loss(data, **options)


# Masses below the digits of float32


@every_impl
@pytest.mark.parametrize("gap", [60.0, 80.0, 90.0, 100.0, 104.0])
@pytest.mark.parametrize("classes", ["present", "all", [0, 1]])
@pytest.mark.parametrize("form", [1, 2])
def test_denormal_masses_leave_no_nan(impl: str, gap: float, classes: Any, form: Any) -> None:
    """Classes of next to no mass, in the mean or not: as in float64, and a finite gradient."""
    logits = torch.zeros(1, 3, 8)
    logits[:, 1] = -gap
    logits[:, 2, :4] = -gap
    target = torch.zeros(1, 8).long()
    target[:, 4:] = 2
    loss = JaccardMetricLoss(smooth=0, classes=classes, form=form, impl=impl)
    expected = loops(logits, target, smooth=0, classes=classes, form=form)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
    gradient = gradient_of(loss, logits, target)
    exact = gradient_of(
        JaccardMetricLoss(smooth=0, classes=classes, form=form, impl="torch"),
        logits.double(),
        target,
    )
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-8)


@every_impl
@pytest.mark.parametrize("smooth", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("gap", [5.0, 30.0, 50.0])
def test_log_form_is_exact_for_small_overlaps(impl: str, smooth: float, gap: float) -> None:
    logits = torch.zeros(1, 2, 16)
    logits[:, 1] = -gap
    target = torch.ones(1, 16).long()
    loss = TverskyLoss(log=True, smooth=smooth, impl=impl)
    expected = loops(logits, target, log=True, alpha=0.5, beta=0.5, smooth=smooth)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
    exact = gradient_of(TverskyLoss(log=True, smooth=smooth, impl="torch"), logits.double(), target)
    gradient = gradient_of(loss, logits, target)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-12)
    if smooth == 0:
        assert (gradient[:, 1] < -0.9 / 16).all()


def test_log_form_by_hand() -> None:
    """An absent class of mass 0.0175: log((0.0175 / 2 + s) / s)."""
    probs = torch.full((1, 1, 1), 0.0175)
    loss = TverskyLoss(log=True, smooth=1e-6, activation="none", classes="all")
    assert loss(probs, torch.zeros(1, 1).long()).item() == pytest.approx(
        np.log((0.0175 / 2 + 1e-6) / 1e-6), rel=1e-6
    )


# One definition of presence


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_impl
def test_rounded_weights_make_no_class_present(impl: str, dtype: torch.dtype) -> None:
    if impl == "native" and dtype == torch.float64:
        pytest.skip("It computes in float32.")
    torch.manual_seed(1)
    weights = torch.rand(1, 3, 40).softmax(1)  # sums of 1 up to rounding
    indices = torch.stack([torch.randperm(20)[:3] for _ in range(40)], 1)[None] // 2
    indices, weights = indices.view(1, 3, 5, 8), weights.view(1, 3, 5, 8)
    logits = torch.randn(1, 20, 5, 8, dtype=dtype)
    sparse = targets.sparse(indices, weights)
    dense = sparse.dense(20, torch.float64).y
    exact = torch.zeros(1, 20, 5, 8, dtype=torch.float64)
    normed = weights.double() / weights.double().sum(1, keepdim=True)
    exact.scatter_add_(1, indices, normed)
    torch.testing.assert_close(dense, exact, rtol=0, atol=1e-9)
    loss = JaccardMetricLoss(impl=impl)
    expected = JaccardMetricLoss(impl="torch")(logits.double(), exact).item()
    assert loss(logits, sparse).item() == pytest.approx(expected, rel=1e-5)


# Contents are checked


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no class": (torch.tensor([[0, 3, 1, 2]]), {}, r"in \[0, 2\], but found \[3\]"),
    "negative": (torch.tensor([[0, -1, 1, 2]]), {}, r"found \[-1\]"),
    "unsigned": (torch.tensor([[0, 255, 1, 2]], dtype=torch.uint8), {}, r"found \[255\]"),
    "negative probability": (torch.tensor([[[-0.5], [0.5], [1.0]]]), {}, r"in \[0.0, 1.0\]"),
    "sum": (torch.full((1, 3, 4), 0.5), {}, r"sum to 1 over the classes, .* the sum 1.5"),
    "nan": (torch.full((1, 3, 4), torch.nan), {}, r"`target` to be finite"),
    "weights": (
        torch.zeros(1, 4).long(),
        {"weights": -torch.ones(1, 4)},
        r"`weights` to be finite",
    ),
    "nan weights": (
        torch.zeros(1, 4).long(),
        {"weights": torch.full((1, 4), torch.nan)},
        r"`weights` to be finite and at least 0",
    ),
    "smoothed": (targets.smooth(torch.tensor([[0, 7, 1, 2]])), {}, r"found \[7\]"),
    "votes": (targets.votes(torch.tensor([[[0, 7, 1, 2]]])), {}, r"found \[7\]"),
    "sparse": (
        targets.sparse(torch.tensor([[[0] * 4, [9] * 4]]), torch.full((1, 2, 4), 0.5)),
        {},
        r"`indices` to be classes in \[0, 2\], but found \[9\]",
    ),
}


@every_impl
@pytest.mark.parametrize("name", WRONG)
def test_nonsense_raises_by_default(impl: str, name: str) -> None:
    target, maps, message = WRONG[name]
    shape = (1, 3, 1, 4) if name in ("votes", "sparse") and impl == "native" else (1, 3, 4)
    logits = torch.randn(1, 3, 1) if name == "negative probability" else torch.randn(shape)
    if len(shape) == 4:
        target = {
            "votes": targets.votes(torch.tensor([[[[0, 7, 1, 2]]]])),
            "sparse": targets.sparse(
                torch.tensor([[[[0] * 4], [[9] * 4]]]), torch.full((1, 2, 1, 4), 0.5)
            ),
        }[name]
    loss = JaccardMetricLoss(impl=impl)
    with pytest.raises(ValueError, match=message):
        loss(logits, target, **maps)
    if name not in ("votes", "sparse"):  # those are looked at in the first calls alone
        loss._calls = 100
        with pytest.raises(ValueError, match=message):
            loss(logits, target, **maps)
    loss.validate = False
    loss(logits, target, **maps)


@every_impl
@pytest.mark.parametrize("num_classes", [1, 2])
def test_a_mask_of_0_and_255_says_so(impl: str, num_classes: int) -> None:
    activation = "sigmoid" if num_classes == 1 else "softmax"
    logits, mask = torch.zeros(1, num_classes, 4), torch.tensor([[0, 255, 0, 255]])
    with pytest.raises(
        ValueError, match=r"found \[255\]. For a mask of 0 and 255, use `mask > 127`"
    ):
        overlap_statistics(logits, mask, activation=activation, impl=impl)
    assert overlap_statistics(logits, mask > 127, activation=activation).weight.item() == 4


@every_impl
def test_what_is_ignored_is_not_checked(impl: str) -> None:
    labels = torch.tensor([[0, 77, 255, 2]])
    options: dict[str, Any] = {"ignore_index": 255, "impl": impl}
    valid = torch.tensor([[True, False, True, True]])
    found = overlap_statistics(torch.zeros(1, 3, 4), labels, valid=valid, **options)
    weighted = overlap_statistics(torch.zeros(1, 3, 4), labels, weights=valid.float(), **options)
    assert found.weight.item() == weighted.weight.item() == 2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"classes": [1.5]}, ValueError, r"`classes` to be at least one integer"),
        ({"classes": [0, 0]}, ValueError, r"`classes` to be at least one integer"),
        ({"classes": []}, ValueError, r"without duplicates, but got \[\]"),
        ({"ignore_index": 1.5}, ValueError, r"`ignore_index` to be at least one integer"),
        ({"ignore_index": "255"}, ValueError, r"`ignore_index` to be at least one integer"),
        ({"smooth": np.inf}, ValueError, r"`smooth` to be finite"),
        ({"alpha": np.inf}, ValueError, r"`alpha` to be finite, but got inf"),
        ({"gamma": np.inf}, ValueError, r"`gamma` to be greater than 0, but got inf"),
        ({"focal_gamma": -1.0}, ValueError, r"`focal_gamma` to be at least 0"),
        ({"label_smoothing": 2.0}, ValueError, r"`label_smoothing` to be in \[0.0, 1.0\]"),
        ({"smooth": "1"}, TypeError, r"`smooth` to be a number, but got '1'"),
        ({"cross_entropy": None}, TypeError, r"`cross_entropy` to be a number, but got None"),
        ({"pos_weight": [1.0]}, ValueError, r"`pos_weight` needs activation='sigmoid'"),
        ({"reduction": "average"}, ValueError, r"`reduction` to be one of 'mean', 'sum', 'none'"),
    ],
)
def test_wrong_settings_raise(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        TverskyLoss(**settings)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            (np.zeros((1, 2, 4)), torch.zeros(1, 4).long()),
            r"`logits` to be a tensor, but got numpy",
        ),
        ((torch.zeros(1, 2, 4), np.zeros((1, 4))), r"`target` to be a tensor.* `torch.as_tensor`"),
        ((torch.zeros(1, 2, 4), [[0, 1]]), r"`target` to be a tensor"),
        ((torch.zeros(1, 2, 4).to_sparse(), torch.zeros(1, 4)), r"dense tensor.*to_dense"),
        ((torch.zeros(1, 2, 4), torch.zeros(1, 4).long().to_sparse()), r"`target` to be a dense"),
        ((torch.zeros(1, 2, 4).to(torch.complex64), torch.zeros(1, 4)), r"`logits` to be real"),
        ((torch.zeros(1, 2, 4), torch.zeros(1, 2, 4).to(torch.complex64)), r"`target` to be real"),
    ],
)
def test_what_is_no_plain_tensor_raises(tensors: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        JaccardMetricLoss()(*tensors)


def test_negative_shares_raise() -> None:
    logits, labels = torch.zeros(1, 2, 4), torch.zeros(1, 4).long()
    with pytest.raises(ValueError, match=r"`weight of a target` to be at least 0.0, but got -0.5"):
        JaccardMetricLoss()(logits, [(1.5, labels), (-0.5, labels)])


def test_classes_as_people_have_them() -> None:
    logits, labels = torch.randn(1, 4, 30), torch.randint(0, 4, (1, 30))
    expected = JaccardMetricLoss(classes=[1, 3])(logits, labels)
    kinds: list[Any] = [(1, -1), torch.tensor([1, 3]), np.array([3, 1]), range(1, 4, 2)]
    for classes in kinds:
        torch.testing.assert_close(JaccardMetricLoss(classes=classes)(logits, labels), expected)


# Devices without memory, compiled code


def test_gaussian_compiles_in_one_graph() -> None:
    logits, labels = torch.randn(1, 3, 6, 7), torch.randint(0, 3, (1, 6, 7))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = JaccardMetricLoss(impl="torch")(logits, targets.gaussian(labels))
        return value

    torch.compiler.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, labels), loss(logits, labels))


@pytest.mark.parametrize("impl", ["torch", "auto"])
def test_the_meta_device(impl: str) -> None:
    with torch.device("meta"):
        logits, labels = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8).long()
    for target in (labels, targets.boundary(labels), targets.gaussian(labels)):
        loss = JaccardMetricLoss(impl=impl, cross_entropy=0.25)(logits, target)
        assert (loss.device.type, loss.shape) == ("meta", ())


@pytest.mark.parametrize("impl", ["torch", "chunked", "native"])
def test_logits_are_no_probabilities(impl: str) -> None:
    loss = JaccardMetricLoss(activation="none", impl=impl, ignore_index=255)
    labels = torch.tensor([[[0, 1], [2, 255]]])
    probs = torch.tensor([0.2, 0.3, 0.5]).reshape(1, 3, 1, 1).repeat(1, 1, 2, 2)
    probs[..., 1, 1] = -9.0  # an ignored pixel may contain anything
    for target in (labels, [(0.5, labels), (0.5, labels)]):
        assert loss(probs, target).isfinite()
    with pytest.raises(ValueError, match=r"Expected probabilities in \[0, 1\].*but got -3"):
        loss(torch.where(probs == 0.3, -3.0, probs), labels)
    with pytest.raises(ValueError, match=r"but got 1.5"):  # the first calls are checked
        JaccardMetricLoss(activation="none", impl=impl)(torch.full((1, 3, 2, 2), 1.5), labels % 3)


def test_masks_with_a_channel_are_hard_labels() -> None:
    """As (N, *S) they are read in place, and a mask of 0/255 is told what to do."""
    masks, logits = torch.tensor([[[[0, 1], [1, 0]]]]), torch.tensor([[[[-1.0, 2.0], [0.5, 3.0]]]])
    loss = JaccardMetricLoss(activation="sigmoid")
    assert loss(logits, masks).item() == loss(logits, masks[:, 0]).item()
    assert loss(logits, masks).item() == pytest.approx(loss(logits, masks.float()).item(), abs=1e-6)
    assert isinstance(as_target(masks, logits_shape=(1, 1, 2, 2), independent=True), HardTarget)
    with pytest.raises(ValueError, match="mask > 127"):
        loss(logits, masks * 255)


@pytest.mark.parametrize("kind", ["gaussian", "votes", "sparse"])
def test_targets_are_made_under_vmap(kind: str) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 5, 6))
    shares = torch.rand(3, 2, 5, 6).softmax(1)

    def of(z: Tensor, y: Tensor, w: Tensor) -> Any:
        made = {
            "gaussian": lambda: targets.gaussian(y[None]),
            "votes": lambda: targets.votes(torch.stack([y, y.flip(0)])[None]),
            "sparse": lambda: targets.sparse(torch.stack([y, 3 - y])[None], w[None]),
        }[kind]()
        return JaccardMetricLoss(validate=False)(z[None], made)

    each = torch.stack([of(*one) for one in zip(logits, labels, shares, strict=True)])
    torch.testing.assert_close(torch.func.vmap(of)(logits, labels, shares), each)
