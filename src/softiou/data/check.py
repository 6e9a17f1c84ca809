"""What is wrong with a data set, all of it at once, and what is in it.

Shapes: R annotators, C classes, H and W in pixels.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softiou.data.base import DatasetDescription
from softiou.data.dataset_yaml import read_dataset_file
from softiou.data.digits import DIGIT_SPLITS, DigitScenes
from softiou.data.folder import size_problem
from softiou.data.layout import (
    IMAGE_SUFFIXES,
    SampleFiles,
    data_folder,
    find_samples,
    find_splits,
    split_folder,
    visible_files,
)
from softiou.data.problems import DataProblemsError, Problem, some_of
from softiou.data.reading import MaskReader, read_image, unreadable

_EVALUATION_SPLITS = ("val", "test")


@dataclass(frozen=True)
class ClassSummary:
    """How often a class occurs in a split.

    Attributes:
        name: The class.
        pixel_share: Its share of the pixels that count, in [0, 1], over all annotators.
        images: Number of images where at least one annotator marked it.
    """

    name: str
    pixel_share: float
    images: int


@dataclass(frozen=True)
class SizeSummary:
    """How many images of a split have a size."""

    height_px: int
    width_px: int
    images: int


@dataclass(frozen=True)
class SplitSummary:
    """What is in the readable samples of a split.

    Attributes:
        images: Number of images that have all their masks.
        annotators: Number of masks of each image.
        ignored_share: Share of the labelled pixels that do not count, in [0, 1].
        classes: In the order of their indices.
        sizes: The most frequent first.
    """

    images: int
    annotators: int
    ignored_share: float
    classes: tuple[ClassSummary, ...]
    sizes: tuple[SizeSummary, ...]


@dataclass(frozen=True)
class CheckReport:
    """All problems of a data set, and a summary of each of its splits."""

    source: str
    problems: tuple[Problem, ...]
    splits: dict[str, SplitSummary]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that stop training."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that may be meant."""
        return tuple(p for p in self.problems if p.severity == "warning")


@dataclass(frozen=True)
class _Contents:
    """What one sample holds: size, pixels of each class (C,), and how many are ignored."""

    size: tuple[int, int]
    pixels: Tensor
    ignored: int


def check_dataset(source: str | Path) -> CheckReport:
    """Look at every file of a data set and collect all that is wrong with it.

    Args:
        source: Folder of the data set, or "digits".

    Returns:
        Errors and warnings in the order of the splits, and what the splits hold.
    """
    if source == "digits":
        return CheckReport("digits", (), {split: _digit_summary(split) for split in DIGIT_SPLITS})
    try:
        root = data_folder(source)
        dataset_file = read_dataset_file(root)
    except DataProblemsError as error:
        return CheckReport(str(source), error.problems, {})
    problems = _split_problems(root)
    summaries = {}
    for split in find_splits(root):
        samples, found = find_samples(root, split)
        contents, unusable = _read_all(samples, dataset_file.mask_reader())
        summaries[split] = _summarise(
            contents,
            description=dataset_file.description,
            annotators=len(samples[0].masks) if samples else 0,
        )
        suspicions = _suspicions(root, split, summaries[split])
        problems += [*found, *unusable, *suspicions]
    return CheckReport(str(source), tuple(problems), summaries)


def _split_problems(root: Path) -> list[Problem]:
    """Look at the splits as a whole: none at all, without masks, or sharing images."""
    splits = find_splits(root)
    problems = []
    if "train" not in splits:
        message = f"Expected a split train/, but found {', '.join(splits) or 'no split at all'}."
        remedy = "Make train/images/ and train/masks/ (or masks_1/ to masks_R/)."
        problems.append(Problem(str(root), message, remedy))
    for images in sorted(root.glob("*/images")):
        if images.parent.name not in (*splits, "train", "unlabeled"):
            message = "Found images without masks."
            remedy = "Add masks/ to train on or evaluate this split; unlabelled images belong "
            remedy += "into unlabeled/images/."
            problems.append(Problem(str(images.parent), message, remedy, "warning"))
    for split in _EVALUATION_SPLITS:
        if {"train", split} <= set(splits):
            problems += _shared_images(root, split)
    return problems + unreadable(visible_files(root / "unlabeled" / "images", IMAGE_SUFFIXES))


