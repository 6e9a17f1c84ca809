"""The figures of the pages, drawn from the library itself while the site is built.

A page shows one as `![what it shows](figures/NAME.svg)`; it is put into the page as it is, so that
lines and letters take the colours and the font of the page, light or dark.
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
    """Return where a page finds a figure, below docs/."""
    return f"figures/{name}.svg"


@cache
def svg(name: str) -> str:
    """Draw a figure."""
    return to_svg(FIGURES[name](), name)


def inline(page: str) -> str:
    """Put the figures into the HTML of a page, in place of the images."""
    return _IMAGE.sub(_drawing, page)


def _drawing(image: re.Match[str]) -> str:
    alt = html.unescape(image[1])
    if len(alt) < 20:  # a figure has to be understood without being seen
        raise ValueError(f"The figure {image[2]} needs an alternative text, but has {alt!r}.")
    label = html.escape(alt, quote=True)
    return svg(image[2]).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
