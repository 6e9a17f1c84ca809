"""Export a trained model to a file, and verify it before it is renamed.

Shapes: N images, C classes, (H, W) the image.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou._files import atomic_path
from softiou.errors import ExportError, RunExistsError, SoftiouError
from softiou.exporting.files import PROGRAM_WRITERS, SUFFIXES, Format, write_safetensors
from softiou.exporting.metadata import ExportInfo, InputDtype, to_strings
from softiou.exporting.running import Exported, as_dtype, open_exported
from softiou.exporting.tracing import first_line, smallest_side, trace
from softiou.inference import ModelPredictor
from softiou.temperature import LogitScaling

if TYPE_CHECKING:
    from softiou.checkpoints import TrainedModel
    from softiou.models import SegmentationModel

TOLERANCE = 1e-4  # of probabilities; the order of float32 operations causes 1e-7 to 5e-5
_CELLS_PX = 16  # side of the coloured squares


@dataclass(frozen=True)
class Report:
    """The result of an export.

    Attributes:
        path: The file.
        info: Its metadata.
        size_bytes: Size of the file.
        difference: Largest difference between probabilities of the file and the model.
    """

    path: Path
    info: ExportInfo
    size_bytes: int
    difference: float


def export_model(
    trained: "TrainedModel",
    path: Path,
    *,
    to: Format,
    scaling: LogitScaling | None = None,
    input_dtype: InputDtype = "uint8",
    overwrite: bool = False,
) -> Report:
    """Write a model to a file, and verify its output.

    Other arguments and errors are those of `softiou.export`.

    Args:
        trained: The model and its classes.
        path: File to write; its folder is created.
        scaling: Scaling of the logits, such as from `softiou.calibration.load_scaling`.

    Returns:
        The path of the file and its metadata.

    Raises:
        ExportError: The model cannot be exported, or the probabilities of the file differ from
            those of the model by more than 1e-4; the file is then removed.
    """
    from softiou.checkpoints import file_sha256

    if path.exists() and not overwrite:
        raise RunExistsError(
            f"{path} already exists; nothing was changed. Choose another file with --out, or add "
            "--overwrite."
        )
    info = ExportInfo(
        description=trained.description,
        model=replace(trained.model.spec, auxiliary=False).as_dict(),
        scaling=scaling,
        input_dtype=input_dtype if trained.bands is None else "float32",
        smallest_px=1,
        checkpoint_sha256=file_sha256(trained.path),
        weights=trained.weights,
        step=trained.step,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, suffix=SUFFIXES[to]) as temporary:
        info = _write(trained.model, info, temporary, to=to)
        difference = _verify(trained.model, info, temporary)
    return Report(path, info, path.stat().st_size, difference)


def _write(model: "SegmentationModel", info: ExportInfo, path: Path, *, to: Format) -> ExportInfo:
    """Write the file, and return its metadata."""
    from softiou.models.building import smallest_px

    if to == "safetensors":
        write_safetensors(model, to_strings(info), path)
        return info
    program = trace(model, info.scaling, input_dtype=info.input_dtype)
    smallest = smallest_side(program) if to == "torch-export" else smallest_px(model.spec)
    info = replace(info, smallest_px=smallest)
    PROGRAM_WRITERS[to](program, to_strings(info), path)
    return info


def _verify(model: "SegmentationModel", info: ExportInfo, path: Path) -> float:
    """Compare the file with the model; raise ExportError if the outputs differ."""
    channels = model.spec.channels
    images = example_images(info.smallest_px, stride=model.input_stride, channels=channels)
    if info.bands is not None:
        images = [batch / 255 for batch in images]
        images[0][0, :, :9, :9] = torch.nan
    spec = info.model
    what = f"{spec['architecture']} with {spec['encoder']}, as {path.suffix}"
    try:
        exported = open_exported(path, precision="fp32", trust=True)  # written by this process
        difference = largest_difference(exported, model, info.scaling, images)
    except SoftiouError:
        raise
    except Exception as error:  # onnxruntime has an exception for each error code
        raise ExportError(f"{what}, cannot be run: {first_line(error)}") from error
    if difference > TOLERANCE:
        raise ExportError(
            f"{what}, computes something else than the model: a probability differs by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}. The file was removed. Use another "
            "format; safetensors contains the original weights."
        )
    return difference


def example_images(smallest_px: int, *, stride: int, channels: int = 3) -> list[Tensor]:
    """Return test batches of blurred squares with noise, with odd, even and small sizes.

    They are (N, channels, H, W), uint8, and deterministic. `smallest_px` is the smallest height and
    width of the program; the network's input is a multiple of `stride`, in pixels.
    """
    random = torch.Generator().manual_seed(0)
    least = max(96, smallest_px)
    even = -(-least // stride) * stride
    sizes = [
        (2, least + 5, least + 38),
        (1, even, even + stride),
        (1, smallest_px, smallest_px + 3),
    ]
    return [_squares((count, channels), size, random) for count, *size in sizes]


def _squares(shape: tuple[int, int], size: list[int], random: torch.Generator) -> Tensor:
    cells = [-(-length // _CELLS_PX) + 1 for length in size]
    colours = torch.rand(*shape, *cells, generator=random)
    noise = torch.rand(*shape, *size, generator=random)
    images = F.interpolate(colours, size, mode="bilinear") * 0.9 + noise * 0.1
    return (images * 255).round().to(torch.uint8)


def largest_difference(
    exported: Exported,
    model: "SegmentationModel",
    scaling: LogitScaling | None,
    batches: Iterable[Tensor],
) -> float:
    """Return the largest difference between probabilities of a file and its model, on the CPU.

    The model computes in float32, with the scaling of its logits, on batches of images (N, 3, H,
    W), uint8 or scaled bands. The result is in [0, 1], or infinite if the file computes NaN.
    """
    original = ModelPredictor(model, "fp32", scaling)
    largest = 0.0
    for images in batches:
        size = (int(images.shape[-2]), int(images.shape[-1]))
        seen = as_dtype(images, exported.info.input_dtype)
        with torch.inference_mode():
            difference = exported.predictor.probs(seen, size) - original.probs(images, size)
        largest = max(largest, float(difference.abs().nan_to_num(torch.inf).max()))
    return largest
