"""Files by stem, as all layouts use them."""

import codecs
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from softiou.data.drawings import Drawing
from softiou.data.names import FileTable, Names, Paths, Rows, usual_files
from softiou.data.problems import DataProblemsError, Problem, data_error, some_of
from softiou.data.volumes import NIFTI, case_of, slices_of, volumes_in

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # others run programs
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})  # they keep numbers
ANNOTATION_SUFFIXES = frozenset({".json", ".txt", ".xml"})
UNLABELED = "unlabeled"  # folder of images without labels


StemOf: TypeAlias = Callable[[str], str | None]  # of a name; None of files of another kind


class SampleFiles(NamedTuple):
    """The files of one sample: an image and one mask per annotator.

    An annotator of a data set with several may have left an image out: then there are fewer masks
    than `annotators`, at least one.
    """

    stem: str
    image: Path
    masks: tuple[Path | Drawing, ...]
    annotators: int = 1

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all of the files."""
        return (self.image, *(m.file if isinstance(m, Drawing) else m for m in self.masks))


def visible_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the files with one of the suffixes, by name, without hidden ones (macOS's `._*`)."""
    return [folder / name for name in _visible_names(folder, suffixes)]


def _visible_names(folder: Path, suffixes: frozenset[str]) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [
        name
        for name in sorted(names)
        if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")
    ]


@dataclass(frozen=True, eq=False)
class SampleTable(Sequence[SampleFiles]):
    """Samples in the order of their stems."""

    stems: Names
    images: Paths
    masks: Sequence[Paths]  # of each annotator, who may lack some
    drawn: Mapping[str, Drawing]  # what takes the place of mask files, by stem

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: Any) -> Any:
        stem = self.stems[index]
        drawing = self.drawn.get(stem)
        masks = tuple(drawing or paths[index] for paths in self.masks if paths.names[index])
        return SampleFiles(stem, self.images[index], masks, len(self.masks))

    def at(self, rows: Rows) -> "SampleTable":
        """Return the samples of some numbers."""
        masks = [paths.take(rows) for paths in self.masks]
        return SampleTable(self.stems.take(rows), self.images.take(rows), masks, self.drawn)


