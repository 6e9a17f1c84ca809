"""Unlabelled images for training: a weak view for the teacher, strong views for the student.

Shapes: N images, V strong views, h and w of the crop in pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from softiou.data.bands import missing
from softiou.data.images import ImageDataset
from softiou.data.transforms import (
    Augmentation,
    SoftLabels,
    SoftLabelSource,
    brighter,
    drawn_index,
    random_state_of,
)

_BLUR_PX = (0.1, 2.0)  # sigma, as in SimCLR and what followed it
_BLUR_KERNEL_PX = 9  # four sigma of the widest blur, and centred
_HUE = 0.5  # of the strength of the other changes; more would hide the colour of the class
_JITTER = 0.8  # share of the views whose colours are changed


class UnlabeledBatch(SoftLabels):
    """Crops of images that have no labels, perhaps with a teacher's soft labels.

    `image`, the weak views, is uint8 (N, 3, h, w); `strong` (N, V, 3, h, w) shows the same pixels
    with other colours; `inside` is bool (N, h, w), False where a crop reaches beyond the image.
    """

    image: Tensor
    strong: Tensor
    inside: Tensor
    stem: list[str]


@dataclass(frozen=True)
class StrongColours:
    """Strong changes of colours and sharpness that keep the geometry.

    Colour jitter (of brightness, contrast, saturation, half as much of hue) for 80 % of the views,
    then grey, then a Gaussian blur with a sigma of 0.1 to 2 pixels. Random numbers come from
    torch's global CPU generator.

    Args:
        colour: Largest relative change of the colours, in [0, 1].
        grey: Share of the views without colour.
        blur: Share of the views that are blurred.
        bands: Whether images are chosen bands, whose brightness and contrast alone change.
    """

    colour: float = 0.5
    grey: float = 0.2
    blur: float = 0.5
    bands: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return a changed copy of an image, uint8 (3, h, w), or of bands."""
        blurred = v2.RandomApply([v2.GaussianBlur(_BLUR_KERNEL_PX, _BLUR_PX)], p=self.blur)
        if self.bands:
            image = brighter(image, self.colour)
            return cast(Tensor, blurred(image))
        jitter = v2.ColorJitter(self.colour, self.colour, self.colour, _HUE * self.colour)
        change = v2.Compose(
            [v2.RandomApply([jitter], p=_JITTER), v2.RandomGrayscale(p=self.grey), blurred]
        )
        return cast(Tensor, change(image))


class UnlabeledStream(Dataset[Mapping[str, Any]]):
    """An endless stream of views of unlabelled images, addressed by the number of the draw.

    As in `TrainingStream` a draw depends on (seed, draw) alone, and every image comes once per
    epoch of the unlabelled images, however many labelled ones there are.

    Args:
        images: The unlabelled images.
        augmentation: Draws the weak view, without changing its colours.
        strong: Makes the strong views from the weak one.
        views: V, at least 1.
        seed: Zero or larger.
        soft_labels: Reads a teacher's soft labels; None for none.
    """

    def __init__(
        self,
        images: ImageDataset,
        augmentation: Augmentation,
        strong: StrongColours,
        *,
        views: int,
        seed: int,
        soft_labels: SoftLabelSource | None = None,
    ) -> None:
        self._images = images
        self._soft_labels = soft_labels
        self._augmentation = augmentation
        self._strong = strong
        self._views = views
        # Another seed than for the labelled images, whose draws have the same numbers.
        self._seed = int(np.random.SeedSequence((seed, 2)).generate_state(1)[0])

    def __getitem__(self, draw: int) -> Mapping[str, Any]:
        """Return the views of a draw, as in `UnlabeledBatch` without N."""
        index = drawn_index(self._seed, draw, len(self._images))
        image, stem = self._images.stored(index), self._images.stems[index]
        size = (int(image.shape[-2]), int(image.shape[-1]))
        with random_state_of(self._seed, draw):
            view, warp = self._augmentation.draw(*size)
            weak, inside, stride = view.image(image), view.inside(size), 1
            if weak.is_floating_point():
                inside &= ~missing(weak)
            crop: dict[str, Any] = {"image": weak, "inside": inside, "stem": stem}
            if self._soft_labels is not None:
                crop |= self._soft_labels.read(stem, view, image)
                stride = self._soft_labels.stride
            views = warp(crop, stride=stride)
            weak = views["image"]
            return views | {"strong": torch.stack([self._strong(weak) for _ in range(self._views)])}
