"""Names of data sets: LAYOUT:/path, a folder, or digits. No file is opened here."""

import re
from pathlib import Path


def source_name(source: str | Path) -> str:
    """Return the name of a data set, for its runs: its layout, or its folder, or digits.

    Example:
        >>> source_name("voc:/data/VOCdevkit"), source_name("/data/street"), source_name("digits")
        ('voc', 'street', 'digits')
    """
    name, place = parse_source(source)
    return name or Path(place).expanduser().resolve().name


def overlooked(source: str | Path) -> list[str]:
    """Return a line when a folder has the name of the embedded data set, which is taken instead."""
    if str(source) != "digits" or not Path("digits").is_dir():
        return []
    return [
        "left out  the folder digits here: digits is the embedded data set; the folder is "
        f"{Path('digits').resolve()}"
    ]


def absolute_source(source: str) -> str:
    """Return the data set with an absolute path."""
    name, place = parse_source(source)
    path = Path(place).expanduser()
    if not path.exists():
        return source
    return f"{name}:{path.resolve()}" if name else str(path.resolve())


def parse_source(source: str | Path) -> tuple[str, str]:
    """Split LAYOUT:/path; the layout is empty for a folder, even one with a colon in its name."""
    found = re.fullmatch(r"([A-Za-z][\w-]+):(.*)", str(source))
    if found is None or Path(source).exists():
        return "", str(source)
    return found[1].lower(), found[2] or "."
