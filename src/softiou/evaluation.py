"""Evaluation: a model over a data set, into evaluation.json and example images.

evaluation.json, schema version 1 (per cent where a score is meant; null where it is undefined):

    schema_version, softiou_version, created (UTC), data, split, checkpoint, num_images
    labels        what the data set handed out: hard, soft, votes or staple
    classes, palette
    metrics       miou_d, miou_i, miou_c, mdice_d, mdice_i, mdice_c, accuracy, ece_d; against soft
                  labels and votes soft_iou_d, .._i, .._c and soft_dice_d, .._i, .._c; against votes
                  ged, the squared generalised energy distance (0..200) between the masks of the R
                  annotators and as many drawn from the model; of the foreground if C = 2
    per_class     name, iou, iou_c (mean over images), dice, target_pixels, images; against soft
                  labels and votes soft_iou, soft_dice
    reliability   edges, count, confidence, accuracy: the bins of ece_d, shares in [0, 1]
    images        stem, miou (over the classes of its target), accuracy
    examples      best, worst: stems whose pictures lie in examples/
"""

import heapq
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import softiou
from softiou._files import write_atomically
from softiou.data import DatasetDescription, Sample, SegmentationDataset, truth
from softiou.inference import Precision, encode_image, index_image, predict_probs
from softiou.metrics import (
    ExpectedCalibrationError,
    GeneralizedEnergyDistance,
    OverlapCounts,
    OverlapMasses,
    SegmentationScores,
    SoftScores,
    mean_score,
    sample_levels,
)
from softiou.metrics.counts import top_label
from softiou.models import SegmentationModel

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Example:
    """One image with its target and prediction, class indices (H, W) in uint8 or int32."""

    stem: str
    miou: float
    image: Tensor
    target: Tensor
    preds: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The content of evaluation.json, and the example images that go with it."""

    content: dict[str, Any]
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
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
    num_examples: int = 4,
    samples: Iterable[Sample] | None = None,
) -> Evaluation:
    """Score a model on every image of a data set, each at its own resolution.

    Args:
        model: In eval mode, on the device to use.
        dataset: What to score on.
        precision: Of the network.
        data: Name of the data set, for the record.
        checkpoint: Name of the checkpoint, for the record.
        num_examples: How many best and worst images to keep.
        samples: The samples of `dataset`, perhaps wrapped by a progress bar or a loader.

    Returns:
        Scores over the data set, per class and per image.
    """
    description = dataset.description
    device = model.mean.device
    num_classes, ignore = description.num_classes, description.ignore_index
    scores = SegmentationScores(num_classes, ignore_index=ignore).to(device)
    calibration = ExpectedCalibrationError(num_classes, ignore_index=ignore).to(device)
    soft = _SoftTruth(dataset, device)
    images: list[dict[str, Any]] = []
    gallery = _Gallery(num_examples)
    for sample in dataset if samples is None else samples:
        probs = predict_probs(model, sample["image"], precision=precision)
        target = truth(sample["target"], description).to(device)
        preds = probs.argmax(0)
        scores.update(preds.unsqueeze(0), target.unsqueeze(0))
        calibration.update(probs.unsqueeze(0), target.unsqueeze(0))
        soft.update(probs, target, sample["target"].to(device))
        score = _image_score(scores)
        images.append({"stem": sample["stem"]} | score)
        gallery.offer(sample, preds, target, score["miou"], description)
    best, worst = gallery.best(), gallery.worst()
    content = {
        "schema_version": SCHEMA_VERSION,
        "softiou_version": softiou.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data,
        "split": dataset.split,
        "checkpoint": checkpoint,
        "labels": dataset.labels,
        "num_images": len(images),
        "classes": list(description.classes),
        "palette": [list(colour) for colour in description.palette],
        "metrics": {name: _per_cent(value) for name, value in scores.compute().items()}
        | {"ece_d": _per_cent(calibration.compute())}
        | {name: _per_cent(value) for name, value in soft.compute().items()},
        "per_class": _per_class(scores.counts(), soft.masses(), description),
        "reliability": {
            name: [_number(x) for x in values.tolist()]
            for name, values in calibration.reliability().items()
        },
        "images": images,
        "examples": {"best": [e.stem for e in best], "worst": [e.stem for e in worst]},
    }
    return Evaluation(content, best, worst, description)


def save_evaluation(evaluation: Evaluation, run: Path) -> Path | None:
    """Write evaluation.json and examples/ into a run directory, each file atomically.

    Returns:
        Where an earlier evaluation of other data or another checkpoint was moved to, None if there
        was none: nothing is lost.
    """
    kept = _keep_earlier(evaluation, run / "evaluation.json")
    folder = run / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    palette = evaluation.description.palette
    for example in {e.stem: e for e in (*evaluation.best, *evaluation.worst)}.values():
        picture = Image.fromarray(example.image.permute(1, 2, 0).numpy())
        write_atomically(encode_image(picture, "JPEG"), folder / f"{example.stem}.image.jpg")
        for name in ("target", "preds"):
            mask = index_image(getattr(example, name), palette)
            write_atomically(encode_image(mask, "PNG"), folder / f"{example.stem}.{name}.png")
    text = json.dumps(evaluation.content, indent=1, allow_nan=False)
    write_atomically(text.encode(), run / "evaluation.json")
    return kept


class _SoftTruth:
    """The metrics that a data set allows beyond those of hard labels."""

    def __init__(self, dataset: SegmentationDataset, device: torch.device) -> None:
        num_classes = dataset.description.num_classes
        ignore = dataset.description.ignore_index
        self._scores = self._energy = None
        if dataset.labels != "hard":
            self._scores = SoftScores(num_classes, ignore_index=ignore).to(device)
        if dataset.labels == "votes":
            # Of two classes the first is the background, which is hard to get wrong.
            classes = [1] if num_classes == 2 else None
            self._energy = GeneralizedEnergyDistance(
                num_classes, classes=classes, ignore_index=ignore
            ).to(device)

    def update(self, probs: Tensor, target: Tensor, masks: Tensor) -> None:
        """Add an image: probabilities (C, H, W), the truth, and its labels as they came."""
        if self._scores is not None:
            self._scores.update(probs.unsqueeze(0), target.unsqueeze(0))
        if self._energy is not None:
            # As many masks of the model as there are annotators, from its own probabilities.
            samples = sample_levels(probs.unsqueeze(0), len(masks))
            self._energy.update(samples, masks.unsqueeze(0))

    def masses(self) -> OverlapMasses | None:
        """Return the sums over all images (1, C), None for hard labels."""
        return None if self._scores is None else self._scores.sums().merge_images()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name; none for hard labels."""
        scores = {} if self._scores is None else self._scores.compute()
        return scores if self._energy is None else scores | {"ged": self._energy.compute()}


