"""Parameters of a network that do not affect its logits."""

import torch
from torch import Tensor

from softiou.models.auxiliary import second_last
from softiou.models.building import smallest_px
from softiou.models.segmentation import SegmentationModel


def freeze_unused(model: SegmentationModel) -> list[str]:
    """Freeze parameters that do not affect the logits, and return their names.

    Examples are the last stages of the encoder of a PSPNet, or the classifier of a vision
    transformer: they have no gradients, for which distributed training would wait. The training
    mode is restored.
    """
    trained = {
        name: parameter
        for name, parameter in model.net.named_parameters(prefix="net")
        if parameter.requires_grad
    }
    sums = [result.sum() for result in _results(model)]
    gradients = torch.autograd.grad(sums, list(trained.values()), allow_unused=True)
    unused = [name for name, own in zip(trained, gradients, strict=True) if own is None]
    for name in unused:
        trained[name].requires_grad_(False)
    return unused


def _results(model: SegmentationModel) -> list[Tensor]:
    """Return the logits of a small image, and the features for an auxiliary head.

    The statistics of batch norms are not updated.
    """
    net, seen = model.net, []
    modes = {module: module.training for module in net.modules()}
    side = max(2 * model.input_stride, smallest_px(model.spec))
    handle = net.encoder.register_forward_hook(lambda *call: seen.append(call[-1]))
    net.eval()
    try:
        with torch.enable_grad():
            images = torch.zeros(1, model.spec.channels, side, side, device=model.mean.device)
            logits: Tensor = net(images)
    finally:
        handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [logits] if model.auxiliary is None else [logits, second_last(seen[0])]
