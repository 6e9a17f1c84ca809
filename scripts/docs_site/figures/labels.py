"""The figure of smoothed labels."""

import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from scripts.docs_site.figures.style import BLUE, INK, ORANGE, panels, style
from softiou import targets

SIZE = 24


def _mask() -> torch.Tensor:
    """Return the mask of a disc and a pole, (1, SIZE, SIZE)."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    disc = (rows - 11) ** 2 + (columns - 8) ** 2 <= 36
    pole = (columns >= 19) & (columns <= 20) & (rows > 3)
    return (disc | pole).long().unsqueeze(0)


def smoothing() -> Figure:
    """Draw a mask, its smoothed versions, and a cross-section of each."""
    figure, axes = panels(4, height=2.1, width_ratios=[1, 1, 1, 1.35])
    mask = _mask()
    kinds = (
        ("mask", targets.HardTarget(mask), INK),
        ("boundary, width 2", targets.boundary(mask, epsilon=0.5, width=2), BLUE),
        ("gaussian, σ = 1.5", targets.gaussian(mask, sigma=1.5), ORANGE),  # noqa: RUF001
    )
    shades = LinearSegmentedColormap.from_list("shades", [(*_rgb(BLUE), 0.03), (*_rgb(BLUE), 1.0)])
    row = 11
    with style():
        for axis, (name, target, colour) in zip(axes, kinds, strict=False):
            share = targets.to_probs(target, num_classes=2)[0][0, 1].numpy()
            axis.imshow(share, cmap=shades, vmin=0, vmax=1, interpolation="nearest")
            axis.axhline(row, color=INK, linewidth=0.8, linestyle=":")
            axis.set_title(name, color=colour)
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            for side in axis.spines.values():
                side.set_visible(True)
            cut = axes[3]
            cut.stairs(share[row], color=colour, linewidth=1.6, alpha=0.9, baseline=None)
        cut.set(
            xlim=(0, SIZE), ylim=(0, 1.03), yticks=(0, 0.5, 1), xticks=[], title="along the line"
        )
    return figure


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
