"""The pass in plain PyTorch, the reference for the other implementations.

It computes full tensors (N, C, *S), and uses autograd for the gradient.

Shapes: N images, C classes, *S space, K targets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.overlap.entropy import entropies
from softiou.overlap.job import Job, Sums


def gather(job: Job) -> Sums:
    """Compute the sums of a job, differentiable with respect to logits and soft targets."""
    logits = _full_resolution(job)
    return Sums.of_targets([_gather(job, logits, index) for index in range(len(job.targets))])


def _full_resolution(job: Job) -> Tensor:
    logits = job.logits.to(job.dtype)
    if job.bilinear is None:
        return logits
    size, corners = list(job.bilinear.size), job.settings.align_corners
    return F.interpolate(logits, size, mode="bilinear", align_corners=corners)


def _gather(job: Job, logits: Tensor, index: int) -> Sums:
    """Compute the sums of one target, without the dimension K."""
    target = job.targets[index].dense(job.num_classes, job.dtype)
    y, w = target.y, _pixel_weights(job, target.valid)
    if w is not None:
        # Before the computation, because 0 * NaN is NaN in the value and in the gradient.
        logits, y = torch.where(w > 0, logits, 0.0), torch.where(w > 0, y, 0.0)
    p = activate(logits, job.settings.activation)
    space = tuple(range(2, p.ndim))

    def total(x: Tensor) -> Tensor:
        return (x if w is None else x * w).sum(space)  # (N, C, *S) -> (N, C)

    def largest(x: Tensor) -> Tensor:
        x = x.detach() if w is None else torch.where(w > 0, x.detach(), 0.0)
        return x.amax(space) if x.shape[2:].numel() else x.new_zeros(x.shape[:2])

    masses = [total(x) for x in (p, y, (p - y).abs(), p * y, torch.minimum(p, y))]
    if job.settings.cross_entropy:
        on, off = entropies(logits, p, y, job.settings, dim=1)
        masses += [total(on), torch.zeros_like(masses[0]) if off is None else total(off)]
    # The denominator of the cross-entropy is the number of pixels, or of entries for a sigmoid.
    by_entry = job.settings.activation == "sigmoid" or (w is not None and w.shape[1] > 1)
    entries = p if by_entry else p[:, :1]
    counted = torch.ones_like(entries) if w is None else w.expand_as(entries)
    maxima = torch.stack([largest(p), largest(y)]) if job.settings.maxima else None
    return Sums(torch.stack(masses), maxima, counted.detach().flatten(1).sum(1))


def _pixel_weights(job: Job, counts: Tensor | None) -> Tensor | None:
    """Combine valid pixels and weights into weights (N, 1 or C, *S); None if all are 1."""
    if counts is not None:
        job.check_valid(by_class=counts.shape[1] > 1)
    if job.valid is not None:
        valid = job.valid.unsqueeze(1)
        counts = valid if counts is None else counts & valid
    if job.weights is None:
        return None if counts is None else counts.to(job.dtype)
    w = job.weights.to(job.dtype).unsqueeze(1)
    return w if counts is None else torch.where(counts, w, 0.0)


def activate(logits: Tensor, activation: str) -> Tensor:
    """Apply the activation "softmax", "sigmoid" or "none"."""
    if activation == "softmax":
        return logits.softmax(1)
    return logits.sigmoid() if activation == "sigmoid" else logits
