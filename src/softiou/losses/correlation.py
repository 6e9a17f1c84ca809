"""Correlations of a student's probabilities with those of a teacher, between and within classes.

Shapes: N images, C classes, *S space (H, W for images), P the pixels of all images that count.
"""

import torch.nn.functional as F
from torch import Tensor

from softiou.losses.channel_wise import check_temperature, comparable


def correlation_distance(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Compute how little a student's probabilities correlate with a teacher's.

    A correlation does not change when numbers are shifted and scaled, so the student may be more or
    less confident than its teacher; the KL divergence and the overlaps demand the same
    probabilities.

        p = softmax(logits / T),    r = Pearson's correlation,    T = temperature
        between = mean over pixels of 1 - r(p^s[:, pixel], p^t[:, pixel])
        within = mean over classes of 1 - r(p^s[class, :], p^t[class, :])
        loss = T^2 (between + within)

    Args:
        student_logits: Scores (N, C, *S), any floating dtype.
        teacher_logits: Scores (N, C, *S) of the same images; or (N, C, h, w) for images, at any
            stride: they are interpolated bilinearly to the student's size.
        temperature: Above 0; more than 1 softens.
        valid: Bool (N, *S), True where the pixel of the student's logits counts; None counts all.

    Returns:
        A scalar in [0, 4 T^2] in float32 (float64 for float64 student's logits); where no pixel
        counts a 0 that is still attached to the graph.

    Raises:
        TypeError: Logits are not floating, or `valid` is not bool.
        ValueError: Shapes do not match, or the temperature is out of its range.

    Note:
        Gradients reach the student's logits alone. The pixels of all images of this process are
        correlated together. Where one side is constant the correlation is 0.

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
    if not len(student):
        return student.sum()
    between, within = ((1 - _correlation(student, teacher, dim)).mean() for dim in (1, 0))
    return temperature**2 * (between + within)


def _correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Return Pearson's correlation along a dimension of (P, C)."""
    one, other = (x - x.mean(dim, keepdim=True) for x in (one, other))
    return F.cosine_similarity(one, other, dim=dim)
