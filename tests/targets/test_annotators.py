from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference import target_loops
from softiou.targets import VotesTarget, vote_shares
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
    assert found.counts is not None
    assert found.counts.tolist() == [[[True, True, False]]]
    read = target.read(Tile(0, (slice(1, 3),)), 3, torch.float64)
    assert read.counts is not None
    assert torch.equal(read.y, found.y[0, :, 1:])
    assert read.counts.tolist() == [True, False]


def test_a_value_that_is_no_class_is_no_vote() -> None:
    masks = torch.tensor([[[1, 7, -1], [0, 1, 3], [9, 9, 9]]])
    found = VotesTarget(masks).dense(3, torch.float32)
    assert found.counts is not None
    assert found.counts.tolist() == [[[True, True, False]]]
    assert found.y[0, :, :2].tolist() == [[0.5, 0], [0.5, 1], [0, 0]]
    probs, valid = vote_shares(masks, num_classes=3, ignore_index=None)
    assert torch.equal(probs[..., :2], found.y[..., :2])
    assert valid.tolist() == [[True, True, False]]


def test_a_class_can_be_the_one_to_ignore() -> None:
    found = VotesTarget(torch.tensor([[[0, 0], [1, 0], [2, 0]]]), 0).dense(3, torch.float32)
    assert found.counts is not None
    assert found.counts.tolist() == [[[True, False]]]
    assert found.y[0, :, 0].tolist() == [0, 0.5, 0.5]


def test_of_one_class_label_one_is_the_class() -> None:
    masks = torch.tensor([[[0, 1, 2], [1, 1, IGNORE], [1, 1, 2]]])
    found = VotesTarget(masks, IGNORE).dense(1, torch.float64)
    assert found.counts is not None
    assert found.counts.tolist() == [[[True, True, False]]]
    torch.testing.assert_close(found.y[0, 0, :2], torch.tensor([2 / 3, 1.0], dtype=torch.float64))


def test_one_annotator_is_a_hard_target() -> None:
    masks = torch.randint(0, 3, (2, 1, 4, 5))
    found = VotesTarget(masks).dense(3, torch.float32)
    assert torch.equal(found.y.argmax(1), masks[:, 0])
    assert torch.equal(found.y.amax(1), torch.ones(2, 4, 5))


masks_of_raters = hnp.arrays(
    np.uint8,
    st.tuples(*[st.integers(1, 3)] * 4),
    elements=st.sampled_from([0, 1, 2, IGNORE]),
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
    assert found.counts is not None
    assert not found.counts.any()
    assert found.y.tolist() == [[[0, 0, 0]] * 2]


def test_each_annotator_is_checked() -> None:
    masks = torch.tensor([[[0, 1], [1, 9], [IGNORE, 0]]])
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\] .*=255, but found \[9\]"):
        VotesTarget(masks, IGNORE).validate(2)
    with pytest.raises(ValueError, match=r"=None, but found \[9, 255\]"):
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
