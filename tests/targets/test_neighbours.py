import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softiou.overlap import overlap_statistics
from softiou.targets import GaussianTarget, SoftTile
from softiou.tiles import Tile

IGNORE = 255


def probs_of(target: GaussianTarget, num_classes: int) -> Tensor:
    """y (N, C, *S), 0 where the pixel does not count."""
    found = target.dense(num_classes, torch.float64)
    return found.y if found.valid is None else found.y.where(found.valid, 0.0)


# Values by hand


def test_a_line_by_hand() -> None:
    """One neighbour on each side weighs 1 and the centre 2, whatever sigma is."""
    labels = torch.tensor([[0, 0, 1, IGNORE, 1]])
    for sigma in (0.1, 1.0, 10.0):
        target = GaussianTarget(labels, sigma, 1, IGNORE)
        assert target.shape == (1, 5)
        expected = torch.tensor([1, 3 / 4, 1 / 3, 0, 0], dtype=torch.float64)
        counts = torch.tensor([True, True, True, False, True])
        found = target.dense(2, torch.float64)
        assert found.valid is not None
        assert torch.equal(found.valid[0, 0], counts)
        torch.testing.assert_close(found.y[0, 0, counts], expected[counts])
        torch.testing.assert_close(found.y[0, 1, counts], 1 - expected[counts])


def test_a_wider_line_by_hand() -> None:
    near, far = math.exp(-1 / 8), math.exp(-4 / 8)  # sigma 2
    y = probs_of(GaussianTarget(torch.tensor([[0, 1, 2, 0]]), 2.0, 2), 3)[0]
    first, second = 2 * (near + far) + near + far, 2 * (near + far) + 2 * near + far
    expected = [2 * (near + far) / first, near / first, far / first]
    torch.testing.assert_close(y[:, 0], torch.tensor(expected, dtype=torch.float64))
    expected = [(near + far) / second, 2 * (near + far) / second, near / second]
    torch.testing.assert_close(y[:, 1], torch.tensor(expected, dtype=torch.float64))


def test_a_corner_by_hand() -> None:
    """Of the eight neighbours three are in the image, and one is of another class."""
    side, diagonal = math.exp(-1 / 2), math.exp(-2 / 2)
    y = probs_of(GaussianTarget(torch.tensor([[[0, 1], [0, 0]]])), 2)
    other = side / (4 * side + 4 * diagonal + 2 * side + diagonal)
    expected = torch.tensor([1 - other, other], dtype=torch.float64)
    torch.testing.assert_close(y[0, :, 0, 0], expected)


def test_a_tile_by_hand() -> None:
    read = GaussianTarget(torch.tensor([[0, 0, 1, 1]])).read(
        Tile(0, (slice(1, 3),)), 2, torch.float32
    )
    assert isinstance(read, SoftTile)
    assert read.y.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert read.valid is not None
    assert read.valid.tolist() == [True, True]


def test_of_one_class_label_one_is_the_class() -> None:
    found = GaussianTarget(torch.tensor([[0, 1, 1, 2]])).dense(1, torch.float32)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, True, True, False]]]
    torch.testing.assert_close(found.y[0, 0, :3], torch.tensor([1 / 3, 0.75, 1.0]))


# The filter of the paper


def test_inside_of_the_image_it_is_the_filter_of_the_paper() -> None:
    labels = torch.randint(0, 3, (2, 8, 9))
    line = torch.arange(-2.0, 3.0, dtype=torch.float64)
    kernel = (-(line**2 + line.unsqueeze(1) ** 2) / 2 / 1.5**2).exp()
    kernel[2, 2] = kernel.sum() - 1
    onehot = F.one_hot(labels, 3).movedim(-1, 1).double()
    expected = F.conv2d(onehot, (kernel / kernel.sum()).expand(3, 1, 5, 5), groups=3)
    y = probs_of(GaussianTarget(labels, 1.5, 2), 3)
    torch.testing.assert_close(y[..., 2:-2, 2:-2], expected)


# Properties


@st.composite
def gaussians(draw: st.DrawFn) -> GaussianTarget:
    """Labels of three classes, some of them ignored, in any space."""
    dimensions = draw(st.integers(1, 3))
    longest = {1: 12, 2: 5, 3: 4}[dimensions]
    space = draw(st.lists(st.integers(1, longest), min_size=dimensions, max_size=dimensions))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.choice([0, 1, 2, 2, IGNORE], (draw(st.integers(1, 2)), *space))
    sigma = draw(st.sampled_from([1e-200, 0.5, 1.0, 3.0, math.inf]))
    return GaussianTarget(torch.from_numpy(labels), sigma, draw(st.integers(1, 3)), IGNORE)


