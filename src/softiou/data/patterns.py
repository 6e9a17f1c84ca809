"""Names of files: patterns with {split} and {stem}, and masks whose names differ by habit."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

_WORDS = "masks?|labels?|l|gt|seg|segmentation|annotation|ground_?truth|images?|img|sat|rgb"
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_AFFIX = re.compile(rf"^(?:{_WORDS})[-_. ]|[-_. ](?:{_WORDS})$")


@dataclass(frozen=True)
class FilePattern:
    """Where files lie, such as "{split}/labels/{stem}_mask.png"."""

    # relative to the data set; {split} stands for the name of the split. A folder without it holds
    # the split train.
    folder: str
    # of a file, where {stem} is what image and mask have in common; the ending may be ".*"
    name: str

    @classmethod
    def parse(cls, text: str) -> "FilePattern":
        """Read a pattern."""
        folder, _, name = text.rpartition("/")
        if name.count("{stem}") != 1 or folder.count("{split}") > 1 or "{split}" in name:
            raise ValueError("needs one {stem} in its last part, and {split} at most in a folder")
        return cls(folder, name)

    def place(self, root: Path, split: str) -> Path:
        """Return the folder of a split."""
        return root / self.folder.replace("{split}", split)

    def splits(self, root: Path) -> list[str]:
        """Return the names of the splits whose folders exist."""
        start, found, end = self.folder.partition("{split}")
        if not found:
            return ["train"] if (root / self.folder).is_dir() else []
        inner = root / start if start.endswith("/") or not start else root
        names = (path.name for path in inner.glob("[!.]*") if path.is_dir())
        places = {name: inner / f"{name}{end}" for name in names}
        return sorted(
            name
            for name, place in places.items()
            # A folder of its own, or one of any name in which there are such files.
            if place.is_dir() and (end or any(self.stem_of(one.name) for one in place.glob("*.*")))
        )

    def stem_of(self, name: str) -> str | None:
        """Return the stem of a file, None for one that does not have such a name."""
        match = self._form.fullmatch(name)
        return match and match[1]

    @cached_property
    def _form(self) -> re.Pattern[str]:
        form = re.escape(self.name).replace(re.escape("{stem}"), "(.+)")
        return re.compile(form.replace(r"\.\*", r"\.[^.]+"), re.IGNORECASE | re.DOTALL)


def split_named(place: str) -> str:
    """Return the split that a path names, or ""."""
    words = re.split(r"[^a-z]+", place.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")


def paired(images: Iterable[str], masks: Iterable[str]) -> dict[str, str]:
    """Pair the names of masks with those of images that differ by case or a usual word.

    Such words are mask, label, L, gt and image at either end. Names that only share what differs
    among them are paired if that makes all of them pairs.
    Returns the stem of the image by that of the mask, of pairs without another candidate.

    Example:
        >>> paired(["001", "B2"], ["001_label", "b2"])
        {'b2': 'B2', '001_label': '001'}
    """
    left, right = sorted(images), sorted(masks)
    found: dict[str, str] = {}
    for key in (str.casefold, _without_words):
        found |= _by_key(left, right, key)
        taken = {*found.values()}
        left = [stem for stem in left if stem not in taken]
        right = [stem for stem in right if stem not in found]
    if not found and len(left) == len(right) > 1 and _cores(left) == _cores(right):
        return dict(zip(right, left, strict=True))
    return found


def _by_key(
    images: Sequence[str], masks: Sequence[str], key: Callable[[str], str]
) -> dict[str, str]:
    image_of, mask_of = _unique(images, key), _unique(masks, key)
    return {mask_of[name]: image_of[name] for name in image_of if name in mask_of}


def _unique(stems: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    """Return the stems by a key that no other one has."""
    keys = [key(stem) for stem in stems]
    times = Counter(keys)
    return {name: stem for name, stem in zip(keys, stems, strict=True) if times[name] == 1}


def _without_words(stem: str) -> str:
    """Return a name without the usual words at its ends."""
    shorter = _AFFIX.sub("", stem.casefold())
    return shorter if shorter == stem.casefold() else _without_words(shorter)


def _cores(stems: Sequence[str]) -> list[str]:
    """Return the stems without what all of them begin and end with."""
    start = _shared_start(stems)
    end = _shared_start([stem[::-1] for stem in stems])
    return [stem[start : len(stem) - end] for stem in stems]


def _shared_start(stems: Sequence[str]) -> int:
    """Count the letters that all stems begin with: those that the first and last in order share."""
    pairs = zip(min(stems), max(stems), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
