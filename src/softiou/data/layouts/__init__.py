"""Layouts of data sets: softiou's own folders, and those of published data sets."""

from softiou.data.layouts.base import Files, Layout
from softiou.data.layouts.folder import FolderLayout
from softiou.data.layouts.huggingface import HuggingFace
from softiou.data.layouts.published import PUBLISHED_LAYOUTS, published_layout, recognised
from softiou.data.layouts.voc import Voc
from softiou.data.layouts.webdataset import WebDataset

__all__ = [
    "PUBLISHED_LAYOUTS",
    "Files",
    "FolderLayout",
    "HuggingFace",
    "Layout",
    "Voc",
    "WebDataset",
    "published_layout",
    "recognised",
]
