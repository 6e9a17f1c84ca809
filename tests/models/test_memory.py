"""What a network keeps for its gradient, before it is run."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from softiou.models import ModelSpec, SegmentationModel
from softiou.models.memory import bytes_for_gradient


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
