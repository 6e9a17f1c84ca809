import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from reference import overlap_loops
from reference.cases import Case, cases
from softiou.overlap import (
    CLASS_RULES,
    FORMS,
    Form,
    OverlapStatistics,
    active_classes,
    mean_over,
    overlap_statistics,
    parse_per,
    tversky_distance,
    tversky_log_distance,
)

Vectors = NDArray[np.float64]
METRIC_FORMS: tuple[Literal[1, 2], ...] = (1, 2)


def statistics_of(p: Any, y: Any) -> OverlapStatistics:
    """Statistics of one image and class, given as vectors."""
    p, y = (torch.as_tensor(np.array(x), dtype=torch.float64).view(1, 1, -1) for x in (p, y))
    return overlap_statistics(p, y, activation="none")


def gradient_of(loss: Tensor, of: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, of)
    return gradient


def jaccard(p: Any, y: Any, form: Form = 1) -> float:
    return tversky_distance(statistics_of(p, y), form=form).item()


def dice(p: Any, y: Any, form: Form = 1) -> float:
    return tversky_distance(statistics_of(p, y), alpha=0.5, beta=0.5, form=form).item()


# Values by hand: p = (0.5, 1, 0), y = (0.5, 0.5, 1), so P = 1.5, Y = 2, D = 1.5, M = 0.75


@pytest.mark.parametrize(
    ("form", "expected_jaccard", "expected_dice"),
    [
        (1, 1 - 2 / 5, 1 - 2 / 3.5),
        (2, 1 - 0.75 / 2.25, 1 - 1.5 / 3),
        ("product", 1 - 0.75 / 2.75, 1 - 1.5 / 3.5),
    ],
)
def test_jaccard_and_dice_by_hand(
    form: Form, expected_jaccard: float, expected_dice: float
) -> None:
    p, y = (0.5, 1.0, 0.0), (0.5, 0.5, 1.0)
    assert jaccard(p, y, form) == pytest.approx(expected_jaccard)
    assert dice(p, y, form) == pytest.approx(expected_dice)


@pytest.mark.parametrize(("form", "tp", "fp", "fn"), [(1, 1.0, 0.5, 1.0), (2, 0.75, 0.5, 1.0)])
def test_tversky_by_hand(form: Form, tp: float, fp: float, fn: float) -> None:
    s = statistics_of((0.5, 1.0, 0.0), (0.5, 0.5, 1.0))
    found = tversky_distance(s, alpha=0.3, beta=0.7, smooth=2.0, form=form)
    score = (tp + 2) / (tp + 0.3 * fp + 0.7 * fn + 2)
    assert found.item() == pytest.approx(1 - score)
    found = tversky_log_distance(s, alpha=0.3, beta=0.7, smooth=2.0, form=form)
    assert found.item() == pytest.approx(-math.log(score))


def test_alpha_prices_false_positives_and_beta_false_negatives() -> None:
    too_much = statistics_of((1.0, 1.0), (1.0, 0.0))
    too_little = statistics_of((1.0, 0.0), (1.0, 1.0))
    for form in FORMS:
        assert tversky_distance(too_much, alpha=3, beta=0, form=form).item() == pytest.approx(0.75)
        assert tversky_distance(too_much, alpha=0, beta=3, form=form).item() == 0
        assert tversky_distance(too_little, alpha=0, beta=3, form=form).item() == pytest.approx(
            0.75
        )
        assert tversky_distance(too_little, alpha=3, beta=0, form=form).item() == 0


@pytest.mark.parametrize("form", FORMS)
def test_both_empty_is_no_distance(form: Form) -> None:
    s = statistics_of((0.0, 0.0), (0.0, 0.0))
    for smooth in (0.0, 1.0):
        assert tversky_distance(s, form=form, smooth=smooth).item() == 0
        assert tversky_log_distance(s, form=form, smooth=smooth).item() == 0


@pytest.mark.parametrize("form", FORMS)
def test_disjoint_is_full_distance(form: Form) -> None:
    assert jaccard((1.0, 0.0), (0.0, 1.0), form) == 1
    assert dice((1.0, 0.0), (0.0, 1.0), form) == 1


# The slow reference

prices = st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0])


@given(cases(), st.sampled_from(FORMS), prices, prices, st.sampled_from([0.0, 1e-3, 1.0]))
def test_distances_agree_with_loops(
    case: Case, form: Form, alpha: float, beta: float, smooth: float
) -> None:
    logits, target = case.tensors()
    s = overlap_statistics(logits, target, **case.settings(), **case.maps())
    data = case.reference()
    settings: dict[str, Any] = {"alpha": alpha, "beta": beta, "smooth": smooth, "form": form}
    scores = np.array(
        [
            [overlap_loops.tversky(data, n, c, **settings) for c in range(data.p.shape[1])]
            for n in range(data.p.shape[0])
        ]
    )
    np.testing.assert_allclose(tversky_distance(s, **settings), 1 - scores, atol=1e-9)
    log_distances = tversky_log_distance(s, **settings).numpy()
    alive = scores > 1e-6
    np.testing.assert_allclose(log_distances[alive], -np.log(scores[alive]), atol=1e-6)


