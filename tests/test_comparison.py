import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from evaluation_files import CLASSES, make_evaluation, make_sums, write_run, write_runs, write_sums
from evaluation_files import statistics_of as sums_of
from softiou.comparison import Comparison, Contrast, Difference, compare, groups_of
from softiou.errors import DataError
from softiou.metrics import OverlapCounts, mean_score
from softiou.resampling import ImageStatistics, weighted_metrics
from softiou.resampling.bootstrap import bootstrap_metrics, percentile_interval

FEW = 400

Change = Callable[[dict[str, Any]], None]


def statistics_of(run: Path) -> ImageStatistics:
    content = json.loads((run / "evaluation.json").read_text())
    return sums_of(content["images"])


def evaluation_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return content


def rows(contrast: Contrast) -> list[tuple[str, Difference]]:
    return [*contrast.metrics.items(), *zip(CLASSES, contrast.iou, strict=True)]


def only(comparison: Comparison) -> Contrast:
    assert len(comparison.contrasts) == 1
    return comparison.contrasts[0]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """A run, and one that is a little better on the same images."""
    return [
        write_run(tmp_path / "a", make_evaluation(skill=0.80, seed=1)),
        write_run(tmp_path / "b", make_evaluation(skill=0.83, seed=2)),
    ]


# Values


def test_values_are_those_of_the_metrics(pair: list[Path]) -> None:
    found = compare(pair, resamples=FEW)
    assert (found.data, found.split, found.labels) == ("streets", "test", "hard")
    assert (found.classes, found.num_images) == (CLASSES, 40)
    assert (found.resamples, found.seed, found.level) == (FEW, 0, 95)
    for run, group in zip(pair, found.groups, strict=True):
        counts = statistics_of(run).counts
        miou = 100 * float(mean_score(counts, OverlapCounts.iou, per="dataset"))
        assert group.metrics["miou_d"].value == pytest.approx(miou)
        assert group.metrics["miou_d"].spread is None
        by_class = 100 * mean_score(counts, OverlapCounts.iou, per="none")
        assert [estimate.value for estimate in group.iou] == pytest.approx(by_class.tolist())
        assert (group.name, group.runs, group.seeds) == (str(run), (str(run),), (None,))
        assert group.checkpoint == "best.ckpt"
    nll = found.groups[0].metrics["nll"].value
    sums = statistics_of(pair[0])
    assert sums.nll is not None
    assert sums.pixels is not None
    assert nll == pytest.approx(float(sums.nll.sum() / sums.pixels.sum()))  # nats, not per cent


def test_differences_are_paired(pair: list[Path]) -> None:
    """The same images are drawn for both runs."""
    found = only(compare(pair, resamples=FEW, seed=3, level=90))
    one, other = (
        bootstrap_metrics(statistics_of(run), resamples=FEW, seed=3).metrics["miou_i"]
        for run in pair
    )
    difference = found.metrics["miou_i"]
    wanted = 100 * percentile_interval(other - one, level=90)
    assert difference.interval == pytest.approx(tuple(wanted.tolist()))
    assert difference.probability == pytest.approx(float((other > one).double().mean()))
    apart = bootstrap_metrics(statistics_of(pair[1]), resamples=FEW, seed=4).metrics["miou_i"]
    low, high = (100 * percentile_interval(apart - one, level=90)).tolist()
    assert difference.interval is not None
    assert difference.interval[1] - difference.interval[0] < 0.5 * (high - low)


def test_better_run_is_found_better(pair: list[Path]) -> None:
    found = only(compare(pair, resamples=FEW))
    for name, difference in rows(found):
        if name == "bece_d":
            continue
        assert difference.value is not None
        assert difference.interval is not None
        low, high = difference.interval
        assert low < difference.value < high
        lower = name in ("ece_d", "nll")
        assert difference.better == ("lower" if lower else "higher"), name
        if name not in ("ece_d", "miou_c_q10"):  # of few images, or of what they have in common
            assert difference.probability is not None
            assert difference.probability > 0.98, name
            assert (high < 0) if lower else (low > 0), name


