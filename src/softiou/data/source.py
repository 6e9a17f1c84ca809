"""The files of a data set by split, for any layout."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from softiou.data.annotations import FORMATS, SIGNS, AnnotationLayout
from softiou.data.base import DatasetDescription
from softiou.data.dataset_yaml import (
    FILE_NAME,
    SHARDED,
    AnnotationFile,
    ClassGroups,
    DatasetFile,
    read_dataset_file,
    read_layout_file,
)
from softiou.data.files import UNLABELED, SampleTable, images_by_stem
from softiou.data.inferring import UNKNOWN, in_words, inferred
from softiou.data.layouts import (
    PUBLISHED_LAYOUTS,
    Files,
    FolderLayout,
    HuggingFace,
    Layout,
    Voc,
    WebDataset,
    published_layout,
    recognised,
)
from softiou.data.matching import is_list, listed_stems, matched
from softiou.data.names import FileTable, Names
from softiou.data.problems import DataProblemsError, Problem, data_error
from softiou.data.reading import MaskReader
from softiou.data.shards import as_path, inside
from softiou.data.source_names import parse_source

_FIRST_SPLITS = ("train", "val", "test")
HELD_OUT = "held_out"  # a fifth of train, if there is no split val


class DataSource:
    """The splits of a data set: those of its layout, and those defined by lists of stems.

    `home`/splits/NAME.txt (one stem per line) restricts the split NAME to the listed images, or
    defines a new split of images of the layout's pool, mostly train. A split may also be the path
    of such a list, FILE.txt. The split "held_out" is a fifth of the images of train, chosen like
    those of `softiou split DATA --val 0.2`. `home`/unlabeled/images/ has the unlabelled images.

    Args:
        layout: Layout of the files.
        home: Folder of splits/ and unlabeled/; None for the folder of the layout.
        note: Note to print when the data set is used; "" for the note of the layout.
    """

    def __init__(self, layout: Layout, *, home: Path | None = None, note: str = "") -> None:
        self.layout = layout
        self.note = note or layout.note
        self.home = layout.root if home is None else home
        self.description: DatasetDescription = layout.description

    @property
    def root(self) -> Path:
        """Return the folder of the files."""
        return self.layout.root

    def mask_reader(self) -> MaskReader:
        """Return a reader of the masks."""
        return self.layout.reader

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits with labels: train, val, test, then the others."""
        lists = {path.stem for path in self.home.glob("splits/[!.]*.txt")}
        labelled = (*self.layout.splits, *self.layout.joined)
        names = {*self.layout.splits} | {name for name in lists if self._pool(name) in labelled}
        return (
            *(name for name in _FIRST_SPLITS if name in names),
            *sorted(names.difference(_FIRST_SPLITS)),
        )

    def has(self, split: str) -> bool:
        """Return whether a split exists, with or without labels."""
        return split == HELD_OUT or self._is_own(split) or self.list_of(split).is_file()

    def list_of(self, split: str) -> Path:
        """Return the path of the list of a split: splits/NAME.txt, or the given file."""
        return Path(split).expanduser() if is_list(split) else self.lists / f"{split}.txt"

    @property
    def lists(self) -> Path:
        """Return the folder of the lists of stems."""
        return self.home / "splits"

    @property
    def unlabeled(self) -> Path:
        """Return the folder of unlabelled images/, which may be missing."""
        return self.home / UNLABELED

    def place(self, split: str) -> Path:
        """Return the image folder or the list of a split, for messages."""
        if self._is_own(split):
            return self._images(split).place
        return self.list_of(split)

    def folder(self, split: str) -> str:
        """Return the name of the image folder of a split; its stems are unique across splits.

        Raises:
            DataError: The split does not exist.
        """
        own = self.own_split(split)
        return self.layout.folders.get(own, own)

    def own_split(self, split: str) -> str:
        """Return the split of the layout that has the files of a split or of its list.

        Raises:
            DataError: Neither the split nor a list of this name exists.
        """
        if split == HELD_OUT:
            return self.own_split(self.layout.pool)
        if self.list_of(split).is_file():
            pool = self._pool(split)
            if pool != split and self.has(pool):
                return self.own_split(pool)
        if self._is_own(split):
            return split
        raise DataProblemsError(self._no_split(split))

    def samples(self, split: str) -> tuple[SampleTable, tuple[Problem, ...]]:
        """Match images and masks of a split; return the complete samples and all problems.

        Raises:
            DataError: The split does not exist.
        """
        if split == HELD_OUT:
            samples, found = self.samples(self.layout.pool)
            return samples.at(samples.stems.rows(self.held_out())), found
        own = self.own_split(split)
        images = self._images(own)
        problems: list[Problem] = []
        annotators: tuple[Files, ...] = ()
        try:
            annotators = self._masks(own)
        except DataProblemsError as error:
            problems += error.problems
        for files in (images, *annotators):
            problems += files.problems
        tables = [FileTable.of(files.by_stem) for files in (images, *annotators)]
        stems = tables[0].stems
        if any(table.stems != stems for table in tables):
            stems = Names(sorted(set[str]().union(*tables)))
        stems, listed = listed_stems(self.list_of(split), images, stems, root=self.root)
        whole, masks, unmatched = matched(stems, images, annotators, self.layout.pairing)
        drawn = self.layout.drawings.get(own, {})
        samples = SampleTable(whole.stems, whole.paths, masks, drawn)
        return samples, tuple(dict.fromkeys((*problems, *listed, *unmatched)))

    def images(self, split: str) -> FileTable:
        """Return the images of a split by stem, sorted, with or without masks.

        Raises:
            DataError: The split does not exist, is empty, or has duplicate stems.
        """
        if split == HELD_OUT:
            return self.images(self.layout.pool).chosen(self.held_out())
        images = self._images(self.own_split(split))
        table = FileTable.of(images.by_stem)
        stems, listed = listed_stems(self.list_of(split), images, table.stems, root=self.root)
        if problems := (*images.problems, *listed):
            raise DataProblemsError(*problems)
        return table.chosen(stems)

    def held_out(self) -> tuple[str, ...]:
        """Return the stems of the split "held_out", which depends only on the data set.

        Raises:
            DataError: The images and masks of train have errors.
        """
        from softiou.data.dividing import hold_out  # which opens data sets itself

        return hold_out(self)

    def images_without_masks(self, split: str, *, evaluated: Iterable[str] = ()) -> FileTable:
        """Return the images for training without masks, by FOLDER/STEM, sorted.

        These are the images that are not in the list of `split`, and those of unlabeled/images/.

        Raises:
            DataError: The split does not exist, or its folder has duplicate stems.
        """
        left_out = self.images_left_out(split, evaluated=evaluated)
        found = left_out.within(self.folder(split))
        if self._is_own(UNLABELED):
            more = self.images(UNLABELED).within(UNLABELED)
            both = (pair for one in (found, more) for pair in zip(one, one.paths, strict=True))
            return FileTable.of(dict(both)) if found else more
        return found

    def images_left_out(self, split: str, *, evaluated: Iterable[str] = ()) -> FileTable:
        """Return the images that are not in the list of a split, nor in an evaluated split.

        They are images, by stem, of the split that the list chooses from. If that split has a list,
        such as splits/train.txt, images that are not in it are not used.
        """
        used = {*self.images(split).paths.real(), *self.images_of(evaluated)}
        images = self.images(self._pool(split))
        return images.at(np.flatnonzero([path not in used for path in images.paths.real()]))

    def images_of(self, splits: Iterable[str]) -> set[str]:
        """Return the real paths of the images of several splits; skip missing splits.

        Raises:
            DataError: A split is empty or has duplicate stems.
        """
        return {
            path
            for split in splits
            if is_list(split) or self.has(split)
            for path in self.images(split).paths.real()
        }

    def _is_own(self, split: str) -> bool:
        """Return whether a split has its own files, instead of a list."""
        unlabeled = split == UNLABELED and (self.unlabeled / "images").is_dir()
        return split in self.layout.own or unlabeled

    def _pool(self, split: str) -> str:
        """Return the split that the list of a split chooses from."""
        return self.layout.wider.get(split, split if self._is_own(split) else self.layout.pool)

    def _images(self, own: str) -> Files:
        """Return the images of a split of the layout; report an empty one."""
        if own not in self.layout.own:
            folder = self.unlabeled / "images"
            images, problems = images_by_stem(folder)
            return Files(images, folder, tuple(problems))
        found = self.layout.images(own)
        if found.by_stem or found.problems:
            return found
        message = f"Expected images of the split {own}, but found none."
        remedy = f"`softiou fetch {self.layout.name}` lists the required files."
        return replace(found, problems=(Problem(str(found.place), message, remedy),))

    def _masks(self, own: str) -> tuple[Files, ...]:
        """Return the masks of each annotator of a split."""
        if own in self.layout.own:
            return self.layout.masks(own)
        message = "Expected masks, but these images are unlabelled."
        raise data_error(self.unlabeled, message, "Choose another split.")

    def _no_split(self, split: str) -> Problem:
        """Report a missing split, with the existing ones."""
        if is_list(split):
            message = f"Expected a list of stems of {self.layout.pool}, but found no file."
            return Problem(split, message, "`softiou split` writes such lists.")
        expected = self.layout.split_form.format(split=split)
        names = [*self.splits(), *self.layout.joined, *self.layout.unlabeled]
        names += [UNLABELED] if self._is_own(UNLABELED) else []
        remedy = "Create it."
        if split != self.layout.pool:  # the pool itself cannot be a list
            expected += f" or splits/{split}.txt"
            remedy = f"Create it, or list stems of {self.layout.pool} in the file, one per line."
        if split in ("val", "test"):
            remedy = f"Create it; or `softiou split DATA --{split} 0.2` moves images from "
            remedy += f"{self.layout.pool} to it."
        if split == "test" and "val" in names:
            remedy += " `--split val` evaluates on the images that chose the checkpoint."
        found = f"only {', '.join(dict.fromkeys(names))}" if names else "no split at all"
        message = f"Expected the split '{split}' as {expected}, but found {found}."
        if fraction := re.fullmatch(r"(\d+)[_/](\d+)", split):
            part, whole = fraction.groups()
            remedy = f"`softiou split DATA --fractions {part}/{whole}` writes it as {part}_{whole}."
        remedy = self.layout.absent.get(split, remedy)
        return Problem(str(self.home), message, remedy)


