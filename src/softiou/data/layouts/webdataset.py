"""WebDataset: tar archives with an image and its masks side by side, KEY.jpg and KEY.mask.png."""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from softiou.data.dataset_yaml import DatasetFile
from softiou.data.files import UNLABELED, composed, some_stems
from softiou.data.layouts.base import Files, Layout, no_labels
from softiou.data.names import FileTable, Inner, Names, Paths
from softiou.data.patterns import split_named
from softiou.data.problems import Problem, data_error
from softiou.data.shards import Index, as_path, indices, shards_in

_IMAGE = re.compile(r"(?:(?:image|img|input|rgb)\.)?(?:jpe?g|jfif|jp2|png|webp|tiff?|bmp|gif)")
_MASK = re.compile(
    r"(?:mask|masks|seg|segmentation|label|labels|target|gt|annotation)(?:_(\d+))?\.(?:png|tiff?|bmp)"
)
_NAME = re.compile(r"((?:.*/)?(?!__)[^./][^./]*)\.([^/]*)")  # key and ending
_NUMBER = re.compile(r"[-_.]*\d*(?:[-_]of[-_]\d+)?$")


class _Joined:
    """The files of several shards, with consecutive numbers."""

    def __init__(self, shards: Sequence[Index]) -> None:
        self._shards = shards
        self._firsts = [0, *accumulate(len(index.starts) for index in shards)]

    def path_of(self, number: int) -> Path:
        place = bisect_right(self._firsts, number) - 1
        return self._shards[place].member(number - self._firsts[place])


class WebDataset(Layout):
    """Shards in a folder or at a URL; the files with equal names before the first dot are a sample.

    The mask is KEY.mask.png, or KEY.png beside an image with another suffix. In dataset.yaml,
    `images: "{stem}.left.png"` and `masks: "{stem}.cls.png"` define other suffixes. A split is the
    folder of the shards, or their name without the number; shards of any one other name are train.
    Stems are the keys, or SHARD/KEY if several shards share a key.
    """

    split_form = "{split}-*.tar or {split}/*.tar"
    pairing = "The mask of KEY.jpg is KEY.mask.png, beside it in the shard: add it."

    def __init__(self, root: Path, contents: DatasetFile) -> None:
        self.name = "webdataset"
        self.root = root.parent if root.is_file() else root
        self.reader = contents.mask_reader()
        self._roles = lru_cache(maxsize=1024)(partial(roles, named_endings(contents, root)))
        self._shards: dict[str, list[str]] = {}
        for place in shards_in(root):
            self._shards.setdefault(_split_of(place, str(self.root)), []).append(place)
        if not self._shards:
            message = "Expected shards, *.tar or */*.tar, but found none."
            raise data_error(
                root, message, "Write some: `softiou check DATA --fix OUT --shards MB`."
            )
        name_train(self._shards)
        own = indices(places[0] for places in self._shards.values())
        firsts = dict(zip(self._shards, own, strict=True))
        self.splits = tuple(name for name, index in firsts.items() if self._has_masks(index))
        self.unlabeled = tuple(name for name in firsts if name not in self.splits)
        self._listed = lru_cache(maxsize=None)(self._list)

    def images(self, split: str) -> Files:
        """Return the images of a split; its shards are listed once."""
        return self._listed(split)[0]

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of each annotator."""
        first, *masks = self._listed(split)
        if masks:
            return tuple(masks)
        message = "Expected masks beside the images, but found none."
        raise no_labels(first.place, message, self.pairing)

    def _list(self, split: str) -> tuple[Files, ...]:
        places = self._shards[split]
        place = as_path(os.path.dirname(places[0]) if places[1:] else places[0])
        shards = list(indices(places))
        found, twice = self._samples(shards, prefixed=False)
        if twice and places[1:]:
            found, twice = self._samples(shards, prefixed=True)
        problems: tuple[Problem, ...] = ()
        if twice:
            message = f"Expected one file per suffix and key, but found more: {some_stems(twice)}."
            problems = (Problem(str(place), message, "Write the shard again.", kind="stems"),)
        files, path_of = [], _Joined(shards).path_of
        for role, numbers in sorted(found.items()):
            stems = sorted(numbers)
            paths = Paths(Inner([numbers[stem] for stem in stems], path_of))
            files.append(Files(FileTable(Names(stems), paths), place, () if role else problems))
        return tuple(files)

    def _samples(
        self, shards: Sequence[Index], *, prefixed: bool
    ) -> tuple[dict[int, dict[str, int]], set[str]]:
        """Return {role: {stem: file number}}, and the stems with several files of one role.

        Role 0 is the image; the other roles are annotators.
        """
        found, twice, before = {0: dict[str, int]()}, set[str](), 0
        for index in shards:
            shard = f"{Path(str(index.shard)).stem}/" if prefixed else ""
            for key, endings, numbers in _keys(index):
                stem = composed(shard + key)
                for role, place in self._roles(endings):
                    row = before + numbers[place]
                    if found.setdefault(role, {}).setdefault(stem, row) != row:
                        twice.add(stem)
            before += len(index.starts)
        return found, twice

    def _has_masks(self, index: Index) -> bool:
        return any(role for _, endings, _ in _keys(index) for role, _ in self._roles(endings))


def name_train(splits: dict[str, Any]) -> None:
    """If there is no split train, rename the first other split to train."""
    others = [name for name in splits if name not in ("val", "test", UNLABELED)]
    if "train" not in splits and others:
        splits["train"] = splits.pop(others[0])


def named_endings(contents: DatasetFile, root: Path) -> list[str]:
    """Return the suffixes of image and masks in dataset.yaml; "" for an image of any suffix."""
    patterns = [contents.images or "{stem}.", *contents.mask_patterns]
    if odd := [one for one in patterns if not one.startswith("{stem}.")]:
        message = f'Expected endings such as "{{stem}}.seg.png", but found {odd[0]!r}.'
        raise data_error(root, message, "Correct `images` and `masks` of dataset.yaml.")
    return [one.removeprefix("{stem}.").lower() for one in patterns]


def roles(named: Sequence[str], endings: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return (role, position) of the image and the masks among the files of a sample."""
    lower = [ending.lower() for ending in endings]
    found = [(named.index(one), n) for n, one in enumerate(lower) if one in named]
    if not named[0]:
        found += [(0, n) for n, one in enumerate(lower) if _IMAGE.fullmatch(one)]
    if not named[1:]:
        masks = [(n, match) for n, one in enumerate(lower) if (match := _MASK.fullmatch(one))]
        found += [(1 + int(match[1] or 0), n) for n, match in masks]
        if not masks and "png" in lower and len(found) == 2:
            found = [(int(lower[n] == "png"), n) for _, n in found]
    return tuple(found)


def _keys(index: Index) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Yield each visible key of a shard, with the suffixes and numbers of its files."""
    parts = ((_NAME.fullmatch(name), number) for number, name in enumerate(index.names))
    found = ((*match.groups(), number) for match, number in parts if match)
    for key, files in groupby(found, itemgetter(0)):
        _, endings, numbers = zip(*files, strict=True)
        yield key, endings, numbers


def _split_of(place: str, root: str) -> str:
    """Return the split of a shard."""
    folder, _, name = place.removeprefix(root).strip("/").rpartition("/")
    split = folder or _NUMBER.sub("", name.removesuffix(".tar"))
    return split_named(split) or split