def test_what_the_evaluation_does_not_keep_of_images_has_no_interval(pair: list[Path]) -> None:
    write_run(pair[1], _with(metrics=make_evaluation()["metrics"] | {"bece_d": 47.5}))
    found = compare(pair, resamples=FEW)
    difference = only(found).metrics["bece_d"]
    assert difference.value == pytest.approx(-2.5)
    assert (difference.interval, difference.probability) == (None, None)
    assert difference.better == "lower"
    assert found.groups[1].metrics["bece_d"].value == 47.5
    assert found.groups[1].metrics["bece_d"].interval is None


def _with(**changes: Any) -> dict[str, Any]:
    return make_evaluation(skill=0.83, seed=2, **changes)


# Of evaluation.safetensors

KEPT = ("miou_d", "cece_d", "soft_iou_d", "soft_dice_c", "ged")


def write_kept_pair(folder: Path) -> list[Path]:
    """Write two runs with figures that evaluation.json alone says nothing of each image of."""
    runs = []
    for name, skill, seed in (("c", 0.80, 1), ("d", 0.83, 2)):
        content = make_evaluation(skill=skill, seed=seed, metrics=dict.fromkeys(KEPT, 50.0))
        runs.append(write_run(folder / name, content, sums=make_sums(content)))
    return runs


def test_sums_of_images_give_every_figure_an_interval(tmp_path: Path) -> None:
    runs = write_kept_pair(tmp_path)
    found = compare(runs, resamples=FEW, seed=3)
    drawn = []
    for run, group in zip(runs, found.groups, strict=True):
        sums = make_sums(json.loads((run / "evaluation.json").read_text()))
        once = torch.ones(1, 40, dtype=torch.float64)
        for name, value in weighted_metrics(sums, once).metrics.items():
            if name in KEPT:
                assert group.metrics[name].value == pytest.approx(100 * float(value)), name
        drawn.append(bootstrap_metrics(sums, resamples=FEW, seed=3).metrics)
    for name, difference in only(found).metrics.items():
        gains = 100 * (drawn[1][name] - drawn[0][name])
        wanted = tuple(percentile_interval(gains).tolist())
        assert difference.interval == pytest.approx(wanted), name
        assert difference.probability is not None
    assert only(found).metrics["ged"].probability == 1
    assert list(only(found).metrics) == list(KEPT)


def test_order_of_the_images_matters_no_more_with_sums(tmp_path: Path) -> None:
    runs = write_kept_pair(tmp_path)
    before = compare(runs, resamples=FEW)
    content = json.loads((runs[1] / "evaluation.json").read_text())
    content["images"].reverse()
    write_run(runs[1], content, sums=make_sums(content))
    after = compare(runs, resamples=FEW)
    assert after.contrasts == before.contrasts
    assert only(after).metrics["cece_d"].interval is not None


def test_sums_may_lack_parts(tmp_path: Path) -> None:
    runs = write_kept_pair(tmp_path)
    content = json.loads((runs[1] / "evaluation.json").read_text())
    tensors = make_sums(content).tensors()
    del tensors["energy"], tensors["masses_P"]
    write_sums(runs[1], tensors, created=content["created"])
    found = only(compare(runs, resamples=FEW)).metrics
    assert [name for name in KEPT if found[name].interval is not None] == ["miou_d", "cece_d"]


def _other_time(run: Path, content: dict[str, Any]) -> None:
    write_sums(run, make_sums(content).tensors(), created="2025-06-01T14:04:00+00:00")


def _other_version(run: Path, content: dict[str, Any]) -> None:
    tensors = make_sums(content).tensors()
    write_sums(run, tensors, created=content["created"], schema_version="2")


def _fewer_images(run: Path, content: dict[str, Any]) -> None:
    tensors = make_sums(content).apply(lambda x: x[:-1].clone()).tensors()
    write_sums(run, tensors, created=content["created"])


def _one_tensor_is_short(run: Path, content: dict[str, Any]) -> None:
    tensors = make_sums(content).tensors()
    write_sums(run, tensors | {"energy": torch.ones(3)}, created=content["created"])


def _no_counts(run: Path, content: dict[str, Any]) -> None:
    write_sums(run, {"energy": torch.ones(40)}, created=content["created"])


def _another_order(run: Path, content: dict[str, Any]) -> None:
    tensors = make_sums(content).apply(lambda x: x.flip(0)).tensors()
    write_sums(run, tensors, created=content["created"])


def _damaged(run: Path, content: dict[str, Any]) -> None:
    file = run / "evaluation.safetensors"
    file.write_bytes(file.read_bytes()[:500])


