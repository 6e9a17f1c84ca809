"""A 3-D network of MONAI with the drop-in loss, loss(input, target), on hard and on soft labels.

    python examples/monai_volumes.py [hard | soft]

The data are balls in volumes. At its surface a ball covers a part of a voxel: "soft" trains on
these shares (N, 2, D, H, W), "hard" on labels (N, 1, D, H, W) with `to_onehot_y`, as in MONAI.
"""

import sys
from typing import Any

import torch
from monai.inferers.utils import sliding_window_inference
from monai.metrics.meandice import DiceMetric
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from softiou.drop_in.monai import DiceCELoss  # was: from monai.losses import DiceCELoss


def volumes(number: int, side: int = 16, fine: int = 4) -> tuple[Tensor, Tensor]:
    """Return noisy volumes (N, 1, D, H, W), and the shares of ground and ball (N, 2, D, H, W)."""
    places = (torch.arange(side * fine) + 0.5) / (side * fine)
    grid = torch.stack(torch.meshgrid(places, places, places, indexing="ij"))
    centres = torch.rand(number, 3, 1, 1, 1) * 0.4 + 0.3
    radius = torch.rand(number, 1, 1, 1) * 0.15 + 0.15
    ball = ((grid - centres).norm(dim=1) < radius).float().unsqueeze(1)
    share = nn.functional.avg_pool3d(ball, fine)  # 64 points a voxel
    return share + 0.3 * torch.randn(share.shape), torch.cat([1 - share, share], 1)


def train(
    labels: str = "soft", *, steps: int = 60, batch_size: int = 4
) -> tuple[nn.Module, list[float]]:
    """Train, and return the network and the loss of every step."""
    torch.manual_seed(0)
    model = UNet(3, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2))
    # jaccard=True: Jaccard metric loss + cross-entropy
    loss_function = DiceCELoss(softmax=True, to_onehot_y=labels == "hard", jaccard=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        images, target = volumes(batch_size)
        if labels == "hard":
            target = target.argmax(1, keepdim=True)
        loss = loss_function(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def evaluate(model: nn.Module, number: int = 4) -> float:
    """Return the Dice score of the ball in larger volumes, in [0, 1]."""
    images, shares = volumes(number, side=24)
    logits: Any = sliding_window_inference(images, (16, 16, 16), 4, model.eval(), overlap=0.5)
    metric = DiceMetric(include_background=False)
    metric(logits.argmax(1, keepdim=True), shares.argmax(1, keepdim=True))
    return float(metric.aggregate())  # type: ignore[arg-type]


if __name__ == "__main__":
    model, losses = train(*sys.argv[1:])
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, Dice {evaluate(model):.3f}")