class _Gallery:
    """Keeps the images with the highest and lowest mIoU in memory, and lets the others go."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._high: list[tuple[float, int, Example]] = []
        self._low: list[tuple[float, int, Example]] = []
        self._seen = 0

    def offer(
        self,
        sample: Sample,
        preds: Tensor,
        target: Tensor,
        miou: float | None,
        description: DatasetDescription,
    ) -> None:
        self._seen += 1
        if miou is None or self.size == 0:
            return
        wanted = [
            (heap, key)
            for heap, key in ((self._high, miou), (self._low, -miou))
            if len(heap) < self.size or key > heap[0][0]
        ]
        if not wanted:
            return
        labels, valid = top_label(
            target.unsqueeze(0),
            num_classes=description.num_classes,
            ignore_index=description.ignore_index,
        )
        shown = torch.where(valid, labels, description.ignore_index)[0].cpu()
        example = Example(sample["stem"], miou, sample["image"], shown, preds.cpu())
        for heap, key in wanted:
            heapq.heappush(heap, (key, self._seen, example))
            if len(heap) > self.size:
                heapq.heappop(heap)

    def best(self) -> tuple[Example, ...]:
        return tuple(e for _, _, e in sorted(self._high, key=lambda item: -item[0]))

    def worst(self) -> tuple[Example, ...]:
        """The lowest, without those among the best of a small data set."""
        best = {e.stem for e in self.best()}
        ranked = sorted(self._low, key=lambda item: -item[0])
        return tuple(e for _, _, e in ranked if e.stem not in best)


def _image_score(scores: SegmentationScores) -> dict[str, float | None]:
    """Scores of the image that was added last."""
    last = OverlapCounts(scores.true_positives[-1], scores.predicted[-1], scores.present[-1])
    return {
        "miou": _per_cent(mean_score(last, OverlapCounts.iou, per="image")),
        "accuracy": _per_cent(last.accuracy()),
    }


def _per_class(
    counts: OverlapCounts, masses: OverlapMasses | None, description: DatasetDescription
) -> list[dict[str, Any]]:
    total = counts.merge_images()
    by_image = torch.where(counts.present > 0, counts.iou(), torch.nan)
    rows = [
        {
            "name": name,
            "iou": _per_cent(total.iou()[0, c]),
            "iou_c": _per_cent(by_image[:, c].nanmean()),
            "dice": _per_cent(total.dice()[0, c]),
            "target_pixels": int(total.present[0, c]),
            "images": int((counts.present[:, c] > 0).sum()),
        }
        for c, name in enumerate(description.classes)
    ]
    if masses is not None:
        for row, iou, dice in zip(rows, masses.iou()[0], masses.dice()[0], strict=True):
            row |= {"soft_iou": _per_cent(iou), "soft_dice": _per_cent(dice)}
    return rows


def _keep_earlier(evaluation: Evaluation, path: Path) -> Path | None:
    """Move an evaluation of something else out of the way; the same one may be replaced."""
    try:
        earlier = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        earlier = {}
    if not isinstance(earlier, dict):
        earlier = {}
    keys = ("data", "split", "checkpoint", "labels")
    if all(earlier.get(key) == evaluation.content[key] for key in keys):
        return None
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S.%f")
    split = Path(str(earlier.get("split", "unknown"))).stem  # a split may be the file of a list
    kept = path.with_name(f"evaluation-{split}-{stamp}.json")
    path.rename(kept)
    return kept


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _per_cent(value: Tensor) -> float | None:
    return _number(100 * float(value))
