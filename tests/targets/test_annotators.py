from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from reference import target_loops
from softiou.targets import VotesTarget, staple, vote_shares
from softiou.tiles import Tile

IGNORE = 255


def test_votes_by_hand() -> None:
    masks = torch.tensor([[[2, 0, IGNORE]], [[2, 1, IGNORE]], [[0, IGNORE, IGNORE]]])
    probs, valid = vote_shares(masks.unsqueeze(0), num_classes=3, ignore_index=IGNORE)
    expected = torch.tensor([[1 / 3, 0.5, 0.0], [0.0, 0.5, 0.0], [2 / 3, 0.0, 0.0]])
    torch.testing.assert_close(probs, expected.view(1, 3, 1, 3))
    assert probs.dtype == torch.float32
    assert valid.tolist() == [[[True, True, False]]]


def test_the_target_by_hand() -> None:
    masks = torch.tensor([[[2, 0, IGNORE], [2, 1, IGNORE], [0, IGNORE, IGNORE]]])  # (1, 3, 3)
    target = VotesTarget(masks, IGNORE)
    assert target.shape == (1, 3)
    found = target.dense(3, torch.float64)
    expected = torch.tensor(
        [[1 / 3, 0.5, 0.0], [0.0, 0.5, 0.0], [2 / 3, 0.0, 0.0]], dtype=torch.float64
    )
    torch.testing.assert_close(found.y[0], expected, rtol=0, atol=1e-15)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, True, False]]]
    read = target.read(Tile(0, (slice(1, 3),)), 3, torch.float64)
    assert read.valid is not None
    assert torch.equal(read.y, found.y[0, :, 1:])
    assert read.valid.tolist() == [True, False]


def test_a_value_that_is_no_class_is_no_vote() -> None:
    masks = torch.tensor([[[1, 7, -1], [0, 1, 3], [9, 9, 9]]])
    found = VotesTarget(masks).dense(3, torch.float32)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, True, False]]]
    assert found.y[0, :, :2].tolist() == [[0.5, 0], [0.5, 1], [0, 0]]
    probs, valid = vote_shares(masks, num_classes=3, ignore_index=None)
    assert torch.equal(probs[..., :2], found.y[..., :2])
    assert valid.tolist() == [[True, True, False]]


def test_a_class_can_be_the_one_to_ignore() -> None:
    found = VotesTarget(torch.tensor([[[0, 0], [1, 0], [2, 0]]]), 0).dense(3, torch.float32)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, False]]]
    assert found.y[0, :, 0].tolist() == [0, 0.5, 0.5]


def test_of_one_class_label_one_is_the_class() -> None:
    masks = torch.tensor([[[0, 1, 2], [1, 1, IGNORE], [1, 1, 2]]])
    found = VotesTarget(masks, IGNORE).dense(1, torch.float64)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, True, False]]]
    torch.testing.assert_close(found.y[0, 0, :2], torch.tensor([2 / 3, 1.0], dtype=torch.float64))


def test_one_annotator_is_a_hard_target() -> None:
    masks = torch.randint(0, 3, (2, 1, 4, 5))
    found = VotesTarget(masks).dense(3, torch.float32)
    assert torch.equal(found.y.argmax(1), masks[:, 0])
    assert torch.equal(found.y.amax(1), torch.ones(2, 4, 5))


masks_of_raters = hnp.arrays(
    np.uint8, st.tuples(*[st.integers(1, 3)] * 4), elements=st.sampled_from([0, 1, 2, IGNORE])
)


@given(masks_of_raters)
def test_agrees_with_loops(masks: np.ndarray) -> None:
    probs, valid = vote_shares(torch.from_numpy(masks), num_classes=3, ignore_index=IGNORE)
    expected = target_loops.votes(masks, 3, IGNORE)
    np.testing.assert_allclose(probs.numpy(), expected.y, atol=1e-7)
    np.testing.assert_array_equal(valid.numpy(), expected.counts.any(1))


@given(masks_of_raters)
def test_order_of_annotators_does_not_matter(masks: np.ndarray) -> None:
    one, other = (
        vote_shares(torch.from_numpy(m.copy()), num_classes=3, ignore_index=IGNORE)
        for m in (masks, masks[:, ::-1])
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_integer_dtypes_agree() -> None:
    masks = torch.tensor([[[0, 1], [1, 1]]])
    dtypes = (torch.uint8, torch.int16, torch.int32, torch.int64)
    results = [vote_shares(masks.to(d), num_classes=2, ignore_index=None)[0] for d in dtypes]
    assert all(torch.equal(a, b) for a, b in pairwise(results))


def test_without_ignore_index_every_vote_counts() -> None:
    probs, valid = vote_shares(torch.tensor([[[0], [1]]]), num_classes=2, ignore_index=None)
    assert probs.tolist() == [[[0.5], [0.5]]]
    assert valid.all()


def test_no_annotators_know_nothing() -> None:
    found = VotesTarget(torch.zeros(1, 0, 3, dtype=torch.long)).dense(2, torch.float32)
    assert found.valid is not None
    assert not found.valid.any()
    assert found.y.tolist() == [[[0, 0, 0]] * 2]


def test_each_annotator_is_checked() -> None:
    masks = torch.tensor([[[0, 1], [1, 9], [IGNORE, 0]]])
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\] .*=255, but found \[9\]"):
        VotesTarget(masks, IGNORE).validate(2)
    with pytest.raises(ValueError, match=r"in \[0, 1\], but found \[9, 255\]"):
        VotesTarget(masks).validate(2)
    VotesTarget(masks, IGNORE).validate(2, torch.tensor([[True, False]]))


