"""Problems of the splits as a whole: missing, overlapping or suspicious, and unmatched stems."""

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
    """Look for splits that are missing, have no masks, or share images."""
    if "train" not in samples:
        expected = source.layout.split_form.format(split="train")
        message = f"Expected a split train/, but found {', '.join(samples) or 'no split at all'}."
        remedy = source.layout.absent.get("train", f"Its images are expected in {expected}.")
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
    """Warn about images that are both trained on and evaluated on."""
    remedy = "Training leaves them out. `softiou split DATA --val 0.2` writes disjoint lists."
    file, other = source.place(evaluated), split
    if split != "train":
        file, other = source.place(split), evaluated
        remedy = "Remove them; `softiou split` does not choose them when they are not in train."
    message = f"Images that are also in the split {other}: {len(shared)} ({some_of(shared)})."
    return warning(file, "shared_images", message, remedy)


def split_warnings(
    source: DataSource, split: str, samples: Samples, summaries: Summaries
) -> Iterator[Problem]:
    """Warn about classes that a split never shows, and annotators that never differ."""
    summary, place = summaries[split], source.place(split)
    if not summary.images:
        return
    if _is_part_of_train(split, samples):
        yield from _unseen_classes(place, split, summary, summaries["train"])
        return
    if fewer := [one.stem for one in samples[split] if len(one.masks) < one.annotators]:
        message = f"Images that not all of the {summary.annotators} annotators have a mask of: "
        message += f"{len(fewer)} ({some_of(fewer)}). Those without ignore all of their pixels."
        yield Problem(str(place), message, "Nothing to do.", "note", kind="left_out")
    nowhere = _unseen(summaries)
    yield from _empty_classes(place, split, summary, nowhere)
    if nowhere and split == "train":  # one cause, said once
        message = f"Classes without a pixel in any split: {len(nowhere)} ({some_of(nowhere)})."
        remedy = "They cannot be learnt: add images, or remove the names from `classes`."
        yield warning(source.root, "unseen_class", message, remedy)
    if summary.agreement == 1:
        message = f"The {summary.annotators} annotators of {split} agree on every pixel."
        remedy = "Copies of one mask add nothing: keep one of them, as masks/."
        yield warning(place, "equal_annotators", message, remedy)


def _unseen(summaries: Summaries) -> list[str]:
    """Return the classes that no split shows, where there are several splits with images."""
    missing = [_missing_classes(summary) for summary in summaries.values() if summary.images]
    if len(missing) < 2:
        return []
    return [name for name in missing[0] if all(name in other for other in missing[1:])]


def _empty_classes(
    place: Path, split: str, summary: SplitSummary, nowhere: Sequence[str]
) -> Iterator[Problem]:
    """Warn about classes without a pixel; of two, the second may have been taken for ignored."""
    empty = [name for name in _missing_classes(summary) if name not in nowhere]
    if empty == [c.name for c in summary.classes[1:]] and len(empty) == 1 and summary.ignored_share:
        message = (
            f"No pixel of {split} is '{empty[0]}' and {summary.ignored_share:.1%} of them are "
            "ignored, as when 0/255 masks meet an ignore_index of 255."
        )
        remedy = "If 255 is the second class, write `label_map: {255: 1}` in dataset.yaml."
        yield warning(place, "mask_values", message, remedy)
    elif empty:
        message = f"Classes without a pixel in {split}: {len(empty)} ({some_of(empty)})."
        remedy = "Their IoU will be undefined; add images, or remove the names from `classes`."
        yield warning(place, "empty_class", message, remedy)


def _is_part_of_train(split: str, samples: Samples) -> bool:
    """Return whether a split is a list of images of `train` to train on."""
    if split == "train" or split in EVALUATED:
        return False
    return set(samples[split]) <= set(samples.get("train", ()))


def _unseen_classes(
    place: Path, split: str, summary: SplitSummary, train: SplitSummary
) -> Iterator[Problem]:
    """Warn about classes of train that a part of it does not show."""
    nowhere = _missing_classes(train)
    if unseen := [name for name in _missing_classes(summary) if name not in nowhere]:
        message = f"Classes that train has, but no image of this list: {len(unseen)} "
        message += f"({some_of(unseen)})."
        remedy = f"A model trained on it (--split {split}) never learns them: add images that show "
        remedy += "them, or let `softiou split` choose."
        yield warning(place, "empty_class", message, remedy)


def _missing_classes(summary: SplitSummary) -> list[str]:
    """Return the names of the classes that no image shows."""
    return [c.name for c in summary.classes if not c.images]


def mask_hints(layout: FolderLayout, split: str) -> Iterator[Problem]:
    """Report masks of another format in the folders of a split."""
    for place in layout.mask_places(split):
        if others := visible_files(place, IMAGE_SUFFIXES - MASK_SUFFIXES):
            message = f"Expected masks as PNG, but found {len(others)} others, such as "
            message += f"{others[0].name}."
            remedy = "Save the class indices as 8-bit PNG, from the original annotation: JPEG "
            remedy += "changes the numbers near every border."
            yield Problem(str(place), message, remedy, kind="mask_format")


def name_notes(samples: Sequence[SampleFiles]) -> Iterator[Problem]:
    """Note masks that are named otherwise than their images, once for each folder."""
    noted = set()
    for files in samples:
        for mask in files.paths[1:]:
            if mask.stem != files.stem and mask.parent not in noted:
                noted.add(mask.parent)
                message = f"Masks are named otherwise than images: {mask.name} is read as that of "
                message += f"{files.image.name}."
                remedy = "Write a pattern into dataset.yaml if this is wrong: `masks: FORM`."
                yield Problem(str(mask.parent), message, remedy, "note", "mask_names")
