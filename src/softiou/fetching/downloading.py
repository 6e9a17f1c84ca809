"""Downloads of archives: resumed after an interruption, and verified by checksum."""

import hashlib
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

from softiou._files import move_into_place, scratch_folder
from softiou.data.problems import data_error
from softiou.errors import DataError

_CHUNK = 2**20
_PATIENCE_S = 60

# Called with chunks of bytes and their number; yields the chunks, and may show progress.
WatchChunks = Callable[[Iterable[bytes], int], Iterable[bytes]]


@dataclass(frozen=True)
class Archive:
    """A downloadable file with its published checksum (hexadecimal)."""

    url: str
    name: str
    algorithm: str
    digest: str


def download(archive: Archive, folder: Path, *, watch: WatchChunks) -> Path:
    """Download an archive to a folder, unless it exists, and return the verified file.

    An incomplete download is kept as NAME.part; a later call resumes it if the server allows
    it.
    """
    path = folder / archive.name
    if path.exists():
        _verify(path, archive)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{archive.name}.part"
    try:
        if not (part.exists() and _digest(part, archive) == archive.digest):
            _resume(archive.url, part, watch)
    # URLError, timeouts and broken connections are OSErrors, invalid HTTP responses are not.
    except (OSError, HTTPException) as error:
        # The message of an HTTPException is too short without its name.
        reason = error if isinstance(error, OSError) else repr(error)
        raise DataError(
            f"{archive.url} cannot be downloaded: {reason}. Run the command again to resume, or "
            f"download the file to {folder} yourself."
        ) from error
    try:
        _verify(part, archive)
    except DataError:
        part.unlink()
        raise
    move_into_place(part, path)
    return path


def _resume(url: str, part: Path, watch: WatchChunks) -> None:
    """Resume a download; restart it if the server rejects the requested range."""
    try:
        _receive(url, part, watch)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not part.exists():
            raise
        part.unlink()  # complete, but with a wrong checksum
        _receive(url, part, watch)


def _receive(url: str, part: Path, watch: WatchChunks) -> None:
    """Download the missing bytes and append them."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
        length = int(response.headers.get("Content-Length") or 0)
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as file:
            for chunk in watch(_chunks(response), -(-length // _CHUNK)):
                file.write(chunk)
    if part.stat().st_size < length + (have if resumed else 0):
        raise ConnectionError("the connection was interrupted")


def _chunks(stream: Any) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _verify(path: Path, archive: Archive) -> None:
    """Raise unless the checksum matches."""
    found = _digest(path, archive)
    if found != archive.digest:
        message = f"Expected the {archive.algorithm} checksum {archive.digest}, but got {found}."
        remedy = "The file is damaged or has changed: remove it and run the command again."
        raise data_error(path, message, remedy)


def _digest(path: Path, archive: Archive) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, archive.algorithm).hexdigest()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Return a context with a temporary folder that has the files of a zip or tar archive.

    The folder is on the same disk, so that parts of it can be moved atomically.
    """
    with scratch_folder(path.parent) as folder:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        yield folder
