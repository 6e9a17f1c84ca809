"""What one sample holds, in numbers, and what is wrong with its files.

Shapes: R annotators, C classes, H and W in pixels.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softiou.checking.labels import fit, look_at_labels
from softiou.checking.pictures import Picture, look_at_picture
from softiou.data.base import DatasetDescription
from softiou.data.files import SampleFiles
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import MaskReader

_DIGEST_BYTES = 8


@dataclass(frozen=True)
class Contents:
    """What a sample that can be used holds.

    Attributes:
        size: (H, W).
        pixels: Pixels of each class (C,), over all annotators.
        ignored: Pixels that do not count, over all annotators.
        judged: Pixels that no annotator ignored.
        agreed: Those of them where all annotators say the same.
        digest: Equal for equal masks.
    """

    size: tuple[int, int]
    pixels: NDArray[np.int64]
    ignored: int
    judged: int
    agreed: int
    digest: bytes


@dataclass(frozen=True)
class Look:
    """What is found in the files of a sample.

    Attributes:
        contents: None when it cannot be used.
        picture: Digest of the image; None when it is blank or cannot be read.
        values: For every mask that holds numbers, which ones.
        problems: All that is wrong, and what is suspicious.
    """

    contents: Contents | None
    picture: bytes | None
    values: tuple[tuple[int, ...], ...]
    problems: tuple[Problem, ...]


def look_at(files: SampleFiles, reader: MaskReader) -> Look:
    """Read all files of a sample, even when the first one is bad already."""
    problems: list[Problem] = []
    picture: Picture | None = None
    try:
        picture = look_at_picture(files.image)
        problems += picture.problems
    except DataProblemsError as error:
        problems += error.problems
    found = [look_at_labels(path, reader) for path in files.masks]
    for path, labels in zip(files.masks, found, strict=True):
        problems += labels.problems
        if picture and labels.target is not None:
            problems += fit(path, tuple(labels.target.shape), files.image, picture)
    contents = None
    if not any(problem.severity == "error" for problem in problems):
        masks = torch.stack([labels.target for labels in found if labels.target is not None])
        contents = count(masks, reader.description)
    return Look(
        contents,
        picture.digest if picture else None,
        tuple(labels.values for labels in found if labels.values),
        tuple(problems),
    )


def count(masks: Tensor, description: DatasetDescription) -> Contents:
    """Count the pixels of the masks (R, H, W) by class."""
    counts = masks != description.ignore_index
    judged = masks.masked_select(counts)  # indexing would list the places of all pixels first
    pixels = torch.bincount(judged, minlength=description.num_classes)
    by_all = counts.all(dim=0)
    return Contents(
        size=(masks.shape[1], masks.shape[2]),
        pixels=pixels.numpy(),
        ignored=masks.numel() - len(judged),
        judged=int(by_all.sum()),
        agreed=int((by_all & (masks == masks[0]).all(dim=0)).sum()),
        digest=hashlib.blake2b(masks.numpy().data, digest_size=_DIGEST_BYTES).digest(),
    )
