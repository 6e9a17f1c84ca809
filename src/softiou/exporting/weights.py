"""Models from exported safetensors files."""

from pathlib import Path
from typing import TYPE_CHECKING

from softiou.errors import CheckpointError
from softiou.exporting.metadata import ExportInfo, from_strings

if TYPE_CHECKING:
    from softiou.models import SegmentationModel


def read_weights(path: Path) -> "tuple[SegmentationModel, ExportInfo]":
    """Build the model of a safetensors file, in eval mode on the CPU.

    Returns:
        The model, whose logits are not yet scaled, and the metadata.

    Raises:
        CheckpointError: The file is damaged, its weights do not fit its model, or it was not
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
        raise CheckpointError(f"The weights in {path} do not fit its own model: {error}") from error
    return model.eval(), info
