"""What is wrong with a data set, all of it at once, and what is in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from softiou.data.check_unlabeled import UnlabeledSummary, check_unlabeled
from softiou.data.contents import ContentsReader, SplitSummary, count, summarise
from softiou.data.dataset_yaml import FILE_NAME, DatasetFile, read_dataset_file
from softiou.data.digits import DIGIT_FRACTIONS, DIGIT_SPLITS, DigitScenes
from softiou.data.layout import (
    IMAGE_SUFFIXES,
    UNLABELED,
    SampleFiles,
    data_folder,
    find_samples,
    find_splits,
    images_left_out,
    mask_folders,
    split_folder,
    split_images,
    split_list,
    visible_files,
)
from softiou.data.problems import DataProblemsError, Problem, some_of

_EVALUATION_SPLITS = ("val", "test")


@dataclass(frozen=True)
class ListSummary:
    """A list of images of train/ that may be learnt from with their masks.

    Attributes:
        images: Number of images that it holds.
        left_out: Number of images that it leaves to be learnt from without masks: those of the
            split `train` that it does not hold, but for those that are evaluated on.
    """

    images: int
    left_out: int


@dataclass(frozen=True)
class CheckReport:
    """All problems of a data set, and a summary of each of its splits.

    Attributes:
        source: The data set.
        problems: Errors and warnings.
        splits: What is in the splits that have labels.
        lists: By name, splits/NAME.txt: those that list images of train/ to learn from.
        unlabeled: What is in unlabeled/images/, if there is such a folder.
    """

    source: str
    problems: tuple[Problem, ...]
    splits: dict[str, SplitSummary]
    lists: dict[str, ListSummary] = field(default_factory=dict)
    unlabeled: UnlabeledSummary | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that stop training."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that may be meant."""
        return tuple(p for p in self.problems if p.severity == "warning")


def check_dataset(source: str | Path) -> CheckReport:
    """Look at every file of a data set and collect all that is wrong with it.

    Args:
        source: Folder of the data set, or "digits".

    Returns:
        Errors and warnings in the order of the splits, and what the splits hold.
    """
    if source == "digits":
        return _digits()
    try:
        root = data_folder(source)
        dataset_file = read_dataset_file(root)
    except DataProblemsError as error:
        return CheckReport(str(source), _with_hint(Path(source), error.problems), {})
    found = {split: find_samples(root, split) for split in find_splits(root)}
    samples = {split: complete for split, (complete, _) in found.items()}
    summaries, unusable = _read(samples, dataset_file)
    problems = _split_problems(root, samples)
    for split in samples:
        problems += [*found[split][1], *unusable[split]]
        if summaries[split].images:
            problems += _suspicions(root, split, samples, summaries)
    unlabeled, of_unlabeled = check_unlabeled(root)
    # Splits that are lists of one folder share what is wrong with it.
    problems = list(dict.fromkeys(problems + of_unlabeled))
    lists = _lists(root, samples)
    return CheckReport(str(source), tuple(problems), summaries, lists, unlabeled)


