from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from softiou.data import (
    Augmentation,
    DigitScenes,
    DrawSampler,
    Sample,
    TrainingStream,
    collate,
    open_dataset,
)

PLAIN = Augmentation((8, 8), scale=(1.0, 1.0), flip=0.0, colour=0.0)
PADDING = torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1, 1)


def ramp(height: int, width: int) -> Sample:
    """Return a sample whose every pixel knows its place, in the image and in the target."""
    target = torch.arange(height * width).view(height, width)
    return {"image": target.to(torch.uint8).expand(3, -1, -1), "target": target, "stem": "ramp"}


def one_hot(target: Tensor) -> Tensor:
    """Return (C, H, W) float of (H, W)."""
    return torch.nn.functional.one_hot(target).movedim(-1, 0).float()


# The crop


def test_whole_image_comes_back_unchanged() -> None:
    sample = ramp(8, 8)
    augmented = PLAIN(sample)
    assert type(augmented["image"]) is type(augmented["target"]) is Tensor
    assert torch.equal(augmented["image"], sample["image"])
    assert torch.equal(augmented["target"], sample["target"])
    assert augmented["stem"] == "ramp"


def test_crop_is_a_part_of_the_image() -> None:
    augmented = PLAIN(ramp(12, 16))
    first = int(augmented["target"][0, 0])
    rows = torch.arange(8).view(-1, 1) * 16
    assert torch.equal(augmented["target"], first + rows + torch.arange(8))
    assert torch.equal(augmented["image"][0], augmented["target"].to(torch.uint8))


def test_every_crop_is_drawn() -> None:
    firsts = {int(PLAIN(ramp(9, 10))["target"][0, 0]) for _ in range(200)}
    assert firsts == {0, 1, 2, 10, 11, 12}


def test_padding_is_mean_colour_and_ignored() -> None:
    augmented = PLAIN(ramp(5, 3))
    ignored = augmented["target"] == 255
    assert int((~ignored).sum()) == 15
    assert (augmented["image"] == PADDING).all(dim=0).equal(ignored)
    assert torch.equal(augmented["target"][~ignored], torch.arange(15))


def test_soft_and_hard_targets_are_cut_alike() -> None:
    augmentation = Augmentation((9, 11), colour=0.0)
    sample = ramp(7, 8)
    hard, soft = (
        _seeded(augmentation, sample),
        _seeded(augmentation, {**sample, "target": one_hot(sample["target"])}),
    )
    valid = hard["target"] != 255
    assert torch.equal(hard["image"], soft["image"])
    assert soft["target"].dtype == torch.float32
    assert torch.equal(soft["target"].argmax(dim=0)[valid], hard["target"][valid])
    assert (soft["target"][:, ~valid] == 255).all()
    assert torch.equal(soft["target"][:, valid].sum(dim=0), torch.ones(int(valid.sum())))


def _seeded(augmentation: Augmentation, sample: Sample) -> Sample:
    torch.manual_seed(3)
    return augmentation(sample)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scale_keeps_image_and_target_aligned(scale: float) -> None:
    edge = torch.zeros(32, 32, dtype=torch.long)
    edge[:, 16:] = 1
    sample: Sample = {"image": (edge * 255).byte().expand(3, -1, -1), "target": edge, "stem": "e"}
    side = int(32 * scale)
    augmented = replace(PLAIN, crop_px=(side, side), scale=(scale, scale))(sample)
    assert int(augmented["target"].sum()) == side * side // 2
    assert torch.equal((augmented["image"][0] > 127).long(), augmented["target"])


def test_half_scale_takes_labels_at_the_centre() -> None:
    sample = ramp(9, 9)
    augmented = replace(PLAIN, crop_px=(3, 3), scale=(1 / 3, 1 / 3))(sample)
    assert augmented["target"].tolist() == [[10, 13, 16], [37, 40, 43], [64, 67, 70]]


def test_flip_mirrors_both() -> None:
    sample = ramp(8, 8)
    augmented = replace(PLAIN, flip=1.0)(sample)
    assert torch.equal(augmented["image"], sample["image"].flip(-1))
    assert torch.equal(augmented["target"], sample["target"].flip(-1))


