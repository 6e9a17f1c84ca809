"""Parse the names of data sets: LAYOUT:/path, a folder, or digits."""

import re
from pathlib import Path


def source_name(source: str | Path) -> str:
    """Return a short name for runs: the layout, the name of the folder, or digits.

    Example:
        >>> source_name("voc:/data/VOCdevkit"), source_name("/data/street"), source_name("digits")
        ('voc', 'street', 'digits')
    """
    name, place = parse_source(source)
    return name or Path(place).expanduser().resolve().name


def overlooked(source: str | Path) -> list[str]:
    """Return a note if a folder is named "digits", which opens the embedded data set."""
    if str(source) != "digits" or not Path("digits").is_dir():
        return []
    return [
        "left out  the folder digits: the name digits means the embedded data set; to use the "
        f"folder, write {Path('digits').resolve()}"
    ]


def absolute_source(source: str) -> str:
    """Return the source with an absolute path."""
    name, place = parse_source(source)
    path = Path(place).expanduser()
    if not path.exists():
        return source
    return f"{name}:{path.resolve()}" if name else str(path.resolve())


def parse_source(source: str | Path) -> tuple[str, str]:
    """Split LAYOUT:/path; the layout is "" for an existing folder, even with a colon."""
    found = re.fullmatch(r"([A-Za-z][\w-]+):(.*)", str(source))
    if found is None or Path(source).exists():
        return "", str(source)
    return found[1].lower(), found[2] or "."
