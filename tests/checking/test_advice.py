"""What the numbers of a data set suggest."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import ArrayLike
from typer.testing import CliRunner

from softiou.checking import check_dataset
from softiou.checking.advice import advise, class_shifts
from softiou.checking.masks import infer_label_map
from softiou.checking.summaries import ClassSummary, SizeSummary, SplitSummary
from softiou.cli.check import check
from softiou.data import DatasetDescription
from softiou.data.crops import automatic_crop, spread

Make = Callable[..., Path]
APP = typer.Typer()
APP.command()(check)


def split_of(shares: list[float], *, images: int = 100, showing: int | None = None) -> SplitSummary:
    classes = tuple(
        ClassSummary(
            f"class {c}", share, (images if showing is None else showing) * (share > 0), share
        )
        for c, share in enumerate(shares)
    )
    return SplitSummary(images, 1, 0.0, None, classes, (SizeSummary(10, 20, images),))


# Crops


def test_crop_is_the_median_in_multiples_of_32() -> None:
    assert automatic_crop([(100, 700)]) == (96, 512)
    assert automatic_crop([(8, 64), (40, 70), (100, 300), (90, 100)]) == (32, 64)
    assert spread(40) == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]
    assert spread(3) == [0, 1, 2]


# Balance


def test_weights_by_median_frequency(make_dataset: Make) -> None:
    masks = {"a": [[0, 0, 0, 1]], "b": [[0, 0, 0, 0]], "c": [[2, 2, 1, 0]]}
    root = make_dataset({"train/masks": masks}, classes=["a", "b", "c", "never"])
    report = check_dataset(root)
    frequencies = [c.frequency for c in report.splits["train"].classes]
    assert frequencies == [8 / 12, 2 / 8, 2 / 4, 0]
    assert report.advice is not None
    assert report.advice.class_weights == (0.75, 2.0, 1.0, 1.0)
    assert report.advice.imbalance == pytest.approx(8 / 3)
    assert report.advice.crop_px == (32, 32)
    assert report.advice.scarce == ()  # three images say nothing


def test_scarce_classes() -> None:
    summary = split_of([0.9995, 0.0004, 0.0001, 0.0])
    assert advise(summary, [(32, 32)]).scarce == ("class 1", "class 2")
    assert advise(split_of([0.5, 0.5], showing=9), [(32, 32)]).scarce == ("class 0", "class 1")
    assert advise(split_of([0.5, 0.5], showing=9, images=49), [(32, 32)]).scarce == ()


def test_nothing_to_learn_from(make_dataset: Make) -> None:
    assert check_dataset(make_dataset({"train/masks": {"a": [[255, 255]]}})).advice is None


# Splits


def test_splits_whose_shares_differ() -> None:
    train, near = split_of([0.5, 0.3, 0.2]), split_of([0.6, 0.3, 0.1])
    far = split_of([0.2, 0.3, 0.5])
    (problem,) = class_shifts(Path, {"train": train, "val": near, "test": far})
    assert (problem.file, problem.kind, problem.severity) == ("test", "class_shift", "warning")
    assert problem.message == (
        "30% of the pixels of test would need another class for the class distribution of "
        "train; the largest differences are class 0 -30.0%, class 2 +30.0%, class 1 +0.0%."
    )


def test_splits_of_a_few_images_may_differ() -> None:
    train, few = split_of([1.0, 0.0]), split_of([0.0, 1.0], images=19)
    for splits in ({"train": train, "val": few}, {"train": few, "val": train}, {"val": train}):
        assert list(class_shifts(Path, splits)) == []


def test_annotators(make_dataset: Make) -> None:
    masks = {"train/masks_1": {"a": [[0, 1, 1, 255]]}, "train/masks_2": {"a": [[0, 0, 1, 1]]}}
    root = make_dataset(masks)
    report = check_dataset(root)
    assert report.problems == ()
    assert report.splits["train"].agreement == pytest.approx(2 / 3)
    result = CliRunner().invoke(APP, [str(root)])
    assert "2 annotators; who agree on 66.7% of the pixels" in " ".join(result.output.split())


def test_annotators_that_are_copies(make_dataset: Make) -> None:
    root = make_dataset({f"train/masks_{r}": {"a": [[0, 1]]} for r in (1, 2)})
    (problem,) = check_dataset(root).problems
    assert (problem.kind, problem.severity) == ("equal_annotators", "warning")


# Numbers


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        ({0, 255}, "ab", {0: 0, 255: 1}),
        ({0, 65535}, "ab", {0: 0, 65535: 1}),
        ({0, 255}, "abc", None),
        ({0, 1, 255}, "ab", None),
        ({1, 2}, "ab", {1: 0, 2: 1}),
        ({1, 3}, "abc", {1: 0, 2: 1, 3: 2}),
        ({1, 2}, "abc", None),  # fine as they are
        ({1, 4}, "abc", None),
        ({0, 3}, "abc", None),
        ({2, 3}, "abc", None),
        (set(), "ab", None),
        ({255}, "ab", None),
    ],
)
def test_what_numbers_can_mean(
    values: set[int], classes: str, expected: dict[int, int] | None
) -> None:
    assert infer_label_map(values, DatasetDescription(tuple(classes))) == expected


@pytest.mark.parametrize("values", [{0, 1, 2, 3}, {1, 2, 3}, {0, 3}])
@pytest.mark.parametrize("ignore_index", [0, 1, 2])
def test_numbers_are_not_moved_onto_one_that_is_ignored(
    values: set[int], ignore_index: int
) -> None:
    assert infer_label_map(values, DatasetDescription(tuple("abc"), ignore_index)) is None


@pytest.mark.parametrize("ignore_index", [0, 1])
def test_full_scale_is_not_moved_onto_one_that_is_ignored(ignore_index: int) -> None:
    assert infer_label_map({0, 255}, DatasetDescription(tuple("ab"), ignore_index)) is None


# The command


def test_command_gives_advice(make_dataset: Make) -> None:
    masks: dict[str, ArrayLike] = {f"m{i:02}": np.zeros((40, 60), np.uint8) for i in range(60)}
    rare = np.zeros((40, 60), np.uint8)
    rare[0, 0] = 1
    root = make_dataset({"train/masks": {**masks, "m00": rare}})
    output = CliRunner().invoke(APP, [str(root)]).output
    assert "crop: data.crop_px=auto uses 32 x 32 (height x width)" in output
    assert "rare in train: road" in output
    assert "balance: the most common class has 2400 times the share of the rarest" in output
    assert "IoU losses weight classes equally and rarely need weights" in output


@pytest.mark.parametrize("split", [None, "test", "val"])
def test_command_misses_a_validation_split(make_dataset: Make, split: str | None) -> None:
    masks = {
        "train/masks": {"a": [[0, 1]]},
        **({f"{split}/masks": {"b": [[0, 1]]}} if split else {}),
    }
    root = str(make_dataset(masks))
    result = CliRunner().invoke(APP, [root])
    assert result.exit_code == 0
    assert ("there is no split val" in result.output) == (split != "val")
    assert ("softiou split DATA --val 0.2" in result.output) == (split != "val")
    assert "data.val_split=" not in result.output  # of images that are trained on, or of test
    assert CliRunner().invoke(APP, [root, "--strict"]).exit_code == (split != "val")


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--strict",), 1)])
def test_strict_minds_warnings(make_dataset: Make, options: tuple[str, ...], status: int) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 0]]}})
    assert CliRunner().invoke(APP, [str(root), *options]).exit_code == status


def test_json_has_a_stable_schema(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}, "val/masks": {"b": [[0, 7]]}})
    report = json.loads(CliRunner().invoke(APP, [str(root), "--json"]).output)
    assert report["schema_version"] == 1
    assert list(report) == [
        "schema_version",
        "counts",
        "source",
        "problems",
        "splits",
        "lists",
        "unlabeled",
        "groups",
        "value_map",
        "advice",
        "fix",
        "suspects",
    ]
    assert report["counts"] == {"errors": 1, "warnings": 0, "notes": 0}
    assert list(report["problems"][0]) == ["file", "message", "remedy", "severity", "kind"]
    assert list(report["groups"][0]) == ["severity", "kind", "remedy", "count", "examples"]
    assert list(report["advice"]) == ["crop_px", "scarce", "class_weights", "imbalance"]


def test_images_of_another_folder(make_dataset: Make, tmp_path: Path) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    more = tmp_path / "more"
    more.mkdir()
    (more / "x.png").write_bytes((root / "train/images/a.png").read_bytes())
    (more / "y.png").write_bytes(b"")
    result = CliRunner().invoke(APP, [str(root), "--unlabeled", str(more)])
    assert result.exit_code == 1
    assert "unlabeled: 1 images without masks; 1 of 2x1" in result.output
    assert "Copies of images of train: 1 (x.png)." in result.output
    report = check_dataset(root, unlabeled=tmp_path / "none")
    assert [p.message for p in report.errors] == [
        "Expected a folder of images, but the folder does not exist."
    ]
    assert report.unlabeled is None
