"""Losses in the words of segmentation_models_pytorch, held against the originals."""

import copy
import inspect
import math
import pickle
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from softiou import targets
from softiou.drop_in import smp as drop_in
from softiou.losses import lovasz_extension
from softiou.overlap import plain

NAMES = ("JaccardLoss", "DiceLoss", "TverskyLoss")
PIXELWISE = (
    *("FocalLoss", "LovaszLoss", "MCCLoss"),
    *("SoftBCEWithLogitsLoss", "SoftCrossEntropyLoss"),
)
every_loss = pytest.mark.parametrize("name", NAMES)
IGNORED = 255


def original(name: str, *arguments: Any, **settings: Any) -> Any:
    return getattr(smp.losses, name)(*arguments, **settings)


def ours(name: str, *arguments: Any, **settings: Any) -> Any:
    return getattr(drop_in, name)(*arguments, **settings)


def labels_for(mode: str, *, num_classes: int, ignored: bool, floating: bool) -> Tensor:
    """Random labels of a mode, (2, H, W) or (2, C, H, W); class 0 never occurs in the last ones."""
    if mode == "multiclass":
        labels = torch.randint(1, num_classes, (2, 4, 5))
    else:
        shape = (2, 4, 5) if mode == "binary" else (2, num_classes, 4, 5)
        labels = torch.randint(0, 2, shape)
    if ignored:
        labels[torch.rand(labels.shape) < 0.3] = IGNORED
    return labels.double() if floating and mode != "multiclass" else labels


# The value of the original


@every_loss
@hypothesis_settings(max_examples=60)
@given(
    mode=st.sampled_from(["binary", "multiclass", "multilabel"]),
    log_loss=st.booleans(),
    from_logits=st.booleans(),
    smooth=st.sampled_from([0.0, 1.0]),
    ignored=st.booleans(),
    floating=st.booleans(),
    eps=st.sampled_from([1e-7, 0.5, 30.0]),
    classes=st.sampled_from([None, [2], [0, 2], [1, 1, -1]]),
    weighted=st.booleans(),
    prices=st.sampled_from([(0.5, 0.5, 1.0), (0.3, 0.9, 2.0), (1.0, 0.0, 0.75)]),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_are_those_of_the_original(
    name: str,
    mode: str,
    log_loss: bool,
    from_logits: bool,
    smooth: float,
    ignored: bool,
    floating: bool,
    eps: float,
    classes: list[int] | None,
    weighted: bool,
    prices: tuple[float, float, float],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "log_loss": log_loss,
        "from_logits": from_logits,
        "smooth": smooth,
        "ignore_index": IGNORED if ignored else None,
        "eps": min(eps, 0.5) if log_loss else eps,
    }
    if mode != "binary":
        settings["classes"] = classes
        settings["class_weights"] = [0.5, 2.0, 1.0] if weighted else None
    if name == "TverskyLoss":
        settings |= dict(zip(("alpha", "beta", "gamma"), prices, strict=True))
    y_pred = torch.randn(2, 1 if mode == "binary" else 3, 4, 5, dtype=torch.float64)
    if not from_logits:
        y_pred = y_pred.softmax(1) if mode == "multiclass" else y_pred.sigmoid()
    y_pred.requires_grad_()
    y_true = labels_for(mode, num_classes=3, ignored=ignored, floating=floating)
    expected = original(name, mode, **settings)(y_pred, y_true)
    loss = ours(name, mode, **settings)(y_pred, y_true)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)
    if expected > 0:  # where all is left out, the slope of the original is NaN for gamma < 1
        (wanted,) = torch.autograd.grad(expected, y_pred)
        (gradient,) = torch.autograd.grad(loss, y_pred)
        torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)


@every_loss
def test_arguments_stand_in_the_same_places(name: str) -> None:
    y_pred, y_true = torch.randn(2, 3, 6), torch.randint(0, 3, (2, 6))
    places = ("multiclass", [0, 2], True, True, 0.5, 1, 1e-3)
    expected = original(name, *places)(y_pred, y_true)
    torch.testing.assert_close(ours(name, *places)(y_pred, y_true), expected)
    by_name = ours(name, mode="multiclass")(y_pred=y_pred, y_true=y_true)
    torch.testing.assert_close(by_name, original(name, "multiclass")(y_pred, y_true))