def _no_metadata(run: Path, content: dict[str, Any]) -> None:
    save_file(make_sums(content).tensors(), run / "evaluation.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        _other_time,
        _other_version,
        _fewer_images,
        _one_tensor_is_short,
        _no_counts,
        _another_order,
        _damaged,
        _no_metadata,
    ],
)
def test_sums_of_something_else_are_not_used(
    tmp_path: Path, change: Callable[[Path, dict[str, Any]], None]
) -> None:
    runs = write_kept_pair(tmp_path)
    before = only(compare(runs, resamples=FEW)).metrics["miou_d"]
    change(runs[1], json.loads((runs[1] / "evaluation.json").read_text()))
    found = only(compare(runs, resamples=FEW)).metrics
    assert found["miou_d"] == before
    assert found["cece_d"].interval is None


def test_figures_that_one_run_lacks_are_left_out(pair: list[Path]) -> None:
    write_run(pair[0], make_evaluation(metrics={"ged": 3.0, "miou_d": 1.0, "brier": None}))
    write_run(pair[1], _with(metrics={"brier": 3.0, "miou_d": 1.0, "x": 1.0}))
    found = compare(pair, resamples=FEW)
    assert list(only(found).metrics) == ["miou_d", "brier"]
    write_run(pair[1], _with(metrics={"x": 1.0}))
    assert only(compare(pair, resamples=FEW)).metrics == {}
    assert len(only(compare(pair, resamples=FEW)).iou) == 3


def test_undefined_values_are_none(pair: list[Path]) -> None:
    for run in pair:
        content = json.loads((run / "evaluation.json").read_text())
        for image in content["images"]:
            image["counts"].pop("1", None)
        content["metrics"]["bece_d"] = None
        write_run(run, content)
    found = compare(pair, resamples=FEW)
    assert only(found).iou[1] == Difference(None, None, None, "higher")
    assert found.groups[0].iou[1].value is None
    assert found.groups[0].metrics["bece_d"].value is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_identical_runs_do_not_differ(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, make_evaluation(), seed=0) for name in "ab"]
    for _, difference in rows(only(compare(runs, resamples=FEW))):
        assert difference.value == 0
        assert difference.interval in ((0, 0), None)
        assert difference.probability in (0.5, None)
    assert only(compare(runs, resamples=FEW)).metrics["miou_d"].interval == (0, 0)
    assert only(compare([runs[0], runs[0]], resamples=FEW)).metrics["miou_d"].probability == 0.5


def test_swapped_runs_swap_the_sign(tmp_path: Path) -> None:
    a = write_runs(tmp_path, "jml", (0, 1), skill=0.8)
    b = write_runs(tmp_path, "crossentropy", (0, 1, 2), skill=0.81)
    there = only(compare([*a, *b], resamples=FEW))
    back = only(compare([*b, *a], resamples=FEW))
    for (name, one), (_, other) in zip(rows(there), rows(back), strict=True):
        assert one.value == pytest.approx(-(other.value or 0)), name
        if one.interval is None:
            continue
        assert other.interval is not None
        assert one.interval == pytest.approx((-other.interval[1], -other.interval[0])), name
        assert one.probability == pytest.approx(1 - (other.probability or 0)), name


def test_other_runs_do_not_matter(pair: list[Path], tmp_path: Path) -> None:
    third = write_run(tmp_path / "c", make_evaluation(skill=0.5, seed=3))
    alone = only(compare([pair[0], pair[1]], resamples=FEW))
    beside = compare([pair[0], third, pair[1]], resamples=FEW)
    assert [contrast.group for contrast in beside.contrasts] == [1, 2]
    assert beside.contrasts[1].metrics == alone.metrics
    worse = beside.contrasts[0].metrics["miou_d"]
    assert worse.probability == 0
    assert beside.contrasts[0].metrics["nll"].probability == 0


def test_order_of_the_images_does_not_matter(pair: list[Path]) -> None:
    before = compare(pair, resamples=FEW)
    content = json.loads((pair[1] / "evaluation.json").read_text())
    content["images"].reverse()
    write_run(pair[1], content)
    assert compare(pair, resamples=FEW) == before


def test_file_stands_for_its_run(pair: list[Path]) -> None:
    files = [run / "evaluation.json" for run in pair]
    found = compare(files, resamples=FEW)
    assert found.contrasts == compare(pair, resamples=FEW).contrasts
    assert found.groups[0].name == str(files[0])


