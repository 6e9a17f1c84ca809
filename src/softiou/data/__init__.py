"""Data sets of images and masks, the embedded digits, views and augmentation."""

from softiou._moved import moved_names
from softiou.data.bands import Bands
from softiou.data.base import (
    Colour,
    DatasetDescription,
    Sample,
    SegmentationDataset,
    TargetKind,
    default_palette,
    truth,
)
from softiou.data.custom import CustomDataset
from softiou.data.custom_transform import CustomAugmentation
from softiou.data.digits import DigitScenes
from softiou.data.dividing import divide_images
from softiou.data.folder import FolderDataset
from softiou.data.fractions import parse_fractions, split_fractions, write_splits
from softiou.data.images import ImageDataset, ImageSample, open_images, open_unlabeled
from softiou.data.opening import available_splits, open_dataset
from softiou.data.partly_labeled import PartlyLabeled, stems_by_folder
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import read_image
from softiou.data.repeating import repeat_factors
from softiou.data.source import HELD_OUT, DataSource, open_source
from softiou.data.source_names import absolute_source, source_name
from softiou.data.transforms import Augmentation, Batch, DrawSampler, TrainingStream, collate
from softiou.data.unlabeled import StrongColours, UnlabeledBatch, UnlabeledStream
from softiou.data.verifying import verify_readable
from softiou.data.views import View

__all__ = [
    "HELD_OUT",
    "Augmentation",
    "Bands",
    "Batch",
    "Colour",
    "CustomAugmentation",
    "CustomDataset",
    "DataProblemsError",
    "DataSource",
    "DatasetDescription",
    "DigitScenes",
    "DrawSampler",
    "FolderDataset",
    "ImageDataset",
    "ImageSample",
    "PartlyLabeled",
    "Problem",
    "Sample",
    "SegmentationDataset",
    "StrongColours",
    "TargetKind",
    "TrainingStream",
    "UnlabeledBatch",
    "UnlabeledStream",
    "View",
    "absolute_source",
    "available_splits",
    "collate",
    "default_palette",
    "divide_images",
    "open_dataset",
    "open_images",
    "open_source",
    "open_unlabeled",
    "parse_fractions",
    "read_image",
    "repeat_factors",
    "source_name",
    "split_fractions",
    "stems_by_folder",
    "truth",
    "verify_readable",
    "write_splits",
]

__getattr__ = moved_names(
    __name__,
    {
        "softiou.data": "Labels:TargetKind",
        "softiou.checking": "CheckReport FixReport check_dataset fix_dataset",
        "softiou.soft_labels": "Manifest Normalisation Quantisation SoftLabelReader "
        "SoftLabelStore Teacher interpolate_at",
    },
)
