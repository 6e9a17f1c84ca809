"""The experiment runner, from a grid to results, differences and tables, on a few steps."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import (
    accuracy_tables,
    differences,
    experiments,
    grid,
    results_files,
    tables,
    trials,
)
from benchmarks.trials import Trial
from softiou.configuration import load_config
from softiou.data import digits
from softiou.metrics import OverlapCounts
from softiou.metrics.bins import CalibrationBins
from softiou.resampling import ImageStatistics, weighted_metrics

DIGITS: dict[str, Any] = {
    "source": "digits",
    "eval_split": "val",
    "contrasts": [["jml", "ce"], ["kd", "ce"], ["jml", "missing"]],
    "settings": {
        "model.architecture": "fpn",
        "model.encoder": "tu-regnetx_002",
        "model.encoder_weights": "none",
        "data.train_split": "1_16",
        "data.crop_px": [64, 64],
        "data.batch_size": 2,
        "data.workers": 0,
        "optim.steps": 2,
        "optim.validations": 1,
        "precision": "fp32",
    },
    "names": {"ce": "cross-entropy", "jml": "0.25 CE + 0.75 JML"},
    "methods": {
        "ce": {"loss.cross_entropy": 1.0},
        "jml": {"loss.cross_entropy": 0.25},
        "kd": {"distillation.teacher": "jml"},
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid, results and runs of the test's own."""
    file = tmp_path / "benchmarks" / "experiments.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump({"digits": DIGITS}))
    results = tmp_path / "benchmarks" / "results"
    monkeypatch.setattr(grid, "GRID", file)
    monkeypatch.setattr(results_files, "RESULTS", results)
    monkeypatch.setattr(trials, "RUNS", tmp_path / "runs")
    for split in ("val", "test"):
        few = replace(digits._SOURCES[split], size=6)
        monkeypatch.setitem(digits._SOURCES, split, few)
    for module in (experiments, trials):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "current_commit", lambda: "abc")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["experiments", "digits", *arguments])
    experiments.main()


def trial(method: str, seed: int = 0) -> Trial:
    return Trial("digits", DIGITS, method, seed)


def evaluated(one: Trial) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((one.run_of(one.method) / "evaluation.json").read_text())
    return content


def test_a_run_is_recorded_with_all_that_repeats_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    run(monkeypatch, "--methods", "ce", "--seeds", "3", "--here", "--threads", str(before))
    file = project / "benchmarks" / "results" / "digits" / "ce-seed3.json"
    content = json.loads(file.read_text())
    assert content["commit"] == "abc"
    assert (content["experiment"], content["method"], content["seed"]) == ("digits", "ce", 3)
    assert content["steps"] == 2
    assert content["config"]["loss"]["cross_entropy"] == 1.0
    assert [point["step"] for point in content["learning_curve"]] == [2]
    assert set(content["calibrated"]) >= {"ece_d", "nll"}  # a temperature, fitted on val
    assert str(project) not in file.read_text()
    sums = results_files.read_sums(file)
    assert sums is not None
    assert list(sums.stems) == [image["stem"] for image in evaluated(trial("ce", 3))["images"]]
    counts = sums.statistics.merge_images().counts
    iou = counts.true_positives / (counts.present + counts.predicted - counts.true_positives)
    assert 100 * iou.nanmean().item() == pytest.approx(content["metrics"]["miou_d"], abs=1e-4)


def test_a_method_may_learn_from_the_loss_of_a_peer(project: Path) -> None:
    methods = {"lovasz": {"peer_loss": "lovasz", "loss.cross_entropy": 0.25}}
    one = Trial("digits", DIGITS | {"methods": methods}, "lovasz", 0)
    trials.run_trial(one)
    assert json.loads(one.result.read_text())["peer_loss"] == "lovasz"
    line = json.loads((one.run_of("lovasz") / "metrics.jsonl").read_text().splitlines()[0])
    mixture = 0.25 * line["train/cross_entropy"] + 0.75 * line["train/overlap"]
    assert line["train/loss"] == pytest.approx(mixture, rel=1e-5)


