"""Data sets of image and mask files, in any layout.

Shapes: R annotators, C classes, H and W in pixels.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from softiou.data.bands import BandImage, Bands, Box, measured, missing
from softiou.data.base import Sample, SegmentationDataset, TargetKind, check_labels, truth, whole
from softiou.data.decoders import Picture
from softiou.data.drawings import Drawing
from softiou.data.files import SampleFiles
from softiou.data.names import Paths, Rows
from softiou.data.problems import DataProblemsError, Problem, data_error
from softiou.data.reading import stored_image
from softiou.data.source import DataSource, open_source
from softiou.data.verifying import unreadable
from softiou.data.volumes import SLICE, volume_at
from softiou.targets import staple, vote_shares

_ROWS = 512  # rows read at a time


class FolderDataset(SegmentationDataset):
    """A data set of image and mask files, with one mask per image or one per annotator.

    If an annotator has no mask of an image, all of its pixels are ignored for this annotator.

    `splits/NAME.txt` (one stem per line) restricts the split NAME to the listed images; if there
    is no folder NAME, it lists images of `train`.

    Args:
        source: Folder with `dataset.yaml`, or LAYOUT:/path; see `open_source`.
        split: Name of the split.
        labels: "hard" gives class indices, the majority of several annotators (ties go to the
            lowest index). "votes" gives the masks of all annotators, "soft" the share of each class
            among those who did not ignore the pixel, "staple" its probability given the estimated
            reliability of the annotators (see `softiou.targets.staple`). "auto" is votes for
            several annotators, hard for one. A parent class has a vote for each child, and is
            ignored if hard.
        skip_corrupt: Whether to skip samples whose files cannot be decoded (see `skipped`);
            otherwise reading one raises.
        bands: Bands of the images; missing ranges are measured. None for RGB.

    Raises:
        DataError: The data set has errors; the message names files, values and remedies.
    """

    def __init__(
        self,
        source: str | Path | DataSource,
        split: str,
        *,
        labels: TargetKind = "auto",
        skip_corrupt: bool = False,
        bands: Bands | None = None,
    ) -> None:
        opened = open_source(source)
        samples, problems = opened.samples(split)
        if problems:
            raise DataProblemsError(*problems)
        self.samples = samples
        bands = (bands or Bands(())).of(samples[0].image)
        if skip_corrupt:
            broken = unreadable((samples.images, *samples.masks), bands)
            self.skipped = tuple(samples.stems[row] for row in sorted({row for row, _ in broken}))
            if len(self.skipped) == len(samples):
                raise DataProblemsError(*(problem for _, problem in broken))
            self.samples = self.without(self.skipped).samples
        self.description = opened.description
        self.split = split
        self.folder = opened.folder(split)
        self.stems = self.samples.stems
        check_labels(labels)
        self.annotators = len(samples.masks)
        self.labels = labels
        if labels == "auto":
            self.labels = "votes" if self.annotators > 1 else "hard"
        self._mask_reader = opened.mask_reader()
        self.parents = bool(self._mask_reader.parents)
        if self.parents and self.annotators > 1:
            message = f"Expected one mask for each image, because of `parents`, but {split} has "
            message += f"{self.annotators} annotators."
            raise data_error(opened.root, message, "Remove `parents` from dataset.yaml.")
        if bands is not None and not bands.ranges:
            bands = measured(self.samples.images, bands)
        self.bands = bands

    def without(self, stems: Collection[str]) -> Self:
        """Return the data set without some of its images."""
        rows = self.samples.stems.rows(stems)
        return self.at(np.setdiff1d(np.arange(len(self.samples)), rows))

    def at(self, rows: Rows) -> Self:
        """Return the data set restricted to some rows."""
        some = copy(self)
        some.samples = self.samples.at(rows)
        some.stems = some.samples.stems
        return some

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of the image and its masks."""
        sample: SampleFiles = self.samples[index]
        return sample.paths

    def columns(self) -> tuple[Paths, ...]:
        """Return the files of the images, and of the masks of each annotator."""
        return (self.samples.images, *self.samples.masks)

    def __getitem__(self, index: int) -> Sample:
        """Read the sample of an index."""
        return whole(self.compact(index))

    def compact(self, index: int) -> Mapping[str, Any]:
        """Return a lazy sample; its arrays are read when they are indexed, as uint8 if possible."""
        files: SampleFiles = self.samples[index]
        sample: dict[str, Any] = {"stem": files.stem}
        if self.bands is None:
            sample["image"] = stored_image(files.image)
        else:
            sample["image"] = BandImage(files.image, self.bands)
        sample["target"] = StoredTarget(self, index, files, sample["image"])
        if isinstance(files.masks[0], Drawing):
            sample["drawing"] = files.masks[0]
            if self.bands is None:  # `coverage` needs only the shapes
                sample["target"] = sample["target"][..., :, :]
        return sample

    def target(
        self, files: SampleFiles, size: Sequence[int] | None = None, box: Box | None = None
    ) -> Tensor:
        """Read a target or a box of it, and check its size against `size` (H, W) if given."""
        within = None if self.labels == "staple" else box  # STAPLE needs all pixels
        votes = self.parents and self.labels != "hard"
        masks: list[Tensor] = []
        for mask in files.masks:
            found, own = self._mask_reader.part(mask, within, votes=votes)
            if size and (problem := size_problem(mask, own, files.image, size)):
                raise DataProblemsError(problem)
            masks += found if votes else [found]
        for _ in range(self.annotators - len(masks)):  # annotators who skipped the image
            masks.append(torch.full_like(masks[0], self.description.ignore_index))
        target = self._target(torch.stack(masks) if len(masks) > 1 else masks[0].unsqueeze(0))
        return target[..., *box] if box and not within else target

    def _target(self, masks: Tensor) -> Tensor:
        """Combine the masks (R, H, W) of the annotators into one target."""
        if self.labels == "votes":
            return masks
        if self.labels == "soft":
            return truth(masks, self.description)
        if self.labels == "hard" and len(masks) == 1:
            return masks[0]
        ignore_index = self.description.ignore_index
        join = staple if self.labels == "staple" else vote_shares
        probs, valid = join(
            masks.unsqueeze(0), num_classes=self.description.num_classes, ignore_index=ignore_index
        )
        # (1, C, H, W) -> (C, H, W), or the first maximum -> (H, W)
        target = probs[0].argmax(dim=0) if self.labels == "hard" else probs[0]
        return target.where(valid[0], ignore_index)


