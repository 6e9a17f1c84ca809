"""Views of unlabelled images: a weak one for the teacher, strong ones for the student.

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

_BLUR_PX = (0.1, 2.0)  # sigma, as in SimCLR
_BLUR_KERNEL_PX = 9  # four sigma of the widest blur, odd
_HUE = 0.5  # relative to the other changes; more would hide the colour of the class
_JITTER = 0.8  # probability of colour jitter


class UnlabeledBatch(SoftLabels):
    """A batch of unlabelled crops, perhaps with a teacher's soft labels.

    `image`, the weak views, is uint8 (N, 3, h, w); `strong` (N, V, 3, h, w) shows the same pixels
    with other colours; `inside` is bool (N, h, w), False where a crop is outside the image.
    """

    image: Tensor
    strong: Tensor
    inside: Tensor
    stem: list[str]


@dataclass(frozen=True)
class StrongColours:
    """Strong augmentation of colours and sharpness; the geometry is unchanged.

    Colour jitter with probability 0.8 (brightness, contrast, saturation, and hue at half strength),
    then random grey, then Gaussian blur with a sigma of 0.1 to 2 pixels. Random numbers come from
    torch's global CPU generator.

    Args:
        colour: Largest relative change of colours, in [0, 1].
        grey: Probability of a grey view.
        blur: Probability of a blurred view.
        bands: Whether images are chosen bands: then only brightness and contrast change.
    """

    colour: float = 0.5
    grey: float = 0.2
    blur: float = 0.5
    bands: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return an augmented copy of an image, uint8 (3, h, w), or of bands."""
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
    """An endless stream of views of unlabelled images, indexed by the number of the draw.

    As in `TrainingStream`, a draw depends only on (seed, draw). Every image occurs once per epoch
    of the unlabelled images, independently of the number of labelled images.

    Args:
        images: The unlabelled images.
        augmentation: Draws the weak view; its colours are not changed.
        strong: Creates the strong views from the weak one.
        views: V, the number of strong views, at least 1.
        seed: Non-negative seed.
        soft_labels: Reader of a teacher's soft labels, or None.
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
        # A different seed, because the labelled images use the same draw numbers.
        self._seed = int(np.random.SeedSequence((seed, 2)).generate_state(1)[0])

    def __getitem__(self, draw: int) -> Mapping[str, Any]:
        """Return the views of a draw, as in `UnlabeledBatch` without the batch dimension."""
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
