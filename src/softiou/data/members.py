"""Paths of files inside other files, such as the shards of a data set."""

import errno
import io
import os
from pathlib import Path
from typing import Any, Protocol


class Container(Protocol):
    """A file that contains members: a tar or a table column; `str` is its path or URL."""

    @property
    def changed(self) -> int:
        """Return a number that changes with the content, such as the modification time in ns."""

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes of a member."""


class Member(type(Path())):  # type: ignore[misc]
    """A read-only path inside a container.

    Created by `member`; derived paths, such as the parent, are plain paths.
    """

    container: Container | None = None
    start, size, text = 0, 0, ""  # text: the whole path, not normalised if it is a URL

    def __str__(self) -> str:
        return self.text or str(super().__str__())

    def __reduce__(self) -> Any:
        own = member, (self.container, self.text, self.start, self.size)
        return own if self.text else super().__reduce__()

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Open the content of the member in memory."""
        if self.container is None:
            return super().open(mode, *args, **kwargs)
        if mode not in ("r", "rb"):
            raise OSError(errno.EROFS, "Expected a folder to write to, not a shard", self.text)
        content = io.BytesIO(self.container.read(self.start, self.size))
        return content if mode == "rb" else io.TextIOWrapper(content, kwargs.get("encoding"))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return a stat result with the size, and `container.changed` as the modification time."""
        if self.container is None:
            return super().stat(follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
        changed, result = self.container.changed, os.stat_result
        fields: Any = (0o100444, 0, 0, 1, 0, 0, self.size, *[changed // 10**9] * 3)
        return result(fields, {"st_mtime_ns": changed})

    def is_file(self) -> bool:
        """Return whether the file exists."""
        return self.container is not None or bool(super().is_file())

    def resolve(self, strict: bool = False) -> Any:
        """Return the member itself."""
        return self if self.text else super().resolve(strict)


def member(container: Container | None, text: str, start: int = 0, size: int = 0) -> Member:
    """Return a member of a container; without a container, a path for the URL `text`."""
    path = Member(text)
    path.container, path.text, path.start, path.size = container, text, start, size
    return path
