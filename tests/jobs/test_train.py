"""Training from Python: in three lines on a data set, and with parts of one's own."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers.csv_logs import CSVLogger
from torch import nn

import softiou
from conftest import TrainedRun
from softiou.errors import ConfigError

FAST: dict[str, Any] = {"data": {"crop_px": [32, 32], "batch_size": 2, "workers": 0}}


class Squares(torch.utils.data.Dataset[Any]):
    """Bright squares on a dark ground."""

    classes = ("ground", "square")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        target = torch.zeros(40, 36, dtype=torch.int64)
        target[10 : 20 + index, 8:24] = 1
        return target.expand(3, -1, -1).float(), target


def test_own_model_data_and_logger(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    run = softiou.train(
        model=nn.Conv2d(3, 2, 1),
        train_dataset=Squares(),
        val_dataset=Squares(),
        loggers=[logger],
        out=tmp_path / "run",
        steps=60,
        learning_rate=0.1,
        precision="fp32",
        progress=False,
        config=FAST,
    )
    assert "val/miou_d" in (Path(logger.log_dir) / "metrics.csv").read_text()
    again = run.evaluate(Squares(), progress=False)
    assert again.metrics["miou_d"] == pytest.approx(100)
    assert again.content["classes"] == ["ground", "square"]
    assert run.report().path == tmp_path / "run" / "report.html"
    assert "square" in run.report().path.read_text()
    image = np.zeros((8, 9, 3), np.uint8)
    image[2:5, 3:6] = 255
    (predicted,) = run.predict(image, progress=False)
    assert predicted.labels.tolist() == (image[..., 0] // 255).tolist()
    torch.testing.assert_close(predicted.probs.sum(0), torch.ones(8, 9))
    loaded = softiou.load(tmp_path / "run", model=nn.Conv2d(3, 2, 1))
    assert loaded.evaluate(Squares(), progress=False).metrics == again.metrics


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="steps_of_nothing"):
        softiou.train("digits", steps_of_nothing=3)


def test_a_run_shows_its_metrics_and_report(trained: TrainedRun, tmp_path: Path) -> None:
    run = softiou.load(shutil.copytree(trained.directory, tmp_path / "run"))
    metrics = run.evaluate(split="test", progress=False).metrics
    written = run.contents().evaluation
    assert written is not None
    assert written.metrics["miou_d"] == metrics["miou_d"]
    assert "<iframe" in run.report()._repr_html_()
    assert "mIoU" in run._repr_html_() or "miou_d" in run._repr_html_()
