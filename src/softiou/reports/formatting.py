"""Figures in words, for the page."""

from typing import Any

from softiou.reports.image_files import Colour

View = dict[str, Any]  # plain values under the names that the template uses


def percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.1f}"


def rgb(colour: Colour) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"


def plural(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
