"""What is wrong with the splits as a whole, and what is legal but unlikely to be meant."""

from collections.abc import Mapping, Sequence

from softiou.checking.duplicates import EVALUATED
from softiou.checking.tallies import SplitSummary
from softiou.data.files import UNLABELED, SampleFiles
from softiou.data.layouts import FolderLayout
from softiou.data.problems import Problem, some_of
from softiou.data.source import DataSource

Samples = Mapping[str, Sequence[SampleFiles]]
Summaries = Mapping[str, SplitSummary]


def split_problems(source: DataSource, samples: Samples) -> list[Problem]:
    """Look for splits that are not there, have no masks, or share images."""
    problems = []
    if "train" not in samples:
        expected = source.layout.split_form.format(split="train")
        message = f"Expected a split train/, but found {', '.join(samples) or 'no split at all'}."
        remedy = source.layout.absent.get("train", f"Its images are expected in {expected}.")
        problems.append(Problem(str(source.root), message, remedy, kind="no_train"))
    if isinstance(source.layout, FolderLayout):
        problems += [
            _without_masks(source, split)
            for split in source.layout.unlabeled
            if split not in (*samples, "train", UNLABELED)
        ]
    return problems + _shared(source, samples)


def _without_masks(source: DataSource, split: str) -> Problem:
    """Warn about a folder of images beside the splits."""
    remedy = "Add masks/ to train on or evaluate this split; unlabelled images belong into "
    remedy += "unlabeled/images/."
    place = str(source.root / split)
    return Problem(place, "Found images without masks.", remedy, "warning", kind="no_masks")


def _shared(source: DataSource, samples: Samples) -> list[Problem]:
    """Warn about images that are both trained on and evaluated on, by lists of stems."""
    images = {split: {files.image for files in several} for split, several in samples.items()}
    problems = []
    for evaluated in (split for split in ("val", "test") if split in images):
        for split in (split for split in images if split not in EVALUATED):
            shared = sorted(path.stem for path in images[evaluated] & images[split])
            problems += [_shared_images(source, split, evaluated, shared)] if shared else []
    return problems


def _shared_images(source: DataSource, split: str, evaluated: str, shared: list[str]) -> Problem:
    """Warn about images that are both trained on and evaluated on."""
    remedy = "List the images to train on in splits/train.txt, without these."
    file, other = source.place(evaluated), split
    if split != "train":
        file, other = source.place(split), evaluated
        remedy = "Take them out; `softiou split` does not choose them when they are not in train."
    message = f"Images that are also in the split {other}: {len(shared)} ({some_of(shared)})."
    return Problem(str(file), message, remedy, "warning", kind="shared_images")


def suspicions(
    source: DataSource, split: str, samples: Samples, summaries: Summaries
) -> list[Problem]:
    """Warn about classes that a split never shows, and annotators that never differ."""
    if not summaries[split].images:
        return []
    if _is_part_of_train(split, samples):
        return _unseen_classes(source, split, summaries)
    return _empty_classes(source, split, summaries[split]) + _copied(
        source, split, summaries[split]
    )


def _empty_classes(source: DataSource, split: str, summary: SplitSummary) -> list[Problem]:
    """Warn about classes without a pixel; of two, the second may have been taken for ignored."""
    empty = _unshown(summary)
    if empty == [c.name for c in summary.classes[1:]] and len(empty) == 1 and summary.ignored_share:
        message = (
            f"No pixel of {split} is '{empty[0]}' and {summary.ignored_share:.1%} of them are "
            "ignored, as when 0/255 masks meet an ignore_index of 255."
        )
        remedy = "If 255 is the second class, write `label_map: {255: 1}` in dataset.yaml."
        return [Problem(str(source.place(split)), message, remedy, "warning", kind="mask_values")]
    if not empty:
        return []
    message = f"Classes without a pixel in {split}: {len(empty)} ({some_of(empty)})."
    remedy = "Their IoU will be undefined; add images, or remove the names from `classes`."
    return [Problem(str(source.place(split)), message, remedy, "warning", kind="empty_class")]


def _copied(source: DataSource, split: str, summary: SplitSummary) -> list[Problem]:
    """Warn about annotators who agree on every pixel."""
    if summary.agreement != 1:
        return []
    message = f"The {summary.annotators} annotators of {split} agree on every pixel."
    remedy = "Copies of one mask teach no more than one: keep it alone, as masks/."
    return [Problem(str(source.place(split)), message, remedy, "warning", kind="equal_annotators")]


def _is_part_of_train(split: str, samples: Samples) -> bool:
    """Say whether a split is a list of images that `train` has, too, to learn from."""
    if split == "train" or split in EVALUATED:
        return False
    return set(samples[split]) <= set(samples.get("train", ()))


def _unseen_classes(source: DataSource, split: str, summaries: Summaries) -> list[Problem]:
    """Warn about classes of train that a part of it does not show."""
    nowhere = _unshown(summaries["train"])
    unseen = [name for name in _unshown(summaries[split]) if name not in nowhere]
    if not unseen:
        return []
    message = f"Classes that train has, but no image of this list: {len(unseen)} "
    message += f"({some_of(unseen)})."
    remedy = f"Who trains on it (--split {split}) never learns them: add images that show them, "
    remedy += "or let `softiou split` choose."
    return [Problem(str(source.place(split)), message, remedy, "warning", kind="empty_class")]


def _unshown(summary: SplitSummary) -> list[str]:
    """Name the classes that no image shows."""
    return [c.name for c in summary.classes if not c.images]
