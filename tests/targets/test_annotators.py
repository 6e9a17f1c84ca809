from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from softiou.targets.annotators import vote_shares

IGNORE = 255


def reference(masks: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    images, raters, *space = masks.shape
    probs = np.zeros((images, num_classes, *space))
    valid = np.zeros((images, *space), dtype=bool)
    for place in np.ndindex(images, *space):
        image, pixel = place[0], place[1:]
        votes = [masks[(image, rater, *pixel)] for rater in range(raters)]
        votes = [vote for vote in votes if vote != IGNORE]
        for vote in votes:
            probs[(image, vote, *pixel)] += 1 / len(votes)
        valid[place] = bool(votes)
    return probs, valid


def test_votes_by_hand() -> None:
    masks = torch.tensor([[[2, 0, IGNORE]], [[2, 1, IGNORE]], [[0, IGNORE, IGNORE]]])
    probs, valid = vote_shares(masks.unsqueeze(0), num_classes=3, ignore_index=IGNORE)
    expected = torch.tensor([[1 / 3, 0.5, 0.0], [0.0, 0.5, 0.0], [2 / 3, 0.0, 0.0]])
    torch.testing.assert_close(probs, expected.view(1, 3, 1, 3))
    assert probs.dtype == torch.float32
    assert valid.tolist() == [[[True, True, False]]]


masks_of_raters = hnp.arrays(
    np.uint8,
    st.tuples(*[st.integers(1, 3)] * 4),
    elements=st.sampled_from([0, 1, 2, IGNORE]),
)


@given(masks_of_raters)
def test_agrees_with_loops(masks: np.ndarray) -> None:
    probs, valid = vote_shares(torch.from_numpy(masks), num_classes=3, ignore_index=IGNORE)
    expected_probs, expected_valid = reference(masks, 3)
    np.testing.assert_allclose(probs.numpy(), expected_probs, atol=1e-7)
    np.testing.assert_array_equal(valid.numpy(), expected_valid)


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


def test_floating_masks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`masks` to have an integer dtype, but got torch.float32"):
        vote_shares(torch.zeros(1, 2, 3), num_classes=2, ignore_index=None)


def test_masks_without_annotators_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, R, \*S\), but got \(4, 4\)"):
        vote_shares(torch.zeros(4, 4, dtype=torch.long), num_classes=2, ignore_index=None)
