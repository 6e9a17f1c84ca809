"""Figures of the overlap losses: the sums they use, and their minima."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scripts.docs_site.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, panels, style
from softiou import DiceSemimetricLoss, JaccardMetricLoss, OverlapLoss, SoftJaccardLoss, TverskyLoss


def _loss_of(loss: OverlapLoss, p: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each row of p, (K, pixels), against y, (pixels,): (K,)."""
    (statistics,) = loss.statistics(p.unsqueeze(1), y.expand_as(p).unsqueeze(1))
    return loss.distance(statistics)[:, 0]


def _plain(kind: type[OverlapLoss], **settings: float) -> OverlapLoss:
    """Return a loss that takes probabilities and has no smoothing term."""
    return kind(activation="none", smooth=0.0, **settings)  # type: ignore[arg-type]


def overlap() -> Figure:
    """Draw masses along a line of pixels: p, y, their minimum and their difference."""
    figure, (axis,) = panels(height=2.6)
    x = torch.linspace(0, 1, 200)
    y = torch.sigmoid((x - 0.22) * 40) * torch.sigmoid((0.62 - x) * 40)
    p = 0.92 * torch.sigmoid((x - 0.38) * 22) * torch.sigmoid((0.8 - x) * 22)
    both = torch.minimum(p, y)
    with style():
        axis.fill_between(x, both, color=GREEN, alpha=0.35, linewidth=0)
        axis.fill_between(x, both, y, color=BLUE, alpha=0.25, linewidth=0)
        axis.fill_between(x, both, p, color=ORANGE, alpha=0.25, linewidth=0)
        axis.plot(x, y, color=BLUE)
        axis.plot(x, p, color=ORANGE)
        axis.text(0.15, 0.9, "target y", color=BLUE, ha="center")
        axis.text(0.86, 0.72, "prediction p", color=ORANGE, ha="center")
        axis.text(0.5, 0.35, "tp = (P + Y − D) / 2", ha="center", weight="bold")  # noqa: RUF001
        axis.text(0.305, 0.5, "fn = Y − tp", ha="center")  # noqa: RUF001
        axis.text(0.71, 0.35, "fp = P − tp", ha="center")  # noqa: RUF001
        axis.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="pixels", yticks=(0, 1))
        axis.set_xticks([])
        axis.grid(visible=False)
    return figure


def minimum() -> Figure:
    """Draw the losses of one pixel against its prediction, for two soft labels."""
    figure, axes = panels(2, height=2.9, sharey=True)
    p = torch.linspace(0, 1, 201).view(-1, 1)
    losses = (
        ("soft Jaccard (product)", _plain(SoftJaccardLoss), ORANGE, "--"),
        ("JML, form 1", _plain(JaccardMetricLoss, form=1), BLUE, "-"),
        ("JML, form 2", _plain(JaccardMetricLoss, form=2), GREEN, "-."),
    )
    with style():
        for axis, y in zip(axes, (0.3, 0.7), strict=True):
            for name, loss, colour, line in losses:
                values = _loss_of(loss, p, torch.tensor([y]))
                axis.plot(p[:, 0], values, line, color=colour, label=name)
                least = int(values.argmin())
                axis.plot(p[least], values[least], "o", color=colour, clip_on=False, zorder=5)
            axis.axvline(y, color=INK, linewidth=0.8, linestyle=":")
            axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="prediction p", title=f"label y = {y}")
        axes[0].set_ylabel("loss")
        axes[1].legend(loc="upper right", borderaxespad=0)
    return figure


def mixture() -> Figure:
    """Draw sums of two losses, for a label of 1 and a teacher of 0.7, and the minimum of each."""
    figure, (left, right) = panels(2, height=2.9)
    p = torch.linspace(0, 1, 201).view(-1, 1)
    label, teacher = torch.ones(1), torch.tensor([0.7])
    loss, weights = _plain(JaccardMetricLoss), torch.linspace(0, 1, 101)
    both = [(1 - w) * _loss_of(loss, p, label) + w * _loss_of(loss, p, teacher) for w in weights]
    mixed = [_loss_of(loss, p, (1 - w) * label + w * teacher) for w in weights]
    with style():
        for number, line in ((30, "--"), (50, "-"), (70, "-.")):
            left.plot(p[:, 0], both[number], line, color=ORANGE, label=f"w = {weights[number]:.1f}")
        left.plot(p[:, 0], mixed[50], color=BLUE, label="one loss, w = 0.5")
        left.set(xlim=(0, 1), ylim=(0, 1), xlabel="prediction p", ylabel="loss")
        left.legend(loc="upper right", borderaxespad=0)
        for name, losses, colour in (
            ("sum of two losses", both, ORANGE),
            ("one loss of the mixture", mixed, BLUE),
        ):
            least = [float(p[int(one.argmin())]) for one in losses]
            right.plot(weights, least, color=colour, label=name)
        right.set(xlim=(0, 1), ylim=(0.6, 1.05), xlabel="weight w of the teacher")
        right.set_ylabel("best prediction p")
        right.legend(loc="lower left", borderaxespad=0)
    return figure


