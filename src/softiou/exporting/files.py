"""Write models in each format, and read weights.

| format | suffix | content |
| --- | --- | --- |
| onnx | .onnx | the program, for onnxruntime and others |
| torch-export | .pt2 | the program, for torch alone |
| safetensors | .safetensors | the weights, for softiou |
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch.export import ExportedProgram

from softiou.errors import CheckpointError, ConfigError, ExportError
from softiou.exporting.metadata import INPUT, OUTPUT, ExportInfo, from_strings
from softiou.exporting.tracing import first_line, quiet

if TYPE_CHECKING:
    from softiou.models import SegmentationModel

Format: TypeAlias = Literal["onnx", "torch-export", "safetensors"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "torch-export": ".pt2",
    "safetensors": ".safetensors",
}
EXTRA_FILE = "softiou.json"
_FREE = {0: "batch", 2: "height", 3: "width"}  # dynamic axes of images and probabilities
OPSET = 18  # first version with all required operators; needs onnxruntime 1.14 or newer


def write_onnx(program: ExportedProgram, strings: dict[str, str], path: Path) -> None:
    """Write a traced program as ONNX, with dynamic N, H and W."""
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise ConfigError(
                f"--to onnx needs the package {package}. Install it with: "
                "pip install onnx onnxscript onnxruntime"
            )
    try:
        with quiet():
            written = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
            if written is None:
                raise RuntimeError("the exporter returned nothing")
            for value in (*written.model.graph.inputs, *written.model.graph.outputs):
                shape: Any = value.shape
                for axis, name in _FREE.items():
                    shape[axis] = name
            written.model.metadata_props.update(strings)
            written.save(path, external_data=False)
    except Exception as error:  # the exporter raises many types of errors
        raise ExportError(
            f"The model cannot be written as ONNX: {first_line(error)} Use --to torch-export or "
            "safetensors."
        ) from error


def write_torch_export(program: ExportedProgram, strings: dict[str, str], path: Path) -> None:
    """Write a traced program for `torch.export.load`."""
    with quiet():
        torch.export.save(program, path, extra_files={EXTRA_FILE: json.dumps(strings)})


def write_safetensors(model: "SegmentationModel", strings: dict[str, str], path: Path) -> None:
    """Write the weights of a model, without those used only for training."""
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("auxiliary.")
    }
    # `save_file` of safetensors would make the file readable only for its owner
    path.write_bytes(save(tensors, metadata=strings))


PROGRAM_WRITERS: dict[Format, Callable[[ExportedProgram, dict[str, str], Path], None]] = {
    "onnx": write_onnx,
    "torch-export": write_torch_export,
}


def read_weights(path: Path) -> "tuple[SegmentationModel, ExportInfo]":
    """Build the model of a safetensors file, in eval mode on the CPU.

    Returns:
        The model, without the scaling of its logits, and the metadata.

    Raises:
        CheckpointError: The file is damaged, its weights do not match its model, or it was not
            written by `softiou export`.
    """
    from safetensors import SafetensorError, safe_open

    from softiou.models import ModelSpec, model_of_file

    try:
        with safe_open(path, framework="pt") as file:
            strings = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    info = from_strings(strings, file=str(path))
    model = model_of_file(ModelSpec.from_dict(info.model, file=path), path)
    try:
        model.load_state_dict(tensors)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"The weights in {path} do not match its model: {error}") from error
    return model.eval(), info
