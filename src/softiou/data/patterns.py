"""Patterns of file names with {split} and {stem}, and pairing of similar names."""

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
    """A pattern of file paths, such as "{split}/labels/{stem}_mask.png"."""

    # relative to the data set; {split} is the name of the split. Without it, the files are those of
    # the split train.
    folder: str
    # file name; {stem} is shared by image and mask; the suffix may be ".*"
    name: str

    @classmethod
    def parse(cls, text: str) -> "FilePattern":
        """Parse a pattern."""
        folder, _, name = text.rpartition("/")
        if name.count("{stem}") != 1 or folder.count("{split}") > 1 or "{split}" in name:
            raise ValueError("needs one {stem} in the file name, and {split} only in a folder")
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
            # The pattern names an inner folder, or the folder contains matching files.
            if place.is_dir() and (end or any(self.stem_of(one.name) for one in place.glob("*.*")))
        )

    def stem_of(self, name: str) -> str | None:
        """Return the stem of a file name, or None if it does not match."""
        match = self._form.fullmatch(name)
        return match and match[1]

    @cached_property
    def _form(self) -> re.Pattern[str]:
        form = re.escape(self.name).replace(re.escape("{stem}"), "(.+)")
        return re.compile(form.replace(r"\.\*", r"\.[^.]+"), re.IGNORECASE | re.DOTALL)


def split_named(place: str) -> str:
    """Return the split named in a path, or ""."""
    words = re.split(r"[^a-z]+", place.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")


def paired(images: Iterable[str], masks: Iterable[str]) -> dict[str, str]:
    """Pair stems of masks and images that differ only in case or a common word.

    Common words are mask, label, L, gt, image and others at either end. If no stems are paired so,
    all are paired whose names are equal after their common start and end are removed, if that pairs
    all. Returns {stem of the mask: stem of the image} for unambiguous pairs.

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
    """Return {key: stem} for the keys that only one stem has."""
    keys = [key(stem) for stem in stems]
    times = Counter(keys)
    return {name: stem for name, stem in zip(keys, stems, strict=True) if times[name] == 1}


def _without_words(stem: str) -> str:
    """Return a lower-case stem without common words at its ends."""
    shorter = _AFFIX.sub("", stem.casefold())
    return shorter if shorter == stem.casefold() else _without_words(shorter)


def _cores(stems: Sequence[str]) -> list[str]:
    """Return the stems without their common start and end."""
    start = _shared_start(stems)
    end = _shared_start([stem[::-1] for stem in stems])
    return [stem[start : len(stem) - end] for stem in stems]


def _shared_start(stems: Sequence[str]) -> int:
    """Return the length of the common start of all stems."""
    pairs = zip(min(stems), max(stems), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
