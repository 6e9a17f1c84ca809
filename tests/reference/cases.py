"""Random batches of every kind: what hypothesis draws for the overlap statistics and losses."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from reference.overlap_loops import Dense, prepare

HARD_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64")


@dataclass(frozen=True)
class Case:
    """A prediction, a plain target and what counts."""

    logits: NDArray[Any]
    target: NDArray[Any]
    activation: str
    ignore_index: int | None = None
    valid: NDArray[np.bool_] | None = None
    weights: NDArray[Any] | None = None

    @property
    def num_classes(self) -> int:
        return int(self.logits.shape[1])

    def reference(self) -> Dense:
        return prepare(
            self.logits,
            self.target,
            activation=self.activation,
            ignore_index=self.ignore_index,
            valid=self.valid,
            weights=self.weights,
        )

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.logits).to(dtype), torch.from_numpy(self.target)

    def maps(self) -> dict[str, Any]:
        """`valid` and `weights` as tensors."""
        return {
            name: None if array is None else torch.from_numpy(array)
            for name, array in (("valid", self.valid), ("weights", self.weights))
        }

    def settings(self) -> dict[str, Any]:
        """Settings of a call; labels that are no class are left out without a word."""
        settings = {"activation": self.activation, "ignore_index": self.ignore_index}
        return settings | {"validate": False}

    def permuted(self, images: NDArray[Any], pixels: NDArray[Any]) -> "Case":
        """The same images and pixels in another order; the space becomes flat."""

        def shuffled(array: NDArray[Any] | None) -> Any:
            if array is None:
                return None
            space = self.logits.ndim - 2
            flat = array.reshape(*array.shape[: array.ndim - space], -1)
            return np.ascontiguousarray(flat[images][..., pixels])

        names = ("logits", "target", "valid", "weights")
        return replace(self, **{name: shuffled(getattr(self, name)) for name in names})


@st.composite
def shapes(draw: st.DrawFn, *, num_classes: st.SearchStrategy[int]) -> tuple[int, ...]:
    """(N, C, *S) of one to three spatial dimensions."""
    space = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    return (draw(st.integers(1, 3)), draw(num_classes), *space)


def hard_target(
    draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...], num_classes: int
) -> tuple[NDArray[Any], int | None]:
    """Labels of any integer dtype, with some that are no class."""
    dtype = draw(st.sampled_from(HARD_DTYPES))
    real = list(range(max(num_classes, 2)))
    if dtype == "bool":
        return rng.random(shape) < 0.5, None
    strange = [100] if dtype == "uint8" else [100, -1]
    ignore_index = draw(st.sampled_from([None, 0, 100, 255, *strange]))
    if ignore_index == 255 and dtype != "int8":
        strange.append(255)
    return rng.choice(real * 3 + strange, shape).astype(dtype), ignore_index


def dense_target(
    draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...], *, independent: bool
) -> tuple[NDArray[Any], int | None]:
    """Probabilities; some pixels, or entries of independent classes, hold `ignore_index`."""
    ignore_index = draw(st.sampled_from([None, 255, -1]))
    dtype = draw(st.sampled_from(["float32", "float64", *(["uint8", "int64"] * independent)]))
    if independent:
        y = rng.random(shape) if dtype.startswith("float") else rng.integers(0, 2, shape)
        ignored = rng.random(shape) < 0.2
    else:
        y = np.moveaxis(rng.dirichlet(np.full(shape[1], 0.5), (shape[0], *shape[2:])), -1, 1)
        ignored = rng.random((shape[0], 1, *shape[2:])) < 0.2
    if ignore_index is None or (ignore_index == -1 and dtype == "uint8"):
        return np.ascontiguousarray(y, dtype=dtype), ignore_index
    return np.ascontiguousarray(np.where(ignored, ignore_index, y), dtype=dtype), ignore_index


@st.composite
def cases(
    draw: st.DrawFn, *, activations: tuple[str, ...] = ("softmax", "sigmoid", "none")
) -> Case:
    """Any case there is."""
    activation = draw(st.sampled_from(activations))
    least = 2 if activation == "softmax" else 1
    shape = draw(shapes(num_classes=st.integers(least, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(0, draw(st.sampled_from([0.5, 5.0])), shape)
    if activation == "none":
        logits = rng.random(shape)
    flat = (shape[0], *shape[2:])
    if draw(st.booleans()):
        target, ignore_index = hard_target(draw, rng, flat, shape[1])
    else:
        independent = activation == "sigmoid" or shape[1] == 1
        target, ignore_index = dense_target(draw, rng, shape, independent=independent)
    return Case(
        logits=logits,
        target=target,
        activation=activation,
        ignore_index=ignore_index,
        valid=rng.random(flat) < 0.7 if draw(st.booleans()) else None,
        weights=rng.choice([0.0, 0.5, 2.5], flat) if draw(st.booleans()) else None,
    )
