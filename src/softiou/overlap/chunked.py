"""The pass in tiles with PyTorch operators and preallocated buffers: any device, little memory.

For each tile, the forward pass computes p = activation(z) and reduces it to the sums. The backward
pass computes p again, and from the gradients of the sums the gradient of the logits z. With the
class c, the weight w of a pixel, the gradients P', D', M', T' of the sums, the h of `entropy` for
the cross-entropy, and [p < y] = 1 for p < y, 1/2 for p = y and 0 for p > y:

    a_c = sum over the targets of w (P'_c + D'_c sign(p_c - y_c) + M'_c y_c + T'_c [p_c < y_c])
    softmax:  dz_c = p_c (a_c - sum_k p_k a_k) + w (h_c - p_c sum_k h_k)
    sigmoid:  dz_c = p_c (1 - p_c) a_c + w h_c
    none:     dz_c = a_c

For hard labels with a softmax, p is the only buffer of the size of a tile. With the label l,
E' = -h_l, and for a_c the values u = P' + D' if c != l and v = P' - D' + M' + T' if c = l (w = 1):

    s = sum_k u_k p_k + (v_l - u_l) p_l
    dz_c = p_c (u_c + E' - s)    dz_l = p_l (v_l + E' - s) - E'

Shapes: C classes, T pixels of a tile, K targets.
"""

import torch
from torch import Tensor

from softiou.overlap.entropy import entropies, entropy_gradient
from softiou.overlap.job import Job, Sums
from softiou.targets import HardTile, SoftTile
from softiou.tiles import Tile

# Entries (C T) of a tile: on a CPU three such buffers should fit in the cache of a core; a GPU
# needs few and large kernels instead.
_ENTRIES_CPU, _ENTRIES_ELSEWHERE = 2**18, 2**23
_SMALLEST = 1e-30  # smaller probabilities have too few digits left for their logarithm


def gather(job: Job) -> Sums:
    """Compute the sums of a job, tile by tile in a fixed order."""
    # Devices without float64 (MPS) add up the tiles in float32.
    exact = job.logits.device.type in ("cpu", "cuda")
    sums, K = job.empty(torch.float64 if exact else job.dtype), len(job.targets)
    work = _Work(job)
    for tile in job.tiles(work.pixels):
        reads = job.read_targets(tile)
        z = work.logits(tile, reads)
        p = work.activate(z)
        for k, (read, w) in enumerate(reads):
            masses, maxima, weight = _tile_sums(job, read, w, z, p)
            sums.masses[k::K, tile.image] += masses
            sums.weight[k, tile.image] += weight
            if sums.maxima is not None and maxima is not None:
                part = sums.maxima[k::K, tile.image]
                torch.maximum(part, maxima, out=part)
    largest = None if sums.maxima is None else sums.maxima.to(job.dtype)
    return Sums(sums.masses.to(job.dtype), largest, sums.weight.to(job.dtype))


def gradient(job: Job, cotangents: Tensor) -> Tensor:
    """Compute the gradient of the logits, in their dtype and memory layout."""
    result = torch.empty_like(job.logits)
    work = _Work(job)
    bilinear = work.bilinear
    small = None if bilinear is None else torch.zeros_like(job.logits, dtype=job.dtype)
    for tile in job.tiles(work.pixels):
        reads = job.read_targets(tile)
        z = work.logits(tile, reads)
        p = work.activate(z)
        dz = _tile_gradient(job, reads, z, p, cotangents, tile.image)
        if bilinear is None or small is None:
            view = tile.within(result)
            view.copy_(dz.view_as(view))
        else:
            bilinear.add_adjoint(dz, tile, small)
    return result if small is None else result.copy_(small)


