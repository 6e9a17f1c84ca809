import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reference import target_loops
from softiou.tiles import Bilinear, Tile, tiles, whole

shapes = st.builds(
    lambda images, space: (images, *space),
    st.integers(0, 3),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
)


# Tiles by hand


def test_whole_rows_by_hand() -> None:
    found = list(tiles((2, 5, 4), 11))
    rows = [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert found == [Tile(n, (part, slice(0, 4))) for n in range(2) for part in rows]
    assert [tile.pixels for tile in found] == [8, 8, 4] * 2


def test_rows_that_are_cut_by_hand() -> None:
    found = [tile.box for tile in tiles((1, 2, 5), 3)]
    parts = [slice(0, 3), slice(3, 5)]
    assert found == [(slice(row, row + 1), part) for row in range(2) for part in parts]


def test_planes_of_a_volume_by_hand() -> None:
    assert [tile.box for tile in tiles((1, 3, 2, 2), 9)] == [
        (slice(0, 2), slice(0, 2), slice(0, 2)),
        (slice(2, 3), slice(0, 2), slice(0, 2)),
    ]


def test_a_tile_cuts_maps_by_hand() -> None:
    values = torch.arange(2 * 3 * 4).view(2, 3, 4)
    tile = Tile(1, (slice(1, 3), slice(2, 4)))
    assert tile.pixels == 4
    assert tile.of(values).tolist() == [18, 19, 22, 23]
    channels = torch.stack([values, -values], 1)  # (N, H, W) -> (N, C, H, W)
    assert tile.of_each(channels).tolist() == [[18, 19, 22, 23], [-18, -19, -22, -23]]
    assert tile.within(channels).tolist() == [[[18, 19], [22, 23]], [[-18, -19], [-22, -23]]]


def test_within_is_a_view() -> None:
    values = torch.zeros(1, 2, 3, 3)
    Tile(0, (slice(0, 1), slice(1, 3))).within(values).fill_(1.0)
    assert values[0, :, 0].tolist() == [[0, 1, 1], [0, 1, 1]]
    assert values.sum() == 4


def test_whole_images_by_hand() -> None:
    box = (slice(0, 3), slice(0, 4))
    assert list(whole((2, 3, 4))) == [Tile(0, box), Tile(1, box)]


# Properties of tiles


@given(shapes, st.integers(1, 40))
def test_every_pixel_is_in_one_tile(shape: tuple[int, ...], pixels: int) -> None:
    visits = torch.zeros(shape, dtype=torch.long)
    for tile in tiles(shape, pixels):
        assert 1 <= tile.pixels <= pixels
        assert tile.pixels == visits[tile.image][tile.box].numel()
        visits[tile.image][tile.box] += 1
    assert (visits == 1).all()


@given(shapes, st.integers(1, 40))
def test_tiles_come_in_the_order_of_memory_without_a_gap(
    shape: tuple[int, ...], pixels: int
) -> None:
    """So a tile is contiguous where the image is, and reading on never jumps back."""
    numbers = torch.arange(math.prod(shape)).view(shape)
    read = [tile.of(numbers) for tile in tiles(shape, pixels)]
    assert torch.equal(torch.cat([*read, numbers.new_empty(0)]), numbers.flatten())


@given(shapes, st.integers(1, 40))
def test_no_two_neighbours_would_fit_into_one_tile(shape: tuple[int, ...], pixels: int) -> None:
    """Tiles are as long as they can be along the dimension that is cut."""
    for one, other in pairwise(tiles(shape, pixels)):
        lengths = [part.stop - part.start for part in one.box]
        cut = next((d for d, length in enumerate(lengths) if length > 1), len(lengths) - 1)
        moved = [d for d, part in enumerate(one.box) if part != other.box[d]]
        if one.image == other.image and moved == [cut]:
            assert one.pixels + math.prod(lengths[cut + 1 :]) > pixels


@given(shapes)
def test_whole_is_one_tile_an_image(shape: tuple[int, ...]) -> None:
    found = list(whole(shape))
    assert [tile.image for tile in found] == list(range(shape[0] if math.prod(shape) else 0))
    assert all(tile.box == tuple(slice(0, length) for length in shape[1:]) for tile in found)


# No tiles


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 3, 0), (2, 0, 3), (0, 0, 0, 0)])
def test_nothing_has_no_tiles(shape: tuple[int, ...]) -> None:
    assert list(tiles(shape, 4)) == list(whole(shape)) == []


