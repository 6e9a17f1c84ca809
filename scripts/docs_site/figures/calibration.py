"""The figure of calibration: a reliability diagram."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scripts.docs_site.figures.style import BLUE, GREY, INK, ORANGE, panels, style
from softiou.metrics import ExpectedCalibrationError
from softiou.temperature import fit_scaling

BINS, PIXELS, CLASSES = 10, 40_000, 3


def reliability() -> Figure:
    """Draw reliability diagrams of over-confident logits before and after temperature scaling."""
    figure, axes = panels(2, height=3.0, sharey=True)
    random = torch.Generator().manual_seed(0)
    honest = torch.randn(PIXELS, CLASSES, generator=random) * 1.4
    target = torch.multinomial(honest.softmax(1), 1, generator=random)[:, 0]
    logits = 2.2 * honest  # the same predictions, but over-confident
    scaling = fit_scaling(logits, target)
    with style():
        _draw(axes[0], logits, target, title="as trained", colour=ORANGE)
        calibrated, temperature = scaling.apply(logits), 1 / scaling.scale[0]
        _draw(axes[1], calibrated, target, title=f"T = {temperature:.2f}", colour=BLUE)
        axes[0].set_ylabel("accuracy")
    return figure


def _draw(axis: Axes, logits: Tensor, target: Tensor, *, title: str, colour: str) -> None:
    probs = logits.softmax(1)
    metric = ExpectedCalibrationError(CLASSES, num_bins=BINS)
    metric.update(probs.T.unsqueeze(0), target.unsqueeze(0))
    error = 100 * float(metric.compute())
    confidence, preds = probs.max(1)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    count = torch.bincount(bins, minlength=BINS)
    correct = torch.bincount(bins, weights=(preds == target).double(), minlength=BINS) / count
    said = torch.bincount(bins, weights=confidence.double(), minlength=BINS) / count
    middle = (torch.arange(BINS) + 0.5) / BINS
    axis.bar(middle.numpy(), correct.numpy(), 0.085, color=colour, alpha=0.75, label="accuracy")
    axis.plot(said, said, "_", color=INK, markersize=13, markeredgewidth=2, label="confidence")
    axis.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle="--")
    axis.set(xlim=(0.3, 1), ylim=(0, 1), xlabel="confidence", title=f"{title}: ECE {error:.1f} %")
    axis.legend(loc="upper left")