@given(
    cases(),
    st.sampled_from(CLASS_RULES) | st.sampled_from([[0], [-1]]),
    st.sampled_from([0.0, 0.01, 0.4, 1.0]),
)
def test_active_classes_agree_with_loops(
    case: Case, classes: str | list[int], threshold: float
) -> None:
    if classes == [-1]:
        classes = [case.num_classes - 1]
    logits, target = case.tensors()
    s = overlap_statistics(logits, target, **case.settings(), **case.maps(), maxima=True)
    data = case.reference()
    for statistics, dense in ((s, data), (s.merge_images(), data.joined())):
        expected = [
            [
                overlap_loops.is_active(dense, n, c, classes, threshold)
                for c in range(dense.p.shape[1])
            ]
            for n in range(dense.p.shape[0])
        ]
        assert active_classes(statistics, classes, threshold=threshold).tolist() == expected


@pytest.mark.parametrize("classes", ["prob", "label", "both"])
def test_rules_of_the_maxima_raise_without_them(classes: str) -> None:
    s = overlap_statistics(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"compute the statistics with `maxima=True`"):
        active_classes(s, classes)


# Jaccard metric losses are metrics on [0, 1]^n: multiples of 1/64, so that zero means zero

points = st.integers(1, 5).flatmap(
    lambda n: hnp.arrays(np.float64, (3, n), elements=st.integers(0, 64).map(lambda k: k / 64))
)


@given(points)
@pytest.mark.parametrize("form", METRIC_FORMS)
def test_jaccard_metric_is_zero_exactly_at_equality(form: Form, vectors: Vectors) -> None:
    p, y, _ = vectors
    assert jaccard(p, p, form) == 0
    assert (jaccard(p, y, form) == 0) == bool((p == y).all())


@given(points)
@pytest.mark.parametrize("form", METRIC_FORMS)
def test_jaccard_metric_is_symmetric(form: Form, vectors: Vectors) -> None:
    p, y, _ = vectors
    assert jaccard(p, y, form) == pytest.approx(jaccard(y, p, form), abs=1e-15)


@given(points)
@pytest.mark.parametrize("form", METRIC_FORMS)
def test_jaccard_metric_obeys_the_triangle_inequality(form: Form, vectors: Vectors) -> None:
    a, b, c = vectors
    assert jaccard(a, c, form) <= jaccard(a, b, form) + jaccard(b, c, form) + 1e-12


@given(points)
@pytest.mark.parametrize("form", METRIC_FORMS)
def test_dice_semimetric_is_reflexive_positive_and_symmetric(form: Form, vectors: Vectors) -> None:
    p, y, _ = vectors
    assert dice(p, p, form) == 0
    assert (dice(p, y, form) == 0) == bool((p == y).all())
    assert dice(p, y, form) == pytest.approx(dice(y, p, form), abs=1e-15)


@pytest.mark.parametrize("form", METRIC_FORMS)
def test_dice_semimetric_is_no_metric(form: Form) -> None:
    """The triangle inequality can fail, so the test of the Jaccard metric can."""
    a, b, c = (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)
    assert dice(a, c, form) == 1
    assert dice(a, b, form) + dice(b, c, form) == pytest.approx(2 / 3)


def test_product_form_is_not_zero_at_equality() -> None:
    assert jaccard((0.5,), (0.5,), "product") == pytest.approx(1 - 0.25 / 0.75)


@given(points)
def test_distances_lie_between_zero_and_one(vectors: Vectors) -> None:
    p, y, _ = vectors
    for form in FORMS:
        assert 0 <= jaccard(p, y, form) <= 1
        assert 0 <= dice(p, y, form) <= 1


@given(points)
def test_dice_is_a_function_of_jaccard(vectors: Vectors) -> None:
    p, y, _ = vectors
    for form in FORMS:
        j = jaccard(p, y, form)
        assert dice(p, y, form) == pytest.approx(j / (2 - j))


bits = st.integers(1, 6).flatmap(
    lambda n: hnp.arrays(np.float64, (2, n), elements=st.sampled_from([0.0, 1.0]))
)


@given(bits, prices, prices)
def test_all_forms_agree_on_hard_targets_and_predictions(
    vectors: Vectors, alpha: float, beta: float
) -> None:
    one, two, product = (
        tversky_distance(statistics_of(*vectors), alpha=alpha, beta=beta, smooth=0.5, form=form)
        for form in FORMS
    )
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one, product)


