"""Fit a scaling of a model's logits on a data set."""

from collections.abc import Iterable
from dataclasses import dataclass

from softiou.calibration.pixels import PixelSample, sample_pixels
from softiou.data import Sample, SegmentationDataset
from softiou.inference import Precision
from softiou.metrics import ExpectedCalibrationError
from softiou.models import SegmentationModel
from softiou.temperature import Kind, LogitScaling, fit_scaling, negative_log_likelihood


@dataclass(frozen=True)
class Change:
    """A metric on the fitted pixels, before and after the scaling."""

    before: float
    after: float


@dataclass(frozen=True)
class Calibration:
    """A scaling and the data that it was fitted on.

    Attributes:
        scaling: Scaling of the logits.
        data: Name of the data set.
        split: Name of the split.
        labels: Kind of the targets: "hard", "soft", "votes" or "staple".
        images: Number of images.
        pixels: Number of fitted pixels.
        seed: Seed of the random choice of pixels.
        nll: Negative log-likelihood, nats per pixel.
        ece: Top-label expected calibration error, per cent.
    """

    scaling: LogitScaling
    data: str
    split: str
    labels: str
    images: int
    pixels: int
    seed: int
    nll: Change
    ece: Change


def calibrate(
    model: SegmentationModel,
    dataset: SegmentationDataset,
    *,
    data: str,
    precision: Precision,
    kind: Kind = "temperature",
    samples: Iterable[Sample] | None = None,
    most: int = 200_000,
    seed: int = 0,
) -> Calibration:
    """Fit a scaling of a model's logits on a data set that the model was not trained on.

    Args:
        model: Model in eval mode, on the device to use.
        dataset: Data set to fit on, such as the validation split; hard or soft labels.
        data: Name of the data set, for the record.
        precision: Precision of the network.
        kind: Kind of scaling, see `fit_scaling`.
        samples: The samples of `dataset` in order, such as from a loader.
        most: Approximate number of pixels to fit on, equal for all images.
        seed: Seed of the random choice of pixels.

    Returns:
        The scaling, and metrics on the fitted pixels.

    Raises:
        DataError: No pixel has a label.
    """
    pixels = sample_pixels(
        model, dataset, precision=precision, samples=samples, most=most, seed=seed
    )
    scaling = fit_scaling(pixels.logits, pixels.target, kind=kind)
    return Calibration(
        scaling=scaling,
        data=data,
        split=dataset.split,
        labels=dataset.labels,
        images=len(dataset),
        pixels=len(pixels.logits),
        seed=seed,
        nll=Change(
            negative_log_likelihood(pixels.logits, pixels.target),
            negative_log_likelihood(pixels.logits, pixels.target, scaling),
        ),
        ece=Change(_ece(pixels), _ece(pixels, scaling)),
    )


def _ece(pixels: PixelSample, scaling: LogitScaling | None = None) -> float:
    logits = pixels.logits if scaling is None else scaling.apply(pixels.logits)
    metric = ExpectedCalibrationError(num_classes=logits.shape[1])
    # treat the pixels as one image: (P, C) -> (1, C, P)
    target = pixels.target.T if pixels.target.is_floating_point() else pixels.target
    metric.update(logits.softmax(1).T.unsqueeze(0), target.unsqueeze(0))
    return 100 * float(metric.compute())
