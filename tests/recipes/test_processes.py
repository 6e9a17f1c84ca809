"""Training in several processes: one batch, one teacher, one run directory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softiou.checkpoints import load_trained
from softiou.configuration import load_config
from softiou.data import open_dataset
from softiou.errors import ConfigError
from softiou.evaluation import evaluate
from softiou.training import start_training
from softiou.training.processes import is_first, trainer_settings

Make = Callable[..., Any]


def validations(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "val/miou_d" in line]


def torchrun(*arguments: str) -> None:
    """Run the command line in two processes, without the launcher's option parser in between."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "--", "softiou", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def two(make_shapes: Make, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A semi-supervised run of two processes, and the same in one of twice the batch."""
    root = tmp_path_factory.mktemp("processes")
    data = make_shapes(root / "data", train=9, val=3)
    stems = sorted(path.stem for path in (data / "train" / "images").iterdir())
    (data / "splits").mkdir()
    (data / "splits" / "few.txt").write_text("\n".join(stems[:3]))
    settings = [*tiny, "optim.steps=6", "optim.validations=2"]
    torchrun("semi", str(data), "--split", "few", "--out", str(root / "two"), *settings)
    doubled = [*settings, "data.batch_size=4", "data.train_split=few"]
    config = load_config(source=str(data), overrides=doubled, section="semi_supervised")
    return root / "two", start_training(config, directory=root / "one"), data


def test_batches_of_two_processes_are_those_of_one(two: Any) -> None:
    together, alone, _ = two
    ours, theirs = validations(together), validations(alone)
    assert [line["step"] for line in ours] == [3, 6]
    for mine, yours in zip(ours, theirs, strict=True):
        # The labels that were gathered, which no network has a part in.
        for name in ("ground", "box", "nothing"):
            key = f"labels/class/{name}"
            assert mine[key] == pytest.approx(yours[key], rel=1e-5)
    assert ours[0]["labels/class/box"] > 0


def test_both_judge_the_model_that_is_saved(two: Any) -> None:
    run, _, data = two
    last = run / "checkpoints" / "last.ckpt"
    for prefix, weights in (("", "student"), ("teacher_", "teacher")):
        trained = load_trained(last, weights=weights)  # type: ignore[arg-type]
        scored = evaluate(
            trained.model, open_dataset(data, "val"), precision="fp32", data="", checkpoint=""
        )
        logged = validations(run)[-1]
        for name in ("miou_d", "miou_i", "accuracy", "ece_d"):
            assert logged[f"val/{prefix}{name}"] == pytest.approx(scored.metrics[name], abs=1e-3)


def test_one_process_writes(two: Any) -> None:
    run, _, _ = two
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "last.ckpt",
        "best.ckpt",
        "best.calibration.json",
        "best.teacher.calibration.json",
    }
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    assert (run / "report.html").is_file()
    rows = json.loads((run / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["student", "teacher, its average"]


def test_settings_are_those_of_the_launcher(
    monkeypatch: pytest.MonkeyPatch, tiny_config: Make
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert is_first()
    assert trainer_settings() == {"devices": 1}
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "5")
    assert not is_first()
    assert trainer_settings() == {"devices": 4, "num_nodes": 2, "strategy": "ddp"}
    with pytest.raises(ConfigError, match="--out"):
        start_training(tiny_config())
