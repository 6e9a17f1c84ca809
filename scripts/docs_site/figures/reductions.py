"""Figures of the reductions: the sets that are averaged, and why counts are summed first."""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from scripts.docs_site.figures.style import BLUE, GREEN, GREY, ORANGE, panels, style
from softiou import JaccardMetricLoss
from softiou.metrics import OverlapCounts, mean_score, overlap_counts

SIZE = 8
GROUND, HIT, MISSED, FALSE = range(4)
COLOURS = ((0.5, 0.55, 0.62, 0.12), GREEN, BLUE, ORANGE)
REDUCTIONS = {"dataset": "mIoUᴰ", "image": "mIoUᴵ", "class": "mIoUᶜ"}


def example() -> tuple[Tensor, Tensor]:
    """Return target and prediction (3, SIZE, SIZE): a large object, a small object, no object."""
    target = torch.zeros(3, SIZE, SIZE, dtype=torch.long)
    preds = target.clone()
    target[0, 1:7, 1:7] = preds[0, 1:7, 2:7] = 1
    target[1, 1:3, 1:3] = preds[1, 2:4, 1:3] = 1
    return target, preds


def worked_example() -> Figure:
    """Draw three images, the IoU of each class in each of them, and the three means."""
    figure, axes = panels(4, height=2.3, width_ratios=[1, 1, 1, 1.1])
    target, preds = example()
    counts = overlap_counts(preds, target, num_classes=2)
    scores = 100 * counts.iou()  # (N, C), NaN where a class does not occur
    with style():
        for n, axis in enumerate(axes[:3]):
            _show(axis, target[n], preds[n])
            thing = "none" if scores[n, 1].isnan() else f"{scores[n, 1]:.0f} %"
            axis.set(title=f"image {n + 1}", xlabel=f"ground {scores[n, 0]:.0f} %\nthing {thing}")
        values = [100 * float(mean_score(counts, OverlapCounts.iou, per=per)) for per in REDUCTIONS]
        bars = axes[3].bar(list(REDUCTIONS.values()), values, 0.6, color=GREY, alpha=0.6)
        axes[3].bar_label(bars, fmt="%.1f")
        axes[3].set(ylim=(0, 110), yticks=[], title="means, %")
        axes[3].grid(visible=False)
    return figure


def _show(axis: Axes, target: Tensor, preds: Tensor) -> None:
    kind = torch.full_like(target, GROUND)
    kind[(target == 1) & (preds == 1)] = HIT
    kind[(target == 1) & (preds == 0)] = MISSED
    kind[(target == 0) & (preds == 1)] = FALSE
    line = (0.5, 0.55, 0.62, 0.35)
    colours = ListedColormap(COLOURS)
    axis.pcolormesh(kind.flip(0), cmap=colours, vmin=0, vmax=3, edgecolors=line, linewidth=0.5)
    axis.set(aspect="equal", xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)


def processes() -> Figure:
    """Draw, for random pairs of batches, the mean of their losses over the loss of both."""
    figure, (left, right) = panels(2, height=2.9)
    loss = JaccardMetricLoss(smooth=0.0)
    joined: list[float] = []
    mean: list[float] = []
    alike: list[float] = []
    for seed in range(60):
        logits, target = _batches(seed)
        gradients = []
        for parts in ([slice(0, 2)], [slice(0, 1), slice(1, 2)]):
            leaf = logits.clone().requires_grad_()
            value = torch.stack([loss(leaf[part], target[part]) for part in parts]).mean()
            (joined if len(parts) == 1 else mean).append(value.item())
            gradients.append(torch.autograd.grad(value, leaf)[0].flatten())
        alike.append(float(torch.cosine_similarity(gradients[0], gradients[1], dim=0)))
    with style():
        left.plot(joined, mean, "o", color=ORANGE, markersize=4, alpha=0.8)
        left.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle="--")
        low, high = 0.9 * min(joined + mean), 1.05 * max(joined + mean)
        left.set(xlim=(low, high), ylim=(low, high), title="value", aspect="equal")
        left.set(xlabel="loss of the joined batch", ylabel="mean of two losses")
        right.hist(alike, bins=12, color=ORANGE, alpha=0.75, label="losses averaged")
        right.axvline(1, color=BLUE, label="statistics joined")
        right.set(title="gradient", xlabel="cosine with that of the joined batch", ylabel="batches")
        right.legend(loc="upper left")
    return figure


def _batches(seed: int) -> tuple[Tensor, Tensor]:
    """Return logits and labels of two processes whose images hold different shares of a class."""
    random = torch.Generator().manual_seed(seed)
    shares = torch.rand(2, 1, generator=random) ** 3
    target = (torch.rand(2, 256, generator=random) < shares).long()
    right = torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    skill = torch.rand(2, 1, 1, generator=random) * 3
    return right * skill + torch.randn(2, 2, 256, generator=random), target
