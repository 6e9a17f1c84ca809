"""The examples of CONTRIBUTING.md: a loss and a target of one's own."""

from typing import Any

import pytest
import torch

from documentation import BLOCK, ROOT
from softiou import JaccardMetricLoss, targets

LOGITS = torch.tensor([[[0.0, 9.0], [9.0, 0.0]]])  # (N, C, S)
LABELS = torch.tensor([[0, 0]])


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the Python blocks define."""
    found: dict[str, Any] = {"__name__": "contributing"}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, "CONTRIBUTING.md", "exec", dont_inherit=True), found)
    return found


def test_a_loss(names: dict[str, Any]) -> None:
    p = LOGITS.softmax(1)[0, 0]  # of class 0, which is everywhere
    loss = names["RecallLoss"](smooth=1.0)(LOGITS, LABELS)
    torch.testing.assert_close(loss, (2 - p.sum()) / (2 + 1))


def test_a_target(names: dict[str, Any]) -> None:
    target = names["ConstantTarget"](torch.tensor([0.3, 0.7]), LABELS)
    probs, _ = targets.to_probs(target, num_classes=2)
    assert probs.tolist() == [[pytest.approx([0.3, 0.3]), pytest.approx([0.7, 0.7])]]
    loss = JaccardMetricLoss()
    torch.testing.assert_close(loss(LOGITS, target), loss(LOGITS, probs))
    with pytest.raises(ValueError, match=r"Expected `probs` to sum to 1, but got \[1\.0, 1\.0\]"):
        names["ConstantTarget"](torch.ones(2), LABELS).validate(2)