def test_of_one_image_nothing_can_be_said(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(seed), make_evaluation(num_images=1, seed=seed)) for seed in (0, 1)
    ]
    found = compare(runs)
    difference = only(found).metrics["miou_d"]
    assert difference.value is not None
    assert (difference.interval, difference.probability) == (None, None)
    assert found.groups[0].metrics["miou_d"].interval is None


def test_result_is_plain_values(pair: list[Path]) -> None:
    found = compare(pair, resamples=FEW)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["schema_version"] == 1
    assert list(content)[1:] == [
        "data", "split", "labels", "classes", "num_images", "resamples", "seed", "level",
        "groups", "contrasts", "together", "notes",
    ]  # fmt: skip
    assert content["notes"] == []
    assert content["groups"][0]["inference"] == "whole image"
    assert content["contrasts"][0]["iou"][0]["better"] == "higher"
    assert set(content["groups"][0]["metrics"]["miou_d"]) == {"value", "spread", "interval"}


# Images that resemble each other


def test_groups_are_those_of_names_or_of_neighbours() -> None:
    stems = ["p07-a", "p07-b", "p12-a", "p07-c"]
    assert groups_of(stems, r"p\d+").tolist() == [0, 0, 1, 0]
    assert groups_of(stems, 3).tolist() == [0, 0, 0, 1]
    with pytest.raises(DataError, match=r"'\\d' does not match p07-a"):
        groups_of(stems, r"\d")
    with pytest.raises(DataError, match=r"regular expression, but got '\(': missing \)"):
        groups_of(stems, "(")
    with pytest.raises(DataError, match="`together` to be at least 1 image, but got 0"):
        groups_of(stems, 0)


def test_images_are_drawn_together(pair: list[Path]) -> None:
    stems = sorted(image["stem"] for image in evaluation_of(pair[0])["images"])
    groups = torch.arange(40) // 4
    one, other = (
        bootstrap_metrics(statistics_of(run), resamples=FEW, groups=groups).metrics["miou_i"]
        for run in pair
    )
    wanted = 100 * percentile_interval(other - one)
    found = compare(pair, resamples=FEW, together=4)
    assert found.drawn_together() == ", resampled in groups of 4"
    interval = only(found).metrics["miou_i"].interval
    assert interval == pytest.approx(tuple(wanted.tolist()))
    assert compare(pair, resamples=FEW).together is None
    # The names are equally long: all but their last letter is a group of ten.
    length = len(stems[0]) - 1
    named = compare(pair, resamples=FEW, together=f".{{{length}}}")
    ten = compare(pair, resamples=FEW, together=10)
    assert only(named).metrics["miou_i"] == only(ten).metrics["miou_i"]
    assert named.drawn_together().startswith(", resampled in groups by .{")
    # A single group says nothing of others.
    assert only(compare(pair, resamples=FEW, together=40)).metrics["miou_i"].interval is None


# Seeds


def test_seeds_of_one_configuration_are_pooled(tmp_path: Path) -> None:
    a = write_runs(tmp_path, "jml", (0, 1, 2), skill=0.8)
    b = write_runs(tmp_path, "crossentropy", (5,), skill=0.7)
    found = compare([a[0], b[0], a[1], a[2]], resamples=FEW)
    one, other = found.groups
    assert one.name == f"{a[0]} (3 seeds)"
    assert (one.runs, one.seeds) == (tuple(map(str, a)), (0, 1, 2))
    assert (other.name, other.seeds) == (str(b[0]), (5,))
    values = torch.tensor(
        [
            100 * float(mean_score(statistics_of(run).counts, OverlapCounts.iou, per="dataset"))
            for run in a
        ],
        dtype=torch.float64,
    )
    estimate = one.metrics["miou_d"]
    assert estimate.value == pytest.approx(float(values.mean()))
    assert one.inference == other.inference == "whole image"
    assert estimate.spread == pytest.approx(float(values.std()))
    assert other.metrics["miou_d"].spread is None
    assert only(found).metrics["miou_d"].probability == 0


