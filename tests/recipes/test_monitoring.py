"""Loggers by name, the metric that chooses the best checkpoint, and the early stop."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from softiou import jobs
from softiou.checkpoints import end_of_training, read_checkpoint
from softiou.configuration import load_config
from softiou.configuration.sections import OptimConfig
from softiou.errors import ConfigError
from softiou.training import CustomParts, finished_at, loggers, resume_training, start_training
from softiou.training.callbacks import Checkpoints

Make = Callable[..., Any]


def validations(run: Path, name: str = "val/miou_d") -> dict[int, float]:
    """The values of a metric by step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


# Loggers


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of mlflow
def test_four_loggers_have_the_same_values(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name, value in {"MODE": "offline", "SILENT": "true", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    start_training(tiny_config("loggers=[tensorboard, wandb, mlflow, csv]"), directory=run)
    expected = validations(run)
    with (run / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/miou_d"]]
    assert [float(row["val/miou_d"]) for row in rows] == pytest.approx([*expected.values()])
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [one.value for one in board.Scalars("val/miou_d")] == pytest.approx([*expected.values()])
    client = mlflow.MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("softiou")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.metrics["val/miou_d"] == pytest.approx([*expected.values()][-1])
    assert found.data.params["optim/steps"] == "6"
    (offline,) = (run / "wandb").glob("offline-run-*/*.wandb")
    assert b"val/miou_d" in offline.read_bytes()
    assert load_config(file=run / "config.yaml").loggers == [
        "tensorboard",
        "wandb",
        "mlflow",
        "csv",
    ]


def test_no_logger_leaves_metrics_jsonl(tiny_config: Make, tmp_path: Path) -> None:
    run = start_training(tiny_config("loggers=[]"), directory=tmp_path / "run")
    assert len(validations(run)) == 2
    assert not (run / "tensorboard").exists()


def test_a_logger_that_is_not_installed(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^loggers: wandb needs .*: pip install wandb\."):
        start_training(tiny_config("loggers=[wandb]"), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of mlflow
def test_loggers_of_a_resumed_run_continue(tiny_config: Make, tmp_path: Path) -> None:
    import mlflow

    config, run = tiny_config("loggers=[csv, mlflow]"), tmp_path / "run"
    with pytest.raises(RuntimeError, match="at batch 5"):
        start_training(config, directory=run, custom=CustomParts(callbacks=[FailAt(5)]))
    resume_training(run, custom=CustomParts(callbacks=[FailAt(99)]))
    rows = []
    for folder in ("csv", "csv_from_3"):
        with (run / folder / "metrics.csv").open() as file:
            rows += [row for row in csv.DictReader(file) if row["val/miou_d"]]
    assert int(rows[-1]["step"]) == 5  # counted from 0
    client = mlflow.MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    name = (run / "mlflow_run.txt").read_text()
    history = client.get_metric_history(name, "val/miou_d")
    assert history[-1].value == pytest.approx(validations(run)[6])
    experiment = client.get_experiment_by_name("softiou")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


# The best checkpoint


@pytest.mark.parametrize(
    ("monitor", "best"), [("val/mdice_d", [1, 2, 2]), ("ece_d", [1, 1, 3])], ids=["higher", "lower"]
)
def test_the_best_follows_the_direction_of_the_metric(
    monitor: str, best: list[int], tmp_path: Path
) -> None:
    monitor = load_config(source="", overrides=[f"optim.monitor={monitor}"]).optim.monitor
    checkpoints = Checkpoints(tmp_path, None, monitor=monitor)  # type: ignore[arg-type]
    saved: list[int] = []

    class Trainer:
        should_stop = False
        global_step = 0

        def save_checkpoint(self, path: Path) -> None:
            assert path.name == "best.ckpt"
            saved.append(self.global_step)

    trainer: Any = Trainer()
    found = []
    for step, score in enumerate([50.0, 60.0, 40.0], 1):
        trainer.global_step = step
        trainer.callback_metrics = {monitor: torch.tensor(score)}
        checkpoints.on_validation_end(trainer, None)  # type: ignore[arg-type]
        found.append(saved[-1])
    assert found == best
    assert not trainer.should_stop


def test_a_metric_that_is_none(tiny_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim.monitor: expected one of val/miou_d, .*ece_d"):
        start_training(tiny_config("optim.monitor=val/loss"), directory=tmp_path / "run")


# The early stop


class FailAt(Callback):
    """Breaks the training off."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.seen = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batch:
            raise RuntimeError(f"at batch {self.batch}")


def still(batch: int) -> CustomParts:
    """A model that learns nothing with a rate of nearly zero, and breaks off at a batch."""
    torch.manual_seed(0)
    return CustomParts(model=nn.Conv2d(3, 3, 1), callbacks=[FailAt(batch)])


def test_patience_ends_the_training_also_when_resumed(tiny_config: Make, tmp_path: Path) -> None:
    settings = ["optim.steps=8", "optim.validations=4", "optim.patience=2"]
    config = tiny_config(*settings, "optim.learning_rate=1e-20", "loggers=[]")
    said: list[str] = []
    whole = start_training(config, directory=tmp_path / "whole", custom=still(99), say=said.append)
    assert list(validations(whole)) == [2, 4, 6]
    assert "early stop at step 6: val/miou_d has not improved for 2 validations" in said
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="at batch 5"):
        start_training(config, directory=run, custom=still(5))
    resume_training(run, custom=still(99))
    assert validations(run) == validations(whole)
    # Resuming what has stopped early trains no further.
    resume_training(run, custom=still(99))
    assert validations(run) == validations(whole)
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 6


def test_a_run_that_stopped_early_is_finished(
    tiny_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["optim.steps=8", "optim.validations=4", "optim.patience=2"]
    config = tiny_config(*settings, "optim.learning_rate=1e-20", "loggers=[]")
    run = start_training(config, directory=tmp_path / "run", custom=still(99))
    assert finished_at(run) is None  # it is not evaluated
    (run / "evaluation.json").write_text("{}")
    written = (run / "metrics.jsonl").read_bytes()
    resumed = jobs.train(resume=run, progress=True)
    assert resumed.path == run
    assert (run / "metrics.jsonl").read_bytes() == written
    assert "finished, with 6 of 8 steps (early stop, optim.patience=2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "monitor", "patience", "ended"),
    [
        ([1, 2, 3], "val/miou_d", 2, None),
        ([1, 3, 2], "val/miou_d", 2, None),
        ([1, 3, 2, 3], "val/miou_d", 2, 8),
        ([1, 3, 2, 3], "val/miou_d", None, None),
        ([3, 1, 2, 2], "val/ece_d", 2, 8),
        ([None, None, None], "val/miou_d", 2, None),  # undefined: any score would be better
        ([None, 1, None, None], "val/miou_d", 2, 8),
        ([1, 2, 3, 4, 5], "val/miou_d", None, 10),
    ],
)
def test_end_of_training(
    values: list[float | None],
    monitor: str,
    patience: int | None,
    ended: int | None,
    tmp_path: Path,
) -> None:
    optim = OptimConfig(steps=10, validations=5, monitor=monitor, patience=patience)
    assert end_of_training(tmp_path, optim) is None
    lines = [{"step": 2 * n, monitor: value} for n, value in enumerate(values, 1)]
    text = "\n".join(json.dumps(line) for line in (*lines, {"step": 9, "learning_rate": 1}))
    (tmp_path / "metrics.jsonl").write_text(f'{text}\n{{"step": 10, "val')
    assert end_of_training(tmp_path, optim) == ended
