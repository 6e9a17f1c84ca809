"""Estimate the memory of a training step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call


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
