"""Watching pseudo-labels: shares, warnings, pictures, and judges of models."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from softiou.data import DatasetDescription
from softiou.recipes.pseudo_labels import PseudoLabelReport, PseudoLabelWatch, Shown, vanished
from softiou.recipes.validation import ValidationScores

CLASSES = DatasetDescription(("road", "car", "pole"))


def watch_of(*steps: tuple[list[float], list[float], float]) -> PseudoLabelWatch:
    watch = PseudoLabelWatch(3)
    for labels, pseudo_labels, kept in steps:
        watch.add(
            labels=torch.tensor(labels),
            pseudo_labels=torch.tensor(pseudo_labels),
            kept=torch.tensor(kept),
        )
    return watch


def test_shares_are_means_over_the_steps() -> None:
    watch = watch_of(([6, 2, 2], [1, 1, 0], 0.5), ([80, 20, 0], [9, 1, 0], 0.7))
    labels, pseudo_labels, kept = watch.compute()
    torch.testing.assert_close(labels, torch.tensor([0.7, 0.2, 0.1]))
    # Weighed by what was kept of them.
    expected = torch.tensor([0.25 + 0.63, 0.25 + 0.07, 0.0]) / 1.2
    torch.testing.assert_close(pseudo_labels, expected)
    torch.testing.assert_close(kept, torch.tensor(0.6))
    again = PseudoLabelWatch(3)
    again.load_state_dict(watch.state_dict())  # travels in checkpoints
    assert all(map(torch.equal, again.compute(), watch.compute()))
    watch.reset()
    assert all(not bool(part.any()) for part in watch.compute())


def test_steps_that_keep_nothing_say_nothing() -> None:
    nothing, some = ([1.0, 1.0, 2.0], [0.0, 0.0, 0.0], 0.0), ([1.0, 1.0, 2.0], [1.0, 1.0, 2.0], 0.1)
    labels, pseudo_labels, _ = watch_of(nothing).compute()
    assert labels.tolist() == [0.25, 0.25, 0.5]
    assert pseudo_labels.tolist() == [0, 0, 0]
    assert vanished(labels, pseudo_labels) == []
    _, pseudo_labels, kept = watch_of(*[nothing] * 9, some).compute()
    torch.testing.assert_close(pseudo_labels, labels)
    assert float(kept) == pytest.approx(0.01)


def test_traces_of_smoothing_are_no_labels() -> None:
    labels, pseudo_labels = torch.tensor([0.93, 0.03, 0.04]), torch.tensor([1.0, 0.0, 0.0])
    assert vanished(labels, pseudo_labels, trace=0.03) == [2]


@pytest.mark.parametrize(
    ("labels", "pseudo_labels", "expected"),
    [
        ([0.5, 0.4, 0.1], [0.5, 0.494, 0.006], []),
        ([0.5, 0.4, 0.1], [0.5, 0.496, 0.004], [2]),
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], []),  # it is not in the labels either
        ([0.5, 0.4, 0.1], [1.0, 0.0, 0.0], [1, 2]),
    ],
)
def test_vanished(labels: list[float], pseudo_labels: list[float], expected: list[int]) -> None:
    assert vanished(torch.tensor(labels), torch.tensor(pseudo_labels)) == expected


class Recipe(SimpleNamespace):
    """What the callback looks at."""

    def __init__(self, watch: PseudoLabelWatch, shown: Shown | None = None) -> None:
        super().__init__(
            description=CLASSES, confidence_threshold=0.6, label_trace=0.0, watch=watch, shown=shown
        )
        self.logged: dict[str, float] = {}

    def log_dict(self, values: dict[str, Tensor]) -> None:
        self.logged |= {name: float(value) for name, value in values.items()}


TRAINER: Any = SimpleNamespace(is_global_zero=True, loggers=[], global_step=40)


def test_report_warns_once_when_a_class_vanishes(tmp_path: Path) -> None:
    said: list[str] = []
    report = PseudoLabelReport(tmp_path, said.append)
    fine, gone = ([5.0, 4.0, 1.0], [5.0, 4.0, 1.0], 1.0), ([5.0, 4.0, 1.0], [5.0, 5.0, 0.0], 0.4)

    def validate(*steps: tuple[list[float], list[float], float]) -> Recipe:
        recipe = Recipe(watch_of(*steps))
        report.on_validation_epoch_end(TRAINER, cast(Any, recipe))
        return recipe

    assert validate(fine).logged["pseudo/class/pole"] == pytest.approx(10)
    assert said == []
    recipe = validate(gone)
    assert recipe.logged["pseudo/kept"] == pytest.approx(40)
    assert recipe.logged["labels/class/pole"] == pytest.approx(10)
    assert recipe.logged["pseudo/class/pole"] == 0
    assert len(said) == 1
    assert "pole is almost absent from the pseudo-labels" in said[0]
    validate(gone)
    assert len(said) == 1
    validate(fine)
    resumed = PseudoLabelReport(tmp_path, said.append)
    resumed.load_state_dict(report.state_dict())
    validate(gone)
    assert len(said) == 2
    assert validate().logged == {}  # no step since: a validation that is caught up


def test_pictures_show_what_was_kept_and_what_was_pasted(tmp_path: Path) -> None:
    # The teacher is sure of class 0 in the first image and of class 2 on the left of the second.
    logits = torch.zeros(2, 3, 4, 4)
    logits[0, 0] = 9.0
    logits[1, 2, :, :2] = 9.0
    region = torch.zeros(2, 8, 8, dtype=torch.bool)
    region[0, :, :2] = True
    inside = torch.ones(2, 8, 8, dtype=torch.bool)
    inside[0, 7] = False
    weak = torch.full((2, 3, 8, 8), 50, dtype=torch.uint8)
    strong = torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    theirs = inside.roll(1, 0), logits.roll(1, 0)
    shown = Shown(["train/a", "train/b"], weak, strong, region, (inside, logits), theirs)
    recipe: Any = Recipe(watch_of(([1, 1, 1], [1, 1, 1], 1.0)), shown)
    PseudoLabelReport(tmp_path, print).on_validation_epoch_end(TRAINER, recipe)
    folder = tmp_path / "pseudo_labels"
    about = json.loads((folder / "pictures.json").read_text())
    assert about == {"step": 40, "stems": ["train/a", "train/b"]}

    def labels(name: str) -> Any:
        return np.asarray(Image.open(folder / name))

    assert (labels("0.pseudo.png")[:7] == 0).all()
    assert (labels("0.pseudo.png")[7] == 255).all()  # beyond the image
    assert (labels("1.pseudo.png")[:, :3] == 2).all()
    assert (labels("1.pseudo.png")[:, 5:] == 255).all()  # a third each: not sure enough
    assert (labels("0.mixed.png")[:, :2] == 2).all()
    assert (labels("0.mixed.png")[:7, 2:] == 0).all()
    assert (labels("1.mixed.png") == labels("1.pseudo.png")).all()
    for name, grey in (("0.weak.jpg", 50), ("1.strong.jpg", 200)):
        assert np.abs(labels(name).astype(int) - grey).max() <= 2


def test_judge_of_confident_pixels() -> None:
    probs = torch.tensor([[0.9, 0.5, 0.2, 0.1], [0.1, 0.5, 0.8, 0.9], [0, 0, 0, 0]]).view(3, 1, 4)
    target = torch.tensor([[0, 0, 0, 1]])
    everything, confident = (
        ValidationScores(CLASSES),
        ValidationScores(CLASSES, confidence_threshold=0.75),
    )
    for one in (everything, confident):
        one.add(one.gather(probs, target))
    assert "kept" not in everything.compute()
    assert float(everything.compute()["accuracy"]) == pytest.approx(75)
    scores = confident.compute()
    assert float(scores["kept"]) == pytest.approx(75)
    # Left are 0 -> 0, 0 -> 1 and 1 -> 1: IoU 1/2 of both classes.
    assert float(scores["miou_d"]) == pytest.approx(50)
    assert float(scores["accuracy"]) == pytest.approx(200 / 3)
    confident.reset()
    confident.add(confident.gather(probs, target))
    assert float(confident.compute()["kept"]) == pytest.approx(75)
