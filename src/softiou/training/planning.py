"""Plan a training without running it: resolve its settings, estimate its memory and time."""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from softiou.configuration.plan import Cost, Plan
from softiou.configuration.sections import Config
from softiou.inference import autocast, best_device
from softiou.models.memory import kept_for_gradient
from softiou.recipes.base import Recipe
from softiou.recipes.custom import NOTHING_CUSTOM, CustomParts
from softiou.training.fitting import one_step
from softiou.training.resolving import RULES, changed
from softiou.training.trainer import build_recipe, open_data, resolved_for, with_own_validation


def plan_training(
    config: Config, *, step: bool = False, custom: CustomParts = NOTHING_CUSTOM
) -> Plan:
    """Return the settings and the cost of a training, without writing anything.

    Args:
        config: The configuration, not yet resolved.
        step: Whether to also run and measure the first training step, with pretrained weights.
        custom: Objects given from Python in place of parts of the configuration.

    Raises:
        ConfigError, DataError, CheckpointError: As `start_training`.
    """
    config = with_own_validation(custom.recorded_in(config), custom)
    data = open_data(config, custom)
    resolved = resolved_for(config, data, custom)
    weights = config.model.encoder_weights if step else "none"
    recipe = build_recipe(resolved, data, custom, encoder_weights=weights)
    measured = _estimate(recipe)
    if step:
        begin = time.perf_counter()
        with TemporaryDirectory() as folder:
            one_step(recipe, data, Path(folder), custom=custom)
        measured |= {"step_seconds": time.perf_counter() - begin, "peak_mib": _peak_mib()}
    reasons = {key: RULES[key] for key in changed(config, resolved) if key in RULES}
    return Plan(resolved, reasons, Cost(**measured))


def _estimate(recipe: Recipe) -> dict[str, Any]:
    """Run a forward pass on two crops, and measure its time and the activations it keeps."""
    config, device = recipe.config, best_device()
    model = recipe.model.to(device).train()
    images = torch.rand(2, model.spec.channels, *config.data.crop_px, device=device)
    parameters = sum(weights.numel() for weights in model.parameters())
    with autocast(device, config.precision):
        with kept_for_gradient() as kept:
            model(images)
        begin = time.perf_counter()
        model(images).sum().item()  # waits for the GPU
    forward = (time.perf_counter() - begin) / 2
    own = {weights.untyped_storage()._cdata for weights in model.parameters()}
    activations = sum(size for place, size in kept.items() if place not in own) / 2
    images_a_step = sum(recipe.batch_sizes())
    copies = 4 if config.optim.optimizer == "adamw" else 3  # weights, gradients, averages
    steps = config.optim.accumulate * config.optim.steps
    return {
        "parameters": parameters,
        "memory_mib": (4 * copies * parameters + activations * images_a_step) / 2**20,
        "seconds": 3 * forward * images_a_step * steps,
    }


def _peak_mib() -> float | None:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # of bytes, or of KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