# Bilinear by hand


def interpolate(values: Tensor, reader: Bilinear) -> Tensor:
    corners = reader.align_corners
    return F.interpolate(values, list(reader.size), mode="bilinear", align_corners=corners)


def read_all(reader: Bilinear, values: Tensor, pixels: int) -> Tensor:
    """The large map (N, C, H, W), put together from tiles."""
    N, C = values.shape[:2]
    large = torch.full((N, C, *reader.size), math.nan, dtype=values.dtype)
    for tile in tiles((N, *reader.size), pixels):
        view = tile.within(large)
        view.copy_(reader.read(values, tile).view_as(view))
    return large


@pytest.mark.parametrize(
    ("align_corners", "line"), [(False, [0.0, 3.0, 9.0, 12.0]), (True, [0.0, 4.0, 8.0, 12.0])]
)
def test_bilinear_by_hand(align_corners: bool, line: list[float]) -> None:
    values = torch.tensor([0.0, 12.0], dtype=torch.float64)
    expected = torch.tensor(line, dtype=torch.float64)
    rows = Bilinear((2, 1), (4, 2), align_corners)
    columns = Bilinear((1, 2), (2, 4), align_corners)
    found = read_all(rows, values.view(1, 1, 2, 1), 100)[0, 0]
    torch.testing.assert_close(found, expected.unsqueeze(1).expand(4, 2))
    found = read_all(columns, values.view(1, 1, 1, 2), 100)[0, 0]
    torch.testing.assert_close(found, expected.expand(2, 4))


def test_the_adjoint_by_hand() -> None:
    """Each source pixel receives the shares with which it was read, once for each tile."""
    reader = Bilinear((1, 2), (1, 4))
    total = torch.tensor([[[[100.0, 200.0]]]])
    for tile in tiles((1, 1, 4), 3):  # 0 | 1/4 | 3/4 || 1
        reader.add_adjoint(torch.full((1, tile.pixels), 4.0), tile, total)
    assert total.flatten().tolist() == [108.0, 208.0]


# Bilinear against the slow reference and torch


@st.composite
def readers(draw: st.DrawFn) -> Bilinear:
    """Any ratio, up and down, and sizes of 1."""
    sides = st.tuples(st.integers(1, 6), st.integers(1, 6))
    factors = st.sampled_from([1, 2, 4])
    source = draw(sides)
    scaled = st.builds(lambda a, b: (a * source[0], b * source[1]), factors, factors)
    size = draw(st.one_of(sides, scaled, st.tuples(st.integers(1, 13), st.integers(1, 13))))
    return Bilinear(source, size, draw(st.booleans()))


tile_sizes = st.integers(1, 60)
seeds = st.integers(0, 2**32 - 1)


def random_values(reader: Bilinear, seed: int, *, images: int = 2, num_classes: int = 2) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(images, num_classes, *reader.source)))


@given(readers(), seeds, tile_sizes)
def test_reading_agrees_with_loops(reader: Bilinear, seed: int, pixels: int) -> None:
    values = random_values(reader, seed, images=1, num_classes=1)
    expected = target_loops.bilinear(
        values.numpy(), reader.size, align_corners=reader.align_corners
    )
    np.testing.assert_allclose(read_all(reader, values, pixels).numpy(), expected, atol=1e-12)


@given(readers(), seeds, tile_sizes)
def test_reading_equals_torch(reader: Bilinear, seed: int, pixels: int) -> None:
    values = random_values(reader, seed)
    found, expected = read_all(reader, values, pixels), interpolate(values, reader)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(readers(), seeds, tile_sizes)
