"""Check that runs are comparable, pool seeds, and group images."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from softiou.comparison.reading import EvaluatedRun
from softiou.data.problems import some_of
from softiou.errors import DataError


def check_same_images(baseline: EvaluatedRun, run: EvaluatedRun) -> None:
    """Raise DataError unless two runs were evaluated on the same images with the same labels."""
    first = baseline.evaluation
    for reason in (_other_classes, _other_truth, _other_images, _other_pixels):
        if (what := reason(baseline, run)) is not None:
            command = ["softiou", "evaluate", _model(run), first.data, "--split", first.split]
            if run.evaluation.labels != first.labels:
                command += ["--labels", first.labels]
            raise DataError(
                f"{run.path} cannot be compared with {baseline.path}: {what}. Evaluate both on the "
                f"same data, for instance with `{shlex.join(command)}`."
            )


def _model(run: EvaluatedRun) -> str:
    """Return the run to evaluate again, or "RUN" if it has no checkpoints."""
    return run.name if (Path(run.name) / "checkpoints").is_dir() else "RUN"


def _other_classes(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    theirs, own = baseline.evaluation.classes, run.evaluation.classes
    if len(theirs) != len(own):
        return f"it has {len(own)} classes instead of {len(theirs)}"
    for index, (name, other) in enumerate(zip(theirs, own, strict=True)):
        if name != other:
            return f"it calls class {index} {other!r} instead of {name!r}"
    return None


def _other_truth(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    theirs, own = baseline.evaluation, run.evaluation
    if own.labels != theirs.labels:
        return f"it was evaluated on {own.labels} labels instead of {theirs.labels} ones"
    if own.ignore_index != theirs.ignore_index:
        return f"its ignore_index is {own.ignore_index} instead of {theirs.ignore_index}"
    # Different paths can be equal lists: `_other_images` compares the images.
    if Path(own.split).stem != Path(theirs.split).stem:
        return f"it was evaluated on the split {own.split} instead of {theirs.split}"
    return None


def _other_images(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    missing = [stem for stem in baseline.images if stem not in run.images]
    extra = [stem for stem in run.images if stem not in baseline.images]
    parts = [
        f"{what} {len(stems)} image{'s' if len(stems) > 1 else ''} ({some_of(stems)})"
        for what, stems in (("lacks", missing), ("also has", extra))
        if stems
    ]
    return f"it {' and '.join(parts)}" if parts else None


def _other_pixels(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    for stem, theirs in baseline.images.items():
        own = run.images[stem]
        if own.size != theirs.size:
            sizes = ("x".join(map(str, image.size or ())) for image in (own, theirs))
            return f"its image {stem} has {' instead of '.join(sizes)} pixels"
        if own.pixels != theirs.pixels:
            return f"in its image {stem} {own.pixels} pixels are valid instead of {theirs.pixels}"
        if own.truth != theirs.truth:
            return f"the target of its image {stem} differs ({own.truth}, {theirs.truth})"
    return None


def pool_seeds(runs: Sequence[EvaluatedRun]) -> list[list[EvaluatedRun]]:
    """Group runs that differ only in their seed, in the order of the first run of each group.

    A run starts a new group if its seed is already in the group, if it has no config.yaml, or if it
    was evaluated differently (checkpoint or inference). The runs of a group are sorted by seed,
    then by name.
    """
    groups: list[list[EvaluatedRun]] = []
    for run in runs:
        for group in groups:
            if _belongs(run, group):
                group.append(run)
                break
        else:
            groups.append([run])
    return [sorted(group, key=lambda run: (run.seed or 0, run.name)) for group in groups]


def _belongs(run: EvaluatedRun, group: Sequence[EvaluatedRun]) -> bool:
    first = group[0]
    return (
        run.settings is not None
        and run.settings == first.settings
        and run.evaluation.checkpoint == first.evaluation.checkpoint
        and run.inference == first.inference
        and run.seed is not None
        and run.seed not in [member.seed for member in group]
    )


def groups_of(stems: Sequence[str], together: str | int) -> Tensor:
    r"""Return the group index of each image.

    Args:
        stems: Names of the N images, in order.
        together: A regular expression, which groups the names that begin with the same match, such
            as a patient; or a number of consecutive images, such as the frames of ten seconds.

    Returns:
        Integers (N,), numbered from 0 in the order of first occurrence.

    Raises:
        DataError: A name does not begin with a match, the expression is invalid, or the number
            is below 1.

    Example:
        >>> groups_of(["p07-a", "p07-b", "p12-a"], r"p\d+").tolist()
        [0, 0, 1]
        >>> groups_of(["f1", "f2", "f3"], 2).tolist()
        [0, 0, 1]
    """
    if isinstance(together, int):
        if together < 1:
            raise DataError(f"Expected `together` to be at least 1 image, but got {together}.")
        return torch.arange(len(stems)) // together
    try:
        pattern = re.compile(together)
    except re.error as error:
        raise DataError(
            f"Expected `together` to be a regular expression, but got '{together}': {error}."
        ) from None
    numbers: dict[str, int] = {}
    found = []
    for stem in stems:
        beginning = pattern.match(stem)
        if beginning is None:
            raise DataError(
                f"Expected `together` to match the beginning of every name, but '{together}' does "
                f"not match {stem}. Extend the expression."
            )
        found.append(numbers.setdefault(beginning[0], len(numbers)))
    return torch.tensor(found)
