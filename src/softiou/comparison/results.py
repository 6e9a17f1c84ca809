"""The results of a comparison, as frozen data classes that become JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from softiou._html import html_table
from softiou.metrics.registry import metric_info

SCHEMA_VERSION = 1
WHOLE_IMAGE = "whole image"  # the usual way to run a model

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A metric of a group of runs, in its unit in the registry; None where it is undefined.

    Attributes:
        value: Mean over the seeds.
        spread: Standard deviation over the seeds (divided by n - 1); None for a single one.
        interval: Low and high, over images and seeds; None also without sums per image. The
            interval of a calibration error is biased upwards, see `compare`.
    """

    value: float | None
    spread: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """The difference between a group and the baseline, in the units of `Estimate`.

    Attributes:
        value: The group's value minus the baseline's.
        interval: Low and high of the paired differences.
        probability: Share in [0, 1] of the resamples in which the group is better; ties count half.
        better: Whether higher or lower values of this metric are better.
    """

    value: float | None
    interval: Interval | None
    probability: float | None
    better: Literal["higher", "lower"]

    def chance(self) -> str:
        """Return the probability in per cent, "" if undefined: a bootstrap shows no certainty."""
        share = self.probability
        if share is None:
            return ""
        if share > 0.999:
            return "> 99.9 %"
        return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


@dataclass(frozen=True)
class Group:
    """One run, or several that differ only in their seed.

    Attributes:
        name: Of the run with the lowest seed, with the number of runs if there are several.
        runs: As they were given, by seed.
        seeds: Of the runs; None where unknown.
        checkpoint: Name of the file that was evaluated.
        metrics: By name.
        iou: Of each class, over the data set.
        inference: How the model was run, such as "flips, scales 0.5, 1".
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    checkpoint: str
    metrics: Mapping[str, Estimate]
    iou: tuple[Estimate, ...]
    inference: str = WHOLE_IMAGE


@dataclass(frozen=True)
class Contrast:
    """A group beside the baseline.

    Attributes:
        baseline: Index of the baseline among the groups, which is 0.
        group: Index of the other one.
        metrics: By name.
        iou: Of each class, over the data set.
    """

    baseline: int
    group: int
    metrics: Mapping[str, Difference]
    iou: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs on the same images.

    Attributes:
        data: Name of the data set, of the first run.
        split: Of it.
        labels: Kind of the labels: "hard", "soft", "votes" or "staple".
        classes: Their names.
        num_images: How many.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the intervals, per cent.
        groups: The first is the baseline.
        contrasts: Each other group beside the baseline; empty where all runs are one group.
        together: How images were grouped, as given to `compare`; None for single images.
    """

    data: str
    split: str
    labels: str
    classes: tuple[str, ...]
    num_images: int
    resamples: int
    seed: int
    level: float
    groups: tuple[Group, ...]
    contrasts: tuple[Contrast, ...]
    together: str | int | None = None

    def drawn_together(self) -> str:
        """Return how images were grouped, as a clause; empty for single images."""
        if self.together is None:
            return ""
        if isinstance(self.together, int):
            return f", resampled in groups of {self.together}"
        return f", resampled in groups by {self.together}"

    def notes(self, names: Sequence[str] | None = None) -> list[str]:
        """Return sentences on what makes the groups hard to compare.

        Args:
            names: Names for the groups; by default their own.
        """
        if len({group.inference for group in self.groups}) == 1:
            return []
        names = names or [group.name for group in self.groups]
        ways = [
            f"{name}: {group.inference}" for name, group in zip(names, self.groups, strict=True)
        ]
        return [
            "The groups were not evaluated in the same way, so the differences are not due to the "
            f"models alone. {'; '.join(ways)}."
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the version of their schema first and the notes last."""
        return {"schema_version": SCHEMA_VERSION} | asdict(self) | {"notes": self.notes()}

    def _repr_html_(self) -> str:
        tables = []
        for contrast in self.contrasts:
            rows = [
                (metric_info(key).heading, one.value, *(one.interval or (None, None)))
                for key, one in contrast.metrics.items()
            ]
            names = (self.groups[index].name for index in (contrast.group, contrast.baseline))
            caption = " - ".join(names)
            tables.append(
                html_table(["metric", "difference", "low", "high"], rows, caption=caption)
            )
        return "".join(tables)
