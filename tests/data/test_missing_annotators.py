"""Several annotators, of whom some have left images out."""

from pathlib import Path

import pytest
import torch

from small_data import Make
from softiou.checking import check_dataset, fix_dataset
from softiou.data import open_dataset
from softiou.data.base import TargetKind
from softiou.errors import DataError


@pytest.fixture
def data(make_dataset: Make) -> Path:
    """Three annotators; b lacks the second one, c the first and the third."""
    return make_dataset(
        {
            "train/masks_1": {"a": [[0, 1]], "b": [[0, 1]]},
            "train/masks_2": {"a": [[1, 1]], "c": [[1, 0]]},
            "train/masks_3": {"a": [[0, 1]], "b": [[1, 1]]},
        }
    )


def test_votes_of_those_who_have_not_seen_it_are_ignored(data: Path) -> None:
    votes = [sample["target"].tolist() for sample in open_dataset(data, "train")]
    assert votes == [
        [[[0, 1]], [[1, 1]], [[0, 1]]],
        [[[0, 1]], [[1, 1]], [[255, 255]]],
        [[[1, 0]], [[255, 255]], [[255, 255]]],
    ]


@pytest.mark.parametrize(("labels", "last"), [("hard", [[1, 0]]), ("soft", [[[0, 1]], [[1, 0]]])])
def test_shares_are_over_those_who_have(labels: TargetKind, last: list[object], data: Path) -> None:
    samples = list(open_dataset(data, "train", labels=labels))
    torch.testing.assert_close(samples[2]["target"].float(), torch.tensor(last).float())
    if labels == "soft":
        assert samples[1]["target"][:, 0, 0].tolist() == [0.5, 0.5]


def test_check_notes_it_and_counts_agreement_among_two_or_more(data: Path) -> None:
    report = check_dataset(data)
    assert report.errors == ()
    assert "2 (b, c)" in next(p.message for p in report.problems if p.kind == "left_out")
    assert report.splits["train"].agreement == pytest.approx(2 / 4)  # of a and b


def test_an_image_without_any_mask_is_an_error(data: Path) -> None:
    (data / "train/masks_2/c.png").unlink()
    with pytest.raises(DataError, match=r"Images without a mask here: 1 \(c\)"):
        open_dataset(data, "train")


def test_a_corrected_copy_keeps_the_annotators(data: Path, tmp_path: Path) -> None:
    out = tmp_path.parent / f"{tmp_path.name}-fixed"
    fix_dataset(data, out, report=check_dataset(data))
    assert check_dataset(out).splits["train"].annotators == 3
    assert open_dataset(out, "train")[2]["target"].tolist()[0] == [[1, 0]]
