"""Formulas of a page, written in LaTeX, as MathML: readable without a script or a font."""

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves of $...$ and of $$...$$.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">'
    r"(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<block>.*?)\\\])</(?P=tag)>",
    re.DOTALL,
)
# mIoU^D, ^I and ^C, as tables that are read in a terminal, too, write it.
_REDUCTION = re.compile(r"(?:(?<=mIoU)|(?<=ECE)|(?<=, ))\^([DIC])\b")


def raise_reductions(page: str) -> str:
    """Raise the letters of mIoU^D and its kin in the HTML of a page."""
    return _REDUCTION.sub(r"<sup>\1</sup>", page)


def to_mathml(page: str) -> str:
    """Replace the formulas in the HTML of a page."""
    return _FORMULA.sub(_convert, page)


def _convert(match: re.Match[str]) -> str:
    tex = html.unescape(match["inline"] or match["block"]).strip()
    made = convert(tex, display="inline" if match["inline"] else "block")
    if "\\" in made:  # a command that the converter does not know stands there as it was
        raise ValueError(f"Cannot turn the formula {tex!r} into MathML: {made}")
    label = html.escape(" ".join(tex.split()), quote=True)
    made = made.replace("<math ", f'<math alttext="{label}" ', 1)
    return made if match["inline"] else f'<div class="formula">{made}</div>'
