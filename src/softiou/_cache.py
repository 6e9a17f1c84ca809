"""A persistent cache of bytes by key, in a folder of the user.

The cache is optional: a missing or damaged file counts as a miss, and if no file can be written,
the entry is kept in memory.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from softiou._files import write_atomically

_MOST_BYTES = 1 << 32
_unwritten: dict[str, bytes] = {}


def recall(key: str) -> bytes:
    """Return the cached bytes of a key, or b""."""
    with suppress(OSError, RuntimeError):  # no home folder
        file = _file(key)
        if file.is_file() and file.stat().st_size <= _MOST_BYTES:
            checksum, content = file.read_bytes().partition(b"\n")[::2]
            if checksum == _checksum(key, content):
                return content
    return _unwritten.get(key, b"")


def remember(key: str, content: bytes) -> None:
    """Cache bytes under a key."""
    try:
        file = _file(key)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(_checksum(key, content) + b"\n" + content, file)
    except (OSError, RuntimeError):
        _unwritten[key] = content


def cache_folder() -> Path:
    """Return $SOFTIOU_CACHE, or softiou/ in $XDG_CACHE_HOME or in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SOFTIOU_CACHE") or Path(home, "softiou"))


def _file(key: str) -> Path:
    return cache_folder() / sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]


def _checksum(key: str, content: bytes) -> bytes:
    return sha256(key.encode(errors="surrogatepass") + content).hexdigest().encode()
