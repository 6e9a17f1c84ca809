"""Scoring a model on every image of a data set, each at its own resolution.

Shapes: C classes, (H, W) the image.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

import softiou
from softiou._html import html_table
from softiou._processes import are_several, joined, own_share
from softiou.calibration import Calibration
from softiou.data import DatasetDescription, Sample, SegmentationDataset, truth
from softiou.evaluation import content as contents
from softiou.evaluation.pictures import Example, Examples, PictureStore, full_picture, thumbnail
from softiou.evaluation.schema import SCHEMA_VERSION, Evaluation
from softiou.evaluation.suspects import suspect_regions
from softiou.inference import (
    WHOLE_IMAGE,
    InferenceSettings,
    ModelPredictor,
    Precision,
    Predictor,
    image_probs,
    predict_logits,
    require_finite,
)
from softiou.metrics import OverlapCounts, confusion_counts, decode_target, mean_score
from softiou.metrics.bins import reliability
from softiou.metrics.registry import metrics_of
from softiou.models import SegmentationModel
from softiou.resampling import ImageStatistics, gather_image_statistics
from softiou.temperature import LogitScaling

NUM_THUMBNAILS = 1000


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation in memory: the content of evaluation.json, the sums and the pictures.

    Attributes:
        content: Plain values that `Evaluation` describes.
        statistics: The sums of every image, from which the metrics follow.
        best: Images with the highest mIoU.
        worst: Those with the lowest.
        thumbnails: By stem, contents of the files that `thumbnail` and `full_picture` name.
        description: Classes of the data set.
    """

    content: dict[str, Any]
    statistics: ImageStatistics
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
    thumbnails: PictureStore
    description: DatasetDescription

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics over the data set, in their reported units."""
        metrics: dict[str, float | None] = self.content["metrics"]
        return metrics

    @property
    def evaluation(self) -> Evaluation:
        """The content, validated."""
        return Evaluation.model_validate(self.content)

    def _repr_html_(self) -> str:
        intervals = self.content["intervals"]
        rows = [
            (info.heading, self.metrics[info.key], *intervals.get(info.key, (None, None)))
            for info in metrics_of(among=self.metrics)
        ]
        caption = f"{self.content['data']}, {self.content['split']}"
        return html_table(["metric", "value", "low", "high"], rows, caption=caption)


def evaluate(
    model: SegmentationModel | Predictor,
    dataset: SegmentationDataset,
    *,
    precision: Precision,
    data: str,
    checkpoint: str,
    inference: InferenceSettings = WHOLE_IMAGE,
    checkpoint_sha256: str = "",
    calibration: Calibration | None = None,
    calibration_path: str = "",
    used_for: str | None = None,
    num_examples: int = 4,
    samples: Iterable[Sample] | None = None,
) -> EvaluationResult:
    """Score a model on every image of a data set.

    Args:
        model: In eval mode, on the device to use; or a predictor, such as an exported file.
        dataset: What to score on.
        precision: Of the network, to be recorded for a predictor.
        data: Name of the data set, to be recorded.
        checkpoint: Name of the checkpoint, to be recorded.
        inference: Windows, flips and scales; whole images by default.
        checkpoint_sha256: Hash of its file, which distinguishes checkpoints of one name.
        calibration: Of the checkpoint, best fitted on other data: reported before and after. Not
            for a predictor, which does what it does.
        calibration_path: Its file, to be recorded.
        used_for: What the images were used for before: "training" or "selection", see `Evaluation`.
        num_examples: How many best and worst images to keep.
        samples: This process's share of the samples of `dataset` in order, see
            `softiou._processes.own_share`, perhaps from a loader; None for all.

    Returns:
        Scores over the data set, per class and per image, with intervals.

    Raises:
        CheckpointError: The model predicts NaN.
    """
    scaling = None if calibration is None else calibration.scaling
    predictor = ModelPredictor(model, precision) if isinstance(model, SegmentationModel) else model
    scorer = _Scorer(dataset, predictor.device, scaling, num_examples)
    numbers = range(len(dataset)) if samples is None else own_share(len(dataset))
    for number, sample in zip(numbers, dataset if samples is None else samples, strict=False):
        probs, scaled = _probs(predictor, sample["image"], inference, scaling)
        require_finite(probs, model=checkpoint, image=sample["stem"])
        scorer.add(number, sample, probs, scaled)
    if samples is not None and are_several():
        scorer.join()
    best, worst = scorer.examples.best(), scorer.examples.worst()
    statistics = ImageStatistics.concatenate(scorer.plain).apply(Tensor.cpu)
    content = {
        "schema_version": SCHEMA_VERSION,
        "softiou_version": softiou.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data,
        "split": dataset.split,
        "checkpoint": checkpoint,
        "checkpoint_sha256": checkpoint_sha256,
        "labels": dataset.labels,
        "inference": _plain(inference) | {"precision": precision},
        "used_for": used_for,
        "num_images": len(scorer.identities),
        **dataset.description.as_dict(),
        **contents.metric_entries(statistics, dataset.description),
        "confusion": scorer.confusion.tolist(),
        "reliability": _reliability(statistics),
        "calibrated": _calibrated(scorer.calibrated, calibration, calibration_path),
        "images": contents.per_image(statistics, scorer.identities),
        "examples": {"best": [e.stem for e in best], "worst": [e.stem for e in worst]},
    }
    return EvaluationResult(
        content, statistics, best, worst, scorer.thumbnails, dataset.description
    )


class _Scorer:
    """Gathers the sums and pictures of a data set, one image after the other.

    Confusion (C, C) has the target in its rows; thumbnails are evenly spread, at most
    `NUM_THUMBNAILS`; identities are name, size and labels of each image.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        device: torch.device,
        scaling: LogitScaling | None,
        num_examples: int,
    ) -> None:
        self._description, self._labels = dataset.description, dataset.labels
        self._device = device
        self._settings: dict[str, Any] = {
            "num_classes": dataset.description.num_classes,
            "ignore_index": dataset.description.ignore_index,
        }
        self._masks_change = scaling is not None and scaling.kind != "temperature"
        self._every = -(-len(dataset) // NUM_THUMBNAILS)
        self.plain: list[ImageStatistics] = []
        self.calibrated: list[ImageStatistics] = []
        self.confusion = torch.zeros(2 * [dataset.description.num_classes], dtype=torch.int64)
        self.examples = Examples(num_examples)
        self.thumbnails = PictureStore()
        self.identities: list[dict[str, Any]] = []

    def join(self) -> None:
        """Add what other processes have gathered of their images, in the order of the data set."""
        self.plain, self.calibrated, self.identities = (
            joined(own)
            for own in (
                [image.apply(Tensor.cpu) for image in self.plain],
                [image.apply(Tensor.cpu) for image in self.calibrated],
                self.identities,
            )
        )
        self.confusion = torch.stack(joined([self.confusion])).sum(0)
        self.examples.merge(joined([self.examples]))
        pictures, self.thumbnails = joined(list(self.thumbnails.items())), PictureStore()
        for stem, files in pictures:
            self.thumbnails.add(stem, files)

    def add(self, number: int, sample: Sample, probs: Tensor, scaled: Tensor | None) -> None:
        """Add an image with its probabilities (C, H, W), before and after the scaling."""
        confidence, preds = probs.max(0)
        target = truth(sample["target"], self._description).to(self._device).unsqueeze(0)
        decoded = decode_target(target, **self._settings)
        votes = self._labels == "votes"
        self.plain.append(
            gather_image_statistics(
                probs.unsqueeze(0),
                preds.unsqueeze(0),
                decoded,
                soft=self._labels != "hard",
                masks=sample["target"].to(self._device).unsqueeze(0) if votes else None,
                **self._settings,
            )
        )
        self.confusion += confusion_counts(preds.unsqueeze(0), decoded, **self._settings)[0].cpu()
        if scaled is not None:
            self.calibrated.append(
                gather_image_statistics(
                    scaled.unsqueeze(0),
                    scaled.argmax(0).unsqueeze(0),
                    decoded,
                    boundaries=self._masks_change,
                    **self._settings,
                )
            )
        ignore_index = self._description.ignore_index
        shown = decoded.top_labels().where(decoded.valid, ignore_index)[0].cpu()
        surest = confidence if scaled is None else scaled.amax(0)
        self._keep(number, sample, shown, preds.cpu(), confidence.cpu(), surest.cpu())

    def _keep(
        self, number: int, sample: Sample, labels: Tensor, preds: Tensor, *of: Tensor
    ) -> None:
        (confidence, surest), stem, image = of, sample["stem"], sample["image"]
        miou = contents.per_cent(mean_score(self.plain[-1].counts, OverlapCounts.iou, per="image"))
        if miou is not None:
            self.examples.offer(number, Example(stem, miou, image, labels, preds))
        if number % self._every == 0:
            palette = self._description.palette
            files = thumbnail(image, labels, preds, confidence, palette)
            self.thumbnails.add(stem, files | full_picture(image, labels, preds, palette))
        suspects = suspect_regions(labels, preds, surest, self._description.num_classes)
        self.identities.append(_identity(sample) | {"suspects": suspects})


def _probs(
    predictor: Predictor, image: Tensor, inference: InferenceSettings, scaling: LogitScaling | None
) -> tuple[Tensor, Tensor | None]:
    """Return probabilities (C, H, W), and those after the scaling if there is one."""
    whole = inference.window_px is None and inference.views == 1 and inference.scales == (1.0,)
    if whole and isinstance(predictor, ModelPredictor) and predictor.scaling is None:
        # One pass for both.
        logits = predict_logits(predictor.model, image, precision=predictor.precision)
        scaled = None if scaling is None else scaling.apply(logits, dim=0).softmax(0)
        return logits.softmax(0), scaled
    plain = image_probs(predictor, image, settings=inference)
    if scaling is None or not isinstance(predictor, ModelPredictor):
        return plain, None
    return plain, image_probs(replace(predictor, scaling=scaling), image, settings=inference)


def _reliability(statistics: ImageStatistics) -> dict[str, list[float | None]]:
    if statistics.bins is None:
        raise RuntimeError("statistics of an evaluation")
    return contents.reliability(reliability(statistics.bins.merge_images()))


def _identity(sample: Sample) -> dict[str, Any]:
    """Name an image, its size and its labels, so that two evaluations can be matched."""
    target = sample["target"].contiguous()
    digest = hashlib.blake2b(target.numpy().tobytes(), digest_size=8).hexdigest()
    return {"stem": sample["stem"], "size": list(sample["image"].shape[-2:]), "truth": digest}


def _plain(inference: InferenceSettings) -> dict[str, Any]:
    """Return the settings as JSON has them."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(inference).items()}
    del plain["batch_size"]  # makes no difference to the result
    return plain


def _calibrated(
    batches: Sequence[ImageStatistics], calibration: Calibration | None, path: str
) -> dict[str, Any] | None:
    if calibration is None:
        return None
    statistics = ImageStatistics.concatenate(batches).apply(Tensor.cpu)
    return {
        "kind": calibration.scaling.kind,
        "path": path,
        "data": calibration.data,
        "split": calibration.split,
        "metrics": contents.calibrated_metrics(
            statistics, same_masks=calibration.scaling.kind == "temperature"
        ),
        "reliability": _reliability(statistics),
    }
