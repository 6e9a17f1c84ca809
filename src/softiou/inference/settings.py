"""Settings of inference: windows, flips and scales."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from softiou.data.base import is_huge
from softiou.errors import ConfigError

_WINDOW_PX = (1024, 1024)
_MOST_OVERLAP = 0.95  # then each pixel is in up to 400 windows


@dataclass(frozen=True)
class InferenceSettings:
    """Inference settings; the default is one pass over the whole image.

    Attributes:
        window_px: Height and width of a sliding window, for images that are too large for one
            pass; limited by the size of the image. None processes images of up to 2^24 pixels
            whole, and larger ones in windows of 1024 x 1024.
        overlap: Fraction of a window that overlaps with the next one, in [0, 0.95].
        flips: Whether to average over the image and its mirror image.
        scales: Positive scale factors; the probabilities are averaged at the original size.
        batch_size: Number of windows, or of images of equal size, per forward pass.

    Raises:
        ConfigError: A value is out of range.

    Note:
        Flips and scales are applied to each window: the network's input is a window of
        `window_px`, multiplied by the scale.
    """

    window_px: tuple[int, int] | None = None
    overlap: float = 0.5
    flips: bool = False
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.window_px is not None and not (
            len(self.window_px) == 2 and min(self.window_px) > 0
        ):
            raise ConfigError(
                f"Expected `window_px` to be a height and a width of at least 1 pixel, but got "
                f"{self.window_px}."
            )
        if not 0 <= self.overlap <= _MOST_OVERLAP:
            raise ConfigError(
                f"Expected `overlap` to be in [0, {_MOST_OVERLAP}], but got {self.overlap}."
            )
        if not self.scales or not all(0 < scale < float("inf") for scale in self.scales):
            raise ConfigError(
                f"Expected `scales` to be one or more positive factors, but got {self.scales}."
            )
        if self.batch_size < 1:
            raise ConfigError(f"Expected `batch_size` to be at least 1, but got {self.batch_size}.")

    @property
    def views(self) -> int:
        """Return the number of passes per window."""
        return len(self.scales) * (2 if self.flips else 1)

    @property
    def is_whole(self) -> bool:
        """Whether an image that is not huge is processed in one pass, as it is."""
        return self.window_px is None and self.views == 1 and self.scales == (1.0,)

    def of(self, size: Sequence[int]) -> "InferenceSettings":
        """Return the settings for an image (..., H, W), with windows if it is huge."""
        cut = self.window_px is None and is_huge(size)
        return replace(self, window_px=_WINDOW_PX) if cut else self


WHOLE_IMAGE = InferenceSettings()
