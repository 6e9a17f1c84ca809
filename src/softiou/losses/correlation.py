"""Correlation loss of DIST: inter-class and intra-class correlations of student and teacher.

Shapes: N images, C classes, *S space (H, W for images), P the valid pixels of all images.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from softiou.losses.channel_wise import check_temperature, comparable
from softiou.overlap.processes import sum_of


def correlation_distance(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    valid: Tensor | None = None,
    process_group: Any = None,
) -> Tensor:
    """Compute the correlation distance of a student's probabilities from a teacher's (DIST).

    A correlation is invariant to shift and scale, so the student may be more or less confident than
    its teacher. The KL divergence and the overlap losses are minimal only at equal probabilities.

        p = softmax(logits / T),    r = Pearson's correlation,    T = temperature
        between = mean over pixels of 1 - r(p^s[:, pixel], p^t[:, pixel])
        within = mean over classes of 1 - r(p^s[class, :], p^t[class, :])
        loss = T^2 (between + within)

    Args:
        student_logits: Scores (N, C, *S), any floating dtype.
        teacher_logits: Scores (N, C, *S) of the same images; or (N, C, h, w) of another size, which
            are interpolated bilinearly to the student's size.
        temperature: Above 0; more than 1 softens.
        valid: Bool (N, *S) at the size of the student's logits, False for ignored pixels; None uses
            all pixels.
        process_group: Processes that share a batch, as in `OverlapLoss`; "world" for all, None for
            this process alone.

    Returns:
        A scalar in [0, 4 T^2] in float32 (float64 if the student's logits are float64). If no pixel
        is valid, a 0 that is still attached to the graph.

    Raises:
        TypeError: Logits are not floating, or `valid` is not bool.
        ValueError: Shapes do not match, or the temperature is out of its range.

    Note:
        Only the student's logits receive gradients. `within` is computed over the pixels of all
        images together. The correlation with a constant is defined as 0.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
        >>> round(float(correlation_distance(teacher, teacher)), 4)
        0.0
        >>> round(float(correlation_distance(-teacher, teacher)), 4)
        4.0

    References:
        Huang, You, Wang, Qian, Xu, Knowledge Distillation from A Stronger Teacher (DIST), NeurIPS
        2022, https://arxiv.org/abs/2205.10536, equations 8 to 10, with equal weights.
    """
    check_temperature(temperature)
    student, teacher, valid = comparable(student_logits, teacher_logits, valid)
    student, teacher = (
        (logits.movedim(1, -1) / temperature).softmax(-1).flatten(0, -2)
        for logits in (student, teacher)
    )
    if valid is not None:
        student, teacher = student[valid.flatten()], teacher[valid.flatten()]

    def total(x: Tensor) -> Tensor:
        return x if process_group is None else sum_of(x, process_group)

    count = total(student.new_tensor(float(len(student))))
    if not count:
        return student.sum()
    one, other = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    between = total((1 - F.cosine_similarity(one, other, dim=1)).sum()) / count
    one, other = (x - total(x.sum(0)) / count for x in (student, teacher))
    sizes = [total(x.square().sum(0)).clamp(min=1e-16).sqrt() for x in (one, other)]
    correlations = total((one * other).sum(0)) / (sizes[0] * sizes[1])
    within = (1 - correlations.clamp(max=1)).mean()  # rounding may exceed 1
    return temperature**2 * (between + within)
