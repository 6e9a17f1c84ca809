"""What a network keeps for its gradient, before it is run, and recomputing it."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from softiou.errors import ConfigError
from softiou.models import ModelSpec, SegmentationModel
from softiou.models.memory import bytes_for_gradient, kept_for_gradient, recompute_activations


class Small(nn.Module):
    """A convolution without bias, and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.convolution(images / 255))


def test_by_hand() -> None:
    pixels, weights = 2 * 5 * 7, 4 * 3
    expected = 4 * (3 * pixels + 4 * pixels + weights)  # input, result and weights, in float32
    assert bytes_for_gradient(Small(), (2, 3, 5, 7)) == expected


@pytest.mark.parametrize("architecture", ["linknet", "deeplabv3plus"])
def test_is_what_a_real_pass_keeps(architecture: str) -> None:
    model = SegmentationModel(ModelSpec(architecture, "tu-test_efficientnet", 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = bytes_for_gradient(model, (2, 3, 64, 96))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        logits = model(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    assert logits.requires_grad
    assert found == pytest.approx(sum(kept.values()), rel=0.01)


def test_a_model_that_looks_at_its_numbers_is_not_counted() -> None:
    class Curious(Small):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) if images.sum().item() else images

    assert bytes_for_gradient(Curious(), (1, 3, 4, 4)) == 0


def _pass(model: SegmentationModel, images: Tensor) -> tuple[int, list[Tensor]]:
    """Return the bytes kept for the gradient of a pass, and that gradient."""
    torch.manual_seed(0)
    with kept_for_gradient() as kept:
        logits = model(images)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(logits.square().mean(), weights, allow_unused=True)
    return sum(kept.values()), [one for one in gradients if one is not None]


@pytest.mark.parametrize(
    ("architecture", "encoder", "share"),
    [
        ("fpn", "tu-test_resnet", 0.95),  # of which the decoder has most
        ("deeplabv3plus", "tu-test_efficientnet", 0.9),
        ("upernet", "tu-convnext_atto", 0.85),
        ("dpt", "tu-test_vit", 0.99),  # with a decoder of 25 million weights
        ("eomt", "tu-test_vit", 0.4),  # with queries that enter in recomputed blocks
        ("linear", "tu-test_vit", 0.25),
    ],
)
def test_recomputed_activations_give_the_same_gradients(
    architecture: str, encoder: str, share: float
) -> None:
    torch.manual_seed(0)
    model = SegmentationModel(ModelSpec(architecture, encoder, 3)).train()
    images = torch.rand(2, 3, 64, 64)
    before, expected = _pass(model, images)
    recompute_activations(model)
    after, found = _pass(model, images)
    assert len(found) == len(expected) > 10
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)
    assert after < share * before
    assert bytes_for_gradient(model, (2, 3, 64, 64)) == pytest.approx(after, rel=0.05)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-hrnet_w18_small"])
def test_other_encoders_keep_their_activations(encoder: str) -> None:
    with torch.device("meta"):
        model = SegmentationModel(ModelSpec("fpn", encoder, 3))
    with pytest.raises(ConfigError, match=rf"model.gradient_checkpointing: {encoder}.*tu-resnet50"):
        recompute_activations(model)
