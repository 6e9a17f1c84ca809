"""Evaluate a model on each image of a data set at its original resolution.

Shapes: C classes, (H, W) the image.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor

import softiou
from softiou._html import html_table
from softiou._processes import are_several, joined, own_share
from softiou.calibration import Calibration
from softiou.data import DatasetDescription, Sample, SegmentationDataset, truth
from softiou.data.base import is_huge
from softiou.data.folder import stored_target
from softiou.evaluation import content as contents
from softiou.evaluation.pictures import (
    FULL_PX,
    Example,
    Examples,
    PictureStore,
    full_picture,
    thumbnail,
)
from softiou.evaluation.schema import SCHEMA_VERSION, Evaluation
from softiou.evaluation.suspects import suspect_regions
from softiou.inference import (
    WHOLE_IMAGE,
    InferenceSettings,
    ModelPredictor,
    Precision,
    Predictor,
    image_probs,
    images_at_once,
    of_equal_size,
    probability_bands,
    require_finite,
)
from softiou.inference.pictures import shown
from softiou.inference.predictors import full_logits
from softiou.metrics import OverlapCounts, confusion_counts, decode_target, mean_score
from softiou.metrics.bins import reliability
from softiou.metrics.boundary import boundary_counts
from softiou.metrics.decoding import DecodedTarget
from softiou.metrics.registry import metrics_of
from softiou.models import SegmentationModel
from softiou.resampling import ImageStatistics, gather_image_statistics
from softiou.resampling.image_statistics import BOUNDARY_PX
from softiou.targets.hard import valid_labels
from softiou.targets.smoothing import boundary_band
from softiou.temperature import LogitScaling

NUM_THUMBNAILS = 1000
_ROWS = 512  # rows of a huge image processed at a time

# Rows with their probabilities (C, h, W), before and after the scaling if there is one.
Band: TypeAlias = tuple[slice, Sequence[Tensor]]


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation in memory: the content of evaluation.json, the sums and the images.

    Attributes:
        content: Plain values that `Evaluation` describes.
        statistics: The sums of each image, from which all metrics are computed.
        best: Images with the highest mIoU.
        worst: Images with the lowest mIoU.
        thumbnails: {stem: file contents} of `thumbnail` and `full_picture`.
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
        """The metrics over the data set, in their units."""
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
    """Evaluate a model on each image of a data set.

    Args:
        model: Model in eval mode on the device to use, or a predictor, such as an exported file.
        dataset: Data set to evaluate on.
        precision: Precision of the network; only recorded if `model` is a predictor.
        data: Name of the data set, for the record.
        checkpoint: Name of the checkpoint, for the record.
        inference: Windows, flips and scales; default: whole images.
        checkpoint_sha256: Hash of its file, which distinguishes checkpoints of equal names.
        calibration: Calibration of the checkpoint: metrics are reported before and after. Not for
            a predictor, which may include one.
        calibration_path: File of the calibration, for the record.
        used_for: Previous use of the images: "training" or "selection", see `Evaluation`.
        num_examples: Number of best and of worst images to keep.
        samples: Samples of this rank in order, see `softiou._processes.own_share`, such as from a
            loader; None for all samples.

    Returns:
        Metrics over the data set, per class and per image, with intervals.

    Raises:
        CheckpointError: The model predicts NaN.
    """
    scaling = None if calibration is None else calibration.scaling
    predictor = ModelPredictor(model, precision) if isinstance(model, SegmentationModel) else model
    scorer = _Scorer(dataset, predictor.device, scaling, num_examples, checkpoint)
    hard = dataset.labels == "hard"
    numbers = range(len(dataset)) if samples is None else own_share(len(dataset))
    for group in of_equal_size(
        zip(numbers, dataset if samples is None else samples, strict=False),
        lambda item: item[1]["image"],
        at_most=images_at_once(predictor.device) if inference.is_whole else 1,
    ):
        images = [sample["image"] for _, sample in group]
        found = _bands(predictor, images, inference, scaling, several=hard)
        for (number, sample), bands in zip(group, found, strict=True):
            scorer.add(number, sample, bands)
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
    """Accumulates the sums and images of a data set, one image at a time.

    Rows of `confusion` (C, C) are target classes; `thumbnails` has at most `NUM_THUMBNAILS` evenly
    spaced images; `identities` has name, size and label hash of each image.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        device: torch.device,
        scaling: LogitScaling | None,
        num_examples: int,
        model: str,
    ) -> None:
        self._description, self._labels, self._model = dataset.description, dataset.labels, model
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
        """Gather the results of all processes, in the order of the data set."""
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

    def add(self, number: int, sample: Sample, bands: Iterable[Band]) -> None:
        """Add an image, given its rows from top to bottom: in one band, or several if huge."""
        stored = stored_target(sample)
        target = truth(stored, self._description).unsqueeze(0)
        step = -(-max(stored.shape[-2:]) // FULL_PX) if is_huge(stored.shape) else 1
        parts = [self._part(sample, target, step, *band) for band in bands]
        sums, maps = zip(*parts, strict=True)
        labels, confidence, surest, *preds = map(torch.cat, zip(*maps, strict=True))
        for which, of_image in enumerate((self.plain, self.calibrated)[: len(preds)]):
            total = reduce(ImageStatistics.plus, (one[which] for one in sums))
            if len(parts) > 1 and (which == 0 or self._masks_change):
                valid = [
                    valid_labels(one, **self._settings) for one in torch.split(target, _ROWS, 1)
                ]
                whole = DecodedTarget(target, None, torch.cat(valid, 1))
                near = boundary_counts(preds[which].unsqueeze(0), whole, **self._settings)
                total = replace(total, boundary=near)
            of_image.append(total)
        shown = labels, preds[0][::step, ::step], confidence, surest
        self._keep(number, sample, _identity(sample, stored), step, *shown)

    def _part(
        self, sample: Sample, target: Tensor, step: int, rows: slice, probs: Sequence[Tensor]
    ) -> tuple[list[ImageStatistics], list[Tensor]]:
        """Return the sums of some rows, and maps of labels, confidences and predictions.

        Labels and confidences are subsampled by `step`.
        """
        plain, whole = probs[0], rows == slice(0, target.shape[-2])
        require_finite(plain, model=self._model, image=sample["stem"])
        decoded = decode_target(target[..., rows, :].to(self._device), **self._settings)
        votes = sample["target"].to(self._device).unsqueeze(0) if self._labels == "votes" else None
        preds = [one.argmax(0) for one in probs]
        sums = [
            gather_image_statistics(
                one.unsqueeze(0),
                classes.unsqueeze(0),
                decoded,
                boundaries=whole and (one is plain or self._masks_change),
                near=None if whole else self._near(target, rows),
                soft=one is plain and self._labels != "hard",
                masks=votes if one is plain else None,
                **self._settings,
            )
            for one, classes in zip(probs, preds, strict=True)
        ]
        pairs = confusion_counts(preds[0].unsqueeze(0), decoded, **self._settings)
        self.confusion += pairs[0].cpu()
        labels = decoded.top_labels().where(decoded.valid, self._description.ignore_index)[0]
        maps = (labels, plain.amax(0), probs[-1].amax(0))
        small = torch.uint8 if len(plain) < 256 else torch.int32
        return sums, [
            *(one[-rows.start % step :: step, ::step].contiguous().cpu() for one in maps),
            *(one.to(small).cpu() for one in preds),
        ]

    def _near(self, target: Tensor, rows: slice) -> Tensor:
        """Return the pixels of some rows near a boundary of the hard labels (1, H, W)."""
        around = slice(max(0, rows.start - BOUNDARY_PX), rows.stop + BOUNDARY_PX)
        band = boundary_band(target[:, around].long(), width=BOUNDARY_PX, **self._settings)
        first = rows.start - around.start
        return band[:, first : first + rows.stop - rows.start].to(self._device)

    def _keep(
        self, number: int, sample: Sample, identity: dict[str, Any], step: int, *maps: Tensor
    ) -> None:
        """Store an image (subsampled by `step`) and the regions of suspect labels."""
        labels, preds, confidence, surest = maps
        stem, image = sample["stem"], sample["image"]
        if is_huge(image.shape):
            image = _reduced(image, step)
        miou = contents.per_cent(mean_score(self.plain[-1].counts, OverlapCounts.iou, per="image"))
        if miou is not None:
            self.examples.offer(number, Example(stem, miou, image, labels, preds))
        if number % self._every == 0:
            palette = self._description.palette
            files = thumbnail(image, labels, preds, confidence, palette)
            self.thumbnails.add(stem, files | full_picture(image, labels, preds, palette))
        suspects = suspect_regions(labels, preds, surest, self._description.num_classes)
        for one in suspects if step > 1 else ():
            one["pixels"] *= step**2
            one["box"] = [step * side for side in one["box"]]
        self.identities.append(identity | {"suspects": suspects})


def _bands(
    predictor: Predictor,
    images: Sequence[Tensor],
    inference: InferenceSettings,
    scaling: LogitScaling | None,
    *,
    several: bool,
) -> list[Iterable[Band]]:
    """Return the rows of each image with their probabilities, in `several` bands if it is huge.

    Several images, which are of equal size, are processed in one pass.
    """
    size = (int(images[0].shape[-2]), int(images[0].shape[-1]))
    inference = inference.of(size)
    if inference.is_whole and isinstance(predictor, ModelPredictor) and predictor.scaling is None:
        # one forward pass for both variants
        logits = full_logits(
            predictor.model,
            torch.stack([image.to(predictor.device) for image in images]),
            precision=predictor.precision,
            size=size,
        )
        scaled = [] if scaling is None else [scaling.apply(logits).softmax(1)]
        ways = (logits.softmax(1), *scaled)
        return [[(slice(0, size[0]), probs)] for probs in zip(*ways, strict=True)]
    return [_bands_of(predictor, image, inference, scaling, several=several) for image in images]


def _bands_of(
    predictor: Predictor,
    image: Tensor,
    inference: InferenceSettings,
    scaling: LogitScaling | None,
    *,
    several: bool,
) -> Iterator[Band]:
    ways = [predictor]
    if scaling is not None and isinstance(predictor, ModelPredictor):
        ways.append(replace(predictor, scaling=scaling))
    if several and is_huge(image.shape):
        bands = (probability_bands(one, image, settings=inference) for one in ways)
        for found in zip(*bands, strict=True):
            yield found[0][0], [probs for _, probs in found]
    else:
        rows = slice(0, image.shape[-2])
        yield rows, [image_probs(one, image, settings=inference) for one in ways]


def _reduced(image: Tensor, step: int) -> Tensor:
    """Return an image (B, H, W) subsampled by `step`, for display, read in parts."""
    tops = range(0, image.shape[-2], _ROWS)
    parts = (shown(image[:, top : top + _ROWS])[:, -top % step :: step, ::step] for top in tops)
    return torch.cat(list(parts), 1)


def _reliability(statistics: ImageStatistics) -> dict[str, list[float | None]]:
    if statistics.bins is None:
        raise RuntimeError("statistics of an evaluation")
    return contents.reliability(reliability(statistics.bins.merge_images()))


def _identity(sample: Sample, target: Tensor) -> dict[str, Any]:
    """Return stem, size and label hash of an image, to match two evaluations."""
    digest = hashlib.blake2b(digest_size=8)
    for part in torch.split(target, _ROWS):
        whole = part if part.is_floating_point() else part.long()
        digest.update(whole.contiguous().numpy().tobytes())
    size = list(sample["image"].shape[-2:])
    return {"stem": sample["stem"], "size": size, "truth": digest.hexdigest()}


def _plain(inference: InferenceSettings) -> dict[str, Any]:
    """Return the settings as plain values."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(inference).items()}
    del plain["batch_size"]  # does not affect the result
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
