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

_PIECE_PX = 1 << 20  # bincount needs many times the memory of uint8 labels
HUGE_PX = 1 << 24

TargetKind: TypeAlias = Literal["auto", "hard", "soft", "votes", "staple"]


@dataclass(frozen=True)
class DatasetDescription:
    """The classes of a data set.

    Args:
        classes: Names of the classes; the position of a name is its class index.
        ignore_index: Label value of pixels that are ignored.
        palette: One RGB colour per class, 0..255; empty for the default palette.

    Raises:
        ValueError: No classes, a control character in a name, or a palette of the wrong length.

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
                "Remove these characters."
            )
        if not self.palette:
            object.__setattr__(self, "palette", default_palette(self.classes))
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"Expected `palette` to have one colour for each of the {len(self.classes)} "
                f"classes, but got {len(self.palette)}. Omit it for the default palette."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Invert `as_dict`; unknown entries are ignored.

        Raises:
            KeyError, TypeError, ValueError: An entry is missing or invalid.
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

    `image` is uint8 (3, H, W), or float32 (B, H, W) for chosen bands. `target` is int64 (H, W) if
    hard, int64 (R, H, W) for the votes of annotators, and float32 (C, H, W) if soft: then it sums
    to 1 over C, and all C entries of an ignored pixel equal `ignore_index`. `drawing` has the
    shapes of an annotation file, if the target was drawn from one.
    """

    image: Tensor
    target: Tensor
    stem: str
    drawing: NotRequired[Drawing]


def whole(sample: Mapping[str, Any]) -> Sample:
    """Read the whole image and target of a sample of `SegmentationDataset.compact`."""
    image, target = sample["image"][..., :, :], sample["target"][..., :, :]
    target = target.contiguous() if target.is_floating_point() else target.long().contiguous()
    return cast(Sample, {**sample, "image": image.contiguous(), "target": target})


def is_huge(size: Sequence[int]) -> bool:
    """Return whether a size (..., H, W) exceeds 2^24 pixels, so that it is read in windows."""
    return int(size[-2]) * int(size[-1]) > HUGE_PX


class SegmentationDataset(Dataset[Sample], ABC):
    """Images with labels, indexed by number.

    Attributes:
        description: Classes, ignored label and palette.
        split: Name of the split, such as "train".
        folder: Name of the folder of its images; stems are unique within a folder.
        labels: Kind of the targets: "hard", "soft", "votes" or "staple"; never "auto".
        annotators: R, the number of annotators of each image.
        parents: Whether some labels name a parent, which stands for any of several classes.
        bands: Bands of the images; None for RGB, and for a custom data set.
        stems: Name of each sample, unique within the split.
        skipped: Stems that were skipped because their files cannot be read.
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
        """Return the sample of an index; equal at every call."""

    def compact(self, index: int) -> Mapping[str, Any]:
        """Return a sample whose arrays may be lazy, or of any integer type."""
        return self[index]

    @abstractmethod
    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of a sample; empty if it is generated in memory."""

    def columns(self) -> tuple[Paths, ...]:
        """Return the first files of all samples, then the second files, and so on."""
        return tuple(
            Paths(column) for column in zip(*map(self.files, range(len(self))), strict=False)
        )


class EvaluatedSamples(Dataset[Sample]):
    """Samples for evaluation: read whole, except huge images with hard labels, which stay lazy."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Sample:
        """Return the sample of an index."""
        sample = self._dataset.compact(index)
        stored = is_huge(sample["image"].shape) and self._dataset.labels == "hard"
        return cast(Sample, sample) if stored else whole(sample)


def check_labels(labels: TargetKind) -> None:
    """Raise unless `labels` is a `TargetKind`."""
    if labels not in get_args(TargetKind):
        kinds = ", ".join(repr(kind) for kind in get_args(TargetKind))
        raise ValueError(
            f"Expected `labels` to be one of {kinds}, but got {labels!r}. To smooth hard labels, "
            "use the loss or the recipe."
        )


def tie_note(what: str, instead: str) -> str:
    """Explain how the majority of two annotators breaks ties."""
    return (
        f"two annotators: {what} the lower class index where they differ, so of a class over "
        f"background only the intersection of both remains; {instead}"
    )


def truth(target: Tensor, description: DatasetDescription) -> Tensor:
    """Return the target for evaluation: votes become probabilities.

    Args:
        target: Target of one sample.
        description: Description of its data set.

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
    """Return the valid pixels of a target returned by `truth`, bool (H, W)."""
    valid = target != description.ignore_index
    return valid.any(0) if target.is_floating_point() else valid


def count_classes(labels: Tensor, description: DatasetDescription) -> Tensor:
    """Count the pixels of each class (C,) in class indices of any shape."""
    none = torch.zeros(description.num_classes, dtype=torch.int64)
    return sum(
        (
            piece[piece != description.ignore_index].bincount(minlength=len(none))
            for piece in torch.split(labels.flatten(), _PIECE_PX)
        ),
        start=none,
    )


def class_difference(classes: Sequence[str], expected: Sequence[str]) -> str | None:
    """Describe the first difference between two lists of classes; None if they are equal.

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
