"""The table of names: every value that it calls the same is."""

from importlib.util import find_spec

import pytest

from benchmarks import name_by_name
from benchmarks.name_by_name import Row
from benchmarks.speed_tables import name_table


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
