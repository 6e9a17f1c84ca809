"""Numbers and metrics as text, for the page."""

from typing import Any

from softiou.evaluation.schema import Colour, Interval

View = dict[str, Any]  # plain values by the names in the template
MINUS = "\N{MINUS SIGN}"
RANGE = "\N{THIN SPACE}\N{EN DASH}\N{THIN SPACE}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a value without sign; a dash if undefined."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def rgb(colour: Colour) -> str:
    """Return a colour in CSS syntax."""
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun; `plural` is needed unless it is the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Format a time to the minute."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """Return "low - high", or "" if there is no interval."""
    if interval is None:
        return ""
    return f"{interval[0]:.{digits}f}{RANGE}{interval[1]:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """Format a value with its sign; a dash if undefined."""
    if value is None:
        return percent(None)
    text = f"{abs(value):.{digits}f}"
    zero = not float(text)
    return text if zero else f"{MINUS if value < 0 else '+'}{text}"


def signed_interval(interval: Interval | None, digits: int = 1) -> str:
    """Return "low to high" with signs, or "" if there is no interval."""
    separator = RANGE.replace("\N{EN DASH}", "to")
    return separator.join(signed(bound, digits) for bound in interval or ())
