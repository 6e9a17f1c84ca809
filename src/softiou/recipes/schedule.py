"""Learning rate schedule, optimiser and parameter groups."""

from typing import Any

import torch

from softiou.models import SegmentationModel


class WarmupPoly:
    """Factor of the learning rate: linear warm-up, then (1 - progress) ** power.

    A power of 0.9 is usual in segmentation, 1 (linear decay) with transformers; 0 is no decay.
    """

    def __init__(self, steps: int, warmup: float, power: float) -> None:
        self.steps = steps
        self.warmup_steps = int(warmup * steps)
        self.power = power

    def __call__(self, step: int) -> float:
        """Return the factor at a step, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return float(max(0.0, 1 - progress) ** self.power)


def build_optimizer(
    name: str, groups: list[dict[str, Any]], *, momentum: float | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser "adamw" or "sgd" for groups of parameters, see `parameter_groups`."""
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum or 0.0)
    return torch.optim.AdamW(groups)


def parameter_groups(
    model: SegmentationModel, *, learning_rate: float, encoder_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group parameters by learning rate (encoder, rest) and weight decay (none for 1-D ones)."""
    pretrained = model.encoder_parameters()
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (parameter in pretrained, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    # Sorted, so that the decoder comes first and the logged rate is `learning_rate`.
    return [
        {
            "params": parameters,
            "lr": learning_rate * (encoder_rate if encoder else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
