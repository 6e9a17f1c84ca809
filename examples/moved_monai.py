"""A training script of MONAI with one changed import line: `python -m examples.moved_monai`."""

import torch
from monai.networks.nets.unet import UNet

from softiou.drop_in import monai as losses  # was: from monai import losses


def volumes(number: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy volumes (N, 1, D, H, W) of a ball, and their labels 0 and 1, of the same shape."""
    axes = torch.meshgrid(*[torch.arange(size)] * 3, indexing="ij")
    centres = torch.randint(5, size - 5, (3, number, 1, 1, 1, 1))
    distance = sum((axis - centre) ** 2 for axis, centre in zip(axes, centres, strict=True))
    labels = (torch.as_tensor(distance) < 20).float()
    return labels + 0.5 * torch.randn(labels.shape), labels


def train(steps: int = 10) -> list[float]:
    """Train a network, and return the loss of every step."""
    torch.manual_seed(0)
    model = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(8, 16), strides=(2,))
    settings = {"softmax": True, "to_onehot_y": True}
    losses_of = [
        losses.DiceCELoss(**settings, include_background=False, lambda_ce=0.5),
        losses.DiceFocalLoss(**settings, squared_pred=True, gamma=1.5),
        losses.TverskyLoss(**settings, alpha=0.3, beta=0.7, batch=True),
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(steps):
        images, labels = volumes(2)
        outputs = model(images)
        loss = torch.stack([loss_of(outputs, labels) for loss_of in losses_of]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history


if __name__ == "__main__":
    print(train())
