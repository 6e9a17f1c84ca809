"""The registry of metrics: complete, and all that is displayed follows it."""

import subprocess
import sys

import pytest

from softiou.metrics.registry import (
    CLASS_METRICS,
    METRICS,
    MetricInfo,
    higher_is_better,
    metric_info,
    metrics_of,
)


def test_importing_the_registry_needs_no_torch() -> None:
    code = "import sys, softiou.metrics.registry; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_errors_and_distances_are_those_where_lower_is_better() -> None:
    lower = {info.key for info in METRICS.values() if not info.higher_is_better}
    assert lower == {"ece_d", "ece_i", "cece_d", "ace_d", "mce_d", "bece_d", "brier", "nll", "ged"}
    assert lower == {n for n in METRICS if "iou" not in n and "dice" not in n and "acc" not in n}


def test_names_of_a_training_have_their_direction() -> None:
    assert higher_is_better("val/miou_d")
    assert not higher_is_better("val/ece_d")
    assert not higher_is_better("nll")
    with pytest.raises(ValueError, match=r"such as 'val/miou_d', but got 'val/loss'\. The metrics"):
        higher_is_better("val/loss")


def test_headings_and_digits() -> None:
    assert METRICS["miou_d"].heading == "mIoU D"
    assert METRICS["nll"].heading == "NLL (nats)"
    assert METRICS["brier"].heading == "Brier score"
    assert METRICS["nll"].text(0.41234) == "0.412"
    assert METRICS["miou_d"].text(None) == "\N{EN DASH}"


def test_a_class_metric_has_the_settings_of_its_mean() -> None:
    assert {info.mean for info in CLASS_METRICS} <= set(METRICS)
    assert metric_info("cece") is METRICS["cece_d"]


def test_an_unknown_key_is_a_share() -> None:
    assert metric_info("new") == MetricInfo("new", "new", "", "overlap")


def test_metrics_of_a_place() -> None:
    keys = [info.key for info in metrics_of(shown="headline")]
    assert keys == ["miou_d", "miou_i", "miou_c", "ece_d"]
    assert [info.key for info in metrics_of("soft", among=("ged", "nll"))] == ["ged"]


def test_lists_are_whole() -> None:
    assert metrics_of() == list(METRICS.values())
    assert {info.key for info in metrics_of() if info.scale != 100} == {"nll"}
