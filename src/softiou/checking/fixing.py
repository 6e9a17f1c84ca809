"""Write a corrected copy of a data set: repaired masks as PNG, links to the images.

Shapes: H and W in pixels.
"""

import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from softiou._files import atomic_folder, write_atomically
from softiou.checking.repair import MaskRepair
from softiou.checking.report import ProblemGroup, ProblemList
from softiou.checking.scanning import Watch
from softiou.data.base import DatasetDescription, default_palette
from softiou.data.dataset_yaml import FILE_NAME
from softiou.data.files import UNLABELED, SampleFiles
from softiou.data.members import Member
from softiou.data.problems import DataProblemsError, data_error
from softiou.data.verifying import bounded_map

_BYTE, _WORD = 2**8, 2**16
_IGNORED_COLOUR = (255, 255, 255)


@dataclass(frozen=True)
class FixReport:
    """The content of a corrected copy.

    Attributes:
        out: The new folder.
        samples: Number of samples in the copy.
        steps: {repair step: number of masks}; a mask may have several steps.
        left_out: Number of samples that are not in the copy.
        reasons: The problems of these samples.
        remaining: Errors of the data set that a copy does not repair, such as duplicates.
    """

    out: str
    samples: int
    steps: dict[str, int]
    left_out: int
    reasons: tuple[ProblemGroup, ...]
    remaining: tuple[ProblemGroup, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether the copy is complete and without errors."""
        return not self.left_out and not self.remaining


def new_folder(out: str | Path, sources: Iterable[Path]) -> Path:
    """Return the folder of a corrected copy; raise unless it is new or empty and outside."""
    folder = Path(out).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = "Expected a new or empty folder for the corrected copy, but found files."
        raise data_error(folder, message, "Choose another folder.")
    if any(folder.is_relative_to(source.resolve()) for source in sources):
        message = "Expected a folder outside the data set, which is never changed."
        raise data_error(folder, message, "Choose another folder.")
    return folder


class FixedCopy:
    """Writes a corrected copy: repaired masks, links to images, lists, dataset.yaml."""

    def __init__(self, repair: MaskRepair, description: DatasetDescription) -> None:
        self._repair = repair
        self._encoder = MaskEncoder(description)

    def write(
        self,
        samples: Mapping[str, Sequence[SampleFiles]],
        out: Path,
        *,
        unlabeled: Path | None,
        without_masks: Mapping[str, Mapping[str, Path]],
        watch: Watch,
        shard_bytes: int | None,
    ) -> FixReport:
        """Write the folder `out` atomically; see `new_folder`.

        Images are linked; they are copied into shards, or if the file system has no links.
        """
        with atomic_folder(out) as folder:
            report = self._write_samples(samples, folder, out, watch)
            if unlabeled is not None and UNLABELED not in samples:
                _link(unlabeled, folder / UNLABELED)
            for split, images in without_masks.items():
                _link_images(images, folder / split / "images")
            about = self._encoder.dataset_file()
            if shard_bytes:
                _into_shards(folder, shard_bytes)
                about = {"layout": "webdataset", **about}
            text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
            (folder / FILE_NAME).write_text(text, encoding="utf-8")
        return report

    def _write_samples(
        self, samples: Mapping[str, Sequence[SampleFiles]], folder: Path, out: Path, watch: Watch
    ) -> FixReport:
        folders, lists = _folders_and_lists(samples)
        steps: Counter[str] = Counter()
        problems, left_out, written = ProblemList(), set[SampleFiles](), 0
        jobs = [(files, folder / split) for split in folders for files in samples[split]]
        results = bounded_map(self._attempt, jobs)
        for (files, _), result in watch(zip(jobs, results, strict=True), len(jobs)):
            if isinstance(result, DataProblemsError):
                problems.add(result.problems)
                left_out.add(files)
            else:
                steps.update(result)
                written += 1
        if not written:
            raise DataProblemsError(*problems.kept[:1])
        if empty := [split for split in folders if not samples[split]]:
            names = ", ".join(empty)
            message = f"Expected samples in all splits, but no image of {names} has a mask."
            raise data_error(out, message, "Nothing was written: first correct the errors above.")
        for split in lists:
            if kept := [files.stem for files in samples[split] if files not in left_out]:
                path = folder / "splits" / f"{split}.txt"
                path.parent.mkdir(exist_ok=True)
                text = "".join(f"{stem}\n" for stem in kept)
                path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return FixReport(str(out), written, dict(steps), len(left_out), problems.groups)

    def _attempt(self, job: tuple[SampleFiles, Path]) -> list[str] | DataProblemsError:
        """Return the repair steps of a sample, or its problems as an error."""
        try:
            return self._write_sample(*job)
        except DataProblemsError as error:
            return error

    def _write_sample(self, files: SampleFiles, folder: Path) -> list[str]:
        """Write the masks of a sample if all can be read, and link its image."""
        masks = self._repair.read(files)
        stem = files.stem.replace("/", "-")  # stems of shards may contain folders
        for number, one in enumerate(masks, start=1):
            name = "masks" if files.annotators == 1 else f"masks_{number}"
            (folder / name).mkdir(parents=True, exist_ok=True)
            self._encoder.write(one.mask, folder / name / f"{stem}.png")
        _link_images({stem: files.image}, folder / "images")
        return [step for one in masks for step in one.steps]


def _folders_and_lists(samples: Mapping[str, Sequence[SampleFiles]]) -> tuple[list[str], list[str]]:
    """Return the splits written as folders, and those written as lists of train."""
    train = set(samples.get("train", ()))
    lists = [split for split in samples if split != "train" and train.issuperset(samples[split])]
    return [split for split in samples if split not in lists], lists


def _link_images(images: Mapping[str, Path], folder: Path) -> None:
    """Link images under their stems in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, path in images.items():
        _link(path, folder / f"{stem}{path.suffix}")


def _link(target: Path, link: Path) -> None:
    """Link a file or folder; copy it if links are not supported or it is in a shard."""
    if isinstance(target, Member):
        return write_atomically(target.read_bytes(), link)
    try:
        link.symlink_to(target.resolve())
    except FileExistsError:  # copying would overwrite the target of the link
        raise
    except OSError:
        copy = shutil.copytree if target.is_dir() else shutil.copyfile
        copy(target, link)


def _into_shards(folder: Path, size: int) -> None:
    """Convert the splits of a folder into shards of KEY.jpg and KEY.mask.png.

    KEY is the stem with _ instead of dots. A new shard starts after `size` bytes.
    """
    for place in sorted(path.parent for path in folder.glob("*/images")):
        keys, numbers, length = dict[str, str](), count(), size
        with ExitStack() as stack:
            for image in sorted((place / "images").iterdir()):
                key = image.stem.replace(".", "_")
                if keys.setdefault(key, image.stem) != image.stem:
                    message = f"Expected names that differ in more than dots and _, but found {key}"
                    raise data_error(image, f"{message} twice.", "Rename one.")
                if length >= size:
                    stack.close()
                    path = folder / f"{place.name}-{next(numbers):06d}.tar"
                    tar = stack.enter_context(tarfile.open(path, "w", dereference=True))
                tar.add(image, f"{key}{image.suffix.lower()}")
                for mask in sorted(place.glob(f"masks*/{escape(image.stem)}.png")):
                    ending = mask.parent.name.replace("masks", "mask")
                    tar.add(mask, f"{key}.{ending}.png")
                length = tar.offset
        place.unlink() if place.is_symlink() else shutil.rmtree(place)
    for path in folder.glob("splits/*.txt"):
        path.write_bytes(path.read_bytes().replace(b".", b"_"))


class MaskEncoder:
    """Writes masks of class indices, 8-bit with a palette for viewing, or 16-bit.

    An `ignore_index` that a file cannot store, such as -1, is written as the largest value.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        last, ignored = description.num_classes - 1, description.ignore_index
        if not 0 <= ignored < _WORD:
            ignored = _BYTE - 1 if last < _BYTE - 1 else _WORD - 1
        self._ignored = ignored
        self._bytewise = max(last, ignored) < _BYTE
        colours = np.zeros((_BYTE, 3), np.uint8)
        if self._bytewise:
            colours[ignored] = _IGNORED_COLOUR
            colours[: last + 1] = description.palette
        self._palette = colours.ravel().tolist()

    def write(self, mask: NDArray[np.int64], path: Path) -> None:
        """Write a mask (H, W) as PNG."""
        numbers = np.where(mask == self._description.ignore_index, self._ignored, mask)
        image = Image.fromarray(numbers.astype(np.uint8 if self._bytewise else np.uint16))
        if self._bytewise:
            image.putpalette(self._palette)
        image.save(path, format="PNG")

    def dataset_file(self) -> dict[str, Any]:
        """Return the content of dataset.yaml for these masks."""
        about = self._description
        content: dict[str, Any] = {
            "classes": list(about.classes),
            "ignore_index": about.ignore_index,
        }
        distinct = len(set(about.palette)) == about.num_classes
        if distinct and about.palette != default_palette(about.classes):
            content["palette"] = [list(colour) for colour in about.palette]
        if self._ignored != about.ignore_index:
            content["label_map"] = {self._ignored: about.ignore_index}
        return content
