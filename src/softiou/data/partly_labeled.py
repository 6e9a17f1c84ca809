"""Concatenate labelled and unlabelled images, for distillation.

Shapes: H and W in pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softiou.data.base import Sample, SegmentationDataset, whole
from softiou.data.images import ImageDataset
from softiou.data.names import Names, Paths


class PartlyLabeled(SegmentationDataset):
    """A labelled data set, followed by unlabelled images whose pixels are all ignored.

    Stems are FOLDER/STEM, because the images come from several folders, and `folder` is "".

    Args:
        labelled: The images with masks.
        unlabeled: The images without masks, from `open_unlabeled`.
    """

    def __init__(self, labelled: SegmentationDataset, unlabeled: ImageDataset) -> None:
        self._labelled = labelled
        self._unlabeled = unlabeled
        self.description = labelled.description
        self.split = labelled.split
        self.folder = ""
        self.labels = labelled.labels
        self.annotators = labelled.annotators
        self.bands = labelled.bands
        own = (f"{labelled.folder}/{stem}" for stem in labelled.stems)
        self.stems = Names(chain(own, unlabeled.stems))
        self.skipped = (*labelled.skipped, *unlabeled.skipped)
        self._like: Tensor | None = None  # one pixel, for dtype and leading dimensions

    def columns(self) -> tuple[Paths, ...]:
        """Return the files of the labelled samples only."""
        return self._labelled.columns()

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of a labelled sample; empty for an unlabelled one."""
        return self._labelled.files(index) if index < len(self._labelled) else ()

    def __getitem__(self, index: int) -> Sample:
        """Read the sample of an index; masks of the unlabelled images are never opened."""
        return whole(self.compact(index))

    def compact(self, index: int) -> Mapping[str, Any]:
        """Return a lazy sample; the target of an unlabelled image is an expanded ignored pixel."""
        index = range(len(self))[index]
        if index < len(self._labelled):
            return {**self._labelled.compact(index), "stem": self.stems[index]}
        image = self._unlabeled.stored(index - len(self._labelled))
        if self._like is None:
            self._like = self._labelled.compact(0)["target"][..., :1, :1]
        ignored = torch.full_like(self._like, self.description.ignore_index)
        target = ignored.expand(*self._like.shape[:-2], *image.shape[-2:])
        return {"image": image, "target": target, "stem": self.stems[index]}


def stems_by_folder(dataset: SegmentationDataset) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each folder of the images of a data set, with its stems."""
    if dataset.folder:
        yield dataset.folder, dataset.stems
        return
    for folder in dict.fromkeys(stem.partition("/")[0] for stem in dataset.stems):
        start = f"{folder}/"
        yield folder, Names(s[len(start) :] for s in dataset.stems if s.startswith(start))