class _Work:
    """The buffers of a pass, for the logits and the probabilities of a tile."""

    def __init__(self, job: Job) -> None:
        self.job, self.bilinear = job, job.bilinear
        entries = _ENTRIES_CPU if job.logits.device.type == "cpu" else _ENTRIES_ELSEWHERE
        self.pixels = max(1, entries // job.num_classes)
        self._logits: Tensor | None = None
        self._probs: Tensor | None = None

    def logits(self, tile: Tile, reads: list[tuple[HardTile | SoftTile, Tensor | None]]) -> Tensor:
        """Return the logits (C, T) of a tile, with 0 for ignored pixels, which may contain NaN."""
        given = self.job.logits
        z = tile.of_each(given) if self.bilinear is None else self.bilinear.read(given, tile)
        if z.dtype != self.job.dtype or not z.is_contiguous():
            self._logits = _fitting(self._logits, z, self.job.dtype)
            z = self._logits.copy_(z)
        counts = _anywhere([w for _, w in reads])
        return z if counts is None else torch.where(counts, z, 0.0)

    def activate(self, z: Tensor) -> Tensor:
        """Return p (C, T), which the caller may overwrite."""
        if self.job.settings.activation == "none":
            return z
        self._probs = _fitting(self._probs, z, self.job.dtype)
        if self.job.settings.activation == "sigmoid":
            return torch.sigmoid(z, out=self._probs)
        return torch.softmax(z, 0, out=self._probs)


def _fitting(buffer: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the buffer if it has the required shape, otherwise a new one."""
    if buffer is not None and buffer.shape == like.shape:
        return buffer
    return torch.empty(like.shape, dtype=dtype, device=like.device)


def _anywhere(weights: list[Tensor | None]) -> Tensor | None:
    """Return where any target is valid; None if everywhere."""
    counts = None
    for w in weights:
        if w is None:
            return None
        counts = w > 0 if counts is None else counts | (w > 0)
    return counts


def _tile_sums(
    job: Job, read: HardTile | SoftTile, w: Tensor | None, z: Tensor, p: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return masses (5 or 7, C), maxima (2, C) and weight of one target in one tile."""
    if isinstance(read, HardTile) and _is_hard(job, read):
        return _hard_sums(job, read, w, z, p)
    read = read.dense(job.num_classes, job.dtype)
    y = read.y if w is None else torch.where(w > 0, read.y, 0.0)
    masses = [_total(x, w) for x in (p, y, (p - y).abs_(), p * y, torch.minimum(p, y))]
    if job.settings.cross_entropy:
        on, off = entropies(z, p, y, job.settings, dim=0)
        masses += [_total(on, w), torch.zeros_like(masses[0]) if off is None else _total(off, w)]
    weight = p.new_tensor(float(z.shape[1])) if w is None else w.sum()
    if job.settings.activation == "sigmoid" and (w is None or w.ndim == 1):
        weight = weight * job.num_classes
    maxima = torch.stack([_largest(p, w), _largest(y, w)]) if job.settings.maxima else None
    return torch.stack(masses), maxima, weight


def _is_hard(job: Job, read: HardTile) -> bool:
    """Whether `_hard_sums` can be used; sums by label are deterministic only on the CPU."""
    on_cpu = job.logits.device.type == "cpu"
    plain = job.settings.activation == "softmax" and not job.settings.label_smoothing
    return on_cpu and plain and read.epsilon is None


def _hard_sums(
    job: Job, read: HardTile, w: Tensor | None, z: Tensor, p: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Compute the sums of hard labels: p is read once, and terms of the label have size T."""
    label = read.index.unsqueeze(0)
    p_label = p.gather(0, label)[0]  # (T,)
    one = torch.ones_like(p_label) if w is None else w
    maxima = None
    if job.settings.maxima:
        y_max = _by_label(read.index, (one > 0).to(p.dtype), job.num_classes) > 0
        maxima = torch.stack([_largest(p, w), y_max.to(p.dtype)])
    # Sum the other classes separately: D = P + Y - 2 M would be inaccurate by cancellation.
    p.scatter_(0, label, 0.0)
    others = _total(p, w)
    p.scatter_(0, label, p_label.unsqueeze(0))
    hit, missed, mass = (
        _by_label(read.index, x, job.num_classes) for x in (p_label * one, (1 - p_label) * one, one)
    )
    masses = [others + hit, mass, others + missed, hit, hit]
    if job.settings.cross_entropy:
        cost = _costs(z, p_label, label)
        if job.settings.focal_gamma:
            cost *= (1 - p_label) ** job.settings.focal_gamma
        masses += [_by_label(read.index, cost * one, job.num_classes), torch.zeros_like(mass)]
    return torch.stack(masses), maxima, one.sum()


def _costs(z: Tensor, p_label: Tensor, label: Tensor) -> Tensor:
    """Return -log p of the label (T,), without a second softmax."""
    cost = -p_label.log()
    lost = (p_label < _SMALLEST).nonzero()[:, 0]
    if len(lost):
        of_lost = z[:, lost]
        cost[lost] = of_lost.logsumexp(0) - of_lost.gather(0, label[:, lost])[0]
    return cost


def _tile_gradient(
    job: Job,
    reads: list[tuple[HardTile | SoftTile, Tensor | None]],
    z: Tensor,
    p: Tensor,
    cotangents: Tensor,
    image: int,
) -> Tensor:
    """Return dz (C, T); p is overwritten."""
    first, w = reads[0]
    if len(reads) == 1 and isinstance(first, HardTile) and _is_hard(job, first):
        return _hard_gradient(job, first, w, p, cotangents[:, image])
    a, direct = torch.zeros_like(p), torch.zeros_like(p)
    for k, (read, w) in enumerate(reads):
        P, _, D, M, T, *of_entropy = cotangents[k :: len(reads), image].unsqueeze(2)  # (C, 1)
        y = read.dense(job.num_classes, job.dtype).y
        one = p.new_ones(()) if w is None else w
        if w is not None:
            y = torch.where(w > 0, y, 0.0)
        sign = (p - y).sign_()
        a += one * (P + D * sign + M * y + T * (1 - sign) / 2)
        if of_entropy:
            on, off = of_entropy
            direct += one * entropy_gradient(z, p, y, on, off, job.settings)
    if job.settings.activation == "softmax":
        return p.mul_(a - (p * a).sum(0) - direct.sum(0)).add_(direct)
    if job.settings.activation == "sigmoid":
        return a.mul_(p * (1 - p)).add_(direct)
    return a


def _hard_gradient(
    job: Job, read: HardTile, w: Tensor | None, p: Tensor, cotangents: Tensor
) -> Tensor:
    """Return dz (C, T) for one hard target, in two passes over p; see the module."""
    P, _, D, M, T, *entropy = cotangents  # (C,) each
    u, v = P + D, P - D + M + T
    label = read.index.unsqueeze(0)
    p_label, v_label = p.gather(0, label)[0], v[read.index]
    E = entropy[0][read.index] if entropy else torch.zeros_like(p_label)
    if entropy and (gamma := job.settings.focal_gamma):
        gap = 1 - p_label  # for a gap of 0, a negative power is infinite, but -p log p is 0
        steep = torch.where(gap > 0, gap ** (gamma - 1), 0.0)
        E = E * (gamma * steep * torch.special.entr(p_label) + gap**gamma)
    s = u @ p + (v_label - u[read.index]) * p_label - E
    at_label = p_label * (v_label - s) - E
    p.mul_(u.unsqueeze(1) - s)
    p.scatter_(0, label, at_label.unsqueeze(0))
    return p if w is None else p.mul_(w)


def _total(x: Tensor, w: Tensor | None) -> Tensor:
    """Sum over the pixels with their weights, (C, T) -> (C,)."""
    # Not a matrix-vector product, which may be less accurate (sequential sums, TF32).
    return x.sum(1) if w is None else (x * w).sum(1)


def _largest(x: Tensor, w: Tensor | None) -> Tensor:
    return (x if w is None else torch.where(w > 0, x, 0.0)).amax(1)


def _by_label(label: Tensor, x: Tensor, num_classes: int) -> Tensor:
    """Sum x (T,) for each label: (C,)."""
    return torch.bincount(label, x.double(), minlength=num_classes).to(x.dtype)
