"""The shares of area that polygons and finer masks cover: against exact areas and fine rasters.

Shapes: C classes, h and w of the crop.
"""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from softiou._native import load_library
from softiou.data import Augmentation, View, native
from softiou.data.coverage import area_shares, mask_shares, polygon_covers
from softiou.data.drawings import Bitmap, Drawing, Legend, Shape

Points = list[tuple[float, float]]
SIZE = (12, 16)
WHOLE = View(0, 0, *SIZE, SIZE)


def ring(*points: tuple[float, float]) -> NDArray[np.float32]:
    return np.array(points, np.float32)


def rectangle(top: float, left: float, bottom: float, right: float) -> NDArray[np.float32]:
    return ring((left, top), (right, top), (right, bottom), (left, bottom))


def star(cx: float, cy: float, radius: float, points: int, turn: float) -> NDArray[np.float32]:
    """Return a polygon that is neither convex nor aligned with the pixels."""
    angles = turn + np.arange(2 * points) * math.pi / points
    radii = radius * np.where(np.arange(2 * points) % 2, 0.45, 1)
    return np.stack([cx + radii * np.cos(angles), cy + radii * np.sin(angles)], 1).astype(
        np.float32
    )


def drawing(*shapes: Shape, ignore: int = 9, uncovered: int = 0, overlap: str = "later") -> Drawing:
    legend = Legend({"a": 1, "b": 2, "crowd": ignore}, 3, ignore, uncovered, overlap)  # type: ignore[arg-type]
    return Drawing(Path("f.json"), Path("i.png"), SIZE, shapes, legend)


def covered(*rings: NDArray[np.float32], size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    """Return the share of each pixel (h, w) that one shape covers."""
    found = np.zeros(size, np.float32)
    lengths, signs = np.array([len(r) for r in rings]), np.ones(len(rings))
    points = np.concatenate(rings).astype(np.float64)
    for cover in polygon_covers(points, lengths, np.zeros(len(rings), np.int64), signs, size):
        found[cover.box] += cover.shares
    return found


def clipped_area(points: Points, left: float, top: float, right: float, bottom: float) -> float:
    """Return the area of a polygon within a rectangle, clipped at one side after another."""
    for axis, limit, sign in ((0, left, 1), (0, right, -1), (1, top, 1), (1, bottom, -1)):
        kept: Points = []
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
            a, b = (ax, ay)[axis], (bx, by)[axis]
            if sign * (a - limit) >= 0:
                kept.append((ax, ay))
            if (a - limit) * (b - limit) < 0:
                t = (limit - a) / (b - a)
                kept.append((ax + t * (bx - ax), ay + t * (by - ay)))
        points = kept
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairs)) / 2


def fine_raster(outline: NDArray[np.float32], size: tuple[int, int], factor: int) -> Tensor:
    """Return the share of the centres of factor x factor parts of each pixel that lie inside."""
    y, x = (np.arange(side * factor) + 0.5 for side in size)
    inside = np.zeros((len(y), len(x)), bool)
    for (ax, ay), (bx, by) in zip(outline * factor, np.roll(outline, -1, 0) * factor, strict=True):
        rows = np.flatnonzero((y >= min(ay, by)) & (y < max(ay, by)))
        crossing = ax + (y[rows] - ay) * (bx - ax) / (by - ay) if ay != by else y[:0]
        inside[rows] ^= x > crossing[:, None]
    shares = inside.reshape(size[0], factor, size[1], factor).mean((1, 3))
    return torch.from_numpy(shares)


