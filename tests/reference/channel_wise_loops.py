"""Channel-wise distillation as slow NumPy loops in float64, written from the paper's equations.

Shapes: N images, C classes, *S space, (h, w) a map at the stride of a network.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.target_loops import bilinear

Array = NDArray[np.float64]


def phi(activations: list[float], temperature: float) -> list[float]:
    """Equation 4: the softmax of one channel over its pixels."""
    most = max(activations)
    exponentials = [math.exp((a - most) / temperature) for a in activations]
    return [e / sum(exponentials) for e in exponentials]


def divergence(
    student: NDArray[Any],
    teacher: NDArray[Any],
    *,
    temperature: float,
    valid: NDArray[np.bool_] | None = None,
) -> Array:
    """Equation 5 before its sum over the classes: (N, C, *S) and (N, C, *S) or (N, C, h, w)."""
    N, C, *space = student.shape
    if teacher.shape != student.shape:
        teacher = bilinear(teacher, (space[0], space[1]))
    found = np.zeros((N, C))
    for n, c in np.ndindex(N, C):
        places = [s for s in np.ndindex(*space) if valid is None or valid[n, *s]]
        if places:
            of_student, of_teacher = (
                phi([float(values[n, c, *s]) for s in places], temperature)
                for values in (student, teacher)
            )
            terms = [
                t * math.log(t / s) for t, s in zip(of_teacher, of_student, strict=True) if t > 0
            ]
            found[n, c] = temperature**2 * math.fsum(terms)
    return found