def test_the_declared_grid_hangs_together() -> None:
    for name, declared in grid.read_grid().items():
        assert set(declared.get("main", ())) <= set(declared["methods"])
        for method in declared["methods"]:
            one = Trial(name, declared, method, 0)
            assert one.teacher is None or one.teacher in declared["methods"], one.name
            overrides = [
                f"{key}={trials._value(key, value)}" for key, value in one.settings.items()
            ]
            assert load_config(source="digits", overrides=overrides).seed == 0
        for pair in declared.get("contrasts", ()):
            assert set(pair) <= set(declared["methods"]), name


def test_what_is_finished_is_skipped_unless_another_commit_is_to_replace_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    one = trial("ce")
    one.result.parent.mkdir(parents=True)
    one.result.write_text('{"commit": "abc"}')
    run(monkeypatch, "--methods", "ce", "--seeds", "0", "--list", "--again")
    assert "finished at commit abc, skipped\n" in capsys.readouterr().out
    one.result.write_text('{"commit": "old"}')
    run(monkeypatch, "--methods", "ce", "--seeds", "0", "--list")
    assert "finished at commit old, skipped; --again replaces it" in capsys.readouterr().out
    run(monkeypatch, "--methods", "ce", "--seeds", "0", "--list", "--again")
    out = capsys.readouterr().out
    assert "the result of commit old is going to be replaced by that of abc" in out
    assert out.endswith("ce-seed0\n")


def test_a_run_that_another_commit_began_keeps_its_commit(project: Path, capsys: Any) -> None:
    directory = trial("ce").run_of("ce")
    directory.mkdir(parents=True)
    (directory / "config.yaml").touch()
    directory.with_suffix(".commit").write_text("old")
    assert trials._begun_at(directory) == "old"
    assert "was begun at commit old" in capsys.readouterr().out


def test_the_same_training_of_another_experiment_is_copied(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    twin = DIGITS | {"methods": {"hard": DIGITS["methods"]["ce"]}}
    longer = {"hard": {"loss.cross_entropy": 1.0, "optim.steps": 3}}
    others = {"longer": DIGITS | {"methods": longer}, "twin": twin}
    grid.GRID.write_text(yaml.safe_dump({"digits": DIGITS} | others))
    write("hard", 0, [[70, 20]], experiment="longer")
    run(monkeypatch, "--methods", "ce", "--seeds", "0", "--list")
    write("hard", 0, [[90, 40], [80, 50]], experiment="twin")
    run(monkeypatch, "--methods", "ce", "--seeds", "0", "--list")
    assert capsys.readouterr().out == "ce-seed0\nce-seed0\n"
    assert not trial("ce").result.exists()
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, "--methods", "ce", "--seeds", "0")
    assert "ce, seed 0: the training of twin, hard, seed 0, copied" in capsys.readouterr().out
    copied = results_files.read_result(trial("ce").result)
    assert (copied["experiment"], copied["method"]) == ("digits", "ce")
    sums = results_files.read_sums(trial("ce").result)
    assert sums is not None
    assert sums.statistics.num_images == 2


def test_a_training_with_a_teacher_is_no_other_s() -> None:
    assert trial("ce").equals(trial("ce"))
    assert not trial("ce").equals(trial("jml"))
    assert not trial("ce").equals(trial("ce", 1))
    assert not trial("kd").equals(trial("kd"))
    assert not trial("ce").equals(Trial("digits", DIGITS | {"eval_split": "test"}, "ce", 0))


def test_teachers_come_first_and_once(project: Path, capsys: Any) -> None:
    wanted = experiments.with_teachers([trial("kd"), trial("kd", 1), trial("ce")])
    assert [(one.method, one.seed) for one in wanted] == [
        ("ce", 0),
        ("jml", 0),
        ("jml", 1),
        ("kd", 0),
        ("kd", 1),
    ]
    evaluation = trial("jml").run_of("jml") / "evaluation.json"
    evaluation.parent.mkdir(parents=True)
    evaluation.touch()
    assert experiments.with_teachers([trial("kd")]) == [trial("kd")]
    other = trial("jml", 1)
    other.result.parent.mkdir(parents=True)
    other.result.touch()
    assert experiments.with_teachers([trial("kd", 1)]) == [other, trial("kd", 1)]
    assert "its model is not here, so it is trained again" in capsys.readouterr().out


def test_an_unknown_method_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="digits has no method cc; it has ce, jml, kd"):
        run(monkeypatch, "--methods", "cc")


