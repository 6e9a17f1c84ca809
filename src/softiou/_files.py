"""Writing files so that nothing is ever half there."""

import os
from pathlib import Path


def write_atomically(content: bytes, path: Path) -> None:
    """Write a file so that it is whole or not there: a temporary neighbour, then a rename."""
    # Processes on two machines that share a folder may have the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