def test_floating_masks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`masks` to have an integer dtype, but got torch.float32"):
        VotesTarget(torch.zeros(1, 2, 3))
    with pytest.raises(TypeError, match=r"`masks` to have an integer dtype, but got torch.float32"):
        vote_shares(torch.zeros(1, 2, 3), num_classes=2, ignore_index=None)


def test_masks_without_annotators_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, R, \*S\), but got \(4, 4\)"):
        VotesTarget(torch.zeros(4, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \(N, R, \*S\), but got \(4, 4\)"):
        vote_shares(torch.zeros(4, 4, dtype=torch.long), num_classes=2, ignore_index=None)


# STAPLE, values by hand


def test_one_round_by_hand() -> None:
    """At first W is the majority, but for 1e-5: classes 0 and 1 have four pixels each.

    Who errs how often: the first one never on class 0, on 1/4 of class 1; the second one on 1/4 of
    both; the third one on 1/4 of class 0, never on class 1. So the votes 0, 0, 1 have

        class 0: 1 * 3/4 * 1/4 = 3/16        class 1: 1/4 * 1/4 * 1 = 1/16
    """
    columns = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0), (1, 1, 1), (1, 1, 1), (1, 0, 1)]
    masks = torch.tensor([*columns, (0, 1, 1)]).T.unsqueeze(0)
    probs, valid = staple(masks, num_classes=2, iterations=1)
    expected = torch.tensor([1, 0.75, 1, 1, 0, 0, 0, 0.25])
    torch.testing.assert_close(probs[0, 0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(probs[0, 1], 1 - expected, rtol=0, atol=1e-4)
    assert probs.dtype == torch.float32
    assert valid.all()


def test_who_was_right_elsewhere_is_believed() -> None:
    """The third one did not judge the last pixel, on which the others disagree."""
    good, bad = [0, 0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0, 1, 1, 1]
    masks = torch.tensor([[good, bad, [0, 0, 0, 0, 1, 1, 1, 1, IGNORE]]])
    probs, _ = staple(masks, num_classes=2, ignore_index=IGNORE)
    assert probs[0, 1].round().tolist() == good


def test_one_annotator_is_believed() -> None:
    """Also where a class is rare."""
    masks = torch.zeros(2, 1, 500, dtype=torch.long)
    masks[0, 0, 7] = 2
    probs, _ = staple(masks, num_classes=3)
    assert torch.equal(probs.argmax(1), masks[:, 0])
    assert (probs.amax(1) > 1 - 2e-5).all()


def test_annotators_who_agree_give_their_label() -> None:
    masks = torch.randint(0, 4, (2, 1, 6, 7)).expand(-1, 3, -1, -1)
    probs, valid = staple(masks, num_classes=5)
    assert torch.equal(probs.argmax(1), masks[:, 0])
    torch.testing.assert_close(probs.amax(1), torch.ones(2, 6, 7), rtol=0, atol=1e-6)
    assert valid.all()


def test_a_class_without_a_vote_has_no_probability() -> None:
    masks = torch.randint(0, 3, (2, 3, 40)) * 2  # 0, 2 and 4
    probs, _ = staple(masks, num_classes=6)
    assert probs[:, [1, 3, 5]].eq(0).all()
    assert probs.isfinite().all()


# STAPLE, the slow reference


@given(masks_of_raters, st.integers(1, 4))
def test_staple_agrees_with_loops(masks: np.ndarray, iterations: int) -> None:
    options = {"iterations": iterations, "ignore_index": IGNORE}
    probs, valid = staple(torch.from_numpy(masks), num_classes=3, tolerance=0.0, **options)
    expected = target_loops.staple(masks, 3, **options)
    np.testing.assert_allclose(probs.numpy(), expected.y, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(valid.numpy(), expected.counts.any(1))


def simulated(qualities: list[float], pixels: int = 2000) -> tuple[Tensor, Tensor]:
    """The truth (1, P), and annotators (1, R, P) who are right so often and else guess."""
    truth = torch.randint(0, 3, (1, pixels))
    masks = [
        torch.where(torch.rand(1, pixels) < quality, truth, torch.randint(0, 3, (1, pixels)))
        for quality in qualities
    ]
    return truth, torch.stack(masks, 1)


def test_staple_on_simulated_annotators_agrees_with_loops() -> None:
    _, masks = simulated([0.9, 0.6, 0.3], pixels=100)
    masks[0, 1, ::3], masks[0, :, 5] = IGNORE, IGNORE
    options = {"iterations": 20, "ignore_index": IGNORE}
    probs, _ = staple(masks, num_classes=4, tolerance=0.0, **options)
    expected = target_loops.staple(masks.numpy(), 4, **options)
    np.testing.assert_allclose(probs.numpy(), expected.y, rtol=0, atol=1e-6)


# STAPLE, its properties


def test_a_good_annotator_is_found_among_bad_ones() -> None:
    truth, masks = simulated([0.2, 0.95, 0.2, 0.2])
    probs, valid = staple(masks, num_classes=3)
    shares, _ = vote_shares(masks, num_classes=3, ignore_index=None)
    right, majority = ((p.argmax(1) == truth).double().mean() for p in (probs, shares))
    assert right > 0.93 > 0.8 > majority
    torch.testing.assert_close(probs.sum(1), torch.ones(1, 2000))
    assert valid.all()


def test_who_judged_little_is_heard_where_she_did() -> None:
    truth, masks = simulated([0.95, 0.95, 0.2, 0.2])
    masks[:, 0, :1000], masks[:, 1, 1000:] = IGNORE, IGNORE
    probs, _ = staple(masks, num_classes=3, ignore_index=IGNORE)
    assert (probs.argmax(1) == truth).double().mean() > 0.93


@given(masks_of_raters, st.permutations(range(3)), st.integers(0, 2**32 - 1))
def test_staple_does_not_depend_on_order(masks: np.ndarray, order: list[int], seed: int) -> None:
    """Of annotators, of classes, and of pixels."""
    options = {"num_classes": 3, "ignore_index": IGNORE, "iterations": 4}
    tensor = torch.from_numpy(masks).long().flatten(2)
    probs, _ = staple(tensor, **options)
    other, _ = staple(tensor.flip(1), **options)
    torch.testing.assert_close(other, probs, rtol=0, atol=1e-6)
    names = torch.tensor([*order, *[IGNORE] * (IGNORE - 2)])
    other, _ = staple(names[tensor], **options)
    torch.testing.assert_close(other[:, order], probs, rtol=0, atol=1e-6)
    pixels = torch.from_numpy(np.random.default_rng(seed).permutation(tensor.shape[2]))
    other, _ = staple(tensor[..., pixels], **options)
    torch.testing.assert_close(other, probs[..., pixels], rtol=0, atol=1e-6)


def test_images_and_space_are_on_their_own() -> None:
    _, masks = simulated([0.9, 0.5, 0.3], pixels=60)
    masks = masks.view(1, 3, 3, 4, 5)
    both, _ = staple(torch.cat([masks, masks.flip(-2) % 2]), num_classes=3)
    torch.testing.assert_close(both[:1], staple(masks, num_classes=3)[0])
    flat, _ = staple(masks.flatten(2), num_classes=3)
    assert torch.equal(flat.view_as(both[:1]), both[:1])


def test_more_rounds_than_needed_change_nothing() -> None:
    _, masks = simulated([0.9, 0.8, 0.7])
    enough, more = (staple(masks, num_classes=3, iterations=i)[0] for i in (100, 1000))
    torch.testing.assert_close(enough, more, rtol=0, atol=1e-5)
    first, second = (
        staple(masks, num_classes=3, tolerance=t, iterations=i)[0] for t, i in ((1.0, 9), (0.0, 1))
    )
    assert torch.equal(first, second)  # everything is close enough


def test_staple_integer_dtypes_agree() -> None:
    _, masks = simulated([0.9, 0.6], pixels=50)
    dtypes = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    results = [staple(masks.to(dtype), num_classes=3)[0] for dtype in dtypes]
    assert all(torch.equal(a, b) for a, b in pairwise(results))


# STAPLE, nothing valid


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0), (1, 2, 3)])
def test_staple_of_nothing_knows_nothing(shape: tuple[int, int, int]) -> None:
    masks = torch.full(shape, IGNORE)
    probs, valid = staple(masks, num_classes=4, ignore_index=IGNORE)
    assert torch.equal(probs, torch.zeros(shape[0], 4, shape[2]))
    assert torch.equal(valid, torch.zeros(shape[0], shape[2], dtype=torch.bool))


# STAPLE, its errors


def test_staple_names_what_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"`masks` to have an integer dtype, but got torch.float32"):
        staple(torch.zeros(1, 2, 3), num_classes=2)
    masks = torch.zeros(1, 2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shape \(N, R, \*S\), but got \(2, 3\)"):
        staple(masks[0], num_classes=2)
    with pytest.raises(ValueError, match=r"`num_classes` to be at least 2, but got 1"):
        staple(masks, num_classes=1)
    with pytest.raises(ValueError, match=r"`iterations` to be at least 1, but got 0"):
        staple(masks, num_classes=2, iterations=0)
    with pytest.raises(ValueError, match=r"`tolerance` to be at least 0.0, but got -1"):
        staple(masks, num_classes=2, tolerance=-1.0)
