"""The command line, in this process: what it prints, where, and its exit status."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from annotation_trees import coco
from conftest import TrainedRun
from softiou import __version__, _screen, jobs
from softiou.checkpoints import read_checkpoint
from softiou.cli import _console
from softiou.configuration import load_config
from softiou.data import digits, open_dataset
from softiou.recipes import SupervisedRecipe

# The package holds the function of this name.
demo: Any = import_module("softiou.cli.demo")

VERBS = (
    "demo",
    "fetch",
    "check",
    "convert",
    "models",
    "split",
    "config",
    "help",
    "train",
    "label",
    "distill",
    "semi",
    "evaluate",
    "compare",
    "calibrate",
    "export",
    "predict",
    "recipes",
    "report",
    "env",
)


Run = Callable[..., Any]  # see conftest.py


@pytest.fixture
def short(tiny: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny, "optim.steps=4", "optim.validations=2")


# Help


def test_help_lists_the_verbs(softiou: Run) -> None:
    result = softiou("--help")
    assert result.status == 0
    for verb in VERBS:
        assert verb in result.out
        page = softiou(verb, "--help")
        assert page.status == 0
        assert f"softiou {verb}" in page.out
    assert softiou("--version").out == f"softiou {__version__}\n"


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, softiou.cli\n"
        "heavy = {'torch', 'numpy', 'pytorch_lightning', 'matplotlib', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unknown_verb_and_option(softiou: Run) -> None:
    for arguments, meant in (
        (["trian"], "'train'"),
        (["train", "--resum", "x"], "--resume"),
        (["train", "--stpes", "3"], "optim.steps=3"),
    ):
        result = softiou(*arguments)
        assert result.status == 2
        assert meant in result.err
        assert "Traceback" not in result.err


# Train


def test_train_ends_with_scores_and_a_report(
    softiou: Run, shapes: Path, short: tuple[str, ...]
) -> None:
    result = softiou("train", shapes, *short)
    assert result.status == 0, result.err
    run = Path("runs") / f"{shapes.name}-001"
    lines = result.out.splitlines()
    assert lines[:2] == ["auto  data.augmentation: street", "auto  labels.kind: hard"]
    assert lines[2] == f"run   {run}: 10 images to train on, 3 to validate, 4 steps"
    assert lines[3].startswith("step      2/4  loss ")
    assert lines[4].startswith("step      4/4  loss ")
    assert f"{shapes},test" in "".join(result.out.split())  # folded where it is long
    assert "mIoU D" in result.out
    assert lines[-1] == f"report  {run / 'report.html'}"
    assert result.err == ""
    # The command in the configuration can be pasted into a shell.
    first = (run / "config.yaml").read_text().splitlines()[0]
    assert first.startswith("# softiou train ")
    assert "'data.crop_px=[32, 32]'" in first
    assert json.loads((run / "evaluation.json").read_text())["split"] == "test"
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_train_without_test_split_evaluates_the_validation_split(
    softiou: Run, make_shapes: Callable[..., Path], tmp_path: Path, short: tuple[str, ...]
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=2)
    assert softiou("train", data, *short, "--out", "here").status == 0
    assert json.loads(Path("here/evaluation.json").read_text())["split"] == "val"
    result = softiou("evaluate", "here", data, "--split", "test")
    result.assert_refused(
        "found only train, val", "`--split val` evaluates on the images that chose"
    )


def test_train_from_a_file_with_settings_behind(
    softiou: Run, shapes: Path, short: tuple[str, ...]
) -> None:
    settings: dict[str, Any] = {"data": {"source": str(shapes)}, "seed": 5}
    Path("my.yaml").write_text(yaml.safe_dump(settings))
    result = softiou("train", *short, "--config", "my.yaml", "--out", "here")
    assert result.status == 0, result.err
    config = load_config(file=Path("here/config.yaml"))
    assert (config.seed, config.optim.steps) == (5, 4)


def test_train_on_a_folder_with_an_equals_sign(softiou: Run) -> None:
    Path("size=small").mkdir()
    softiou("train", "size=small").assert_refused("size=small", "dataset.yaml")


def test_all_mistakes_in_the_settings_are_shown(softiou: Run) -> None:
    result = softiou("train", "digits", "optim.stepz=3", "data.flip=2", "seed")
    result.assert_refused(
        "  optim.stepz: unknown key; did you mean optim.steps? For instance optim.steps=3\n",
        "  data.flip: expected a number of at most 1, but got 2 (probability",
        "  seed: expected KEY=VALUE",
    )
    assert not Path("runs").exists()


def test_what_to_train_on_must_be_named(softiou: Run) -> None:
    softiou("train").assert_refused("Name a data set: softiou train DATA")
    softiou("train", "seed=3").assert_refused("Name a data set")
    softiou("train", "nowhere").assert_refused("nowhere", "the folder does not exist")
    softiou("train", "digits", "--resume", "x").assert_refused("leave out all other arguments")


def test_run_that_exists_is_refused(softiou: Run, run_copy: Path) -> None:
    result = softiou("train", "digits", "--out", run_copy)
    result.assert_refused("nothing was changed", f"softiou train --resume {run_copy}")


def test_folder_that_cannot_be_written_is_a_message(
    softiou: Run, shapes: Path, short: tuple[str, ...]
) -> None:
    Path("file").touch()
    result = softiou("train", shapes, *short, "--out", "file/run")
    assert result.status == 2
    assert "softiou: file/run: Not a directory." in result.err
    assert "Traceback" not in result.err


def test_error_in_a_loading_process_is_one_message(
    softiou: Run, make_shapes: Callable[..., Path], tmp_path: Path, short: tuple[str, ...]
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=1)
    bad = data / "train" / "masks" / "train1.png"
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(bad)
    options = ("data.workers=1", "data.crop_px=[32, 32]", "data.batch_size=2")
    result = softiou("train", data, *short, *options, "--out", "here")
    assert result.status == 2
    assert result.err.startswith(f"softiou: {bad}: Expected values 0..2 or 255 (ignored), but fou")
    assert "Traceback" not in result.err
    assert result.err.endswith("\nAfter that, continue with: softiou train --resume here\n")
    assert len(result.err.splitlines()) == 2


def test_message_of_a_loading_process_is_cut_out_of_its_traceback() -> None:
    text = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        "last):\n  File x\nbuiltins.ValueError: first: line\nsecond line\n"
    )
    assert _console.plain_message(ValueError(text)) == "first: line\nsecond line"
    assert _console.plain_message(ValueError("x ValueError: y")) == "x ValueError: y"


def test_interrupted_training_resumes(
    softiou: Run, shapes: Path, short: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SupervisedRecipe.training_step

    def interrupt(self: SupervisedRecipe, batch: Any, index: int) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedRecipe, "training_step", interrupt)
        result = softiou("train", shapes, *short, "--out", "here")
    assert result.status == 130
    last = "interrupted; continue with: softiou train --resume here"
    assert result.out.splitlines()[-1] == last
    assert "Traceback" not in result.err
    assert not Path("here/report.html").exists()

    result = softiou("train", "--resume", "here")
    assert result.status == 0, result.err
    assert result.out.startswith("run   here: continuing from step 1/4\n")
    assert read_checkpoint(Path("here/checkpoints/last.ckpt"))["global_step"] == 4
    assert Path("here/report.html").exists()

    before = {path: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()}
    done = softiou("train", "--resume", "here")
    assert (done.status, done.err) == (0, "")
    first, command = done.out.splitlines()
    assert first.startswith(
        "run   here: finished, with 4 of 4 steps and an evaluation; nothing was"
    )
    assert {path: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()} == before
    longer = softiou(*command.split()[1:], "--dry-run", "--json")
    assert longer.status == 0, longer.err
    assert json.loads(longer.out)["config"]["model"]["weights"].endswith("here")
    Path("here/evaluation.json").unlink()  # as after a kill in between
    assert softiou("train", "--resume", "here").out.startswith(
        "run   here: continuing from step 4/4"
    )
    assert Path("here/evaluation.json").exists()
    softiou("train", "--resume", "nowhere").assert_refused("nowhere cannot be resumed")


# Evaluate, predict, report


def test_evaluate_prints_a_table_and_writes_into_the_run(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    result = softiou("evaluate", run_copy, shapes)
    assert result.status == 0, result.err
    assert "best.ckpt" in result.out
    assert result.out.splitlines()[-1] == f"report  {run_copy / 'report.html'}"
    content = json.loads((run_copy / "evaluation.json").read_text())
    assert content["metrics"]["miou_d"] > 70
    assert f"{content['metrics']['miou_d']:.1f}" in result.out

    result = softiou("evaluate", run_copy, shapes, "--split", "val")
    assert f"earlier evaluation  {run_copy / 'evaluation-test-'}" in result.out
    assert json.loads((run_copy / "evaluation.json").read_text())["split"] == "val"


def test_paths_are_those_of_the_command(
    softiou: Run, run_copy: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_copy.parent)
    softiou("evaluate", "run", shapes)
    for model in ("run", "run/checkpoints/best.ckpt"):
        split = "val" if model == "run" else "test"
        result = softiou("evaluate", model, shapes, "--split", split)
        assert "\nearlier evaluation  run/evaluation-" in f"\n{result.out}"
        assert result.out.splitlines()[-1] == "report  run/report.html"
    assert softiou("report", "run").out == "run/report.html\n"


def test_evaluate_json_is_nothing_but_json(softiou: Run, run_copy: Path, shapes: Path) -> None:
    result = softiou("evaluate", run_copy, shapes, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out) == json.loads((run_copy / "evaluation.json").read_text())
    assert json.loads(result.out)["num_images"] == 3


def test_evaluate_a_checkpoint_outside_of_a_run(
    softiou: Run, run_copy: Path, shapes: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copy(run_copy / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    result = softiou("evaluate", checkpoint, shapes)
    assert result.status == 0, result.err
    assert "nothing was written" in result.out
    result = softiou("evaluate", checkpoint, shapes, "--out", "results")
    assert result.out.splitlines()[-1].endswith("results/report.html")
    assert json.loads(Path("results/evaluation.json").read_text())["checkpoint"] == "alone.ckpt"


def test_evaluate_refuses_what_does_not_fit(
    softiou: Run, run_copy: Path, shapes: Path, tmp_path: Path
) -> None:
    softiou("evaluate", run_copy, "digits").assert_refused("digits: 3 classes instead of 11")
    softiou("evaluate", "nowhere", shapes).assert_refused("nowhere does not exist")
    softiou("evaluate", shapes, shapes).assert_refused("has no checkpoints")
    refused = softiou("evaluate", run_copy, shapes, "--split", "tset")
    refused.assert_refused("Expected the split 'tset'", "train, val, test")
    assert not (run_copy / "evaluation.json").exists()


def test_predict_writes_masks(softiou: Run, run_copy: Path, shapes: Path) -> None:
    images = shapes / "test" / "images"
    result = softiou("predict", run_copy, images, "--out", "masks", "--overlays")
    assert (result.status, result.err) == (0, "")
    assert result.out == "3 of 3 masks written to masks\n"
    with Image.open("masks/test0.png") as mask, Image.open(shapes / "test/masks/test0.png") as true:
        agree = (np.asarray(mask) == np.asarray(true)).mean()
    assert agree > 0.8
    assert Path("masks/test0.overlay.jpg").is_file()

    as_json = softiou("predict", run_copy, images, "--out", "more", "--json")
    assert json.loads(as_json.out) == {
        "out": "more",
        "images": 3,
        "written": 3,
        "failed": [],
        "interrupted": False,
    }
    again = softiou("predict", run_copy, images, "--out", "masks")
    again.assert_refused("3 results already exist", "--overwrite")
    assert softiou("predict", run_copy, images, "--out", "masks", "--overwrite").status == 0
    softiou("predict", run_copy, "nowhere").assert_refused("nowhere does not exist")


def test_predict_reports_corrupt_images_and_writes_the_others(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    images = Path(shutil.copytree(shapes / "test" / "images", "images"))
    broken = images / "test1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    result = softiou("predict", run_copy, images, "--out", "masks")
    assert result.status == 1
    lines = result.out.splitlines()
    assert lines[0] == "2 of 3 masks written to masks"
    assert lines[1].startswith(f"failed  {broken}: Cannot decode the image")
    assert sorted(path.name for path in Path("masks").iterdir()) == ["test0.png", "test2.png"]


def test_report_prints_where_it_is(softiou: Run, run_copy: Path) -> None:
    result = softiou("report", run_copy)
    assert (result.status, result.out) == (0, f"{run_copy / 'report.html'}\n")
    softiou("report", "nowhere").assert_refused("nowhere")


# Check, split, demo


def test_annotations_become_a_folder(softiou: Run, tmp_path: Path) -> None:
    data, out = coco(tmp_path / "coco"), tmp_path / "out"
    assert softiou("convert", data, out).status == 0
    made, read = open_dataset(str(out), "train"), open_dataset(data, "train")
    assert made.stems == read.stems
    for one, other in zip(iter(made), iter(read), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["target"], other["target"])
    again = softiou("convert", data, out)
    assert again.status == 2
    assert str(out) in again.err


def test_check_tells_good_data_from_bad(
    softiou: Run, shapes: Path, make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    good = softiou("check", shapes)
    assert good.status == 0
    assert "errors: 0" in good.out
    data = make_shapes(tmp_path / "data", train=2, val=1)
    (data / "train" / "masks" / "train0.png").unlink()
    bad = softiou("check", data)
    assert bad.status == 1
    assert "errors: 1" in bad.out
    assert len(json.loads(softiou("check", data, "--json").out)["problems"]) >= 1


def _list(data: Path, name: str, *stems: str) -> None:
    (data / "splits").mkdir(exist_ok=True)
    (data / "splits" / f"{name}.txt").write_text("\n".join(stems))


def _copy(data: Path) -> None:
    for kind in ("images", "masks"):
        shutil.copy(data / "train" / kind / "train0.png", data / "val" / kind / "copy.png")


@pytest.mark.parametrize(
    ("sizes", "change", "kinds", "statuses"),
    [
        ({"train": 3, "val": 2}, lambda data: None, set(), (0, 0)),
        ({"train": 3}, lambda data: None, set(), (0, 1)),
        ({"val": 2}, lambda data: None, {"no_train"}, (1, 1)),
        ({"train": 3, "val": 2}, _copy, {"duplicate_between_splits"}, (1, 1)),
        ({"train": 3}, lambda data: _list(data, "val", "train0"), {"shared_images"}, (0, 1)),
        (
            {"train": 3, "val": 2},
            lambda data: (data / "dataset.yaml").write_text("classes: [ground, box, car]"),
            {"unseen_class"},
            (0, 1),
        ),
    ],
    ids=["right", "no val", "no train", "copies", "overlap", "class in no split"],
)
def test_check_judges_the_splits(
    softiou: Run,
    make_shapes: Callable[..., Path],
    tmp_path: Path,
    sizes: dict[str, int],
    change: Callable[[Path], Any],
    kinds: set[str],
    statuses: tuple[int, int],
) -> None:
    data = make_shapes(tmp_path / "data", **sizes)
    (data / "dataset.yaml").write_text("classes: [ground, box]")
    change(data)
    plain, strict = softiou("check", data, "--json"), softiou("check", data, "--strict")
    assert {problem["kind"] for problem in json.loads(plain.out)["problems"]} == kinds
    assert (plain.status, strict.status) == statuses


def test_check_lists_suspect_labels_with_a_run(softiou: Run, trained: TrainedRun) -> None:
    told = softiou("check", trained.data, "--with", trained.directory)
    assert told.status == 0
    assert "uspect labels" in told.out
    content = json.loads(softiou("check", trained.data, "--with", trained.directory, "--json").out)
    kinds = {"split", "stem", "target", "preds", "pixels", "confidence", "box"}
    assert all(set(one) == kinds for one in content["suspects"])


def test_check_escapes_what_a_path_holds(softiou: Run) -> None:
    result = softiou("check", "\x1b[2J")
    assert result.status == 1
    assert "\x1b" not in result.out
    assert "in \\x1b[2J" in result.out


def test_check_tells_of_lists_and_of_images_without_masks(
    softiou: Run, make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=8, val=1)
    assert softiou("split", data, "--fractions", "1/4").status == 0
    shutil.copytree(data / "val" / "images", data / "unlabeled" / "images")
    result = softiou("check", data)
    assert result.status == 0  # warnings alone
    assert "softiou semi --split 1_4: 2 images of train with masks, 6 without\n" in result.out
    assert "unlabeled: 1 images without masks; 1 of 48x40\n" in result.out
    assert "Copies of images of val: 1 (val0.png)." in result.out
    report = json.loads(softiou("check", data, "--json").out)
    assert report["lists"] == {"1_4": {"images": 2, "left_out": 6}}
    assert report["unlabeled"]["images"] == 1


def test_split_writes_lists_and_keeps_other_ones(
    softiou: Run, make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=16, val=1)
    result = softiou("split", data)
    assert (result.status, result.err) == (0, "")
    lists = {name: data / "splits" / f"{name}.txt" for name in ("1_16", "1_8", "1_4")}
    sizes = {"1_16": 1, "1_8": 2, "1_4": 4}
    assert result.out == "".join(f"{lists[n]}: {size} images\n" for n, size in sizes.items())
    stems = {name: path.read_text().splitlines() for name, path in lists.items()}
    assert {name: len(listed) for name, listed in stems.items()} == sizes
    assert set(stems["1_16"]) < set(stems["1_8"]) < set(stems["1_4"])

    assert softiou("split", data).out == result.out  # the same once more
    lists["1_8"].write_text("train0\n")
    lists["1_4"].unlink()
    softiou("split", data).assert_refused(f"{lists['1_8']}: The list already exists", "--out")
    assert lists["1_8"].read_text() == "train0\n"
    assert not lists["1_4"].exists()

    other = softiou("split", data, "--fractions", "1/2", "--seed", 1, "--out", "mine")
    assert (other.status, other.out) == (0, f"{Path('mine') / '1_2.txt'}: 8 images\n")
    assert len(Path("mine/1_2.txt").read_text().splitlines()) == 8
    lists = json.loads(softiou("split", data, "--fractions", "1/4", "--out", "b", "--json").out)
    assert lists == {"1_4": {"file": "b/1_4.txt", "images": stems["1_4"]}}


def test_split_refuses(softiou: Run, shapes: Path) -> None:
    softiou("split", "digits").assert_refused(
        "already have the splits val, test, 1_16, 1_8 and 1_4"
    )
    softiou("split", shapes, "--fractions", "8").assert_refused("--fractions: 8 is not between")
    softiou("split", shapes, "--fractions", "x").assert_refused("'x' is not a fraction")
    softiou("split", "nowhere").assert_refused("nowhere", "the folder does not exist")
    assert softiou("split", shapes, "--seed", "-1").status == 2
    assert not (shapes / "splits").exists()


def test_demo_compares_two_trainings(
    softiou: Run, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [s for s in demo.SETTINGS if not s.startswith(("model", "data.batch", "optim.val"))]
    model = [s for s in tiny if s.startswith("model")]
    few = [*model, "data.batch_size=2", "optim.validations=1", "data.workers=0"]
    monkeypatch.setattr(demo, "SETTINGS", [*settings, *few])
    small = {
        split: digits._Source(source.seed, 4, source.digits, source.columns)
        for split, source in digits._SOURCES.items()
    }
    monkeypatch.setattr(digits, "_SOURCES", small)
    result = softiou("demo", "--steps", 5)
    assert result.status == 0, result.err
    assert "training with CE\n" in result.out
    assert "training with 0.25 CE + 0.75 JML\n" in result.out
    assert result.out.count("step      5/5") == 2
    table = result.out[result.out.index("digits, test") :]
    assert "0.25 CE + 0.75 JML" in table
    reports = result.out.splitlines()[-2:]
    assert reports[0].endswith("runs/demo-001/ce_jml/report.html")
    assert reports[1] == "side by side  runs/demo-001/compare.html"
    page = Path("runs/demo-001/compare.html").read_text()
    assert page.startswith("<!doctype html>")
    for folder, method in zip(("ce", "ce_jml"), demo.METHODS.values(), strict=True):
        config = load_config(file=Path(f"runs/demo-001/{folder}/config.yaml"))
        assert (config.loss.cross_entropy, config.optim.learning_rate) == method
    assert json.loads(Path("runs/demo-001/ce/evaluation.json").read_text())["split"] == "test"


def test_demo_trains_each_loss_at_its_own_rate(
    softiou: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[list[str]] = []

    def train(data: str, *, out: Path, overrides: list[str], **_: object) -> Any:
        trained.append(overrides)
        scores = {"miou_d": 60.0 + len(trained)}
        return SimpleNamespace(path=out, evaluation=SimpleNamespace(metrics=scores))

    monkeypatch.setattr(jobs, "train", train)
    monkeypatch.setattr(jobs, "compare", lambda *runs, **_: None)
    monkeypatch.setattr(demo, "METHODS", {"CE": (1.0, 0.01), "JML": (0.25, 0.002)})
    result = softiou("demo", "--out", "here", "--json")
    assert json.loads(result.out) == {
        "runs": {
            "CE": {"run": "here/ce", "miou_d": 61.0},
            "JML": {"run": "here/ce_jml", "miou_d": 62.0},
        },
        "side_by_side": "here/compare.html",
    }
    assert [overrides[-1] for overrides in trained] == [
        "optim.learning_rate=0.01",
        "optim.learning_rate=0.002",
    ]


class AtOnce:
    """A timer that does not wait."""

    def __init__(self, seconds: float, say: Callable[[str], None], words: tuple[str]) -> None:
        self.start = lambda: say(*words)

    def cancel(self) -> None:
        """Nothing is left to stop."""


def test_slow_starts_say_what_they_do(
    softiou: Run, run_copy: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_screen, "Timer", AtOnce)
    images, loads = shapes / "test" / "images", "softiou: loading PyTorch ..."
    reads = f"softiou: reading {run_copy} ..."
    for command, said in (
        (("check", shapes), [loads, f"softiou: listing the files of {shapes} ..."]),
        (("predict", run_copy, images), [loads, reads, "softiou: listing the images ..."]),
        (("evaluate", run_copy, shapes), [loads, reads, f"softiou: opening {shapes}, test ..."]),
        (
            ("compare", run_copy, run_copy, "--resamples", 50),
            [loads, "softiou: comparing 50 resamples of the images ..."],
        ),
    ):
        result = softiou(*command)
        assert (result.status, result.err.splitlines()) == (0, said)
    aside = softiou("predict", run_copy, images, "--out", "more", "--json")
    assert (json.loads(aside.out)["written"], aside.err) == (3, f"{loads}\n")


def test_demo_settings_are_valid() -> None:
    config = load_config(source="digits", overrides=demo.SETTINGS)
    assert config.model.encoder_weights == "none"  # nothing is downloaded


# Tables


def test_table_shows_a_dash_for_undefined_and_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"[bold]run": {"miou_d": 12.345, "ece_d": None}}
    _console.score_table(rows, names=("miou_d", "ece_d"), title="data[1], test")
    text = capsys.readouterr().out
    assert "data[1], test" in text
    assert "[bold]run" in text
    assert "12.3" in text
    assert "-" in next(line for line in text.splitlines() if "ECE" in line)


@pytest.mark.parametrize("columns", [53, 80])
def test_tables_keep_names_and_numbers_whole_in_a_narrow_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(_console, "is_watched", lambda: True)
    names = ("teacher", "student without teacher", "student")[: columns // 27 + 1]
    rows = {name: {"miou_d": 57.123, "ece_d": 3.4} for name in names}
    intervals = {name: {"miou_d": (55.0, 59.2), "ece_d": None} for name in names}
    _console.score_table(rows, title="data, test", intervals=intervals)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    line = next(line for line in text.splitlines() if "mIoU D" in line)
    assert line.count("57.1  55.0..59.2") == len(names)
    assert "teacher" in text
    assert "\x1b" not in text


def test_without_the_extra_the_command_names_it(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('No module named typer')\n")
    done = subprocess.run(
        [sys.executable, "-m", "softiou", "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "in a clone of softiou, pip install '.[train]'" in done.stderr
    assert "Traceback" not in done.stderr


# Label and distill


def test_label_goes_on_and_verifies(
    softiou: Run, trained: Any, shapes: Path, tmp_path: Path
) -> None:
    plain = ("workers=0", "shard_mib=0")  # a file for each image
    command = ("label", shapes, "--teacher", trained.directory, "--out", "store", *plain)
    first = softiou(*command, "--part", "1/2", "splits=[train, val]")
    assert first.status == 0, first.err
    assert "train, part 1/2: 5 images labelled; the store holds 5 of 10" in first.out
    rest = softiou(*command, "splits=[train, val]", "--verify")
    assert rest.status == 0, rest.err
    assert "train: 5 images labelled; the store holds 10 of 10" in rest.out
    assert "val: 1 images labelled; the store holds 3 of 3" in rest.out
    assert "verified: 0 damaged files\n" in rest.out
    damaged = next((tmp_path / "store").rglob("train4.*"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-20])
    found = softiou(*command, "--verify")
    assert found.status == 0, found.err
    assert "train4" in found.out
    assert "verified: 1 damaged files, to be replaced" in found.out
    assert damaged.read_bytes() == content
    stored = json.loads(softiou(*command, "--json").out)
    assert stored["images"] == {"train": 10, "val": 3}
    assert stored["bytes"] == sum(path.stat().st_size for path in Path("store").rglob("*.b2*"))


def test_label_refuses_another_teacher_and_other_settings(
    softiou: Run, trained: Any, shapes: Path, run_copy: Path
) -> None:
    command = ("label", shapes, "--out", "store", "workers=0")
    assert softiou(*command, "--teacher", trained.directory).status == 0
    other = run_copy / "checkpoints" / "best.ckpt"
    other.write_bytes((run_copy / "checkpoints" / "last.ckpt").read_bytes())
    softiou(*command, "--teacher", other).assert_refused("store", "teacher")
    softiou(*command, "--teacher", trained.directory, "stride=2").assert_refused("stride")
    taken = softiou("label", shapes, "--teacher", trained.directory, "--out", run_copy)
    taken.assert_refused("found other files")
    wrong = softiou(*command, "--teacher", trained.directory, "strid=2")
    wrong.assert_refused("strid: unknown key; did you mean stride?")
    softiou(*command, "--teacher", "nowhere").assert_refused("nowhere does not exist")


def test_distill_compares_all_three(
    softiou: Run, trained: Any, shapes: Path, short: tuple[str, ...], tmp_path: Path
) -> None:
    teacher = trained.directory
    result = softiou("distill", shapes, "--teacher", teacher, "--out", "kd", *short)
    assert result.status == 0, result.err
    comparison = json.loads((tmp_path / "kd" / "comparison.json").read_text())
    rows = {row["name"]: row for row in comparison["rows"]}
    assert list(rows) == ["teacher", "student without teacher", "student"]
    assert [row["steps"] for row in rows.values()] == [80, 4, 4]
    student = json.loads((tmp_path / "kd" / "evaluation.json").read_text())["metrics"]
    assert rows["student"]["metrics"] == student
    assert rows["teacher"]["metrics"]["miou_d"] > 70
    page = (tmp_path / "kd" / "report.html").read_text()
    for name in rows:
        assert name in page
    plain = load_config(file=tmp_path / "kd" / "baseline" / "config.yaml")
    distilled = load_config(file=tmp_path / "kd" / "config.yaml")
    assert plain == distilled.model_copy(update={"distillation": None})
    assert distilled.distillation is not None
    assert distilled.distillation.teacher == str(teacher)
    (tmp_path / "kd" / "comparison.json").unlink()  # as after a kill in between
    again = softiou("distill", "--resume", "kd")
    assert again.status == 0, again.err
    repeated = json.loads((tmp_path / "kd" / "comparison.json").read_text())["rows"]
    assert repeated[2]["metrics"] == pytest.approx(student)


@pytest.mark.slow
def test_distill_from_a_store_with_a_baseline_of_ones_own(
    softiou: Run, trained: Any, shapes: Path, short: tuple[str, ...], tmp_path: Path
) -> None:
    softiou("label", shapes, "--teacher", trained.directory, "--out", "store", "workers=0")
    assert softiou("train", shapes, *short, "--out", "plain").status == 0
    before = (tmp_path / "plain" / "evaluation.json").stat().st_mtime_ns
    command = ("distill", shapes, "--soft-labels", "store", *short)
    result = softiou(*command, "--baseline", "plain", "--out", "kd")
    assert result.status == 0, result.err
    rows = json.loads((tmp_path / "kd" / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["teacher", "student without teacher", "student"]
    assert rows[1]["checkpoint"] == str(tmp_path / "plain")
    assert (tmp_path / "plain" / "evaluation.json").stat().st_mtime_ns == before
    assert not (tmp_path / "kd" / "baseline").exists()
    alone = softiou(*command, "--no-baseline", "--out", "alone")
    (tmp_path / "alone" / "comparison.json").unlink()
    again = softiou("distill", "--resume", "alone")  # the choice is kept in the run
    assert "effect of the teacher is unknown" in again.out.replace("\n", " ")
    assert not (tmp_path / "alone" / "baseline").exists()
    assert "the effect of the teacher is unknown" in alone.out.replace("\n", " ")
    rows = json.loads((tmp_path / "alone" / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["student"]


def test_distill_refuses(
    softiou: Run, trained: Any, shapes: Path, short: tuple[str, ...], tmp_path: Path
) -> None:
    softiou("distill", shapes, *short).assert_refused("Name a teacher")
    teacher = ("--teacher", trained.directory)
    both = softiou("distill", shapes, *teacher, "--soft-labels", "store", *short)
    both.assert_refused("set exactly one of teacher and soft_labels")
    unfair = softiou(
        "distill", shapes, *teacher, "--baseline", trained.directory, "--out", "kd", *short
    )
    unfair.assert_refused("not a fair baseline", "optim.steps: 4, baseline 80")
    assert not (tmp_path / "kd").exists()
    softiou("distill", "--resume", "kd", shapes).assert_refused(
        "--resume uses the settings of the run"
    )
    plain = softiou("distill", "--resume", trained.directory)
    plain.assert_refused("use `softiou train --resume")


def test_evaluate_against_soft_labels(softiou: Run, trained: Any, shapes: Path) -> None:
    result = softiou("evaluate", trained.directory, shapes, "--labels", "soft", "--out", "out")
    assert result.status == 0, result.err
    content = json.loads(Path("out/evaluation.json").read_text())
    assert content["labels"] == "soft"
    assert content["metrics"]["soft_dice_d"] > 90
    assert "Soft Dice D" in result.out
    hard = softiou("evaluate", trained.directory, shapes, "--out", "out")
    assert "earlier evaluation" in hard.out
    assert "soft Dice" not in hard.out


def test_names_of_files_are_printed_without_their_control_characters(
    softiou: Callable[..., Any], shapes: Path, tmp_path: Path
) -> None:
    """A name that would forge a line, and one with a byte that is not UTF-8."""
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    images = data / "train" / "images"
    (images / "a\nerrors: 0\x1b[2J.png").write_bytes(b"")
    os.rename(os.fsencode(next(images.glob("*0.png"))), os.fsencode(images) + b"/caf\xe9.png")
    result = softiou("check", data)
    assert "\x1b" not in result.out
    assert "a\\nerrors: 0\\x1b[2J" in result.out
    assert "caf\\xe9" in result.out
    assert "Traceback" not in result.err
