"""Open the data and the files of a job, and read its inference settings."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset, Subset

from softiou._processes import loading_processes, own_share
from softiou.errors import CheckpointError, ConfigError
from softiou.inference import InferenceSettings, Precision, best_device
from softiou.jobs.trained import RunLike, as_trained

if TYPE_CHECKING:
    from softiou._screen import Progress
    from softiou.calibration import Calibration
    from softiou.checkpoints import TrainedModel, Weights
    from softiou.data import Sample, SegmentationDataset, TargetKind
    from softiou.exporting import Exported


def inference_settings(
    window: int | tuple[int, int] | None,
    *,
    overlap: float,
    flips: bool,
    scales: float | Sequence[float],
    batch_size: int,
) -> InferenceSettings:
    """Return the inference settings; one number means a square window, or one scale."""
    return InferenceSettings(
        window_px=(window, window) if isinstance(window, int) else window,
        overlap=overlap,
        flips=flips,
        scales=(float(scales),) if isinstance(scales, int | float) else tuple(scales),
        batch_size=batch_size,
    )


def labels_for(trained: "TrainedModel | Exported", labels: "TargetKind") -> "TargetKind":
    """Return the labels to evaluate against; "auto" is soft for a model trained on soft labels."""
    config = getattr(trained, "config", {})  # an exported file has none
    was_taught_softly = config.get("labels", {}).get("kind") == "soft"
    return "soft" if labels == "auto" and was_taught_softly else labels


def default_data(
    run: RunLike, data: "str | Path | Dataset[Any] | None", split: str | None
) -> tuple[str, str]:
    """Return the data set (default: that of the run) and the split (default: test, or val)."""
    from softiou.data import available_splits

    if isinstance(data, Dataset):
        return f"python:{type(data).__module__}.{type(data).__qualname__}", split or "val"
    source = str(data) if data is not None else as_trained(run).config.data.source
    if split is None:
        split = "test" if "test" in available_splits(source) else val_split(run)
    return source, split


def val_split(run: RunLike) -> str:
    """Return the split that chose the best checkpoint; "val" outside a run directory."""
    trained = as_trained(run)
    return "val" if trained.directory is None else trained.config.data.val_split


def usable_calibration(trained: "TrainedModel", say: Callable[[str], None]) -> "Calibration | None":
    """Return the calibration of a checkpoint, or None with a message if it does not match."""
    from softiou.calibration import load_calibration

    try:
        return load_calibration(trained)
    except CheckpointError as error:
        say(f"not calibrated: {error}")
        return None


def open_for(
    trained: "TrainedModel | Exported",
    data: str | Path,
    split: str,
    labels: "TargetKind",
    *,
    own: "Dataset[Any] | None" = None,
) -> "SegmentationDataset":
    """Open a split, or the user's own data set, and check that its classes are the model's."""
    from softiou.checkpoints import check_classes
    from softiou.data import CustomDataset, open_dataset

    if own is not None:
        return CustomDataset(own, trained.description, split)
    dataset = open_dataset(data, split, labels=labels_for(trained, labels), bands=trained.bands)
    check_classes(trained.path, trained.description, dataset.description, data=str(data))
    return dataset


def open_file(
    path: Path, precision: Precision, progress: "Progress", *, weights: "Weights", trust: bool
) -> "Exported":
    """Open an exported file; its weights, precision and calibration are fixed."""
    from softiou.exporting import open_exported

    if precision != "fp32" and path.suffix.lower() != ".safetensors":
        raise ConfigError(f"--precision {precision}: {path} computes in fp32. Omit the option.")
    exported = open_exported(path, device=best_device(), precision=precision, trust=trust)
    if weights == "teacher" and exported.info.weights != "teacher":
        raise ConfigError(
            f"--model teacher: {path} contains the weights of the {exported.info.weights}. Export "
            "the teacher with: softiou export RUN --model teacher."
        )
    if exported.info.scaling is not None:
        progress.say(f"calibrated: {exported.info.scaling.kind}, included in {path.name}")
    return exported


def loaded(
    dataset: "SegmentationDataset", progress: "Progress", *, description: str
) -> "Iterable[Sample]":
    """Return the samples of this rank in order, loaded by other processes.

    A CPU needs one, as it is busy with the model; for a GPU one loads too slowly.
    """
    from softiou.data import CustomDataset
    from softiou.data.base import EvaluatedSamples
    from softiou.training.workers import Loader

    workers = 1 if best_device().type == "cpu" else loading_processes()
    if isinstance(dataset, CustomDataset):
        workers = 0  # an object may not be picklable
    own = own_share(len(dataset))
    read = Subset(EvaluatedSamples(dataset), own)
    samples = Loader(read, batch_size=None, workers=workers, say=progress.say)
    return progress.track(samples, total=len(own), description=description)
