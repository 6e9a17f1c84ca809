"""Check a whole data set: report all problems and class statistics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from softiou.checking.advice import Advice, advise, class_shifts
from softiou.checking.fixing import FixedCopy, FixReport, new_folder
from softiou.checking.masks import infer_label_map
from softiou.checking.repair import MaskRepair
from softiou.checking.report import CheckReport, ListSummary, ProblemList
from softiou.checking.scanning import Scan, Watch, unwatched
from softiou.checking.splits import (
    EVALUATED,
    mask_hints,
    name_notes,
    split_problems,
    split_warnings,
)
from softiou.checking.summaries import SplitStatistics, SplitSummary, sample_statistics
from softiou.checking.unlabeled import check_unlabeled, check_unlabeled_folder
from softiou.data.bands import Bands
from softiou.data.crops import spread
from softiou.data.dataset_yaml import FILE_NAME
from softiou.data.digits import DIGIT_FRACTIONS, DIGIT_SPLITS, DigitScenes
from softiou.data.files import IMAGE_SUFFIXES, UNLABELED, SampleFiles, mask_folders, visible_files
from softiou.data.layouts import FolderLayout
from softiou.data.problems import DataProblemsError, Problem, data_error
from softiou.data.source import DataSource, open_source
from softiou.data.volumes import SLICE

# Errors of single samples, which a corrected copy repairs or omits.
_OF_ONE_SAMPLE = frozenset(
    {
        "exif_rotation",
        "image_16_bit",
        "image_mode",
        "image_size",
        "mask_colours",
        "mask_mode",
        "mask_palette",
        "mask_values",
        "size_mismatch",
        "unreadable",
    }
)


def check_dataset(
    source: str | Path,
    *,
    unlabeled: str | Path | None = None,
    bands: Bands | None = None,
    watch: Watch = unwatched,
) -> CheckReport:
    """Read every file of a data set and collect all problems.

    Args:
        source: Folder of the data set, LAYOUT:/path, or "digits".
        unlabeled: Folder of images without masks, instead of unlabeled/images/.
        bands: Bands of the images, as in the setting `data.bands`; None for RGB.
        watch: Called with an iterable and its length; yields the same items, and may show the
            progress.

    Returns:
        Errors, warnings and notes, and a summary of each split.
    """
    if source == "digits":
        return _digits()
    problems = ProblemList()
    try:
        opened = open_source(source)
    except DataProblemsError as error:
        problems.add(_unopened(Path(source), error.problems))
        return CheckReport(str(source), tuple(problems.kept), {}, groups=problems.groups)
    if opened.note:
        message = f"{opened.note[0].upper()}{opened.note[1:]}."
        problems.add(
            [Problem(str(opened.root), message, "No action is needed.", "note", "dataset_file")]
        )
    reader = opened.mask_reader()
    samples = _samples(opened, problems)
    scan = Scan(samples, reader, bands)
    scan.run(problems, watch=watch)
    summaries = {split: statistics.summary() for split, statistics in scan.statistics.items()}
    for split in samples:
        problems.add(split_warnings(opened, split, samples, summaries))
    problems.add(class_shifts(opened.place, summaries))
    if unlabeled is None:
        without = check_unlabeled(opened, problems, bands, watch=watch)
    else:
        without = check_unlabeled_folder(opened, Path(unlabeled), problems, bands, watch=watch)
    return CheckReport(
        str(source),
        tuple(problems.kept),
        summaries,
        _lists(opened, samples),
        without,
        groups=problems.groups,
        # only if dataset.yaml has none
        value_map=None
        if reader.label_map
        else infer_label_map(scan.masks_with, reader.description),
        advice=_advice(scan, summaries),
    )


def fix_dataset(
    source: str | Path,
    out: str | Path,
    *,
    report: CheckReport,
    bands: Bands | None = None,
    shard_bytes: int | None = None,
    watch: Watch = unwatched,
) -> FixReport:
    """Write a corrected copy of a data set into a new folder; the original is never changed.

    The copy is a folder with dataset.yaml, a PNG of class indices for each mask, and links to the
    images. Samples without an unambiguous repair are omitted.

    Args:
        source: Folder of the data set, or LAYOUT:/path.
        out: Folder of the copy; new or empty, and outside the data set.
        report: Result of `check_dataset`.
        bands: As for `check_dataset`.
        shard_bytes: Size of shards to write, with copies of the images; None for a folder.
        watch: As for `check_dataset`.

    Raises:
        DataError: The source cannot be opened, `out` is unsuitable, or no sample can be read.
    """
    folder = fix_folder(source, out)
    opened = open_source(source)
    repair = MaskRepair(opened.mask_reader(), report.value_map, bands)
    copy = FixedCopy(repair, opened.description)
    samples, not_linked = _samples(opened, ProblemList()), ProblemList()
    if any(files.image.suffix == SLICE for several in samples.values() for files in several):
        raise data_error(folder, "Volumes cannot be copied as images.", "Correct the files.")
    written = copy.write(
        samples,
        folder,
        unlabeled=opened.unlabeled if opened.unlabeled.is_dir() else None,
        without_masks=_without_masks(opened, samples, not_linked),
        watch=watch,
        shard_bytes=shard_bytes,
    )
    errors = (group for group in report.groups if group.severity == "error")
    remaining = (group for group in errors if group.kind not in _OF_ONE_SAMPLE)
    return replace(written, remaining=(*remaining, *not_linked.groups))


def fix_folder(source: str | Path, out: str | Path) -> Path:
    """Return the folder of a corrected copy; raise if a copy cannot be written.

    Raises:
        DataError: The source has no files or cannot be opened, or `out` is not suitable.
    """
    if source == "digits":
        message = "Expected a data set of files, but the digits are generated in memory."
        raise data_error("digits", message, "They need no repair.")
    opened = open_source(source)
    return new_folder(out, (opened.root, opened.home))


def _unopened(folder: Path, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Mark the problems of dataset.yaml, and add a hint for folders with only images."""
    folder = folder.expanduser()
    about_file = str(folder / FILE_NAME)
    problems = tuple(
        replace(problem, kind="dataset_file") if problem.file == about_file else problem
        for problem in problems
    )
    images = [
        *visible_files(folder, IMAGE_SUFFIXES),
        *visible_files(folder / "images", IMAGE_SUFFIXES),
    ]
    if (folder / FILE_NAME).exists() or not images or mask_folders(folder):
        return problems
    hint = "Images without masks can be added to a data set: `softiou semi DATA --unlabeled DIR`."
    return tuple(replace(problem, remedy=f"{problem.remedy} {hint}") for problem in problems)