@given(points)
def test_forms_agree_on_hard_targets_and_soft_predictions(vectors: Vectors) -> None:
    p, y = vectors[0], vectors[1].round()
    assert jaccard(p, y, 2) == pytest.approx(jaccard(p, y, 1))
    assert jaccard(p, y, "product") == pytest.approx(jaccard(p, y, 1))
    assert dice(p, y, 2) == pytest.approx(dice(p, y, 1))
    assert dice(p, y, "product") == pytest.approx(dice(p, y, 1))


# The minimiser

SOFT = (0.3, 0.8)


def best_on_grid(distance: Any) -> tuple[float, ...]:
    """Minimise over p in {0, 0.1, ..., 1}^2 for the target SOFT."""
    grid = [i / 10 for i in range(11)]
    return min(((a, b) for a in grid for b in grid), key=distance)


@pytest.mark.parametrize("form", METRIC_FORMS)
def test_minimiser_on_a_grid_is_the_target(form: Form) -> None:
    assert best_on_grid(lambda p: jaccard(p, SOFT, form)) == SOFT
    assert best_on_grid(lambda p: dice(p, SOFT, form)) == SOFT


def test_minimiser_of_the_product_form_is_a_vertex() -> None:
    assert set(best_on_grid(lambda p: jaccard(p, SOFT, "product"))) <= {0.0, 1.0}
    assert jaccard((0.0, 1.0), SOFT, "product") < jaccard(SOFT, SOFT, "product")


def descend(*, form: Form, alpha: float) -> Tensor:
    """Gradient descent with momentum from p = 1/2 on the distance to a soft target."""
    y = torch.tensor([0.15, 0.4, 0.65, 0.9], dtype=torch.float64).view(1, 1, -1)
    logits = torch.zeros_like(y, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    steps = 400
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    for _ in range(steps):
        s = overlap_statistics(logits, y, activation="sigmoid")
        distance = tversky_distance(s, alpha=alpha, beta=alpha, form=form)
        logits.grad = gradient_of(distance.sum(), logits)
        optimizer.step()
        schedule.step()
    return (logits.detach().sigmoid() - y).abs().max()


@pytest.mark.parametrize("form", METRIC_FORMS)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_gradient_descent_ends_at_the_target(form: Form, alpha: float) -> None:
    assert descend(form=form, alpha=alpha) < 5e-3


def test_gradient_descent_on_the_product_form_does_not() -> None:
    assert descend(form="product", alpha=1.0) > 0.3


# Numbers


@pytest.mark.parametrize("form", FORMS)
def test_small_distances_are_exact(form: Form) -> None:
    """One wrong pixel of 2^26: 1 minus a float32 score would give 0."""
    size, one = torch.tensor([[2.0**26]]), torch.ones(1, 1)
    rest = {"p_max": one, "y_max": one, "weight": size[0]}
    s = OverlapStatistics(P=size - 4, Y=size, D=4 * one, M=size - 4, **rest)
    assert tversky_distance(s, form=form).item() == 2.0**-24
    assert tversky_log_distance(s, form=form).item() == pytest.approx(2.0**-24)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_rounding_never_makes_a_distance_negative(form: Form, alpha: float) -> None:
    """P, Y, D and M whose rounding errors contradict each other."""
    above, one = torch.tensor([[1.0 + 2.0**-20]]), torch.ones(1, 1)
    rest = {"p_max": one, "y_max": one, "weight": one[0]}
    contradictions = [
        {"P": one, "Y": one, "D": 2 * above, "M": torch.zeros(1, 1)},
        {"P": one, "Y": above, "D": torch.zeros(1, 1), "M": above},
        {"P": above, "Y": one, "D": torch.zeros(1, 1), "M": above},
    ]
    for sums in contradictions:
        s = OverlapStatistics(**sums, **rest)
        distance = tversky_distance(s, alpha=alpha, beta=1 - alpha, form=form)
        assert 0 <= distance.item() <= 1
        assert tversky_log_distance(s, alpha=alpha, beta=1 - alpha, form=form).item() >= 0


@pytest.mark.parametrize("log", [False, True])
def test_rounding_does_not_kill_a_gradient(log: bool) -> None:
    """Nothing overlaps and P + Y - D comes out just below 0: the prediction is still pulled."""
    sums = {
        "P": torch.tensor([[1.0]], requires_grad=True),
        "Y": torch.tensor([[1.0]]),
        "D": torch.tensor([[2.0 + 2.0**-20]]),
        "M": torch.zeros(1, 1),
    }
    one = torch.ones(1, 1)
    s = OverlapStatistics(**sums, p_max=one, y_max=one, weight=one[0])
    distance = tversky_log_distance(s, smooth=1.0) if log else tversky_distance(s)
    assert gradient_of(distance.sum(), s.P).item() == pytest.approx(-0.25 - 0.08 * log, abs=0.01)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-3.0, -12.0, -25.0])
