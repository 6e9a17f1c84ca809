"""Hugging Face data sets: tables with an image and its masks in each row."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softiou.data.dataset_yaml import DatasetFile
from softiou.data.files import UNLABELED
from softiou.data.layouts.base import Files, Layout, no_labels
from softiou.data.layouts.webdataset import name_train, named_endings, roles
from softiou.data.members import member
from softiou.data.names import FileTable, Inner, Names, Paths
from softiou.data.patterns import split_named
from softiou.data.problems import data_error
from softiou.errors import ConfigError

_CONTENT = {"bytes", "path"}  # fields of an image in a table


@dataclass(frozen=True, eq=False)
class Column:
    """A table column of images."""

    place: str
    name: str
    table: Any

    def __str__(self) -> str:
        return self.place

    @property
    def changed(self) -> int:
        """Return the latest modification time of the table's files, in ns."""
        times = (os.stat(file["filename"]).st_mtime_ns for file in self.table.cache_files)
        return max(times, default=0)

    def member(self, sizes: NDArray[np.int64], row: int) -> Path:
        """Return the virtual path of the image in a row; `sizes` has the bytes of all rows."""
        return member(self, f"{self}/{row:07d}.{self.name}.png", row, int(sizes[row]))

    def read(self, start: int, size: int) -> bytes:
        """Return the image of the row `start`."""
        content: bytes = self.table.data.column(self.name)[start]["bytes"].as_py()
        return content


class HuggingFace(Layout):
    """A data set of the hub, or a folder of Parquet files, opened with the library `datasets`.

    The library converts the table once to memory-mapped files in its cache, for random access.
    Columns are named like the suffixes of `WebDataset`: `image` and `mask`, or as defined by
    `images: "{stem}.photo"` and `masks: "{stem}.classes"` in dataset.yaml. Stems are row numbers.
    """

    name = "hf"
    split_form = "{split}-*.parquet"
    pairing = "The mask of an image is in the same row: add it, or remove the row."

    def __init__(self, root: Path, contents: DatasetFile) -> None:
        self.root = root
        self.reader = contents.mask_reader()
        named = [f"{one}.png" if one else "" for one in named_endings(contents, root)]
        self._columns: dict[str, dict[int, Column]] = {}
        for name, table in _tables(root).items():
            split = split_named(name) or name
            columns = [one for one, kind in table.features.items() if _is_image(kind)]
            found = roles(named, [f"{one}.png" for one in columns])
            places = {role: Column(f"{root}/{name}", columns[n], table) for role, n in found}
            if 0 in places:
                self._columns[split] = places
        if not self._columns:
            message = "Expected tables with a column of images, `image`, but found none."
            remedy = 'Define it in dataset.yaml: `images: "{stem}.COLUMN"`, and `masks` likewise.'
            raise data_error(root, message, remedy)
        name_train(self._columns)
        masked = (name for name, found in self._columns.items() if len(found) > 1)
        self.splits = tuple(name for name in masked if name != UNLABELED)
        self.unlabeled = tuple(name for name in self._columns if name not in self.splits)
        self._listed = lru_cache(maxsize=None)(self._list)

    def images(self, split: str) -> Files:
        """Return the images of a split."""
        return self._listed(split, 0)

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of each annotator."""
        masks = tuple(self._listed(split, role) for role in sorted(self._columns[split]) if role)
        if masks:
            return masks
        message = "Expected masks beside the images, but found none."
        raise no_labels(self.root, message, self.pairing)

    def _list(self, split: str, role: int) -> Files:
        import pyarrow.compute as pc

        column = self._columns[split][role]
        content = pc.struct_field(column.table.data.column(column.name), "bytes")
        sizes = pc.fill_null(pc.binary_length(content), -1).to_numpy()
        if role == 0 and (sizes < 0).any():
            row = int((sizes < 0).argmax())
            message = f"Expected an image in each row, but row {row} has none."
            remedy = "Save the images in the table instead of paths, as push_to_hub does."
            raise data_error(str(column), message, remedy)
        rows = np.flatnonzero(sizes >= 0)
        paths = Paths(Inner(rows, partial(column.member, sizes)))
        return Files(FileTable(Names(f"{row:07d}" for row in rows), paths), Path(str(column)))


def _is_image(kind: Any) -> bool:
    """Return whether a column has images, in the typed or untyped form of `datasets`."""
    return type(kind).__name__ == "Image" or (isinstance(kind, Mapping) and set(kind) == _CONTENT)


def _tables(root: Path) -> dict[str, Any]:
    """Open the tables of all splits, with images as bytes."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"hf:{root} needs `datasets`: pip install '.[hf]' in a clone.") from error
    try:
        on_disk = any((root / name).is_file() for name in ("dataset_dict.json", "state.json"))
        found = datasets.load_from_disk(root) if on_disk else datasets.load_dataset(str(root))
        tables = found if isinstance(found, dict) else {"train": found}
        return {str(name): _undecoded(table) for name, table in tables.items()}
    except Exception as error:  # the library raises many types of errors
        reason = re.sub(r"\s+", " ", str(error))
        message = f"Cannot open the data set: {type(error).__name__}: {reason}."
        raise data_error(f"hf:{root}", message, "Check its name or its Parquet files.") from error


def _undecoded(table: Any) -> Any:
    """Return a table with images as bytes."""
    for column, kind in table.features.items():
        if type(kind).__name__ == "Image":
            table = table.cast_column(column, type(kind)(decode=False))
    return table
