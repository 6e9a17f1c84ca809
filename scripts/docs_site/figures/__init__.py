"""Figures of the documentation, drawn with the library while the site is built.

A page includes a figure as `![description](figures/NAME.svg)`. The SVG is embedded in the HTML, so
that lines and text have the colours and the font of the page, light or dark.
"""

import html
import re
from collections.abc import Callable
from functools import cache

from matplotlib.figure import Figure

from scripts.docs_site.figures import (
    augmentation,
    calibration,
    diagrams,
    experiments,
    labels,
    losses,
    reductions,
)
from scripts.docs_site.figures.style import to_svg

FIGURES: dict[str, Callable[[], Figure]] = {
    "overlap": losses.overlap,
    "minimum": losses.minimum,
    "forms": losses.forms,
    "mixture": losses.mixture,
    "tversky": losses.tversky,
    "reductions": reductions.worked_example,
    "processes": reductions.processes,
    "augmentation": augmentation.presets,
    "smoothing": labels.smoothing,
    "calibration": calibration.reliability,
    "budget": experiments.budget,
    "differences": experiments.differences,
    "pass": diagrams.one_pass,
    "distillation": diagrams.distillation,
    "mean-teacher": diagrams.mean_teacher,
}
_IMAGE = re.compile(r'<img alt="([^"]*)" src="(?:\.\./)*figures/([\w-]+)\.svg"\s*/?>')


def path_of(name: str) -> str:
    """Return the path of a figure, relative to docs/."""
    return f"figures/{name}.svg"


@cache
def svg(name: str) -> str:
    """Return a figure as SVG."""
    return to_svg(FIGURES[name](), name)


def inline(page: str) -> str:
    """Replace the images of figures in the HTML of a page by the figures themselves."""
    return _IMAGE.sub(_drawing, page)


def _drawing(image: re.Match[str]) -> str:
    alt = html.unescape(image[1])
    if len(alt) < 20:  # for readers who cannot see the figure
        raise ValueError(f"The figure {image[2]} needs an alternative text, but has {alt!r}.")
    label = html.escape(alt, quote=True)
    return svg(image[2]).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
