"""Predict masks and probabilities with a run, a checkpoint or an exported file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from softiou import inference
from softiou._moved import renamed_arguments
from softiou._screen import Progress, progress_of, visible
from softiou.errors import ConfigError, DataError
from softiou.jobs.images import ImageItem, find_items, left_out
from softiou.jobs.opening import inference_settings, open_file, usable_calibration
from softiou.jobs.trained import RunLike, Trained, as_trained

if TYPE_CHECKING:
    from softiou.checkpoints import Weights
    from softiou.data import Bands, DatasetDescription


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        stem: File name without the suffix, or the image's number if there is no file.
        labels: Class indices (H, W), int64.
        probs: Probabilities (C, H, W), float32.
    """

    stem: str
    labels: Tensor
    probs: Tensor


@dataclass(frozen=True)
class SavedMasks:
    """The result of writing masks.

    Attributes:
        written: Number of images whose masks were written.
        failed: An error message for each image that was not written.
        interrupted: Whether writing was stopped by Ctrl-C.
    """

    written: int
    failed: tuple[str, ...]
    interrupted: bool


@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """Predictions for a list of images, computed on access; only the last four are cached.

    Attributes:
        items: The images.
        predictor: A model on the device to use, or an exported file.
        description: Description of the classes.
        settings: Windows, flips and scales.
        progress: Where progress and messages are shown.
    """

    items: list[ImageItem]
    predictor: inference.Predictor
    description: "DatasetDescription"
    settings: inference.InferenceSettings
    progress: Progress

    @property
    def stems(self) -> list[str]:
        """Names of the images, without suffixes."""
        return [item.stem for item in self.items]

    @property
    def labels(self) -> list[Tensor]:
        """Class indices (H, W) of all images."""
        return [one.labels for one in self]

    @property
    def probs(self) -> list[Tensor]:
        """Probabilities (C, H, W) of all images; large ones take much memory."""
        return [one.probs for one in self]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...

    def __getitem__(self, index: int | slice) -> "Prediction | Predictions":
        if isinstance(index, slice):
            return replace(self, items=self.items[index])
        return self._predicted(range(len(self))[index])

    def __iter__(self) -> Iterator[Prediction]:
        numbers = self.progress.track(range(len(self)), total=len(self), description="predicting")
        return (self._predicted(number) for number in numbers)

    def save(
        self,
        out: Path | str = "predictions",
        *,
        probabilities: bool = False,
        overlays: bool = False,
        polygons: bool = False,
        overwrite: bool = False,
    ) -> SavedMasks:
        """Write STEM.png: class indices with the class palette, in the size of the image.

        If rasterio is installed, a georeferenced image also gets STEM.tif with its georeference.

        Args:
            out: Folder for the results.
            probabilities: Whether to also write probabilities (C, H, W): STEM.probs.npy, float16.
            overlays: Whether to also write the image overlaid with the colours of the classes.
            polygons: Whether to also write the outlines of the classes: STEM.geojson, in longitude
                and latitude if the image has a coordinate system. Needs rasterio.
            overwrite: Whether to replace existing results.

        Raises:
            DataError: Two images have the same stem, or a result would replace an image.
            RunExistsError: A result already exists.
        """
        writer = inference.MaskWriter(
            self.predictor,
            self.description,
            Path(out),
            probabilities=probabilities,
            overlays=overlays,
            polygons=polygons,
            settings=self.settings,
        )
        files = [item.file or Path(item.stem) for item in self.items]
        writer.prepare(files, overwrite=overwrite)
        written, failed, interrupted = 0, list[str](), False
        pairs = list(zip(files, self.items, strict=True))
        try:
            for file, item in self.progress.track(
                pairs, total=len(pairs), description="predicting"
            ):
                try:
                    writer.write(file, item.read())
                    written += 1
                except DataError as error:  # continue with the other images
                    failed.append(
                        str(error) if str(file) in str(error) else f"{visible(file)}: {error}"
                    )
        except KeyboardInterrupt:
            interrupted = True
        return SavedMasks(written, tuple(failed), interrupted)

    @cached_property
    def _predicted(self) -> Callable[[int], Prediction]:
        return lru_cache(maxsize=4)(self._predict)

    def _predict(self, number: int) -> Prediction:
        item = self.items[number]
        bands = inference.probability_bands(self.predictor, item.read(), settings=self.settings)
        probs = torch.cat([band.cpu() for _, band in bands], dim=1)
        inference.require_finite(probs, model="The model", image=item.stem)
        return Prediction(item.stem, probs.argmax(0), probs)


