"""A run of version 0.1.0, interrupted at step 7 of 12, in tests/stored: it loads and resumes."""

import json
import shutil
from pathlib import Path

import pytest

from softiou.checkpoints import load_trained, read_checkpoint
from softiou.data import open_dataset
from softiou.evaluation import evaluate
from softiou.training import resume_training

STORED = Path(__file__).parents[1] / "stored" / "supervised"


@pytest.fixture
def stored(tmp_path: Path, shapes: Path) -> Path:
    """A copy of the run; its data set is that of the tests, made anew."""
    run = tmp_path / "stored"
    shutil.copytree(STORED, run)
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("/data/shapes", str(shapes)), encoding="utf-8")
    return run


def test_a_stored_run_loads_and_is_evaluated(stored: Path, shapes: Path) -> None:
    trained = load_trained(stored)
    assert (trained.step, trained.description.classes) == (7, ("ground", "box", "nothing"))
    dataset = open_dataset(str(shapes), "val")
    found = evaluate(trained.model, dataset, precision="fp32", data="", checkpoint="")
    # Version 0.1.0 computed 27.70: it counted the class without a labelled pixel as 0.
    assert found.metrics["miou_d"] == pytest.approx(27.70 * 3 / 2, abs=0.5)


def test_a_stored_run_resumes(stored: Path) -> None:
    said: list[str] = []
    resume_training(stored, say=said.append)
    assert any("from step 7/12" in line for line in said)
    content = read_checkpoint(stored / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 12
    lines = (stored / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines if "val/miou_d" in line] == [6, 12]
