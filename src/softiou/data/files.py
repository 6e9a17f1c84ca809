"""Find files by stem, for all layouts."""

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
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})  # lossless
ANNOTATION_SUFFIXES = frozenset({".json", ".txt", ".xml"})
UNLABELED = "unlabeled"  # folder of unlabelled images


StemOf: TypeAlias = Callable[[str], str | None]  # stem of a name; None: no match


class SampleFiles(NamedTuple):
    """The files of one sample: an image and one mask per annotator.

    An annotator may have skipped an image: then there are fewer masks than `annotators`, but at
    least one.
    """

    stem: str
    image: Path
    masks: tuple[Path | Drawing, ...]
    annotators: int = 1

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files."""
        return (self.image, *(m.file if isinstance(m, Drawing) else m for m in self.masks))


def visible_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the files with one of the suffixes, sorted, except hidden ones (macOS: `._*`)."""
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
    """The samples of a split, sorted by stem."""

    stems: Names
    images: Paths
    masks: Sequence[Paths]  # one for each annotator, with empty names for missing masks
    drawn: Mapping[str, Drawing]  # replace mask files, by stem

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: Any) -> Any:
        stem = self.stems[index]
        drawing = self.drawn.get(stem)
        masks = tuple(drawing or paths[index] for paths in self.masks if paths.names[index])
        return SampleFiles(stem, self.images[index], masks, len(self.masks))

    def at(self, rows: Rows) -> "SampleTable":
        """Return the samples of some rows."""
        masks = [paths.take(rows) for paths in self.masks]
        return SampleTable(self.stems.take(rows), self.images.take(rows), masks, self.drawn)


def fingerprint(files: Iterable[Path]) -> str:
    """Return a hash of names, sizes and modification times of files."""
    paths = Paths.of(files)
    digest = sha256(paths.facts.tobytes())
    for text in paths.texts():
        digest.update(f"{text}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def mask_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folder `masks`, or `masks_1` to `masks_R`; empty if there are none."""
    if (folder / "masks").is_dir():
        return (folder / "masks",)
    numbered = {
        (int(match[1]), path.name): path  # masks_1 and masks_01 are different annotators
        for path in folder.glob("masks_*")
        if (match := re.fullmatch(r"masks_(\d+)", path.name)) and path.is_dir()
    }
    return tuple(path for _, path in sorted(numbered.items()))


def composed(name: str) -> str:
    """Return a name in NFC; macOS and archives store ü decomposed into u and two dots."""
    return unicodedata.normalize("NFC", name)


def files_by_stem(
    folder: Path, suffixes: frozenset[str], stem_of: StemOf | None = None, *, axis: str = ""
) -> tuple[FileTable, list[Problem]]:
    """Return the files (with `axis`: slices) of a folder by stem; report duplicate stems."""
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
    message = f"Expected one file per stem, but several files share a stem: {some_stems(twice)}."
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
    """Return the images and slices of a folder by stem; report an empty folder and subfolders."""
    images, problems = files_by_stem(folder, IMAGE_SUFFIXES, stem_of, axis=axis)
    if not images and not problems:
        return images, [_no_images(folder)]
    return images, [*problems, *left_below(folder)] if below else problems


def left_below(folder: Path) -> list[Problem]:
    """Report images in subfolders, which are not read."""
    if not (below := images_below(folder)):
        return []
    message = f"Expected all images directly in this folder, but found {below} in its subfolders, "
    message += "which are not read."
    remedy = "Move them up, or make them a separate split."
    return [Problem(str(folder), message, remedy)]


def images_below(folder: Path) -> int:
    """Count the images in subfolders, except hidden ones."""
    images = tuple(IMAGE_SUFFIXES)  # avoids a stat call for each of many images
    inner = (name for name in os.listdir(folder) if not name.lower().endswith(images))
    return sum(
        len(visible_files(Path(below), IMAGE_SUFFIXES))
        for top in (folder / name for name in inner if not name.startswith("."))
        if top.is_dir() and not top.is_symlink()
        for below, _, _ in os.walk(top)
    )


def images_in(folder: Path) -> FileTable:
    """Return the images of a folder, or of its subfolder `images`, by FOLDER/STEM, sorted."""
    folder = folder.resolve()  # "." has no name
    inner = folder / "images" if (folder / "images").is_dir() else folder
    if not inner.is_dir():
        message = "Expected a folder of images, but the folder does not exist."
        raise data_error(folder, message, "Check the path.")
    images, problems = images_by_stem(inner)
    if problems:
        raise DataProblemsError(*problems)
    return images.within(folder.name)


def lines_of(path: Path) -> tuple[list[str], list[Problem]]:
    """Return the lines of a list, or a problem if the file is in UTF-16.

    Bytes that are not UTF-8 are kept, because file names can contain them.
    """
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if b"\0" in content:
        message = f"Expected a list in UTF-8, but byte {content.index(0)} of the file is 0."
        remedy = "Save it as UTF-8; the `>` of Windows PowerShell writes UTF-16."
        return [], [Problem(str(path), message, remedy, kind="list")]
    text = composed(content.decode("utf-8", "surrogateescape"))
    return text.replace("\r\n", "\n").split("\n"), []


def some_stems(stems: Iterable[str]) -> str:
    """Return the number of stems and the first few of them."""
    names = sorted(stems)
    return f"{len(names)} ({some_of(names)})"


def _no_images(folder: Path) -> Problem:
    """Report a folder without images."""
    inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    found = f"only the folders {some_of(inner)}" if inner else "none"
    message = f"Expected images ({', '.join(sorted(IMAGE_SUFFIXES))}), but found {found}."
    return Problem(str(folder), message, "Put the image files directly into this folder.")
