"""Turns, rotations and deformations of a crop: images, labels and soft labels go the same way."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softiou.data import Augmentation, View
from softiou.data.transforms import SoftLabels
from softiou.data.warps import Warp, draw_grid

PLAIN = Augmentation((32, 48), scale=(1.0, 1.0), flip=0.0, colour=0.0)
NUMBERS = torch.arange(6).view(2, 3)  # 0 1 2 / 3 4 5


@pytest.mark.parametrize(
    ("warp", "expected"),
    [
        (Warp(), [[0, 1, 2], [3, 4, 5]]),
        (Warp(vertical_flip=True), [[3, 4, 5], [0, 1, 2]]),
        (Warp(quarter_turns=1), [[2, 5], [1, 4], [0, 3]]),
        (Warp(quarter_turns=2), [[5, 4, 3], [2, 1, 0]]),
        (Warp(quarter_turns=1, vertical_flip=True), [[0, 3], [1, 4], [2, 5]]),
    ],
)
def test_turns_by_hand(warp: Warp, expected: list[list[int]]) -> None:
    assert warp.nearest(NUMBERS).tolist() == expected
    assert warp.bilinear(NUMBERS.float().unsqueeze(0))[0].tolist() == expected


def test_a_grid_by_hand() -> None:
    """A crop of 1 x 2 from one of 2 x 3: the last row, half a pixel further to the right."""
    warp = Warp(torch.tensor([[[1.0, 1.0]], [[0.5, 1.5]]]), (2, 3))
    picture = 2 * NUMBERS.to(torch.uint8).unsqueeze(0)
    assert warp.bilinear(picture).tolist() == [[[7, 9]]]
    assert warp.bilinear(picture).dtype == torch.uint8
    assert warp.nearest(NUMBERS).tolist() == [[3, 5]]  # round half to even


def test_rotation_by_a_right_angle_is_a_quarter_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda tensor, low, high: tensor.fill_(high))
    grid, size = draw_grid((32, 32), rotation=90, elastic=0)
    assert size == (32, 32)
    labels = torch.arange(32 * 32).view(32, 32)
    assert torch.equal(Warp(grid, size).nearest(labels), torch.rot90(labels, 1))


@given(st.integers(0, 1000), st.sampled_from([0.0, 10.0, 45.0, 180.0]), st.sampled_from([0, 0.1]))
def test_the_larger_crop_has_every_place_that_is_shown(
    seed: int, rotation: float, elastic: float
) -> None:
    torch.manual_seed(seed)
    grid, size = draw_grid((20, 36), rotation=rotation, elastic=elastic)
    if grid is None:
        assert (rotation, elastic, size) == (0, 0, (20, 36))
        return
    assert grid.shape == (2, 20, 36)
    for places, length in zip(grid, size, strict=True):
        assert float(places.min()) >= -0.5
        assert float(places.max()) <= length - 0.5
    if not elastic:  # lengths stay
        steps = grid[:, :, 1:] - grid[:, :, :-1]
        torch.testing.assert_close(steps.norm(dim=0), torch.ones(20, 35), atol=1e-4, rtol=0)


def test_no_setting_draws_no_number() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert draw_grid((4, 5), rotation=0, elastic=0) == (None, (4, 5))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("stride", [1, 3, 4, 14, 16])
def test_logits_at_a_stride_go_where_the_labels_go(stride: int) -> None:
    """A field of the place: the logits of a cell are those of its centre after a rotation."""
    torch.manual_seed(3)
    grid, size = draw_grid((60, 96), rotation=30, elastic=0.02)
    warp = Warp(grid, size, quarter_turns=1, vertical_flip=True)
    rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in size), indexing="ij")
    places = torch.stack([rows, columns])
    cells = tuple(math.ceil(length / stride) for length in size)
    coarse = torch.nn.functional.interpolate(places[None], cells, mode="bilinear")[0]
    warped, whole = warp.bilinear(coarse, stride=stride), warp.bilinear(places)
    assert warped.shape == (2, math.ceil(96 / stride), math.ceil(60 / stride))
    expected = torch.nn.functional.interpolate(whole[None], warped.shape[-2:], mode="bilinear")[0]
    inner = (warped - expected).abs()[:, 1:-1, 1:-1]  # the border is repeated in cells
    assert inner.numel() > 0
    assert float(inner.max()) < 0.1 * stride


class Places:
    """Soft labels whose one class index is the place in the image."""

    stride = 1

    def read(self, stem: str, view: View, image: torch.Tensor) -> SoftLabels:
        places = torch.arange(image.shape[-2] * image.shape[-1]).view(image.shape[-2:])
        shown = view.labels(places, fill=-1).unsqueeze(0)
        return {"soft_indices": shown, "soft_weights": torch.ones(shown.shape)}


@pytest.mark.parametrize(
    "changes",
    [
        {"vertical_flip": 1.0},
        {"quarter_turns": True},
        {"rotation": 40.0},
        {"elastic": 0.1},
        {"flip": 1.0, "vertical_flip": 1.0, "quarter_turns": True, "rotation": 180.0},
        {"scale": (0.5, 2.0), "flip": 0.5, "rotation": 20.0, "elastic": 0.05},
    ],
)
def test_everything_of_a_sample_shows_the_same_place(changes: dict[str, object]) -> None:
    places = torch.arange(60 * 70).view(60, 70)
    colours = torch.stack([places // 70 * 4, places % 70 * 3, places * 0]).to(torch.uint8)
    sample = {"image": colours, "target": places, "stem": "x"}
    for seed in range(8):
        torch.manual_seed(seed)
        augmented = replace(PLAIN, ignore_index=-1, **changes)(sample, Places())  # type: ignore[arg-type]
        assert augmented["image"].shape == (3, 32, 48)
        target, inside = augmented["target"], augmented["inside"]
        assert torch.equal(target, augmented["soft_indices"][0])
        assert torch.equal(target != -1, inside)
        assert float(inside.float().mean()) > 0.4
        if "scale" not in changes:  # neighbouring pixels of the image
            rows = augmented["image"][0].float() / 4 - target // 70
            columns = augmented["image"][1].float() / 3 - target % 70
            far = inside & ((rows.abs() > 1) | (columns.abs() > 1))
            assert float(far.float().mean()) < 0.03  # beside the padding


def test_rotation_shows_the_borders_as_often() -> None:
    """The rows of the image are drawn as without rotation: the window is widened around them."""
    sample = {"image": torch.zeros(3, 40, 48, dtype=torch.uint8), "stem": "x"}
    sample["target"] = torch.arange(40).view(40, 1).expand(40, 48).contiguous()
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        target = replace(PLAIN, rotation=1.0)(sample)["target"]
        seen |= {*target[:, 0].tolist()}
    assert {0, 39} <= seen


def test_quarter_turns_come_as_often() -> None:
    torch.manual_seed(0)
    warps = [replace(PLAIN, quarter_turns=True).draw(64, 64) for _ in range(400)]
    counts = torch.bincount(torch.tensor([warp.quarter_turns for _, warp in warps]))
    assert counts.min() > 400 / 4 - 4 * math.sqrt(400 * 3 / 16)
    assert {view.crop_px for view, warp in warps if warp.quarter_turns % 2} == {(48, 32)}


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"vertical_flip": 2.0}, r"`vertical_flip` to be in \[0, 1\], but got 2\.0"),
        ({"elastic": -1.0}, r"`elastic` to be in \[0, 1\], but got -1\.0"),
        ({"rotation": 181.0}, r"`rotation` to be in \[0, 180\], but got 181\.0"),
    ],
)
def test_arguments_out_of_range(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(PLAIN, **wrong)  # type: ignore[arg-type]
