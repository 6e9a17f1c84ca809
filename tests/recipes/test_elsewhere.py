"""A run that is resumed from another folder, and data with names of any bytes and any length."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import softiou
from conftest import TrainedRun
from softiou.configuration import load_config
from softiou.errors import CheckpointError, DataError
from softiou.training import resume_training, start_training


def rename_all(data: Path, name: bytes) -> None:
    """Put a name before that of every file of a split; names of 255 bytes at most."""
    for file in list(data.glob("*/*/*.png")):
        os.rename(
            os.fsencode(file), os.fsencode(file.parent) + b"/" + name + os.fsencode(file.name)
        )


def start(data: str, tiny: Any, run: Path, steps: int = 2) -> Path:
    settings = [*tiny, f"optim.steps={steps}", "optim.validations=1"]
    return start_training(load_config(source=data, overrides=settings), directory=run)


def test_a_relative_data_set_is_found_from_another_folder(
    shapes: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shapes, tmp_path / "projA" / "data")
    monkeypatch.chdir(tmp_path / "projA")
    run = start("data", tiny, tmp_path / "run")
    written = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert written["data"]["source"] == str(tmp_path / "projA" / "data")
    (tmp_path / "projB").mkdir()
    shutil.copytree(shapes, tmp_path / "projB" / "data")  # another of the same name
    monkeypatch.chdir(tmp_path / "projB")
    resume_training(run)
    shutil.rmtree(tmp_path / "projB" / "data")
    resume_training(run)


def test_other_images_under_the_same_path_are_refused(
    shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    run = start(str(data), tiny, tmp_path / "run")
    first = min((data / "train" / "images").glob("*.png"))
    mask = data / "train" / "masks" / first.name
    for file in (first, mask):
        shutil.copy(file, file.with_name("another.png"))
    with pytest.raises(CheckpointError, match=r"started with other images than .*data has now"):
        resume_training(run)
    for file in (first, mask):
        file.with_name("another.png").unlink()
    resume_training(run)


def test_the_embedded_data_set_is_no_folder(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    run = start("digits", tiny, tmp_path / "run")
    written = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert written["data"]["source"] == "digits"


@pytest.mark.parametrize("name", [b"caf\xe9 \n", b"x" * 236], ids=["bytes", "long"])
def test_every_verb_takes_any_name(name: bytes, trained: TrainedRun, tmp_path: Path) -> None:
    """Evaluation with gallery and report, prediction with overlays, soft labels, fractions."""
    data = Path(shutil.copytree(trained.data, tmp_path / "data"))
    rename_all(data, name)
    run = softiou.load(shutil.copytree(trained.directory, tmp_path / "run"))
    evaluated = run.evaluate(data, split="test", progress=False)
    assert len(evaluated.content["images"]) == 3
    assert softiou.jobs.report(run).path.is_file()
    saved = run.predict(data / "test" / "images", progress=False).save(
        tmp_path / "masks", overlays=True, probabilities=True
    )
    assert (saved.written, saved.failed) == (3, ())
    assert len(list((tmp_path / "masks").iterdir())) == 9
    softiou.label(data, teacher=run, out=tmp_path / "soft", shard_mib=0, progress=False)
    assert len(list((tmp_path / "soft").rglob("*.b2nd"))) == 10
    assert (
        len(softiou.label(data, teacher=run, out=tmp_path / "in", progress=False).stems("train"))
        == 10
    )


def test_a_validation_split_without_a_labelled_pixel_is_named(
    shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    for mask in (data / "val" / "masks").glob("*.png"):
        with Image.open(mask) as stored:
            size = stored.size
        Image.new("L", size, 255).save(mask)
    with pytest.raises(DataError, match=r"split val, but all pixels .* data\.val_split=NAME"):
        start(str(data), tiny, tmp_path / "run")
