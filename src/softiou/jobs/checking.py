"""What is wrong with a data set."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from softiou._screen import Progress, progress_of

if TYPE_CHECKING:
    from softiou.checking import CheckReport


def check(
    data: str | Path,
    *,
    unlabeled: Path | str | None = None,
    progress: bool | Progress | None = None,
) -> "CheckReport":
    """Find what is wrong with a data set, and how to correct it, before training.

    Args:
        data: Folder with dataset.yaml, LAYOUT:/path, or "digits".
        unlabeled: Folder of images without masks to look at, beside those of the data set.
        progress: As in `evaluate`.

    Returns:
        All findings, a summary of each split, and advice for a training.
    """
    from softiou.checking import check_dataset

    shown = progress_of(progress)
    return check_dataset(
        str(data),
        unlabeled=None if unlabeled is None else Path(unlabeled),
        watch=partial(shown.track, description="checking files"),
    )
