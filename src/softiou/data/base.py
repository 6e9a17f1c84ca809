"""The interface of all data sets: a description, stems and samples.

Shapes: C classes, R annotators, H and W in pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, Self, TypeAlias, TypedDict, cast, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from softiou._screen import visible
from softiou.data.bands import Bands
from softiou.data.colours import Colour as Colour
from softiou.data.colours import default_palette as default_palette
from softiou.data.drawings import Drawing
from softiou.data.names import Paths
from softiou.targets import vote_shares

_PIECE_PX = 1 << 20  # counting takes many times the memory of uint8 labels
HUGE_PX = 1 << 24

TargetKind: TypeAlias = Literal["auto", "hard", "soft", "votes", "staple"]


@dataclass(frozen=True)
class DatasetDescription:
    """What the labels of a data set mean.

    Args:
        classes: Names of the classes; the position of a name is its class index.
        ignore_index: Label value of pixels that are ignored.
        palette: One RGB colour per class, 0..255; empty means a default one.

    Raises:
        ValueError: No classes, a control character in a name, or a palette of another length.

    Example:
        >>> description = DatasetDescription(("background", "nodule"))
        >>> description.num_classes, description.palette
        (2, ((0, 0, 0), (230, 159, 0)))
    """

    classes: tuple[str, ...]
    ignore_index: int = 255
    palette: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("Expected `classes` to name at least one class, but got none.")
        if any(visible(name) != name for name in self.classes):
            names = ", ".join(visible(name) for name in self.classes if visible(name) != name)
            raise ValueError(
                f"Expected `classes` to be names without control characters, but got {names}. "
                "Write them on one line of letters."
            )
        if not self.palette:
            object.__setattr__(self, "palette", default_palette(self.classes))
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"Expected `palette` to have one colour for each of the {len(self.classes)} "
                f"classes, but got {len(self.palette)}. Leave it out for a default palette."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `as_dict`; other entries are ignored.

        Raises:
            KeyError, TypeError, ValueError: Entries are missing, or of another kind.
        """
        return cls(
            classes=tuple(values["classes"]),
            ignore_index=int(values["ignore_index"]),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and checkpoints."""
        return {
            "classes": list(self.classes),
            "palette": [list(colour) for colour in self.palette],
            "ignore_index": self.ignore_index,
        }

    @property
    def num_classes(self) -> int:
        """Return C."""
        return len(self.classes)

    @property
    def ignores_a_class(self) -> bool:
        """Return whether `ignore_index` is the index of a class, which is then always ignored."""
        return 0 <= self.ignore_index < self.num_classes


class Sample(TypedDict):
    """One image with its labels.

    `image` is uint8 (3, H, W), or float32 (B, H, W) of chosen bands. `target` is int64 (H, W) when
    hard, int64 (R, H, W) when it holds the votes of annotators; when soft it is float32 (C, H, W),
    sums to 1 over C, and an ignored pixel has all its C entries equal to `ignore_index`. `drawing`
    has the shapes of an annotation file, if the target comes from one.
    """

    image: Tensor
    target: Tensor
    stem: str
    drawing: NotRequired[Drawing]


def whole(sample: Mapping[str, Any]) -> Sample:
    """Read all of a sample of `SegmentationDataset.compact`."""
    image, target = sample["image"][..., :, :], sample["target"][..., :, :]
    target = target.contiguous() if target.is_floating_point() else target.long().contiguous()
    return cast(Sample, {**sample, "image": image.contiguous(), "target": target})


def is_huge(size: Sequence[int]) -> bool:
    """Return whether an image of (..., H, W) has more than 2^24 pixels: it is read in windows."""
    return int(size[-2]) * int(size[-1]) > HUGE_PX


class SegmentationDataset(Dataset[Sample], ABC):
    """Images with labels, addressed by number.

    Attributes:
        description: What the labels mean.
        split: Name of the split, such as "train".
        folder: Of its images, which other splits may share; stems are unique within it.
        labels: Kind of the targets: "hard", "soft", "votes" or "staple"; never "auto".
        annotators: R, number of annotators of each image.
        parents: Whether some labels name no class, but several that a pixel may be of.
        bands: That the images have; None for RGB, or what a data set of one's own has.
        stems: A name for every sample, unique within the split; as a tuple, in less memory.
        skipped: Stems that were left out because their files cannot be read.
    """

    description: DatasetDescription
    split: str
    folder: str
    labels: TargetKind
    annotators: int = 1
    parents: bool = False
    bands: Bands | None = None
    stems: Sequence[str]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.stems)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Return a sample, always the same one for an index."""

    def compact(self, index: int) -> Mapping[str, Any]:
        """Return a sample of any integer type, or read where [..., rows, columns] are indexed."""
        return self[index]

    @abstractmethod
    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of a sample; none when it is made in memory."""

    def columns(self) -> tuple[Paths, ...]:
        """Return the first file of all samples, the second, and so on."""
        return tuple(
            Paths(column) for column in zip(*map(self.files, range(len(self))), strict=False)
        )


class EvaluatedSamples(Dataset[Sample]):
    """Whole samples of a data set; but huge images and their hard labels as `compact` has them."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Sample:
        """Return a sample."""
        sample = self._dataset.compact(index)
        stored = is_huge(sample["image"].shape) and self._dataset.labels == "hard"
        return cast(Sample, sample) if stored else whole(sample)


def check_labels(labels: TargetKind) -> None:
    """Raise unless `labels` is a `TargetKind`."""
    if labels not in get_args(TargetKind):
        kinds = ", ".join(repr(kind) for kind in get_args(TargetKind))
        raise ValueError(
            f"Expected `labels` to be one of {kinds}, but got {labels!r}. Hard labels are smoothed "
            "in the loss or by the recipe."
        )


def tie_note(what: str, instead: str) -> str:
    """Say what the majority of two annotators is."""
    return (
        f"two annotators: {what} the lower class wherever they differ, so that of a class beside "
        f"background only their intersection is left; {instead}"
    )


def truth(target: Tensor, description: DatasetDescription) -> Tensor:
    """Return the target that predictions are scored against: votes become their shares.

    Args:
        target: Of one sample.
        description: Of its data set.

    Returns:
        Class indices (H, W), or probabilities (C, H, W) as in a soft `Sample`.
    """
    if target.is_floating_point() or target.ndim == 2:
        return target
    probs, valid = vote_shares(
        target.unsqueeze(0),
        num_classes=description.num_classes,
        ignore_index=description.ignore_index,
    )
    return probs[0].where(valid[0], description.ignore_index)


def valid_pixels(target: Tensor, description: DatasetDescription) -> Tensor:
    """Return which pixels of a target of `truth` are not ignored, bool (H, W)."""
    valid = target != description.ignore_index
    return valid.any(0) if target.is_floating_point() else valid


def count_classes(labels: Tensor, description: DatasetDescription) -> Tensor:
    """Count the pixels of each class (C,) in class indices of any shape, in little memory."""
    none = torch.zeros(description.num_classes, dtype=torch.int64)
    return sum(
        (
            piece[piece != description.ignore_index].bincount(minlength=len(none))
            for piece in torch.split(labels.flatten(), _PIECE_PX)
        ),
        start=none,
    )


def class_difference(classes: Sequence[str], expected: Sequence[str]) -> str | None:
    """Describe the first difference between two lists of classes, None for equal ones.

    Example:
        >>> class_difference(["road", "car"], ["road", "bus"])
        "'car' as class 1 instead of 'bus'"
    """
    if len(classes) != len(expected):
        return f"{len(classes)} classes instead of {len(expected)}"
    pairs = zip(classes, expected, strict=True)
    return next(
        (f"{a!r} as class {i} instead of {b!r}" for i, (a, b) in enumerate(pairs) if a != b), None
    )
