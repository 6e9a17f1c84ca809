"""Views of unlabelled images: one geometry, colours that differ, and chance that repeats itself."""

from collections import Counter
from collections.abc import Callable
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
    ImageDataset,
    StrongColours,
    TrainingStream,
    UnlabeledStream,
    collate,
    open_unlabeled,
)
from softiou.data.transforms import drawn_index, random_state_of

Make = Callable[..., Path]

AUGMENTATION = Augmentation((32, 48), colour=0.5)
COLOURS = StrongColours()
NO_COLOURS = StrongColours(colour=0, grey=0, blur=0)
NUM_IMAGES = 10


def pictures(number: int = NUM_IMAGES) -> ImageDataset:
    """Noise of 40 x 56 pixels: no two crops are alike."""
    noise = torch.randint(256, (number, 3, 40, 56), dtype=torch.uint8)
    return ImageDataset("noise", tuple(f"noise/{i}" for i in range(number)), noise.__getitem__)


def stream_of(
    images: ImageDataset,
    *,
    augmentation: Augmentation = AUGMENTATION,
    strong: StrongColours = COLOURS,
    views: int = 2,
    seed: int = 7,
) -> UnlabeledStream:
    return UnlabeledStream(images, augmentation, strong, views=views, seed=seed)


def same(one: UnlabeledStream, other: UnlabeledStream, draw: int, other_draw: int) -> bool:
    """Say whether two draws are equal in everything."""
    a, b = one[draw], other[other_draw]
    return a["stem"] == b["stem"] and all(
        torch.equal(x, y)
        for x, y in (
            (a["image"], b["image"]),
            (a["strong"], b["strong"]),
            (a["inside"], b["inside"]),
        )
    )


# A draw


def test_a_draw() -> None:
    sample = stream_of(pictures(), views=3)[4]
    assert sorted(sample) == ["image", "inside", "stem", "strong"]
    assert (sample["image"].shape, sample["image"].dtype) == ((3, 32, 48), torch.uint8)
    assert (sample["strong"].shape, sample["strong"].dtype) == ((3, 3, 32, 48), torch.uint8)
    assert (sample["inside"].shape, sample["inside"].dtype) == ((32, 48), torch.bool)
    assert sample["stem"].startswith("noise/")


def test_draws_depend_on_seed_and_number_alone() -> None:
    images = pictures()
    stream, again = stream_of(images), stream_of(images)
    for draw in (0, 25, 3, 25, 1_000_000):
        torch.manual_seed(draw)
        assert same(stream, again, draw, draw)
    torch.manual_seed(5)
    assert same(stream, again, 3, 3)


def test_seed_and_draw_change_the_chance() -> None:
    images = pictures(1)
    one, other = stream_of(images, seed=0), stream_of(images, seed=1)
    assert not same(one, other, 0, 0)
    assert not same(one, one, 0, 1)


def test_global_generator_is_left_alone() -> None:
    stream = stream_of(pictures())
    before = torch.get_rng_state()
    stream[4]
    assert torch.equal(torch.get_rng_state(), before)


