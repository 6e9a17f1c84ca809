"""Open any data set: the embedded one by its name, the others by their files."""

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
        source: "digits" for the embedded scenes, a folder with `dataset.yaml` (one of that name is
            "./digits"), or LAYOUT:/path for a published data set; or what `open_source` returns.
        split: Name of the split; `available_splits` lists them.
        labels, skip_corrupt, bands: As for `FolderDataset`.

    Raises:
        DataError: There is no such folder or split, or its files have errors.
        ValueError: `labels` is not one of these.
    """
    if source == "digits":
        if bands is not None and bands.numbers:
            raise DataError("The digits are RGB: leave data.bands out.")
        return DigitScenes(split, labels=labels)
    return FolderDataset(source, split, labels=labels, skip_corrupt=skip_corrupt, bands=bands)


def available_splits(source: str | Path) -> tuple[str, ...]:
    """Return the splits that have labels: train, val, test, then the others by name.

    Raises:
        DataError: There is no such folder.
    """
    return DIGIT_SPLITS if source == "digits" else open_source(source).splits()
