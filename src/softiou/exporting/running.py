"""Run exported files as predictors, with windows, flips and scales.

A torch.export file can run any code when torch loads it, so it is loaded only if the caller trusts
it. The other formats contain only numbers and a graph of known operators.

Shapes: N images, C classes, (H, W) the image, (h, w) the input of the program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou._reading import parse_json
from softiou.data import Bands, DatasetDescription
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.exporting.files import EXTRA_FILE, SUFFIXES, read_weights
from softiou.exporting.metadata import INPUT, ExportInfo, from_strings
from softiou.exporting.tracing import first_line, quiet
from softiou.inference import ModelPredictor, Precision, Predictor

# in order of preference; TensorRT would build an engine for each image size
_PROVIDERS = ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class Exported:
    """An opened exported file.

    Attributes:
        info: Its metadata.
        predictor: Computes probabilities, with the calibration of the file.
        path: The file.
    """

    info: ExportInfo
    predictor: Predictor
    path: Path

    @property
    def description(self) -> DatasetDescription:
        """Names and colours of the classes."""
        return self.info.description

    @property
    def bands(self) -> Bands | None:
        """The input bands; None for RGB."""
        return self.info.bands

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name


@dataclass(frozen=True)
class ProgramPredictor:
    """A predictor for an exported program; probabilities are resized after the softmax."""

    info: ExportInfo  # metadata of the file
    device: torch.device  # device of the program
    # maps images (N, 3, h, w) in the program's dtype to probabilities (N, C, h, w)
    run: Callable[[Tensor], Tensor]

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return self.info.description.num_classes

    def probs(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute probabilities (N, C, H, W); raise DataError if the images are too small."""
        height, width = images.shape[-2:]
        if min(height, width) < self.info.smallest_px:
            raise DataError(
                f"The program needs at least {self.info.smallest_px} pixels per side, but got "
                f"{width} x {height}. Use larger windows or scales, or predict "
                "from the checkpoint or an export --to safetensors."
            )
        if self.info.bands is not None:  # the program scales them itself
            images = self.info.bands.stored(images)
        probs = self.run(as_dtype(images, self.info.input_dtype))
        if (height, width) == size:
            return probs
        return F.interpolate(probs, size, mode="bilinear", align_corners=False)


def as_dtype(images: Tensor, dtype: str) -> Tensor:
    """Convert images to uint8 in [0, 255] or float32 in [0, 1]."""
    if dtype == "uint8":
        if images.is_floating_point():
            images = (images * 255).round().clamp(0, 255).to(torch.uint8)
        return images
    return images.float() if images.is_floating_point() else images.float() / 255


def is_exported(path: Path) -> bool:
    """Return whether a path has the suffix of an exported file."""
    return path.suffix.lower() in SUFFIXES.values()


def open_exported(
    path: Path,
    *,
    device: torch.device | None = None,
    precision: Precision = "fp32",
    trust: bool = False,
) -> Exported:
    """Open an exported file.

    ONNX and torch.export files need no libraries for models and training.

    Args:
        path: FILE.onnx, FILE.pt2 or FILE.safetensors, written by `softiou export`.
        device: Device for weights and torch programs; default: CPU. onnxruntime selects a
            supported GPU on its own, and takes images from the CPU.
        precision: Precision of a safetensors model. Programs compute in float32.
        trust: Whether to load a torch.export file. Loading can run any code with your permissions:
            set it only for files that you wrote, or whose author and transfer you trust as you
            would trust a program. The other formats are safe.

    Raises:
        CheckpointError: The file is missing or damaged, was not written by `softiou export`, or is
            a torch.export file without `trust`.
        ConfigError: onnxruntime is not installed, or the suffix is unknown.
    """
    if not path.is_file():
        others = sorted(path.parent.glob(f"checkpoints/*{path.suffix}"))  # of `export`
        there = f" Found {others[0]}." if others else ""
        raise CheckpointError(f"{path} does not exist: expected an exported file.{there}")
    device = device or torch.device("cpu")
    suffix = path.suffix.lower()
    if suffix == SUFFIXES["onnx"]:
        return _open_onnx(path)
    if suffix == SUFFIXES["torch-export"]:
        _require_trust(path, trust=trust)
        return _open_torch_export(path, device)
    if suffix == SUFFIXES["safetensors"]:
        model, info = read_weights(path)
        return Exported(info, ModelPredictor(model.to(device), precision, info.scaling), path)
    raise ConfigError(f"{path} has none of the suffixes {', '.join(SUFFIXES.values())}.")


def _open_onnx(path: Path) -> Exported:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "Running an ONNX file needs onnxruntime. Install it with: pip install "
            "onnxruntime, or onnxruntime-gpu for a GPU."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised as exceptions
    usable = [name for name in _PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=usable)
    except Exception as error:  # onnxruntime has an exception for each error code
        raise CheckpointError(f"{path} is not a readable ONNX file: {first_line(error)}") from error
    info = from_strings(session.get_modelmeta().custom_metadata_map, file=str(path))

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

    return Exported(info, ProgramPredictor(info, torch.device("cpu"), run), path)


def _require_trust(path: Path, *, trust: bool) -> None:
    if not trust:
        raise CheckpointError(
            f"Expected a file that is safe to load, but {path} is a torch.export program, which "
            "can run any code on this machine. If you wrote it, or trust its author as you would "
            "trust a program, add --trust (trust=True in Python). Files exported with --to onnx or "
            "--to safetensors are safe."
        )


def _open_torch_export(path: Path, device: torch.device) -> Exported:
    extra = {EXTRA_FILE: ""}
    try:
        with quiet():
            program = torch.export.load(path, extra_files=extra)
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
        info = from_strings(parse_json(extra[EXTRA_FILE] or "{}"), file=str(path))
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many types of errors
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error
    return Exported(info, ProgramPredictor(info, device, program.module()), path)