def _shared_images(root: Path, split: str) -> list[Problem]:
    """Warn about images that are both trained on and evaluated on."""
    if split_folder(root, split) != split_folder(root, "train"):
        return []
    evaluated, trained = (
        {sample.stem for sample in find_samples(root, name)[0]} for name in (split, "train")
    )
    shared = sorted(evaluated & trained)
    if not shared:
        return []
    message = f"Images that are also in the split train: {len(shared)} ({some_of(shared)})."
    remedy = "List the images to train on in splits/train.txt, without these."
    return [Problem(str(root / "splits" / f"{split}.txt"), message, remedy, "warning")]


def _read_all(
    samples: Iterable[SampleFiles], reader: MaskReader
) -> tuple[list[_Contents], list[Problem]]:
    """Read all samples in threads: what the good ones hold, and what is wrong with the others."""
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda files: _read_one(files, reader), samples))
    contents = [result for result in results if isinstance(result, _Contents)]
    return contents, [p for result in results if isinstance(result, list) for p in result]


def _read_one(files: SampleFiles, reader: MaskReader) -> _Contents | list[Problem]:
    """Read all files of a sample, even when the first one is bad already."""
    problems: list[Problem] = []
    image, masks = None, []
    try:
        image = read_image(files.image)
    except DataProblemsError as error:
        problems += error.problems
    for path in files.masks:
        try:
            masks.append(reader.read(path))
        except DataProblemsError as error:
            problems += error.problems
            continue
        problem = None if image is None else size_problem(path, masks[-1], files.image, image)
        problems += [problem] if problem else []
    return problems or _count(torch.stack(masks), reader.description)


def _count(masks: Tensor, description: DatasetDescription) -> _Contents:
    """Count the pixels of the masks (R, H, W) by class."""
    judged = masks[masks != description.ignore_index]
    pixels = torch.bincount(judged, minlength=description.num_classes)
    return _Contents((masks.shape[1], masks.shape[2]), pixels, masks.numel() - len(judged))


def _summarise(
    contents: list[_Contents], *, description: DatasetDescription, annotators: int
) -> SplitSummary:
    """Add up what the samples of a split hold."""
    empty = torch.zeros(description.num_classes, dtype=torch.int64)
    per_image = torch.stack([empty, *(c.pixels for c in contents)])  # (1 + images, C)
    pixels = per_image.sum(dim=0)
    ignored = sum(c.ignored for c in contents)
    shares = (pixels / pixels.sum().clamp(min=1)).tolist()
    images = (per_image > 0).sum(dim=0).tolist()
    return SplitSummary(
        images=len(contents),
        annotators=annotators,
        ignored_share=ignored / max(int(pixels.sum()) + ignored, 1),
        classes=tuple(map(ClassSummary, description.classes, shares, images)),
        sizes=tuple(
            SizeSummary(*size, number)
            for size, number in Counter(c.size for c in contents).most_common()
        ),
    )


def _suspicions(root: Path, split: str, summary: SplitSummary) -> list[Problem]:
    """Warn about what is legal and yet unlikely to be meant."""
    if not summary.images:
        return []
    empty = [c.name for c in summary.classes if not c.images]
    if empty == [c.name for c in summary.classes[1:]] and len(empty) == 1 and summary.ignored_share:
        message = (
            f"No pixel is '{empty[0]}' and {summary.ignored_share:.1%} of them are ignored, as "
            "when 0/255 masks meet an ignore_index of 255."
        )
        remedy = "If 255 is the second class, write `label_map: {255: 1}` in dataset.yaml."
        return [Problem(str(root / split), message, remedy, "warning")]
    if not empty:
        return []
    message = f"Classes without a pixel in this split: {len(empty)} ({some_of(empty)})."
    remedy = "Their IoU will be undefined; add images, or remove the names from `classes`."
    return [Problem(str(root / split), message, remedy, "warning")]


def _digit_summary(split: str) -> SplitSummary:
    """Count the classes of the embedded scenes."""
    scenes = DigitScenes(split, labels="hard")
    contents = [
        _count(scenes[i]["target"].unsqueeze(0), scenes.description) for i in range(len(scenes))
    ]
    return _summarise(contents, description=scenes.description, annotators=1)