def changed(target: GaussianTarget, labels: Tensor) -> GaussianTarget:
    return GaussianTarget(labels, target.sigma, target.width, target.ignore_index)


@given(gaussians())
def test_half_of_a_pixel_stays_its_own(target: GaussianTarget) -> None:
    y, counts = probs_of(target, 3), target.labels != IGNORE
    own = y.gather(1, target.labels.where(counts, 0).unsqueeze(1)).squeeze(1)
    assert (own[counts] >= 0.5 - 1e-12).all()
    torch.testing.assert_close(y.sum(1), counts.double())


@given(gaussians(), st.integers(0, 2))
def test_inside_of_a_class_nothing_changes(target: GaussianTarget, label: int) -> None:
    counts = target.labels != IGNORE
    y = probs_of(changed(target, torch.where(counts, label, IGNORE)), 3)
    torch.testing.assert_close(y[:, label], counts.double())


@given(gaussians(), st.integers(0, 12))
def test_ignoring_equals_cutting_out(target: GaussianTarget, start: int) -> None:
    """Ignored pixels and the outside of the image are the same: nobody who votes."""
    ignored = target.labels.clone()
    ignored[..., start:] = IGNORE
    found = probs_of(changed(target, ignored), 3)[..., :start]
    expected = probs_of(changed(target, target.labels[..., :start]), 3)
    torch.testing.assert_close(found, expected)


@given(gaussians(), st.permutations(range(3)))
def test_classes_are_treated_alike(target: GaussianTarget, order: list[int]) -> None:
    names = torch.tensor([*order, *[IGNORE] * (IGNORE - 2)])
    y = probs_of(changed(target, names[target.labels]), 3)
    torch.testing.assert_close(y[:, order], probs_of(target, 3))


@given(gaussians())
def test_a_reflected_image_has_a_reflected_target(target: GaussianTarget) -> None:
    y = probs_of(changed(target, target.labels.flip(-1)), 3)
    torch.testing.assert_close(y.flip(-1), probs_of(target, 3))


@given(gaussians(), st.integers(1, 3))
def test_the_axes_are_treated_alike(target: GaussianTarget, axis: int) -> None:
    labels = target.labels
    if axis < labels.ndim:
        y = probs_of(changed(target, labels.transpose(1, axis)), 3)
        torch.testing.assert_close(y.transpose(2, axis + 1), probs_of(target, 3))


def test_other_images_are_not_heard() -> None:
    labels = torch.tensor([[[0, 0]], [[1, 1]]])
    assert probs_of(GaussianTarget(labels, width=3), 2).amax(1).eq(1).all()


@pytest.mark.parametrize("impl", ["torch", "chunked", "auto"])
def test_pixels_that_the_loss_leaves_out_vote(impl: str) -> None:
    labels, valid = torch.tensor([[[0, 1], [0, 0]]]), torch.zeros(1, 2, 2, dtype=torch.bool)
    valid[0, 1, 0] = True
    target = GaussianTarget(labels, sigma=math.inf)  # 8 for itself, 1 for each of the others
    found = overlap_statistics(torch.zeros(1, 2, 2, 2), target, valid=valid, impl=impl)
    torch.testing.assert_close(found.Y, torch.tensor([[10 / 11, 1 / 11]]))


# Dtypes


def test_integer_dtypes_agree() -> None:
    labels = torch.tensor([[0, 1, 1, 0]])
    dtypes = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    found = [probs_of(GaussianTarget(labels.to(dtype)), 2) for dtype in dtypes]
    assert all(torch.equal(one, other) for one, other in pairwise(found))


def test_labels_beyond_the_type_of_others_are_classes() -> None:
    y = probs_of(GaussianTarget(torch.tensor([[255, 0, 255]], dtype=torch.uint8)), 256)
    assert y[0, 255].tolist() == [2 / 3, 0.5, 2 / 3]


# Errors


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_a_sigma_of_zero_raises(sigma: float) -> None:
    with pytest.raises(ValueError, match=r"`sigma` to be greater than 0, .* use HardTarget"):
        GaussianTarget(torch.zeros(1, 2, dtype=torch.long), sigma)


@pytest.mark.parametrize("width", [0, -2])
def test_a_window_without_width_raises(width: int) -> None:
    with pytest.raises(ValueError, match=rf"`width` to be at least 1, but got {width}"):
        GaussianTarget(torch.zeros(1, 2, dtype=torch.long), width=width)


def test_floating_labels_raise() -> None:
    with pytest.raises(
        TypeError, match=r"integer dtype, but got torch.float32. Probabilities cannot"
    ):
        GaussianTarget(torch.zeros(1, 2))
