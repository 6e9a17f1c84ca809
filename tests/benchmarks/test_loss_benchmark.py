import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

# The programs are no part of the installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import results_files, speed_tables, tables
from benchmarks.loss import KEY, main, measure, save
from benchmarks.loss_cases import (
    CASES,
    CLASSES,
    DTYPES,
    Workload,
    prepare,
    step_workloads,
    workloads,
)
from benchmarks.loss_contenders import (
    PEERS,
    Loss,
    UnavailableError,
    losses,
    plain_jaccard,
    softiou_loss,
)
from benchmarks.loss_measures import bytes_of_a_pass, interleaved_seconds, peak_extra_bytes
from softiou import JaccardMetricLoss

pytest.importorskip("segmentation_models_pytorch")

# What computes another number: other losses, a mean over the images, Dice.
OTHERS = ("cross-entropy", "no loss", "kornia", "kornia dice")


def tiny(case: str, dtype: str = "fp32", length: int = 32) -> Workload:
    return Workload(case, 2, 3, (length, length), dtype)


def value_of(run: Any) -> float | None:
    try:
        return float(run())
    except UnavailableError:
        return None


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("floor", "kinds")])
def test_contenders_that_do_the_same_job_compute_the_same_number(case: str) -> None:
    values = {name: value_of(run) for name, run in prepare(tiny(case)).items()}
    same = {n: v for n, v in values.items() if n not in OTHERS and v is not None}
    assert {"softiou", "softiou chunked", "plain formula"} <= set(same)
    for name, value in same.items():
        # The peers add a little to their denominators.
        tolerance = 1e-4 if name in PEERS else 1e-6
        assert value == pytest.approx(values["plain formula"], abs=tolerance), name


@pytest.mark.parametrize("case", ["hard", "dense"])
def test_contenders_of_one_class_compute_the_same_number(case: str) -> None:
    runs = prepare(Workload(case, 2, 1, (32, 32), "fp32"))
    values = {name: value_of(run) for name, run in runs.items() if name != "cross-entropy"}
    assert set(values) > {"softiou", "softiou chunked", "monai"}
    for name, value in values.items():
        assert value is None or value == pytest.approx(values["softiou"], abs=1e-4), name


def test_hard_labels_are_among_the_kinds_of_target() -> None:
    values = {name: value_of(run) for name, run in prepare(tiny("kinds")).items()}
    assert "hard labels" in values
    assert len(values) == 9
    assert all(value is not None and 0 < value < 1 for value in values.values())


def test_the_step_trains_with_the_same_mixture() -> None:
    torch.manual_seed(0)
    runs = prepare(tiny("step", "bf16", 64))
    assert set(runs) == {"softiou", "cross-entropy", "plain formula", "no loss"}
    values = {name: value_of(run) for name, run in runs.items()}
    # Its logits are bf16, which the plain way also interpolates in.
    assert values["softiou"] == pytest.approx(values["plain formula"], rel=1e-2)


@pytest.mark.parametrize("case", ["hard", "dense", "smoothed", "stride4", "mixture"])
def test_contenders_have_the_gradient_of_the_plain_formula(case: str) -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    size = 32 if case == "stride4" else 8
    target = torch.randint(3, (2, size, size))
    soft = torch.rand(2, 3, 8, 8).softmax(1)

    def gradient(loss: Loss) -> Tensor:
        value = loss(logits, soft if case == "dense" else target)
        return torch.autograd.grad(value, logits)[0]

    contenders = losses(case)
    expected = gradient(contenders["plain formula"])
    torch.testing.assert_close(gradient(contenders["softiou"]), expected, atol=1e-6, rtol=1e-4)


def test_kornia_takes_the_mean_over_the_images() -> None:
    pytest.importorskip("kornia")
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 8, 8))
    expected = JaccardMetricLoss(smooth=0.0, per="image")(logits, target)
    torch.testing.assert_close(losses("hard")["kornia"](logits, target), expected)


def test_plain_formula_is_zero_at_the_target() -> None:
    target = torch.tensor([[[0, 1]]])
    logits = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
    assert plain_jaccard(logits, target).item() == pytest.approx(0)


def test_an_implementation_that_refuses_cannot_take_part() -> None:
    loss = softiou_loss("chunked", upsample="bilinear")
    with pytest.raises(UnavailableError):
        loss(torch.randn(1, 2, 5), torch.zeros(1, 5, dtype=torch.long))


def test_every_class_is_in_every_image() -> None:
    from benchmarks.loss_cases import _labels

    labels = _labels(Workload("hard", 2, 150, (32, 64), "fp32"))
    assert labels.shape == (2, 32, 64)
    assert all(len(image.unique()) == 150 for image in labels)


def test_rounds_are_interleaved_in_random_order() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = interleaved_seconds(runs, rounds=30, device="cpu")
    rounds = {"".join(order[i : i + 3]) for i in range(len(order) - 90, len(order), 3)}
    assert rounds == {"abc", "acb", "bac", "bca", "cab", "cba"}
    assert {name: len(times) for name, times in seconds.items()} == dict.fromkeys("abc", 30)


