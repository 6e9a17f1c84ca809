"""The memory of a training step: estimate it, and trade it for time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from softiou.errors import ConfigError
from softiou.models.segmentation import SegmentationModel
from softiou.models.spec import TRANSFORMERS


def bytes_for_gradient(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the bytes that autograd saves in a forward pass of uint8 images (N, B, H, W).

    They are counted on the meta device, where tensors need no memory, in the dtype of the weights;
    the result is 0 for a model that does not run there.
    """
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {name: tensor.to("meta") for name, tensor in state.items()}
    images = torch.empty(shape, dtype=torch.uint8, device="meta")
    try:
        with kept_for_gradient() as kept:
            results = functional_call(model, state, (images,))  # keeps what is counted
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return 0
    del results
    return sum(kept.values())


@contextmanager
def kept_for_gradient() -> Iterator[dict[int, int]]:
    """Return a context that counts the bytes of each distinct storage saved by autograd."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        yield kept


def recompute_activations(model: SegmentationModel) -> None:
    """Let timm or transformers recompute the encoder's activations in the backward pass.

    Recomputing updates the running statistics of batch norms a second time. Raises a ConfigError if
    the encoder cannot do this.
    """
    try:
        encoder = model.net.encoder
        if model.spec.architecture == TRANSFORMERS:
            deprecated = encoder.body.gradient_checkpointing_enable
            enable = getattr(encoder.body, "activation_checkpointing_enable", deprecated)
            enable({"use_reentrant": False})
        else:
            encoder.model.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"model.gradient_checkpointing: {model.spec.encoder or 'your own model'} does not "
            "support it. Use an encoder of timm, such as tu-resnet50 or tu-convnext_tiny, or set "
            "it to false."
        ) from error