def forms() -> Figure:
    """Draw level lines of three losses over the predictions of two pixels."""
    figure, axes = panels(3, height=2.75, sharey=True)
    line, y = torch.linspace(0, 1, 61), torch.tensor([0.3, 0.7])
    p = torch.cartesian_prod(line, line)
    losses = (
        ("soft Jaccard (product)", _plain(SoftJaccardLoss), ORANGE),
        ("JML, form 1", _plain(JaccardMetricLoss, form=1), BLUE),
        ("JML, form 2", _plain(JaccardMetricLoss, form=2), GREEN),
    )
    with style():
        for axis, (name, loss, colour) in zip(axes, losses, strict=True):
            values = _loss_of(loss, p, y)
            levels = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
            square = values.view(61, 61).T  # rows: the second pixel
            axis.contour(line, line, square, levels=levels, colors=colour, linewidths=1)
            least = p[int(values.argmin())]
            axis.plot(*y, "x", color=INK, markersize=9, markeredgewidth=2)
            axis.plot(*least, "o", color=colour, markersize=7, clip_on=False)
            axis.set(title=name, xlabel="first pixel", aspect="equal", xlim=(0, 1), ylim=(0, 1))
            axis.set_xticks((0, 0.3, 1), labels=("0", "0.3", "1"))
            axis.set_yticks((0, 0.7, 1), labels=("0", "0.7", "1"))
            axis.grid(visible=False)
        axes[0].set_ylabel("second pixel")
    return figure


def tversky() -> Figure:
    """Draw losses of predictions that are too small or too large, and focal exponents."""
    figure, (left, right) = panels(2, height=2.9)
    with style():
        _by_size(left)
        _by_exponent(right)
    return figure


def _by_size(axis: Axes) -> None:
    """Draw the loss of a disc at the right place against its size."""
    sizes, y = torch.arange(1, 201), (torch.arange(200) < 100).float()
    p = (torch.arange(200) < sizes.view(-1, 1)).float()
    losses = (
        ("Jaccard (1, 1)", _plain(JaccardMetricLoss), BLUE, "-"),
        ("Dice (½, ½)", _plain(DiceSemimetricLoss), GREEN, "-."),
        ("Tversky (0.3, 0.7)", _plain(TverskyLoss, alpha=0.3, beta=0.7), PURPLE, "--"),
    )
    for name, loss, colour, line in losses:
        axis.plot(sizes / 100, _loss_of(loss, p, y), line, color=colour, label=name)
    axis.set(xlim=(0, 2), ylim=(0, 1), xlabel="predicted size / true size", ylabel="loss")
    axis.legend(loc="upper right", borderaxespad=0)


def _by_exponent(axis: Axes) -> None:
    """Draw the focal and logarithmic losses against the plain distance."""
    share = torch.linspace(0.001, 0.999, 200).view(-1, 1)
    y = torch.ones(1)
    # One pixel of the class with probability 1 - t has the Tversky distance t for beta = 1.
    for gamma, colour, line in ((0.75, GREEN, "-."), (1.0, GREY, "-"), (2.0, PURPLE, "--")):
        loss = _plain(TverskyLoss, alpha=1.0, beta=1.0, gamma=gamma)
        values, label = _loss_of(loss, 1 - share, y), f"γ = {gamma:g}"  # noqa: RUF001
        axis.plot(share[:, 0], values, line, color=colour, label=label)
    log = _plain(TverskyLoss, alpha=1.0, beta=1.0, log=True)
    axis.plot(share[:, 0], _loss_of(log, 1 - share, y), ":", color=ORANGE, label="log")
    axis.set(xlim=(0, 1), ylim=(0, 2), xlabel="Tversky distance t", ylabel="loss")
    axis.legend(loc="upper left", borderaxespad=0.2)
