"""Open the embedded data set or one of files."""

from pathlib import Path

from softiou.data.bands import Bands
from softiou.data.base import SegmentationDataset, TargetKind
from softiou.data.digits import DIGIT_SPLITS, DigitScenes
from softiou.data.folder import FolderDataset
from softiou.data.source import DataSource, open_source
from softiou.errors import DataError


def open_dataset(
    source: str | Path | DataSource,
    split: str,
    *,
    labels: TargetKind = "auto",
    skip_corrupt: bool = False,
    bands: Bands | None = None,
) -> SegmentationDataset:
    """Open one split of a data set.

    Args:
        source: "digits" for the embedded data set (a folder of this name is "./digits"), a folder
            with `dataset.yaml`, LAYOUT:/path for a published data set, or a `DataSource`.
        split: Name of the split; `available_splits` lists them.
        labels, skip_corrupt, bands: As for `FolderDataset`.

    Raises:
        DataError: The folder or the split does not exist, or its files have errors.
        ValueError: `labels` is invalid.
    """
    if source == "digits":
        if bands is not None and bands.numbers:
            raise DataError("The digits are RGB: remove data.bands.")
        return DigitScenes(split, labels=labels)
    return FolderDataset(source, split, labels=labels, skip_corrupt=skip_corrupt, bands=bands)


def available_splits(source: str | Path) -> tuple[str, ...]:
    """Return the splits with labels: train, val, test, then the others, sorted.

    Raises:
        DataError: The folder does not exist.
    """
    return DIGIT_SPLITS if source == "digits" else open_source(source).splits()
