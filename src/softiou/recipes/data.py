"""What a run learns from: opened for the trainer, completed by a recipe."""

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

    training: SegmentationDataset  # images with labels, to learn from
    validation: SegmentationDataset  # images with labels that choose the best checkpoint
    unlabeled: ImageDataset | None = None  # images without labels, for recipes that learn from some
    # What is to be said of the splits, such as images that several of them hold.
    notes: tuple[str, ...] = ()

    @property
    def num_unlabeled(self) -> int:
        """Return how many images without labels there are."""
        return len(self.unlabeled) if self.unlabeled else 0


def open_labelled(config: Config, custom: CustomParts) -> TrainingData:
    """Open the images with labels: those of the configuration, or data sets of one's own."""
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
                "data.bands: your own data set says which bands it has; leave it out."
            )
        return CustomDataset(own, describe(custom, data), split)

    bands = bands_of(data)
    training = opened(custom.train_dataset, data.train_split, data_labels(kind), bands)
    if training.parents and kind == "auto":
        training = opened(None, data.train_split, "votes", training.bands)
    # However the labels are softened, all that is known of the images chooses the checkpoint.
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
    """Return the bands of the images, as far as they are chosen."""
    ranges = tuple(data.band_ranges or ())
    return Bands(tuple(data.bands or ()), ranges, data.neighbours, data.axis or "")


def open_without_labels(data: DataConfig, folder: str | None, bands: Bands | None) -> ImageDataset:
    """Open the images without labels: a folder, or DATA/unlabeled and what the split leaves out."""
    if data.source.startswith(CUSTOM):
        raise ConfigError(
            "Images without masks come from a data set on disk, and both data sets are your own: "
            "leave `val_dataset` out, and give the folder as data.source."
        )
    return open_unlabeled(
        data.source,
        data.train_split,
        folder=folder,
        evaluated=(data.val_split, "val", "test"),
        skip_corrupt=data.skip_corrupt,
        bands=bands,
        verify=data.verify and is_first(),  # for all
    )


def describe(custom: CustomParts, data: DataConfig) -> DatasetDescription:
    """Return the classes of data sets of one's own: those of `data.source` beside only one."""
    train, classes = custom.train_dataset, custom.classes
    if train is None:
        return open_dataset(data.source, data.train_split).description
    if custom.val_dataset is None:
        return open_dataset(data.source, data.val_split).description
    classes = classes or getattr(train, "classes", None)
    if classes is None:
        if custom.model is None:
            raise ConfigError(
                "The data set does not say which classes it has: name them with `classes`, or give "
                "it an attribute `classes`."
            )
        image = CustomDataset(train, DatasetDescription(("",)), "train")[0]["image"]
        classes = [f"class_{index}" for index in range(count_classes(custom.model, image))]
    return DatasetDescription(tuple(classes), ignore_index=custom.ignore_index)