def test_colour_leaves_the_target() -> None:
    sample = ramp(8, 8)
    augmented = replace(PLAIN, colour=0.5)(sample)
    assert augmented["image"].dtype == torch.uint8
    assert not torch.equal(augmented["image"], sample["image"])
    assert torch.equal(augmented["target"], sample["target"])


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (100, 80)])
def test_output_has_the_size_of_the_crop(size: tuple[int, int]) -> None:
    for _ in range(20):
        augmented = Augmentation((17, 31))(ramp(*size))
        assert augmented["image"].shape == (3, 17, 31)
        assert augmented["target"].shape == (17, 31)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"crop_px": (0, 4)}, r"`crop_px` to be positive, but got \(0, 4\)"),
        ({"scale": (2.0, 1.0)}, r"`scale`, but got \(2\.0, 1\.0\)"),
        ({"flip": 1.5}, r"`flip` to be in \[0, 1\], but got 1\.5"),
        ({"colour": -1.0}, r"`colour` to be in \[0, 1\], but got -1\.0"),
    ],
)
def test_arguments_out_of_range(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(PLAIN, **wrong)  # type: ignore[arg-type]


# The stream


@pytest.fixture
def stream() -> TrainingStream:
    return TrainingStream(DigitScenes("val", size=10), Augmentation((32, 48)), seed=7)


def equal(one: Sample, other: Sample) -> bool:
    return one["stem"] == other["stem"] and all(
        torch.equal(a, b)
        for a, b in ((one["image"], other["image"]), (one["target"], other["target"]))
    )


def test_each_epoch_is_a_permutation(stream: TrainingStream) -> None:
    epochs = [[stream[10 * epoch + i]["stem"] for i in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == 10
    assert epochs[0] != epochs[1] != epochs[2]


def test_draws_are_repeatable_in_any_order(stream: TrainingStream) -> None:
    again = TrainingStream(DigitScenes("val", size=10), Augmentation((32, 48)), seed=7)
    draws = (0, 25, 3, 25, 1_000_000)
    assert all(equal(stream[d], again[d]) for d in draws)
    assert equal(stream[3], again[3])


def test_seed_and_draw_change_the_chance(stream: TrainingStream) -> None:
    dataset = DigitScenes("val", size=1)
    one, other = (TrainingStream(dataset, Augmentation((32, 48)), seed=s) for s in (0, 1))
    assert not equal(one[0], other[0])
    assert not equal(one[0], one[1])


def test_global_generator_is_left_alone(stream: TrainingStream) -> None:
    before = torch.get_rng_state()
    stream[4]
    assert torch.equal(torch.get_rng_state(), before)


def test_number_of_workers_changes_nothing(stream: TrainingStream) -> None:
    batches = [
        list(
            DataLoader(
                stream,
                batch_size=4,
                sampler=DrawSampler(5, 12),
                num_workers=workers,
                collate_fn=collate,
            )
        )
        for workers in (0, 2)
    ]
    assert len(batches[0]) == 3
    for one, other in zip(*batches, strict=True):
        assert one["image"].shape == (4, 3, 32, 48)
        assert one["target"].shape == (4, 32, 48)
        assert one["stem"] == other["stem"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["target"], other["target"])


def test_ranks_share_the_draws() -> None:
    ranks = [DrawSampler(7, 11, rank=rank, world_size=3) for rank in range(3)]
    assert list(ranks[1]) == [8, 11, 14, 17]
    assert Counter(d for rank in ranks for d in rank) == Counter(range(7, 18))
    assert [len(rank) for rank in ranks] == [4, 4, 3]
    batches = [DrawSampler(8, 16, rank=rank, world_size=2, batch_size=4) for rank in range(2)]
    assert list(batches[1]) == [12, 13, 14, 15, 20, 21, 22, 23]
    assert sorted(d for rank in batches for d in rank) == list(range(8, 24))


def test_sampler_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"`rank` to be in 0\.\.1, but got 2"):
        DrawSampler(0, 4, rank=2, world_size=2)
    with pytest.raises(ValueError, match=r"at least 0, but got -1 and 4"):
        DrawSampler(-1, 4)


def test_collate_stacks_soft_targets() -> None:
    scenes = DigitScenes("val", labels="soft")
    batch = collate([scenes[0], scenes[1]])
    assert batch["target"].shape == (2, 11, 64, 64)
    assert batch["stem"] == ["val-00000", "val-00001"]


def test_collate_refuses_different_sizes() -> None:
    with pytest.raises(ValueError, match=r"one size .* but got \[\(2, 3\), \(4, 4\)\]\. Crop"):
        collate([ramp(4, 4), ramp(2, 3)])


def test_lidc_stream(shared_data: Path) -> None:
    stream = TrainingStream(
        open_dataset(shared_data / "lidc", "val"), Augmentation((96, 96)), seed=0
    )
    sample = stream[0]
    assert sample["target"].shape == (4, 96, 96)
    for mask in sample["target"]:
        assert torch.equal(mask != 255, sample["inside"])
