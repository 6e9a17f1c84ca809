"""Convert the LaTeX formulas of a page to MathML, which needs neither JavaScript nor fonts."""

import html
import re

from latex2mathml.converter import convert

# The HTML that pymdownx.arithmatex makes of $...$ and of $$...$$.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">'
    r"(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<block>.*?)\\\])</(?P=tag)>",
    re.DOTALL,
)
# mIoU^D, mIoU^I and mIoU^C are written so in tables that are also printed in a terminal.
_REDUCTION = re.compile(r"(?:(?<=mIoU)|(?<=ECE)|(?<=, ))\^([DIC])\b")


def raise_reductions(page: str) -> str:
    """Format the D, I and C of mIoU^D, mIoU^I and mIoU^C as superscripts in the HTML of a page."""
    return _REDUCTION.sub(r"<sup>\1</sup>", page)


def to_mathml(page: str) -> str:
    """Replace the LaTeX formulas in the HTML of a page by MathML."""
    return _FORMULA.sub(_convert, page)


def _convert(match: re.Match[str]) -> str:
    tex = html.unescape(match["inline"] or match["block"]).strip()
    made = convert(tex, display="inline" if match["inline"] else "block")
    if "\\" in made:  # the converter leaves unknown commands unchanged
        raise ValueError(f"Cannot turn the formula {tex!r} into MathML: {made}")
    label = html.escape(" ".join(tex.split()), quote=True)
    made = made.replace("<math ", f'<math alttext="{label}" ', 1)
    return made if match["inline"] else f'<div class="formula">{made}</div>'
