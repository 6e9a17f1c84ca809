from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import target_loops
from softiou.overlap import overlap_statistics
from softiou.targets import HardTile, SmoothedTarget, boundary, boundary_band
from softiou.tiles import Tile, tiles

IGNORE = 255


# Values by hand


def test_everywhere_by_hand() -> None:
    target = SmoothedTarget(torch.tensor([[2, 0, IGNORE]]), 0.3, ignore_index=IGNORE)
    assert target.shape == (1, 3)
    found = target.dense(3, torch.float64)
    expected = torch.tensor([[0.1, 0.8], [0.1, 0.1], [0.8, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(found.y[0, :, :2], expected)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, True, False]]]


def test_the_band_alone_by_hand() -> None:
    target = SmoothedTarget(torch.tensor([[0, 0, 0, 1]]), 0.5, width=1)
    y = target.dense(2, torch.float32).y
    assert y.tolist() == [[[1, 1, 0.75, 0.25], [0, 0, 0.25, 0.75]]]


def test_labels_and_how_much_they_are_smoothed_by_hand() -> None:
    target = SmoothedTarget(torch.tensor([[0, 0, 1, IGNORE, 1, 1]]), 0.5, 1, IGNORE)
    read = target.read(Tile(0, (slice(1, 5),)), 2, torch.float64)
    assert isinstance(read, HardTile)
    assert read.index.tolist() == [0, 1, 0, 1]
    assert read.valid is not None
    assert read.valid.tolist() == [True, True, False, True]
    assert read.epsilon is not None
    assert read.epsilon.tolist() == [0.5, 0.5, 0, 0]
    assert read.epsilon.dtype == torch.float64


def test_a_class_that_is_ignored_makes_no_band() -> None:
    target = SmoothedTarget(torch.tensor([[0, 0, 1, 2, 0]]), 0.5, 1, ignore_index=1)
    read = target.read(Tile(0, (slice(0, 5),)), 3, torch.float32)
    assert read.epsilon is not None
    assert read.epsilon.tolist() == [0, 0, 0, 0.5, 0.5]


def band_of(rows: list[str], **options: Any) -> list[str]:
    """Digits are classes and `.` is ignored; `#` is the band."""
    labels = torch.tensor([[IGNORE if label == "." else int(label) for label in r] for r in rows])
    options = {"width": 1, "num_classes": 3, "ignore_index": IGNORE, **options}
    (band,) = boundary_band(labels.unsqueeze(0), **options)
    return ["".join("#" if inside else "-" for inside in row) for row in band.tolist()]


def test_the_band_goes_around_corners() -> None:
    """Along every axis at most `width`: a square around each pixel, not a disc."""
    rows = ["00000", "00000", "00100", "00000", "00000"]
    assert band_of(rows) == ["-----", "-###-", "-###-", "-###-", "-----"]
    assert band_of(rows, width=2) == ["#####"] * 5


def test_the_border_of_the_image_is_no_border_of_a_class() -> None:
    assert band_of(["000", "000"], width=4) == ["---", "---"]
    assert band_of(["0001", "0001"]) == ["--##", "--##"]


def test_ignored_pixels_make_no_border_and_are_in_no_band() -> None:
    assert band_of(["00.00", "00.00"]) == ["-----", "-----"]
    assert band_of(["0.1", "0.1"]) == ["---", "---"]
    assert band_of(["0.1", "0.1"], width=2) == ["#-#", "#-#"]
    assert band_of(["0.1"], width=2, ignore_index=None) == ["#-#"]  # 255 is no class either
    assert band_of(["0011"], ignore_index=1) == ["----"]


def test_no_border_between_images() -> None:
    labels = torch.tensor([[[0, 0]], [[1, 1]]])
    assert not boundary_band(labels, width=3, num_classes=2).any()


def test_a_third_class_in_between() -> None:
    """The extremes of a neighbourhood may both differ from the pixel itself."""
    assert band_of(["021"]) == ["###"]
    assert band_of(["010"]) == ["###"]
    assert band_of(["000111222"]) == ["--##-##--"]


