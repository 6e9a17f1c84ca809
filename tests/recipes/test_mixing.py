"""CutMix and ClassMix: which pixels of its partner an image gets."""

import pytest
import torch
from torch import Tensor

from softiou.recipes.mixing import draw_regions, partners


def regions(logits: Tensor, *, cut: float = 0.0, classes: float = 0.0, seed: int = 0) -> Tensor:
    size = (4 * logits.shape[2], 4 * logits.shape[3])
    generators = [torch.Generator().manual_seed(seed)] * len(logits)
    theirs = partners(logits)
    return draw_regions(theirs, size, cut_mix=cut, class_mix=classes, generators=generators)


def test_partner_is_the_image_before() -> None:
    assert partners(torch.arange(4)).tolist() == [3, 0, 1, 2]


def test_nothing_is_pasted_without_a_chance() -> None:
    assert not regions(torch.randn(4, 3, 8, 8)).any()


def test_boxes_are_boxes_of_the_stated_area() -> None:
    found = regions(torch.zeros(1200, 2, 16, 24), cut=1.0)  # images of 64 x 96
    shares = []
    for region in found:
        rows, columns = region.any(1).nonzero().flatten(), region.any(0).nonzero().flatten()
        box = torch.zeros_like(region)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert region.equal(box)
        shares.append(region.float().mean().item())
    assert min(shares) > 0.01
    assert max(shares) < 0.42
    assert sum(shares) / len(shares) == pytest.approx(0.21, abs=0.03)
    # Anywhere: each quarter of the image is covered about as often.
    often = found.float().mean(0)
    assert often[:32, :48].mean().item() == pytest.approx(often[32:, 48:].mean().item(), abs=0.05)


def test_class_mix_takes_half_of_the_classes_of_the_partner() -> None:
    # Four classes in four columns of cells; the partner of image 0 is image 1, and the other way.
    columns = torch.arange(4).repeat_interleave(2)
    logits = 20.0 * torch.nn.functional.one_hot(columns, 5).T  # (5, 8)
    logits = logits[:, None].expand(5, 8, 8)
    mirrored = logits.flip(2)
    taken = set()
    for seed in range(20):
        first, second = regions(torch.stack([logits, mirrored]), classes=1.0, seed=seed)
        for region, partner in ((first, mirrored), (second, logits)):
            at_cells = region[2::4, 2::4]
            classes = partner.argmax(0)
            chosen = sorted(set(classes[at_cells].tolist()))
            assert len(chosen) == 2
            expected = torch.isin(classes, torch.tensor(chosen))
            assert at_cells.equal(expected)
            taken.add(tuple(chosen))
    assert len(taken) == 6  # every pair of the four, and never the fifth


def test_class_mix_of_a_single_class_pastes_nothing() -> None:
    logits = torch.zeros(2, 3, 8, 8)
    logits[:, 1] = 9
    assert not regions(logits, classes=1.0).any()


def test_chances_are_those_of_the_settings() -> None:
    logits = torch.zeros(2000, 2, 2, 2)
    logits[:, 0, :, 0] = logits[:, 1, :, 1] = 9  # the left half is class 0
    found = regions(logits, cut=0.3, classes=0.5)
    mixed = found.any((1, 2)).float().mean().item()
    assert mixed == pytest.approx(0.8, abs=0.03)
    halves = torch.zeros(2, 8, 8, dtype=torch.bool)
    halves[0, :, :4] = halves[1, :, 4:] = True
    by_class = torch.stack([(found == half).all(2).all(1) for half in halves]).any(0)
    assert by_class.float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_same_generator_same_regions() -> None:
    logits = torch.randn(5, 4, 8, 8)
    one, same, other = (regions(logits, cut=0.5, classes=0.5, seed=seed) for seed in (1, 1, 2))
    assert one.equal(same)
    assert not one.equal(other)
