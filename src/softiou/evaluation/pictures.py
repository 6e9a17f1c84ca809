"""Pictures of an evaluation: thumbnails of all images, and some images in full size.

Shapes: (H, W) the image, (h, w) its thumbnail.
"""

import heapq
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from softiou.data import Colour
from softiou.inference import encode_image, index_image

THUMBNAIL_PX = 320


@dataclass(frozen=True)
class Example:
    """One image with its target and prediction, class indices (H, W) in uint8 or int32."""

    stem: str
    miou: float
    image: Tensor
    target: Tensor
    preds: Tensor

    def files(self, palette: tuple[Colour, ...]) -> dict[str, bytes]:
        """Return the contents of STEM.image.jpg, STEM.target.png and STEM.preds.png."""
        return {
            "image.jpg": encode_image(_picture(self.image), "JPEG"),
            "target.png": encode_image(index_image(self.target, palette), "PNG"),
            "preds.png": encode_image(index_image(self.preds, palette), "PNG"),
        }


def thumbnail(
    image: Tensor,
    target: Tensor,
    preds: Tensor,
    confidence: Tensor,
    palette: tuple[Colour, ...],
) -> dict[str, bytes]:
    """Return an image, its class maps and its uncertainty, at most 320 px long.

    Args:
        image: (B, H, W), uint8 or floating in [0, 1]; its first three bands are shown.
        target: Class indices (H, W); the ignored index stays.
        preds: Class indices (H, W).
        confidence: Probability of the predicted class (H, W), in [0, 1].
        palette: Colours of the classes.

    Returns:
        Contents of the files image.jpg, target.png, preds.png and uncertainty.png, the last in
        grey levels of 1 - confidence.
    """
    height, width = image.shape[-2:]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # The eye distinguishes no more than sixteen levels, which take a third of the bytes.
    levels = ((1 - confidence.float()).clamp(0, 1) * 15).round() * 17
    uncertainty = Image.fromarray(levels.byte().cpu().numpy())
    nearest = Image.Resampling.NEAREST
    return {
        "image.jpg": encode_image(_picture(image).resize(size), "JPEG", quality=80),
        "target.png": encode_image(index_image(target, palette).resize(size, nearest), "PNG"),
        "preds.png": encode_image(index_image(preds, palette).resize(size, nearest), "PNG"),
        "uncertainty.png": encode_image(uncertainty.resize(size, nearest), "PNG"),
    }


class Examples:
    """Keeps only the images with the highest and lowest mIoU in memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._high: list[tuple[float, int, Example]] = []
        self._low: list[tuple[float, int, Example]] = []
        self._seen = 0

    def offer(
        self, stem: str, miou: float | None, image: Tensor, target: Tensor, preds: Tensor
    ) -> None:
        """Keep an image if it is among the best or worst so far."""
        self._seen += 1
        if miou is None or self.size == 0:
            return
        wanted = [
            (heap, key)
            for heap, key in ((self._high, miou), (self._low, -miou))
            if len(heap) < self.size or key > heap[0][0]
        ]
        example = Example(stem, miou, image, target.cpu(), preds.cpu()) if wanted else None
        for heap, key in wanted:
            if example is not None:
                heapq.heappush(heap, (key, self._seen, example))
            if len(heap) > self.size:
                heapq.heappop(heap)

    def best(self) -> tuple[Example, ...]:
        """Return the highest, the best first."""
        return tuple(e for _, _, e in sorted(self._high, key=lambda item: -item[0]))

    def worst(self) -> tuple[Example, ...]:
        """Return the lowest, without those among the best of a small data set."""
        best = {e.stem for e in self.best()}
        ranked = sorted(self._low, key=lambda item: -item[0])
        return tuple(e for _, _, e in ranked if e.stem not in best)


def _picture(image: Tensor) -> Image.Image:
    """Return the first three bands as RGB, or one band in grey."""
    shown = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    if shown.is_floating_point():
        shown = (shown.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(shown.permute(1, 2, 0).contiguous().cpu().numpy())
