"""Why images and masks do not go together by their stems: a hint beside the finding itself."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from softiou.data.files import IMAGE_SUFFIXES, MASK_SUFFIXES, mask_folders, visible_files
from softiou.data.problems import Problem


def stem_hints(folder: Path) -> list[Problem]:
    """Look for masks of another format, and for names with something added to them.

    Args:
        folder: Of a split, with images/ and masks/ in it.
    """
    images = {path.stem for path in visible_files(folder / "images", IMAGE_SUFFIXES)}
    hints = []
    for masks in mask_folders(folder):
        others = visible_files(masks, IMAGE_SUFFIXES - MASK_SUFFIXES)
        if others:
            hints.append(_other_format(masks, others))
        stems = [path.stem for path in visible_files(masks, MASK_SUFFIXES)]
        hints += _renamed(masks, sorted(images.difference(stems)), sorted({*stems} - images))
    return hints


def _other_format(folder: Path, files: Sequence[Path]) -> Problem:
    message = f"Expected masks as PNG, but found {len(files)} others, such as {files[0].name}."
    remedy = "Save the class indices as 8-bit PNG, from the original annotation: JPEG changes the "
    remedy += "numbers near every border."
    return Problem(str(folder), message, remedy, kind="mask_format")


def _renamed(folder: Path, images: Sequence[str], masks: Sequence[str]) -> list[Problem]:
    """Say so when only what all of them begin or end with tells masks from images."""
    if len(images) < 2 or _cores(images) != _cores(masks):
        return []
    message = f"Masks are named like images but for an addition: {masks[0]} for {images[0]}."
    remedy = "Rename them: a mask has the stem of its image."
    return [Problem(str(folder), message, remedy, kind="unmatched")]


def _cores(stems: Sequence[str]) -> list[str]:
    """Return what is left of stems without what all of them begin and end with."""
    start = _shared_start(stems)
    end = _shared_start([stem[::-1] for stem in stems])
    return [stem[start : len(stem) - end] for stem in stems]


def _shared_start(stems: Sequence[str]) -> int:
    """Count the letters that all stems begin with: those of the first and last in order do."""
    pairs = zip(min(stems), max(stems), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
