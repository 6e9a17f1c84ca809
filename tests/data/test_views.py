"""A view: where a crop lies in its image, for pictures, labels and parts of images alike."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softiou.data import View

WHOLE = View(0, 0, 4, 6, (4, 6))


def views(height: int = 9, width: int = 11) -> st.SearchStrategy[View]:
    """Windows that lie inside, reach beyond or surround an image."""
    place = st.integers(-5, 8)
    side = st.integers(1, 20)
    crop = st.tuples(st.integers(1, 16), st.integers(1, 16))
    return st.builds(View, place, place, side, side, crop, st.booleans()).filter(
        lambda v: v.top < height and v.left < width and v.top + v.height > 0 < v.left + v.width
    )


def test_whole_image_is_itself() -> None:
    labels = torch.arange(24).view(4, 6)
    assert torch.equal(WHOLE.labels(labels, fill=-1), labels)
    assert WHOLE.inside((4, 6)).all()
    assert WHOLE.box((4, 6)) == (0, 4, 0, 6)


def test_window_beyond_the_border_by_hand() -> None:
    view = View(top=-1, left=1, height=3, width=2, crop_px=(3, 2), flip=True)
    labels = torch.tensor([[0, 1], [2, 3]])
    assert view.labels(labels, fill=9).tolist() == [[9, 9], [9, 1], [9, 3]]
    assert view.inside((2, 2)).tolist() == [[False, False], [False, True], [False, True]]
    assert view.box((2, 2)) == (0, 2, 1, 2)


def test_enlarging_repeats_and_shrinking_takes_the_centre() -> None:
    labels = torch.tensor([[0, 1, 2]])
    assert View(0, 0, 1, 3, (1, 6)).labels(labels, fill=9).tolist() == [[0, 0, 1, 1, 2, 2]]
    assert View(0, 0, 1, 3, (1, 1)).labels(labels, fill=9).tolist() == [[1]]


@given(views())
def test_labels_are_filled_exactly_where_nothing_is_inside(view: View) -> None:
    shown = view.labels(torch.zeros(2, 9, 11, dtype=torch.int64), fill=7)
    assert shown.shape == (2, *view.crop_px)
    assert torch.equal(shown[1] == 0, view.inside((9, 11)))


@given(views())
def test_part_of_the_image_is_enough(view: View) -> None:
    labels = torch.arange(99).view(9, 11)
    top, bottom, left, right = box = view.box((9, 11))
    part = labels[top:bottom, left:right]
    assert torch.equal(view.within(box).labels(part, fill=-1), view.labels(labels, fill=-1))


@pytest.mark.parametrize("flip", [False, True])
def test_pictures_and_labels_show_the_same_place(flip: bool) -> None:
    edge = torch.zeros(16, 16, dtype=torch.uint8)
    edge[:, 8:] = 255
    view = View(-2, 3, 12, 12, (24, 24), flip)
    picture, labels = view.image(edge.expand(3, -1, -1)), view.labels(edge, fill=255)
    inside = view.inside((16, 16))
    assert torch.equal(picture[0][inside] > 127, labels[inside] > 127)
