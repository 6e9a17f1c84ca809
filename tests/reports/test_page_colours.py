"""Colours that mean something on the page stay apart for readers of any colour vision.

Distances are those of CAM02-UCS, where 1 is about the least that an eye sees side by side.
"""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from data.test_colours import least_distances, seen
from softiou.reports.charts import COLORS
from softiou.reports.pictures import MISTAKE
from softiou.reports.templating import STYLES, _joined

GREYS = np.repeat(np.arange(0, 256, 5), 3).reshape(-1, 3).astype(float)


def of_hex(code: str) -> tuple[int, int, int]:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def variables() -> list[dict[str, tuple[int, int, int]]]:
    """Colours of the style by name: of the light theme, and of the dark one."""
    light, dark = re.findall(r":root \{(.*?)\}", _joined(STYLES), flags=re.DOTALL)[:2]
    found = []
    for block in (light, light + dark):
        pairs = re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)
        found.append({name: of_hex(code) for name, code in pairs})
    return found


def apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The least distance of a colour of one list from one of the other, for the worst eye."""
    places, others = seen(one), seen(other)
    return float(np.linalg.norm(places[:, :, None] - others[:, None], axis=-1).min())


@pytest.mark.parametrize("opacity", [1.0, 0.65])
def test_mistakes_stand_out_from_a_grey_image(opacity: float) -> None:
    mixed = opacity * np.array(MISTAKE, dtype=float) + (1 - opacity) * GREYS
    assert apart(mixed, GREYS) >= 20


def test_a_crimson_would_not_stand_out() -> None:
    """What eyes without red cones make of it is a grey: the measure can fail."""
    assert apart(np.array([[230.0, 30.0, 99.0]]), GREYS) < 5


@pytest.mark.parametrize(("count", "least"), [(3, 20), (6, 14.9)])
def test_lines_of_a_chart_lie_apart(count: int, least: float) -> None:
    lines = np.array([of_hex(code) for code in COLORS[:count]], dtype=float)
    assert least_distances(lines).min() >= least


def test_right_and_wrong_better_and_worse_lie_apart_in_both_themes() -> None:
    for theme in variables():
        for one, other in (("right", "wrong"), ("accent", "warn")):
            pair = np.array([theme[one], theme[other]], dtype=float)
            assert apart(pair[:1], pair[1:]) >= 25, (one, other)
