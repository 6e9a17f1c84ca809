"""Settings of inference: what is refused."""

from typing import Any

import pytest

from softiou.errors import ConfigError
from softiou.inference import WHOLE_IMAGE, InferenceSettings


def test_default_is_the_whole_image_once() -> None:
    assert InferenceSettings() == WHOLE_IMAGE
    assert WHOLE_IMAGE.window_px is None
    assert WHOLE_IMAGE.views == 1
    assert InferenceSettings(flips=True, scales=(0.5, 1, 2)).views == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window_px": (0, 4)}, r"`window_px` to be a height and a width .* but got \(0, 4\)"),
        ({"window_px": (4,)}, "`window_px`"),
        ({"overlap": 1.0}, r"`overlap` to be in \[0, 0.95\], but got 1.0"),
        ({"overlap": -0.1}, "`overlap`"),
        ({"overlap": float("nan")}, "`overlap`"),
        ({"scales": ()}, r"`scales` to be one or more positive factors, but got \(\)"),
        ({"scales": (1.0, 0.0)}, "`scales`"),
        ({"scales": (float("inf"),)}, "`scales`"),
        ({"batch_size": 0}, "`batch_size` to be at least 1, but got 0"),
    ],
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InferenceSettings(**values)
