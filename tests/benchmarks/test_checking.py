import sys
from pathlib import Path

import pytest

from benchmarks import checking
from softiou.checking import check_dataset


def test_data_are_in_order(tmp_path: Path) -> None:
    checking.write_data(tmp_path, 20, (64, 64))
    report = check_dataset(tmp_path)
    assert [p.kind for p in report.errors] == []
    assert {name: split.images for name, split in report.splits.items()} == {"train": 18, "val": 2}
    assert report.splits["train"].sizes[0].height_px == 64


@pytest.mark.slow
def test_time_and_memory_of_a_process(tmp_path: Path) -> None:
    checking.write_data(tmp_path, 10, (16, 16))
    seconds, peak_mib = checking.run_check(str(tmp_path))
    assert 0.1 < seconds < 300
    assert 50 < peak_mib < 10_000


def test_errors_are_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="to find no errors, but it ended with 1"):
        checking.run_check(str(tmp_path))
