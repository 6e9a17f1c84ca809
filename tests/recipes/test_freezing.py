"""Runs whose encoder is frozen, or recomputes its activations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softiou.checkpoints import load_trained, read_checkpoint
from softiou.configuration import load_config
from softiou.errors import ConfigError
from softiou.models.memory import kept_for_gradient
from softiou.recipes import SupervisedRecipe
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import open_labelled
from softiou.recipes.registry import recipe_for
from softiou.training import CustomParts, resolve_config, resume_training, start_training

Make = Callable[..., Any]
FROZEN = "model.freeze_encoder=true"
RECOMPUTED = "model.gradient_checkpointing=true"


def _checkpoint(run: Path) -> dict[str, Any]:
    return dict(read_checkpoint(run / "checkpoints" / "last.ckpt"))


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """Return the names of the tensors that are equal bit by bit."""
    assert one.keys() == other.keys()
    return {name for name in one if torch.equal(one[name], other[name])}


@pytest.mark.parametrize(
    "settings", [(), ("optim.ema=0.5",), ("loss.auxiliary=0.4", "optim.optimizer=sgd")]
)
def test_frozen_encoder_stays_and_the_decoder_learns(
    settings: tuple[str, ...], tiny_config: Make, trained: Any, tmp_path: Path
) -> None:
    config = tiny_config(FROZEN, f"model.weights={trained.directory}", "optim.steps=2", *settings)
    found = _checkpoint(start_training(config, directory=tmp_path / "run"))
    before = load_trained(trained.directory).model.state_dict()
    after = {
        name.removeprefix("model."): tensor
        for name, tensor in found["state_dict"].items()
        if name.removeprefix("model.") in before
    }
    encoder = {name for name in before if name.startswith("net.encoder.")}
    assert {name.rpartition(".")[2] for name in encoder} > {"weight", "bias", "running_mean"}
    kept = _same(before, after)
    assert kept > encoder
    assert not {name for name in kept - encoder if name.endswith("weight")}
    others = [tensor for name, tensor in found["state_dict"].items() if ".encoder." not in name]
    groups = found["optimizer_states"][0]["param_groups"]
    assert len(groups) == 2  # with and without weight decay
    assert sum(len(group["params"]) for group in groups) < len(others)
    assert {group["initial_lr"] for group in groups} == {config.optim.learning_rate}


def test_recipe_of_a_frozen_encoder(tiny_config: Make, trained: Any) -> None:
    def recipe_of(*settings: str) -> SupervisedRecipe:
        config = tiny_config(f"model.weights={trained.directory}", *settings)
        data = open_labelled(config, NOTHING_CUSTOM)
        built = recipe_for(config).build(resolve_config(config), data)
        assert isinstance(built, SupervisedRecipe)
        return built.train()

    recipe, whole = recipe_of(FROZEN), recipe_of()
    groups = recipe.configure_optimizers()["optimizer"].param_groups
    trainable = {id(weights) for group in groups for weights in group["params"]}
    net = recipe.model.net
    decoder = [*net.decoder.parameters(), *net.segmentation_head.parameters()]
    assert trainable == {id(weights) for weights in decoder}
    assert net.decoder.training
    assert not any(module.training for module in net.encoder.modules())
    kept = {}
    for name, one in (("frozen", recipe), ("whole", whole)):
        with kept_for_gradient() as found:
            features = one.model.net.encoder(torch.rand(2, 3, 32, 32))
        kept[name] = sum(found.values())
        assert features[-1].requires_grad == (name == "whole")
    assert kept["frozen"] == 0
    assert kept["whole"] > 0


@pytest.mark.parametrize("verb", ["train", "semi"])
def test_interrupted_run_ends_as_if_it_had_not_been(
    verb: str, make_shapes: Make, tiny: tuple[str, ...], trained: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = make_shapes(tmp_path / "data", train=4, val=2, unlabeled=2)
    settings = [*tiny, FROZEN, f"model.weights={trained.directory}"]
    settings += ["optim.steps=4", "optim.validations=2"]
    section = "semi_supervised" if verb == "semi" else None
    config = load_config(source=str(data), overrides=settings, section=section)
    start_training(config, directory=tmp_path / "whole")
    recipe = recipe_for(config)
    step = recipe.training_step

    def failing(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == 3:
            raise RuntimeError("interrupted")
        return step(self, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(recipe, "training_step", failing)
        with pytest.raises(RuntimeError, match="interrupted"):
            start_training(config, directory=tmp_path / "run")
    assert _checkpoint(tmp_path / "run")["global_step"] == 2
    resume_training(tmp_path / "run")
    one, other = (_checkpoint(tmp_path / name)["state_dict"] for name in ("whole", "run"))
    assert _same(one, other) == set(one)
    before = load_trained(trained.directory).model.state_dict()
    for name in (name for name in one if "net.encoder." in name):  # the mean teacher's as well
        assert torch.equal(one[name], before["net." + name.partition("net.")[2]]), name


@pytest.mark.parametrize("settings", [(), ("optim.accumulate=2", "optim.ema=0.9")])
def test_recomputing_changes_no_run(
    settings: tuple[str, ...], tiny_config: Make, tmp_path: Path
) -> None:
    """Statistics of batch norms, which are updated in each pass, included."""
    runs = [
        _checkpoint(start_training(tiny_config(*settings, own), directory=tmp_path / own))
        for own in (RECOMPUTED, "model.gradient_checkpointing=false")
    ]
    one, other = (run["state_dict"] for run in runs)
    assert any(name.endswith("encoder.model.bn1.num_batches_tracked") for name in one)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((FROZEN,), r"model: freeze_encoder would keep random weights: set encoder_weights"),
        ((FROZEN, RECOMPUTED, "model.encoder_weights=imagenet"), r"excludes freeze_encoder"),
        ((RECOMPUTED, "model.compile=true"), r"gradient_checkpointing excludes .* and compile"),
    ],
)
def test_what_excludes_what(settings: tuple[str, ...], message: str, tiny_config: Make) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(*settings)


def test_an_encoder_that_cannot_recompute_is_named_before_training(
    tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(RECOMPUTED, "model.encoder=resnet18")
    with pytest.raises(ConfigError, match=r"model.gradient_checkpointing: resnet18 does not"):
        start_training(config, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Own(nn.Module):
    """A frozen convolution, an adapter beside it, and a head."""

    def __init__(self, *, encoder: bool = False) -> None:
        super().__init__()
        base = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.encoder = base if encoder else None
        self.base = base if not encoder else nn.Identity()
        self.adapter = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.base(images) if self.encoder is None else self.encoder(images)
        logits: Tensor = self.head((features + self.adapter(images)).relu())
        return logits


def test_frozen_weights_of_ones_own_model_are_not_trained(
    tiny_config: Make, tmp_path: Path
) -> None:
    net = Own()
    net.base.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run = start_training(
        tiny_config("optim.steps=2"), directory=tmp_path / "run", custom=CustomParts(model=net)
    )
    found = _checkpoint(run)
    own = {name: found["state_dict"][f"model.net.{name}"] for name in before}
    assert _same(before, own) == {"base.0.weight", "base.0.bias", "base.1.weight", "base.1.bias"}
    groups = found["optimizer_states"][0]["param_groups"]
    assert sum(len(group["params"]) for group in groups) == 4  # of adapter and head


def test_encoder_of_ones_own_model_is_frozen(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(FROZEN, "model.encoder_weights=imagenet", "optim.steps=2")
    net = Own(encoder=True)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    start_training(config, directory=tmp_path / "run", custom=CustomParts(model=net))
    kept = _same(before, net.state_dict())
    assert kept == {name for name in before if name.startswith("encoder.")}
    for settings, message in (
        (config, r"freeze_encoder: your own model has no submodule `encoder`"),
        (tiny_config(RECOMPUTED), r"gradient_checkpointing: your own model does not support it"),
    ):
        with pytest.raises(ConfigError, match=message):
            start_training(settings, directory=tmp_path / "no", custom=CustomParts(model=Own()))
