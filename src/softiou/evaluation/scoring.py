"""Scoring a model on every image of a data set, each at its own resolution.

Shapes: C classes, (H, W) the image.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor

import softiou
from softiou.calibration import Calibration
from softiou.data import DatasetDescription, Sample, SegmentationDataset, truth
from softiou.errors import CheckpointError
from softiou.evaluation import content as contents
from softiou.evaluation.pictures import Example, Examples, thumbnail
from softiou.evaluation.statistics import Gathered
from softiou.inference import (
    WHOLE_IMAGE,
    InferenceSettings,
    Precision,
    predict_logits,
    predict_probs,
)
from softiou.metrics import ImageStatistics, confusion_counts
from softiou.metrics.truth import top_label
from softiou.models import SegmentationModel
from softiou.temperature import LogitScaling

SCHEMA_VERSION = 2
NUM_THUMBNAILS = 1000


@dataclass(frozen=True)
class Evaluation:
    """The content of evaluation.json, and the pictures that go with it.

    Attributes:
        content: See `softiou.evaluation`.
        statistics: The sums of every image that the figures follow from.
        best: Images with the highest mIoU.
        worst: Those with the lowest.
        thumbnails: By stem, contents of the files that `pictures.thumbnail` names.
        description: Classes of the data set.
    """

    content: dict[str, Any]
    statistics: ImageStatistics
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
    thumbnails: dict[str, dict[str, bytes]]
    description: DatasetDescription

    @property
    def metrics(self) -> dict[str, float | None]:
        """The headline figures, per cent."""
        metrics: dict[str, float | None] = self.content["metrics"]
        return metrics


def evaluate(
    model: SegmentationModel,
    dataset: SegmentationDataset,
    *,
    precision: Precision,
    data: str,
    checkpoint: str,
    inference: InferenceSettings = WHOLE_IMAGE,
    checkpoint_sha256: str = "",
    calibration: Calibration | None = None,
    calibration_path: str = "",
    num_examples: int = 4,
    samples: Iterable[Sample] | None = None,
) -> Evaluation:
    """Score a model on every image of a data set.

    Args:
        model: In eval mode, on the device to use.
        dataset: What to score on.
        precision: Of the network.
        data: Name of the data set, for the record.
        checkpoint: Name of the checkpoint, for the record.
        inference: Windows, flips and scales; whole images by default.
        checkpoint_sha256: Hash of its file, so that another one of the same name is told apart.
        calibration: Of the checkpoint, best fitted on other data: reported before and after.
        calibration_path: Where it came from, for the record.
        num_examples: How many best and worst images to keep.
        samples: The samples of `dataset`, perhaps wrapped by a progress bar or a loader.

    Returns:
        Scores over the data set, per class and per image, with intervals.

    Raises:
        CheckpointError: The model predicts NaN.
    """
    scaling = None if calibration is None else calibration.scaling
    description, device = dataset.description, model.mean.device
    plain = Gathered(description, dataset.labels).to(device)
    same_masks = scaling is None or scaling.kind == "temperature"
    calibrated = Gathered(description, None, boundaries=not same_masks).to(device)
    confusion = torch.zeros(2 * [description.num_classes], dtype=torch.int64)
    examples, thumbnails = Examples(num_examples), dict[str, dict[str, bytes]]()
    known: list[dict[str, Any]] = []
    every = -(-len(dataset) // NUM_THUMBNAILS)
    for number, sample in enumerate(dataset if samples is None else samples):
        probs, scaled = _probs(model, sample["image"], precision, inference, scaling)
        if not bool(probs.isfinite().all()):
            raise CheckpointError(
                f"{checkpoint} predicts NaN for {sample['stem']}: its training has diverged. "
                "Evaluate an earlier checkpoint, or train with a lower optim.learning_rate."
            )
        confidence, preds = probs.max(0)
        target = truth(sample["target"], description).to(device)
        masks = sample["target"].to(device)
        miou = plain.add(probs, preds, target, masks)
        confusion += _confusion(preds, target, description).cpu()
        if scaled is not None:
            calibrated.add(scaled, scaled.argmax(0), target, masks)
        confidence, preds = confidence.cpu(), preds.cpu()
        shown = _shown(target, description).cpu()
        examples.offer(sample["stem"], contents.per_cent(miou), sample["image"], shown, preds)
        if number % every == 0:
            pictures = thumbnail(sample["image"], shown, preds, confidence, description.palette)
            thumbnails[sample["stem"]] = pictures
        known.append(_known(sample))
    best, worst = examples.best(), examples.worst()
    statistics = plain.statistics()
    content = {
        "schema_version": SCHEMA_VERSION,
        "softiou_version": softiou.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data,
        "split": dataset.split,
        "checkpoint": checkpoint,
        "checkpoint_sha256": checkpoint_sha256,
        "labels": dataset.labels,
        "inference": _plain(inference),
        "num_images": len(known),
        **description.as_dict(),
        **contents.figures(statistics, description),
        "confusion": confusion.tolist(),
        "reliability": contents.reliability(plain.reliability()),
        "calibrated": _calibrated(calibrated, calibration, calibration_path),
        "images": contents.per_image(statistics, known),
        "examples": {"best": [e.stem for e in best], "worst": [e.stem for e in worst]},
    }
    return Evaluation(content, statistics, best, worst, thumbnails, description)


def _probs(
    model: SegmentationModel,
    image: Tensor,
    precision: Precision,
    inference: InferenceSettings,
    scaling: LogitScaling | None,
) -> tuple[Tensor, Tensor | None]:
    """Return probabilities (C, H, W), and those after the scaling if there is one."""
    if inference.window_px is None and inference.scales == (1.0,) and not inference.flips:
        # One pass for both.
        logits = predict_logits(model, image, precision=precision)
        scaled = None if scaling is None else scaling.apply(logits, dim=0).softmax(0)
        return logits.softmax(0), scaled
    run = partial(predict_probs, model, image, precision=precision, settings=inference)
    return run(), None if scaling is None else run(scaling=scaling)


def _confusion(preds: Tensor, target: Tensor, description: DatasetDescription) -> Tensor:
    """Count the pixels of each pair of classes (C, C) of one image."""
    return confusion_counts(
        preds.unsqueeze(0),
        target.unsqueeze(0),
        num_classes=description.num_classes,
        ignore_index=description.ignore_index,
    )[0]


def _shown(target: Tensor, description: DatasetDescription) -> Tensor:
    """Return the classes of a target (H, W), the ignored index where nothing is known."""
    ignore = description.ignore_index
    labels, valid = top_label(
        target.unsqueeze(0), num_classes=description.num_classes, ignore_index=ignore
    )
    return torch.where(valid, labels, ignore)[0]


def _known(sample: Sample) -> dict[str, Any]:
    """Name an image, its size and its labels, so that two evaluations can be matched."""
    target = sample["target"].contiguous()
    digest = hashlib.blake2b(target.numpy().tobytes(), digest_size=8).hexdigest()
    return {"stem": sample["stem"], "size": list(sample["image"].shape[-2:]), "truth": digest}


def _plain(inference: InferenceSettings) -> dict[str, Any]:
    """Return the settings as JSON has them."""
    told = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(inference).items()}
    del told["batch_size"]  # makes no difference to the result
    return told


def _calibrated(
    gathered: Gathered, calibration: Calibration | None, path: str
) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "kind": calibration.scaling.kind,
        "path": path,
        "data": calibration.data,
        "split": calibration.split,
        "metrics": contents.calibrated_figures(
            gathered.statistics(), same_masks=calibration.scaling.kind == "temperature"
        ),
        "reliability": contents.reliability(gathered.reliability()),
    }