def test_log_form_has_a_live_gradient_for_scores_near_zero(
    form: Form, smooth: float, logit: float
) -> None:
    """p down to 1e-11: each pixel of a missed object is still pulled up."""
    logits = torch.full((1, 1, 9), logit, requires_grad=True)
    s = overlap_statistics(logits, torch.ones(1, 1, 9), activation="sigmoid")
    distance = tversky_log_distance(s, smooth=smooth, form=form)
    gradient = gradient_of(distance.sum(), logits)
    assert torch.isfinite(distance).all()
    assert torch.isfinite(gradient).all()
    assert (gradient < 0).all()
    if smooth == 0:
        assert gradient.sum().item() == pytest.approx(-1, rel=0.1)  # of -log tp over all pixels


def test_log_form_of_score_zero_is_finite() -> None:
    s = overlap_statistics(
        torch.zeros(1, 1, 4, requires_grad=True), torch.ones(1, 4).long(), activation="none"
    )
    found = tversky_log_distance(s)
    assert math.isfinite(found.item())
    assert found.item() > 10


# Means


def test_mean_over_by_hand() -> None:
    values = torch.tensor([[0.2, 0.4], [0.6, 1.0]])
    active = torch.tensor([[True, True], [True, False]])
    assert mean_over(values, active).item() == pytest.approx((0.3 + 0.6) / 2)
    assert mean_over(values, active, per="class").item() == pytest.approx((0.4 + 0.4) / 2)


def test_class_weights_by_hand() -> None:
    values = torch.tensor([[0.2, 0.4], [0.6, 1.0]])
    active = torch.tensor([[True, True], [True, False]])
    weights = torch.tensor([3.0, 1.0])
    by_image = mean_over(values, active, class_weights=weights)
    assert by_image.item() == pytest.approx((0.25 + 0.6) / 2)
    by_class = mean_over(values, active, per="class", class_weights=torch.tensor([0.0, 1.0]))
    assert by_class.item() == pytest.approx(0.4)


@pytest.mark.parametrize("per", ["image", "class"])
def test_mean_does_not_shrink_with_absent_classes(per: Literal["image", "class"]) -> None:
    values = torch.full((2, 5), 0.7)
    active = torch.zeros(2, 5, dtype=torch.bool)
    active[0, 3] = True
    assert mean_over(values, active, per=per).item() == pytest.approx(0.7)


@pytest.mark.parametrize("per", ["image", "class"])
def test_mean_of_nothing_is_an_attached_zero(per: Literal["image", "class"]) -> None:
    values = torch.rand(2, 3, requires_grad=True)
    mean = mean_over(values, torch.zeros(2, 3, dtype=torch.bool), per=per)
    assert mean.item() == 0
    assert gradient_of(mean, values).eq(0).all()


def test_zero_weight_for_all_active_classes_is_zero() -> None:
    values, active = torch.ones(1, 2), torch.tensor([[True, False]])
    ways: tuple[Literal["image", "class"], ...] = ("image", "class")
    for per in ways:
        mean = mean_over(values, active, per=per, class_weights=torch.tensor([0.0, 1.0]))
        assert mean.item() == 0


def test_parse_per() -> None:
    assert parse_per("image") == {"image": 1.0}
    assert parse_per({"batch": 1, "class": 0.5}) == {"batch": 1, "class": 0.5}


# Errors


@pytest.mark.parametrize(
    ("per", "message"),
    [
        ("pixel", r"`per` to be one of 'batch', 'image', 'class', but got 'pixel'"),
        ({"batch": 1.0, "pixel": 1.0}, r"`per` to be one of .* got 'pixel'"),
        ({"batch": -1.0}, r"`per\['batch'\]` to be at least 0.0, but got -1.0"),
        ({"batch": 0.0}, r"`per` to have a positive sum"),
        ({}, r"`per` to have a positive sum"),
    ],
)
def test_wrong_per_raises(per: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_per(per)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([3], r"indices in \[-3, 2\], at least one, but got \[3\]"),
        ([-4], r"indices in \[-3, 2\]"),
        ([], r"at least one, but got \[\]"),
        ("absent", r"`classes` to be one of 'present'.* but got 'absent'"),
    ],
)
def test_wrong_classes_raise(classes: Any, message: str) -> None:
    s = overlap_statistics(torch.zeros(1, 3, 4), torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=message):
        active_classes(s, classes)


def test_unknown_form_raises() -> None:
    with pytest.raises(ValueError, match=r"`form` to be one of 1, 2, 'product', but got 3"):
        tversky_distance(statistics_of([0.5], [0.5]), form=3)  # type: ignore[arg-type]