@pytest.fixture(params=[True, False], ids=["C", "NumPy"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with the library, and without."""
    library = load_library("data")
    if isinstance(library, str):
        pytest.skip(library)
    if not request.param:
        monkeypatch.setattr(native, "load_library", lambda *_: "There is no C compiler.")


pytestmark = pytest.mark.usefixtures("either")

# Polygons


def test_a_rectangle_by_hand() -> None:
    found = covered(rectangle(1.25, 2.5, 3, 4), size=(4, 5))
    assert found.tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0.375, 0.75, 0],
        [0, 0, 0.5, 1, 0],
        [0, 0, 0, 0, 0],
    ]


def test_a_triangle_by_hand() -> None:
    assert covered(ring((0, 0), (2, 0), (0, 2)), size=(2, 2)).tolist() == [[1, 0.5], [0.5, 0]]


@given(
    st.floats(-4, 20), st.floats(-4, 16), st.floats(0.05, 12), st.integers(2, 9), st.floats(0, 6)
)
def test_shares_are_the_areas_of_clipped_polygons(
    cx: float, cy: float, radius: float, points: int, turn: float
) -> None:
    outline = star(cx, cy, radius, points, turn)
    corners: Points = [(float(x), float(y)) for x, y in outline]
    exact = [[clipped_area(corners, x, y, x + 1, y + 1) for x in range(16)] for y in range(12)]
    np.testing.assert_allclose(covered(outline), exact, atol=2e-6)


@given(st.floats(2, 14), st.floats(2, 10), st.floats(1, 6), st.integers(2, 9), st.floats(0, 6))
def test_shares_are_those_of_a_raster_64_times_as_fine(
    cx: float, cy: float, radius: float, points: int, turn: float
) -> None:
    outline = star(cx, cy, radius, points, turn)
    error = (torch.from_numpy(covered(outline)) - fine_raster(outline, SIZE, 64)).abs()
    assert error.mean() <= 1e-3  # of which the raster itself has most
    assert error.max() <= 1 / 64


def test_direction_of_an_outline_does_not_matter() -> None:
    outline = star(7, 6, 5, 5, 0.3)
    np.testing.assert_allclose(covered(outline[::-1]), covered(outline), atol=1e-7)


def test_an_outline_that_crosses_itself_covers_what_it_winds_around() -> None:
    bow_tie = ring((0, 0), (4, 4), (4, 0), (0, 4))
    found = covered(bow_tie, size=(4, 4))
    assert found.sum() == pytest.approx(8)
    assert found[0].tolist() == [0.5, 0, 0, 0.5]


def test_parts_that_overlap_count_once() -> None:
    found = covered(rectangle(0, 0, 2, 2), rectangle(0, 1, 2, 3), size=(2, 4))
    assert found.tolist() == [[1, 1, 1, 0]] * 2


@pytest.mark.parametrize(
    "outline",
    [
        rectangle(-30, -30, -2, -2),
        rectangle(2, 40, 9, 60),
        ring((1, 1), (5, 1), (9, 1)),
        ring((3, 3), (3, 3), (3, 3)),
        ring((2, 2), (8, 8)),
    ],
    ids=["outside", "to the right", "flat", "a point", "a line"],
)
def test_nothing_is_covered(outline: NDArray[np.float32]) -> None:
    assert not covered(outline).any()


def test_a_shape_around_the_raster_covers_all_of_it() -> None:
    assert (covered(rectangle(-1e6, -1e6, 1e6, 1e6)) == 1).all()


# Masks


def test_shares_of_labels_by_hand() -> None:
    labels = np.array([[0, 1, 1], [0, 0, 1]])
    found = area_shares(labels, 2, (0, 2, 1), (0, 3, 2))
    assert found.ravel().tolist() == pytest.approx([2.5 / 3, 0.5 / 3, 0.5 / 3, 2.5 / 3])


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
def test_shares_of_labels_by_repetition(height: int, width: int, h: int, w: int) -> None:
    """Each label repeated (h, w) times is a mask that the crop divides without remainder."""
    labels = np.random.default_rng(height * width).integers(0, 3, (height, width))
    fine = labels.repeat(h, 0).repeat(w, 1)
    blocks = fine.reshape(h, height, w, width)
    expected = np.stack([(blocks == label).mean((1, 3)) for label in range(3)])
    np.testing.assert_allclose(
        area_shares(labels, 3, (0, height, h), (0, width, w)), expected, atol=1e-6
    )


def shares_of(target: torch.Tensor, view: View, **about: int) -> torch.Tensor:
    """Return the shares in a view of a whole mask (H, W)."""
    size = (len(target), len(target[0]))
    top, bottom, left, right = view.box(size)
    return mask_shares(target[top:bottom, left:right], view, size, **about)


def test_ignored_parts_are_left_out() -> None:
    target = torch.tensor([[0, 1, 9, 1], [0, 9, 9, 9]])
    shares = shares_of(target, View(0, 0, 2, 4, (1, 2)), num_classes=2, ignore_index=9)
    assert shares[:, 0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert shares[:, 0, 1].tolist() == [9, 9]  # a quarter of it is known


def test_shares_never_round_above_one() -> None:
    labels = torch.zeros(120, 160, dtype=torch.int64)
    labels[60:] = 1
    for side in range(97, 190, 3):
        view = View(-7, -5, side, side, (33, 31), flip=False)
        shares = shares_of(labels, view, num_classes=2, ignore_index=9)
        assert shares[shares != 9].max() == 1


@pytest.mark.parametrize("label", [-3, 2, 1 << 40])
def test_labels_that_are_no_class(label: int) -> None:
    target = torch.full((2, 2), label)
    with pytest.raises(ValueError, match=rf"Expected labels 0\.\.1, but found {label}"):
        shares_of(target, View(0, 0, 2, 2, (1, 1)), num_classes=2, ignore_index=255)


@pytest.mark.parametrize("ignore_index", [-1, 255, 1])
def test_pixels_beyond_the_image_are_ignored(ignore_index: int) -> None:
    target = torch.zeros(2, 2, dtype=torch.int64)
    shares = shares_of(target, View(-2, 0, 4, 2, (4, 2)), num_classes=2, ignore_index=ignore_index)
    assert (shares[:, :2] == ignore_index).all()
    assert shares[:, 2:].tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]]


@given(st.integers(-5, 8), st.integers(-5, 8), st.integers(6, 20), st.booleans())
def test_a_view_that_enlarges_by_whole_numbers_is_nearest_neighbour(
    top: int, left: int, side: int, flip: bool
) -> None:
    target = torch.from_numpy(np.random.default_rng(side).integers(0, 4, (9, 11)))
    target[target == 3] = 9
    view = View(top, left, side, side, (2 * side, 3 * side), flip)
    labels = view.labels(target, fill=9)
    shares = shares_of(target, view, num_classes=3, ignore_index=9)
    assert torch.equal(shares.argmax(0)[labels != 9], labels[labels != 9])
    assert (shares[:, labels == 9] == 9).all()
    torch.testing.assert_close(shares.sum(0)[labels != 9], torch.ones(int((labels != 9).sum())))


# Drawings


def test_later_shapes_lie_above() -> None:
    below, above = Shape("a", (rectangle(0, 0, 12, 8),)), Shape("b", (rectangle(0, 4.5, 12, 16),))
    shares = drawing(below, above).shares(WHOLE, SIZE)
    assert shares[:, 0, 3:6].tolist() == [[0, 0, 0], [1, 0.5, 0], [0, 0.5, 1]]
    labels = drawing(below, above).labels(SIZE)
    assert labels[0].tolist() == [1] * 4 + [2] * 12


def test_shapes_side_by_side_share_a_pixel_exactly() -> None:
    half = ring((0, 0), (6.25, 0), (4.5, 12), (0, 12))
    other = ring((6.25, 0), (16, 0), (16, 12), (4.5, 12))
    shares = drawing(Shape("a", (half,)), Shape("b", (other,))).shares(WHOLE, SIZE)
    assert shares[0].abs().max() < 1e-5
    np.testing.assert_allclose(shares[1], covered(half), atol=1e-6)


def test_holes_show_what_is_below() -> None:
    frame = Shape("b", (rectangle(2, 2, 10, 10),), (rectangle(4, 4, 8, 8),))
    shares = drawing(Shape("a", (rectangle(0, 0, 12, 16),)), frame).shares(WHOLE, SIZE)
    assert shares[:, 5, 5].tolist() == [0, 1, 0]
    assert shares[2].sum() == 8 * 8 - 4 * 4
    assert shares[1].sum() == 12 * 16 - 48


def test_overlap_of_classes_can_be_ignored() -> None:
    one, other = Shape("a", (rectangle(0, 0, 12, 8),)), Shape("b", (rectangle(0, 6, 12, 16),))
    same = Shape("a", (rectangle(0, 0, 12, 2),))
    both = drawing(one, other, same, overlap="ignore")
    assert both.labels(SIZE)[0].tolist() == [1] * 6 + [9] * 2 + [2] * 8
    shares = both.shares(WHOLE, SIZE)
    assert shares[:, 0, 5:9].tolist() == [[0, 9, 9, 0], [1, 9, 9, 0], [0, 9, 9, 1]]


def test_crowds_are_ignored_and_shapes_of_other_names_are_not_drawn() -> None:
    crowd = Shape("crowd", (rectangle(0, 0, 12, 8.75),))
    found = drawing(crowd, Shape("nobody", (rectangle(0, 0, 12, 16),)))
    assert found.labels(SIZE)[0].tolist() == [9] * 9 + [0] * 7
    shares = found.shares(WHOLE, SIZE)
    assert shares[:, 0, 7:10].tolist() == [[9, 9, 1], [9, 9, 0], [9, 9, 0]]


def test_what_nothing_covers_can_be_ignored() -> None:
    shares = drawing(Shape("a", (rectangle(0, 0, 12, 8.75),)), uncovered=9).shares(WHOLE, SIZE)
    assert shares[:, 0, 7:10].tolist() == [[0, 0, 9], [1, 1, 9], [0, 0, 9]]


def test_cornersmay_be_shares_of_the_sides() -> None:
    relative = Drawing(
        Path("f.txt"),
        Path("i.png"),
        None,
        (Shape("a", (rectangle(0.25, 0.5, 1, 1),)),),
        drawing().legend,
    )
    assert relative.shares(WHOLE, SIZE)[1].sum() == 9 * 8
    assert int((relative.labels(SIZE) == 1).sum()) == 9 * 8


@pytest.mark.parametrize("by_columns", [False, True])
def test_bitmaps(by_columns: bool) -> None:
    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    if by_columns:
        turned = Bitmap.of(np.ascontiguousarray(mask.T))
        bitmap = Bitmap(turned.runs, (5, 7), (3, 2), by_columns=True)
    else:
        bitmap = Bitmap.of(mask, (3, 2))
    labels = drawing(Shape("a", bitmap=bitmap)).labels(SIZE)
    assert torch.equal(labels[3:8, 2:9] == 1, torch.from_numpy(mask))
    assert int(labels.sum()) == mask.sum()


@given(st.integers(-5, 8), st.integers(-5, 12), st.integers(3, 20), st.booleans())
def test_a_bitmap_is_drawn_like_a_mask_file(top: int, left: int, side: int, flip: bool) -> None:
    view = View(top, left, side, side + 1, (7, 6), flip)
    mask = np.zeros(SIZE, bool)
    mask[2:9, 3:12] = np.random.default_rng(1).random((7, 9)) < 0.7
    shape = Shape("a", bitmap=Bitmap.of(mask[2:9, 3:12], (2, 3)))
    expected = shares_of(
        torch.from_numpy(mask.astype(np.int64)), view, num_classes=3, ignore_index=9
    )
    torch.testing.assert_close(drawing(shape).shares(view, SIZE), expected, atol=1e-5, rtol=0)


@given(st.integers(-5, 8), st.integers(-5, 12), st.integers(4, 20), st.booleans())
def test_a_view_maps_the_points(top: int, left: int, side: int, flip: bool) -> None:
    """The crop of polygons is the area-averaged crop of the same picture, drawn very fine."""
    view = View(top, left, side, side, (6, 7), flip)
    shape = Shape("a", (rectangle(2.5, 3.25, 9.75, 12),))
    factor = 4  # at which the rectangle has whole pixels
    fine = np.zeros((SIZE[0] * factor, SIZE[1] * factor), np.int64)
    fine[10:39, 13:48] = 1
    big = View(factor * top, factor * left, factor * side, factor * side, view.crop_px, flip)
    expected = shares_of(torch.from_numpy(fine), big, num_classes=3, ignore_index=9)
    torch.testing.assert_close(drawing(shape).shares(view, SIZE), expected, atol=1e-5, rtol=0)


def test_hard_labels_are_those_of_an_independent_raster() -> None:
    shape = star(200, 150, 120, 7, 0.2)
    found = drawing(Shape("a", (shape,))).labels((300, 400)).numpy() == 1
    fine = fine_raster(shape, (300, 400), 1).numpy() == 1  # centres
    assert (found & fine).sum() / (found | fine).sum() >= 0.999
    picture = Image.new("1", (16 * 400, 16 * 300))
    ImageDraw.Draw(picture).polygon([(16 * x, 16 * y) for x, y in shape], fill=1)
    pillow = np.asarray(picture).reshape(300, 16, 400, 16).mean((1, 3)) >= 0.5
    assert (found & pillow).sum() / (found | pillow).sum() >= 0.998  # Pillow draws the border, too


def test_a_drawing_can_be_pickled_for_workers() -> None:
    shape = Shape("a", (rectangle(0, 0, 3, 3),))
    copied = pickle.loads(pickle.dumps(drawing(shape)))
    assert torch.equal(copied.labels(SIZE), drawing(shape).labels(SIZE))


# Augmentation


def test_augmentation_returns_shares() -> None:
    target = torch.zeros(8, 8, dtype=torch.int64)
    target[:, :3] = 1
    augment = Augmentation((4, 4), scale=(0.5, 0.5), flip=0, colour=0, coverage=2)
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    sample = augment({"image": image, "target": target, "stem": ""})
    assert sample["target"][1].tolist() == [[1, 0.5, 0, 0]] * 4
    drawn = Drawing(
        Path("f"), Path("i"), (8, 8), (Shape("b", (rectangle(0, 0, 8, 5),)),), drawing().legend
    )
    augment = Augmentation((4, 4), scale=(0.5, 0.5), flip=0, colour=0, coverage=3)
    sample = augment({"image": image, "target": target, "stem": "", "drawing": drawn})
    assert sample["target"][2].tolist() == [[1, 1, 0.5, 0]] * 4