def test_interval_of_a_group_is_over_images_and_seeds(tmp_path: Path) -> None:
    """Of seeds that differ much, drawing them widens the interval as theory has it."""
    runs = [
        write_run(tmp_path / str(seed), make_evaluation(skill=skill, seed=9), seed=seed)
        for seed, skill in enumerate((0.6, 0.7, 0.8))
    ]
    estimate = compare(runs, resamples=4000).groups[0].metrics["accuracy"]
    drawn = torch.stack(
        [bootstrap_metrics(statistics_of(r), resamples=4000).metrics["accuracy"] for r in runs]
    )
    of_images = 100 * float(drawn.mean(0).std())
    assert estimate.spread is not None
    of_seeds = estimate.spread * math.sqrt(2 / 3 / 3)  # (S - 1) / S of the variance of a mean
    assert estimate.interval is not None
    width = estimate.interval[1] - estimate.interval[0]
    assert width == pytest.approx(2 * 1.96 * math.hypot(of_images, of_seeds), rel=0.1)
    assert width > 1.5 * 2 * 1.96 * of_images


def test_the_same_seeds_twice_do_not_differ(tmp_path: Path) -> None:
    a = write_runs(tmp_path, "jml", (0, 1), skill=0.8)
    b = write_runs(tmp_path / "copy", "jml", (0, 1), skill=0.8)
    assert only(compare([*a, *b], resamples=FEW)).metrics["miou_d"].interval == (0, 0)


def test_runs_of_one_group_alone_have_no_differences(tmp_path: Path) -> None:
    found = compare(write_runs(tmp_path, "jml", (0, 1), skill=0.8), resamples=FEW)
    assert found.contrasts == ()
    assert found.groups[0].metrics["miou_d"].spread is not None


def test_figure_that_a_seed_lacks_is_the_mean_of_the_others(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, "jml", (0, 1), skill=0.8)
    content = json.loads((runs[1] / "evaluation.json").read_text())
    for image in content["images"]:
        image["bins"] = None
        image["counts"] = {}
    content["metrics"]["ece_d"] = None
    write_run(runs[1], content)
    group = compare(runs, resamples=FEW).groups[0]
    sums = statistics_of(runs[0])
    assert sums.bins is not None
    ece = 100 * float(sums.bins.merge_images().error())
    assert group.metrics["ece_d"].value == pytest.approx(ece)
    assert group.metrics["ece_d"].spread is None
    drawn = bootstrap_metrics(sums, resamples=FEW).metrics["ece_d"]
    assert group.metrics["ece_d"].interval is not None
    low, high = group.metrics["ece_d"].interval
    # Resamples that draw the second seed alone say nothing.
    assert 100 * float(drawn.min()) <= low < high <= 100 * float(drawn.max())


@pytest.mark.parametrize(
    ("settings", "pooled"),
    [
        ({}, True),
        ({"distillation": {"baseline": "other"}}, True),
        ({"loss": {"kind": "dice"}}, False),
        ({"distillation": {"temperature": 2.0}}, False),
        ({"precision": "bf16"}, False),
    ],
)
def test_only_the_seed_may_differ(tmp_path: Path, settings: dict[str, Any], pooled: bool) -> None:
    plain: dict[str, Any] = {"distillation": {"baseline": "train"}} if settings else {}
    if "baseline" not in settings.get("distillation", {}):
        plain = {}
    runs = [
        write_run(tmp_path / "a", make_evaluation(seed=0), seed=0, settings=plain),
        write_run(tmp_path / "b", make_evaluation(seed=1), seed=1, settings=settings),
    ]
    assert len(compare(runs, resamples=10).groups) == (1 if pooled else 2)


def test_data_is_known_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("streets").mkdir()
    runs = [
        write_run(
            Path(f"run{seed}"),
            make_evaluation(seed=seed),
            seed=seed,
            settings={"data": {"source": source}},
        )
        for seed, source in enumerate(("streets", str(tmp_path / "streets")))
    ]
    assert len(compare(runs, resamples=10).groups) == 1


def test_other_checkpoints_and_seeds_that_are_there_are_not_pooled(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", make_evaluation(seed=0), seed=0),
        write_run(tmp_path / "b", make_evaluation(seed=1, checkpoint="last.ckpt"), seed=1),
        write_run(tmp_path / "c", make_evaluation(seed=2), seed=0),
        write_run(tmp_path / "d", make_evaluation(seed=3)),
        write_run(tmp_path / "e", make_evaluation(seed=4)),
    ]
    assert [group.seeds for group in compare(runs, resamples=10).groups] == [
        (0,), (1,), (0,), (None,), (None,),
    ]  # fmt: skip


