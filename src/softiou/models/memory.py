"""What a training step takes of the memory."""

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call


def bytes_for_gradient(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the bytes that autograd keeps of a pass over images uint8 (N, 3, H, W).

    They are counted on the meta device, where tensors have a shape and take no memory, in the dtype
    of the weights; 0 for a model that does not run there.
    """
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()  # once, however many operations keep it
        return tensor

    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {name: tensor.to("meta") for name, tensor in state.items()}
    images = torch.empty(shape, dtype=torch.uint8, device="meta")
    try:
        with saved_tensors_hooks(count, lambda tensor: tensor):
            results = functional_call(model, state, (images,))  # keeps what is counted
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return 0
    del results
    return sum(kept.values())
