"""The layouts of published data sets, by name."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from softiou.data.layouts.ade20k import Ade20k
from softiou.data.layouts.base import Layout
from softiou.data.layouts.camvid import camvid
from softiou.data.layouts.cityscapes import Cityscapes
from softiou.data.layouts.deepglobe import DeepGlobe
from softiou.data.layouts.voc import Voc
from softiou.errors import DataError

PUBLISHED_LAYOUTS: Mapping[str, Callable[[Path], Layout]] = {
    "cityscapes": Cityscapes,
    "cityscapes-coarse": partial(Cityscapes, coarse=True),
    "voc": Voc,
    "ade20k": Ade20k,
    "deepglobe": DeepGlobe,
    "camvid": camvid,
}

# Folders that identify a data set.
_SIGNS = {
    "leftImg8bit": "cityscapes",
    "JPEGImages": "voc",
    "VOC2012": "voc",
    "annotations/training": "ade20k",
    "trainannot": "camvid",
    "701_StillsRaw_full": "camvid",
}


def recognised(root: Path) -> str | None:
    """Return the name of the published layout that a folder seems to have, or None."""
    return next((name for sign, name in _SIGNS.items() if (root / sign).is_dir()), None)


def published_layout(name: str, root: Path, *, others: Iterable[str] = ()) -> Layout:
    """Return the layout of a folder; raise if the name is unknown or the folders are missing.

    `others` are the names of other layouts, for the error message.
    """
    if name == "python":  # runs record a Dataset object so
        raise DataError(
            f"The data set {root} is a Python object and cannot be opened by name: give a data "
            "set folder, or pass the object from Python."
        )
    if name not in PUBLISHED_LAYOUTS:
        known = (*PUBLISHED_LAYOUTS, *others)
        close = get_close_matches(name, known)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise DataError(
            f"Expected the name of a layout, but got {name!r}. {hint}Known are "
            f"{', '.join(known)}; a folder with dataset.yaml needs no name."
        )
    return PUBLISHED_LAYOUTS[name](root)
