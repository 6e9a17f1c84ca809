"""Check splits as a whole: missing or overlapping splits, missing classes, unmatched names."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from softiou.checking.summaries import SplitSummary
from softiou.data.files import IMAGE_SUFFIXES, MASK_SUFFIXES, UNLABELED, SampleFiles, visible_files
from softiou.data.layouts import FolderLayout
from softiou.data.problems import Problem, some_of, warning
from softiou.data.source import DataSource

EVALUATED = frozenset({"val", "test"})

Samples = Mapping[str, Sequence[SampleFiles]]
Summaries = Mapping[str, SplitSummary]


def split_problems(source: DataSource, samples: Samples) -> Iterator[Problem]:
    """Report splits that are missing, have no masks, or share images."""
    if "train" not in samples:
        expected = source.layout.split_form.format(split="train")
        message = f"Expected a split train/, but found {', '.join(samples) or 'no split at all'}."
        remedy = source.layout.absent.get("train", f"Put its images into {expected}.")
        yield Problem(str(source.root), message, remedy, kind="no_train")
    if isinstance(source.layout, FolderLayout):
        remedy = "Add masks/ to train on or evaluate this split; move unlabelled images to "
        remedy += "unlabeled/images/."
        for split in source.layout.unlabeled:
            if split not in (*samples, "train", UNLABELED):
                place = source.root / split
                yield warning(place, "no_masks", "Found images without masks.", remedy)
    images = {split: {files.image for files in several} for split, several in samples.items()}
    for evaluated in (split for split in ("val", "test") if split in images):
        for split in (split for split in images if split not in EVALUATED):
            if shared := sorted(path.stem for path in images[evaluated] & images[split]):
                yield _shared_images(source, split, evaluated, shared)


def _shared_images(source: DataSource, split: str, evaluated: str, shared: list[str]) -> Problem:
    """Warn about images in both a training and an evaluated split."""
    remedy = "Training skips them. `softiou split DATA --val 0.2` writes disjoint lists."
    file, other = source.place(evaluated), split
    if split != "train":
        file, other = source.place(split), evaluated
        remedy = "Remove them from the list; `softiou split` writes disjoint lists."
    message = f"Images that are also in the split {other}: {len(shared)} ({some_of(shared)})."
    return warning(file, "shared_images", message, remedy)


def split_warnings(
    source: DataSource, split: str, samples: Samples, summaries: Summaries
) -> Iterator[Problem]:
    """Warn about classes without a pixel, and about identical annotators."""
    summary, place = summaries[split], source.place(split)
    if not summary.images:
        return
    if _is_part_of_train(split, samples):
        yield from _unseen_classes(place, split, summary, summaries["train"])
        return
    if fewer := [one.stem for one in samples[split] if len(one.masks) < one.annotators]:
        message = f"Images without a mask of all {summary.annotators} annotators: "
        message += f"{len(fewer)} ({some_of(fewer)}). A missing mask counts as ignored pixels."
        yield Problem(str(place), message, "No action is needed.", "note", kind="left_out")
    nowhere = _unseen(summaries)
    yield from _empty_classes(place, split, summary, nowhere)
    if nowhere and split == "train":  # report the common cause once
        message = f"Classes without a pixel in any split: {len(nowhere)} ({some_of(nowhere)})."
        remedy = "They cannot be learnt: add images, or remove the names from `classes`."
        yield warning(source.root, "unseen_class", message, remedy)
    if summary.agreement == 1:
        message = f"The {summary.annotators} annotators of {split} agree on every pixel."
        remedy = "Copies of a mask add no information: keep one as masks/."
        yield warning(place, "equal_annotators", message, remedy)


def _unseen(summaries: Summaries) -> list[str]:
    """Return the classes that occur in none of several splits."""
    missing = [_missing_classes(summary) for summary in summaries.values() if summary.images]
    if len(missing) < 2:
        return []
    return [name for name in missing[0] if all(name in other for other in missing[1:])]


def _empty_classes(
    place: Path, split: str, summary: SplitSummary, nowhere: Sequence[str]
) -> Iterator[Problem]:
    """Warn about classes without a pixel; a second class of 255 may be read as ignored."""
    empty = [name for name in _missing_classes(summary) if name not in nowhere]
    if empty == [c.name for c in summary.classes[1:]] and len(empty) == 1 and summary.ignored_share:
        message = (
            f"No pixel of {split} is '{empty[0]}' and {summary.ignored_share:.1%} of them are "
            "ignored, which happens with 0/255 masks and ignore_index 255."
        )
        remedy = "If 255 is the second class, write `label_map: {255: 1}` in dataset.yaml."
        yield warning(place, "mask_values", message, remedy)
    elif empty:
        message = f"Classes without a pixel in {split}: {len(empty)} ({some_of(empty)})."
        remedy = "Their IoU is undefined: add images, or remove the names from `classes`."
        yield warning(place, "empty_class", message, remedy)


def _is_part_of_train(split: str, samples: Samples) -> bool:
    """Return whether a split is a list of images of `train`."""
    if split == "train" or split in EVALUATED:
        return False
    return set(samples[split]) <= set(samples.get("train", ()))


def _unseen_classes(
    place: Path, split: str, summary: SplitSummary, train: SplitSummary
) -> Iterator[Problem]:
    """Warn about classes of train that do not occur in a list of its images."""
    nowhere = _missing_classes(train)
    if unseen := [name for name in _missing_classes(summary) if name not in nowhere]:
        message = f"Classes of train without a pixel in this list: {len(unseen)} "
        message += f"({some_of(unseen)})."
        remedy = f"A model trained on it (--split {split}) cannot learn them: add images of these "
        remedy += "classes, or use `softiou split`."
        yield warning(place, "empty_class", message, remedy)


def _missing_classes(summary: SplitSummary) -> list[str]:
    """Return the names of the classes without a pixel."""
    return [c.name for c in summary.classes if not c.images]


def mask_hints(layout: FolderLayout, split: str) -> Iterator[Problem]:
    """Report masks in unsupported formats."""
    for place in layout.mask_places(split):
        if others := visible_files(place, IMAGE_SUFFIXES - MASK_SUFFIXES):
            message = f"Expected PNG masks, but found {len(others)} others, such as "
            message += f"{others[0].name}."
            remedy = "Save the class indices as 8-bit PNG, from the original annotation: JPEG "
            remedy += "changes values near every border."
            yield Problem(str(place), message, remedy, kind="mask_format")


def name_notes(samples: Sequence[SampleFiles]) -> Iterator[Problem]:
    """Report masks named differently from their images, once for each folder."""
    noted = set()
    for files in samples:
        for mask in files.paths[1:]:
            if mask.stem != files.stem and mask.parent not in noted:
                noted.add(mask.parent)
                message = f"Masks and images have different names: {mask.name} is used for "
                message += f"{files.image.name}."
                remedy = "If this is wrong, define a pattern in dataset.yaml: `masks: FORM`."
                yield Problem(str(mask.parent), message, remedy, "note", "mask_names")
