"""Labels of a parent class, which say that a pixel is one of several classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from annotation_trees import coco
from softiou import targets
from softiou.checking import check_dataset
from softiou.configuration import load_config
from softiou.data import DataProblemsError, View, open_dataset, open_source
from softiou.training import start_training

Make = Callable[..., Path]
CLASSES = ["road", "vehicle", "car", "bus", "truck"]
PARENTS = {"vehicle": ["car", "truck"]}  # 1 and 3 of road, car, bus, truck
MASK = [[0, 1], [2, 255]]


def make(make_dataset: Make, **contents: Any) -> Path:
    settings = {"classes": CLASSES, "parents": PARENTS, **contents}
    return make_dataset({"train/masks": {"a": MASK}, "val/masks": {"b": MASK}}, **settings)


def test_a_parent_is_no_class(make_dataset: Make) -> None:
    dataset = open_dataset(make(make_dataset), "train")
    assert dataset.description.classes == ("road", "car", "bus", "truck")
    assert (dataset.labels, dataset.parents, dataset.annotators) == ("hard", True, 1)
    assert dataset[0]["target"].tolist() == [[0, 255], [1, 255]]


def test_votes_are_for_each_child(make_dataset: Make) -> None:
    target = open_dataset(make(make_dataset), "train", labels="votes")[0]["target"]
    assert target.tolist() == [[[0, 1], [1, 255]], [[255, 3], [255, 255]]]
    probs, valid = targets.to_probs(targets.votes(target.unsqueeze(0)), num_classes=4)
    assert probs[0, :, 0, 0].tolist() == [1, 0, 0, 0]
    assert probs[0, :, 0, 1].tolist() == [0, 0.5, 0, 0.5]
    assert valid[0, 0].tolist() == [True, True]


def test_soft_labels_are_shares(make_dataset: Make) -> None:
    target = open_dataset(make(make_dataset), "train", labels="soft")[0]["target"]
    assert target[:, 0, 1].tolist() == [0, 0.5, 0, 0.5]
    assert (target[:, 1, 1] == 255).all()


def test_parents_of_different_sizes_and_merged_ones(make_dataset: Make) -> None:
    root = make(
        make_dataset,
        merge={"large": ["truck"], "thing": ["vehicle"]},
        parents={"thing": ["car", "bus", "large"]},
    )
    dataset = open_dataset(root, "train", labels="votes")
    assert dataset.description.classes == ("road", "car", "bus", "large")
    assert dataset[0]["target"][:, 0, 1].tolist() == [1, 2, 3]


def test_several_parents_with_another_ignore_index(make_dataset: Make) -> None:
    masks = {"train/masks": {"a": [[0, 3], [2, 4]]}}
    parents = {"car": ["road", "bus"], "vehicle": ["road", "truck"]}
    root = make_dataset(masks, classes=CLASSES, ignore_index=5, parents=parents)
    dataset = open_dataset(root, "train", labels="votes")
    assert dataset.description.classes == ("road", "bus", "truck")
    assert set(open_source(root).mask_reader().parents) == {3, 4}
    assert dataset[0]["target"].tolist() == [[[0, 1], [0, 2]], [[5, 5], [1, 5]]]


@pytest.mark.parametrize(
    "parents",
    [
        {"lorry": ["car", "bus"]},
        {"vehicle": ["car", "lorry"]},
        {"vehicle": ["car"]},
        {"vehicle": ["car", "car"]},
        {"vehicle": ["car", "vehicle"]},
        {"vehicle": ["car", "bus"], "bus": ["car", "truck"]},
    ],
)
def test_wrong_names_are_named(make_dataset: Make, parents: dict[str, list[str]]) -> None:
    with pytest.raises(DataProblemsError, match=r"Expected parents to name .* but found \w+"):
        open_dataset(make(make_dataset, parents=parents), "train")


def test_several_annotators_are_refused(make_dataset: Make) -> None:
    masks = {"train/masks_1": {"a": MASK}, "train/masks_2": {"a": MASK}}
    root = make_dataset(masks, classes=CLASSES, parents=PARENTS)
    with pytest.raises(DataProblemsError, match="one mask for each image, because of `parents`"):
        open_dataset(root, "train")


def test_check_reads_them(make_dataset: Make) -> None:
    assert not check_dataset(make(make_dataset)).errors


def test_shapes_of_annotation_files(tmp_path: Path) -> None:
    coco(tmp_path)
    classes = ["background", "road", "car", "tree"]
    contents = {"layout": "coco", "classes": classes, "parents": {"tree": ["road", "car"]}}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(contents), encoding="utf-8")
    hard = open_dataset(tmp_path, "train")
    votes = open_dataset(tmp_path, "train", labels="votes")[0]["target"]
    assert hard.description.classes == ("background", "road", "car")
    tree = hard[0]["target"] == 255
    assert 30 < int(tree.sum()) < 50  # half of 7 x 12
    assert torch.equal(votes[1] != 255, tree)
    assert {*votes[0][tree].tolist()} == {1}
    assert {*votes[1][tree].tolist()} == {2}
    shares = hard[0]["drawing"].shares(View(0, 0, 40, 50, (40, 50)), (40, 50))
    inside = torch.zeros(40, 50, dtype=torch.bool)
    inside[5:20, 10:30] = True
    torch.testing.assert_close(shares[2][5:20, 10:30], torch.ones(15, 20))
    assert (shares[:, tree & ~inside].amax(0) > 200).sum() > 20  # ignored within the tree


def test_training_learns_from_parents_by_default(make_dataset: Make, tiny: tuple[str, ...]) -> None:
    scene = [[0] * 48] * 20 + [[1] * 48] * 20
    masks = {"train/masks": {"a": scene, "c": scene}, "val/masks": {"b": scene}}
    root = make_dataset(masks, classes=CLASSES, parents=PARENTS)
    short = ["optim.steps=2", "optim.validations=1"]
    config = load_config(source=str(root), overrides=[*tiny, *short])
    said: list[str] = []
    run = start_training(config, directory=root / "run", say=said.append)
    written = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert written["labels"]["kind"] == "votes"
    assert any("labels.kind: votes" in line for line in said)
