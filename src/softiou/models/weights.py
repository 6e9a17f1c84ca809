"""Encoder weights from a local safetensors file."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from softiou.errors import CheckpointError


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load weights from a safetensors file into an encoder.

    Raises:
        CheckpointError: The file is missing, not in safetensors, or belongs to another encoder.
    """
    if not path.is_file():
        raise CheckpointError(
            f"model.encoder_weights: there is no file {path}. Give none, imagenet or the path of a "
            "safetensors file."
        )
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    own = encoder.state_dict()
    missing = [name for name in own if name not in weights]
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or wrong:
        raise CheckpointError(
            f"{path} does not fit the encoder: {len(missing)} tensors are missing and {len(wrong)} "
            f"have another shape, for instance {(missing + wrong)[0]}. Is it another encoder's?"
        )
    encoder.load_state_dict({name: weights[name] for name in own})
