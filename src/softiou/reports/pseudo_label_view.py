"""The section of the page on pseudo-labels."""

from itertools import zip_longest

from softiou.reports.examples import pseudo_label_example_view
from softiou.reports.formatting import View, counted
from softiou.reports.pseudo_labels import LEAST_RATIO, PseudoLabels


def pseudo_label_view(found: PseudoLabels) -> View:
    """Explanation, a row for each class, and the pictures of the last validation."""
    return {
        "kept": found.kept,
        "verdict": _verdict(found),
        "first_step": f"{found.first_step:,}",
        "last_step": f"{found.last_step:,}",
        "rows": [
            {"shares": shares, "colour": colour}
            for shares, colour in zip_longest(found.classes, found.palette)
        ],
        "undefined": any(shares.ratio is None for shares in found.classes),
        "pictures_step": None if found.pictures_step is None else f"{found.pictures_step:,}",
        "examples": [pseudo_label_example_view(example, found) for example in found.examples],
    }


def _verdict(found: PseudoLabels) -> str:
    """How many classes are about to be forgotten, in words."""
    gone, least = sum(one.vanished for one in found.classes), f"{100 * LEAST_RATIO:.0f} %"
    if not gone:
        return f"No class has vanished: each keeps at least {least} of its share of the labels."
    return (
        f"{gone} of {counted(len(found.classes), 'class', 'classes')} "
        f"{'has' if gone == 1 else 'have'} almost vanished: less than {least} of the share of the "
        f"labels. The table marks {'it' if gone == 1 else 'them'}."
    )
