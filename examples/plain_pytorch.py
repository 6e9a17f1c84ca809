"""The Jaccard metric loss in a plain PyTorch loop, on hard or on soft labels.

    python examples/plain_pytorch.py [hard | soft]

The embedded digits come with the share of each pixel that a digit covers: "soft" trains on these
shares, "hard" on the class with the largest share. The loss is called in the same way.
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from softiou import JaccardMetricLoss
from softiou.data import DigitScenes
from softiou.metrics import MeanIoU


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Images (3, 64, 64) in [-0.5, 0.5] and their labels, (64, 64) or (11, 64, 64)."""

    def __init__(self, split: str, labels: str, size: int) -> None:
        self.scenes = DigitScenes(split, labels="soft" if labels == "soft" else "hard", size=size)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one image and its labels."""
        scene = self.scenes[index]
        return scene["image"] / 255 - 0.5, scene["target"]


def network(num_classes: int = 11) -> nn.Module:
    """Return a small network whose logits have a quarter of the image's height and width."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, stride=2, padding=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, num_classes, 1),
    )


def train(
    labels: str = "soft", *, steps: int = 200, batch_size: int = 8
) -> tuple[nn.Module, list[float]]:
    """Train, and return the network and the loss of every step."""
    torch.manual_seed(0)
    model = network()
    # A quarter of cross-entropy, as in the paper. `upsample` interpolates the logits to the size of
    # the labels inside the loss, without storing them at that size.
    loss_function = JaccardMetricLoss(cross_entropy=0.25, upsample="bilinear")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = DataLoader(Scenes("train", labels, steps * batch_size), batch_size, shuffle=True)
    losses = []
    for images, target in loader:
        loss = loss_function(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def evaluate(model: nn.Module, size: int = 32) -> float:
    """Return the mean IoU over scenes that were not trained on, in [0, 1]."""
    metric = MeanIoU(num_classes=11)
    for images, target in DataLoader(Scenes("val", "hard", size), batch_size=8):
        logits = F.interpolate(model.eval()(images), target.shape[-2:], mode="bilinear")
        metric.update(logits.argmax(1), target)
    return metric.compute().item()


if __name__ == "__main__":
    model, losses = train(*sys.argv[1:])
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, mean IoU {evaluate(model):.3f}")