def test_a_pass_moves_the_logits_three_times() -> None:
    pixels, logits = 2 * 32 * 32, 2 * 3 * 32 * 32 * 4
    assert bytes_of_a_pass(tiny("floor")) == 3 * logits
    assert bytes_of_a_pass(tiny("hard")) == 3 * logits + 2 * 8 * pixels
    assert bytes_of_a_pass(tiny("dense")) == 5 * logits
    assert bytes_of_a_pass(tiny("stride4", "bf16")) == 3 * logits // 32 + 2 * 8 * pixels


@pytest.mark.slow
def test_memory_holds_what_the_plain_formula_writes_out() -> None:
    # 12 MiB of logits: softmax, one-hot labels and the gradient are as large or larger. A page or
    # more may have been there before.
    workload = Workload("hard", 4, 3, (512, 512), "fp32")
    assert peak_extra_bytes(workload, "plain formula", threads=1) > 3.9 * workload.logits_bytes
    assert peak_extra_bytes(workload, "softiou", threads=1) < 2 * workload.logits_bytes


def test_rows_have_figures_and_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["contender"]: row for row in measure(tiny("hard"), rounds=2, peaks={"copy": 1e10})}
    row = rows["softiou"]
    q1, q3 = row["seconds_quartiles"]
    assert 0 < q1 <= row["seconds_median"] <= q3
    peers = {name for name, other in rows.items() if other["peer"]}
    assert set(row["ratio_to"]) == {"cross-entropy", "plain formula", *peers}
    assert set(rows["cross-entropy"]["ratio_to"]) == {"plain formula", *peers}
    assert row["share_of_bandwidth"]["copy"] > 0
    assert (row["case"], row["shape"], row["dtype"]) == ("hard", "2x3x32x32", "fp32")
    assert not row["peer"]
    assert rows["smp"]["peer"]


def test_the_program_writes_what_it_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results" / "cpu.json"
    quick = ["--quick", "--threads", "1", "--no-memory", "--classes", "3", "--out", str(path)]
    threads = torch.get_num_threads()
    try:
        main([*quick, "--cases", "floor", "--dtypes", "bf16"])
        main([*quick, "--cases", "floor"])
    finally:
        torch.set_num_threads(threads)
    results = json.loads(path.read_text())
    assert [row["dtype"] for row in results["rows"]] == ["bf16", "fp32"]
    assert {"commit", "date", "machine", "versions", "rows"} == set(results)
    assert "floor 4x3x64x64 fp32" in capsys.readouterr().out


def test_new_rows_replace_old_ones_and_the_others_stay(tmp_path: Path) -> None:
    def row(contender: str, seconds: float) -> dict[str, Any]:
        return {**dict.fromkeys(KEY, "x"), "contender": contender, "seconds_median": seconds}

    def about(commit: str) -> dict[str, Any]:
        return {"commit": commit, "date": "2026-01-01", "machine": {}, "versions": {}}

    path = tmp_path / "cpu.json"
    save([row("a", 1.0), row("b", 1.0)], about("old"), path)
    save([row("b", 2.0), row("c", 2.0)], about("new"), path)
    results = json.loads(path.read_text())
    found = {r["contender"]: (r["commit"], r["seconds_median"]) for r in results["rows"]}
    assert found == {"a": ("old", 1.0), "b": ("new", 2.0), "c": ("new", 2.0)}
    assert results["commit"] == "new"


def test_the_table_asks_for_what_is_measured() -> None:
    measured = [*workloads(CASES, CLASSES, tuple(DTYPES), "cpu"), *step_workloads(CLASSES, "cpu")]
    assert set(speed_tables.LOSS_ROWS) <= {(w.case, w.shape, w.dtype) for w in measured}


def test_table_of_the_losses() -> None:
    def row(contender: str, seconds: float, peak: float | None = None) -> dict[str, Any]:
        key = {"case": "hard", "shape": "4x19x512x512", "dtype": "fp32", "contender": contender}
        memory = {} if peak is None else {"peak_extra_mib": peak}
        return {**key, "peer": contender in PEERS, "seconds_median": seconds, **memory}

    rows = [row("softiou", 0.0504, 80.1), row("cross-entropy", 0.4), row("smp", 0.9)]
    results = {
        "date": "2026-01-01",
        "machine": {"name": "A CPU", "cores": 2, "threads": 1},
        "versions": {"torch": "2.15"},
        "rows": [*rows, row("monai", 0.00163)],
    }
    lines = speed_tables.loss_table(results).splitlines()
    assert lines[0] == "A CPU (2 cores, 1 threads), torch 2.15, 2026-01-01:"
    assert lines[-1] == "| hard labels, 19 classes | 50 | 400 | – | 1.6 (monai) | 80 / – |"  # noqa: RUF001


def test_no_results_make_an_empty_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_files, "RESULTS", tmp_path)
    assert tables.table("loss") == ""
