"""Rotation, elastic deformation and quarter turns of a crop, for images and labels.

Shapes: C channels, h and w of the crop, H and W of the larger source crop, in pixels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CONTROL_POINTS = 4  # of a deformation, per side
_INTERPOLATED = ("image", "soft_logits")


@dataclass(frozen=True)
class Warp:
    """Rotate and deform a crop, then apply quarter turns and mirror top to bottom.

    Args:
        grid: Source of each output pixel, (2, h, w): row and column in the larger crop (H, W); None
            for no rotation and deformation.
        size: (H, W) of the larger crop.
        quarter_turns: Number of counter-clockwise quarter turns, 0 to 3.
        vertical_flip: Whether to mirror top to bottom.
    """

    grid: Tensor | None = None
    size: tuple[int, int] = (1, 1)
    quarter_turns: int = 0
    vertical_flip: bool = False

    def __call__(self, crop: Mapping[str, Any], *, stride: int = 1) -> dict[str, Any]:
        """Return a warped sample: images and logits bilinearly, all others by nearest neighbour.

        `stride` is that of the logits.
        """
        warped = dict(crop)
        for key, value in crop.items():
            if key in _INTERPOLATED:
                warped[key] = self.bilinear(value, stride=stride if key == "soft_logits" else 1)
            elif isinstance(value, Tensor):
                warped[key] = self.nearest(value)
        return warped

    def bilinear(self, picture: Tensor, *, stride: int = 1) -> Tensor:
        """Warp an image (C, H, W), or a map of ceil(H / s) x ceil(W / s) cells with stride s."""
        if self.grid is None:
            return self._turned(picture)
        height, width = self.grid.shape[-2:]
        cells = (math.ceil(height / stride), math.ceil(width / stride))
        places = F.interpolate(self.grid.unsqueeze(0), cells, mode="bilinear")[0]  # cell centres
        limits = torch.tensor(self.size, dtype=torch.float32).view(2, 1, 1)
        grid = ((2 * places + 1) / limits - 1).flip(0).permute(1, 2, 0)  # x first, -1 to 1
        found = F.grid_sample(
            picture.float().unsqueeze(0),
            grid.unsqueeze(0),
            padding_mode="border",
            align_corners=False,
        )[0]
        return self._turned(found if picture.is_floating_point() else found.round_()).to(
            picture.dtype
        )

    def nearest(self, labels: Tensor) -> Tensor:
        """Warp labels (..., H, W) by nearest neighbour."""
        if self.grid is None:
            return self._turned(labels)
        rows, columns = self.grid.round().long()
        rows, columns = rows.clamp(0, self.size[0] - 1), columns.clamp(0, self.size[1] - 1)
        return self._turned(labels[..., rows, columns])

    def _turned(self, crop: Tensor) -> Tensor:
        turned = torch.rot90(crop, self.quarter_turns, (-2, -1)) if self.quarter_turns else crop
        return (turned.flip(-2) if self.vertical_flip else turned).contiguous()


def draw_grid(
    size: tuple[int, int], *, rotation: float, elastic: float
) -> tuple[Tensor | None, tuple[int, int]]:
    """Draw a rotation and a deformation of a crop (h, w) from torch's global CPU generator.

    The angle is uniform in +-rotation degrees. A deformation moves 4 x 4 control points uniformly
    by up to `elastic` of the shorter side in each direction, and interpolates bicubically.

    Returns:
        The grid of a `Warp` (None if both are 0), and the size (H, W) of the crop to read.
    """
    if not (rotation or elastic):
        return None, size
    angle = math.radians(float(torch.empty(()).uniform_(-rotation, rotation)))
    rows, columns = (torch.arange(length) - (length - 1) / 2 for length in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    cosine, sine = math.cos(angle), math.sin(angle)
    grid = torch.stack([cosine * y + sine * x, cosine * x - sine * y])
    if elastic:
        points = torch.empty(1, 2, _CONTROL_POINTS, _CONTROL_POINTS).uniform_(-1, 1)
        moved = F.interpolate(points, size, mode="bicubic", align_corners=True)[0]
        grid += elastic * min(size) * moved
    reach = [math.ceil(2 * float(part.abs().max()) + 1) for part in grid]
    centre = torch.tensor([(length - 1) / 2 for length in reach]).view(2, 1, 1)
    return grid + centre, (reach[0], reach[1])