class StoredTarget:  # not a dataclass, see Drawing
    """The lazy target of an image; pixels with a missing band value are ignored."""

    def __init__(
        self, dataset: FolderDataset, row: int, files: SampleFiles, image: Picture
    ) -> None:
        self.dataset, self.row, self.files, self.image = dataset, row, files, image

    def __reduce__(self) -> Any:  # pickle only one row of the file list
        return StoredTarget, (self.dataset.at(np.array([self.row])), 0, self.files, self.image)

    def labels(self) -> Tensor:
        """Return the whole hard label map (H, W), with little memory besides the result."""
        size, ignore_index = self.image.shape[-2:], self.dataset.description.ignore_index
        found = self.dataset.target(self.files, size, (slice(0, size[0]), slice(0, size[1])))
        if self.dataset.bands is None:
            return found
        for top in range(0, size[0], _ROWS):
            rows = slice(top, top + _ROWS)
            found[rows].masked_fill_(missing(self.image[:, rows]), ignore_index)
        return found

    def __getitem__(self, place: tuple[Any, ...]) -> Tensor:
        target = self.dataset.target(self.files, self.image.shape[-2:], place[-2:])
        if self.dataset.bands is None:
            return target
        gone = missing(self.image[place])
        return target.masked_fill(gone, self.dataset.description.ignore_index)


def stored_target(sample: Sample) -> Tensor:
    """Return the whole target of a sample, even if its huge image is read lazily."""
    target: Tensor | StoredTarget = sample["target"]
    return target.labels() if isinstance(target, StoredTarget) else target


def size_problem(
    mask_path: Path | Drawing, mask_size: Sequence[int], image_path: Path, size: Sequence[int]
) -> Problem | None:
    """Report a mask whose size (H, W) differs from that of its image."""
    if isinstance(mask_path, Path) and mask_path.suffix == image_path.suffix == SLICE:
        return volume_at(mask_path.parent).difference(volume_at(image_path.parent))
    height, width = size
    mask_height, mask_width = mask_size
    if (mask_height, mask_width) == (height, width):
        return None
    message = f"Expected the size of {image_path.name}, {width}x{height} (width x height), but "
    message += f"found {mask_width}x{mask_height}."
    if (mask_height, mask_width) == (width, height):
        remedy = "The image may have an EXIF rotation that the mask lacks: rotate the mask."
    else:
        remedy = "Resize the mask with nearest neighbour, or replace it."
    return Problem(str(mask_path), message, remedy, kind="size_mismatch")
