"""Match images, masks and lists of stems, and report mismatches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softiou.data.files import lines_of, some_stems
from softiou.data.layouts import Files
from softiou.data.names import FileTable, Names, Paths
from softiou.data.problems import Problem


def is_list(split: str) -> bool:
    """Return whether a split is given as the path of its list of stems."""
    return split.endswith(".txt")


def listed_stems(
    path: Path, images: Files, stems: Names, *, root: Path
) -> tuple[Names, list[Problem]]:
    """Restrict stems to those in a list file (one per line), if the file exists.

    `stems` are all stems with an image or a mask. Returns the listed stems and the problems.
    """
    if not path.is_file():
        return stems, []
    lines, problems = lines_of(path)
    if problems:
        return Names(()), problems
    listed = sorted({line for line in lines if line.strip()})
    rows = stems.rows(listed)
    # Both file names and lines may end with a blank: try the line as it is first.
    stripped = sorted({line.strip() for line, row in zip(listed, rows, strict=True) if row < 0})
    others = stems.rows(stripped)
    chosen = stems.take(np.setdiff1d([*rows, *others], [-1]).astype(int))
    unknown = [line for line, row in zip(stripped, others, strict=True) if row < 0]
    if listed and not unknown:
        return chosen, []
    place = images.place
    if place.is_relative_to(root):
        place = place.relative_to(root)
    message = f"Listed stems that are not in {place}/: {some_stems(unknown)}."
    if not listed:
        message = "Expected a list of stems, but the file is empty."
    remedy = "List stems, one per line, without folder and extension."
    return chosen, [Problem(str(path), message, remedy, kind="list")]


def matched(
    stems: Names, images: Files, annotators: Sequence[Files], pairing: str
) -> tuple[FileTable, list[Paths], list[Problem]]:
    """Return the images with a mask, the masks of each annotator, and the unmatched files."""
    tables = [FileTable.of(files.by_stem) for files in (images, *annotators)]
    shown, *has = (table.stems.rows(stems) >= 0 for table in tables)
    seen = np.logical_or.reduce([np.zeros(len(stems), bool), *has])
    problems = []
    for masks, own in zip(annotators, has, strict=True):
        if without := stems.take(np.flatnonzero(shown & ~seen)):
            message = f"Images without a mask here: {some_stems(without)}."
            problems.append(Problem(str(masks.place), message, pairing, kind="unmatched"))
        if without := stems.take(np.flatnonzero(own & ~shown)):
            message = f"Masks without an image: {some_stems(without)}."
            remedy = f"Expected an image of the same stem in {images.place}: add or rename it."
            problems.append(Problem(str(masks.place), message, remedy, kind="unmatched"))
    stems = stems.take(np.flatnonzero(shown & seen))
    found, *masks_of = (table.paths.take(table.stems.rows(stems)) for table in tables)
    return FileTable(stems, found), masks_of, problems
