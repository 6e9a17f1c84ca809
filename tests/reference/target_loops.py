"""Targets as slow NumPy loops in float64, written from their definitions and not from the code.

Everything works on one pixel at a time. Shapes: N images, R annotators, K classes kept, C classes,
*S space, (h, w) a map at the stride of a network.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Place = tuple[int, ...]


class Known(NamedTuple):
    """What is known about all pixels.

    Attributes:
        y: Probabilities (N, C, *S), 0 where they do not count.
        counts: Bool (N, C, *S).
    """

    y: Array
    counts: Bools


def pixels(shape: Place) -> Iterator[tuple[int, Place]]:
    """Walk over (N, *S): the image and the place in it."""
    for image, *place in np.ndindex(*shape):
        yield image, tuple(place)


def nothing(shape: Place, num_classes: int) -> Known:
    """(N, *S) of which nothing is known."""
    full = (shape[0], num_classes, *shape[1:])
    return Known(np.zeros(full), np.zeros(full, dtype=bool))


def is_class(label: int, num_classes: int, ignore_index: int | None) -> bool:
    """One class has the labels 0 and 1."""
    return 0 <= label < max(num_classes, 2) and label != ignore_index


def hard(labels: NDArray[Any], num_classes: int, ignore_index: int | None = None) -> Known:
    """One-hot; of one class, label 1 is the class."""
    return smoothed(labels, num_classes, epsilon=0.0, ignore_index=ignore_index)


def smoothed(
    labels: NDArray[Any],
    num_classes: int,
    *,
    epsilon: float,
    width: int | None = None,
    ignore_index: int | None = None,
) -> Known:
    """(1 - epsilon) one-hot + epsilon / C, everywhere or in the band along the borders."""
    known = nothing(labels.shape, num_classes)
    band = np.ones(labels.shape, dtype=bool)
    if width is not None:
        band = boundary_band(labels, num_classes, width=width, ignore_index=ignore_index)
    for n, place in pixels(labels.shape):
        label = int(labels[n, *place])
        if not is_class(label, num_classes, ignore_index):
            continue
        share = epsilon if band[n, *place] else 0.0
        for c in range(num_classes):
            one = float(label == (1 if num_classes == 1 else c))
            known.y[n, c, *place] = (1 - share) * one + share / num_classes
            known.counts[n, c, *place] = True
    return known


def boundary_band(
    labels: NDArray[Any], num_classes: int, *, width: int, ignore_index: int | None = None
) -> Bools:
    """Pixels with a pixel of another class at most `width` away along every axis."""
    band = np.zeros(labels.shape, dtype=bool)
    for n, place in pixels(labels.shape):
        label = int(labels[n, *place])
        if not is_class(label, num_classes, ignore_index):
            continue
        for _, other in pixels((1, *labels.shape[1:])):
            near = all(abs(a - b) <= width for a, b in zip(place, other, strict=True))
            neighbour = int(labels[n, *other])
            if near and neighbour != label and is_class(neighbour, num_classes, ignore_index):
                band[n, *place] = True
    return band


def gaussian(
    labels: NDArray[Any],
    num_classes: int,
    *,
    sigma: float,
    width: int,
    ignore_index: int | None = None,
) -> Known:
    """The votes of the neighbours, by a Gaussian; a pixel's own weighs as much as all others."""
    known = nothing(labels.shape, num_classes)
    window = [
        tuple(i - width for i in place) for place in np.ndindex(*(2 * width + 1,) * labels[0].ndim)
    ]
    weights = {o: math.exp(-sum(x * x for x in o) / (2 * sigma**2)) for o in window if any(o)}
    weights[(0,) * labels[0].ndim] = sum(weights.values())
    for n, place in pixels(labels.shape):
        if not is_class(int(labels[n, *place]), num_classes, ignore_index):
            continue
        votes = [0.0] * max(num_classes, 2)
        for offset, weight in weights.items():
            there = tuple(a + b for a, b in zip(place, offset, strict=True))
            if all(0 <= x < size for x, size in zip(there, labels.shape[1:], strict=True)):
                label = int(labels[n, *there])
                if is_class(label, num_classes, ignore_index):
                    votes[label] += weight
        for c in range(num_classes):
            known.y[n, c, *place] = votes[1 if num_classes == 1 else c] / sum(votes)
            known.counts[n, c, *place] = True
    return known


