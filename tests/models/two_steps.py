"""Two steps of the supervised recipe on the embedded data, and what must have happened."""

import math

import torch
import torch.nn.functional as F

from softiou.configuration import load_config
from softiou.data import open_dataset
from softiou.models import SegmentationModel
from softiou.recipes import SupervisedRecipe
from softiou.training.resolving import resolve


def batch_of(side: int, count: int = 2) -> dict[str, torch.Tensor]:
    """Scenes of handwritten digits, resized to a square."""
    samples = [open_dataset("digits", "train", labels="hard")[index] for index in range(count)]
    images = torch.stack([sample["image"] for sample in samples])
    masks = torch.stack([sample["target"] for sample in samples])
    return {
        "image": F.interpolate(images.float(), (side, side)).to(torch.uint8),
        "target": F.interpolate(masks[:, None].float(), (side, side)).long()[:, 0],
    }


def fit_two_steps(
    architecture: str, encoder: str, *overrides: str, side: int = 64
) -> SegmentationModel:
    """Train as `softiou train` does; the weights have to move, encoder and heads."""
    settings = {
        "model.architecture": architecture,
        "model.encoder": encoder,
        "model.encoder_weights": "none",
        "optim.learning_rate": 0.001,
        "optim.weight_decay": 0.01,
        "optim.steps": 10,
        "optim.warmup": 0,
    }
    fixed = [f"{key}={value}" for key, value in settings.items()]
    given = load_config(source="digits", overrides=[*fixed, *overrides])
    dataset = open_dataset("digits", "train")
    config = resolve(given, dataset)
    recipe = SupervisedRecipe(
        config, dataset.description, encoder_weights=config.model.encoder_weights
    )
    optimizer = recipe.configure_optimizers()["optimizer"]
    trained = {n: p for n, p in recipe.model.named_parameters() if p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    recipe.model.train()
    batch = batch_of(side)
    for _ in range(2):
        parts = recipe.parts(batch)  # type: ignore[arg-type]
        assert math.isfinite(parts["loss"].item())
        assert ("auxiliary" in parts) == (config.loss.auxiliary > 0)
        optimizer.zero_grad()
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    moved = [name for name, parameter in trained.items() if (parameter != before[name]).any()]
    assert len(moved) > 0.95 * len(trained)  # a channel's ReLU may be dead
    assert any(name.startswith("net.encoder.") for name in moved)
    assert any(name.startswith(("net.segmentation_head.", "net.decoder.")) for name in moved)
    return recipe.model.eval()


def stride_of(model: SegmentationModel) -> int:
    """Pixels a cell of the logits; an image of another size comes back as it was."""
    with torch.no_grad():
        side = 4 * model.input_stride
        cells = model(torch.zeros(1, 3, side, side)).shape[-2:]
        assert cells[0] == cells[1]
        assert model.predict_logits(torch.rand(1, 3, 50, 70)).shape[-2:] == (50, 70)
        assert model.predict_logits(torch.rand(1, 3, 131, 97)).shape[-2:] == (131, 97)
    return side // int(cells[0])