def test_order_of_the_runs_does_not_matter(tmp_path: Path) -> None:
    baseline = write_runs(tmp_path, "ce", (5,), skill=0.7)
    r0, r1, r2 = write_runs(tmp_path, "jml", (0, 1, 2), skill=0.8)
    found = compare([*baseline, r0, r1, r2], resamples=FEW)
    assert found == compare([*baseline, r2, r0, r1], resamples=FEW)
    assert found.groups[1].runs == (str(r0), str(r1), str(r2))
    assert found.groups[1] == compare([r1, *baseline, r2, r0], resamples=FEW).groups[0]


WINDOWS = {"window_px": [64, 96], "overlap": 0.5, "flips": False, "scales": [1.0]}
WHOLE = {"window_px": None, "overlap": 0.5, "flips": False, "scales": [1.0], "batch_size": 4}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (None, WHOLE, ("whole image",)),
        (WHOLE, WHOLE | {"batch_size": 1}, ("whole image",)),
        (WHOLE, WHOLE | {"overlap": 0.2}, ("whole image",)),
        (WHOLE | {"scales": [1.0, 0.5]}, WHOLE | {"scales": [0.5, 1.0]}, ("scales 0.5, 1",)),
        (
            WHOLE,
            WHOLE | {"flips": True, "scales": [0.5, 1.0]},
            ("whole image", "flips, scales 0.5, 1"),
        ),
        (
            WINDOWS,
            WINDOWS | {"overlap": 0.25},
            ("windows of 64 x 96 pixels, overlap 0.5", "windows of 64 x 96 pixels, overlap 0.25"),
        ),
    ],
)
def test_only_runs_that_were_evaluated_alike_are_pooled(
    tmp_path: Path, first: dict[str, Any] | None, second: dict[str, Any], words: Sequence[str]
) -> None:
    runs = []
    for seed, inference in enumerate((first, second)):
        content = make_evaluation(seed=seed)
        if inference is not None:
            content["inference"] = inference
        runs.append(write_run(tmp_path / str(seed), content, seed=seed))
    found = compare(runs, resamples=10)
    assert tuple(group.inference for group in found.groups) == words
    notes = found.as_dict()["notes"]
    if len(words) == 1:
        assert notes == []
        return
    assert notes == [
        "The groups were evaluated differently, so the differences are not due to "
        f"the models alone. {runs[0]}: {words[0]}; {runs[1]}: {words[1]}."
    ]
    assert f"A: {words[0]}; B: {words[1]}." in found.notes("AB")[0]


# Refusals


def _drop(stems: Sequence[str]) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["images"] = [i for i in content["images"] if i["stem"] not in stems]

    return change


