"""Check a data set before training, and find labels that may be wrong."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from softiou._screen import Progress, progress_of
from softiou.jobs.trained import RunLike, as_trained

if TYPE_CHECKING:
    from softiou.checking import CheckReport
    from softiou.evaluation.schema import ImageScores, Suspect

T = TypeVar("T")


@dataclass(frozen=True)
class SuspectLabel:
    """A region of an image where a model confidently predicts a class other than the label.

    Attributes:
        split: Split of the image.
        stem: File name of the image without the suffix.
        target: Name of the labelled class.
        preds: Name of the predicted class.
        pixels: Number of pixels.
        confidence: Mean confidence of the prediction over the region, in per cent.
        box: Top, left, bottom and right, in pixels.
    """

    split: str
    stem: str
    target: str
    preds: str
    pixels: int
    confidence: float
    box: tuple[int, int, int, int]


def check(
    data: str | Path,
    *,
    unlabeled: Path | str | None = None,
    bands: Sequence[int] | None = None,
    progress: bool | Progress | None = None,
) -> "CheckReport":
    """Find the problems of a data set, and how to correct them, before training.

    Args:
        data: Folder with dataset.yaml, LAYOUT:/path, or "digits".
        unlabeled: Folder of images without masks, to be checked with the data set.
        bands: Bands of the images, counted from 1, as in the setting `data.bands`; None for RGB.
        progress: As in `evaluate`.

    Returns:
        All problems, a summary of each split, and recommended settings for training.
    """
    from softiou.checking import check_dataset
    from softiou.data import Bands
    from softiou.data.source_names import overlooked

    shown, listing = progress_of(progress), ExitStack()
    for line in overlooked(data):
        shown.say(line)

    def watch(items: Iterable[T], total: int) -> Iterable[T]:
        listing.close()
        return shown.track(items, total, "checking files")

    with listing:
        listing.enter_context(shown.doing(f"listing the files of {data}"))
        folder = None if unlabeled is None else Path(unlabeled)
        seen = Bands(tuple(bands)) if bands else None
        return check_dataset(str(data), unlabeled=folder, bands=seen, watch=watch)


def suspect_labels(
    run: RunLike, data: str | Path, *, progress: bool | Progress | None = None
) -> tuple[SuspectLabel, ...]:
    """Find labels that may be wrong: a trained model confidently predicts another class.

    A model also fits the wrong labels of its own training images, so most are found in the other
    splits.

    Args:
        run: Run, run directory or checkpoint.
        data: Data set with the classes of the run; all of its splits are searched.
        progress: As in `evaluate`.

    Returns:
        Regions of all images, the most confident first; at most five per image, see
        `softiou.evaluation.suspects`.

    Raises:
        CheckpointError: No usable checkpoint was found, or its classes differ.
        DataError: The data set cannot be read.
    """
    from softiou.data import available_splits
    from softiou.jobs.scoring import score
    from softiou.reports import ranked_suspects

    shown, model = progress_of(progress), as_trained(run).load_model()
    found: dict[tuple[str, object], tuple[str, ImageScores, Suspect]] = {}
    for split in available_splits(data):
        evaluation = score(model, data, split=split, labels="hard", progress=shown).evaluation
        for image, one in ranked_suspects(evaluation.images):
            found.setdefault((image.stem, one.box), (split, image, one))  # splits may overlap
    ranked = sorted(found.values(), key=lambda entry: -entry[2].weight)
    names = model.description.classes
    return tuple(
        SuspectLabel(
            split,
            image.stem,
            names[one.target],
            names[one.preds],
            one.pixels,
            one.confidence,
            one.box,
        )
        for split, image, one in ranked
    )