def open_source(source: str | Path | DataSource) -> DataSource:
    """Open the files of a data set.

    Args:
        source: An opened data source, LAYOUT:/path for a published data set, or a folder with
            dataset.yaml, which may also name a layout. Without dataset.yaml, the classes are
            inferred from the masks, see `softiou.data.inferring`. The embedded digits have no
            files.

    Raises:
        DataError: The folder or layout does not exist, or dataset.yaml is missing or invalid.
    """
    if isinstance(source, DataSource):
        return source
    name: str | None
    name, place = parse_source(source)
    if name:
        return _named(name, as_path(place))
    root = data_folder(place)
    described_here = (root / FILE_NAME).exists()
    name = recognised(root)
    if name == "voc" and (root / "labelmap.txt").is_file() and not described_here:
        return DataSource(published_layout("voc", root))
    if not (name or described_here) and (inferring := inferred(FolderLayout(root, UNKNOWN))):
        return DataSource(FolderLayout(root, inferring), note=in_words(inferring))
    formats = (name for sign, name in SIGNS.items() if next(root.glob(sign), None))
    if not described_here and (name := name or next(formats, None)):
        message = f"Expected {FILE_NAME}, but found folders of the layout {name}."
        remedy = f"Open the data set as {name}:{root}, or write `layout: {name}` into the file."
        raise data_error(root, message, remedy)
    found = read_layout_file(root, FORMATS)
    if found is None:
        contents = read_dataset_file(root)
        return DataSource(_regrouped(FolderLayout(root, contents), contents, root))
    about, own = found
    folder = about.folder(root)
    if about.layout in SHARDED:
        return _in_shards(about.layout, folder, own, home=root)
    if isinstance(about, AnnotationFile):
        return DataSource(AnnotationLayout(about.layout, folder, about), home=root)
    layout = Voc(folder, own) if own else published_layout(about.layout, folder)
    return DataSource(_regrouped(layout, own or about, root), home=root)


