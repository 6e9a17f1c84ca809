"""The metrics benchmark on an image of a few pixels."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import metrics


def test_it_measures_and_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    result = tmp_path / "metrics" / "cpu.json"
    monkeypatch.setattr(metrics, "RESULT", result)
    monkeypatch.setattr(metrics, "SIZE", (64, 128))
    monkeypatch.setattr("sys.argv", ["metrics", "--rounds", "3", "--threads", "1"])
    before = torch.get_num_threads()
    metrics.main()
    assert torch.get_num_threads() == before
    content = json.loads(result.read_text(encoding="utf-8"))
    found = content["threads"]["1"]
    assert set(found["seconds"]) == set(metrics.contenders())
    for spread in (*found["seconds"].values(), *found["times_as_fast"].values()):
        low, high = spread["quartiles"]
        assert 0 < low <= spread["median"] <= high
    assert len(found["times_as_fast"]) == 4
    small, large = content["state_bytes_of_an_update"].values()
    for name in metrics.contenders():
        theirs = name.startswith("torchmetrics")
        assert (large[name] > 3 * small[name]) if theirs else (large[name] == small[name] < 20_000)
    assert "times_as_fast" in capsys.readouterr().out


def test_all_contenders_find_the_same() -> None:
    probs, target = metrics.prediction((64, 96))
    found = {}
    for name, some in metrics.contenders().items():
        for metric in some:
            metric.update(probs, target)
        scores = [metric.compute() for metric in some]
        if name.startswith("torchmetrics"):
            found[name] = [float(score) for score in scores]
        elif len(scores) == 2:
            found[name] = [float(scores[0]["miou_d"]), float(scores[1])]
        else:
            found[name] = [float(scores[0][key]) for key in ("miou_d", "ece_d")]
    expected = found["torchmetrics"]
    assert 0.2 < expected[0] < 0.95
    for values in found.values():
        assert values == pytest.approx(expected, abs=1e-6)