def _samples(source: DataSource, problems: ProblemList) -> dict[str, Sequence[SampleFiles]]:
    """Return the complete samples of each split, and add the problems of the others."""
    found = {split: source.samples(split) for split in source.splits()}
    samples: dict[str, Sequence[SampleFiles]] = {s: complete for s, (complete, _) in found.items()}
    unique = dict.fromkeys(split_problems(source, samples))
    for split, (_, unmatched) in found.items():
        unique |= dict.fromkeys(unmatched)  # lists of the same folder share its problems
        if isinstance(source.layout, FolderLayout):
            if unmatched:
                unique |= dict.fromkeys(mask_hints(source.layout, source.own_split(split)))
            if not source.layout.named:
                unique |= dict.fromkeys(name_notes(samples[split]))
    problems.add(unique)
    return samples


def _without_masks(
    source: DataSource, labelled: Iterable[str], problems: ProblemList
) -> dict[str, Mapping[str, Path]]:
    """Return the images of each split without masks, except `unlabeled`."""
    found: dict[str, Mapping[str, Path]] = {}
    for split in source.layout.unlabeled:
        if split not in labelled and not (split == UNLABELED and source.unlabeled.is_dir()):
            try:
                found[split] = source.images(split)
            except DataProblemsError as error:
                problems.add(error.problems)
    return found


def _advice(scan: Scan, summaries: Mapping[str, SplitSummary]) -> Advice | None:
    """Return advice from train, or None if it has no valid pixel."""
    train = summaries.get("train")
    if train is None or not scan.train_sizes or not any(c.images for c in train.classes):
        return None
    return advise(train, scan.train_sizes)


def _lists(source: DataSource, splits: Iterable[str]) -> dict[str, ListSummary]:
    """Count the images of train/ inside and outside each list; skip lists with errors."""
    lists = {}
    for split in splits:
        if source.list_of(split).is_file() and split not in EVALUATED:
            try:
                if source.own_split(split) != source.own_split(source.layout.pool):
                    continue
                left_out = source.images_left_out(split, evaluated=sorted(EVALUATED))
                lists[split] = ListSummary(len(source.images(split)), len(left_out))
            except DataProblemsError:
                continue  # already reported
    return lists


def _digits() -> CheckReport:
    """Return the report of the embedded digits."""
    summaries, advice = {}, None
    for split in DIGIT_SPLITS:
        scenes = DigitScenes(split, labels="hard")
        statistics = SplitStatistics(scenes.description, annotators=1)
        samples = [sample_statistics(s["target"].unsqueeze(0), scenes.description) for s in scenes]
        for sample in samples:
            statistics.add(sample)
        summaries[split] = statistics.summary()
        if split == "train":
            advice = advise(summaries[split], [samples[i].size for i in spread(len(samples))])
    sizes = {split: len(DigitScenes(split)) for split in ("train", *DIGIT_FRACTIONS)}
    lists = {
        split: ListSummary(sizes[split], sizes["train"] - sizes[split]) for split in DIGIT_FRACTIONS
    }
    return CheckReport("digits", (), summaries, lists, advice=advice)
