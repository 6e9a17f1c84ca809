"""Limits of numeric settings: larger values would not fit in memory, or take too long."""

from collections.abc import Iterator
from typing import Any

_NUMBERS = (-1e9, 1e9, "larger numbers lose their precision in float32")
_SIDE = (1, 16_384, "a larger crop fits in no memory")
_TEMPERATURE = (0.01, 100, "outside this range a softmax is one-hot or uniform")
_LIMITS: dict[str, tuple[float, float, str]] = {
    "crop_px": _SIDE,
    "teacher_px": _SIDE,
    "scale": (0.05, 20, "outside this range no content of the image is left"),
    "blur": (0, 16, "a larger blur is slow and removes all detail"),
    "batch_size": (1, 65_536, "more images do not fit in memory; use optim.accumulate"),
    "workers": (0, 256, "more loading processes only wait for each other"),
    "accumulate": (1, 10_000, "a step of more batches takes days"),
    "validations": (1, 1_000_000, "more validations take longer than the training"),
    "width": (1, 256, "objects are not larger, and the time grows with the width"),
    "sigma": (0.05, 16, "the time grows with the square of sigma and of the width"),
    "temperature": _TEMPERATURE,
    "channel_wise_temperature": _TEMPERATURE,
    "seed": (0, 2**32, "a seed has 32 bits"),
}
MOST_PIXELS = 1 << 28  # in all images of a batch together


def check_limits(name: str, value: Any) -> None:
    """Raise ValueError when a number in the value of a setting is outside its limits."""
    least, most, reason = _LIMITS.get(name, _NUMBERS)
    for number in _numbers(value):
        if not least <= number <= most:
            low = "" if name not in _LIMITS else f"{least:.10g} to "
            raise ValueError(f"expected {low or 'at most '}{most:.10g}, because {reason}")


def check_batch(crop_px: Any, batch_size: Any) -> None:
    """Raise ValueError when the images of a batch have more than MOST_PIXELS pixels together."""
    if "auto" in (crop_px, batch_size):
        return
    pixels = batch_size * crop_px[0] * crop_px[1]
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"batch_size x crop_px is {pixels:,} pixels, but more than {MOST_PIXELS:,} do not fit "
            "in memory: lower one of them, and raise optim.accumulate instead"
        )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
