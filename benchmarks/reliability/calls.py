"""Invalid calls from Python: losses, metrics and targets with wrong types and shapes."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import softiou
from softiou import metrics, targets

NONSENSE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 1.5, 1e300, float("nan"), float("inf"), "present", "all", "x", ""),
    *([], [0], [0, 0], [1.5], [-1], [99], {}, {"batch": 1}, {"batch": -1}, (1, 2), object()),
    *(torch.ones(3), torch.tensor(2.0), torch.tensor([0.0, -1, 1]), np.ones(3), "none", "sum"),
)
SETTINGS = (
    *("alpha", "beta", "gamma", "smooth", "classes", "class_weights", "per", "reduction"),
    *("activation", "cross_entropy", "label_smoothing", "ignore_index", "threshold", "tile"),
    *("impl", "upsample", "validate", "pos_weight", "cross_entropy_weights", "focal_gamma"),
)


def call(generator: random.Random, folder: Path, data: Path, teacher: Path) -> Callable[[], None]:
    """Return a possibly invalid call, which must return finite numbers or raise a clear error."""
    name = generator.choice(list(CALLS))
    seed = generator.getrandbits(32)

    def called() -> None:
        torch.manual_seed(seed)
        try:
            value = CALLS[name](random.Random(seed))
        except (TypeError, ValueError) as error:
            if not re.search("[Ee]xpected|`", str(error)):
                raise RuntimeError(f"{error!r} does not say what was expected.") from error
            raise
        if name != "metric" and isinstance(value, Tensor) and not bool(value.isfinite().all()):
            raise RuntimeError(f"The loss is {value} without a word.")

    called.__name__ = f"{name}, seed {seed}"
    return called


def _tensor(generator: random.Random) -> Any:
    """Draw a tensor, or another object."""
    shape = generator.choice(
        [(2, 3, 4, 5), (2, 4, 5), (2, 1, 4, 5), (3, 4), (), (0, 3, 4, 5), (2,)]
    )
    values: dict[str, Callable[[], Any]] = {
        "logits": lambda: torch.randn(shape),
        "half": lambda: torch.randn(shape).half(),
        "labels": lambda: torch.randint(0, 3, shape),
        "wild labels": lambda: torch.randint(-5, 300, shape),
        "bytes": lambda: torch.randint(0, 3, shape, dtype=torch.uint8),
        "bool": lambda: torch.rand(shape) < 0.5,
        "complex": lambda: torch.randn(shape, dtype=torch.complex64),
        "probs": lambda: torch.rand(2, 3, 4, 5).softmax(1),
        "array": lambda: np.ones(shape),
        "sparse": lambda: torch.ones(2, 3).to_sparse(),
        "other": lambda: generator.choice(NONSENSE),
    }
    return values[generator.choice(list(values))]()


def _loss(generator: random.Random) -> Any:
    """Call a loss with settings and tensors, some of which are invalid."""
    names = generator.sample(SETTINGS, generator.randrange(3))
    loss = softiou.TverskyLoss(**{name: generator.choice(NONSENSE) for name in names})
    logits = generator.choice([torch.randn(2, 3, 4, 5), _tensor(generator)])
    target = generator.choice([torch.randint(0, 3, (2, 4, 5)), _tensor(generator)])
    maps = {name: _tensor(generator) for name in ("valid", "weights") if generator.random() < 0.2}
    return loss(logits, target, **maps)


def _metric(generator: random.Random) -> Any:
    """Update a metric, and compute it."""
    kinds = (
        metrics.MeanIoU,
        metrics.SoftIoU,
        metrics.ExpectedCalibrationError,
        metrics.BoundaryIoU,
    )
    metric: Any = generator.choice(kinds)(num_classes=generator.choice([3, 3, 3, *NONSENSE[:8]]))
    metric.update(_tensor(generator), _tensor(generator))
    return metric.compute()


def _target(generator: random.Random) -> Any:
    """Create a target from another one, and read it."""
    number = generator.choice([0.5, *NONSENSE[:10]])
    made = {
        "boundary": lambda: targets.boundary(_tensor(generator), number),
        "votes": lambda: targets.votes(_tensor(generator)),
        "sparse": lambda: targets.sparse(_tensor(generator), _tensor(generator)),
        "mix": lambda: targets.mix((number, _tensor(generator)), (0.5, _tensor(generator))),
    }
    target = made[generator.choice(list(made))]()
    return softiou.JaccardMetricLoss()(torch.randn(2, 3, 4, 5), target)


CALLS: dict[str, Callable[[random.Random], Any]] = {
    "loss": _loss,
    "metric": _metric,
    "target": _target,
}
