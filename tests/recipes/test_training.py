"""The trainer: learning, repeating, stopping anywhere and going on, and what it refuses."""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.reliability.commands import Command
from softiou import losses
from softiou.checkpoints import load_trained, read_checkpoint
from softiou.configuration import load_config
from softiou.errors import CheckpointError, ConfigError, DataError, RunExistsError
from softiou.inference import ModelPredictor
from softiou.models import ModelSpec, SegmentationModel
from softiou.recipes import SupervisedRecipe, base, build_loss
from softiou.recipes.schedule import WarmupPoly, parameter_groups
from softiou.training import fitting, next_free_run, resume_training, start_training
from softiou.training.callbacks import AtomicCheckpointIO, Checkpoints, JsonLinesLogger

Make = Callable[..., Any]

SCORES = (
    *("miou_d", "miou_i", "miou_c", "miou_i_q10", "miou_i_q5", "miou_c_q10", "miou_c_q5"),
    *("mdice_d", "mdice_i", "mdice_c", "accuracy", "macc", "ece_d"),
)


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _values(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the clock."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in _lines(run)]


def _weights(run: Path, name: str = "last") -> dict[str, Tensor]:
    weights: dict[str, Tensor] = read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["state_dict"]
    return weights


def _assert_same_end(run: Path, other: Path, *, tolerance: float = 0.0) -> None:
    """Both runs have the same last and best weights and the same curves."""
    for name in ("last", "best"):
        ours, theirs = _weights(run, name), _weights(other, name)
        assert list(ours) == list(theirs)
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=tolerance, atol=tolerance)
    ours_lines, theirs_lines = _values(run), _values(other)
    assert [list(line) for line in ours_lines] == [list(line) for line in theirs_lines]
    for one, two in zip(ours_lines, theirs_lines, strict=True):
        assert one == pytest.approx(two, rel=tolerance, abs=tolerance)


