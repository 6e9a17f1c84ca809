"""Training augmentation, and an endless reproducible stream of augmented samples.

Shapes: N images, C classes, R annotators, H and W in pixels, h and w of the crop.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NotRequired, Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from softiou.data import native
from softiou.data.bands import missing
from softiou.data.base import Sample, SegmentationDataset
from softiou.data.coverage import mask_shares
from softiou.data.decoders import Picture
from softiou.data.drawings import Drawing
from softiou.data.repeating import repeated
from softiou.data.sensors import SensorNoise
from softiou.data.views import View
from softiou.data.warps import Warp, draw_grid


class SoftLabels(TypedDict, total=False):
    """Either `soft_indices` and `soft_weights` (K, h, w), or `soft_logits` (C, h / s, w / s)."""

    soft_indices: Tensor
    soft_weights: Tensor
    soft_logits: Tensor


class SoftLabelSource(Protocol):
    """Reads a teacher's soft labels, such as `softiou.soft_labels.SoftLabelReader`."""

    @property
    def stride(self) -> int:
        """Return the stride of the logits; 1 for labels of pixels."""

    def read(self, stem: str, view: View, image: Picture) -> SoftLabels:
        """Read the soft labels for a view of an image, uint8 (3, H, W) or bands."""


class AugmentedSample(Sample, SoftLabels):
    """A crop of an image with its target, and with a teacher's soft labels if there are any.

    `inside` is bool (h, w), False where the crop is outside the image; `strong` (1, 3, h, w) is a
    strongly augmented view of the same pixels.
    """

    inside: Tensor
    strong: NotRequired[Tensor]


