"""How figures look: colours that show on light and dark ground, and SVG that a page can hold."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Told apart by colour-blind readers too, and dark and light enough for either ground.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3d8bd4", "#e8804a", "#27a383", "#a678d8", "#8b93a1"
# Stands for the colour of the text of the page.
INK = "#010203"
WIDTH = 7.2  # inches; the column of the page is as wide

_NAMESPACES = {"": "http://www.w3.org/2000/svg", "xlink": "http://www.w3.org/1999/xlink"}
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.8,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the colours of the site."""
    with mpl.rc_context(_STYLE):
        yield


def panels(columns: int = 1, *, height: float, **settings: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side."""
    with style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **settings)
    return figure, list(axes.flat)


def to_svg(figure: Figure, name: str) -> str:
    """Write a figure as SVG without fixed size, with letters as text and the ink of the page.

    Args:
        figure: Drawn with `panels`.
        name: Keeps the names inside apart from those of other figures of a page.
    """
    written = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = _without_size(written.getvalue())
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    # The font is that of the page, the size that of the figure.
    text = re.sub(r"font: [^;\"]*?([\d.]+)px[^;\"]*", r"font-size: \1px", text)
    return text.replace(INK, "currentColor")


def _without_size(drawing: str) -> str:
    """Return SVG as an element for a page: it fills the width, and styles itself alone."""
    for prefix, space in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, space)
    root = ElementTree.fromstring(drawing)
    del root.attrib["width"], root.attrib["height"]
    for name in ("metadata", "defs"):  # the first defs hold a style for everything on a page
        root.remove(root.findall(f"{{*}}{name}")[0])
    root.set("stroke-linejoin", "round")
    return ElementTree.tostring(root, encoding="unicode")