def staple(
    masks: NDArray[Any], num_classes: int, *, iterations: int, ignore_index: int | None = None
) -> Known:
    """EM of annotators (N, R, *S), image by image and pixel by pixel, a given number of times."""
    N, R, *space = masks.shape
    known = nothing((N, *space), num_classes)
    for n in range(N):
        votes: dict[Place, dict[int, int]] = {}  # of the annotators who judged a pixel
        for r, *place in np.ndindex(R, *space):
            vote = int(masks[n, r, *place])
            if is_class(vote, num_classes, ignore_index):
                votes.setdefault(tuple(place), {})[r] = vote
        for there, W in _staple_image(votes, R, num_classes, iterations).items():
            for c in range(num_classes):
                known.y[n, c, *there] = W[c]
                known.counts[n, c, *there] = True
    return known


def _staple_image(
    votes: dict[Place, dict[int, int]], R: int, num_classes: int, iterations: int
) -> dict[Place, Array]:
    cast = [vote for own in votes.values() for vote in own.values()]
    pi = np.array([cast.count(c) / max(len(cast), 1) for c in range(num_classes)])
    theta = [0.99999 * np.eye(num_classes) + 0.00001 * pi[:, None] for _ in range(R)]
    W = {place: _likely(own, pi, theta) for place, own in votes.items()}
    for _ in range(iterations):
        theta = [np.zeros((num_classes, num_classes)) for _ in range(R)]
        for r, c in np.ndindex(R, num_classes):
            mass = sum(W[place][c] for place, own in votes.items() if r in own)
            for place, own in votes.items():
                if r in own and mass > 0:
                    theta[r][own[r], c] += W[place][c] / mass
        W = {place: _likely(own, pi, theta) for place, own in votes.items()}
    return W


def _likely(own: dict[int, int], pi: Array, theta: list[Array]) -> Array:
    """pi_c prod_r theta_r[vote, c], with the sum 1."""
    likely = pi.copy()
    for r, vote in own.items():
        likely *= theta[r][vote]
    return np.asarray(likely / likely.sum())


def confident(
    inner: Known,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    keep: int | None = None,
    independent: bool = False,
) -> Known:
    """y^(1 / temperature) of the `keep` likeliest classes, where the likeliest is likely enough."""
    N, C, *space = inner.y.shape
    known = nothing((N, *space), C)
    for n, place in pixels((N, *space)):
        entries = [float(inner.y[n, c, *place]) for c in range(C)]
        for c, entry in enumerate(entries):
            rivals = [entry, 1 - entry] if independent or C == 1 else entries
            if not inner.counts[n, c, *place] or max(rivals) < threshold:
                continue
            least = sorted(rivals, reverse=True)[: keep or C + 1][-1]
            powers = [x ** (1 / temperature) for x in rivals if x >= least]
            kept = entry ** (1 / temperature) if entry >= least else 0.0
            known.y[n, c, *place] = kept / sum(powers)
            known.counts[n, c, *place] = True
    return known


def votes(masks: NDArray[Any], num_classes: int, ignore_index: int | None = None) -> Known:
    """The share of the votes (N, R, *S) among those that are a class."""
    known = nothing((masks.shape[0], *masks.shape[2:]), num_classes)
    for n, place in pixels((masks.shape[0], *masks.shape[2:])):
        cast = [int(masks[n, rater, *place]) for rater in range(masks.shape[1])]
        cast = [vote for vote in cast if is_class(vote, num_classes, ignore_index)]
        if not cast:
            continue
        for c in range(num_classes):
            known.y[n, c, *place] = cast.count(1 if num_classes == 1 else c) / len(cast)
            known.counts[n, c, *place] = True
    return known


def dense(
    values: NDArray[Any], ignore_index: int | None = None, *, independent: bool = False
) -> Known:
    """The values, ignored pixel by pixel or, of independent classes, entry by entry."""
    N, C, *space = values.shape
    known = nothing((N, *space), C)
    for n, place in pixels((N, *space)):
        entries = [values[n, c, *place] for c in range(C)]
        for c, entry in enumerate(entries):
            marks = [entry] if independent else entries
            if all(mark == ignore_index for mark in marks):
                continue
            if not np.issubdtype(values.dtype, np.floating) and int(entry) not in (0, 1):
                continue
            known.y[n, c, *place] = float(entry)
            known.counts[n, c, *place] = True
    return known


