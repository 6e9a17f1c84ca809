"""A training script of segmentation_models_pytorch in which one import line was changed.

The losses are those of the original: `python -m examples.moved_smp` prints the same numbers with
either import.
"""

import segmentation_models_pytorch as smp
import torch

from softiou.drop_in import smp as losses  # was: from segmentation_models_pytorch import losses


def discs(number: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images (N, 3, H, W) of a disc and a square, and their labels 0, 1, 2 (N, H, W)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centres = torch.randint(6, size - 6, (2, 2, number, 1, 1))
    disc = (y - centres[0, 0]) ** 2 + (x - centres[0, 1]) ** 2 < 36
    square = ((y - centres[1, 0]).abs() < 5) & ((x - centres[1, 1]).abs() < 5)
    labels = torch.where(square, 2, disc.long())
    images = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    return images + 0.5 * torch.randn(images.shape), labels


def train(steps: int = 10) -> list[float]:
    """Train a network, and return the loss of every step."""
    torch.manual_seed(0)
    model = smp.Unet(
        "mobilenet_v2",
        encoder_weights=None,
        encoder_depth=3,
        decoder_channels=(16, 16, 8),
        classes=3,
    )
    dice = losses.DiceLoss("multiclass", ignore_index=255)
    focal = losses.FocalLoss("multiclass", gamma=2.0)
    lovasz = losses.LovaszLoss("multiclass", per_image=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(steps):
        images, labels = discs(4)
        logits = model(images)
        loss = dice(logits, labels) + focal(logits, labels) + lovasz(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history


if __name__ == "__main__":
    print(train())
