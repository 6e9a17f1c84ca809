"""The table of names: every value that it calls the same is."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import name_by_name
from benchmarks.name_by_name import Row
from benchmarks.speed_tables import name_table
from softiou import DiceSemimetricLoss, TverskyLoss


def identity(row: Row) -> str:
    return f"{row.library}-{row.theirs[1]}-{row.ours[0]}-{row.data}"


@pytest.mark.parametrize("row", name_by_name.rows(), ids=identity)
def test_values_are_the_same(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec(row.library) is None:
        pytest.skip(f"{row.library} is not installed: softiou[benchmarks] has it")
    monkeypatch.setattr(name_by_name, "SIZE", (2, 19, 32, 32))
    monkeypatch.setattr(name_by_name, "BINARY", (2, 1, 32, 32))
    found = name_by_name.measure(row, rounds=1)
    assert found["same"], found["values"]
    assert found["times_as_fast"] > 0


def test_the_table_names_what_was_run_and_what_was_stated() -> None:
    measured = {
        "library": "monai",
        "theirs": "DiceLoss(softmax=True)",
        "ours": "softiou.drop_in.monai.DiceLoss",
        "settings": "DiceLoss(softmax=True)",
        "note": "soft labels",
        "same": True,
        "times_as_fast": 1.96,
    }
    stated = [["nnU-Net", "TopKLoss", "none", ""]]
    table = name_table({"rows": [measured], "stated": stated, "versions": {"monai": "1.6.1"}})
    first, last = table.splitlines()[2:]
    assert first.startswith("| monai 1.6.1 | `DiceLoss(softmax=True)` | `softiou.drop_in.monai.")
    assert first.endswith("| yes, soft labels | 2.0 |")
    assert last == "| nnU-Net (stated) | `TopKLoss` | none |  |  |"


def test_stated_values_follow_from_the_published_formulas() -> None:
    logits, labels = torch.randn(2, 3, 4, 5).double(), torch.randint(0, 3, (2, 4, 5))
    labels[0] = labels[0].clamp(max=1)  # a class that is absent from an image
    p, y = logits.softmax(1).flatten(2), F.one_hot(labels, 3).movedim(-1, 1).flatten(2)
    tp, fp, fn = (x.sum(2) for x in (p * y, p * (1 - y), (1 - p) * y))

    dice = (2 * tp + 1e-5) / (y.sum(2) + p.sum(2) + 1e-5)  # nnU-Net's MemoryEfficientSoftDiceLoss
    rules: dict[str, Any] = {"all": "all", "foreground": [1, 2]}
    for name, classes in rules.items():
        chosen = dice if name == "all" else dice[:, 1:]
        ours = DiceSemimetricLoss(cross_entropy=0.5, per="image", classes=classes, smooth=5e-6)
        theirs = F.cross_entropy(logits, labels) - chosen.mean()
        torch.testing.assert_close(2 * ours(logits, labels) - 1, theirs)

    theirs = 1 - ((tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)).mean()  # mmsegmentation's TverskyLoss
    tversky = TverskyLoss(alpha=0.3, beta=0.7, per="image", classes="all")
    torch.testing.assert_close(tversky(logits, labels), theirs)