@pytest.mark.parametrize(
    ("mode", "y_pred", "y_true"),
    [
        ("binary", (2, 1, 4, 5), (2, 1, 4, 5)),
        ("binary", (2, 4, 5), (2, 4, 5)),
        ("multiclass", (2, 2, 4, 5), (2, 1, 4, 5)),
        ("multiclass", (2, 2, 4, 5), (2, 20)),
        ("multilabel", (2, 3, 4, 5), (2, 3, 20)),
        ("multiclass", (2, 2, 3, 4, 5), (2, 3, 4, 5)),
    ],
)
def test_shapes_are_those_of_the_original(
    mode: str, y_pred: tuple[int, ...], y_true: tuple[int, ...]
) -> None:
    logits, labels = torch.randn(y_pred), torch.randint(0, 2, y_true)
    expected = original("DiceLoss", mode)(logits, labels)
    torch.testing.assert_close(ours("DiceLoss", mode)(logits, labels), expected)


def test_modes_have_the_names_of_the_original() -> None:
    for mode in ("BINARY_MODE", "MULTICLASS_MODE", "MULTILABEL_MODE"):
        assert getattr(drop_in, mode) == getattr(smp.losses, mode)


def test_value_by_hand() -> None:
    """Scores 1 / 1.5 and 0.5 / 1; the third class is absent and counts as 0."""
    probs = torch.tensor([[[1.0, 0.5], [0.0, 0.5], [0.0, 0.0]]])
    loss = ours("JaccardLoss", "multiclass", from_logits=False)(probs, torch.tensor([[0, 1]]))
    assert loss.item() == pytest.approx((1 / 3 + 1 / 2) / 3)


# Soft labels


@every_loss
@hypothesis_settings(max_examples=25)
@given(seed=st.integers(0, 1000), mode=st.sampled_from(["binary", "multiclass", "multilabel"]))
def test_soft_labels_are_the_minimum(name: str, seed: int, mode: str) -> None:
    torch.manual_seed(seed)
    C = 1 if mode == "binary" else 3
    draw = [torch.randn(2, C, 8, dtype=torch.float64) for _ in range(2)]
    y, p = (x.softmax(1) if mode == "multiclass" else x.sigmoid() for x in draw)
    loss = ours(name, mode, from_logits=False)
    assert loss(y, y).item() == pytest.approx(0, abs=1e-12)
    assert loss(p, y) > 1e-3


def test_the_original_knows_no_soft_classes() -> None:
    probs = torch.rand(2, 3, 8).softmax(1)
    with pytest.raises(RuntimeError):
        original("JaccardLoss", "multiclass")(probs, probs)


@every_loss
def test_targets_of_softiou_go_in(name: str) -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    smoothed = targets.smooth(labels, 0.2)
    loss = ours(name, "multiclass")
    probs, _ = targets.to_probs(smoothed, num_classes=3)
    torch.testing.assert_close(loss(logits, smoothed), loss(logits, probs))
    hard = ours(name, "multiclass", ignore_index=1)
    expected = hard(logits, labels)
    torch.testing.assert_close(hard(logits, targets.HardTarget(labels)), expected)


# One pass, and nothing invalid


def test_the_fast_pass_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "gather", None)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    labels = torch.randint(0, 3, (2, 4, 5))
    ours("JaccardLoss", "multiclass", ignore_index=255)(logits, labels).backward()
    ours("JaccardLoss", "multilabel")(logits, logits.detach().sigmoid()).backward()
    ours("JaccardLoss", "binary", ignore_index=255)(logits[:, 0], labels > 0).backward()
    assert logits.grad is not None


