"""Losses in the words of MONAI, held against the originals."""

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monai import losses as monai
from monai.data.meta_tensor import MetaTensor
from monai.losses.ds_loss import DeepSupervisionLoss
from monai.utils.enums import LossReduction, Weight
from torch import Tensor, nn

from softiou import targets
from softiou.drop_in import monai as drop_in
from softiou.overlap import plain

NAMES = ("DiceLoss", "TverskyLoss", "GeneralizedDiceLoss", "DiceCELoss")
FOCAL = ("FocalLoss", "DiceFocalLoss", "GeneralizedDiceFocalLoss")
every_loss = pytest.mark.parametrize("name", NAMES)


def original(name: str, *arguments: Any, **settings: Any) -> Any:
    return getattr(monai, name)(*arguments, **settings)


def ours(name: str, *arguments: Any, **settings: Any) -> Any:
    return getattr(drop_in, name)(*arguments, **settings)


def same(ours: Tensor, original: Tensor) -> None:
    assert ours.shape == original.shape
    torch.testing.assert_close(ours, original, rtol=1e-6, atol=1e-8, check_dtype=False)


def case(
    num_classes: int, activation: str, *, onehot: bool, independent: bool, space: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """A random input that wants a gradient, and labels (2, 1, *S) or one-hot (2, C, *S)."""
    logits = torch.randn(2, num_classes, *space, dtype=torch.float64)
    logits = logits.sigmoid() if activation == "none" else logits
    if num_classes == 1 or independent:
        target = torch.randint(0, 2, (2, num_classes, *space)).double()
    else:
        labels = torch.randint(1, num_classes, (2, 1, *space))  # no background in any
        target = torch.zeros(logits.shape).scatter_(1, labels, 1.0) if onehot else labels.float()
    return logits.requires_grad_(), target


def activated(activation: str) -> dict[str, Any]:
    settings: dict[str, dict[str, Any]] = {
        "none": {},
        "other_act": {"other_act": torch.sigmoid},
        "sigmoid": {"sigmoid": True},
        "softmax": {"softmax": True},
    }
    return settings[activation]


# The value of the original


@every_loss
@hypothesis_settings(max_examples=60)
@given(
    activation=st.sampled_from(["softmax", "sigmoid", "other_act", "none"]),
    num_classes=st.sampled_from([1, 3]),
    labels=st.sampled_from(["onehot", "indices", "independent"]),
    include_background=st.booleans(),
    jaccard=st.booleans(),
    squared_pred=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    smoothing=st.sampled_from([(1e-5, 1e-5), (0.0, 1e-3), (1.0, 2.0)]),
    batch=st.booleans(),
    weight=st.sampled_from([None, 0.5, [0.5, 2.0, 1.0]]),
    ignore_index=st.sampled_from([None, 1, 2, 255]),
    prices=st.sampled_from([(0.5, 0.5), (0.3, 0.9)]),
    w_type=st.sampled_from(["square", "simple", "uniform"]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    space=st.sampled_from([(4, 5), (2, 3, 4)]),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_are_those_of_the_original(
    name: str,
    activation: str,
    num_classes: int,
    labels: str,
    include_background: bool,
    jaccard: bool,
    squared_pred: bool,
    reduction: str,
    smoothing: tuple[float, float],
    batch: bool,
    weight: float | list[float] | None,
    ignore_index: int | None,
    prices: tuple[float, float],
    w_type: str,
    label_smoothing: float,
    space: tuple[int, ...],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    if num_classes == 1:  # what means nothing for one class has a test of its own
        activation = "sigmoid" if activation == "softmax" else activation
        include_background, labels = True, "onehot"
    settings: dict[str, Any] = {
        **activated(activation),
        "include_background": include_background,
        "to_onehot_y": labels == "indices",
        "reduction": reduction,
        "smooth_nr": smoothing[0],
        "smooth_dr": smoothing[1],
        "batch": batch,
    }
    if name in ("DiceLoss", "TverskyLoss"):
        settings["ignore_index"] = ignore_index
    if name in ("DiceLoss", "DiceCELoss"):
        settings |= {"jaccard": jaccard, "squared_pred": squared_pred}
    if name == "DiceLoss":
        foreground = isinstance(weight, list) and not include_background
        settings["weight"] = weight[1:] if foreground else weight  # type: ignore[index]
    if name == "TverskyLoss":
        settings |= {"alpha": prices[0], "beta": prices[1]}
    if name == "GeneralizedDiceLoss":
        settings["w_type"] = w_type
    if name == "DiceCELoss":
        values = [weight] if isinstance(weight, float) else weight
        fits = values is not None and len(values) == num_classes
        settings |= {
            "weight": torch.tensor(values, dtype=torch.float64) if fits else None,
            "reduction": "sum" if reduction == "sum" else "mean",
            "label_smoothing": label_smoothing,
            "lambda_dice": prices[0],
            "lambda_ce": prices[1],
        }
    input, target = case(
        num_classes,
        activation,
        onehot=labels == "onehot",
        independent=labels == "independent",
        space=space,
    )
    expected = original(name, **settings)(input, target)
    loss = ours(name, **settings)(input, target)
    same(loss, expected)
    (wanted,) = torch.autograd.grad(expected.sum(), input)
    (gradient,) = torch.autograd.grad(loss.sum(), input)
    same(gradient, wanted)


@pytest.mark.parametrize("name", FOCAL)
@hypothesis_settings(max_examples=60)
@given(
    num_classes=st.sampled_from([1, 3]),
    labels=st.sampled_from(["onehot", "indices", "soft"]),
    include_background=st.booleans(),
    gamma=st.sampled_from([0.0, 1.0, 2.5]),
    alpha=st.sampled_from([None, 0.3, [0.2, 1.0, 3.0]]),
    weight=st.sampled_from([None, 0.5, [0.5, 2.0, 1.0]]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    use_softmax=st.booleans(),
    ignore_index=st.sampled_from([None, None, 1, 255]),
    more=st.sampled_from([{}, {"batch": True, "squared_pred": True}]),
    seed=st.integers(0, 1000),
)
@pytest.mark.filterwarnings("ignore:.*`alpha`")
def test_focal_losses_are_those_of_the_original(
    name: str,
    num_classes: int,
    labels: str,
    include_background: bool,
    gamma: float,
    alpha: float | list[float] | None,
    weight: float | list[float] | None,
    reduction: str,
    use_softmax: bool,
    ignore_index: int | None,
    more: dict[str, Any],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    if num_classes == 1:
        include_background, labels = True, "onehot"
    classes = slice(None if include_background else 1, num_classes)

    def fitting(value: Any) -> Any:
        listed = isinstance(value, list)
        return None if listed and num_classes == 1 else value[classes] if listed else value

    settings: dict[str, Any] = {
        "include_background": include_background,
        "to_onehot_y": labels == "indices",
        "gamma": gamma,
        "weight": fitting(weight),
        "reduction": reduction,
    }
    if name == "FocalLoss":
        use_softmax = use_softmax and num_classes > 1
        settings |= {"use_softmax": use_softmax, "ignore_index": ignore_index}
        settings["alpha"] = fitting(alpha)
    else:
        settings |= {"sigmoid": True, "batch": "batch" in more}
        settings |= more if name == "DiceFocalLoss" else {}
        if "soft" in labels and "squared_pred" not in more:
            labels = "onehot"  # of the Dice loss the original needs to be told
    input, target = case(
        num_classes, "sigmoid", onehot=labels != "indices", independent=False, space=(3, 4)
    )
    if labels == "soft" and ignore_index is None and name == "FocalLoss":
        target = torch.rand_like(input)
    expected = original(name, **settings)(input, target)
    found = ours(name, **settings)(input, target)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, check_dtype=False)
    (wanted,) = torch.autograd.grad(expected.sum(), input)
    (gradient,) = torch.autograd.grad(found.sum(), input)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


@every_loss
def test_arguments_stand_in_the_same_places(name: str) -> None:
    input, labels = torch.randn(2, 3, 6), torch.randint(0, 3, (2, 1, 6))
    places = {
        "DiceLoss": (False, True, False, True, None, False, True, "sum", 0.1, 0.2, True, 0.5),
        "TverskyLoss": (False, True, False, True, None, 0.3, 0.9, "sum", 0.1, 0.2, True),
        "GeneralizedDiceLoss": (False, True, False, True, None, "simple", "sum", 0.1, 0.2, True),
        "DiceCELoss": (False, True, False, True, None, False, True, "sum", 0.1, 0.2, True, None, 2),
    }[name]
    same(ours(name, *places)(input, labels), original(name, *places)(input, labels))
    found = ours(name, softmax=True, to_onehot_y=True)(input=input, target=labels)
    same(found, original(name, softmax=True, to_onehot_y=True)(input, labels))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float16])
@every_loss
def test_labels_may_have_any_dtype(name: str, dtype: torch.dtype) -> None:
    logits = torch.randn(2, 2, 9)
    labels = torch.randint(0, 2, (2, 1, 9))
    onehot = torch.cat([1 - labels, labels], 1).to(dtype)
    expected = original(name, softmax=True)(logits, onehot.float())
    same(ours(name, softmax=True)(logits, onehot), expected)
    found = ours(name, softmax=True, to_onehot_y=True)(logits, labels.to(dtype))
    same(found, expected)


@every_loss
def test_enumerations_and_meta_tensors_go_in(name: str) -> None:
    logits, labels = torch.randn(2, 3, 9, requires_grad=True), torch.randint(0, 3, (2, 1, 9))
    settings = {"softmax": True, "to_onehot_y": True, "reduction": LossReduction.SUM}
    if name == "GeneralizedDiceLoss":
        settings["w_type"] = Weight.UNIFORM
    expected = original(name, **settings)(logits, labels)
    found = ours(name, **settings)(MetaTensor(logits), MetaTensor(labels.float()))
    same(found, expected)
    assert type(found) is Tensor
    torch.autograd.backward(found)
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@every_loss
def test_deep_supervision_of_monai_wraps_them(name: str) -> None:
    outputs = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)]
    labels = torch.randint(0, 3, (2, 1, 8, 8)).float()
    settings = {"softmax": True, "to_onehot_y": True}
    expected = DeepSupervisionLoss(original(name, **settings))(outputs, labels)
    same(DeepSupervisionLoss(ours(name, **settings))(outputs, labels), expected)


@every_loss
def test_one_class_warns_of_what_means_nothing(name: str) -> None:
    input, target = torch.rand(2, 1, 6), torch.randint(0, 2, (2, 1, 6)).float()
    settings = {"to_onehot_y": True, "include_background": False, "softmax": True}
    with pytest.warns(UserWarning, match="single channel prediction"):
        expected = original(name, **settings)(input, target)
    with pytest.warns(UserWarning, match="ignored") as said:
        found = ours(name, **settings)(input, target)
    assert [str(one.message) for one in said] == [
        "single channel prediction, `softmax=True` ignored.",
        "single channel prediction, `to_onehot_y=True` ignored.",
        "single channel prediction, `include_background=False` ignored.",
    ]
    same(found, expected)


# Soft labels


@every_loss
@hypothesis_settings(max_examples=25)
@given(seed=st.integers(0, 1000), softmax=st.booleans(), batch=st.booleans())
def test_soft_labels_are_the_minimum(name: str, seed: int, softmax: bool, batch: bool) -> None:
    torch.manual_seed(seed)
    logits, others = (torch.randn(2, 3, 8, dtype=torch.float64) for _ in range(2))
    activation = {"softmax": True} if softmax else {"sigmoid": True}
    if name == "DiceCELoss":
        activation = {"softmax": True, "lambda_ce": 0.0}  # type: ignore[dict-item]
        softmax = True
    y = logits.softmax(1) if softmax else logits.sigmoid()
    loss = ours(name, batch=batch, **activation)
    assert loss(logits, y).item() == pytest.approx(0, abs=1e-12)
    assert loss(others, y) > 1e-3


@pytest.mark.parametrize("name", ["DiceLoss", "TverskyLoss", "GeneralizedDiceLoss"])
def test_the_original_prefers_a_wrong_prediction(name: str) -> None:
    """A pixel that is 0.7 of the class: MONAI's default likes 1 better than 0.7."""
    y = torch.tensor([[[0.7, 0.7]]])
    right, wrong = y.clone(), torch.ones_like(y)
    assert original(name)(wrong, y) < original(name)(right, y)
    assert ours(name)(wrong, y) > ours(name)(right, y)
    assert ours(name)(right, y).item() == pytest.approx(0, abs=1e-6)
    told = original(name, soft_label=True)
    same(ours(name)(wrong, y), told(wrong, y))  # as the original, once it is told


@every_loss
def test_targets_of_softiou_go_in(name: str) -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    smoothed = targets.smooth(labels, 0.2)
    probs, _ = targets.to_probs(smoothed, num_classes=3)
    loss = ours(name, softmax=True)
    same(loss(logits, smoothed), loss(logits, probs))


def test_targets_of_softiou_are_ignored_by_label() -> None:
    logits, labels = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    labels[:, :3] = 255
    loss = ours("DiceLoss", softmax=True, to_onehot_y=True, ignore_index=255)
    same(loss(logits, targets.HardTarget(labels)), loss(logits, labels.unsqueeze(1)))


# Masks


@pytest.mark.parametrize("name", [*NAMES, *FOCAL])
def test_pixels_that_are_not_valid_are_cut_out(name: str) -> None:
    logits, labels = torch.randn(2, 3, 9), torch.randint(0, 3, (2, 1, 9))
    valid = torch.zeros(2, 9, dtype=torch.bool)
    valid[:, 3:] = True
    torch.manual_seed(0)
    more = {} if name == "FocalLoss" else {"softmax": True}
    loss = ours(name, to_onehot_y=True, **more)
    cut = loss(logits[..., 3:].clone(), labels[..., 3:])
    for mask in (valid, valid.unsqueeze(1)):
        found = loss(logits, labels, mask)
        same(found, cut)


@pytest.mark.parametrize("squared_pred", [False, True])
@hypothesis_settings(max_examples=20)
@given(seed=st.integers(0, 1000), softmax=st.booleans(), shared=st.booleans())
def test_the_masked_loss_is_that_of_the_original(
    squared_pred: bool, seed: int, softmax: bool, shared: bool
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    onehot = torch.zeros(2, 3, 4, 5).scatter_(1, torch.randint(0, 3, (2, 1, 4, 5)), 1.0)
    mask = torch.randint(0, 2, (1 if shared else 2, 1, 4, 5))
    settings = {"softmax": softmax, "sigmoid": not softmax, "squared_pred": squared_pred}
    expected = original("MaskedDiceLoss", **settings)(logits, onehot, mask)
    found = ours("MaskedDiceLoss", **settings)(logits, onehot, mask=mask)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    same(ours("MaskedDiceLoss", **settings)(logits, onehot, mask), found)


def test_a_mask_leaves_labels_of_the_background_alone() -> None:
    """Where MONAI turns the labels outside into background that was missed."""
    logits, labels = torch.randn(1, 2, 8), torch.randint(0, 2, (1, 1, 8))
    mask = torch.ones(1, 1, 8)
    mask[..., :4] = 0
    loss = ours("MaskedDiceLoss", softmax=True, to_onehot_y=True)
    same(loss(logits, labels, mask), loss(logits[..., 4:].clone(), labels[..., 4:]))
    theirs = original("MaskedDiceLoss", softmax=True, to_onehot_y=True)(logits, labels, mask)
    assert theirs > loss(logits, labels, mask) + 0.05


@pytest.mark.parametrize("name", [*NAMES, *FOCAL])
def test_every_setting_is_printed(name: str) -> None:
    text = repr(ours(name))
    for setting in inspect.signature(original(name).__init__).parameters:
        if setting not in ("soft_label",):
            assert f"{setting}=" in text


# One pass, and nothing to divide by


@every_loss
def test_the_fast_pass_does_the_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "gather", None)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    labels = torch.randint(0, 3, (2, 1, 4, 5)).float()
    ours(name, softmax=True, to_onehot_y=True)(logits, labels).backward()
    ours(name, sigmoid=True)(logits, (labels > 1).expand_as(logits)).backward()
    assert logits.grad is not None


def test_cross_entropy_comes_with_the_same_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", None)
    monkeypatch.setattr(torch.nn.BCEWithLogitsLoss, "forward", None)
    labels = torch.randint(0, 2, (2, 1, 7))
    two = ours("DiceCELoss", softmax=True, to_onehot_y=True)(torch.zeros(2, 2, 7), labels)
    one = ours("DiceCELoss", sigmoid=True)(torch.zeros(2, 1, 7), labels)
    assert two.item() - ours("DiceLoss", softmax=True, to_onehot_y=True)(
        torch.zeros(2, 2, 7), labels
    ).item() == pytest.approx(0.693147, rel=1e-5)
    assert one.isfinite()


@pytest.mark.parametrize("name", ["DiceLoss", "TverskyLoss", "GeneralizedDiceLoss"])
def test_nothing_at_all_is_no_loss(name: str) -> None:
    nothing = torch.zeros(1, 2, 4, requires_grad=True)
    loss = ours(name, smooth_nr=0.0, smooth_dr=0.0)(nothing, torch.zeros(1, 2, 4))
    (gradient,) = torch.autograd.grad(loss, nothing)
    assert loss.item() == 0
    assert gradient.isfinite().all()


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.randn(1, 2, 64, 64).bfloat16()
    labels = torch.randint(0, 2, (1, 1, 64, 64))
    loss = ours("DiceCELoss", softmax=True, to_onehot_y=True)
    found = loss(logits, labels)
    assert found.dtype == torch.float32
    same(found, loss(logits.float(), labels))


def test_weights_are_in_the_checkpoint_as_in_the_original() -> None:
    weight = torch.tensor([1.0, 2.0])
    for name in ("DiceLoss", "DiceCELoss"):
        wanted = original(name, weight=weight).state_dict()
        assert ours(name, weight=weight).state_dict().keys() == wanted.keys()


# Errors


@every_loss
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sigmoid": True, "softmax": True},
            r"at most one of `sigmoid=True`.*but got sigmoid=True",
        ),
        ({"reduction": "median"}, r"`reduction` to be one of 'mean', 'sum'.*got 'median'"),
        ({"smooth_nr": -1.0}, r"`smooth_nr` to be at least 0"),
        ({"smooth_dr": -1.0}, r"`smooth_dr` to be at least 0"),
    ],
)
def test_wrong_settings_are_errors(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(name, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("DiceCELoss", {"reduction": "none"}, r"`reduction` to be one of 'mean', 'sum'"),
        ("DiceCELoss", {"lambda_dice": -1.0}, r"`lambda_dice`"),
        ("DiceCELoss", {"lambda_ce": -1.0}, r"`lambda_ce`"),
        ("DiceCELoss", {"label_smoothing": 2.0}, r"`label_smoothing` to be in \[0.0, 1.0\]"),
        ("DiceLoss", {"weight": [-1.0, 1.0]}, r"`weight` to be one number or one per class"),
        ("DiceLoss", {"weight": [[1.0]]}, r"`weight` to be one number or one per class"),
        ("TverskyLoss", {"alpha": -1.0}, r"`alpha`"),
        ("TverskyLoss", {"beta": -1.0}, r"`beta`"),
        ("GeneralizedDiceLoss", {"w_type": "cube"}, r"`w_type` to be one of 'square'"),
    ],
)
def test_what_cannot_be_done_is_an_error(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(name, **settings)


@every_loss
def test_an_activation_is_a_function(name: str) -> None:
    with pytest.raises(TypeError, match="`other_act` to be a function or None"):
        ours(name, other_act="tanh")


@every_loss
def test_labels_of_another_size_are_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 4\) .* got \(1, 1, 5\).* to_onehot_y=False"):
        ours(name, softmax=True, to_onehot_y=True)(torch.zeros(1, 2, 4), torch.zeros(1, 1, 5))
    with pytest.raises(ValueError, match=r"\(1, 2, 4\) .* got \(1, 1, 4\).* to_onehot_y=True"):
        ours(name, softmax=True)(torch.zeros(1, 2, 4), torch.zeros(1, 1, 4))


