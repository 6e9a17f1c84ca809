"""Splits of a run: held out where there is none, and no image in two of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softiou.data import HELD_OUT, open_dataset, open_source, open_unlabeled
from softiou.data.source import held_out
from softiou.errors import DataError
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import TrainingData, open_labelled
from softiou.recipes.splits import with_validation

MakeShapes = Callable[..., Path]
MakeConfig = Callable[..., Any]


def opened(config: Any) -> TrainingData:
    return open_labelled(with_validation(config), NOTHING_CUSTOM)


def test_a_fifth_is_chosen_by_the_names_alone() -> None:
    stems = [f"image{number}" for number in range(1000)]
    chosen = held_out(stems)
    assert 160 < len(chosen) < 240
    assert held_out(reversed(stems)) == chosen
    assert held_out(stems[:500]) == chosen & set(stems[:500])  # later images change nothing
    assert all(len(held_out(stems[n : n + 2])) == 1 for n in range(50))
    assert held_out(["one"]) in (set(), {"one"})


def test_without_a_validation_split_images_of_train_are_held_out(
    make_shapes: MakeShapes, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path, train=20, test=2)
    config = tiny_config(source=data)
    found = opened(config)
    assert with_validation(config).data.val_split == HELD_OUT
    validation, training = set(found.validation.stems), set(found.training.stems)
    assert validation == held_out(f"train{n}" for n in range(20))
    assert training == {f"train{n}" for n in range(20)} - validation
    assert f"{len(validation)} images of train are held out: " in found.notes[0]
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
        "train: left out 1 images that the split test holds, too: train3",
        "train: left out 1 images that the split val holds, too: train1",
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
