"""Keep training, validation and test images of a run apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from softiou.configuration.sections import Config
from softiou.data import HELD_OUT, DataSource, FolderDataset, SegmentationDataset, open_source
from softiou.data.copies import same_files
from softiou.data.problems import some_of
from softiou.errors import DataError


def with_validation(config: Config) -> Config:
    """Return the settings with an existing validation split: val, valid, or a fifth of train."""
    data = config.data
    if data.val_split != "val" or data.source == "digits":
        return config
    source = open_source(data.source)
    val = next((name for name in ("val", "valid", "validation") if source.has(name)), HELD_OUT)
    return config.model_copy(update={"data": data.model_copy(update={"val_split": val})})


def apart(
    training: SegmentationDataset, validation: SegmentationDataset, source: str | DataSource
) -> tuple[SegmentationDataset, list[str]]:
    """Remove images from the training set whose files are also in the validation or test split.

    Returns the remaining training set, and lines to print about what was found.
    """
    val, train = validation.split, training.split
    held = {"test": _test_images(source), val: next(iter(validation.columns()), ())}
    lines = []
    if val == HELD_OUT:
        stems = validation.stems
        lines = [
            f"validation: there is no split val, so {len(stems)} images of train are held out, "
            f"with balanced classes: {some_of(stems)}; `softiou split DATA --val 0.2` writes lists"
        ]
    if not isinstance(training, FolderDataset):
        if training.folder == validation.folder or training.folder == "test":
            raise DataError(_nothing_left(train, len(training), val))
        return training, lines
    found = same_files(training.samples.images, held)
    split_of = {training.stems[n]: split for n, split in found.items()}
    if len(split_of) == len(training):
        raise DataError(_nothing_left(train, len(training), next(iter(split_of.values()))))
    for split in held:
        shared = [stem for stem, other in split_of.items() if other == split]
        if shared and split != HELD_OUT:
            lines.append(
                f"train: skipped {len(shared)} images that are also in the split {split}: "
                f"{some_of(shared)}"
            )
    return training.without(split_of), [*lines, *_tested_lines(val, held)]


def _tested_lines(val: str, held: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return a warning if validation images are also in the test split."""
    if val == "test":
        number = len(held["test"])
    else:
        number = len(same_files(held[val], {"test": held["test"]}))
    if not number:
        return []
    return [
        f"validation: {number} of its images are also in test, so metrics on test are too high; "
        "validate on others (`softiou split DATA --val 0.2`)"
    ]


def _nothing_left(train: str, number: int, other: str) -> str:
    return (
        f"data.train_split: Expected images to train on, but all {number} of the split {train!r} "
        f"are also in the split {other!r}, which is used for evaluation. Choose another split, or "
        "divide the images with `softiou split DATA --val 0.2`."
    )


def _test_images(source: str | DataSource) -> Sequence[Path]:
    """Return the images of the test split; none if there is no such split or it has errors."""
    if isinstance(source, str) or "test" not in source.splits():
        return []
    try:
        return source.images("test").paths
    except DataError:  # the errors are reported when the split is evaluated
        return []
