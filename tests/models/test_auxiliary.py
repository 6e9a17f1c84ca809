"""The auxiliary head: a part of training, and of nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from softiou.checkpoints import load_trained
from softiou.data import open_dataset
from softiou.models import ModelSpec, SegmentationModel, freeze_unused
from softiou.models.auxiliary import AuxiliaryHead
from softiou.recipes import SupervisedRecipe
from softiou.recipes.schedule import parameter_groups
from softiou.training import start_training

MakeConfig = Any
ENCODER = "tu-test_resnet"
WEIGHT = 0.25


def _model(architecture: str = "upernet", *, encoder: str = ENCODER) -> SegmentationModel:
    return SegmentationModel(ModelSpec(architecture, encoder, 3, auxiliary=True))


def test_head_is_that_of_the_papers() -> None:
    head = AuxiliaryHead(64, 5)
    shapes = [tuple(weight.shape) for weight in head.parameters()]
    assert shapes == [(256, 64, 3, 3), (256,), (256,), (5, 256, 1, 1), (5,)]
    assert head(torch.zeros(2, 64, 6, 8)).shape == (2, 5, 6, 8)


@pytest.mark.parametrize(
    ("architecture", "encoder", "output_stride", "stride", "channels"),
    [
        ("upernet", "resnet18", None, 16, 256),
        ("deeplabv3", "resnet18", None, 8, 256),
        ("pspnet", "resnet18", 8, 8, 256),
        ("pspnet", "resnet18", None, 4, 64),  # cut off after stride 8
        ("dpt", "tu-test_vit", None, 16, 64),
        ("pan", "resnet18", None, 16, 256),
    ],
)
def test_it_sees_the_second_last_stage(
    architecture: str, encoder: str, output_stride: int | None, stride: int, channels: int
) -> None:
    spec = ModelSpec(architecture, encoder, 3, output_stride=output_stride, auxiliary=True)
    model = SegmentationModel(spec).eval()
    assert model.auxiliary is not None
    assert model.auxiliary[0].in_channels == channels
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        logits, auxiliary = model.forward_auxiliary(images)
        assert auxiliary.shape == (2, 3, 64 // stride, 96 // stride)
        assert torch.equal(logits, model(images))
        _, of_first = model.forward_auxiliary(images, count=1)
    torch.testing.assert_close(of_first, auxiliary[:1])


def test_inference_never_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model().eval()

    def fail(*_: object) -> None:
        raise AssertionError("the auxiliary head was run")

    monkeypatch.setattr(model.auxiliary, "forward", fail)
    assert model.predict_logits(torch.rand(1, 3, 50, 70)).shape == (1, 3, 50, 70)
    with pytest.raises(AssertionError, match="was run"):
        model.forward_auxiliary(torch.rand(1, 3, 64, 64))
    assert not model.net.encoder._forward_hooks  # taken away, whatever has happened


def test_without_one_it_cannot_be_run() -> None:
    model = SegmentationModel(ModelSpec("unet", ENCODER, 3))
    assert model.auxiliary is None
    with pytest.raises(RuntimeError, match="without an auxiliary head"):
        model.forward_auxiliary(torch.rand(1, 3, 32, 32))


def test_its_weights_are_fast_ones() -> None:
    model = _model()
    groups = parameter_groups(model, learning_rate=1.0, encoder_rate=0.1, weight_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert model.auxiliary is not None
    assert {rates[id(p)] for p in model.auxiliary.parameters()} == {1.0}
    assert {rates[id(p)] for p in model.encoder_parameters()} == {0.1}
    assert len(rates) == len(list(model.parameters()))


# In the recipes


def test_supervised_loss_is_the_weighted_sum(tiny_config: MakeConfig) -> None:
    config = tiny_config(
        f"loss.auxiliary={WEIGHT}", "model.architecture=upernet", f"model.encoder={ENCODER}"
    )
    description = open_dataset(config.data.source, "train").description
    recipe = SupervisedRecipe(config, description, encoder_weights="none").eval()
    batch: Any = {
        "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        "target": torch.randint(0, 3, (2, 64, 64)),
    }
    parts = recipe.parts(batch)
    logits, auxiliary = recipe.model.forward_auxiliary(batch["image"])
    own, other = (recipe.loss(one, batch["target"]).item() for one in (logits, auxiliary))
    assert parts["auxiliary"].item() == pytest.approx(other)
    assert parts["loss"].item() == pytest.approx(own + WEIGHT * other)
    assert not parts["auxiliary"].requires_grad
    parts["loss"].backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for n, p in recipe.model.named_parameters() if n.startswith("auxiliary.")]
    assert len(gradients) == 5
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_a_run_with_one(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(f"loss.auxiliary={WEIGHT}", "optim.steps=2", "optim.validations=1")
    run = start_training(config, directory=tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("train/auxiliary" in line for line in lines)
    trained = load_trained(run)
    assert trained.model.spec.auxiliary
    assert trained.model.auxiliary is not None
    assert "auxiliary: 0.25" in (run / "config.yaml").read_text()


# Weights that nothing depends on


@pytest.mark.parametrize(
    ("architecture", "encoder", "frozen"),
    [
        ("unet", "resnet18", ()),
        ("pspnet", "resnet18", ("net.encoder.layer3.", "net.encoder.layer4.")),
        ("dpt", "tu-test_vit", ("net.encoder.model.",)),
    ],
)
def test_what_no_logit_depends_on_is_frozen(
    architecture: str, encoder: str, frozen: tuple[str, ...]
) -> None:
    model = SegmentationModel(ModelSpec(architecture, encoder, 3, auxiliary=True))
    model.net.decoder.eval()
    modes = [module.training for module in model.modules()]
    memories = {name: buffer.clone() for name, buffer in model.named_buffers()}
    names = freeze_unused(model)
    assert bool(names) == bool(frozen)
    assert all(name.startswith(frozen) for name in names)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(buffer, memories[name]) for name, buffer in model.named_buffers())
    # Exactly the others receive a gradient.
    model.train()
    logits, auxiliary = model.forward_auxiliary(torch.rand(2, 3, 64, 64))
    (logits.square().sum() + auxiliary.square().sum()).backward()  # type: ignore[no-untyped-call]
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == names
    assert freeze_unused(model) == []
