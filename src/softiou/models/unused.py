"""Weights of a network that none of its logits depend on."""

from typing import Any

import torch
from torch import Tensor, nn

from softiou.models.auxiliary import second_last
from softiou.models.building import smallest_px
from softiou.models.segmentation import SegmentationModel


def freeze_unused(model: SegmentationModel) -> list[str]:
    """Stop the gradient of parameters that have no part in the logits, and return their names.

    The stages behind the one where PSPNet cuts its encoder off, or a vision transformer's
    classifier: they never change, and processes that train together would wait for their
    gradients.

    Args:
        model: In any mode; it is as before afterwards, but for the frozen parameters.
    """
    used = _reached(_results(model))
    frozen = [
        (name, parameter)
        for name, parameter in model.net.named_parameters(prefix="net")
        if parameter.requires_grad and parameter not in used
    ]
    for _, parameter in frozen:
        parameter.requires_grad_(False)
    return [name for name, _ in frozen]


def _results(model: SegmentationModel) -> list[Tensor]:
    """Run a small image through the network, without touching what batch norms remember.

    Returns:
        The logits, and the features that an auxiliary head would see.
    """
    net, seen = model.net, []
    modes = {module: module.training for module in net.modules()}
    side = max(2 * model.input_stride, smallest_px(model.spec))
    handle = net.encoder.register_forward_hook(lambda *call: seen.append(call[-1]))
    net.eval()
    try:
        with torch.enable_grad():
            logits: Tensor = net(torch.zeros(1, 3, side, side, device=model.mean.device))
    finally:
        handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [logits] if model.auxiliary is None else [logits, second_last(seen[0])]


def _reached(results: list[Tensor]) -> set[nn.Parameter]:
    """Return the parameters that results were computed from, by way of their graph."""
    found: set[Any] = set()
    waiting: list[Any] = [result.grad_fn for result in results]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            found.add(node.variable)
        following = {before for before, _ in node.next_functions if before is not None} - seen
        seen |= following
        waiting += following
    return found