@dataclass(frozen=True)
class Augmentation:
    """Random scaling, cropping, rotation and colour changes; the output has size `crop_px`.

    Images are resized bilinearly with antialiasing, targets (hard and soft) with nearest neighbour;
    with `coverage`, hard targets become the share of each class by area. Rotation and elastic
    deformation follow, see `Warp`. Outside the image, the crop is padded with the ImageNet mean and
    the target with `ignore_index`. Random numbers come from torch's global CPU generator.

    Args:
        crop_px: (h, w) of the output.
        scale: Smallest and largest scale factor before cropping.
        flip: Probability of mirroring left to right.
        colour: Largest relative change of brightness, contrast and saturation; 0 for none.
        vertical_flip: Probability of mirroring top to bottom.
        quarter_turns: Whether to rotate by 0, 90, 180 or 270 degrees with equal probability.
        rotation: Largest rotation angle in either direction, in degrees.
        elastic: Largest displacement of an elastic deformation, relative to the shorter side.
        sensor: Gamma, blur, channel dropout and noise of the image.
        ignore_index: Label value of padded pixels.
        coverage: C, to return the targets (C, h, w) of covered shares, see `mask_shares` and
            `Drawing.shares`; None for nearest-neighbour labels.
        bands: Whether images are chosen bands: then only brightness and contrast change, and
            pixels with a missing value are ignored.

    Raises:
        ValueError: An argument is out of range.
    """

    crop_px: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    colour: float = 0.3
    vertical_flip: float = 0.0
    quarter_turns: bool = False
    rotation: float = 0.0
    elastic: float = 0.0
    sensor: SensorNoise = field(default_factory=SensorNoise)
    ignore_index: int = 255
    coverage: int | None = None
    bands: bool = False

    def __post_init__(self) -> None:
        if min(self.crop_px) < 1:
            raise ValueError(f"Expected `crop_px` to be positive, but got {self.crop_px}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"Expected 0 < smallest <= largest `scale`, but got {self.scale}.")
        for name in ("flip", "colour", "vertical_flip", "elastic"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"Expected `{name}` to be in [0, 1], but got {value}.")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"Expected `rotation` to be in [0, 180], but got {self.rotation}.")

    def __call__(
        self, sample: Mapping[str, Any], soft_labels: SoftLabelSource | None = None
    ) -> AugmentedSample:
        """Return an augmented sample; the original is unchanged, and read only inside the view."""
        size = (int(sample["image"].shape[-2]), int(sample["image"].shape[-1]))
        view, warp = self.draw(*size)
        image, target = view.image(sample["image"]), self._target(sample, view, size)
        inside = view.inside(size)
        if self.bands:
            gone = missing(image)
            target, inside = target.masked_fill(gone, self.ignore_index), inside & ~gone
        crop = {"image": image, "target": target, "stem": sample["stem"], "inside": inside}
        stride = 1
        if soft_labels is not None:
            crop |= soft_labels.read(sample["stem"], view, sample["image"])
            stride = soft_labels.stride
        augmented = cast(AugmentedSample, warp(crop, stride=stride))
        augmented["image"] = self.sensor(self._coloured(augmented["image"]))
        return augmented

    def _coloured(self, image: Tensor) -> Tensor:
        if self.bands:
            return brighter(image, self.colour)
        if self.colour > 0 and len(image) in (1, 3):
            return native.jittered(image, self.colour)
        return image

    def _target(self, sample: Mapping[str, Any], view: View, size: tuple[int, int]) -> Tensor:
        """Return the target of a view of an image of size (H, W)."""
        top, bottom, left, right = box = view.box(size)
        target: Tensor = sample["target"][..., top:bottom, left:right]
        if self.coverage is None or target.ndim > 2:
            if target.dtype == torch.uint8 and not 0 <= self.ignore_index < 256:
                target = target.long()
            labels = view.within(box).labels(target, fill=self.ignore_index)
            return labels if labels.is_floating_point() else labels.long()
        if "drawing" in sample:
            return cast(Drawing, sample["drawing"]).shares(view, size)
        classes, ignored = self.coverage, self.ignore_index
        return mask_shares(target, view, size, num_classes=classes, ignore_index=ignored)

    def draw(self, height: int, width: int) -> tuple[View, Warp]:
        """Draw the view of an image (height, width), and the warp that follows.

        For a rotation or a deformation, the view is larger than the crop.
        """
        turns = int(torch.randint(4, ())) if self.quarter_turns else 0
        crop = self.crop_px[::-1] if turns % 2 else self.crop_px
        scale = torch.empty(()).uniform_(*self.scale).item()
        sides = [max(1, round(side / scale)) for side in crop]
        places = [_between(0, height - sides[0]), _between(0, width - sides[1])]
        flip = bool(torch.rand(()) < self.flip)
        upside_down = self.vertical_flip > 0 and bool(torch.rand(()) < self.vertical_flip)
        grid, larger = draw_grid(crop, rotation=self.rotation, elastic=self.elastic)
        if grid is not None:
            wider = [round(a * b / c) for a, b, c in zip(sides, larger, crop, strict=True)]
            places = [a - (b - c) // 2 for a, b, c in zip(places, wider, sides, strict=True)]
            sides = wider
        view = View(places[0], places[1], sides[0], sides[1], larger, flip)
        return view, Warp(grid, larger, turns, upside_down)


def brighter(image: Tensor, strength: float) -> Tensor:
    """Randomly change brightness and contrast of bands (B, h, w): x -> b (m + c (x - m)).

    b and c are uniform in 1 +- strength, and m is the mean of all values.
    """
    brightness, contrast = torch.empty(2).uniform_(1 - strength, 1 + strength).tolist()
    return torch.lerp(image.nanmean(), image, contrast).mul_(brightness)


def _between(one: int, other: int) -> int:
    """Draw an integer between two numbers, inclusive."""
    return int(torch.randint(min(one, other), max(one, other) + 1, ()).item())


class TrainingStream(Dataset[AugmentedSample]):
    """An endless stream of augmented samples, indexed by the number of the draw.

    Draw d takes position d % L of the random order of epoch d // L, and is augmented with its own
    random state. So it depends only on (seed, d): any number of workers, and a training resumed at
    draw d, see the same samples. The state of the global generators is restored. With `factors`,
    an epoch has some samples several times, and others not at all.

    Args:
        dataset: Data set of L samples.
        augmentation: Augmentation of each sample.
        seed: Non-negative seed.
        random_rater: Whether to use the mask of one random annotator instead of all votes.
        soft_labels: Reader of a teacher's soft labels, or None.
        strong: Creates a strongly augmented view of each crop, uint8 (3, h, w); or None.
        factors: How often to draw each sample (L,), relative to the others; None for equally often.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augmentation: Callable[[Any, SoftLabelSource | None], AugmentedSample],
        *,
        seed: int,
        random_rater: bool = False,
        soft_labels: SoftLabelSource | None = None,
        strong: Callable[[Tensor], Tensor] | None = None,
        factors: NDArray[np.float64] | None = None,
    ) -> None:
        self._strong = strong
        self._factors = factors
        self._repeated = (-1, np.empty(0, np.int64))  # the last epoch, and its samples
        self._dataset = dataset
        self._augmentation = augmentation
        self._seed = seed
        self._random_rater = random_rater
        self._soft_labels = soft_labels

    def __getitem__(self, draw: int) -> AugmentedSample:
        """Return the augmented sample of a draw."""
        index = self._index(draw)
        own = not isinstance(self._augmentation, Augmentation)  # a custom one may expect int64
        sample: Any = self._dataset[index] if own else self._dataset.compact(index)
        with random_state_of(self._seed, draw):
            if self._random_rater:
                sample = _of_one_rater(sample)
            augmented = self._augmentation(sample, self._soft_labels)
            if self._strong is not None:
                augmented["strong"] = self._strong(augmented["image"]).unsqueeze(0)
            return augmented

    def _index(self, draw: int) -> int:
        """Return the sample index of a draw."""
        length = len(self._dataset)
        index = drawn_index(self._seed, draw, length)
        if self._factors is None:
            return index
        epoch = draw // length
        if epoch != self._repeated[0]:
            self._repeated = epoch, repeated(self._factors, seed=(self._seed, 3, epoch))
        return int(self._repeated[1][index])


def _of_one_rater(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the mask of one random annotator of (R, H, W)."""
    masks = sample["target"][..., :, :]
    return {**sample, "target": masks[int(torch.randint(len(masks), ()).item())]}


def drawn_index(seed: int, draw: int, length: int) -> int:
    """Return the sample index of a draw: each sample once per epoch, in random order."""
    epoch, position = divmod(draw, length)
    return int(_epoch_order(seed, epoch, length)[position])


@contextmanager
def random_state_of(seed: int, draw: int) -> Iterator[None]:
    """Seed the CPU generator for one draw, and restore its state afterwards."""
    state = np.random.SeedSequence((seed, 1, draw)).generate_state(1, np.uint64)
    # torch.manual_seed and fork_rng would initialise the devices as well.
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(int(state[0]))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


@lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the random order of one epoch."""
    return np.random.default_rng((seed, 0, epoch)).permutation(length)


class DrawSampler(Sampler[int]):
    """Draw numbers of a part of the training, distributed over the ranks.

    Each rank takes blocks of `batch_size` consecutive draws. Together, the ranks draw exactly
    start, ..., start + count - 1, equally many each if `world_size * batch_size` divides `count`.

    Example:
        >>> list(DrawSampler(10, 6, rank=1, world_size=2))
        [11, 13, 15]
    """

    def __init__(
        self, start: int, count: int, *, rank: int = 0, world_size: int = 1, batch_size: int = 1
    ) -> None:
        if start < 0 or count < 0:
            raise ValueError(
                f"Expected `start` and `count` to be at least 0, but got {start} and {count}."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"Expected `rank` to be in 0..{world_size - 1}, but got {rank}.")
        stop = start + count
        begins = range(start + rank * batch_size, stop, batch_size * world_size)
        self._batches = [range(begin, min(begin + batch_size, stop)) for begin in begins]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._batches)

    def __len__(self) -> int:
        return sum(map(len, self._batches))


class Batch(SoftLabels):
    """A batch: the tensors of a sample with a leading batch dimension.

    `image` uint8 (N, 3, h, w), `target` (N, h, w), (N, R, h, w) or (N, C, h, w), `stem`; for
    augmented samples also `inside`, and perhaps soft labels and strong views.
    """

    image: Tensor
    target: Tensor
    stem: list[str]
    inside: NotRequired[Tensor]
    strong: NotRequired[Tensor]


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Stack samples of equal size; soft labels with fewer slots are padded with zeros.

    Raises:
        ValueError: The sizes differ.
    """
    sizes = {tuple(sample["image"].shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            f"Expected images of one size (H, W) in a batch, but got {sorted(sizes)}. Crop them "
            "with an Augmentation, or use batches of one image."
        )
    batch: Any = {"stem": [sample["stem"] for sample in samples]}
    for key in samples[0]:
        if key not in ("stem", "drawing"):
            batch[key] = torch.stack(_of_equal_depth([sample[key] for sample in samples]))
    return cast(Batch, batch)


def _of_equal_depth(values: list[Tensor]) -> list[Tensor]:
    """Pad the first dimension with zeros: K, the number of sparse soft labels, may differ."""
    depth = max(len(value) for value in values)
    return [
        torch.cat([value, value.new_zeros(depth - len(value), *value.shape[1:])])
        if len(value) < depth
        else value
        for value in values
    ]
