"""Colours of classes: distinct, and far enough apart for readers of any colour vision.

Distances are those of CAM02-UCS, where 1 is about the least that an eye sees side by side.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from softiou.data import DatasetDescription, default_palette

Array = NDArray[np.float64]

KINDS = ("deuteranomaly", "protanomaly", "tritanomaly")
TABLES = ("bw_minc_20", "light", "dark", "warm", "cool", "hv")
OKABE_ITO = [
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
]
GREYS = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (188, 188, 188)]


def seen(colours: Array) -> Array:
    """As four kinds of eyes see colours (N, 3) of 0..255: places in CAM02-UCS (4, N, 3)."""
    space = pytest.importorskip("colorspacious")
    rgb = colours / 255
    views = [rgb]
    for kind in KINDS:  # Machado et al. 2009, no cones of that kind at all
        blind = {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}
        views.append(np.clip(space.cspace_convert(rgb, blind, "sRGB1"), 0, 1))
    return np.stack([space.cspace_convert(view, "sRGB1", "CAM02-UCS") for view in views])


def least_distances(colours: Array) -> Array:
    """The two colours that lie closest, for each of four kinds of eyes (4,)."""
    places = seen(colours)
    distance = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    upper = np.triu_indices(len(colours), 1)
    closest: Array = distance[:, *upper].min(axis=1)
    return closest


def palette(count: int) -> Array:
    return np.array(default_palette([f"class {index}" for index in range(count)]), dtype=float)


def candidates() -> Array:
    """The colours of the library's tables, each once, neither very dark nor nearly white."""
    colorcet = pytest.importorskip("colorcet")
    colours = [colour for name in TABLES for colour in getattr(colorcet, f"glasbey_{name}")]
    rgb = [_from_hex(one) if isinstance(one, str) else one for one in colours]
    return np.unique(np.round(255 * np.array(rgb)), axis=0)


def _from_hex(code: str) -> list[float]:
    return [int(code[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def regenerate(count: int) -> list[tuple[int, ...]]:
    """Farthest first, for the eye that tells them apart worst."""
    pool = candidates()
    places = seen(pool)
    lightness = places[0, :, 0]
    inside = (lightness > 20) & (lightness < 97)
    pool, places = pool[inside], places[:, inside]
    taken = seen(np.array([*OKABE_ITO, *GREYS], dtype=float))
    distance = np.linalg.norm(places[:, :, None] - taken[:, None], axis=-1).min(axis=2)
    chosen: list[tuple[int, ...]] = list(OKABE_ITO)
    while len(chosen) < count:
        best = int(distance.min(axis=0).argmax())
        chosen.append(tuple(int(channel) for channel in pool[best]))
        step = np.linalg.norm(places - places[:, best : best + 1], axis=-1)
        distance = np.minimum(distance, step)
    return chosen


def test_first_colours_are_those_of_okabe_and_ito_and_background_is_black() -> None:
    assert default_palette(["a"] * 7) == tuple(OKABE_ITO)
    assert default_palette(["sky", "Background", "car"]) == (OKABE_ITO[0], (0, 0, 0), OKABE_ITO[2])


def test_table_is_made_again_from_the_library() -> None:
    assert [tuple(colour) for colour in palette(256)] == regenerate(256)


@pytest.mark.parametrize(
    ("count", "least"), [(8, 10.9), (12, 10.9), (20, 10.3), (32, 7.8), (64, 5.2), (200, 2.6)]
)
def test_colours_lie_apart_for_readers_of_any_colour_vision(count: int, least: float) -> None:
    assert least_distances(palette(count)).min() >= least


def test_tableau_colours_would_not_do() -> None:
    """The measure can fail: ten colours that many plots use lie closer than our twenty."""
    tableau = [(214, 39, 40), (44, 160, 44), (148, 103, 189), (31, 119, 180), (140, 86, 75)]
    assert least_distances(np.array(tableau, dtype=float)).min() < 8


def test_hundreds_of_colours_are_distinct_and_always_the_same() -> None:
    colours = default_palette(["x"] * 256)
    assert len(set(colours)) == 256
    assert (0, 0, 0) not in colours
    assert default_palette(["x"] * 300)[:256] == colours
    assert len(set(default_palette(["x"] * 300))) > 290


def test_palette_of_the_data_set_wins() -> None:
    own = ((1, 2, 3), (4, 5, 6))
    assert DatasetDescription(("a", "b"), palette=own).palette == own
    assert DatasetDescription(("a", "b")).palette == tuple(OKABE_ITO[:2])