# The slow reference


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Labels (N, *S) in patches, with some that are ignored or no class, and C."""
    longest = {1: 14, 2: 6, 3: 4}
    dimensions = draw(st.integers(1, 3))
    space = draw(
        st.lists(st.integers(1, longest[dimensions]), min_size=dimensions, max_size=dimensions)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_classes = draw(st.integers(2, 4))
    labels = rng.integers(0, num_classes, (draw(st.integers(1, 2)), *space))
    # Most of the classes are rare, so that there are pixels outside of the band.
    labels = np.where(rng.random(labels.shape) < draw(st.sampled_from([0.1, 0.4, 1.0])), labels, 0)
    strange = rng.choice([IGNORE, 100], labels.shape)
    labels = np.where(rng.random(labels.shape) < draw(st.sampled_from([0, 0.3])), strange, labels)
    return labels.astype(draw(st.sampled_from(["uint8", "int16", "int64"]))), num_classes


@given(label_maps(), st.integers(1, 4), st.sampled_from([None, IGNORE, 1]))
def test_the_band_agrees_with_loops(
    case: tuple[np.ndarray, int], width: int, ignore_index: int | None
) -> None:
    labels, num_classes = case
    found = boundary_band(
        torch.from_numpy(labels), width=width, num_classes=num_classes, ignore_index=ignore_index
    )
    expected = target_loops.boundary_band(
        labels, num_classes, width=width, ignore_index=ignore_index
    )
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), expected)


@given(label_maps(), st.integers(1, 4), st.integers(1, 20))
def test_the_band_of_a_tile_sees_beyond_its_edges(
    case: tuple[np.ndarray, int], width: int, pixels: int
) -> None:
    labels, num_classes = torch.from_numpy(case[0]), case[1]
    target = SmoothedTarget(labels, 1.0, width, IGNORE)
    band = boundary_band(labels, width=width, num_classes=num_classes, ignore_index=IGNORE)
    for tile in tiles(target.shape, pixels):
        read = target.read(tile, num_classes, torch.float64)
        assert read.epsilon is not None
        assert torch.equal(read.epsilon, tile.of(band).double())


# Properties


@given(label_maps(), st.integers(1, 4))
def test_a_wider_band_holds_the_narrower(case: tuple[np.ndarray, int], width: int) -> None:
    labels = torch.from_numpy(case[0])
    narrow, wide = (
        boundary_band(labels, width=w, num_classes=case[1], ignore_index=IGNORE)
        for w in (width, width + 1)
    )
    assert (wide | ~narrow).all()


@pytest.mark.parametrize("width", [None, 2])
def test_epsilon_zero_is_hard(width: int | None) -> None:
    labels = torch.randint(0, 3, (2, 5, 6))
    y = SmoothedTarget(labels, 0.0, width).dense(3, torch.float32).y
    assert torch.equal(y.argmax(1), labels)
    assert torch.equal(y.amax(1), torch.ones(2, 5, 6))


def test_epsilon_one_is_uniform() -> None:
    y = SmoothedTarget(torch.randint(0, 4, (2, 5)), 1.0).dense(4, torch.float32).y
    assert torch.equal(y, torch.full((2, 4, 5), 0.25))


def test_a_wide_band_is_everywhere_where_there_are_two_classes() -> None:
    labels = torch.zeros(2, 4, 5, dtype=torch.long)
    labels[0, 3, 4] = 1
    band = boundary_band(labels, width=50, num_classes=2)
    assert band[0].all()
    assert not band[1].any()


# Dtypes


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int64]
)
def test_integer_dtypes_agree(dtype: torch.dtype) -> None:
    labels = torch.tensor([[0, 0, 0, 1, 1, 1]]).to(dtype)
    band = boundary_band(labels, width=2, num_classes=2)
    assert band.tolist() == [[False, True, True, True, True, False]]
    assert (
        SmoothedTarget(labels, 0.5).dense(2, torch.float32).y[0, 1].tolist()
        == [0.25] * 3 + [0.75] * 3
    )


@pytest.mark.parametrize(
    "num_classes", [2**bits + more for bits in (7, 8, 15, 16, 17) for more in (-2, -1, 0, 1, 2)]
)
def test_labels_of_many_classes_do_not_wrap_around(num_classes: int) -> None:
    last = num_classes - 1
    for first in {0, 1, last - 1, *(last % 2**bits for bits in (7, 8, 15, 16))} - {last}:
        labels = torch.tensor([[first, first, last, last, last]])
        band = boundary_band(labels, width=1, num_classes=num_classes)
        assert band.tolist() == [[False, True, True, False, False]]


# Errors


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_and_one_raises(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"`epsilon` to be in \[0.0, 1.0\], but got"):
        SmoothedTarget(torch.zeros(1, 2, dtype=torch.long), epsilon)


@pytest.mark.parametrize("width", [0, -3])
def test_a_band_without_width_raises(width: int) -> None:
    labels = torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=rf"`width` to be at least 1, but got {width}"):
        SmoothedTarget(labels, 0.5, width)
    with pytest.raises(ValueError, match=rf"`width` to be at least 1, but got {width}"):
        boundary_band(labels, width=width, num_classes=2)


def test_floating_labels_raise() -> None:
    with pytest.raises(
        TypeError, match=r"integer dtype, but got torch.float32. Probabilities cannot"
    ):
        SmoothedTarget(torch.zeros(1, 2), 0.5)


@pytest.mark.parametrize("impl", ["torch", "chunked"])
def test_one_class_raises(impl: str) -> None:
    target = SmoothedTarget(torch.zeros(1, 2, dtype=torch.long), 0.5)
    with pytest.raises(ValueError, match=r"Smoothed labels need at least two classes"):
        overlap_statistics(torch.zeros(1, 1, 2), target, activation="sigmoid", impl=impl)


# Thin objects


def test_adaptive_band_is_the_band_of_what_an_opening_keeps() -> None:
    from scipy.ndimage import binary_dilation, binary_erosion

    random = np.random.default_rng(0)
    for width in (1, 2, 3):
        labels = np.repeat(np.repeat(random.integers(0, 3, (2, 9, 7)), 3, 1), 4, 2)
        labels[:, 5:7, :] = 2  # thin
        labels[1, 20:, 9:13] = 255
        square = np.ones((2 * width + 1,) * 2)
        given = torch.from_numpy(labels)
        settings: dict[str, Any] = {"width": width, "num_classes": 3, "ignore_index": 255}
        band = boundary_band(given, **settings).numpy()
        found = boundary_band(given, adaptive=True, **settings)
        kept = np.zeros_like(band)
        for n, c in np.ndindex(2, 3):
            # Beyond the image, and where labels are ignored, there is no other class.
            core = binary_erosion((labels[n] == c) | (labels[n] == 255), square, border_value=1)
            kept[n] |= binary_dilation(core & (labels[n] == c), square) & (labels[n] == c)
        assert found.numpy().tolist() == (band & kept).tolist()
        assert 0 < int(found.sum()) < int(band.sum())


@pytest.mark.parametrize("impl", ["torch", "chunked", "native"])
def test_a_pole_keeps_its_mass_in_every_implementation(impl: str) -> None:
    labels = torch.zeros(1, 12, 12, dtype=torch.long)
    labels[:, :, 3:5] = 1  # two pixels thick
    labels[:, :, 7:] = 2
    logits = torch.randn(1, 3, 12, 12)
    target = boundary(labels, 0.6, 1, adaptive=True)
    found = overlap_statistics(logits, target, impl=impl, tile=30).Y[0]
    fixed = overlap_statistics(logits, boundary(labels, 0.6, 1), impl=impl, tile=30).Y[0]
    # In the band: columns 2 and 7, and of a fixed one also 3 to 6, which are thin.
    assert float(found[1]) == pytest.approx(24 + 0.2 * 24)
    assert float(fixed[1]) == pytest.approx(24 * 0.6 + 0.2 * 48)
