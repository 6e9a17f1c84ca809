"""The figure of the presets of augmentation."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from scripts.docs_site.figures.style import WIDTH, style
from softiou.configuration.data_sections import PRESETS, Preset
from softiou.configuration.resolved import ResolvedData
from softiou.data import DigitScenes, default_palette
from softiou.training.fitting import augmentation_of

DRAWS = 5
SHOWN: tuple[Preset, ...] = ("street", "aerial", "microscopy", "medical")
ALPHA = 0.55  # opacity of the colours of the classes


def presets() -> Figure:
    """Draw one embedded scene, and crops of it by each preset, with the labels over the images."""
    with style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots(len(SHOWN), DRAWS + 1, squeeze=False)
        scenes = DigitScenes("train", labels="hard")
        sample, side = scenes[1], scenes[1]["image"].shape[-1]
        palette = torch.tensor(default_palette(scenes.description.classes))
        for row, name in zip(axes, SHOWN, strict=True):
            settings = ResolvedData(
                source="digits",
                crop_px=(side, side),
                batch_size=1,
                workers=0,
                augmentation=name,
                **PRESETS[name],
            )
            augment = augmentation_of(settings, ignore_index=255)
            torch.manual_seed(4)
            for axis, shown in zip(
                row, [sample, *(augment(sample) for _ in range(DRAWS))], strict=True
            ):
                axis.imshow(_overlay(shown["image"], shown["target"], palette))
                axis.set(xticks=[], yticks=[])
                axis.grid(visible=False)
            row[0].set_ylabel(name)
    return figure


def _overlay(image: Tensor, target: Tensor, palette: Tensor) -> Tensor:
    """Return an image (H, W, 3) with its classes as an overlay; ignored pixels are grey."""
    known = target < len(palette)
    colours = palette[target.where(known, 0)].where(known.unsqueeze(-1), 128)
    share = ALPHA * (target > 0).unsqueeze(-1)
    return torch.lerp(image.permute(1, 2, 0).float(), colours.float(), share) / 255
