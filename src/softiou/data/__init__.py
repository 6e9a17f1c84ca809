"""Data sets: folders of images and masks, embedded scenes, augmentation and checks."""

from pathlib import Path

from softiou.data.base import (
    Colour,
    DatasetDescription,
    Labels,
    Sample,
    SegmentationDataset,
    default_palette,
    truth,
)
from softiou.data.check import CheckReport, check_dataset
from softiou.data.digits import DIGIT_SPLITS, DigitScenes
from softiou.data.folder import FolderDataset
from softiou.data.fractions import parse_fractions, split_fractions, write_splits
from softiou.data.images import ImageDataset, ImageSample, open_images, open_unlabeled
from softiou.data.layout import data_folder, find_splits
from softiou.data.partly_labeled import PartlyLabeled, stems_by_folder
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import read_image, verify_readable
from softiou.data.soft_label_codes import Quantisation
from softiou.data.soft_label_reading import SoftLabelReader, interpolate_at
from softiou.data.soft_labels import Manifest, Normalisation, SoftLabelStore, Teacher
from softiou.data.transforms import Augmentation, Batch, DrawSampler, TrainingStream, collate
from softiou.data.unlabeled import StrongColours, UnlabeledBatch, UnlabeledStream
from softiou.data.views import View

__all__ = [
    "Augmentation",
    "Batch",
    "CheckReport",
    "Colour",
    "DataProblemsError",
    "DatasetDescription",
    "DigitScenes",
    "DrawSampler",
    "FolderDataset",
    "ImageDataset",
    "ImageSample",
    "Labels",
    "Manifest",
    "Normalisation",
    "PartlyLabeled",
    "Problem",
    "Quantisation",
    "Sample",
    "SegmentationDataset",
    "SoftLabelReader",
    "SoftLabelStore",
    "StrongColours",
    "Teacher",
    "TrainingStream",
    "UnlabeledBatch",
    "UnlabeledStream",
    "View",
    "available_splits",
    "check_dataset",
    "collate",
    "default_palette",
    "interpolate_at",
    "open_dataset",
    "open_images",
    "open_unlabeled",
    "parse_fractions",
    "read_image",
    "split_fractions",
    "stems_by_folder",
    "truth",
    "verify_readable",
    "write_splits",
]


def open_dataset(
    source: str | Path, split: str, *, labels: Labels = "auto", skip_corrupt: bool = False
) -> SegmentationDataset:
    """Open one split of a data set.

    Args:
        source: "digits" for the embedded scenes, or a folder with `dataset.yaml`; a folder of that
            name is "./digits".
        split: Name of the split; `available_splits` lists them.
        labels: "hard", "soft", "votes", "staple", or "auto": votes when there are several
            annotators, hard otherwise; see `FolderDataset`.
        skip_corrupt: Leave out the samples whose files cannot be decoded.

    Raises:
        DataError: There is no such folder or split, or its data cannot be used.
        ValueError: `labels` is none of these.
    """
    if source == "digits":
        return DigitScenes(split, labels=labels)
    return FolderDataset(data_folder(source), split, labels=labels, skip_corrupt=skip_corrupt)


def available_splits(source: str | Path) -> tuple[str, ...]:
    """Return the splits that have labels: train, val, test, then the others by name.

    Raises:
        DataError: There is no such folder.
    """
    return DIGIT_SPLITS if source == "digits" else find_splits(data_folder(source))
