"""The benchmark of shards: both ways load the same samples, and the figures are those asked for."""

import json

import pytest

from benchmarks import loading, shards


def test_a_small_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    monkeypatch.setattr(shards, "SAMPLES", 2)
    monkeypatch.setitem(loading.SIZES, "small", ((64, 48), (32, 32)))
    found = shards.measure("small", 4, rounds=1)
    assert (found["samples"], found["shards"]) == (4, 1)
    assert found["folder_wall"] > 0 < found["shards_wall"]


def test_the_plan_multiplies(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shards.RESULT.read_text())["images"]["480x360"]
    shards.plan()
    lines = capsys.readouterr().out.splitlines()
    size = found["bytes_a_sample"]
    assert (
        lines[6] == f"| shards | {size / 1e3:.0f} kB | {size / 1e2:.0f} GB | {size / 1e3:.0f} TB |"
    )
    assert min(found["ratio_processor"], found["ratio_wall"]) >= 1