@every_loss
@pytest.mark.parametrize("log_loss", [False, True])
@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_nothing_valid_is_an_attached_zero(name: str, mode: str, log_loss: bool) -> None:
    logits = torch.randn(2, 1 if mode == "binary" else 3, 4, requires_grad=True)
    shape = (2, 3, 4) if mode == "multilabel" else (2, 4)
    more = {"gamma": 0.5} if name == "TverskyLoss" else {}
    loss = ours(name, mode, log_loss=log_loss, ignore_index=255, eps=0.0, **more)
    value = loss(logits, torch.full(shape, 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.randn(1, 2, 64, 64)
    labels = torch.randint(0, 2, (1, 64, 64))
    loss = ours("DiceLoss", "multiclass")
    found = loss(logits.bfloat16(), labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(logits.bfloat16().float(), labels).item())


def test_weights_move_with_the_module_but_not_into_checkpoints() -> None:
    loss = ours("DiceLoss", "multiclass", class_weights=[1.0, 2.0])
    assert loss.to("meta").class_weights.device.type == "meta"
    assert loss.state_dict() == {}


@pytest.mark.parametrize("name", [*NAMES, *PIXELWISE])
def test_every_setting_is_printed(name: str) -> None:
    mode = () if name.startswith("Soft") or name == "MCCLoss" else ("binary",)
    text = repr(ours(name, *mode))
    for setting in inspect.signature(original(name, *mode).__init__).parameters:
        assert f"{setting}=" in text


@pytest.mark.parametrize("name", [*NAMES, "FocalLoss", "LovaszLoss"])
def test_pixels_that_are_not_valid_are_cut_out(name: str) -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[:, :2] = False
    expected = ours(name, "multiclass")(logits[:, :, 2:], labels[:, 2:])
    for mask in (valid, valid.unsqueeze(1)):
        torch.testing.assert_close(ours(name, "multiclass")(logits, labels, mask), expected)
    expected = ours(name, "binary")(logits[:, :1, 2:], labels[:, 2:] > 0)
    found = ours(name, "binary")(logits[:, :1], labels > 0, valid)
    torch.testing.assert_close(found, expected)
    several = torch.randint(0, 2, logits.shape)
    expected = ours(name, "multilabel")(logits[:, :, 2:], several[:, :, 2:])
    torch.testing.assert_close(ours(name, "multilabel")(logits, several, valid), expected)


@every_loss
def test_copies_and_pickles_keep_the_settings(name: str) -> None:
    loss = ours(name, "multiclass", classes=[0, 2], class_weights=[1.0, 2.0, 3.0], smooth=0.5)
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert repr(other) == repr(loss)
        torch.testing.assert_close(other(logits, labels), loss(logits, labels))


# The losses of single pixels


@hypothesis_settings(max_examples=60)
@given(
    mode=st.sampled_from(["binary", "multiclass", "multilabel"]),
    alpha=st.sampled_from([None, 0.3]),
    gamma=st.sampled_from([0.0, 1.0, 2.5]),
    from_logits=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    normalized=st.booleans(),
    reduced_threshold=st.sampled_from([None, 0.4]),
    ignored=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_focal_loss(
    mode: str,
    alpha: float | None,
    gamma: float,
    from_logits: bool,
    reduction: str,
    normalized: bool,
    reduced_threshold: float | None,
    ignored: bool,
    weighted: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    ignored = ignored and mode != "multilabel"  # which the original cannot do
    settings: dict[str, Any] = {
        "alpha": alpha,
        "gamma": gamma,
        "from_logits": from_logits,
        "reduction": reduction,
        "normalized": normalized,
        "reduced_threshold": reduced_threshold,
        "ignore_index": IGNORED if ignored else None,
    }
    if mode != "binary" and weighted and reduction != "none":
        settings["class_weights"] = [0.5, 2.0, 1.0]
    y_pred = torch.randn(2, 1 if mode == "binary" else 3, 4, 5, dtype=torch.float64)
    y_pred = (y_pred if from_logits else y_pred.sigmoid()).requires_grad_()
    y_true = labels_for(mode, num_classes=3, ignored=ignored, floating=False)
    expected = original("FocalLoss", mode, **settings)(y_pred, y_true)
    found = ours("FocalLoss", mode, **settings)(y_pred, y_true)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    (wanted,) = torch.autograd.grad(expected.sum(), y_pred)
    (gradient,) = torch.autograd.grad(found.sum(), y_pred)
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)


def test_focal_loss_of_probabilities() -> None:
    logits, labels = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    onehot = torch.nn.functional.one_hot(labels, 3).mT.float()
    loss = ours("FocalLoss", "multiclass", alpha=0.3)
    torch.testing.assert_close(loss(logits, onehot), loss(logits, labels))


@hypothesis_settings(max_examples=40)
@given(
    mode=st.sampled_from(["binary", "multiclass", "multilabel"]),
    per_image=st.booleans(),
    ignored=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_lovasz_loss(mode: str, per_image: bool, ignored: bool, seed: int) -> None:
    torch.manual_seed(seed)
    settings = {"per_image": per_image, "ignore_index": IGNORED if ignored else None}
    y_pred = torch.randn(2, 1 if mode == "binary" else 3, 4, 5, requires_grad=True)
    y_true = labels_for(mode, num_classes=3, ignored=ignored, floating=False)
    expected = original("LovaszLoss", mode, **settings)(y_pred, y_true)
    found = ours("LovaszLoss", mode, **settings)(y_pred, y_true)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    (wanted,) = torch.autograd.grad(expected, y_pred)
    (gradient,) = torch.autograd.grad(found, y_pred)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_lovasz_loss_by_hand() -> None:
    """Errors 0.9 of a wrong pixel and 0.4 of a right one: 0.9 * 1/2 + 0.4 * 1/2."""
    errors, y = torch.tensor([0.4, 0.9]), torch.tensor([1.0, 0.0])
    assert lovasz_extension(errors, y).item() == pytest.approx(0.65)


@pytest.mark.parametrize("mode", ["binary", "multiclass"])
def test_lovasz_loss_without_pixels_is_an_attached_zero(mode: str) -> None:
    logits = torch.randn(2, 1 if mode == "binary" else 3, 4, requires_grad=True)
    value = ours("LovaszLoss", mode, ignore_index=255)(logits, torch.full((2, 4), 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignore_index", [None, 2, -100])
@pytest.mark.parametrize("dim", [1, -1])
def test_soft_cross_entropy(reduction: str, ignore_index: int | None, dim: int) -> None:
    logits = torch.randn(2, 3, 4, 5)
    labels = torch.randint(0, 3, (2, 4, 5) if dim == 1 else (2, 3, 4))
    settings = {"smooth_factor": 0.1, "ignore_index": ignore_index, "reduction": reduction}
    expected = original("SoftCrossEntropyLoss", dim=dim, **settings)(logits, labels)
    found = ours("SoftCrossEntropyLoss", dim=dim, **settings)(logits, labels)
    torch.testing.assert_close(found, expected)
    plain_loss = ours("SoftCrossEntropyLoss")(logits, torch.zeros(2, 4, 5).long())
    assert plain_loss.item() == pytest.approx(-logits.log_softmax(1)[:, 0].mean().item(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smooth_factor", [None, 0.1])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_soft_binary_cross_entropy(
    reduction: str, smooth_factor: float | None, ignore_index: int | None
) -> None:
    logits = torch.randn(2, 1, 4, 5)
    labels = torch.randint(0, 2, (2, 1, 4, 5)).float()
    labels[0, 0, 0] = 255 if ignore_index else 1
    settings = {
        "weight": torch.tensor(0.7),
        "pos_weight": torch.tensor(2.0),
        "reduction": reduction,
        "smooth_factor": smooth_factor,
        "ignore_index": ignore_index,
    }
    expected = original("SoftBCEWithLogitsLoss", **settings)(logits, labels)
    found = ours("SoftBCEWithLogitsLoss", **settings)
    torch.testing.assert_close(found(logits, labels), expected)
    assert found.state_dict().keys() == {"weight", "pos_weight"}


def test_matthews_correlation() -> None:
    probs, labels = torch.rand(2, 1, 4, 5), torch.randint(0, 2, (2, 4, 5))
    expected = original("MCCLoss")(probs, labels)
    torch.testing.assert_close(ours("MCCLoss")(probs, labels), expected)


# Errors


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["multi"], {}, r"`mode` to be one of 'binary', 'multiclass', 'multilabel', but got"),
        (["binary"], {"classes": [0]}, r"`classes` needs several classes.*remove it"),
        (["binary"], {"class_weights": [1.0]}, r"`class_weights` needs several classes"),
        (["binary"], {"smooth": -1.0}, r"`smooth` to be at least 0"),
        (["binary"], {"eps": -1.0}, r"`eps` to be at least 0"),
        (["multiclass"], {"class_weights": [-1.0, 2.0]}, r"at least 0 and not all 0, but got \["),
        (["multiclass"], {"class_weights": [0.0, 0.0]}, r"at least 0 and not all 0"),
    ],
)
@every_loss
def test_wrong_settings_are_errors(
    name: str, arguments: list[str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ours(name, *arguments, **settings)


@pytest.mark.parametrize("settings", [{"alpha": -0.1}, {"beta": -0.1}, {"gamma": 0.0}])
def test_wrong_prices_are_errors(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ours("TverskyLoss", "binary", **settings)


@pytest.mark.parametrize(
    ("mode", "settings", "y_true", "message"),
    [
        ("multiclass", {"classes": [3]}, (2, 4), r"indices in \[-3, 2\].*got \[3\]"),
        ("multiclass", {"classes": []}, (2, 4), r"at least one, but got \[\]"),
        ("multiclass", {"class_weights": [1.0, 2.0]}, (2, 4), r"Expected 3 `class_weights`.*got 2"),
        ("multiclass", {}, (2, 5), r"`y_true` to hold 8 values for 2 images.*got \(2, 5\)"),
        ("multiclass", {}, (1, 8), r"for 2 images"),
        ("multilabel", {}, (2, 4), r"`y_true` to hold 24 values"),
        ("binary", {}, (2, 4), r"`y_true` to hold 24 values"),
    ],
)
def test_wrong_labels_are_errors(
    mode: str, settings: dict[str, Any], y_true: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ours("DiceLoss", mode, **settings)(torch.zeros(2, 3, 4), torch.ones(y_true).long())


def test_one_class_is_binary() -> None:
    with pytest.raises(ValueError, match=r"several classes with mode='multiclass'.*mode='binary'"):
        ours("DiceLoss", "multiclass")(torch.zeros(2, 1, 4), torch.zeros(2, 4).long())
    with pytest.raises(ValueError, match=r"`y_true` to hold 24 values"):
        ours("DiceLoss", "multiclass")(torch.zeros(2, 3, 4), torch.rand(2, 2, 4))


def test_log_of_a_score_near_one_is_exact() -> None:
    probs = torch.tensor([[[1 - 1e-4, 1 - 1e-4]]], dtype=torch.float64)
    loss = ours("DiceLoss", "binary", log_loss=True, from_logits=False)
    expected = -math.log(2 * (1 - 1e-4) / (2 - 1e-4))
    assert loss(probs, torch.ones(1, 2).long()).item() == pytest.approx(expected, rel=1e-9)


def test_compiles_without_a_graph_break() -> None:
    loss: torch.nn.Module = ours("JaccardLoss", "multiclass", ignore_index=255)
    logits, labels = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 3, (2, 4, 5))
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, labels), loss(logits, labels))


@pytest.mark.parametrize("name", PIXELWISE)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_masks_of_0_and_255_raise_unless_255_is_ignored(name: str, dtype: torch.dtype) -> None:
    masks = torch.tensor([[[0, 255], [255, 0]]], dtype=dtype)
    y_pred = torch.rand(1, 1, 2, 2)
    modes = ("binary", "multilabel") if name in ("FocalLoss", "LovaszLoss") else (None,)
    if name == "SoftCrossEntropyLoss":
        with pytest.raises(IndexError, match=r"Target 255 is out of bounds"):
            ours(name)(y_pred, masks.long())
        return
    for mode in modes:
        given = () if mode is None else (mode,)
        with pytest.raises(ValueError, match=r"found \[255\].*use `mask > 127`"):
            ours(name, *given)(y_pred, masks.unsqueeze(1))
        if name != "MCCLoss" and mode != "multilabel":  # the original FocalLoss fails there
            found = ours(name, *given, ignore_index=255)(y_pred, masks.unsqueeze(1))
            expected = original(name, *given, ignore_index=255)(y_pred, masks.unsqueeze(1).float())
            torch.testing.assert_close(found, expected)
    if name in ("FocalLoss", "LovaszLoss"):
        with pytest.raises(ValueError, match=r"class indices in \[0, 2\], but found \[255\]"):
            ours(name, "multiclass")(torch.randn(1, 3, 2, 2), masks.long())


@pytest.mark.parametrize("ignored", [1, None])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_shape_of_the_soft_cross_entropy(ignored: int | None, reduction: str) -> None:
    y_pred, y_true = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    settings = {"smooth_factor": 0.1, "ignore_index": ignored, "reduction": reduction}
    expected = original("SoftCrossEntropyLoss", **settings)
    for labels in (y_true, y_true.unsqueeze(1)):
        found = ours("SoftCrossEntropyLoss", **settings)(y_pred, labels)
        torch.testing.assert_close(found, expected(y_pred, labels))


@pytest.mark.parametrize("name", ["SoftCrossEntropyLoss", "SoftBCEWithLogitsLoss", "MCCLoss"])
def test_valid_equals_ignore_index(name: str) -> None:
    y_pred, y_true = torch.rand(2, 3, 4, 5), torch.randint(0, 2, (2, 3, 4, 5))
    valid = torch.rand(2, 4, 5) < 0.6
    if name == "MCCLoss":
        y_pred, y_true = y_pred[:, 0], y_true[:, 0]
        expected = ours(name)(y_pred[valid], y_true[valid])
    else:
        y_true = y_true[:, 0] if name == "SoftCrossEntropyLoss" else y_true
        left = valid if y_true.ndim == 3 else valid.unsqueeze(1)
        expected = ours(name, ignore_index=-1)(y_pred, y_true.where(left, -1))
    for mask in (valid, valid.unsqueeze(1)):
        torch.testing.assert_close(ours(name)(y_pred, y_true, mask), expected)
