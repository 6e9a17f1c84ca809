"""Numbers as text, for the page."""

from typing import Any

from softiou.evaluation.schema import Colour

View = dict[str, Any]  # plain values under the names that the template uses


def percent(value: float | None, digits: int = 1) -> str:
    """Format without the sign; a dash where undefined."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def rgb(colour: Colour) -> str:
    """As CSS has it."""
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun, whose plural is given unless it ends in s alone."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """To the minute."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