def fingerprint(files: Iterable[Path]) -> str:
    """Return a hash of names, sizes and times of files, which changes when one of them does."""
    paths = Paths.of(files)
    digest = sha256(paths.facts.tobytes())
    for text in paths.texts():
        digest.update(f"{text}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def mask_folders(folder: Path) -> tuple[Path, ...]:
    """Return `masks`, or `masks_1` to `masks_R`, or nothing."""
    if (folder / "masks").is_dir():
        return (folder / "masks",)
    numbered = {
        (int(match[1]), path.name): path  # masks_1 and masks_01 are two annotators
        for path in folder.glob("masks_*")
        if (match := re.fullmatch(r"masks_(\d+)", path.name)) and path.is_dir()
    }
    return tuple(path for _, path in sorted(numbered.items()))


def composed(name: str) -> str:
    """Return a name in composed Unicode: macOS and archives store ü as u and two dots."""
    return unicodedata.normalize("NFC", name)


def files_by_stem(
    folder: Path, suffixes: frozenset[str], stem_of: StemOf | None = None, *, axis: str = ""
) -> tuple[FileTable, list[Problem]]:
    """Find the files, and with an axis slices, of a folder by stem; two of one are a problem."""
    if stem_of is None and (usual := usual_files(folder, suffixes)):
        return usual, []
    names: dict[str, str] = {}
    twice = set()
    for name in _visible_names(folder, suffixes | {".nii", ".gz"} if axis else suffixes):
        stem = stem_of(name) if stem_of else os.path.splitext(name)[0]
        if stem and name.endswith((".nii", ".gz")):
            stem = case_of(folder / name, stem)
        if stem is None:
            continue
        stem = composed(stem)
        if stem in names:
            twice.add(stem)
        names[stem] = name
    message = f"Expected one file per stem, but found stems with two: {some_stems(twice)}."
    remedy = "Remove or rename one of each pair."
    problems = [Problem(str(folder), message, remedy, kind="stems")] if twice else []
    slices: dict[str, Path] = {}
    if axis:
        volumes = {case: folder / name for case, name in names.items() if name.endswith(NIFTI)}
        for case, path in (volumes if names else volumes_in(folder)).items():
            names.pop(case, None)
            try:
                slices |= slices_of(path, case, axis)
            except DataProblemsError as error:
                problems += error.problems
    if slices:
        return FileTable.of({stem: folder / names[stem] for stem in names} | slices), problems
    stems = sorted(names)
    return FileTable(Names(stems), Paths(Names(names[stem] for stem in stems), folder)), problems


def images_by_stem(
    folder: Path, stem_of: StemOf | None = None, *, below: bool = True, axis: str = "z"
) -> tuple[FileTable, list[Problem]]:
    """Find the images and slices of a folder by stem; a problem are none, and others `below` it."""
    images, problems = files_by_stem(folder, IMAGE_SUFFIXES, stem_of, axis=axis)
    if not images and not problems:
        return images, [_no_images(folder)]
    return images, [*problems, *left_below(folder)] if below else problems


def left_below(folder: Path) -> list[Problem]:
    """Report the images in the folders of a folder, which are not read."""
    if not (below := images_below(folder)):
        return []
    message = f"Expected all images directly in this folder, but found {below} in folders of it, "
    message += "which would be left out."
    remedy = "Move them up, or make them a split of their own."
    return [Problem(str(folder), message, remedy)]


def images_below(folder: Path) -> int:
    """Count the images in the folders of a folder, without hidden ones."""
    images = tuple(IMAGE_SUFFIXES)  # few names are asked for, of a million
    inner = (name for name in os.listdir(folder) if not name.lower().endswith(images))
    return sum(
        len(visible_files(Path(below), IMAGE_SUFFIXES))
        for top in (folder / name for name in inner if not name.startswith("."))
        if top.is_dir() and not top.is_symlink()
        for below, _, _ in os.walk(top)
    )


def images_in(folder: Path) -> FileTable:
    """Return the images of any folder (or of `images` in it) by FOLDER/STEM, in order."""
    folder = folder.resolve()  # "." has no name
    inner = folder / "images" if (folder / "images").is_dir() else folder
    if not inner.is_dir():
        message = "Expected a folder of images, but there is no such folder."
        raise data_error(folder, message, "Check the path for typing errors.")
    images, problems = images_by_stem(inner)
    if problems:
        raise DataProblemsError(*problems)
    return images.within(folder.name)


def lines_of(path: Path) -> tuple[list[str], list[Problem]]:
    """Read the lines of a list; it is a problem when the file is in UTF-16.

    Bytes that are not UTF-8 stay as they are, so that a list can name files of such names.
    """
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if b"\0" in content:
        message = f"Expected a list in UTF-8, but byte {content.index(0)} of the file is not."
        remedy = "Save it as UTF-8; the `>` of Windows PowerShell writes UTF-16."
        return [], [Problem(str(path), message, remedy, kind="list")]
    text = composed(content.decode("utf-8", "surrogateescape"))
    return text.replace("\r\n", "\n").split("\n"), []


def some_stems(stems: Iterable[str]) -> str:
    """Count the stems and list the first few."""
    names = sorted(stems)
    return f"{len(names)} ({some_of(names)})"


def _no_images(folder: Path) -> Problem:
    """Report a folder without images."""
    inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    found = f"only the folders {some_of(inner)}" if inner else "none"
    message = f"Expected images ({', '.join(sorted(IMAGE_SUFFIXES))}), but found {found}."
    return Problem(str(folder), message, "Put the image files directly into this folder.")