def test_every_image_comes_once_an_epoch() -> None:
    stream = stream_of(pictures())
    epochs = [
        [stream[NUM_IMAGES * epoch + i]["stem"] for i in range(NUM_IMAGES)] for epoch in range(3)
    ]
    everything = {f"noise/{i}" for i in range(NUM_IMAGES)}
    assert all(set(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("labelled", [1, 3, 25])
def test_number_of_labelled_images_changes_nothing(labelled: int) -> None:
    """In one batch of both there are as many draws of either, whatever the sizes are."""
    images = pictures()
    training = TrainingStream(DigitScenes("val", size=labelled), AUGMENTATION, seed=7)
    stream, alone = stream_of(images), stream_of(images)
    seen: Counter[str] = Counter()
    for draw in range(2 * NUM_IMAGES):
        training[draw]
        seen[stream[draw]["stem"]] += 1
        assert same(stream, alone, draw, draw)
    assert set(seen.values()) == {2}


def test_chance_is_not_that_of_the_labelled_images() -> None:
    """Or the same numbers would be cut out of both, in the same order."""
    scenes = DigitScenes("val", size=NUM_IMAGES)
    images = ImageDataset("digits", scenes.stems, lambda number: scenes[number]["image"])
    plain = replace(AUGMENTATION, colour=0.0)
    training = TrainingStream(scenes, plain, seed=7)
    stream = stream_of(images, augmentation=plain)
    draws = range(NUM_IMAGES)
    assert [training[d]["stem"] for d in draws] != [stream[d]["stem"] for d in draws]
    one = ImageDataset("digits", ("a",), lambda _: scenes[0]["image"])
    alone = TrainingStream(DigitScenes("val", size=1), plain, seed=7)
    assert not torch.equal(alone[0]["image"], stream_of(one, augmentation=plain)[0]["image"])


# The weak view


def test_weak_view_is_the_view_of_the_image_without_other_colours() -> None:
    images = pictures()
    stream = stream_of(images)
    for draw in range(20):
        sample = stream[draw]
        picture = images[drawn_index(stream._seed, draw, NUM_IMAGES)]
        with random_state_of(stream._seed, draw):
            view, _ = AUGMENTATION.draw(40, 56)
        assert sample["stem"] == picture["stem"]
        assert torch.equal(sample["image"], view.image(picture["image"]))
        assert torch.equal(sample["inside"], view.inside((40, 56)))


def test_whole_image_comes_back_unchanged() -> None:
    images = pictures(1)
    whole = Augmentation((40, 56), scale=(1, 1), flip=0, colour=1)
    sample = stream_of(images, augmentation=whole)[0]
    assert torch.equal(sample["image"], images[0]["image"])
    assert sample["inside"].all()


def test_outside_of_the_image_is_said() -> None:
    images = pictures(1)
    larger = Augmentation((50, 64), scale=(1, 1), flip=0)
    sample = stream_of(images, augmentation=larger, strong=NO_COLOURS)[0]
    inside = sample["inside"]
    assert int(inside.sum()) == 40 * 56
    assert torch.equal(sample["image"][:, inside].view(3, 40, 56), images[0]["image"])
    padding = torch.tensor([[124], [116], [104]], dtype=torch.uint8)
    assert (sample["image"][:, ~inside] == padding).all()
    assert (sample["strong"][:, :, ~inside] == padding).all()


# The strong views


def test_strong_views_have_the_geometry_of_the_weak_one() -> None:
    stream = stream_of(pictures(), strong=NO_COLOURS, views=3)
    for draw in range(10):
        sample = stream[draw]
        for strong in sample["strong"]:
            assert torch.equal(strong, sample["image"])


def test_weak_view_does_not_depend_on_the_strong_ones() -> None:
    images = pictures()
    one, other = stream_of(images, views=1), stream_of(images, strong=NO_COLOURS, views=3)
    for draw in range(10):
        assert torch.equal(one[draw]["image"], other[draw]["image"])
        assert torch.equal(one[draw]["inside"], other[draw]["inside"])


def test_strong_views_differ_from_the_weak_one_and_from_each_other() -> None:
    stream = stream_of(pictures(), views=2)
    samples = [stream[draw] for draw in range(20)]
    changed = [not torch.equal(s["strong"][0], s["image"]) for s in samples]
    differ = [not torch.equal(*s["strong"]) for s in samples]
    # Of the views one in twelve is left alone: no jitter, no grey, no blur.
    assert sum(changed) >= 14
    assert sum(differ) >= 16


def edges(picture: Tensor) -> Tensor:
    """Return where neighbours of a row differ (h, w-1)."""
    return (picture[:, :, 1:] != picture[:, :, :-1]).any(dim=0)


def test_colours_move_nothing() -> None:
    """A picture of two halves keeps its edge where it is, and its halves plain."""
    picture = torch.zeros(3, 16, 24, dtype=torch.uint8)
    picture[0, :, :10], picture[1, :, 10:] = 200, 90
    jitter = StrongColours(colour=0.5, grey=0.3, blur=0)
    looks = [jitter(picture) for _ in range(30)]
    assert len({tuple(look[:, 0, 0].tolist()) for look in looks}) > 10
    for look in looks:
        assert not edges(look)[:, :9].any()
        assert not edges(look)[:, 10:].any()
        assert torch.equal(look, look[:, :1].expand_as(look))
    assert sum(bool(edges(look)[:, 9].all()) for look in looks) > 25


def test_grey_alone() -> None:
    picture = pictures(1)[0]["image"]
    (grey,) = {tuple(StrongColours(0, 1, 0)(picture).flatten().tolist()) for _ in range(3)}
    red, green, blue = torch.tensor(grey).view(3, 40, 56)
    assert torch.equal(red, green)
    assert torch.equal(green, blue)
    assert not torch.equal(red, picture[0])


def test_blur_alone_keeps_colours_and_smooths() -> None:
    picture = pictures(1)[0]["image"]
    before = picture.float()
    for _ in range(5):
        after = StrongColours(0, 0, 1)(picture).float()
        assert after.std() <= before.std()
        torch.testing.assert_close(
            after.mean(dim=(1, 2)), before.mean(dim=(1, 2)), rtol=0.05, atol=0
        )
    plain = torch.full((3, 20, 20), 77, dtype=torch.uint8)
    assert torch.equal(StrongColours(0, 0, 1)(plain), plain)


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_shares_of_the_views(share: float) -> None:
    plain = torch.tensor([200, 10, 10], dtype=torch.uint8).view(3, 1, 1).expand(3, 12, 12)
    looks = [StrongColours(colour=0, grey=share, blur=0)(plain) for _ in range(400)]
    grey = sum(bool(look[0, 0, 0] == look[1, 0, 0]) for look in looks) / len(looks)
    assert grey == pytest.approx(share, abs=0.08)  # three standard deviations


# In batches


def test_number_of_workers_changes_nothing() -> None:
    stream = stream_of(pictures())
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
        for workers in (0, 1)
    ]
    assert len(batches[0]) == 3
    for one, other in zip(*batches, strict=True):
        assert one["image"].shape == (4, 3, 32, 48)
        assert one["strong"].shape == (4, 2, 3, 32, 48)
        assert one["inside"].shape == (4, 32, 48)
        assert one["stem"] == other["stem"]
        assert len(one["stem"]) == 4
        for name in ("image", "strong", "inside"):
            assert torch.equal(one[name], other[name])


def test_images_of_any_size(make_dataset: Make) -> None:
    sizes = {"a": (1, 1), "b": (3, 50), "c": (60, 40)}
    masks = {stem: torch.zeros(size).tolist() for stem, size in sizes.items()}
    root = make_dataset({"train/masks": masks})
    (root / "splits").mkdir()
    (root / "splits" / "few.txt").write_text("a\n", encoding="utf-8")
    stream = stream_of(open_unlabeled(root, "few"))
    batch = collate([stream[draw] for draw in range(8)])
    assert batch["image"].shape == (8, 3, 32, 48)
    assert Counter(batch["stem"]) == {"train/b": 4, "train/c": 4}
