"""Predict a teacher's soft labels for the images of a data set, and store them.

Shapes: C classes, (H, W) the image, (h, w) the grid of cells at the stride of the store.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from softiou._processes import rank, world_size
from softiou.checkpoints import TrainedModel, file_sha256
from softiou.data import ImageSample
from softiou.errors import ConfigError
from softiou.inference import InferenceSettings, ModelPredictor, Precision, require_finite
from softiou.inference.views import view_probs
from softiou.models import SegmentationModel
from softiou.soft_labels import Manifest, Normalisation, Quantisation, SoftLabelStore, Teacher
from softiou.soft_labels.manifest import Recorded
from softiou.temperature import LogitScaling


@dataclass(frozen=True)
class TeacherSettings:
    """Inference settings of a teacher."""

    scaling: LogitScaling | None = None  # scaling of its logits, from its calibration, or None
    flip: bool = False  # whether to average over the image and its mirror image
    # scale factors of the image whose probabilities are averaged
    scales: tuple[float, ...] = (1.0,)

    def recorded(self) -> Recorded:
        """Return the settings that differ from the defaults, for a manifest."""
        found: Recorded = {}
        if self.scaling is not None:
            found |= {"scale": self.scaling.scale, "bias": self.scaling.bias}
        if self.flip:
            found["flip"] = (1.0,)
        if self.scales != (1.0,):
            found["scales"] = self.scales
        return found

    @classmethod
    def of(cls, recorded: Recorded) -> "TeacherSettings":
        """Invert `recorded`."""
        scale, bias = recorded.get("scale"), recorded.get("bias")
        scaling = LogitScaling("vector", scale, bias) if scale and bias else None
        return cls(scaling, "flip" in recorded, recorded.get("scales", (1.0,)))


PLAIN = TeacherSettings()


def make_manifest(
    teacher: TrainedModel,
    quantisation: Quantisation,
    *,
    data: str,
    settings: TeacherSettings = PLAIN,
) -> Manifest:
    """Return the manifest of a teacher's soft labels for a data set."""
    return Manifest(
        teacher=Teacher(str(teacher.path.resolve()), file_sha256(teacher.path)),
        classes=teacher.description.classes,
        ignore_index=teacher.description.ignore_index,
        normalisation=_normalisation(teacher.model),
        quantisation=quantisation,
        data=data,
        prediction=settings.recorded(),
    )


def _normalisation(model: SegmentationModel) -> Normalisation:
    # 0.485 in float32 is 0.48500001
    mean, std = (
        [round(value, 6) for value in buffer.flatten().tolist()]
        for buffer in (model.mean, model.std)
    )
    bands = model.spec.bands
    order = "RGB" if bands is None else f"bands {', '.join(map(str, bands.numbers))}"
    return Normalisation(tuple(mean), tuple(std), order)


def logits_stride(model: SegmentationModel) -> int:
    """Return the stride of a model's logits in pixels."""
    side = 2 * model.input_stride
    image = torch.zeros(1, model.spec.channels, side, side, device=model.mean.device)
    with torch.no_grad():
        return side // int(model(image).shape[-1])


def label(
    model: SegmentationModel,
    samples: Iterable[ImageSample],
    store: SoftLabelStore,
    *,
    folder: str,
    precision: Precision,
) -> Iterator[str]:
    """Write the soft labels of images into a store, atomically for each image.

    Args:
        model: The teacher, in eval mode, on the device to use.
        samples: Images of any size.
        store: The store to write to.
        folder: Name of the folder of the images.
        precision: Precision of the network; the softmax is in float32.

    Yields:
        The stem of each image, after its soft labels are written.

    Raises:
        CheckpointError: The teacher predicts NaN.
    """
    stride = store.manifest.quantisation.stride
    settings = TeacherSettings.of(store.manifest.prediction)
    try:
        for sample in samples:
            image = sample["image"]
            probs = cell_probs(model, image, stride=stride, precision=precision, settings=settings)
            require_finite(probs, model=str(store.manifest.teacher.name), image=sample["stem"])
            store.write(folder, sample["stem"], probs.cpu(), image)
            yield sample["stem"]
    finally:
        store.close()


@torch.inference_mode()
def cell_probs(
    model: SegmentationModel,
    image: Tensor,
    *,
    stride: int,
    precision: Precision,
    settings: TeacherSettings = PLAIN,
) -> Tensor:
    """Compute probabilities (C, h, w) at the centres of grid cells.

    A cell has `stride` pixels of the image (B, H, W) per side: h = ceil(H / stride). The softmax is
    in float32.
    """
    grid = (math.ceil(image.shape[-2] / stride), math.ceil(image.shape[-1] / stride))
    predictor = ModelPredictor(model, precision, settings.scaling)
    views = InferenceSettings(flips=settings.flip, scales=settings.scales)
    return view_probs(predictor, image.unsqueeze(0), settings=views, size=grid)[0]


def own_part(part: str | None) -> tuple[int, int]:
    """Return (part, number of parts) from "2/4", or from torchrun, or (1, 1).

    Example:
        >>> own_part("2/4"), own_part(None)
        ((2, 4), (1, 1))
    """
    if part is None:
        return rank() + 1, world_size()
    first, _, last = part.partition("/")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise ConfigError(f"--part: expected i/n with 1 <= i <= n, such as 2/4, but got {part}.")
    return int(first), int(last)
