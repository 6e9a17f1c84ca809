"""Images, masks and lists of stems that have to match, and problems when they do not."""

from pathlib import Path

from softiou.data.files import lines_of, some_stems
from softiou.data.layouts import Files
from softiou.data.problems import Problem


def is_list(split: str) -> bool:
    """Return whether a split is given as the path of its list of stems."""
    return split.endswith(".txt")


def listed_stems(
    path: Path, images: Files, stems: set[str], *, root: Path
) -> tuple[set[str], list[Problem]]:
    """Restrict stems to those of a list, one per line, if there is such a file.

    `stems` have an image or a mask. Returns those of the list, and what is wrong with it.
    """
    if not path.is_file():
        return stems, []
    lines, problems = lines_of(path)
    if problems:
        return set(), problems
    # Names may end with a blank, and so may lines.
    listed = {line if line in stems else line.strip() for line in lines if line.strip()}
    unknown = listed - stems
    if listed and not unknown:
        return listed, []
    place = images.place
    if place.is_relative_to(root):
        place = place.relative_to(root)
    message = f"Listed stems that are not in {place}/: {some_stems(unknown)}."
    if not listed:
        message = "Expected a list of stems, but the file is empty."
    remedy = "List stems, one per line, without folder and extension."
    return stems & listed, [Problem(str(path), message, remedy, kind="list")]


def unmatched(
    stems: set[str], images: Files, masks: Files, *, seen: set[str], pairing: str
) -> list[Problem]:
    """Report images without mask of any annotator (`seen`) and masks without image."""
    problems = []
    without_mask = stems.intersection(images.by_stem).difference(seen)
    if without_mask:
        message = f"Images without mask here: {some_stems(without_mask)}."
        problems.append(Problem(str(masks.place), message, pairing, kind="unmatched"))
    without_image = stems.intersection(masks.by_stem).difference(images.by_stem)
    if without_image:
        message = f"Masks without image: {some_stems(without_image)}."
        remedy = f"Expected an image of the same stem in {images.place}: add or rename it."
        problems.append(Problem(str(masks.place), message, remedy, kind="unmatched"))
    return problems
