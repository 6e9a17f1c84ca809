"""The correlations between and within classes: values, a slow reference, gradients, mistakes."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.losses import correlation_distance


def reference(student: Tensor, teacher: Tensor, temperature: float, valid: Tensor) -> float:
    """Equations 8 to 10 with NumPy's correlations, pixel by pixel and class by class."""
    p, q = (
        (logits.double() / temperature).softmax(1).movedim(1, -1)[valid].numpy()
        for logits in (student, teacher)
    )
    between = np.mean([1 - np.corrcoef(p[s], q[s])[0, 1] for s in range(len(p))])
    within = np.mean([1 - np.corrcoef(p[:, c], q[:, c])[0, 1] for c in range(p.shape[1])])
    return float(temperature**2 * (between + within))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_reference(temperature: float, stride: int) -> None:
    student = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    teacher = torch.randn(2, 4, 6 // stride, 8 // stride, dtype=torch.float64)
    valid = torch.rand(2, 6, 8) > 0.3
    full = F.interpolate(teacher, (6, 8), mode="bilinear")
    found = correlation_distance(student, teacher, temperature=temperature, valid=valid)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(reference(student, full, temperature, valid))


def test_confidence_is_free_and_order_is_not() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]).T.unsqueeze(0)
    flatter = (0.5 * probs + 0.5 / 3).log()  # shifted and scaled alike in all pixels
    assert float(correlation_distance(flatter, probs.log())) == pytest.approx(0, abs=1e-5)
    assert float(correlation_distance(probs.flip(1).log(), probs.log())) > 2


def test_gradient() -> None:
    student = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, True, False, True]])

    def loss(logits: Tensor) -> Tensor:
        return correlation_distance(logits, teacher.detach(), temperature=2.0, valid=valid)

    assert torch.autograd.gradcheck(loss, student)
    torch.autograd.backward(correlation_distance(student, teacher))
    assert teacher.grad is None


def test_nothing_to_correlate() -> None:
    student = torch.randn(1, 3, 4, requires_grad=True)
    none = torch.zeros(1, 4, dtype=torch.bool)
    loss = correlation_distance(student, torch.randn(1, 3, 4), valid=none)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert not student.grad.any()
    constant = torch.zeros(1, 3, 4, requires_grad=True)
    torch.autograd.backward(correlation_distance(constant, torch.randn(1, 3, 4)))
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_logits": torch.zeros(1, 2, 4)}, "The teacher has 2 classes and the student 3"),
        ({"temperature": 0.0}, "Expected `temperature` to be finite and greater than 0"),
        ({"valid": torch.ones(1, 5, dtype=torch.bool)}, "Expected `valid`"),
    ],
)
def test_mistakes(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"student_logits": torch.zeros(1, 3, 4)}
    given["teacher_logits"] = torch.zeros(1, 3, 4)
    with pytest.raises(ValueError, match=message):
        correlation_distance(**{**given, **change})
