"""Open the training, validation and unlabelled data of a run."""

from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from softiou._processes import is_first
from softiou.configuration import Config
from softiou.configuration.data_sections import DataConfig
from softiou.data import (
    Bands,
    CustomDataset,
    DatasetDescription,
    DataSource,
    ImageDataset,
    SegmentationDataset,
    TargetKind,
    open_dataset,
    open_source,
    open_unlabeled,
)
from softiou.data.base import tie_note
from softiou.errors import ConfigError
from softiou.models import count_classes
from softiou.models.spec import CUSTOM
from softiou.recipes.building import check_labels, data_labels
from softiou.recipes.custom import CustomParts
from softiou.recipes.splits import apart


@dataclass(frozen=True)
class TrainingData:
    """The data sets of a run."""

    training: SegmentationDataset  # labelled images to train on
    validation: SegmentationDataset  # labelled images that select the best checkpoint
    unlabeled: ImageDataset | None = None  # images without labels, for recipes that use them
    notes: tuple[str, ...] = ()  # lines to print, such as images that are in several splits

    @property
    def num_unlabeled(self) -> int:
        """Return the number of images without labels."""
        return len(self.unlabeled) if self.unlabeled else 0


def open_labelled(config: Config, custom: CustomParts) -> TrainingData:
    """Open the labelled images, from the configuration or from custom data sets."""
    data, kind = config.data, config.labels.kind
    own = custom.train_dataset is not None and custom.val_dataset is not None
    source = data.source if own or data.source == "digits" else open_source(data.source)

    def opened(
        own: Dataset[Any] | None, split: str, labels: TargetKind, bands: Bands | None
    ) -> SegmentationDataset:
        if own is None:
            return open_dataset(
                source, split, labels=labels, skip_corrupt=data.skip_corrupt, bands=bands
            )
        if bands is not None and bands.numbers:
            raise ConfigError(
                "data.bands: your own data set determines its bands; remove this setting."
            )
        return CustomDataset(own, describe(custom, data), split)

    bands = bands_of(data)
    training = opened(custom.train_dataset, data.train_split, data_labels(kind), bands)
    if training.parents and kind == "auto":
        training = opened(None, data.train_split, "votes", training.bands)
    # The validation uses the original labels, however those for training are smoothed.
    known: TargetKind = "soft" if kind == "soft" else "auto"
    validation = opened(custom.val_dataset, data.val_split, known, training.bands)
    check_labels(config.labels, training)
    notes = []
    if kind in ("hard", "majority") and training.annotators == 2:
        notes = [tie_note(f"labels={kind} is", "labels=votes learns from both")]
    if custom.train_dataset is not None or custom.val_dataset is not None:
        return TrainingData(training, validation, notes=tuple(notes))
    if isinstance(source, DataSource) and source.note:
        notes.append(f"labels: {source.note}")
    training, found = apart(training, validation, source)
    return TrainingData(training, validation, notes=(*notes, *found))


def bands_of(data: DataConfig) -> Bands:
    """Return the bands that the settings choose."""
    ranges = tuple(data.band_ranges or ())
    return Bands(tuple(data.bands or ()), ranges, data.neighbours, data.axis or "")


def open_without_labels(data: DataConfig, folder: str | None, bands: Bands | None) -> ImageDataset:
    """Open a folder of unlabelled images, or DATA/unlabeled and images not in the split."""
    if data.source.startswith(CUSTOM):
        raise ConfigError(
            "Images without masks need a data set on disk, but both data sets are your own: remove "
            "`val_dataset`, and give the folder as data.source."
        )
    return open_unlabeled(
        data.source,
        data.train_split,
        folder=folder,
        evaluated=(data.val_split, "val", "test"),
        skip_corrupt=data.skip_corrupt,
        bands=bands,
        verify=data.verify and is_first(),  # one process checks for all
    )


def describe(custom: CustomParts, data: DataConfig) -> DatasetDescription:
    """Return the classes of custom data sets; if only one is custom, those of `data.source`."""
    train, classes = custom.train_dataset, custom.classes
    if train is None:
        return open_dataset(data.source, data.train_split).description
    if custom.val_dataset is None:
        return open_dataset(data.source, data.val_split).description
    classes = classes or getattr(train, "classes", None)
    if classes is None:
        if custom.model is None:
            raise ConfigError(
                "The classes of the data set are not known: name them with `classes`, or give the "
                "data set an attribute `classes`."
            )
        image = CustomDataset(train, DatasetDescription(("",)), "train")[0]["image"]
        classes = [f"class_{index}" for index in range(count_classes(custom.model, image))]
    return DatasetDescription(tuple(classes), ignore_index=custom.ignore_index)