def test_the_adjoint_equals_the_gradient_of_torch(reader: Bilinear, seed: int, pixels: int) -> None:
    values = random_values(reader, seed).requires_grad_()
    large = interpolate(values, reader)
    g = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=tuple(large.shape)))
    (expected,) = torch.autograd.grad(large, values, g)
    total = torch.ones_like(expected)
    for tile in tiles((len(g), *reader.size), pixels):
        reader.add_adjoint(tile.of_each(g), tile, total)
    torch.testing.assert_close(total, 1 + expected, rtol=0, atol=1e-12)


# Properties of bilinear reading


@given(readers(), seeds, tile_sizes)
def test_the_adjoint_is_the_adjoint_in_every_tile(reader: Bilinear, seed: int, pixels: int) -> None:
    """<A z, g> = <z, A' g>."""
    z = random_values(reader, seed)
    rng = np.random.default_rng(seed + 1)
    for tile in tiles((len(z), *reader.size), pixels):
        g = torch.from_numpy(rng.normal(size=(z.shape[1], tile.pixels)))
        adjoint = torch.zeros_like(z)
        reader.add_adjoint(g, tile, adjoint)
        read = reader.read(z, tile)
        torch.testing.assert_close((read * g).sum(), (z * adjoint).sum(), rtol=0, atol=1e-12)


@given(readers(), tile_sizes)
def test_shares_are_a_mean(reader: Bilinear, pixels: int) -> None:
    """A constant stays what it is, and nothing leaves its range."""
    constant = torch.full((1, 1, *reader.source), 3.0, dtype=torch.float64)
    found = read_all(reader, constant, pixels)
    torch.testing.assert_close(found, torch.full_like(found, 3.0), rtol=0, atol=1e-14)
    for taps in reader.taps:
        assert all(0 <= share <= 1 for share in taps.share)


def test_a_tile_reads_and_writes_around_itself_alone() -> None:
    reader, tile = Bilinear((8, 8), (16, 16)), Tile(0, (slice(6, 9), slice(12, 14)))
    near = (slice(None), slice(None), slice(2, 5), slice(5, 8))
    values, total = torch.full((1, 2, 8, 8), torch.nan), torch.full((1, 2, 8, 8), torch.nan)
    values[near], total[near] = 1.0, 0.0
    assert torch.equal(reader.read(values, tile), torch.ones(2, 6))
    reader.add_adjoint(torch.ones(2, 6), tile, total)
    assert total[near].sum() == 12


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_same_size_is_the_identity(align_corners: bool) -> None:
    values = torch.randn(2, 3, 4, 5)
    assert torch.equal(read_all(Bilinear((4, 5), (4, 5), align_corners), values, 7), values)


@given(readers(), seeds, tile_sizes)
def test_the_layout_in_memory_does_not_matter(reader: Bilinear, seed: int, pixels: int) -> None:
    values = random_values(reader, seed)
    strided = torch.stack([values, values], -1)[..., 0]
    assert torch.equal(read_all(reader, strided, pixels), read_all(reader, values, pixels))
    total, other = torch.zeros_like(values), torch.stack([values, values], -1)[..., 0].zero_()
    for tile in tiles((len(values), *reader.size), pixels):
        g = reader.read(values, tile)
        reader.add_adjoint(g, tile, total)
        reader.add_adjoint(g.mT.contiguous().mT, tile, other)
    assert torch.equal(total, other)


# No pixels to read, dtypes


def test_a_large_map_without_pixels_is_never_read() -> None:
    reader = Bilinear((2, 2), (0, 4))
    assert read_all(reader, torch.zeros(1, 3, 2, 2), 4).shape == (1, 3, 0, 4)


@pytest.mark.parametrize(
    ("dtype", "inner"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_arithmetic_is_float32_at_least(dtype: torch.dtype, inner: torch.dtype) -> None:
    reader, tile = Bilinear((3, 4), (7, 9)), Tile(0, (slice(2, 6), slice(1, 8)))
    values = torch.randn(1, 2, 3, 4).to(dtype)
    found = reader.read(values, tile)
    assert found.dtype == inner
    assert torch.equal(found, reader.read(values.to(inner), tile))
    expected = tile.of_each(interpolate(values.double(), reader))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