@every_loss
def test_an_activation_gives_shares(name: str) -> None:
    loss = ours(name, other_act=torch.tanh)
    with pytest.raises(ValueError, match=r"`other_act` to return values in \[0, 1\].*-0.9951 to"):
        loss(torch.tensor([[[-3.0, 3.0], [3.0, -3.0]]]), torch.zeros(1, 2, 2))


def test_weights_of_other_classes_are_an_error() -> None:
    loss = ours("DiceLoss", softmax=True, include_background=False, weight=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"Expected 1 values|but got 2"):
        loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))


def test_two_passes_need_a_tensor() -> None:
    loss = ours("DiceCELoss", softmax=True, label_smoothing=0.1)
    with pytest.raises(TypeError, match=r"to_probs"):
        loss(torch.zeros(1, 2, 4), targets.smooth(torch.zeros(1, 4).long()))


@every_loss
def test_compiles_without_a_graph_break(name: str) -> None:
    loss: nn.Module = ours(name, softmax=True, to_onehot_y=True)
    logits, labels = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 3, (2, 1, 4, 5))
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    same(compiled(logits, labels), loss(logits, labels))


@pytest.mark.parametrize("name", ["FocalLoss", "DiceLoss", "DiceFocalLoss", "MaskedDiceLoss"])
def test_masks_of_0_and_255_raise(name: str) -> None:
    masks = torch.tensor([[[[0, 255], [255, 0]]]])
    settings: dict[str, Any] = {} if name == "FocalLoss" else {"sigmoid": True}
    squared = {"squared_pred": True} if "Focal" not in name else {}
    for target in (masks, masks.float()):
        with pytest.raises(ValueError, match=r"`target` to be in \[0.0, 1.0\], but got 255"):
            ours(name, **settings, **squared)(torch.randn(1, 1, 2, 2), target)
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\], but found \[255\]"):
        ours(name, to_onehot_y=True, **settings, **squared)(torch.randn(1, 2, 2, 2), masks)
    outside = masks.squeeze(1) == 255
    ours(name, **settings, **squared)(torch.randn(1, 1, 2, 2), masks, ~outside)


