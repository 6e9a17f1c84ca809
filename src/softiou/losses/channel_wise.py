"""Channel-wise distillation: match the spatial distribution of each class with a teacher's.

Shapes: N images, C classes, *S space (H, W for images), P flattened pixels.
"""

from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softiou import _checks

_REDUCTIONS = ("mean", "sum", "none")


def channel_wise_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 4.0,
    valid: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Compute the channel-wise Kullback-Leibler divergence of a student from a teacher.

    The softmax of each channel over the pixels tells where in the image its class is most likely.
    `softiou.targets.teacher` compares the classes of each pixel instead.

        phi[n, c, s] = softmax over s of logits[n, c, s] / T,    T = temperature
        loss[n, c] = T^2 KL(phi^t || phi^s) = T^2 sum_s phi^t log(phi^t / phi^s)

    Args:
        student_logits: Scores (N, C, *S), any floating dtype.
        teacher_logits: Scores (N, C, *S) of the same images; or (N, C, h, w) of another size, which
            are interpolated bilinearly to the student's size.
        temperature: Above 0; more than 1 softens the distribution over the pixels.
        valid: Bool (N, *S) at the size of the student's logits; pixels with False are left out of
            both softmaxes. None uses all pixels.
        reduction: "mean" over images and classes, "sum", or "none".

    Returns:
        A scalar, or (N, C) for "none", in float32 (float64 if the student's logits are float64); at
        least 0 up to rounding. The term of an image without valid pixels is a 0 that is still
        attached to the graph; it is included in the mean.

    Raises:
        TypeError: Logits are not floating, or `valid` is not bool.
        ValueError: Shapes do not match, or a setting is out of its range.

    Note:
        Only the student's logits receive gradients, in their dtype. These are about T / (N C P) per
        pixel, so float16 needs a GradScaler. The function allocates several float32 copies of the
        student's logits. A teacher of another size is interpolated before `valid` is applied, so
        its logits must be finite everywhere.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[3.0, 1.0]]]).log()
        >>> loss = channel_wise_divergence(student, teacher, temperature=1.0)
        >>> round(loss.item(), 4)  # 3/4 log(3/2) + 1/4 log(1/2)
        0.1308

    References:
        Shu, Liu, Gao, Yan, Shen, Channel-wise Knowledge Distillation for Dense Prediction, ICCV
        2021, https://arxiv.org/abs/2011.13256, equations 4 and 5, which divide the sum over the
        classes by C. Additions: the mean over images, `valid`, and teachers of another size.
    """
    _check_settings(temperature, reduction)
    student, teacher, valid = comparable(student_logits, teacher_logits, valid)
    log_s = _log_phi(student, valid, temperature)
    log_t = _log_phi(teacher, valid, temperature)
    loss = temperature**2 * (log_t.exp() * (log_t - log_s)).sum(2)  # (N, C, P) -> (N, C)
    if reduction == "none":
        return loss
    return loss.sum() / max(loss.numel(), 1) if reduction == "mean" else loss.sum()


class ChannelWiseDistillation(nn.Module):
    """Channel-wise distillation loss, see `channel_wise_divergence`.

        T^2 / (N C) sum_{n, c} KL(phi^t || phi^s),    phi = softmax over the pixels of logits / T

    Combine it with a loss that compares the classes of each pixel: adding a constant to a channel
    does not change this loss, although it changes which class is predicted.
    """

    def __init__(self, temperature: float = 4.0, reduction: str = "mean") -> None:
        super().__init__()
        _check_settings(temperature, reduction)
        self.temperature = temperature
        self.reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Compute the divergence; arguments and result as in `channel_wise_divergence`."""
        return channel_wise_divergence(
            student_logits,
            teacher_logits,
            temperature=self.temperature,
            valid=valid,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Return the settings for `repr`."""
        return f"temperature={self.temperature}, reduction={self.reduction!r}"


def comparable(
    student_logits: Tensor, teacher_logits: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check the arguments, and bring the logits to the student's size in float32 or float64."""
    _check_logits("student_logits", student_logits)
    _check_logits("teacher_logits", teacher_logits)
    _check_agreement(student_logits, teacher_logits)
    space = student_logits.shape[2:]
    valid = _checks.pixel_map("valid", valid, (len(student_logits), *space), boolean=True)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    teacher = teacher_logits.detach().to(dtype)
    if teacher.shape[2:] != space:
        teacher = F.interpolate(teacher, space, mode="bilinear", align_corners=False)
    return student_logits.to(dtype), teacher, valid


def _log_phi(logits: Tensor, valid: Tensor | None, temperature: float) -> Tensor:
    """Return log phi: (N, C, *S) -> (N, C, P)."""
    scores = logits.flatten(2) / temperature
    if valid is not None:
        # Not -inf: 0 * (inf - inf) is NaN, and so is the softmax of an image without valid pixels.
        # Half of the lowest number, because log_softmax subtracts from it.
        least = torch.finfo(scores.dtype).min / 2
        scores = scores.masked_fill(~valid.flatten(1).unsqueeze(1), least)
    return scores.log_softmax(2)


def _check_settings(temperature: float, reduction: str) -> None:
    check_temperature(temperature)
    _checks.one_of("reduction", reduction, _REDUCTIONS)


def check_temperature(temperature: float) -> None:
    """Raise a ValueError unless a temperature is finite and above 0."""
    if not 0 < temperature < inf:
        raise ValueError(
            f"Expected `temperature` to be finite and greater than 0, but got {temperature}."
        )


def _check_logits(name: str, logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"Expected `{name}` to have a floating dtype, but got {logits.dtype}.")
    if logits.ndim < 3:
        raise ValueError(
            f"Expected `{name}` to have shape (N, C, *S) with at least one spatial dimension, but "
            f"got {tuple(logits.shape)}. Add the missing dimension with `unsqueeze`."
        )


def _check_agreement(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise a ValueError unless images, classes and device of both logits are the same."""
    student, teacher = tuple(student_logits.shape), tuple(teacher_logits.shape)
    if student[1] != teacher[1]:
        raise ValueError(
            f"The teacher has {teacher[1]} classes and the student {student[1]}: distillation "
            "needs the same classes in the same order."
        )
    if student[0] != teacher[0]:
        raise ValueError(
            f"Expected `teacher_logits` of {student[0]} images, as the student's, but got "
            f"{teacher[0]} images."
        )
    if student != teacher and not len(student) == len(teacher) == 4:
        raise ValueError(
            f"Expected `teacher_logits` to have the student's shape {student}, unless both are "
            f"(N, C, h, w), but got {teacher}. Bring both to the same size."
        )
    if student_logits.device != teacher_logits.device:
        raise ValueError(
            f"Expected `teacher_logits` to be on {student_logits.device}, as the student's are, "
            f"but got {teacher_logits.device}. Move them there with `.to(student_logits.device)`."
        )