def sparse(
    indices: NDArray[Any], weights: NDArray[Any], num_classes: int, *, rounding: float = 1e-6
) -> Known:
    """sum_k w_k [c = i_k] + (1 - sum_k w_k) / C, of weights in [0, 1] that are `rounding` exact."""
    N, K, *space = indices.shape
    known = nothing((N, *space), num_classes)
    for n, place in pixels((N, *space)):
        kept = [(int(indices[n, k, *place]), float(weights[n, k, *place])) for k in range(K)]
        if not all(0 <= index < num_classes for index, _ in kept):
            continue
        total = sum(weight for _, weight in kept)
        rest = 1 - total
        if rest < rounding:
            kept, rest = [(index, weight / total) for index, weight in kept], 0.0
        for c in range(num_classes):
            own = sum(weight for index, weight in kept if index == c)
            known.y[n, c, *place] = own + rest / num_classes
            known.counts[n, c, *place] = True
    return known


def _line(length: int, size: int, place: int, *, align_corners: bool) -> list[tuple[int, float]]:
    """Return the two neighbours of a pixel of the large line on the small one, and their shares.

    Pixels are squares of equal size over the same line; with `align_corners`, points of which the
    outer ones coincide. Beyond the outermost centres the line goes on flat.
    """
    if align_corners:
        x = place * (length - 1) / (size - 1) if size > 1 else 0.0
    else:
        x = (place + 0.5) * length / size - 0.5
    x = min(max(x, 0.0), float(length - 1))
    low = math.floor(x)
    high = min(low + 1, length - 1)
    return [(low, 1 - (x - low)), (high, x - low)]


def bilinear(values: NDArray[Any], size: tuple[int, int], *, align_corners: bool = False) -> Array:
    """(N, C, h, w) -> (N, C, H, W)."""
    N, C, h, w = values.shape
    large = np.zeros((N, C, *size))
    for n, c, row, column in np.ndindex(N, C, *size):
        for i, share in _line(h, size[0], row, align_corners=align_corners):
            for j, other in _line(w, size[1], column, align_corners=align_corners):
                large[n, c, row, column] += share * other * float(values[n, c, i, j])
    return large


def teacher(
    logits: NDArray[Any],
    size: tuple[int, int] | None = None,
    *,
    temperature: float = 1.0,
    align_corners: bool = False,
    valid: Bools | None = None,
) -> Known:
    """softmax(logits / temperature), after interpolation to `size`, where it is heard."""
    z = np.asarray(logits, dtype=np.float64)
    if size is not None:
        z = bilinear(z, size, align_corners=align_corners)
    N, C, *space = z.shape
    known = nothing((N, *space), C)
    for n, place in pixels((N, *space)):
        if valid is not None and not valid[n, *place]:
            continue
        scores = [float(z[n, c, *place]) / temperature for c in range(C)]
        exponentials = [math.exp(score - max(scores)) for score in scores]
        for c in range(C):
            known.y[n, c, *place] = exponentials[c] / sum(exponentials)
            known.counts[n, c, *place] = True
    return known


def mixed(parts: Sequence[tuple[float, Known]]) -> Known:
    """The weighted mean of the parts that know an entry."""
    y, counts = np.zeros(parts[0][1].y.shape), np.zeros(parts[0][1].y.shape, dtype=bool)
    for entry in np.ndindex(*y.shape):
        knowing = [(share, float(part.y[entry])) for share, part in parts if part.counts[entry]]
        mass = sum(share for share, _ in knowing)
        if mass > 0:
            y[entry] = sum(share * value for share, value in knowing) / mass
            counts[entry] = True
    return Known(y, counts)


def pasted(inside: Known, outside: Known, region: Bools) -> Known:
    """`inside` where the region (N, *S) is True, `outside` elsewhere."""
    y, counts = np.zeros(inside.y.shape), np.zeros(inside.y.shape, dtype=bool)
    for n, c, *place in np.ndindex(*y.shape):
        taken = inside if region[n, *place] else outside
        y[n, c, *place], counts[n, c, *place] = taken.y[n, c, *place], taken.counts[n, c, *place]
    return Known(y, counts)
