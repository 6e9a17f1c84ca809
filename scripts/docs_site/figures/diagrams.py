"""Flow diagrams: boxes and arrows."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from scripts.docs_site.figures.style import BLUE, GREEN, INK, ORANGE, panels, style


@dataclass(frozen=True)
class Box:
    """A box with text, centred at a point of a drawing that is 12 units wide."""

    x: float
    y: float
    text: str
    colour: str = INK
    width: float = 2.2
    height: float = 0.9

    def draw(self, axis: Axes) -> None:
        """Draw the box and its text."""
        axis.add_patch(
            FancyBboxPatch(
                (self.x - self.width / 2, self.y - self.height / 2),
                self.width,
                self.height,
                boxstyle="round,pad=0,rounding_size=0.18",
                facecolor=(*_rgb(self.colour), 0.16) if self.colour != INK else "none",
                edgecolor=self.colour,
                linewidth=1.3,
            )
        )
        axis.text(self.x, self.y, self.text, ha="center", va="center", linespacing=1.35)


def one_pass() -> Figure:
    """Draw the steps from logits to a loss."""
    axis, figure = _sheet(height=2.2, rows=3.6)
    with style():
        logits = Box(1.2, 2.6, "logits\n(N, C, h, w)", BLUE)
        target = Box(1.2, 0.8, "target\nhard or soft", ORANGE)
        statistics = Box(6.4, 1.7, "statistics P, Y, D, M\n(N, C)", GREEN, width=2.9)
        loss = Box(11.0, 1.7, "loss", INK, width=1.6)
        for box in (logits, target, statistics, loss):
            box.draw(axis)
        _arrow(axis, (2.35, 2.5), (4.9, 1.9))
        _arrow(axis, (2.35, 0.8), (4.9, 1.5))
        axis.text(3.7, 1.7, "one pass,\ntile by tile", ha="center", va="center")
        _arrow(axis, (7.9, 1.7), (10.15, 1.7))
        axis.text(9.0, 1.9, "a formula", ha="center")
        _arrow(axis, (6.4, 2.2), (2.35, 2.95), curve=0.18, colour=BLUE, dashed=True)
        axis.text(5.6, 3.05, "gradient, tile by tile again", ha="left", color=BLUE)
    return figure


def distillation() -> Figure:
    """Draw a student that learns from labels and from a teacher."""
    axis, figure = _sheet(height=2.4, rows=4.0)
    with style():
        image = Box(1.2, 2.0, "image", INK, width=1.6)
        teacher = Box(4.4, 3.2, "teacher\n(frozen)", ORANGE)
        student = Box(4.4, 0.8, "student", BLUE)
        soft = Box(8.0, 3.2, "softmax(z / T)", ORANGE, width=2.4)
        labels = Box(8.0, 2.0, "labels", INK, width=2.4)
        loss = Box(10.9, 0.8, "loss", GREEN, width=1.6)
        for box in (image, teacher, student, soft, labels, loss):
            box.draw(axis)
        _arrow(axis, (2.05, 2.2), (3.25, 3.0))
        _arrow(axis, (2.05, 1.8), (3.25, 1.0))
        _arrow(axis, (5.55, 3.2), (6.75, 3.2))
        _arrow(axis, (5.55, 0.8), (10.05, 0.8))
        axis.text(7.4, 0.98, "logits, at their own stride", ha="center")
        _arrow(axis, (9.25, 3.2), (11.1, 1.3), curve=-0.3)
        _arrow(axis, (9.25, 2.0), (10.6, 1.3), curve=-0.25)
        axis.text(10.75, 3.05, "w", ha="center", style="italic")
        axis.text(9.6, 1.45, "1 − w", ha="center", style="italic")  # noqa: RUF001
    return figure


def mean_teacher() -> Figure:
    """Draw a student, its moving average as the teacher, and two views of an image."""
    axis, figure = _sheet(height=2.6, rows=4.4)
    with style():
        image = Box(1.3, 2.2, "image\nwithout mask", INK)
        teacher = Box(5.6, 3.5, "teacher", ORANGE)
        student = Box(5.6, 0.9, "student", BLUE)
        pseudo = Box(9.0, 3.5, "pseudo-labels", ORANGE, width=2.4)
        loss = Box(10.9, 0.9, "loss", GREEN, width=1.6)
        for box in (image, teacher, student, pseudo, loss):
            box.draw(axis)
        _arrow(axis, (2.2, 2.7), (4.45, 3.5), curve=-0.15)
        _arrow(axis, (2.2, 1.7), (4.45, 0.9), curve=0.15)
        axis.text(2.35, 3.5, "weak view", ha="center")
        axis.text(2.35, 0.78, "strong view", ha="center")
        _arrow(axis, (5.6, 1.4), (5.6, 3.0), colour=BLUE, dashed=True)
        axis.text(5.8, 2.2, "moving average\nof the weights", ha="left", va="center")
        _arrow(axis, (6.75, 3.5), (7.75, 3.5))
        _arrow(axis, (6.75, 0.9), (10.05, 0.9))
        _arrow(axis, (10.25, 3.5), (10.95, 1.4), curve=-0.3)
    return figure


def _sheet(*, height: float, rows: float) -> tuple[Axes, Figure]:
    figure, (axis,) = panels(height=height)
    axis.set(xlim=(0, 12), ylim=(0, rows))
    axis.set_axis_off()
    return axis, figure


def _arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    curve: float = 0.0,
    colour: str = INK,
    dashed: bool = False,
) -> None:
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={curve}",
            arrowstyle="-|>",
            mutation_scale=11,
            shrinkA=0,
            shrinkB=0,
            color=colour,
            linewidth=1.3,
            linestyle=(0, (4, 3)) if dashed else "-",
        )
    )


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