def _with_hint(folder: Path, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Say what a mere folder of images is good for, in the words for a missing dataset.yaml."""
    folder = folder.expanduser()
    images = [
        *visible_files(folder, IMAGE_SUFFIXES),
        *visible_files(folder / "images", IMAGE_SUFFIXES),
    ]
    if (folder / FILE_NAME).exists() or not images or mask_folders(folder):
        return problems
    hint = "Images without masks are used beside a data set: `softiou semi DATA --unlabeled DIR`."
    return tuple(replace(problem, remedy=f"{problem.remedy} {hint}") for problem in problems)


def _read(
    samples: Mapping[str, Sequence[SampleFiles]], dataset_file: DatasetFile
) -> tuple[dict[str, SplitSummary], dict[str, list[Problem]]]:
    """Read the samples of all splits: what they hold, and which are of no use, by split."""
    reader = ContentsReader(dataset_file.mask_reader())
    summaries, unusable = {}, {}
    for split, several in samples.items():
        contents, unusable[split] = reader.read(several)
        summaries[split] = summarise(
            contents,
            description=dataset_file.description,
            annotators=len(several[0].masks) if several else 0,
        )
    return summaries, unusable


def _split_problems(root: Path, samples: Mapping[str, Sequence[SampleFiles]]) -> list[Problem]:
    """Look at the splits as a whole: none at all, without masks, or sharing images."""
    problems = []
    if "train" not in samples:
        message = f"Expected a split train/, but found {', '.join(samples) or 'no split at all'}."
        remedy = "Make train/images/ and train/masks/ (or masks_1/ to masks_R/)."
        problems.append(Problem(str(root), message, remedy))
    for images in sorted(root.glob("*/images")):
        if images.parent.name not in (*samples, "train", UNLABELED):
            message = "Found images without masks."
            remedy = "Add masks/ to train on or evaluate this split; unlabelled images belong "
            remedy += "into unlabeled/images/."
            problems.append(Problem(str(images.parent), message, remedy, "warning"))
    parts = [split for split in samples if split_folder(root, split).name == "train"]
    stems = {split: {files.stem for files in samples[split]} for split in parts}
    for evaluated in (split for split in _EVALUATION_SPLITS if split in stems):
        for split in (split for split in stems if split not in _EVALUATION_SPLITS):
            shared = sorted(stems[evaluated] & stems[split])
            problems += [_shared_images(root, split, evaluated, shared)] if shared else []
    return problems


def _shared_images(root: Path, split: str, evaluated: str, shared: list[str]) -> Problem:
    """Warn about images that are both trained on and evaluated on."""
    remedy = "List the images to train on in splits/train.txt, without these."
    if split == "train":
        file, other = split_list(root, evaluated), split
    else:
        file, other = split_list(root, split), evaluated
        remedy = "Take them out; `softiou split` does not choose them when they are not in train."
    message = f"Images that are also in the split {other}: {len(shared)} ({some_of(shared)})."
    return Problem(str(file), message, remedy, "warning")


def _suspicions(
    root: Path,
    split: str,
    samples: Mapping[str, Sequence[SampleFiles]],
    summaries: Mapping[str, SplitSummary],
) -> list[Problem]:
    """Warn about what is legal and yet unlikely to be meant."""
    if _is_part_of_train(split, samples):
        return _unseen_classes(root, split, summaries)
    summary = summaries[split]
    empty = _empty_classes(summary)
    if empty == [c.name for c in summary.classes[1:]] and len(empty) == 1 and summary.ignored_share:
        message = (
            f"No pixel is '{empty[0]}' and {summary.ignored_share:.1%} of them are ignored, as "
            "when 0/255 masks meet an ignore_index of 255."
        )
        remedy = "If 255 is the second class, write `label_map: {255: 1}` in dataset.yaml."
        return [Problem(_place(root, split), message, remedy, "warning")]
    if not empty:
        return []
    message = f"Classes without a pixel in this split: {len(empty)} ({some_of(empty)})."
    remedy = "Their IoU will be undefined; add images, or remove the names from `classes`."
    return [Problem(_place(root, split), message, remedy, "warning")]


def _is_part_of_train(split: str, samples: Mapping[str, Sequence[SampleFiles]]) -> bool:
    """Say whether a split is a list of images that `train` has, too, to learn from."""
    if split in ("train", *_EVALUATION_SPLITS):
        return False
    return set(samples[split]) <= set(samples.get("train", ()))


def _unseen_classes(root: Path, split: str, summaries: Mapping[str, SplitSummary]) -> list[Problem]:
    """Warn about classes of train that a part of it does not show."""
    nowhere = _empty_classes(summaries["train"])
    unseen = [name for name in _empty_classes(summaries[split]) if name not in nowhere]
    if not unseen:
        return []
    message = f"Classes that train has, but no image of this list: {len(unseen)} "
    message += f"({some_of(unseen)})."
    remedy = f"Who trains on it (--split {split}) never learns them: add images that show them, "
    remedy += "or let `softiou split` choose."
    return [Problem(_place(root, split), message, remedy, "warning")]


def _empty_classes(summary: SplitSummary) -> list[str]:
    """Name the classes that no image shows."""
    return [c.name for c in summary.classes if not c.images]


def _place(root: Path, split: str) -> str:
    """Return the folder of a split, or its list when it has no folder."""
    return str(root / split if (root / split).is_dir() else split_list(root, split))


def _lists(root: Path, splits: Iterable[str]) -> dict[str, ListSummary]:
    """Count what lists of images of train/ hold and what they leave; lists with errors are out."""
    lists = {}
    for split in splits:
        is_list = split_list(root, split).is_file() and split_folder(root, split).name == "train"
        if is_list and split not in _EVALUATION_SPLITS:
            try:
                left_out = images_left_out(root, split, evaluated=_EVALUATION_SPLITS)
                lists[split] = ListSummary(len(split_images(root, split)), len(left_out))
            except DataProblemsError:
                continue  # is among the problems already
    return lists


def _digits() -> CheckReport:
    """Count the classes of the embedded scenes, and the parts of train."""
    summaries = {}
    for split in DIGIT_SPLITS:
        scenes = DigitScenes(split, labels="hard")
        summaries[split] = summarise(
            [count(scene["target"].unsqueeze(0), scenes.description) for scene in scenes],
            description=scenes.description,
            annotators=1,
        )
    sizes = {split: len(DigitScenes(split)) for split in ("train", *DIGIT_FRACTIONS)}
    lists = {
        split: ListSummary(sizes[split], sizes["train"] - sizes[split]) for split in DIGIT_FRACTIONS
    }
    return CheckReport("digits", (), summaries, lists)
