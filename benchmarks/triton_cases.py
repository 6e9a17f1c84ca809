"""Compare the Triton kernels, interpreted on the CPU, with the reference on random inputs.

    python -m benchmarks.triton_cases                          # 1,000 cases, at most 25 minutes
    python -m benchmarks.triton_cases --cases 9000 --first 1000

Everything in a case is random: one to three targets and their kinds, activation, focal factor,
classes, dtypes, memory layouts, ignored and invalid labels, `valid`, weights, and the stride of the
logits. All sums are compared with those in float64, and the gradient of a random linear function of
them. Writes benchmarks/results/triton/interpreter.json. A wrong case is printed with its number,
and the program ends with status 1.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # must be set before Triton is imported

import numpy as np
import torch
from torch import Tensor

from benchmarks._interpreter import patch_once
from benchmarks._machine import ROOT, current_commit, machine
from softiou import targets
from softiou._files import write_atomically
from softiou.overlap import OverlapStatistics, PassSettings, gather_statistics
from softiou.targets import Target

patch_once()
RESULT = ROOT / "benchmarks" / "results" / "triton" / "interpreter.json"
IGNORE = 255
MOST_ENTRIES = 4_000  # of full-resolution logits, because the interpreter is slow
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "classes last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second": lambda x: torch.stack([x, x], -1)[..., 1],
    "rows with a gap": lambda x: torch.cat([x, x], -1)[..., : x.shape[-1]],
}
EXCLUSIVE = (
    *("hard", "soft", "smoothed", "boundary", "gaussian", "votes", "sparse"),
    *("teacher", "mixed", "pasted", "confident", "nested"),
)


@dataclass(frozen=True)
class Case:
    """The input of one comparison.

    Attributes:
        kinds: Kinds of its targets.
        logits: (N, C, *S), or (N, C, h, w) at a stride.
        targets: One to three targets.
        maps: `valid` and weights.
        settings: Settings of the pass.
    """

    kinds: tuple[str, ...]
    logits: Tensor
    targets: list[Tensor | Target]
    maps: dict[str, Tensor]
    settings: dict[str, Any]


class Draw:
    """Draws a random case, seeded by its number."""

    def __init__(self, number: int) -> None:
        self.rng = np.random.default_rng(number)
        self.activation = self.choose("softmax", "softmax", "softmax", "sigmoid", "none")
        few = self.rng.random() < 0.85
        least = 2 if self.activation == "softmax" else 1
        self.C = int(self.rng.integers(least, 24) if few else self.rng.choice([33, 150, 256, 300]))
        self.N = int(self.rng.integers(1, 3))
        self.low = self.C <= 256 and self.rng.random() < 0.5
        self.space = self._space()

    def choose(self, *options: Any) -> Any:
        """Draw one of several values."""
        return options[self.rng.integers(len(options))]

    def case(self) -> Case:
        """Draw a case."""
        kinds = EXCLUSIVE if self.activation == "softmax" else ("hard", "soft", "integers")
        drawn = tuple(str(self.choose(*kinds)) for _ in range(self.choose(1, 1, 2, 3)))
        wanted = [self._target(kind) for kind in drawn]
        settings = {
            "activation": self.activation,
            "cross_entropy": bool(self.rng.random() < 0.8) and self.activation != "none",
            "maxima": bool(self.rng.random() < 0.5),
            "label_smoothing": float(self.choose(0.0, 0.0, 0.1)),
            "focal_gamma": float(self.choose(0.0, 0.0, 1.0, 2.0)),
            "ignore_index": IGNORE,
            "upsample": "bilinear" if self.low else None,
            "align_corners": bool(self.low and self.rng.random() < 0.3),
            "validate": False,
        }
        return Case(drawn, self._logits(), wanted, self._maps(), settings)

    def _space(self) -> tuple[int, ...]:
        pixels = max(2, MOST_ENTRIES // (self.N * self.C))
        if not self.low and self.rng.random() < 0.2:
            return tuple(int(side) for side in self.choose((min(pixels, 50),), (2, 3, 5)))
        height = int(self.rng.integers(1, min(12, pixels) + 1))
        return height, int(self.rng.integers(1, min(24, pixels // height) + 1))

    def _logits(self) -> Tensor:
        size = self.space
        if self.low:
            # Rarely a high stride, because its gradient sums over many pixels.
            most = self.choose(2, 2, 4, 4, 24)
            least = [-(-side // most) for side in size]
            size = tuple(
                int(self.rng.integers(one, side + 2)) for one, side in zip(least, size, strict=True)
            )
        values = self.rng.normal(0, self.choose(1.0, 5.0, 30.0), (self.N, self.C, *size))
        if self.activation == "none":
            values = self.rng.uniform(0.05, 0.95, values.shape)  # not 0 or 1: |p - y| has a kink
        dtype = self.choose(torch.float32, torch.float32, torch.bfloat16, torch.float16)
        return self._laid_out(torch.from_numpy(values).to(dtype))

    def _laid_out(self, x: Tensor) -> Tensor:
        name = self.choose(*LAYOUTS)
        return LAYOUTS[name](x) if len(self.space) == 2 else x

    def _labels(self, *leading: int) -> Tensor:
        classes = max(self.C, 2)
        labels = self.rng.integers(0, classes, (self.N, *leading, *self.space))
        strange = self.choose([IGNORE], [IGNORE, classes, -1])
        labels = np.where(self.rng.random(labels.shape) < 0.2, self.rng.choice(strange), labels)
        dtype = self.choose(torch.int64, torch.int32, torch.int16)
        return self._laid_out(torch.from_numpy(labels).to(dtype))

    def _probs(self) -> Tensor:
        if self.activation != "softmax":
            probs = self.rng.random((self.N, self.C, *self.space))
        else:
            flat = self.rng.dirichlet([0.5] * self.C, (self.N, *self.space))
            probs = np.moveaxis(flat, -1, 1).copy()
        found = torch.from_numpy(probs).to(self.choose(torch.float32, torch.float64, torch.float16))
        ignored = torch.from_numpy(self.rng.random((self.N, 1, *self.space)) < 0.2)
        return self._laid_out(torch.where(ignored & bool(self.choose(0, 1)), IGNORE, found))

    def _target(self, kind: str) -> Tensor | Target:
        options: dict[str, Any] = {"ignore_index": IGNORE}
        makers: dict[str, Callable[[], Tensor | Target]] = {
            "hard": self._labels,
            "soft": self._probs,
            "integers": lambda: (self._probs() > 0.5).to(torch.uint8),
            "smoothed": lambda: targets.smooth(self._labels(), 0.3, **options),
            "boundary": lambda: targets.boundary(self._labels(), 0.5, 1, **options),
            "gaussian": lambda: targets.gaussian(self._labels(), sigma=0.8, width=1, **options),
            "votes": lambda: targets.votes(self._labels(3), **options),
            "sparse": self._sparse,
            "teacher": self._teacher,
            "mixed": lambda: targets.mix((0.3, self._teacher()), (0.7, self._sparse())),
            "pasted": lambda: targets.paste(self._teacher(), self._sparse(), self._region()),
            "confident": self._confident,
            "nested": lambda: targets.paste(
                targets.mix((0.3, self._teacher()), (0.7, self._labels())),
                self._confident(),
                self._region(),
            ),
        }
        return makers[kind]()

    def _sparse(self) -> Target:
        probs = torch.from_numpy(self.rng.dirichlet([0.5] * self.C, (self.N, *self.space)))
        weights, indices = probs.movedim(-1, 1).topk(min(2, self.C), 1)
        return targets.sparse(indices, weights.float())

    def _teacher(self) -> Target:
        size = self.space
        if len(size) == 2:
            size = tuple(max(1, side // self.choose(1, 2, 3)) for side in size)
        logits = torch.from_numpy(self.rng.normal(0, 3, (self.N, self.C, *size))).float()
        whole = self.space if len(self.space) == 2 else None
        options: dict[str, Any] = {"temperature": float(self.choose(1.0, 3.0))}
        return targets.teacher(logits, size=whole, **options)

    def _confident(self) -> Target:
        options: dict[str, Any] = {"temperature": float(self.choose(0.5, 1.0))}
        keep = self.choose(None, None, 1, 2)
        return targets.confident(self._teacher(), threshold=0.5, keep=keep, **options)

    def _region(self) -> Tensor:
        return torch.from_numpy(self.rng.random((self.N, *self.space)) < 0.5)

    def _maps(self) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        shape = (self.N, *self.space)
        if self.choose(0, 1):
            maps["valid"] = self._laid_out(torch.from_numpy(self.rng.random(shape) < 0.8))
        if self.choose(0, 1):
            weights = torch.from_numpy(self.rng.choice([0.0, 0.5, 2.0], shape)).float()
            maps["weights"] = self._laid_out(weights)
        return maps


def compare(number: int) -> dict[str, Any]:
    """Run a case.

    Returns:
        Its kinds and dtype, and the largest errors of sums and gradient relative to the tolerance,
        which is the rounding of float32 (or of the logits' dtype for their gradient).
    """
    case = Draw(number).case()
    sums, gradient = _run(case, case.logits, "triton")
    expected, right = _run(case, case.logits.double(), "torch")
    pixels = case.targets[0].shape[-1] * case.logits[:, 0].numel()
    of_sums = 0.0
    for own, exact in zip(sums, expected, strict=True):
        of_sums = max(of_sums, _excess(own, exact, 1e-5, 1e-6 * max(1, pixels) ** 0.5))
    # The interpreter truncates to bfloat16, whereas a GPU rounds to nearest.
    rounding = torch.finfo(case.logits.dtype).eps
    bounds = (2e-5, 1e-5) if rounding < 1e-5 else (1.01 * rounding, 1e-4)
    return {
        "kinds": case.kinds,
        "dtype": str(case.logits.dtype).removeprefix("torch."),
        "sums": of_sums,
        "gradient": _excess(gradient, right, *bounds),
    }


def _run(case: Case, logits: Tensor, impl: str) -> tuple[list[Tensor], Tensor]:
    """Return the sums of all targets, and the gradient of a linear function of them."""
    leaf = logits.detach().requires_grad_()
    settings = PassSettings(impl=impl, **case.settings)
    valid, weights = case.maps.get("valid"), case.maps.get("weights")
    found = gather_statistics(leaf, case.targets, settings, valid=valid, weights=weights)
    sums = [getattr(one, name) for one in found for name in _names(one)]
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for one in sums:
        slope = torch.randn(one.shape, generator=generator, dtype=torch.float64)
        total = total + (slope * one.double()).sum() * one.requires_grad
    (gradient,) = torch.autograd.grad(total, leaf)
    return [one.detach() for one in sums], gradient


def _names(statistics: OverlapStatistics) -> list[str]:
    return [one.name for one in fields(statistics) if getattr(statistics, one.name) is not None]


def _excess(found: Tensor, right: Tensor, relative: float, absolute: float) -> float:
    """Return the largest error relative to the tolerance; infinity for a wrong shape or NaN."""
    if found.shape != right.shape or not torch.isfinite(found).all():
        return float("inf")
    error = (found.double() - right.double()).abs() / (absolute + relative * right.double().abs())
    return float(error.max()) if error.numel() else 0.0


def main() -> None:
    """Run the cases, print the wrong ones, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--minutes", type=float, default=25.0, help="stop after that")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="ignore")  # the interpreter uses NumPy, which warns of overflow in exp
    start, commit, rows = time.monotonic(), current_commit(), []
    for number in range(arguments.first, arguments.first + arguments.cases):
        if time.monotonic() - start > 60 * arguments.minutes:
            break
        rows.append({"number": number, **compare(number)})
        if max(rows[-1]["sums"], rows[-1]["gradient"]) > 1:
            print("wrong", rows[-1], flush=True)
    seconds = round(time.monotonic() - start)
    content = {"commit": commit, "seconds": seconds, **summary(rows)}
    print(json.dumps(content, indent=1))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), RESULT)
    sys.exit(bool(content["wrong"]))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the cases, and list the wrong ones."""
    wrong = [row["number"] for row in rows if max(row["sums"], row["gradient"]) > 1]
    return {
        "date": str(date.today()),
        "machine": machine(),
        "first": rows[0]["number"],
        "cases": len(rows),
        "wrong": wrong,
        "largest_error_of_sums": round(max(row["sums"] for row in rows), 3),
        "largest_error_of_gradients": round(max(row["gradient"] for row in rows), 3),
        "unit": "of the allowed error: 1e-5 of a sum, 2e-5 of a gradient or its dtype's rounding",
        "targets": dict(Counter(kind for row in rows for kind in row["kinds"]).most_common()),
        "dtypes": dict(Counter(row["dtype"] for row in rows).most_common()),
    }


if __name__ == "__main__":
    main()
