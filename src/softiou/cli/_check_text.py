"""The output of `softiou check`: contents, problems by kind, and advice."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from softiou._screen import visible
from softiou.checking import CheckReport, FixReport
from softiou.checking.advice import Advice
from softiou.checking.report import ProblemGroup
from softiou.checking.summaries import SizeSummary, SplitSummary
from softiou.cli._console import escaped, table_of
from softiou.data.problems import some_of

if TYPE_CHECKING:
    from softiou.jobs import SuspectLabel

_SHOWN = 20
_COLOURS = {"note": "cyan", "warning": "yellow", "error": "red"}
_IMBALANCED = 10  # ratio of the most frequent class to the rarest


def summary(report: CheckReport) -> Iterator[RenderableType]:
    """Render the contents, the most frequent problems of each severity, advice, and counts."""
    yield from map(Text, map(visible, _contents(report)))
    if report.splits:
        yield _class_table(report)
    for severity in _COLOURS:
        groups = [group for group in report.groups if group.severity == severity]
        yield from map(_group, groups[:_SHOWN])
        if len(groups) > _SHOWN:
            yield Text(f"... and {len(groups) - _SHOWN} more; --json prints them all.")
    yield from map(Text, _advice(report))
    counts = f"errors: {report.count('error')}, warnings: {report.count('warning')}"
    style = "bold red" if report.errors else "bold green"
    yield Text(f"{counts}, in {visible(report.source)}", style=style)


def fix_summary(fixed: FixReport) -> Iterator[Text]:
    """Describe a corrected copy: its content, the repairs, and the omitted images."""
    yield Text(f"{fixed.out}: {fixed.samples} images with masks; the images are links.")
    yield from (Text(f"  {number} masks {step}") for step, number in sorted(fixed.steps.items()))
    if fixed.left_out:
        yield Text(f"left out: {fixed.left_out} images whose repair is ambiguous or impossible")
        yield from map(_group, fixed.reasons[:_SHOWN])
    for group in fixed.remaining:
        yield Text(f"not repaired: {group.count} of the kind {group.kind}", style="bold red")


def suspect_table(suspects: "Sequence[SuspectLabel]") -> Iterator[RenderableType]:
    """Render a table of the first labels that may be wrong."""
    if not suspects:
        yield Text("suspect labels: none")
        return
    headings = ("image", "label", "predicted", "pixels", "confidence %", "top, left, bottom, right")
    table = table_of(headings, words=3, title="Suspect labels")
    for one in suspects[:_SHOWN]:
        numbers = (f"{one.pixels:,}", f"{one.confidence:.1f}", ", ".join(map(str, one.box)))
        names = map(escaped, (f"{one.split}/{one.stem}", one.target, one.preds))
        table.add_row(*names, *numbers)
    yield table
    if len(suspects) > _SHOWN:
        yield Text(f"... and {len(suspects) - _SHOWN} more; --json prints them all.")


def _group(group: ProblemGroup) -> Text:
    """Render a problem, or the number and the first few of several problems of one kind."""
    heading = (f"{group.severity}: ", f"bold {_COLOURS[group.severity]}")
    examples = "".join(f"\n  {visible(p.file)}\n    {visible(p.message)}" for p in group.examples)
    if group.count == 1:
        (problem,) = group.examples
        text = (
            f"{visible(problem.file)}\n  {visible(problem.message)}\n  -> {visible(problem.remedy)}"
        )
        return Text.assemble(heading, text)
    more = group.count - len(group.examples)
    examples += f"\n  ... and {more} more" if more else ""
    return Text.assemble(heading, f"{group.count} x {group.kind}{examples}\n  -> {group.remedy}")


def _contents(report: CheckReport) -> Iterator[str]:
    """Describe each split, each list and the images without masks."""
    for name, split in report.splits.items():
        yield f"{name}: {_in_words(split)}"
    for name, listed in report.lists.items():
        counts = f"{listed.images} images of train with masks, {listed.left_out} without"
        yield f"softiou semi --split {name}: {counts}"
    if report.unlabeled:
        images = f"{report.unlabeled.images} images without masks"
        yield "; ".join([f"unlabeled: {images}", *_sizes(report.unlabeled.sizes)])


def _in_words(split: SplitSummary) -> str:
    """Describe a split: number and sizes of images, annotators, ignored pixels."""
    parts = [f"{split.images} images", *_sizes(split.sizes)]
    if split.annotators > 1:
        parts.append(f"{split.annotators} annotators")
    if split.agreement is not None:
        parts.append(f"who agree on {split.agreement:.1%} of the pixels")
    if split.ignored_share:
        parts.append(f"{split.ignored_share:.1%} of the pixels ignored")
    return "; ".join(parts)


def _sizes(sizes: Sequence[SizeSummary]) -> list[str]:
    """List the most frequent sizes, if there are any."""
    named = [f"{size.images} of {size.width_px}x{size.height_px}" for size in sizes]
    return [some_of(named)] if named else []


def _class_table(report: CheckReport) -> Table:
    """Render the pixel share and the number of images of each class in each split."""
    table = table_of(["class", *(escaped(f"{name}: pixels (images)") for name in report.splits)])
    for rows in zip(*(split.classes for split in report.splits.values()), strict=True):
        cells = (f"{row.pixel_share:.2%} ({row.images})" for row in rows)
        table.add_row(escaped(rows[0].name), *cells)
    return table


def _advice(report: CheckReport) -> Iterator[str]:
    """Return lines of advice for training and labelling."""
    if report.value_map:
        pairs = ", ".join(f"{raw}: {to}" for raw, to in report.value_map.items())
        yield f"values: the only label_map that is valid for all masks is {{{pairs}}}"
        yield "  -> write it in dataset.yaml, or correct a copy: `softiou check DATA --fix OUT`"
    if report.lacks_validation:
        yield "validation: there is no split val; training will hold out a fifth of train for it"
        yield "  -> `softiou split DATA --val 0.2 --test 0.1` writes class-balanced splits; --by"
        yield "  keeps all images of a patient or a video in one split"
    advice = report.advice
    if advice is None:
        return
    height, width = advice.crop_px
    yield f"crop: data.crop_px=auto uses {height} x {width} (height x width)"
    if advice.scarce:
        yield f"rare in train: {some_of(advice.scarce)}"
        yield "  -> merge each with a similar class (label_map in dataset.yaml), or label more"
    if advice.imbalance > _IMBALANCED:
        yield from _balance(advice)


def _balance(advice: Advice) -> Iterator[str]:
    yield f"balance: the most common class has {advice.imbalance:.0f} times the share of the rarest"
    yield "  -> IoU losses weight classes equally and rarely need weights; for cross-entropy alone,"
    yield f"  median-frequency weights are {list(advice.class_weights)}"