@pytest.fixture(scope="module")
def finished(tiny_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that gives the uninterrupted run of some settings, trained once."""
    runs: dict[tuple[str, ...], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in runs:
            directory = tmp_path_factory.mktemp("finished") / "run"
            runs[overrides] = start_training(tiny_config(*overrides), directory=directory)
        return runs[overrides]

    return run


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes a step (counted over the run) send this process a signal."""

    def arrange(stage: str, at: int, number: int = signal.SIGINT, times: int = 1) -> None:
        step = getattr(SupervisedRecipe, f"{stage}_step")
        count = 0

        def counted(self: SupervisedRecipe, batch: Any, index: int) -> Any:
            nonlocal count
            count += 1
            if count == at:
                for _ in range(times):
                    os.kill(os.getpid(), number)
            return step(self, batch, index)

        monkeypatch.setattr(SupervisedRecipe, f"{stage}_step", counted)

    return arrange


# Learning


def test_training_learns(trained: Any) -> None:
    lines = _lines(trained.directory)
    curve = [line["train/loss"] for line in lines if "train/loss" in line]
    assert curve[-1] < 0.5 * curve[0]
    scores = [line["val/miou_d"] for line in lines if "val/miou_d" in line]
    assert max(scores) > 70


def test_metrics_hold_the_documented_keys(trained: Any) -> None:
    lines = _lines(trained.directory)
    training = [line for line in lines if "train/loss" in line]
    validation = [line for line in lines if "val/miou_d" in line]
    assert len(training) + len(validation) == len(lines)
    assert [line["step"] for line in validation] == [20, 40, 60, 80]
    assert training[-1]["step"] == 80
    parts = ("train/loss", "train/overlap", "train/cross_entropy", "learning_rate")
    assert all(set(line) == {"step", "seconds", *parts} for line in training)
    scores = {f"val/{name}" for name in SCORES}
    assert all(set(line) == {"step", "seconds", *scores} for line in validation)
    loss = training[0]
    mixture = 0.25 * loss["train/cross_entropy"] + 0.75 * loss["train/overlap"]
    assert loss["train/loss"] == pytest.approx(mixture, rel=1e-5)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_run_directory_is_complete(trained: Any) -> None:
    names = {path.name for path in trained.directory.iterdir()}
    assert names == {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "tensorboard",
        "environment.json",
    }
    checkpoints = {path.name for path in (trained.directory / "checkpoints").iterdir()}
    assert checkpoints == {"last.ckpt", "best.ckpt"}  # and no temporary file
    text = (trained.directory / "config.yaml").read_text()
    assert text.startswith("# softiou train shapes\ndata:\n")
    assert "auto" not in str(load_config(file=trained.directory / "config.yaml"))


def test_progress_is_told(trained: Any) -> None:
    assert trained.said[:2] == ("auto  data.augmentation: street", "auto  labels.kind: hard")
    assert trained.said[2].endswith(
        f"{trained.directory}: 10 images to train on, 3 to validate, 80 steps"
    )
    validations = [line for line in trained.said if "val mIoU" in line]
    assert len(validations) == 4
    for number, line in enumerate(validations, start=1):
        assert line.startswith(f"step     {20 * number}/80  loss ")
        assert "val mIoU" in line
        assert "ECE" in line


@pytest.mark.parametrize(
    ("share", "advice"),
    [
        ("0", "so raise loss.cross_entropy (0), lower optim.learning_rate (0.01) or train longer"),
        ("1", "box; lower optim.learning_rate (0.01) or train longer"),
    ],
)
def test_lost_classes_are_named(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, advice: str
) -> None:
    def only_background(predictor: Any, image: Any, **settings: Any) -> Any:
        probs = torch.zeros(3, *image.shape[-2:])
        probs[0] = 1
        yield slice(0, image.shape[-2]), probs

    monkeypatch.setattr("softiou.recipes.base.probability_bands", only_background)
    said: list[str] = []
    config = tiny_config("optim.steps=1", "optim.validations=1", f"loss.cross_entropy={share}")
    start_training(config, directory=tmp_path / "run", say=said.append)
    assert said[-1].startswith("note  never predicted on the validation images: box; ")
    assert said[-1].endswith(advice)


def test_auto_values_are_told_and_kept(tiny_config: Make, tmp_path: Path) -> None:
    said: list[str] = []
    config = tiny_config(
        "data.crop_px=auto", "data.batch_size=auto", "optim.steps=1", "optim.validations=1"
    )
    run = start_training(config, directory=tmp_path / "run", say=said.append)
    assert said[:4] == [
        "auto  data.crop_px: (32, 32)",
        "auto  data.augmentation: street",
        "auto  data.batch_size: 8",
        "auto  labels.kind: hard",
    ]
    kept = load_config(file=run / "config.yaml")
    assert (kept.data.crop_px, kept.data.batch_size) == ((32, 32), 8)


def test_best_checkpoint_is_the_best_validation(trained: Any) -> None:
    scores = {
        line["step"]: line["val/miou_d"]
        for line in _lines(trained.directory)[:]
        if "val/miou_d" in line
    }
    best = read_checkpoint(trained.directory / "checkpoints" / "best.ckpt")
    assert scores[best["global_step"]] == max(scores.values())
    assert read_checkpoint(trained.directory / "checkpoints" / "last.ckpt")["global_step"] == 80


def test_best_checkpoint_survives_an_undefined_score(tmp_path: Path) -> None:
    class Trainer:
        global_step = 1

        def __init__(self) -> None:
            self.callback_metrics: dict[str, Tensor] = {}
            self.saved: list[float] = []

        def save_checkpoint(self, path: Path) -> None:
            self.saved.append(float(self.callback_metrics["val/miou_d"]))

    trainer: Any = Trainer()
    checkpoints = Checkpoints(tmp_path, stop=None)  # type: ignore[arg-type]
    for score in (math.nan, 30.0, math.nan, 20.0, 40.0):
        trainer.callback_metrics = {"val/miou_d": torch.tensor(score)}
        checkpoints.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert trainer.saved[1:] == [30.0, 40.0]
    assert math.isnan(trainer.saved[0])


def test_same_seed_same_run(finished: Make, tiny_config: Make, tmp_path: Path) -> None:
    again = start_training(tiny_config(), directory=tmp_path / "again")
    _assert_same_end(again, finished())


def test_compiled_training_is_the_same_training(
    finished: Make, tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that runs what was traced, for generating code takes a minute."""
    compiled, compile_ = [], torch.compile

    def traced(model: Any) -> Any:
        compiled.append(model)
        return compile_(model, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    with pytest.raises(ConfigError, match=r"model.compile .* set loss.auxiliary=0"):
        start_training(
            tiny_config("model.compile=true", "loss.auxiliary=0.4"), directory=tmp_path / "refused"
        )
    run = start_training(tiny_config("model.compile=true"), directory=tmp_path / "run")
    assert [type(model) for model in compiled] == [SegmentationModel]
    _assert_same_end(finished(), run, tolerance=1e-5)
    torch._dynamo.reset()


def test_another_seed_is_another_run(finished: Make) -> None:
    assert _values(finished("seed=1")) != _values(finished())


# Stopping and going on


@pytest.mark.parametrize(
    ("stage", "at", "step", "settings"),
    [
        ("training", 2, 2, ()),  # in the middle of the first round
        ("training", 3, 3, ()),  # at the end of a round
        ("training", 6, 6, ()),  # at the end of the run
        ("validation", 2, 3, ()),
        ("validation", 6, 6, ()),  # in the last image of the run
        ("training", 9, 5, ("optim.accumulate=2",)),  # in the middle of a step
        ("training", 5, 5, ("optim.ema=0.9",)),
        ("training", 3, 3, ("optim.optimizer=sgd",)),  # with what the momentum remembers
        ("validation", 2, 3, ("optim.ema=0.9",)),
    ],
)
def test_interrupted_run_ends_like_an_uninterrupted_one(
    stage: str,
    at: int,
    step: int,
    settings: tuple[str, ...],
    finished: Make,
    signal_at: Make,
    tiny_config: Make,
    tmp_path: Path,
) -> None:
    said: list[str] = []
    run = tmp_path / "a run"
    signal_at(stage, at)
    with pytest.raises(KeyboardInterrupt):
        start_training(tiny_config(*settings), directory=run, say=said.append)
    assert said[-2:] == [
        "stopping after this step; press Ctrl-C again to stop at once",
        f"interrupted; continue with: softiou train --resume '{run}'",
    ]
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == step
    said.clear()
    assert resume_training(run, say=said.append) == run
    assert said[0].endswith(f"{run}: continuing from step {step}/6")
    _assert_same_end(run, finished(*settings))


def test_interrupted_twice_ends_like_an_uninterrupted_run(
    finished: Make, signal_at: Make, tiny_config: Make, tmp_path: Path
) -> None:
    signal_at("validation", 1)
    with pytest.raises(KeyboardInterrupt):
        start_training(tiny_config(), directory=tmp_path / "run")
    signal_at("validation", 1)  # again, in the validation that is repeated
    with pytest.raises(KeyboardInterrupt):
        resume_training(tmp_path / "run")
    assert [line["step"] for line in _lines(tmp_path / "run")] == [3]
    resume_training(tmp_path / "run")
    _assert_same_end(tmp_path / "run", finished())


def test_sigterm_is_a_request_to_stop_too(
    finished: Make, signal_at: Make, tiny_config: Make, tmp_path: Path
) -> None:
    signal_at("training", 4, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        start_training(tiny_config(), directory=tmp_path / "run")
    resume_training(tmp_path / "run")
    _assert_same_end(tmp_path / "run", finished())


def test_training_works_outside_of_the_main_thread(
    finished: Make, tiny_config: Make, tmp_path: Path
) -> None:
    # Python lets nobody but the main thread handle signals.
    with ThreadPoolExecutor() as pool:
        run = pool.submit(start_training, tiny_config(), directory=tmp_path / "run").result()
    _assert_same_end(run, finished())


def test_a_signal_after_the_last_step_is_not_lost(
    finished: Make, tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    end = Checkpoints.on_train_end

    def interrupted(self: Checkpoints, *arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        end(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "on_train_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start_training(tiny_config(), directory=tmp_path / "run", say=said.append)
    assert said[-1] == f"interrupted; continue with: softiou train --resume {tmp_path / 'run'}"
    resume_training(tmp_path / "run")
    _assert_same_end(tmp_path / "run", finished())


def test_second_signal_stops_at_once(
    finished: Make, signal_at: Make, tiny_config: Make, tmp_path: Path
) -> None:
    signal_at("training", 5, times=2)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        start_training(tiny_config(), directory=tmp_path / "run")
    # Nothing was saved after the validation at step 3, and the handlers are the old ones again.
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 3
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    resume_training(tmp_path / "run")
    _assert_same_end(tmp_path / "run", finished())


def test_crash_before_the_first_checkpoint_resumes_from_the_start(
    finished: Make, tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedRecipe, "training_step", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            start_training(tiny_config(), directory=tmp_path / "run")
    said: list[str] = []
    resume_training(tmp_path / "run", say=said.append)
    assert said[0].endswith("starting again, because there is no checkpoint yet")
    _assert_same_end(tmp_path / "run", finished())


def test_long_rounds_are_saved_in_between(
    finished: Make, tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SupervisedRecipe.training_step

    def crash_in_the_third(self: SupervisedRecipe, batch: Any, index: int) -> Any:
        if index == 2:
            raise RuntimeError("power cut")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "SAVE_SECONDS", 0)
        patch.setattr(SupervisedRecipe, "training_step", crash_in_the_third)
        with pytest.raises(RuntimeError, match="power cut"):
            start_training(tiny_config(), directory=tmp_path / "run")
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 2
    resume_training(tmp_path / "run")
    _assert_same_end(tmp_path / "run", finished())


def test_finished_run_resumes_to_its_end_again(
    finished: Make, tiny_config: Make, tmp_path: Path
) -> None:
    run = start_training(tiny_config(), directory=tmp_path / "run")
    resume_training(run)
    _assert_same_end(run, finished())


def _kill_in_the_second_round(
    number: int, data: Path, run: Path, settings: tuple[str, ...]
) -> tuple[int | None, list[str]]:
    """Start the command line and send it a signal after the first of its two validations."""
    step = SupervisedRecipe.training_step

    def slow(self: SupervisedRecipe, batch: Any, index: int) -> Any:
        time.sleep(0.2)
        return step(self, batch, index)

    def slow_down() -> None:
        pytest.MonkeyPatch().setattr(SupervisedRecipe, "training_step", slow)

    words = ["train", str(data), *settings, "--out", str(run)]
    command = Command(words, run.parent, slow_down)
    assert command.said("step     10/")
    os.killpg(command.pid, number)  # to the loading process, too, as a terminal does
    return command.wait(), command.text().splitlines()


@pytest.fixture
def slow_settings(tiny: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny, "optim.steps=20", "optim.validations=2", "data.workers=1")


def test_ctrl_c_in_a_real_process(
    shapes: Path, slow_settings: tuple[str, ...], finished: Make, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    status, lines = _kill_in_the_second_round(signal.SIGINT, shapes, run, slow_settings)
    assert status == 130, lines
    assert lines[-2:] == [
        "stopping after this step; press Ctrl-C again to stop at once",
        f"interrupted; continue with: softiou train --resume {run}",
    ]
    assert 10 < read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] < 20
    resume_training(run)
    _assert_same_end(run, finished(*slow_settings), tolerance=1e-5)


def test_kill_in_a_real_process(
    shapes: Path, slow_settings: tuple[str, ...], finished: Make, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    status, lines = _kill_in_the_second_round(signal.SIGKILL, shapes, run, slow_settings)
    assert status == -signal.SIGKILL, lines
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 10
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "sec')  # as a kill in the middle of a line leaves it
    resume_training(run)
    _assert_same_end(run, finished(*slow_settings), tolerance=1e-5)


def test_kill_while_writing_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(3)}, path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(3)}, path)
    assert torch.load(path, weights_only=True)["weights"].tolist() == [1, 1, 1]
    assert list(path.parent.iterdir()) == [path]


def test_existing_directory_is_refused_and_untouched(
    trained: Any, tiny_config: Make, tmp_path: Path
) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents(trained.directory)
    with pytest.raises(RunExistsError, match=r"nothing was changed.*--resume"):
        start_training(tiny_config(), directory=trained.directory)
    assert contents(trained.directory) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunExistsError):
        start_training(tiny_config(), directory=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert next_free_run("digits") == Path("runs/digits-001")
    for name in ("digits-002", "other-004"):
        (tmp_path / "runs" / name).mkdir()
    assert next_free_run("digits") == Path("runs/digits-003")
    assert Path("runs/digits-003").is_dir()  # taken: nobody else gets it


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_damaged_checkpoint_is_not_resumed(damage: str, trained: Any, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((trained.directory / "config.yaml").read_bytes())
    (tmp_path / "checkpoints").mkdir()
    last = tmp_path / "checkpoints" / "last.ckpt"
    if damage == "cut":
        last.write_bytes((trained.directory / "checkpoints/last.ckpt").read_bytes()[:1000])
    else:
        torch.save({"weights": torch.ones(1)}, last)
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        resume_training(tmp_path)


def test_run_is_not_resumed_with_other_classes(
    make_shapes: Make, signal_at: Make, tiny_config: Make, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=1)
    signal_at("training", 1)
    with pytest.raises(KeyboardInterrupt):
        start_training(tiny_config(source=data), directory=tmp_path / "run")
    (data / "dataset.yaml").write_text("classes: [box, ground, nothing]\n")
    with pytest.raises(CheckpointError, match=r"started with other classes .*'ground', 'box'"):
        resume_training(tmp_path / "run")


def test_a_run_that_trained_other_weights_is_not_resumed(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        "model.architecture=pspnet",
        "model.encoder=resnet18",
        "optim.steps=1",
        "optim.validations=1",
    )
    with monkeypatch.context() as patch:
        patch.setattr("softiou.recipes.base.freeze_unused", lambda model: [])  # as it was once
        run = start_training(config, directory=tmp_path / "run")
    with pytest.raises(CheckpointError, match="also trained weights that do not"):
        resume_training(run)


def test_other_folder_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be resumed: it has no config"):
        resume_training(tmp_path)


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    logger = JsonLinesLogger(path)
    for step in range(4):  # Lightning counts from 0
        logger.log_metrics({"learning_rate": 0.1, "epoch": 0}, step)
        logger.log_metrics({"val/miou_d": math.nan}, step)
    text = path.read_text()
    path.write_text(text + '{"step": 5, "val/mi')
    resumed = JsonLinesLogger(path, step=3)
    assert [(line["step"], "learning_rate" in line) for line in _lines(tmp_path)] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
        (3, True),
    ]
    resumed.log_metrics({"val/miou_d": 50.0}, 2)
    assert _lines(tmp_path)[-1]["step"] == 3
    assert _lines(tmp_path)[-2]["seconds"] <= _lines(tmp_path)[-1]["seconds"]
    assert '"val/miou_d": null' in text  # NaN is no JSON


# Settings


def test_accumulation_sees_more_images_in_as_many_steps(finished: Make) -> None:
    for settings, batches in ((), 6), (("optim.accumulate=2",), 12):
        content = read_checkpoint(finished(*settings) / "checkpoints" / "last.ckpt")
        (stream,) = content["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        assert stream == {"position": batches}
        assert content["global_step"] == 6


def test_accumulation_averages_the_gradients(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[list[Tensor]] = []

    def record(self: SupervisedRecipe, optimizer: Any) -> None:
        gradients.append([p.grad.clone() for p in self.parameters() if p.grad is not None])

    # The same batch again and again: the mean over two is that of one.
    item = SupervisedRecipe.training_step
    first: list[Any] = []

    def same(self: SupervisedRecipe, batch: Any, index: int) -> Any:
        first.append(batch)
        return item(self, first[0], index)

    monkeypatch.setattr(SupervisedRecipe, "training_step", same)
    monkeypatch.setattr(SupervisedRecipe, "on_before_optimizer_step", record)
    for number in (1, 2):
        start_training(
            tiny_config("optim.steps=1", "optim.validations=1", f"optim.accumulate={number}"),
            directory=tmp_path / str(number),
        )
    assert len(gradients) == 2
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_on_a_gpu_images_of_equal_size_are_validated_together(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    probs = ModelPredictor.probs

    def counted(self: ModelPredictor, images: Tensor, size: tuple[int, int]) -> Tensor:
        passes.append(len(images))
        return probs(self, images, size)

    monkeypatch.setattr(ModelPredictor, "probs", counted)
    config = tiny_config("optim.steps=1", "optim.validations=1")
    alone = start_training(config, directory=tmp_path / "alone")
    number, passes = len(passes), []
    for module in (base, fitting):
        monkeypatch.setattr(module, "images_at_once", lambda device: 2)
    together = start_training(config, directory=tmp_path / "together")
    assert max(passes) == 2
    assert sum(passes) == number
    _assert_same_end(alone, together, tolerance=1e-3)


def test_averaged_weights_are_evaluated_and_kept(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Tensor] = []
    validated: list[Tensor] = []
    batch_end, validation_step = Checkpoints.on_train_batch_end, SupervisedRecipe.validation_step

    def weight(recipe: Any) -> Tensor:
        parameter: Tensor = next(recipe.model.parameters())
        return parameter.detach().clone().double()

    def record_step(self: Any, trainer: Any, recipe: Any, *rest: Any) -> None:
        steps.append(weight(recipe))
        batch_end(self, trainer, recipe, *rest)

    def record_validation(self: Any, sample: Any, index: int) -> None:
        validated.append(weight(self))
        validation_step(self, sample, index)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", record_step)
    monkeypatch.setattr(SupervisedRecipe, "validation_step", record_validation)
    run = start_training(tiny_config("optim.ema=0.9"), directory=tmp_path / "run")
    average = steps[0]
    for number, step in enumerate(steps, start=1):
        decay = min(0.9, 1 - 1 / number)  # 0 copies the first
        average = decay * average + (1 - decay) * step
        if number == 3:
            torch.testing.assert_close(validated[0], average, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(validated[-1], average, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(average, steps[-1], rtol=1e-3)
    kept = next(load_trained(run / "checkpoints" / "last.ckpt").model.parameters())
    torch.testing.assert_close(kept.double(), average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_precision_is_that_of_the_network(
    precision: str,
    dtype: torch.dtype,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward, seen = SegmentationModel.forward, set()

    def record(self: SegmentationModel, images: Tensor) -> Tensor:
        logits = forward(self, images)
        seen.add((self.training, logits.dtype))
        return logits

    monkeypatch.setattr(SegmentationModel, "forward", record)
    config = tiny_config(f"precision={precision}", "optim.steps=1", "optim.validations=1")
    start_training(config, directory=tmp_path / "run")
    assert seen == {(True, dtype), (False, dtype)}


@pytest.mark.skipif(torch.accelerator.is_available(), reason="fp16 works here")
def test_fp16_needs_a_gpu(tiny_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision: fp16 needs a GPU"):
        start_training(tiny_config("precision=fp16"), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_training_on_a_gpu(precision: str, tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(f"precision={precision}", "optim.ema=0.9")
    run = start_training(config, directory=tmp_path / "run")
    assert all(torch.isfinite(weights).all() for weights in _weights(run).values())
    assert [line["step"] for line in _lines(run)] == [3, 3, 6, 6]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.crop_px=[40, 64]",
            r"data.crop_px: \[40, 64\] is not a multiple .* 32; \[64, 64\] is",
        ),
        ("loss.class_weights=[1, 2]", "loss.class_weights: expected 3 numbers, .* but got 2"),
        ("loss.classes=[0, 3]", r"loss.classes: expected indices in 0..2, .* but got \[0, 3\]"),
        ("loss.classes=[]", "loss.classes: expected indices in 0..2, at least one"),
        (
            "model.architecture=unett",
            "expected deeplabv3, .* but got .unett.; did you mean model.architecture=unet",
        ),
        ("model.encoder=resnet19", "Unknown encoder 'resnet19'. Did you mean resnet18"),
    ],
)
def test_wrong_setting_leaves_no_run(
    override: str, message: str, tiny_config: Make, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        start_training(tiny_config(override), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_beyond_the_memory_is_refused(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {"SC_PHYS_PAGES": 1 << 18, "SC_PAGE_SIZE": 1 << 12}  # a gibibyte
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tiny_config("data.crop_px=[2048, 2048]", "data.batch_size=2")
    with pytest.raises(ConfigError, match=r"activations of 2 x \[2048, 2048\] pixels .* 1\.0 GiB"):
        start_training(config, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_diverged_training_stops_and_says_so(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SupervisedRecipe.training_step

    def diverge(self: SupervisedRecipe, batch: Any, index: int) -> dict[str, Tensor]:
        parts = step(self, batch, index)
        return parts | {"loss": parts["loss"] * math.nan}

    monkeypatch.setattr(SupervisedRecipe, "training_step", diverge)
    with pytest.raises(ConfigError, match=r"NaN or infinite at step 3.*learning_rate"):
        start_training(tiny_config(), directory=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_out_of_memory_names_the_settings_to_lower(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(SupervisedRecipe, "training_step", full)
    with pytest.raises(ConfigError, match=r"lower data.batch_size \(2;.*data.crop_px .*20 GiB"):
        start_training(tiny_config(), directory=tmp_path / "run")


def test_batch_of_one_is_explained_where_it_cannot_work(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config("model.architecture=pspnet", "data.batch_size=1")
    with pytest.raises(ConfigError, match=r"data.batch_size: pspnet .* 1 is too few; use at least"):
        start_training(config, directory=tmp_path / "run")


def test_other_errors_pass_through(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(SupervisedRecipe, "training_step", wrong)
    with pytest.raises(ValueError, match=r"^something else$"):
        start_training(tiny_config(), directory=tmp_path / "run")


# Data


def test_batches_without_a_valid_pixel_train_through(
    make_shapes: Make, tiny_config: Make, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data")
    for mask in data.glob("train/masks/*.png"):
        Image.new("L", (48, 40), 255).save(mask)
    run = start_training(tiny_config(source=data), directory=tmp_path / "run")
    for line in _lines(run):
        if "train/loss" in line:
            assert line["train/loss"] == 0
        else:
            assert 0 <= line["val/accuracy"] <= 100
    assert all(torch.isfinite(weights).all() for weights in _weights(run).values())


def test_corrupt_files_are_counted_before_training(
    make_shapes: Make, tiny_config: Make, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data")
    for name in ("train/images/train3", "train/images/train4", "val/masks/val0"):
        path = data / f"{name}.png"
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        start_training(tiny_config(source=data), directory=tmp_path / "run")
    text = str(caught.value)
    assert text.startswith("Files cannot be read, 2 in the split 'train' and 1 in the split 'val':")
    assert str(data / "train/images/train3.png") in text
    assert "data.skip_corrupt=true" in text
    assert not (tmp_path / "run").exists()

    said: list[str] = []
    config = tiny_config("data.skip_corrupt=true", source=data)
    run = start_training(config, directory=tmp_path / "run", say=said.append)
    assert said[:2] == ["train: skipped 2 unreadable images", "val: skipped 1 unreadable images"]
    assert any(line.endswith("8 images to train on, 2 to validate, 6 steps") for line in said)
    assert _lines(run)[-1]["step"] == 6


def test_mask_values_outside_the_classes_stop_with_file_and_cause(
    make_shapes: Make, tiny_config: Make, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=1)
    bad = data / "train" / "masks" / "train1.png"
    Image.fromarray(np.full((40, 48), 255, np.uint8)).save(bad)
    Image.fromarray(np.where(np.arange(48) < 9, 7, 0).astype(np.uint8)[None].repeat(40, 0)).save(
        bad
    )
    with pytest.raises(DataError) as caught:
        start_training(tiny_config(source=data), directory=tmp_path / "run")
    assert str(bad) in str(caught.value)
    assert "Expected values 0..2 or 255 (ignored), but found 7" in str(caught.value)


def test_several_annotators_train_with_votes(
    make_shapes: Make, tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_shapes(tmp_path / "data", annotators=2)
    targets: list[Tensor] = []
    step = SupervisedRecipe.training_step

    def record(self: SupervisedRecipe, batch: Any, index: int) -> Any:
        targets.append(batch["target"])
        return step(self, batch, index)

    monkeypatch.setattr(SupervisedRecipe, "training_step", record)
    run = start_training(tiny_config(source=data), directory=tmp_path / "run")
    assert targets[0].shape == (2, 2, 32, 32)  # the masks of both, until the loss reads them
    one, other = torch.cat(targets).unbind(1)
    assert 0 < float((one != other).float().mean()) < 0.2
    assert _lines(run)[-1]["val/miou_d"] > 0


# Parts


def test_warmup_and_polynomial_decay_by_hand() -> None:
    schedule = WarmupPoly(steps=110, warmup=0.1, power=2.0)  # 11 steps up, 99 down
    assert schedule(0) == pytest.approx(1 / 11)
    assert schedule(9) == pytest.approx(10 / 11)
    assert schedule(10) == pytest.approx(1)
    assert schedule(11) == pytest.approx(1)
    assert schedule(44) == pytest.approx((1 - 33 / 99) ** 2)
    assert schedule(110) == 0
    assert schedule(111) == 0  # Lightning asks once more at the end


def test_schedule_without_warmup_and_decay() -> None:
    assert [WarmupPoly(10, 0, 0)(step) for step in (0, 5, 9)] == [1, 1, 1]
    assert [WarmupPoly(4, 0, 1)(step) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [WarmupPoly(4, 1, 1)(step) for step in range(4)] == [0.25, 0.5, 0.75, 1]


def test_parameter_groups() -> None:
    model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3))
    groups = parameter_groups(model, learning_rate=0.5, encoder_rate=0.1, weight_decay=0.01)
    assert groups[0]["lr"] == 0.5  # the one whose rate is logged
    ways = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert len(ways) == len(list(model.parameters()))
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
        for parameter in module.parameters()
    }
    assert norms
    for name, parameter in model.net.named_parameters():
        rate = 0.05 if name.startswith("encoder.") else 0.5
        free = id(parameter) in norms or name.endswith("bias")
        assert ways[id(parameter)] == (pytest.approx(rate), 0.0 if free else 0.01), name


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("jaccard", losses.JaccardMetricLoss),
        ("dice", losses.DiceSemimetricLoss),
        ("tversky", losses.TverskyLoss),
        ("soft_jaccard", losses.SoftJaccardLoss),
    ],
)
def test_every_kind_of_loss_is_built(kind: str, loss: type) -> None:
    settings = load_config(
        source="digits",
        overrides=[f"loss.kind={kind}", "loss.cross_entropy=0.5", "loss.per={image: 1, batch: 1}"],
    ).loss
    built = build_loss(settings, ignore_index=7)
    assert type(built) is loss
    assert (built.cross_entropy, built.ignore_index) == (0.5, 7)
    assert built.per == {"image": 1, "batch": 1}
