"""The benchmark of training steps beside a plain loop."""

from pathlib import Path

import pytest

from benchmarks import training_loop
from benchmarks.loading import write_images


@pytest.mark.slow
def test_both_train_as_many_steps(tmp_path: Path) -> None:
    write_images(tmp_path / "data", (64, 64), count=4)
    found = {
        "plain": training_loop.run_plain(tmp_path / "data", (32, 32), steps=3),
        "ours": training_loop.run_ours(tmp_path / "data", (32, 32), 3, "loss.cross_entropy=0.25"),
    }
    for times in found.values():
        assert len(times) == 3
        assert times == sorted(times)


def test_ratios_are_those_of_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up = [100.0 * step for step in range(training_loop.WARM_UP)]  # is not counted

    def times(seconds: float) -> list[float]:
        return [*warm_up, *(warm_up[-1] + 100 + seconds * step for step in range(5))]

    monkeypatch.setattr(training_loop, "write_images", lambda *_, **__: None)
    monkeypatch.setattr(training_loop, "run_plain", lambda *_: times(1.0))
    monkeypatch.setattr(training_loop, "run_ours", lambda *_: times(0.5))
    found = training_loop.measure(steps=15, turns=2)
    assert found["plain loop"]["steps_per_second"] == 1.0
    assert found["softiou, default loss"] == {
        "steps_per_second": 2.0,
        "ratio": 2.0,
        "quartiles": [2.0, 2.0],
    }
