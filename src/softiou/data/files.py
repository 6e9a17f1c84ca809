"""Files by stem, as all layouts use them."""

import codecs
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from softiou.data.drawings import Drawing
from softiou.data.problems import DataProblemsError, Problem, data_error, some_of

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # others run programs
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})  # they keep numbers
ANNOTATION_SUFFIXES = frozenset({".json", ".txt", ".xml"})
UNLABELED = "unlabeled"  # folder of images without labels


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
    names = os.listdir(folder) if folder.is_dir() else []
    return [
        folder / name
        for name in sorted(names)
        if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")
    ]


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a hash of names, sizes and times of files, which changes when one of them does."""
    facts = [(str(path), (about := path.stat()).st_size, about.st_mtime_ns) for path in paths]
    return sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()


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
    folder: Path, suffixes: frozenset[str], stem_of: Callable[[Path], str | None] | None = None
) -> tuple[dict[str, Path], list[Problem]]:
    """Find the files of a folder by stem (None: of another kind); two of one are a problem."""
    files: dict[str, Path] = {}
    twice = set()
    for path in visible_files(folder, suffixes):
        stem = stem_of(path) if stem_of else path.stem
        if stem is None:
            continue
        stem = composed(stem)
        if stem in files:
            twice.add(stem)
        files[stem] = path
    if not twice:
        return files, []
    message = f"Expected one file per stem, but found stems with two: {some_stems(twice)}."
    remedy = "Remove or rename one of each pair."
    return files, [Problem(str(folder), message, remedy, kind="stems")]


def images_by_stem(
    folder: Path, stem_of: Callable[[Path], str | None] | None = None
) -> tuple[dict[str, Path], list[Problem]]:
    """Find the images of a folder by stem; it is a problem when there are none."""
    images, problems = files_by_stem(folder, IMAGE_SUFFIXES, stem_of)
    if not images:
        return images, [_no_images(folder)]
    return images, problems if stem_of else [*problems, *left_below(folder)]


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
    inner = (one.path for one in os.scandir(folder) if one.is_dir(follow_symlinks=False))
    return sum(
        len(visible_files(Path(below), IMAGE_SUFFIXES))
        for top in inner
        if not Path(top).name.startswith(".")
        for below, _, _ in os.walk(top)
    )


def images_in(folder: Path) -> dict[str, Path]:
    """Return the images of any folder (or of `images` in it) by FOLDER/STEM, in order."""
    folder = folder.resolve()  # "." has no name
    inner = folder / "images" if (folder / "images").is_dir() else folder
    if not inner.is_dir():
        message = "Expected a folder of images, but there is no such folder."
        raise data_error(folder, message, "Check the path for typing errors.")
    images, problems = images_by_stem(inner)
    if problems:
        raise DataProblemsError(*problems)
    return {f"{folder.name}/{stem}": images[stem] for stem in sorted(images)}


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