@renamed_arguments(weights="model")
def predict(
    run: RunLike,
    images: Any,
    *,
    calibrated: bool | None = None,
    window: int | tuple[int, int] | None = None,
    overlap: float = 0.5,
    flips: bool = False,
    scales: float | Sequence[float] = 1.0,
    batch_size: int = 4,
    precision: inference.Precision = "fp32",
    model: "Weights" = "student",
    trust: bool = False,
    progress: bool | Progress | None = None,
) -> Predictions:
    """Predict label maps and probabilities of images, in their own size.

    The arguments that are not listed here are those of `evaluate`.

    Args:
        run: Run, run directory, checkpoint, or a file written by `export`.
        images: Path of an image or a folder, an array (H, W, 3), a tensor (3, H, W) or
            (N, 3, H, W), a Pillow image, or a list of these; uint8 in [0, 255] or floating in
            [0, 1]. For a model with `data.bands`: these bands, with the values of the files.
        calibrated: Whether to apply the calibration that the training or `calibrate` has fitted;
            None to apply it if there is one. An exported file always uses the calibration that it
            was exported with.
        precision: As in `evaluate`; ONNX and torch.export files always compute in fp32.
        trust: Whether to load a torch.export file (.pt2). Such a file can run any code, so load
            only files that you wrote or whose author you trust.

    Returns:
        A sequence with one prediction per image, computed on access; `save` writes masks.

    Raises:
        CheckpointError: No checkpoint was found, or `calibrated` is True without a calibration.
        DataError: No images were found.
        TypeError, ValueError: An item is not an RGB image.
    """
    from softiou.exporting import is_exported

    shown, run = progress_of(progress), as_trained(run)
    settings = inference_settings(
        window, overlap=overlap, flips=flips, scales=scales, batch_size=batch_size
    )
    if is_exported(run.path):
        exported = open_file(run.path, precision, shown, weights=model, trust=trust)
        if calibrated and exported.info.scaling is None:
            raise ConfigError(
                f"--calibrated: {run.path} was exported without a calibration. Run "
                "softiou calibrate, and export again."
            )
        opened = exported.predictor, exported.description, exported.bands
    else:
        opened = _from_checkpoint(run, precision, shown, weights=model, calibrated=calibrated)
    with shown.doing("listing the images"):
        items = find_items(images, opened[2])
    for line in left_out(images):
        shown.say(line)
    return Predictions(items, *opened[:2], settings, shown)


def _from_checkpoint(
    run: Trained,
    precision: inference.Precision,
    progress: Progress,
    *,
    weights: "Weights",
    calibrated: bool | None,
) -> "tuple[inference.Predictor, DatasetDescription, Bands | None]":
    from softiou.calibration import require_scaling

    with progress.doing(f"reading {run.path}"):
        trained = run.load_model(weights)
    scaling = None
    if calibrated:
        scaling = require_scaling(trained)
    elif calibrated is None and (fitted := usable_calibration(trained, progress.say)):
        scaling = fitted.scaling
    for line in inference.emulation(inference.best_device(), precision):
        progress.say(line)
    predictor = inference.ModelPredictor(
        trained.model.to(inference.best_device()), precision, scaling
    )
    return predictor, trained.description, trained.bands