@every_loss
def test_labels_out_of_range_name_no_argument_that_is_missing(name: str) -> None:
    with pytest.raises(ValueError, match=r"found \[9\].*by `valid`, or `ignore_index` if there is"):
        ours(name, softmax=True, to_onehot_y=True)(torch.randn(1, 2, 4), torch.full((1, 1, 4), 9))


def test_other_names_of_monai() -> None:
    for name in ("Dice", "dice_ce", "dice_focal", "generalized_dice", "generalized_dice_focal"):
        assert getattr(drop_in, name).__name__ == getattr(monai, name).__name__
        assert getattr(drop_in, name).__module__.startswith("softiou")
    assert drop_in.tversky.TverskyLoss is drop_in.TverskyLoss
    assert drop_in.focal_loss.FocalLoss is drop_in.FocalLoss
    for name in ("DeepSupervisionLoss", "MaskedLoss", "HausdorffDTLoss"):
        assert getattr(drop_in, name) is getattr(monai, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'NoLoss'"):
        drop_in.NoLoss  # noqa: B018


def test_other_names_without_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drop_in, "_find_spec", lambda _: None)
    with pytest.raises(AttributeError, match=r"no 'MaskedLoss'.*install monai"):
        drop_in.MaskedLoss  # noqa: B018


@pytest.mark.parametrize("settings", [{}, {"softmax": True}, {"squared_pred": True}])
@pytest.mark.filterwarnings("ignore:.*single channel prediction")
def test_logits_without_an_activation_are_an_error(settings: dict[str, Any]) -> None:
    """MONAI computes something else than we would; with probabilities both are equal."""
    logits = torch.tensor([[[[-1.0, 2.0]]]])
    with pytest.raises(ValueError, match=r"Expected probabilities in \[0, 1\], but got -1 to 2"):
        drop_in.DiceLoss(**settings)(logits, torch.tensor([[[[0.0, 1.0]]]]))
