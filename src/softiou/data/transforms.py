"""Training augmentation, and the endless repeatable stream of augmented samples.

Shapes: N images, C classes, H and W in pixels, h and w of the crop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from softiou.data.base import Sample, SegmentationDataset

# The mean that encoders subtract, so padding becomes zero inside the model.
_IMAGENET_MEAN = [124, 116, 104]


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, flip and colours; the output has exactly the size of the crop.

    Images are resized bilinearly with antialiasing, targets (hard and soft) with the nearest
    neighbour. Where the crop reaches beyond the image, the image is padded with the ImageNet mean
    and the target with `ignore_index`. All chance comes from torch's global CPU generator.

    Args:
        crop_px: (h, w) of the output.
        scale: Smallest and largest enlargement before cropping.
        flip: Probability of mirroring left to right.
        colour: Largest relative change of brightness, contrast and saturation; 0 for none.
        ignore_index: Label value of padded pixels.

    Raises:
        ValueError: An argument is out of range.
    """

    crop_px: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    colour: float = 0.3
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if min(self.crop_px) < 1:
            raise ValueError(f"Expected `crop_px` to be positive, but got {self.crop_px}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"Expected 0 < smallest <= largest `scale`, but got {self.scale}.")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"Expected `flip` to be in [0, 1], but got {self.flip}.")
        if not 0 <= self.colour <= 1:
            raise ValueError(f"Expected `colour` to be in [0, 1], but got {self.colour}.")

    def __call__(self, sample: Sample) -> Sample:
        """Augment one sample; it is not changed itself."""
        top, left, height, width = self._window(*sample["image"].shape[-2:])
        window = {"top": top, "left": left, "height": height, "width": width}
        image = F.resize(
            _cut(sample["image"], fill=_IMAGENET_MEAN, **window), self.crop_px, antialias=True
        )
        target = _resize_nearest(
            _cut(sample["target"], fill=self.ignore_index, **window), self.crop_px
        )
        colours = v2.ColorJitter(self.colour, self.colour, self.colour)
        image, target = v2.Compose([v2.RandomHorizontalFlip(self.flip), colours])(
            tv_tensors.Image(image), tv_tensors.Mask(target)
        )
        return {
            "image": image.as_subclass(Tensor),
            "target": target.as_subclass(Tensor),
            "stem": sample["stem"],
        }

    def _window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw the part of the image that becomes the crop: top, left, height, width.

        Cutting it out before resizing equals resizing first, and costs the size of the crop alone.
        """
        scale = torch.empty(()).uniform_(*self.scale).item()
        window_height, window_width = (max(1, round(side / scale)) for side in self.crop_px)
        top = _between(0, height - window_height)
        left = _between(0, width - window_width)
        return top, left, window_height, window_width


def _between(one: int, other: int) -> int:
    """Draw an integer between two, both included."""
    return int(torch.randint(min(one, other), max(one, other) + 1, ()).item())


def _cut(
    picture: Tensor, *, top: int, left: int, height: int, width: int, fill: int | list[int]
) -> Tensor:
    """Cut a window out of (..., H, W), with `fill` where it reaches beyond."""
    rows, columns = picture.shape[-2:]
    before = [max(0, -left), max(0, -top)]
    behind = [max(0, left + width - columns), max(0, top + height - rows)]
    inside = picture[..., max(0, top) : top + height, max(0, left) : left + width]
    if not any(before + behind):
        return inside
    # (H, W) -> (1, H, W): the padding of torchvision wants channels.
    padded: Tensor = F.pad(inside.unsqueeze(0), before + behind, fill=fill)
    return padded.squeeze(0)


def _resize_nearest(target: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (..., H, W) to the label at the centre of each new pixel.

    The masks of torchvision take the label at its corner instead, half a pixel off the image.
    """
    rows, columns = (
        ((torch.arange(new) + 0.5) * (old / new)).long().clamp(max=old - 1)
        for new, old in zip(size, target.shape[-2:], strict=True)
    )
    return target.index_select(-2, rows).index_select(-1, columns)


class TrainingStream(Dataset[Sample]):
    """An endless stream of augmented samples, addressed by the number of the draw.

    Draw d takes position d % L in the random order of epoch d // L and augments it with chance of
    its own, so it depends on (seed, d) alone: any number of workers, and training that resumes
    at draw d, see the same samples. The global generators are left as they were.

    Args:
        dataset: Where the samples come from, L of them.
        augmentation: What is done to each of them.
        seed: Zero or larger.
    """

    def __init__(
        self, dataset: SegmentationDataset, augmentation: Augmentation, *, seed: int
    ) -> None:
        self._dataset = dataset
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(self, draw: int) -> Sample:
        """Return the augmented sample of a draw."""
        length = len(self._dataset)
        epoch, position = divmod(draw, length)
        sample = self._dataset[int(_epoch_order(self._seed, epoch, length)[position])]
        chance = np.random.SeedSequence((self._seed, 1, draw)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed the devices, which are not forked here.
            torch.default_generator.manual_seed(int(chance[0]))
            return self._augmentation(sample)


@lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the random order of one epoch."""
    return np.random.default_rng((seed, 0, epoch)).permutation(length)


class DrawSampler(Sampler[int]):
    """The numbers of the draws of a part of the training, dealt out to the processes in turn.

    Together the ranks draw exactly start, ..., start + count - 1. Their numbers of draws are equal
    when `world_size` divides `count`.

    Args:
        start: First draw.
        count: Number of draws of all ranks together.
        rank: Which process this is, 0..world_size-1.
        world_size: Number of processes.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> list(DrawSampler(10, 6, rank=1, world_size=2))
        [11, 13, 15]
    """

    def __init__(self, start: int, count: int, *, rank: int = 0, world_size: int = 1) -> None:
        if start < 0 or count < 0:
            raise ValueError(
                f"Expected `start` and `count` to be at least 0, but got {start} and {count}."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"Expected `rank` to be in 0..{world_size - 1}, but got {rank}.")
        self._draws = range(start + rank, start + count, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._draws)

    def __len__(self) -> int:
        return len(self._draws)


class Batch(TypedDict):
    """Several samples: `image` uint8 (N, 3, H, W), `target` (N, H, W) or (N, C, H, W), `stem`."""

    image: Tensor
    target: Tensor
    stem: list[str]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size.

    Raises:
        ValueError: The sizes differ.
    """
    sizes = {tuple(sample["image"].shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            f"Expected images of one size (H, W) in a batch, but got {sorted(sizes)}. Crop them "
            "with an Augmentation, or use batches of one image."
        )
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "target": torch.stack([sample["target"] for sample in samples]),
        "stem": [sample["stem"] for sample in samples],
    }