def options(**changed: Any) -> argparse.Namespace:
    return argparse.Namespace(**({"jobs": 2, "threads": 1, "again": False} | changed))


def test_jobs_run_apart(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setattr(
        experiments,
        "_command",
        lambda one, place, options: [sys.executable, "-c", f"{code}; exit({one.seed})"],
    )
    some = [trial("ce"), trial("kd"), trial("jml", 1)]
    assert experiments.run_side_by_side(some, options()) == 2
    out = capsys.readouterr().out
    assert "digits, ce, seed 0: done" in out
    assert "digits, jml, seed 1: FAILED with status 1" in out
    assert "digits, kd, seed 0: FAILED, for its teacher, jml, is not trained" in out
    assert trial("ce").run_of("ce").with_suffix(".log").read_text() == "1\n"


def test_a_job_is_told_which_cores_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7})
    command = " ".join(experiments._command(trial("kd", 4), 1, options(threads=2, again=True)))
    which = "digits --methods kd --seeds 4 --here --threads 2 --again --cores 5 7"
    assert command == f"{sys.executable} -m benchmarks.experiments {which}"
    assert experiments._cores(2, 2) == [2, 3]  # more jobs than cores: shared


def test_a_job_keeps_to_its_cores(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    before = os.sched_getaffinity(0)
    core = max(before)

    def train(one: Trial, *, again: bool) -> None:
        trained.append((one, again, os.sched_getaffinity(0)))

    monkeypatch.setattr(experiments, "run_trial", train)
    threads = str(torch.get_num_threads())
    try:
        run(monkeypatch, *f"--methods ce --seeds 0 --here --again --threads {threads}".split())
        one = f"--methods ce --seeds 0 --here --threads {threads} --cores {core}"
        run(monkeypatch, *one.split())
    finally:
        os.sched_setaffinity(0, before)
    assert trained == [(trial("ce"), True, before), (trial("ce"), False, {core})]


def test_what_is_made_again_leaves_the_run_of_the_other_commit(project: Path) -> None:
    one = trial("ce")
    run_of = one.run_of("ce")
    run_of.mkdir(parents=True)
    run_of.with_suffix(".commit").write_text("abc")
    trials.set_aside(one)  # begun at this commit, and killed: it goes on
    assert run_of.exists()
    run_of.with_suffix(".commit").write_text("old")
    run_of.with_suffix(".log").touch()
    trials.set_aside(one)
    names = sorted(path.name for path in run_of.parent.iterdir())
    assert names == [f"ce-seed0-at-old{suffix}" for suffix in ("", ".commit", ".log")]


def test_a_result_stays_when_its_model_is_trained_for_students_alone(project: Path) -> None:
    one = Trial("digits", DIGITS | {"eval_labels": "soft"}, "ce", 5)
    one.result.parent.mkdir(parents=True)
    one.result.write_text('{"commit": "old"}')
    trials.run_trial(one)
    assert one.result.read_text() == '{"commit": "old"}'
    assert one.is_trained
    trials.run_trial(one, again=True)
    assert json.loads(one.result.read_text())["commit"] == "abc"
    sidecar = one.run_of("ce") / "checkpoints" / "best.calibration.json"
    assert json.loads(sidecar.read_text())["labels"] == "soft"  # as what it is scored against


def test_folders_of_this_machine_do_not_come_into_results(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "ROOT", Path("/ann/softiou"))
    config = {"a": "/ann/softiou/x", "b": "/ann/data", "c": "/anna/softiou", "d": "/ann/softiou"}
    found = trials._without_own_paths(config)
    assert found == {"a": "./x", "b": "../data", "c": "/anna/softiou", "d": "."}


def counted(correct: list[list[int]]) -> ImageStatistics:
    """Two classes of 100 pixels in each image, so many of them predicted right."""
    right = torch.tensor(correct)
    present = torch.full_like(right, 100)
    predicted = right + (100 - right).flip(1)
    bins = CalibrationBins(*torch.ones(3, len(right), 15, dtype=torch.float64))
    return ImageStatistics(OverlapCounts(right, predicted, present), bins=bins)


def write(
    method: str,
    seed: int,
    correct: list[list[int]],
    images: str = "same",
    experiment: str = "digits",
) -> None:
    classes = [{"name": "even"}, {"name": "odd"}]
    content = {"method": method, "seed": seed, "images": images, "per_class": classes}
    content |= {"commit": "old"}
    file = results_files.result_file(experiment, method, seed)
    stems = [f"p{number // 2}-{number}" for number in range(len(correct))]
    results_files.write_result(file, content, counted(correct), stems)


def test_differences_are_paired_over_images_and_seeds(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    easy, hard = [90, 90], [40, 40]
    for seed in (0, 1):
        write("ce", seed, [easy, hard, easy])
        write("jml", seed, [[95, 95], [45, 45], [95, 95]])
    write("jml", 2, [easy, easy, easy])  # without a partner
    (found,) = differences.differences("digits", DIGITS["contrasts"])
    assert (found["method"], found["baseline"], found["seeds"]) == ("jml", "ce", [0, 1])
    miou = found["metrics"]["miou_d"]
    ours, theirs = 235 / 365, 220 / 380  # of 300 pixels of each class
    assert miou["value"] == pytest.approx(100 * (ours - theirs))
    assert miou["of_seeds"] == [miou["value"]] * 2
    low, high = miou["interval"]
    # Unpaired, hard against easy images would be some 60 points apart.
    assert 0 < low < miou["value"] < high < 10
    assert found["metrics"]["ece_d"] == {
        "value": 0.0,
        "interval": [0.0, 0.0],
        "of_seeds": [0.0, 0.0],
    }


def test_what_a_seed_does_to_both_methods_cancels(project: Path) -> None:
    for seed in (0, 1, 2):
        for method, gain in (("ce", 0), ("jml", 1)):
            write(method, seed, [[50 + 10 * seed + gain, 60]] * 4)
    (found,) = differences.differences("digits", [["jml", "ce"]])
    low, high = found["metrics"]["miou_d"]["interval"]
    # One more of 100 pixels is worth half a point to one; a seed is worth some seven.
    assert 0.4 < low < found["metrics"]["miou_d"]["value"] < high < 1


def test_images_of_a_group_are_drawn_together(project: Path) -> None:
    """Four patients of two images that are alike: as unsure as four images."""
    for method, gain in (("ce", 0), ("jml", 5)):
        write(method, 0, [[50 + r + gain * (r < 30), 60] for r in (0, 0, 10, 10, 20, 20, 30, 30)])

    def width(together: str | int) -> float:
        (found,) = differences.differences("digits", [["jml", "ce"]], together)
        low, high = found["metrics"]["miou_d"]["interval"]
        return float(high - low)

    assert width(2) == width(r"p\d+") == pytest.approx(2**0.5 * width(1), rel=0.15)


def test_figures_of_a_class() -> None:
    figures = weighted_metrics(counted([[90, 40], [50, 40]]), torch.ones(1, 2).double())
    found = differences._column(figures, "odd/dice", ("even", "odd"))
    assert found.tolist() == pytest.approx([100 * 2 * 80 / (200 + 80 + 60)])
    assert differences._column(figures, "odd/soft_dice", ("even", "odd")).isnan().all()


def test_differences_of_other_images_are_refused(project: Path) -> None:
    write("ce", 0, [[1, 1]])
    write("jml", 0, [[1, 1]], images="other")
    with pytest.raises(ValueError, match="scored on different images"):
        differences.differences("digits", DIGITS["contrasts"])


def test_differences_become_a_table(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1, 2):
        write("ce", seed, [[90, 90], [40, 40]])
        write("jml", seed, [[95 - seed, 95], [45, 45]])
    monkeypatch.setattr(differences, "ROOT", project)
    monkeypatch.setattr(differences, "RESULTS", results_files.RESULTS)
    monkeypatch.setattr("sys.argv", ["differences"])
    differences.main()
    head, _, row = tables.table("digits_differences").splitlines()
    assert head.startswith("| method | baseline | mIoU^D of each seed | mIoU^D | mIoU^I |")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["0.25 CE + 0.75 JML", "cross-entropy"]
    assert cells[2] == "+5.7, +5.4, +5.1"  # 140 / 260 less 130 / 270, for the first
    assert cells[3].startswith("**+")  # surely better
    assert cells[-1] == "+0.00 (+0.00 to +0.00)"


def test_two_seeds_decide_nothing(project: Path) -> None:
    for seed in (0, 1):
        write("ce", seed, [[90, 90], [40, 40]])
        write("jml", seed, [[95, 95], [45, 45]])
    (contrast,) = differences.differences("digits", [["jml", "ce"]])
    assert contrast["metrics"]["miou_d"]["interval"][0] > 0
    differences_file = results_files.RESULTS / "digits" / "differences.json"
    differences_file.write_text(json.dumps({"contrasts": [contrast]}))
    assert "**" not in tables.table("digits_differences")


def test_figures_become_tables_in_the_order_of_the_grid(project: Path) -> None:
    def record(method: str, seed: int, ece: float, calibrated: dict[str, float] | None) -> None:
        file = results_files.result_file("digits", method, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        metrics = {"soft_iou_d": 50.0 + 2 * seed, "miou_d": 60.0, "ece_d": ece, "ece_i": 4.0}
        content = {"method": method, "seed": seed, "metrics": metrics, "calibrated": calibrated}
        file.write_text(json.dumps(content | {"steps": 8, "seconds": 60 * (1 + seed)}))

    record("jml", 0, 3.0, {"ece_d": 1.0, "ece_i": 2.0})
    record("jml", 1, 5.0, {"ece_d": 1.5, "ece_i": 2.0})
    record("ce", 0, 1.0, None)
    lines = tables.table("digits").splitlines()
    assert lines[0].split(" | ")[1:4] == ["seeds", "soft mIoU^D", "mIoU^D"]
    assert lines[2] == "| cross-entropy | 1 | 50.0 | 60.0 | – | – | 1.00 | 8 | 1 |"  # noqa: RUF001
    assert lines[3].startswith("| 0.25 CE + 0.75 JML | 2 | 51.0 ± 1.4 | 60.0 ± 0.0 |")
    assert lines[3].endswith("| 4.00 ± 1.41 | 8 | 2 |")
    head, _, row = tables.table("digits_calibration", ["jml"]).splitlines()
    assert head.startswith("| method | seeds | ECE | after T | ECE per image | after T |")
    cells = "2 | 4.00 ± 1.41 | 1.25 ± 0.35 | 4.00 ± 0.00 | 2.00 ± 0.00 | – | – | – | – |"  # noqa: RUF001
    assert row == f"| 0.25 CE + 0.75 JML | {cells}"


def test_the_temperature_is_compared_with_a_baseline_without_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(method: str, seed: int, overlap: float, before: float, after: float) -> None:
        file = results_files.result_file("digits", method, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        metrics = {"soft_iou_d": overlap, "ece_d": before}
        content = {"metrics": metrics, "calibrated": {"ece_d": after}}
        file.write_text(json.dumps({"method": method, "seed": seed, **content}))

    monkeypatch.setattr(accuracy_tables, "DEFAULTS", {"digits": (("jml", "ce"),)})
    for seed, (ours, theirs) in enumerate([(0.5, 1.0), (2.0, 1.5)]):
        record("jml", seed, 62.0, 9.0, ours)
        record("ce", seed, 60.0 + seed, theirs, 9.0)
    record("ce", 2, 0.0, 9.0, 9.0)  # a seed that only one of them has
    row = tables.table("after_temperature").splitlines()[2]
    assert row == (
        "| digits | 0.25 CE + 0.75 JML | cross-entropy | +1.5 | 1.25 ± 0.35 | 1.25 ± 1.06 | "
        "-0.50, +0.50 |"
    )


def test_a_table_of_a_method_that_nobody_declares_is_refused(project: Path) -> None:
    with pytest.raises(ValueError, match="digits declares no method jlm"):
        tables.table("digits", ["jlm"])


def test_results_without_sums_have_no_differences(project: Path) -> None:
    file = results_files.result_file("digits", "ce", 0)
    file.parent.mkdir(parents=True)
    file.write_text('{"method": "ce", "seed": 0}')
    assert differences.differences("digits", [["ce", "ce"]]) == []
    assert tables.table("digits_differences").count("\n") == 2


def test_main_methods_run_by_default(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    grid.GRID.write_text(yaml.safe_dump({"digits": DIGITS | {"main": ["jml"]}}))
    run(monkeypatch, "--seeds", "0", "1", "--list")
    assert capsys.readouterr().out.split() == ["jml-seed0", "jml-seed1"]
