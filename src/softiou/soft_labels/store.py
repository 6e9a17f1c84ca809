"""A teacher's soft labels on disk: STORE/manifest.json and STORE/<split>/labels-*.tar.

An image has an entry <stem>.b2nd in a shard, or a file STORE/<split>/<stem>.b2nd. Any number of
processes and machines can fill a store, and continue after an interruption, because entries and
files are written atomically. A store can be pickled for DataLoader workers.

Shapes: C classes, K slots of a cell, H and W in pixels, (h, w) the cells of the grid.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from softiou._files import file_name, write_atomically, write_once
from softiou._reading import read_json
from softiou._screen import visible
from softiou._validation import validated
from softiou.data.base import DatasetDescription, class_difference
from softiou.data.files import files_by_stem
from softiou.data.names import Names, Paths
from softiou.data.problems import DataProblemsError, Problem, data_error, some_of
from softiou.data.shards import Shard
from softiou.data.verifying import bounded_map, checked_once
from softiou.soft_labels.codes import Codes, encode, sparse
from softiou.soft_labels.files import BrokenFileError, Frame, pack
from softiou.soft_labels.manifest import SCHEMA_VERSION, Manifest
from softiou.soft_labels.shards import LabelShards, names_in, shards_in_order

MANIFEST = "manifest.json"
SUFFIX = ".b2nd"
_THUMBNAIL_PX = 4
_LITTLE = 1 << 28  # largest size in bytes of soft labels that are verified at the start
_SAME_PICTURE = 4  # tolerance in grey levels; JPEG decoders differ by one or two


class SoftLabelStore:
    """A store of the soft labels of any number of splits; use `create` or `open`.

    Attributes:
        path: Folder of the store.
        manifest: Manifest of the store.
        shard_bytes: Size of the shards that `write` creates; 0 for one file per image.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.shard_bytes = 0
        self._shards: dict[str, LabelShards] = {}

    @classmethod
    def create(cls, path: str | Path, manifest: Manifest) -> "SoftLabelStore":
        """Create a store, or open an existing one with the same identity.

        Raises:
            DataError: The folder has a store of another teacher, other classes or another
                quantisation; nothing was changed.
        """
        path = Path(path)
        if path.is_file() or (path.is_dir() and _holds_other_files(path)):
            message = "Expected a folder of soft labels or a new one, but found other files."
            raise data_error(path, message, "Choose another --out.")
        path.mkdir(parents=True, exist_ok=True)
        if not (path / MANIFEST).exists():
            write_once(manifest.to_json().encode(), path / MANIFEST)
        # Another process may have created it first.
        store = cls.open(path)
        if store.manifest.identity != manifest.identity:
            found = "; ".join(store.manifest.differences(manifest))
            message = f"Found soft labels that differ from those to be written: {found}."
            remedy = "Choose another --out, or remove this folder to label again."
            raise data_error(path, message, remedy)
        return store

    @classmethod
    def open(cls, path: str | Path) -> "SoftLabelStore":
        """Open an existing store; raise DataError if it is missing or invalid."""
        file = Path(path) / MANIFEST
        try:
            manifest = validated(Manifest, read_json(file))
        except (FileNotFoundError, NotADirectoryError):
            message = f"Expected a store of soft labels, but found no {MANIFEST}."
            remedy = f"Create one with `softiou label DATA --teacher CKPT --out {path}`."
            raise data_error(path, message, remedy) from None
        except ValueError as error:
            message = f"Expected the manifest of a store of soft labels, but found {error}."
            raise data_error(file, message, "Label again into another folder.") from error
        if manifest.schema_version > SCHEMA_VERSION:
            message = f"Expected a format up to {SCHEMA_VERSION}, but got "
            message += f"{manifest.schema_version}, written by a newer softiou."
            raise data_error(file, message, "Update softiou.")
        return cls(Path(path), manifest)

    def check_description(self, description: DatasetDescription) -> None:
        """Raise DataError unless a data set has the classes of the store, in the same order."""
        if difference := class_difference(self.manifest.classes, description.classes):
            message = f"Expected the classes of the data set, but found {difference}."
            remedy = "Use soft labels of a teacher of this data set, or the same list of classes."
            raise data_error(self.path, message, remedy)

    def check_complete(self, split: str, stems: Sequence[str]) -> None:
        """Raise DataError, with the names of some missing images, unless all have soft labels."""
        listed = files_by_stem(self.path / split, frozenset({SUFFIX}))[0].stems
        wanted = sorted(stems) if listed != Names(stems) else []
        rows = listed.rows(wanted)
        absent = [stem for stem, row in zip(wanted, rows, strict=True) if row < 0]
        if missing := [stem for stem in absent if not self.has(split, stem)]:  # in shards
            message = f"Expected soft labels of {len(stems)} images, but {len(missing)} have none: "
            message += f"{some_of(missing)}."
            remedy = f"Run `softiou label DATA --teacher CKPT --out {self.path} "
            remedy += f"splits='[{split}]'`, which adds them."
            raise data_error(self.path / split, message, remedy)

    def file(self, split: str, stem: str) -> Path:
        """Return the file of an image outside shards; raise ValueError for unsafe names."""
        parts = PurePosixPath(split, file_name(stem, SUFFIX))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"Expected names inside the store, but got {split!r} and {stem!r}.")
        return self.path / parts

    def has(self, split: str, stem: str) -> bool:
        """Return whether an image has soft labels."""
        return self._entry(split, stem) is not None or self.file(split, stem).is_file()

    def shards(self, split: str) -> LabelShards:
        """Return the shards of a split; their index is read once."""
        if split not in self._shards:
            self._shards[split] = LabelShards(self.file(split, "").parent)
        return self._shards[split]

    def _entry(self, split: str, stem: str) -> tuple[str, int, int] | None:
        return self.shards(split).place(f"{visible(stem)}{SUFFIX}")

    def close(self) -> None:
        """Close the shards of this process; their entries are readable before that."""
        for shards in self._shards.values():
            shards.close()

    def write(self, split: str, stem: str, probs: Tensor, image: Tensor) -> None:
        """Store the soft labels of an image atomically.

        Args:
            probs: Probabilities of the grid cells, floating (C, h, w), sum 1 over C.
            image: The image, uint8 (3, H, W), to verify it on reading.

        Raises:
            ValueError: `probs` are not probabilities or have a wrong shape.
        """
        image_size = (int(image.shape[-2]), int(image.shape[-1]))
        quantisation = self.manifest.quantisation
        expected = (self.manifest.num_classes, *quantisation.grid_size(image_size))
        if tuple(probs.shape) != expected:
            raise ValueError(
                f"Expected `probs` of shape (C, h, w) = {expected} for an image of {image_size} at "
                f"stride {quantisation.stride}, but got {tuple(probs.shape)}."
            )
        about = {
            "store": self.manifest.identity,
            "split": split,
            "stem": visible(stem),  # bytes that are not UTF-8 cannot be stored
            "height": image_size[0],
            "width": image_size[1],
            "thumbnail": thumbnail(image).flatten().tolist(),
        }
        file, content = self.file(split, stem), pack(encode(probs, quantisation), about)
        if self.shard_bytes:
            name = f"{visible(stem)}{SUFFIX}"
            return self.shards(split).append(name, content, most_bytes=self.shard_bytes)
        file.parent.mkdir(parents=True, exist_ok=True)
        return write_atomically(content, file)

    def read(
        self,
        split: str,
        stem: str,
        image_size: tuple[int, int],
        box: tuple[int, int, int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Read the soft labels of an image or a part of it; raise as `read_codes`.

        Args:
            image_size: (H, W) of the image, which must match the file.
            box: (top, bottom, left, right): rows top..bottom - 1 of the grid and columns
                left..right - 1; None for the whole image.

        Returns:
            indices: Classes (K, h, w), uint8, or uint16 above 255 classes; the most probable first.
            weights: Their probabilities, float32 (K, h, w), as for `targets.sparse`.
        """
        return self.sparse(self.read_codes(split, stem, image_size, box))

    def sparse(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """Convert codes of this store to classes and weights, see `read`."""
        return sparse(codes, self.manifest.num_classes, self.manifest.quantisation)

    def read_codes(
        self,
        split: str,
        stem: str,
        image_size: tuple[int, int],
        box: tuple[int, int, int, int] | None = None,
    ) -> Codes:
        """Read the codes of an image or a part of it; the arguments are those of `read`.

        Raises:
            DataError: The file is missing or damaged, or belongs to another image or store; the
                message names the image, the file and the remedy.
            ValueError: The box is empty or exceeds the grid.
        """
        height, width = self.manifest.quantisation.grid_size(image_size)
        top, bottom, left, right = box or (0, height, 0, width)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(f"Expected `box` inside the grid {(height, width)}, but got {box}.")
        frame = self._open_file(split, stem)
        if (frame.about["height"], frame.about["width"]) != tuple(image_size):
            found = f"{frame.about['width']}x{frame.about['height']}"
            reason = f"it was made for {found} (width x height) and the image is "
            reason += f"{image_size[1]}x{image_size[0]}; the image was replaced"
            raise DataProblemsError(self._problem(split, stem, reason))
        try:
            return frame.read(top, bottom, left, right)
        except BrokenFileError as error:
            raise DataProblemsError(self._problem(split, stem, str(error))) from error

    def check_image(self, split: str, stem: str, image: Tensor) -> None:
        """Raise DataError unless the soft labels belong to an image, uint8 (3, H, W)."""
        about = self._open_file(split, stem).about
        theirs = torch.tensor(about["thumbnail"]).view(-1, _THUMBNAIL_PX, _THUMBNAIL_PX)
        own = thumbnail(image)
        if len(own) != len(theirs) or int((own - theirs).abs().max()) > _SAME_PICTURE:
            reason = "they belong to another image: this one was replaced"
            raise DataProblemsError(self._problem(split, stem, reason))

    def check_whole(self, split: str, stems: Sequence[str]) -> None:
        """Verify by checksum that the labels of images are intact and of this store.

        Raises DataError otherwise. Intact files are not read again until they change. Labels in
        shards are read only up to a total size.
        """
        in_shards = [stem for stem in stems if self._entry(split, stem)]
        alone = sorted({*stems} - {*in_shards})
        found = checked_once(
            Paths(Names(file_name(stem, SUFFIX) for stem in alone), self.path / split),
            lambda number: self._problems(split, alone[number], self._open_file),
            f"soft labels of {self.manifest.identity}",
        )
        problems = [problem for _, problem in found]
        if in_shards and self.size_bytes(split) <= _LITTLE:
            check = partial(self._problems, split, check=self._open_file)
            problems += [problem for one in bounded_map(check, in_shards) for problem in one]
        if problems:
            raise DataProblemsError(*problems)

    def _problems(
        self, split: str, stem: str, check: Callable[[str, str], object]
    ) -> tuple[Problem, ...]:
        """Return the problems that a check of an image raises."""
        try:
            check(split, stem)
        except BrokenFileError as error:
            return (self._problem(split, stem, str(error)),)
        except DataProblemsError as error:
            return error.problems
        return ()

    def _open_file(self, split: str, stem: str) -> Frame:
        """Open the file of an image, and check that it belongs to this image and store."""
        try:
            entry = self._entry(split, stem)
            content = entry and Shard(entry[0], -1, -1).read(*entry[1:])
            frame = Frame(content or self.file(split, stem).read_bytes())
        except FileNotFoundError:
            raise DataProblemsError(self._problem(split, stem, "there is no such file")) from None
        except (OSError, BrokenFileError) as error:
            raise DataProblemsError(self._problem(split, stem, str(error))) from error
        about, grid_size = frame.about, self.manifest.quantisation.grid_size
        reason = ""
        if about.get("store") != self.manifest.identity:
            reason = "it belongs to another store, with another teacher or quantisation"
        elif (about["split"], about["stem"]) != (split, visible(stem)):
            reason = f"it is the renamed file of '{about['split']}/{about['stem']}'"
        elif frame.grid_size != grid_size((about["height"], about["width"])):
            reason = f"its grid {frame.grid_size} does not match its image"
        if reason:
            raise DataProblemsError(self._problem(split, stem, reason))
        return frame

    def _problem(self, split: str, stem: str, reason: str) -> Problem:
        """Report why the soft labels of an image cannot be used."""
        message = f"Cannot use the soft labels of the image '{split}/{stem}': {reason}."
        remedy = "`softiou label` with the same --out and --verify labels it again."
        entry, file = self._entry(split, stem), self.file(split, stem)
        return Problem(f"{entry[0]}/{file.name}" if entry else str(file), message, remedy)

    def verify(self, split: str | None = None, stem: str | None = None) -> list[Problem]:
        """Read all files (of a split or image), and return a problem for each damaged one."""
        images = self._images(split)
        if split is not None and stem is not None:
            images = iter([(split, stem)] if self.has(split, stem) else [])
        found = [self._problems(name, one, self._verify_file) for name, one in images]
        return [problem for one in found for problem in one]

    def _verify_file(self, split: str, stem: str) -> None:
        """Raise unless a file is complete, with valid classes and weights."""
        frame = self._open_file(split, stem)
        codes = frame.read(0, frame.grid_size[0], 0, frame.grid_size[1])
        num_classes = self.manifest.num_classes
        # class C of the byte maps is the rest
        highest = max(int(codes.best.max()), *(c for c in codes.classes if c != num_classes), 0)
        if highest >= num_classes:
            raise BrokenFileError(f"it names the class {highest} of {num_classes} classes")
        if int(np.max(codes.levels, initial=0)) > self.manifest.quantisation.levels:
            raise BrokenFileError("it has a weight above the highest level")
        _, weights = sparse(codes, num_classes, self.manifest.quantisation)
        if float(weights.sum(0).amax()) > 1 + 1e-4:
            raise BrokenFileError("its weights sum to more than one")

    def _images(self, split: str | None) -> Iterator[tuple[str, str]]:
        """Yield split and stem of each image with soft labels, sorted."""
        folders = [path.name for path in self.path.iterdir() if path.is_dir()]
        for name in sorted(folders) if split is None else [split]:
            files = (file.relative_to(self.path / name) for file in self._files(name))
            names = {*names_in(self.path / name), *(file.as_posix() for file in files)}
            yield from ((name, one.removesuffix(SUFFIX)) for one in sorted(names))

    def _files(self, split: str) -> Iterable[Path]:
        # names of files being written start with a dot
        files = (self.path / split).rglob(f"*{SUFFIX}")
        return (file for file in files if not file.name.startswith("."))

    def stems(self, split: str) -> tuple[str, ...]:
        """Return the stems of a split with soft labels, sorted."""
        return tuple(stem for _, stem in self._images(split))

    def size_bytes(self, split: str | None = None) -> int:
        """Return the size of the files of a split, or of all splits."""
        folders = self.path.iterdir() if split is None else [self.path / split]
        files = ((*shards_in_order(one), *map(str, self._files(one.name))) for one in folders)
        return sum(Path(file).stat().st_size for several in files for file in several)


def thumbnail(image: Tensor) -> Tensor:
    """Return the 4 x 4 mean colours of an image (B, H, W), which identify it."""
    if image.is_floating_point():
        image = image.nan_to_num(0) * 255
    small = F.adaptive_avg_pool2d(image.unsqueeze(0).float(), _THUMBNAIL_PX)[0]
    return small.round().long()


def _holds_other_files(path: Path) -> bool:
    """Return whether a folder has files, but no store."""
    # check the manifest last, because another process may be creating the store
    visible = any(not file.name.startswith(".") for file in path.iterdir())
    return visible and not (path / MANIFEST).exists()
