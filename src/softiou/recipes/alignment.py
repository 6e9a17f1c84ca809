"""Class frequencies and confidences of a teacher: align them with the labels, or equalise them.

Shapes: N images, C classes, (H, W) the crop, (h, w) the teacher's logits at their stride.
"""

import torch
from torch import Tensor, nn

from softiou.overlap.processes import of_all
from softiou.recipes.mixing import at_the_stride_of

_DECAY = 0.99  # decay of both moving averages, over about 100 steps


class ClassAlignment(nn.Module):
    """Shifts a teacher's logits so that its class frequencies approach those of the labels.

        z'_c = z_c + strength log(labels_c / teacher_c),    strength in [0, 1]

    labels_c and teacher_c are moving averages over the steps of the frequency of class c in the
    labels and in softmax(z). A teacher trained on few masks predicts rare classes too seldom, and
    its student copies this. The logits of a class that is not in the labels are not changed.

    References:
        Berthelot et al., ReMixMatch, ICLR 2020, "distribution alignment", which divides
        probabilities; here logits are shifted, before interpolation.
    """

    labels: Tensor
    teacher: Tensor

    def __init__(self, num_classes: int, strength: float) -> None:
        super().__init__()
        self.strength = strength
        for name in ("labels", "teacher"):
            self.register_buffer(name, torch.zeros(num_classes))

    @torch.no_grad()
    def add_labels(self, mass: Tensor) -> None:
        """Update the average with the mass of each class (C,) in the labels of a step."""
        self.labels.mul_(_DECAY).add_(mass / mass.sum().clamp(min=1))

    @torch.no_grad()
    def forward(self, logits: Tensor, inside: Tensor) -> Tensor:
        """Update the average with the teacher's logits (N, C, h, w), and return shifted logits.

        `inside`, bool (N, H, W), is False for padding outside the image.
        """
        cells = at_the_stride_of(logits, inside).unsqueeze(1)
        probs = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
        mass = of_all((probs * cells).sum((0, 2, 3)))
        self.teacher.mul_(_DECAY).add_(mass / mass.sum().clamp(min=1))
        known = (self.labels > 0) & (self.teacher > 0)
        shares = [mean / mean.sum().clamp(min=1e-12) for mean in (self.labels, self.teacher)]
        shift = torch.where(known, shares[0] / shares[1], 1.0).log()
        return logits + self.strength * shift.to(logits.dtype).view(1, -1, 1, 1)


class ClassConfidence(nn.Module):
    """Computes pixel weights from a teacher's confidence, with the same mean for every class.

        w = min(1, p_k m / m_k),    p_k = max_c softmax(z)_c

    k is the predicted class, m_k the mean confidence of the pixels predicted as k, and m that of
    all pixels, both moving averages over the steps. The teacher is less confident in rare classes,
    so confidences alone would give their pixels less weight.

    References:
        Zhang et al., FlexMatch, NeurIPS 2021, which divides the threshold by class instead.
    """

    sums: Tensor
    cells: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for name in ("sums", "cells"):
            self.register_buffer(name, torch.zeros(num_classes))

    @torch.no_grad()
    def forward(self, confidence: Tensor, classes: Tensor, inside: Tensor) -> Tensor:
        """Update the averages, and return the weights (N, h, w).

        All arguments are (N, h, w): the highest probability, its class, and False for padding
        outside the image.
        """
        for buffer, values in ((self.sums, confidence * inside), (self.cells, inside)):
            added = torch.zeros_like(buffer)
            added.index_add_(0, classes.flatten(), values.flatten().to(buffer.dtype))
            buffer.mul_(_DECAY).add_(of_all(added))
        means = self.sums / self.cells.clamp(min=1e-12)
        mean = self.sums.sum() / self.cells.sum().clamp(min=1e-12)
        return (confidence * (mean / means.clamp(min=1e-12))[classes]).clamp(max=1)


def label_mass(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Return the mass of each class (C,) in the labels (N, ..., H, W) of all processes."""
    known = target != ignore_index
    if target.is_floating_point():
        return of_all(target.where(known, 0).sum((0, 2, 3)))
    return of_all(target[known].bincount(minlength=num_classes))
