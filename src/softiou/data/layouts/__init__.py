"""Layouts of data sets: softiou's own folders, and those that well-known data sets come in."""

from softiou.data.layouts.base import Files, Layout
from softiou.data.layouts.folder import FolderLayout
from softiou.data.layouts.native import NATIVE_LAYOUTS, native_layout, recognised

__all__ = ["NATIVE_LAYOUTS", "Files", "FolderLayout", "Layout", "native_layout", "recognised"]
