"""Runs that begin with the weights of another run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softiou.checkpoints import load_into, load_trained, read_checkpoint
from softiou.data import DatasetDescription
from softiou.errors import CheckpointError, ConfigError
from softiou.models import ModelSpec, SegmentationModel
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import open_labelled
from softiou.recipes.registry import recipe_for
from softiou.training import CustomParts, resolve_config, resume_training, start_training

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def source(make_shapes: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes with masks, two without."""
    folder: Path = make_shapes(tmp_path_factory.mktemp("data"), train=2, val=2, unlabeled=2)
    return folder


@pytest.mark.parametrize("verb", ["train", "distill", "semi"])
def test_every_recipe_begins_with_the_weights(
    verb: str, source: Path, tiny_config: Make, trained: Any
) -> None:
    settings = {
        "train": "loss.auxiliary=0.4",  # a head that the run does not have
        "distill": f"distillation.teacher={trained.directory}",
        "semi": "semi_supervised.weight=1",
    }
    config = tiny_config(f"model.weights={trained.directory}", settings[verb], source=source)
    data = open_labelled(config, NOTHING_CUSTOM)
    # "imagenet" would have to be downloaded.
    recipe = recipe_for(config).build(resolve_config(config), data, encoder_weights="imagenet")
    expected = load_trained(trained.directory).model.state_dict()
    own = dict(recipe.state_dict())
    for prefix in ("model.", *(["teacher.module."] if verb == "semi" else [])):
        assert all(own[prefix + name].equal(tensor) for name, tensor in expected.items())
    assert any(name.startswith("model.auxiliary.") for name in own) == (verb == "train")


def test_a_resumed_run_does_not_need_them(
    source: Path, tiny_config: Make, trained: Any, tmp_path: Path
) -> None:
    begin = shutil.copytree(trained.directory, tmp_path / "begin")
    fixed = ("optim.learning_rate=1e-12", "optim.steps=2")
    config = tiny_config(f"model.weights={begin}", *fixed, source=source)
    run = start_training(config, directory=tmp_path / "run")
    expected = read_checkpoint(begin / "checkpoints" / "best.ckpt")["state_dict"]
    shutil.rmtree(begin)
    resume_training(run)
    found = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    weights = [name for name in expected if name.endswith("weight")]
    assert all((found[name] - expected[name]).abs().max() < 1e-6 for name in weights)


def test_other_networks_and_classes_are_refused(trained: Any, tiny_config: Make) -> None:
    classes = DatasetDescription(("ground", "box", "nothing"))
    other = SegmentationModel(ModelSpec("unet", "tu-test_efficientnet", 3))
    with pytest.raises(CheckpointError, match=r"has architecture linknet, not unet\. Set"):
        load_into(other, trained.directory, classes)
    same = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3))
    with pytest.raises(CheckpointError, match="the data set: 'box' as class 1 instead of 'crate'"):
        load_into(same, trained.directory, DatasetDescription(("ground", "crate", "nothing")))
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        load_into(same, Path("nowhere"), classes)
    own = CustomParts(model=same)
    with pytest.raises(ConfigError, match=r"model\.weights: load them into your own model"):
        start_training(tiny_config("model.weights=nowhere"), custom=own)