def _rename(old: str, new: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["stem"] = image["stem"].replace(old, new)

    return change


def _set(stem: str | None = None, **values: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        images = {image["stem"]: image for image in content["images"]}
        (content if stem is None else images[stem]).update(values)

    return change


def _one_more_class(content: dict[str, Any]) -> None:
    for name in ("classes", "palette", "per_class"):
        content[name].append(content[name][0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_one_more_class, "it has 4 classes instead of 3"),
        (_set(classes=["road", "bus", "sky"]), "it calls class 1 'bus' instead of 'car'"),
        (_set(labels="soft"), "it was evaluated on soft labels instead of hard ones"),
        (_set(ignore_index=0), "its ignore_index is 0 instead of 255"),
        (_set(split="val"), "it was evaluated on the split val instead of test"),
        (_drop(["s03"]), "it lacks 1 image (s03)"),
        (
            _drop([f"s0{n}" for n in range(9)]),
            "it lacks 9 images (s00, s01, s02, s03, s04 and 4 more)",
        ),
        (
            _rename("s1", "t1"),
            "it lacks 10 images (s10, s11, s12, s13, s14 and 5 more) and also has 10 images (t1",
        ),
        (_set("s05", truth="0123456789abcdef"), "the target of its image s05 differs (0123"),
        (_set("s05", pixels=7), "in its image s05 7 pixels are valid instead of"),
        (_set("s05", size=[48, 32]), "its image s05 has 48x32 instead of 32x48 pixels"),
    ],
)
def test_other_data_is_refused(pair: list[Path], change: Change, reason: str) -> None:
    content = json.loads((pair[1] / "evaluation.json").read_text())
    change(content)
    if len(content["classes"]) < len(CLASSES):
        for image in content["images"]:
            image["counts"].pop("2", None)
    write_run(pair[1], content)
    with pytest.raises(DataError) as refusal:
        compare(pair, resamples=FEW)
    message = str(refusal.value)
    files = [str(run / "evaluation.json") for run in reversed(pair)]
    assert message.startswith(f"{files[0]} cannot be compared with {files[1]}: {reason}")
    labels = " --labels hard" if "labels" in reason else ""
    command = f"`softiou evaluate RUN streets --split test{labels}`"
    assert message.endswith(f"Evaluate both on the same data, for instance with {command}.")


def test_way_out_names_a_run_that_can_be_evaluated(pair: list[Path]) -> None:
    write_run(pair[1], _with(split="val"))
    (pair[1] / "checkpoints").mkdir()
    with pytest.raises(DataError, match=f"`softiou evaluate {pair[1]} streets --split test`"):
        compare(pair, resamples=FEW)
    with pytest.raises(DataError, match="`softiou evaluate RUN streets --split test`"):
        compare([pair[0], pair[1] / "evaluation.json"], resamples=FEW)


def test_one_split_may_be_named_by_two_paths(pair: list[Path]) -> None:
    write_run(pair[1], _with(split="lists/test.txt"))
    assert compare(pair, resamples=FEW).split == "test"


def test_what_is_no_evaluation_is_refused(pair: list[Path], tmp_path: Path) -> None:
    def message(*runs: Path) -> str:
        with pytest.raises(DataError) as refusal:
            compare(runs, resamples=FEW)
        return str(refusal.value)

    assert message(pair[0]) == "A comparison needs at least two runs: softiou compare RUN RUN"
    assert message(pair[0], tmp_path / "no").startswith(f"{tmp_path / 'no'} does not exist: ")
    (tmp_path / "empty").mkdir()
    assert "empty contains no evaluation.json: expected an evaluated run" in message(
        pair[0], tmp_path / "empty"
    )

    def written(**changes: Any) -> str:
        return message(pair[0], write_run(tmp_path / "wrong", _with(**changes)))

    newer = written(schema_version=3)
    assert newer.startswith("Expected `schema_version` 1 to 2 in ")
    assert newer.endswith("but got 3, which is newer than this softiou. Update softiou.")
    old = written(schema_version=1)
    assert "has the schema version 1, which lacks the sums of each image" in old
    assert old.endswith("Write it again with `softiou evaluate RUN DATA`.")
    assert "contains no images, so there is nothing to compare" in written(images=[])
    assert "but got images.0.truth: Field required. Write it again" in written(
        images=[{"stem": "a", "miou": 1, "accuracy": 1, "counts": {}, "size": [1, 1], "pixels": 1}]
    )
    assert "to be a complete evaluation" in written(metrics=None)
    (tmp_path / "wrong" / "evaluation.json").write_text("{")
    assert "to be a complete evaluation" in message(pair[0], tmp_path / "wrong")
    (tmp_path / "best.ckpt").write_bytes(b"\x80" * 10_000)
    assert len(message(pair[0], tmp_path / "best.ckpt")) < 400


def test_configuration_that_cannot_be_read_is_refused(pair: list[Path]) -> None:
    config = pair[1] / "config.yaml"
    config.write_text("a: [")
    with pytest.raises(DataError, match=r"config\.yaml is not valid YAML"):
        compare(pair, resamples=FEW)
    config.write_text(yaml.safe_dump([1]))
    with pytest.raises(DataError, match=r"config\.yaml contains no settings"):
        compare(pair, resamples=FEW)


def test_settings_of_the_bootstrap_are_checked(pair: list[Path]) -> None:
    with pytest.raises(ValueError, match="`level` to be between 0 and 100"):
        compare(pair, resamples=FEW, level=100)
    with pytest.raises(ValueError, match="to be at least 1"):
        compare(pair, resamples=0)
    with pytest.raises(ValueError, match=r"`seed` to be in \[0, 9223372036854775807\]"):
        compare(pair, resamples=1, seed=2**63)
    assert compare(pair, resamples=1, seed=2**63 - 1).seed == 2**63 - 1
