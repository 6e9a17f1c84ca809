"""How large settings may be: a run beyond would fit on no machine, or would not end."""

from collections.abc import Iterator
from typing import Any

_NUMBERS = (-1e9, 1e9, "float32 has no digits left for more")
_SIDE = (1, 16_384, "a larger crop fits in no memory")
_TEMPERATURE = (0.01, 100, "beyond, a softmax is one-hot or uniform")
_LIMITS: dict[str, tuple[float, float, str]] = {
    "crop_px": _SIDE,
    "teacher_px": _SIDE,
    "scale": (0.05, 20, "beyond, nothing of an image is left to learn from"),
    "blur": (0, 16, "the time grows with it, and nothing is left to see"),
    "batch_size": (1, 65_536, "more images fit in no memory; optim.accumulate adds up batches"),
    "workers": (0, 256, "more loading processes wait for each other"),
    "accumulate": (1, 10_000, "a step of more batches takes days"),
    "validations": (1, 1_000_000, "more take longer than the training"),
    "width": (1, 256, "objects are no larger, and the time grows with it"),
    "sigma": (0.05, 16, "the time of a Gaussian grows with the square of it and its width"),
    "temperature": _TEMPERATURE,
    "channel_wise_temperature": _TEMPERATURE,
    "seed": (0, 2**32, "it has 32 bits"),
}
MOST_PIXELS = 1 << 28  # of a batch, in all of its images


def check_limits(name: str, value: Any) -> None:
    """Raise ValueError when a number in the value of a setting is beyond what makes sense."""
    least, most, reason = _LIMITS.get(name, _NUMBERS)
    for number in _numbers(value):
        if not least <= number <= most:
            low = "" if name not in _LIMITS else f"{least:.10g} to "
            raise ValueError(f"expected {low or 'at most '}{most:.10g}, because {reason}")


def check_batch(crop_px: Any, batch_size: Any) -> None:
    """Raise ValueError when the images of a batch have too many pixels together."""
    if "auto" in (crop_px, batch_size):
        return
    pixels = batch_size * crop_px[0] * crop_px[1]
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"batch_size x crop_px is {pixels:,} pixels, and more than {MOST_PIXELS:,} fit in no "
            "memory: lower one, and raise optim.accumulate instead"
        )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