def _named(name: str, root: Path) -> DataSource:
    """Open a data set with the layout of a name."""
    if name in SHARDED:
        return _in_shards(name, root)
    if name in FORMATS:
        return DataSource(AnnotationLayout(name, root, AnnotationFile(layout=name)))
    return DataSource(published_layout(name, root, others=(*FORMATS, *SHARDED)))


def _in_shards(
    name: str, root: Path, contents: DatasetFile | None = None, home: Path | None = None
) -> DataSource:
    """Open shards; the classes come from dataset.yaml or the masks."""
    home = root.parent if home is None and root.is_file() else home or root
    if contents is None and inside(home, FILE_NAME).is_file():
        found = read_layout_file(home, FORMATS)
        contents = found[1] if found else read_dataset_file(home)
    if name == "hf" and not root.exists() and root.is_relative_to(home):
        root = root.relative_to(home)  # dataset.yaml names a data set of the hub
    layout = (HuggingFace if name == "hf" else WebDataset)(root, contents or UNKNOWN)
    if contents:
        return DataSource(_regrouped(layout, contents, home), home=home)
    contents = inferred(layout)
    if contents is None:
        raise data_error(root, "Expected masks beside the images, but found none.", layout.pairing)
    layout.reader = contents.mask_reader()
    return DataSource(layout, home=home, note=in_words(contents))


def _regrouped(layout: Layout, groups: ClassGroups, root: Path) -> Layout:
    """Apply merge, drop, ignore and parents of dataset.yaml."""
    if groups.mentioned or groups.parents:
        try:
            becomes = groups.grouped(layout.description.classes)
            layout.reader = layout.reader.regrouped(becomes, groups.parents)
        except ValueError as error:
            raise data_error(root / FILE_NAME, f"{error}.", "Correct the names.") from error
    return layout


def data_folder(source: str | Path) -> Path:
    """Return the folder of a data set."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        message = "Expected a folder with dataset.yaml, train/images/ and train/masks/, or the "
        message += "name 'digits', but the folder does not exist."
        remedy = "Check the path. Published data sets are opened in place as "
        remedy += (
            f"NAME:/path, with {', '.join((*PUBLISHED_LAYOUTS, *FORMATS, *SHARDED))} for NAME."
        )
        raise data_error(source, message, remedy)
    return folder
