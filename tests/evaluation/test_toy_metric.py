"""A metric of the registry, with its value in the engine, reaches every output."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.page_reading import Page
from softiou.cli import _console
from softiou.cli.compare import show
from softiou.comparison import compare
from softiou.data import SegmentationDataset, open_dataset
from softiou.evaluation import evaluate, read_evaluation, save_evaluation
from softiou.metrics import weighted
from softiou.metrics.registry import METRICS, MetricInfo
from softiou.models import ModelSpec, SegmentationModel
from softiou.reports import collect, render, render_comparison

TOY = MetricInfo(
    "toy",
    "Toy error",
    "Share of the pixels whose class is wrong.",
    "overlap",
    higher_is_better=False,
    digits=3,
    shown=("headline", "console"),
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the metric: the two places that CONTRIBUTING names."""
    plain: Callable[..., weighted.MetricValues] = weighted.overlap_metrics

    def with_toy(counts: Any, weights: torch.Tensor) -> weighted.MetricValues:
        values = plain(counts, weights)
        return values | weighted.MetricValues({"toy": 1 - values.metrics["accuracy"]}, {})

    monkeypatch.setitem(METRICS, "toy", TOY)
    monkeypatch.setattr(weighted, "overlap_metrics", with_toy)


def test_toy_metric_is_everywhere(
    toy: None, make_shapes: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(make_shapes(tmp_path / "data", test=3), "test")
    runs = [_evaluated(tmp_path / str(seed), dataset, seed) for seed in (0, 1)]
    content = json.loads((runs[0] / "evaluation.json").read_text())
    metrics = content["metrics"]
    assert metrics["toy"] == pytest.approx(100 - metrics["accuracy"])
    low, high = content["intervals"]["toy"]
    assert low < metrics["toy"] < high
    assert read_evaluation(runs[0]).metrics["toy"] == metrics["toy"]

    _console.score_table({"run": metrics})
    printed = capsys.readouterr().out
    assert "Toy error" in printed
    assert f"{metrics['toy']:.3f}" in printed

    page = Page(render(collect(runs[0]))).text
    assert f"{metrics['toy']:.3f}" in page
    assert TOY.description in page

    found = compare(runs, resamples=50)
    assert found.contrasts[0].metrics["toy"].better == "lower"
    show(found)
    assert re.search(r"Toy error ↓ .*\d\.\d{4}", capsys.readouterr().out)
    assert "Toy error" in render_comparison(found, runs)


def _evaluated(run: Path, dataset: SegmentationDataset, seed: int) -> Path:
    torch.manual_seed(seed)
    model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3)).eval()
    save_evaluation(evaluate(model, dataset, precision="fp32", data="d", checkpoint="c"), run)
    return run
