"""Archives from the network: resumed where they broke off, checked, and never half there."""

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
from tempfile import TemporaryDirectory
from typing import Any

from softiou._files import move_into_place
from softiou.data.problems import DataProblemsError, Problem
from softiou.errors import DataError

_CHUNK = 2**20
_PATIENCE_S = 60

# Called with chunks of bytes and their number; yields the same, and may show how far it is.
WatchChunks = Callable[[Iterable[bytes], int], Iterable[bytes]]


@dataclass(frozen=True)
class Archive:
    """A file on the network.

    Args:
        url: Where it is.
        name: What the file is called.
        algorithm: Of the checksum, for instance "md5".
        digest: The checksum in hexadecimal digits, as its publishers state it.
    """

    url: str
    name: str
    algorithm: str
    digest: str


def download(archive: Archive, folder: Path, *, watch: WatchChunks) -> Path:
    """Download an archive, unless it is there already.

    What has come so far lies in NAME.part; a later call goes on from there, if the server lets it.

    Args:
        archive: Which one.
        folder: Where to.
        watch: Shows the progress.

    Returns:
        The file, whose checksum is right.

    Raises:
        DataError: The network failed, or the file has another checksum.
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
    # URLError, timeouts and broken connections are OSErrors, answers that are no HTTP are not.
    except (OSError, HTTPException) as error:
        # What HTTPException says is too little without its name.
        reason = error if isinstance(error, OSError) else repr(error)
        raise DataError(
            f"{archive.url} cannot be downloaded: {reason}. Run the command again, it goes on "
            f"where it broke off; or put the file into {folder} yourself."
        ) from error
    try:
        _verify(part, archive)
    except DataError:
        part.unlink()
        raise
    move_into_place(part, path)
    return path


def _resume(url: str, part: Path, watch: WatchChunks) -> None:
    """Go on behind the bytes that are there; begin again where the server has none behind them."""
    try:
        _receive(url, part, watch)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not part.exists():
            raise
        part.unlink()  # as long as the file or longer, and not the file
        _receive(url, part, watch)


def _receive(url: str, part: Path, watch: WatchChunks) -> None:
    """Write the bytes behind those that are there already."""
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
        raise ConnectionError("the connection broke off")


def _chunks(stream: Any) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _verify(path: Path, archive: Archive) -> None:
    """Compare the checksum."""
    found = _digest(path, archive)
    if found != archive.digest:
        message = f"Expected the {archive.algorithm} checksum {archive.digest}, but got {found}."
        remedy = "The file is broken or another one: remove it and run the command again."
        raise DataProblemsError(Problem(str(path), message, remedy))


def _digest(path: Path, archive: Archive) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, archive.algorithm).hexdigest()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Unpack an archive beside itself, for as long as the context lasts.

    Whoever wants to keep a folder renames it to its place, so that it is whole or not there.

    Args:
        path: A zip or tar file.
    """
    with TemporaryDirectory(prefix=".tmp-", dir=path.parent) as name:
        folder = Path(name)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        yield folder
