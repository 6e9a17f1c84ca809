"""Splits of a run: held out where there is none, and no image in two of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softiou.data import HELD_OUT, divide_images, open_dataset, open_source, open_unlabeled
from softiou.errors import DataError
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import TrainingData, open_labelled
from softiou.recipes.splits import with_validation

MakeShapes = Callable[..., Path]
MakeConfig = Callable[..., Any]


def opened(config: Any) -> TrainingData:
    return open_labelled(with_validation(config), NOTHING_CUSTOM)


def test_classes_are_in_balance_in_what_is_held_out(make_dataset: MakeShapes) -> None:
    # Three images of twenty show a rare class: one is held out, two are learnt from.
    masks = {f"a{n:02}": [[0, 1, 2 if n in (3, 11, 17) else 0]] for n in range(20)}
    source = open_source(make_dataset({"train/masks": masks}, classes=["a", "b", "c"]))
    chosen = source.held_out()
    assert len(chosen) == 4
    assert len({"a03", "a11", "a17"} & set(chosen)) == 1
    assert source.held_out() == chosen


@pytest.mark.parametrize(("images", "held"), [(1, 0), (2, 1), (3, 1), (7, 1), (8, 2)])
def test_how_many_images_are_held_out(make_dataset: MakeShapes, images: int, held: int) -> None:
    masks = {f"a{n}": [[0, 1]] for n in range(images)}
    assert len(open_source(make_dataset({"train/masks": masks})).held_out()) == held


def test_a_class_of_one_image_stays_in_train(make_dataset: MakeShapes) -> None:
    source = open_source(make_dataset({"train/masks": {"a": [[0, 1]], "b": [[0, 0]]}}))
    assert source.held_out() == ("b",)


def test_one_image_is_held_out_where_none_can_be_spared(make_dataset: MakeShapes) -> None:
    lonely = open_source(make_dataset({"train/masks": {"c": [[0]], "d": [[1]]}}))
    assert lonely.held_out() == ("c",)


def test_a_mask_that_cannot_be_read_is_not_held_out(make_dataset: MakeShapes) -> None:
    root = make_dataset({"train/masks": {f"a{n}": [[0, 1]] for n in range(6)}})
    before = open_source(root).held_out()
    (root / "train" / "masks" / f"{before[0]}.png").write_bytes(b"none")
    after = open_source(root).held_out()
    assert len(after) == 1
    assert after != before


def test_without_a_validation_split_images_of_train_are_held_out(
    make_shapes: MakeShapes, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path, train=20, test=2)
    config = tiny_config(source=data)
    found = opened(config)
    assert with_validation(config).data.val_split == HELD_OUT
    validation, training = set(found.validation.stems), set(found.training.stems)
    assert validation == set(divide_images(data, {"val": 0.2})["val"])  # as `softiou split`
    assert len(validation) == 4
    assert training == {f"train{n}" for n in range(20)} - validation
    assert f"{len(validation)} images of train are held out, " in found.notes[0]
    assert found.training[0]["stem"] == found.training.stems[0]
    assert open_dataset(data, HELD_OUT).stems == found.validation.stems  # as `evaluate` does
    assert HELD_OUT not in open_source(data).splits()
    # The others may be learnt from without their masks, as in `semi`.
    (data / "splits").mkdir()
    (data / "splits" / "few.txt").write_text("\n".join(sorted(training)[:3]))
    others = open_unlabeled(data, "few", evaluated=(HELD_OUT, "val", "test"))
    assert {stem.split("/")[1] for stem in others.stems} == training - set(sorted(training)[:3])


def test_a_split_valid_validates(
    make_shapes: MakeShapes, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    found = opened(tiny_config(source=make_shapes(tmp_path, train=3, valid=2)))
    assert (found.validation.split, len(found.training)) == ("valid", 3)


def test_a_list_of_train_bounds_what_is_held_out(
    make_shapes: MakeShapes, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path, train=12)
    (data / "splits").mkdir()
    listed = {f"train{n}" for n in range(6)}
    (data / "splits" / "train.txt").write_text("\n".join(sorted(listed)))
    found = opened(tiny_config(source=data))
    assert set(found.training.stems) | set(found.validation.stems) == listed
    assert set(open_source(data).images(HELD_OUT)) == set(found.validation.stems)


def test_copies_of_what_is_scored_are_not_trained_on(
    make_shapes: MakeShapes, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path, train=5, val=2, test=2)
    for copy, original in (("val/{}/val7", "train/{}/train1"), ("test/{}/x", "train/{}/train3")):
        for kind in ("images", "masks"):
            shutil.copy(data / f"{original.format(kind)}.png", data / f"{copy.format(kind)}.png")
    found = opened(tiny_config(source=data))
    assert found.training.stems == ("train0", "train2", "train4")
    assert len(found.training) == 3
    assert found.notes == (
        "train: skipped 1 images that are also in the split test: train3",
        "train: skipped 1 images that are also in the split val: train1",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.train_split=test"], "all 3 of the split 'test' are also in the split 'test'"),
        (["data.train_split=val"], "all 3 of the split 'val' are also in the split 'val'"),
        (["data.val_split=train"], "all 10 of the split 'train' are also in the split 'train'"),
    ],
)
def test_what_is_scored_cannot_be_trained_on(
    tiny_config: MakeConfig, settings: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(tiny_config(*settings))
    with pytest.raises(DataError, match=r"data\.train_split: "):
        opened(tiny_config(*settings, source=Path("digits")))


@pytest.mark.parametrize(
    ("annotators", "kind", "said"), [(2, "majority", 1), (2, "votes", 0), (3, "majority", 0)]
)
def test_the_majority_of_two_annotators_is_their_intersection(
    make_shapes: MakeShapes,
    tiny_config: MakeConfig,
    tmp_path: Path,
    annotators: int,
    kind: str,
    said: int,
) -> None:
    data = make_shapes(tmp_path, annotators=annotators, train=3, val=1)
    found = opened(tiny_config(f"labels={kind}", source=data))
    assert len(found.notes) == said
    if said:
        assert found.notes[0].startswith("two annotators: labels=majority is the lower class")
        box = found.training[0]["target"] == 1
        votes = open_dataset(data, "train")[0]["target"] == 1
        assert box.equal(votes.all(0))


def test_validation_on_test_is_said(tiny_config: MakeConfig) -> None:
    (note,) = opened(tiny_config("data.val_split=test")).notes
    assert note.startswith("validation: 3 of its images are also in test, so metrics on test")
    assert opened(tiny_config()).notes == ()
