"""Trace a model with its pre- and postprocessing, for any number and size of images.

Shapes: N images, C classes, (H, W) the image.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from softiou.errors import ExportError
from softiou.exporting.metadata import INPUT, InputDtype
from softiou.temperature import LogitScaling

if TYPE_CHECKING:
    from softiou.models import ModelSpec, SegmentationModel

# not multiples of a stride, or the tracer would infer that all sizes are multiples
_EXAMPLE = (2, 301, 269)


class Probabilities(nn.Module):
    """A module from images to probabilities, with all pre- and postprocessing.

        probs = softmax(scale z + bias),    z the logits of the model, interpolated to (H, W)

    The model must be in eval mode; without a scaling, scale is 1 and bias is 0.
    """

    def __init__(self, model: "SegmentationModel", scaling: LogitScaling | None) -> None:
        super().__init__()
        self.model = model
        self.scaling = scaling

    def forward(self, images: Tensor) -> Tensor:
        """Compute probabilities (N, C, H, W), float32, of RGB, uint8 in [0, 255] or in [0, 1].

        Bands have the values of the image files.
        """
        if self.model.spec.bands is not None:
            images = self.model.spec.bands.scaled(images)
        height, width = images.shape[-2:]
        # The model pads as well. Padding here lets the tracer infer that the sizes are multiples of
        # the stride; otherwise, the sizes of the example would be fixed.
        stride = self.model.input_stride
        rows, columns = ((side + stride - 1) // stride * stride for side in (height, width))
        if not images.is_floating_point():
            images = images.to(self.model.mean.dtype) / 255
        padding = (0, columns - width, 0, rows - height)
        images = F.pad(images - self.model.mean, padding) + self.model.mean  # with the mean colour
        logits = self.model.upsample(self.model(images), (rows, columns)).float()
        probs = (logits if self.scaling is None else self.scaling.apply(logits)).softmax(1)
        # Crop by negative padding: a slice is a view, which adds a constraint on its memory.
        return F.pad(probs, (0, width - columns, 0, height - rows))


def trace(
    model: "SegmentationModel", scaling: LogitScaling | None, *, input_dtype: InputDtype
) -> ExportedProgram:
    """Trace a model for any number and size of images.

    Args:
        model: Model in eval mode; it is copied.
        scaling: Scaling of the logits, or None.
        input_dtype: Dtype of the images.

    Returns:
        A program from `images` (N, 3, H, W) to probabilities (N, C, H, W) in float32, on the CPU.

    Raises:
        ExportError: The control flow of the model depends on values or sizes.
    """
    from softiou.models.building import smallest_px

    if _has_shifted_windows(model.spec):
        raise ExportError(
            f"{model.spec.architecture} with {model.spec.encoder} cannot be traced for images of "
            "any size: the tracer does not terminate for the shifted windows of Swin models. Use "
            "--to safetensors."
        )
    # use the default memory format, or the weights in the file would be permuted
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    use_adaptive_pooling(model)
    # At the smallest size, the coarsest map of the network has one cell, which the tracer would
    # treat as a special case.
    smallest = smallest_px(model.spec)
    side = Dim.DYNAMIC(min=1 if smallest == 1 else 2 * smallest)
    shapes = {INPUT: {0: Dim.DYNAMIC, 2: side, 3: side}}
    count, *size = _EXAMPLE
    example = torch.zeros(count, model.spec.channels, *size, dtype=getattr(torch, input_dtype))
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(
                Probabilities(model, scaling).eval(), (example,), dynamic_shapes=shapes
            )
    except Exception as error:  # the tracer raises many types of errors
        spec = model.spec
        raise ExportError(
            f"{spec.architecture} with {spec.encoder} cannot be traced for images of any size: "
            f"{first_line(error)} Use --to safetensors."
        ) from error


def _has_shifted_windows(spec: "ModelSpec") -> bool:
    backbone = (spec.settings or {}).get("backbone_config") or {}
    return "swin" in spec.encoder or "swin" in str(backbone.get("model_type"))


def smallest_side(program: ExportedProgram) -> int:
    """Return the smallest height and width of the input of a traced program."""
    images = next(node for node in program.graph.nodes if node.name == INPUT)
    symbols = [side.node.expr for side in images.meta["val"].shape[-2:]]
    return max(int(program.range_constraints[symbol].lower) for symbol in symbols)


@contextmanager
def quiet() -> Iterator[None]:
    """Return a context that suppresses warnings of exporters about their internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_line(error: Exception) -> str:
    """Return the first line of an error message as a sentence."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return text[:200].rstrip(". ") + "."


class AdaptivePooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` to (rows, columns) cells as two matrix products, for any size.

        y = A_H x A_W^T
        A_L[i, k] = 1 / n_i  for k in [floor(i L / S), ceil((i + 1) L / S)), else 0

    S is the number of cells along an axis, L the length of the map, and n_i the length of the
    interval. In a traced program, the original layer would fix the lengths of the example.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps (N, C, H, W) to (N, C, rows, columns)."""
        down = _averages(self.rows, maps.shape[-2], like=maps)
        across = _averages(self.columns, maps.shape[-1], like=maps)
        return down @ maps @ across.mT


def _averages(cells: int, length: int, *, like: Tensor) -> Tensor:
    """Return the matrix A (cells, length)."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    place = torch.arange(length, device=like.device)
    # no negative numbers, so integer division rounds down everywhere
    first, behind = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = ((place >= first) & (place < behind)).to(like.dtype)
    return inside / (behind - first).to(like.dtype)


def use_adaptive_pooling(model: nn.Module) -> None:
    """Replace the forward of adaptive poolings to more than one cell in a model.

    Modules are not replaced, because transformers also stores some in Python lists.
    """
    for module in model.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            rows, columns = size if isinstance(size, tuple) else (size, size)
            if rows and columns and (rows, columns) != (1, 1):
                module.__dict__["forward"] = AdaptivePooling(rows, columns).forward
