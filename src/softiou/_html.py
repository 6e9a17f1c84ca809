"""HTML tables and pages for notebooks; all text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = ""
) -> str:
    """Return an HTML table; the first cell of each row is its heading, and None becomes "-"."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr><th>{_cell(first)}</th>{''.join(f'<td>{_cell(value)}</td>' for value in others)}</tr>"
        for first, *others in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_page(page: str, *, height_px: int = 720) -> str:
    """Return a sandboxed iframe with a complete page."""
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts" '
        f'style="width: 100%; height: {height_px}px; border: 1px solid #ccc"></iframe>'
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return escape(f"{value:.2f}" if isinstance(value, float) else str(value))
