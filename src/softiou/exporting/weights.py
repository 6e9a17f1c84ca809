"""Weights in safetensors, with all that builds their model again."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou.errors import CheckpointError
from softiou.exporting.metadata import ExportInfo, from_strings

if TYPE_CHECKING:
    from softiou.models import ModelSpec, SegmentationModel


def read_weights(path: Path) -> "tuple[SegmentationModel, ExportInfo]":
    """Build the model of a safetensors file, in eval mode on the CPU.

    Returns:
        The model, whose logits are still to be scaled, and what the file says of itself.

    Raises:
        CheckpointError: The file is damaged, its weights do not fit its model, or `softiou export`
            did not write it.
    """
    from safetensors import SafetensorError, safe_open

    from softiou.models import SegmentationModel

    try:
        with safe_open(path, framework="pt") as file:
            strings = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
    info = from_strings(strings, file=str(path))
    model = SegmentationModel(_spec(info.model, path))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"The weights in {path} do not fit its own model: {error}") from error
    return model.eval(), info


def _spec(values: dict[str, Any], path: Path) -> "ModelSpec":
    from softiou.models import ModelSpec

    unknown = sorted(set(values) - {field.name for field in fields(ModelSpec)})
    if unknown:
        raise CheckpointError(
            f"{path} has a model with settings that this softiou does not know: {unknown}. "
            "Update softiou."
        )
    try:
        return ModelSpec(**values)
    except TypeError as error:
        raise CheckpointError(f"{path} does not say what its model is: {error}.") from error
