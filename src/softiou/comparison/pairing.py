"""Which runs may be compared, and which of them are seeds of one configuration."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from softiou.comparison.reading import EvaluatedRun
from softiou.errors import DataError


def check_same_images(baseline: EvaluatedRun, run: EvaluatedRun) -> None:
    """Raise unless two runs were scored on the same images against the same truth.

    Raises:
        DataError: Names the file, the first thing that differs, and the way out.
    """
    for reason in (_other_classes, _other_truth, _other_images, _other_pixels):
        if (what := reason(baseline, run)) is not None:
            command = ["softiou", "evaluate", _model(run), baseline.data, "--split", baseline.split]
            if run.labels != baseline.labels:
                command += ["--labels", baseline.labels]
            raise DataError(
                f"{run.path} cannot be compared with {baseline.path}: {what}. Evaluate both on the "
                f"same data, for instance with `{shlex.join(command)}`."
            )


def _model(run: EvaluatedRun) -> str:
    """Name what to evaluate again; an evaluation may lie where there are no checkpoints."""
    return run.name if (Path(run.name) / "checkpoints").is_dir() else "RUN"


def _other_classes(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    theirs, own = baseline.classes, run.classes
    if len(theirs) != len(own):
        return f"it has {len(own)} classes instead of {len(theirs)}"
    for index, (name, other) in enumerate(zip(theirs, own, strict=True)):
        if name != other:
            return f"it calls class {index} {other!r} instead of {name!r}"
    return None


def _other_truth(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    if run.labels != baseline.labels:
        return f"it was scored against {run.labels} labels instead of {baseline.labels} ones"
    if run.ignore_index != baseline.ignore_index:
        return f"its ignore_index is {run.ignore_index} instead of {baseline.ignore_index}"
    # One list of images may be named by two paths; whether it is one is for the images to tell.
    if Path(run.split).stem != Path(baseline.split).stem:
        return f"it is of the split {run.split} instead of {baseline.split}"
    return None


def _other_images(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    missing = [stem for stem in baseline.images if stem not in run.images]
    extra = [stem for stem in run.images if stem not in baseline.images]
    parts = [
        f"{what} {len(stems)} image{'s' if len(stems) > 1 else ''} ({_some(stems)})"
        for what, stems in (("lacks", missing), ("also has", extra))
        if stems
    ]
    return f"it {' and '.join(parts)}" if parts else None


def _other_pixels(baseline: EvaluatedRun, run: EvaluatedRun) -> str | None:
    for stem, theirs in baseline.images.items():
        own = run.images[stem]
        if own.size != theirs.size:
            sizes = ("x".join(map(str, image.size)) for image in (own, theirs))
            return f"its image {stem} has {' instead of '.join(sizes)} pixels"
        if own.pixels != theirs.pixels:
            return (
                f"in its image {stem} {own.pixels} pixels count instead of {theirs.pixels}, so "
                "other pixels are ignored"
            )
        if own.truth != theirs.truth:
            return f"the truth of its image {stem} is another one ({own.truth}, {theirs.truth})"
    return None


def _some(stems: Sequence[str]) -> str:
    return ", ".join(stems[:3]) + (", ..." if len(stems) > 3 else "")


def pool_seeds(runs: Sequence[EvaluatedRun]) -> list[list[EvaluatedRun]]:
    """Put runs together that differ in their seed alone, in the order of the first of each.

    A seed that is there already begins a group of its own, as does a run without a config.yaml: two
    runs of one seed are no two samples. Nor are runs that were evaluated in different ways.

    Returns:
        The groups, the runs of each by seed, then name.
    """
    groups: list[list[EvaluatedRun]] = []
    for run in runs:
        for group in groups:
            if _belongs(run, group):
                group.append(run)
                break
        else:
            groups.append([run])
    return [sorted(group, key=_seed_and_name) for group in groups]


def _seed_and_name(run: EvaluatedRun) -> tuple[int, str]:
    return run.seed or 0, run.name  # an unknown seed is alone in its group


def _belongs(run: EvaluatedRun, group: Sequence[EvaluatedRun]) -> bool:
    first = group[0]
    return (
        run.settings is not None
        and run.settings == first.settings
        and run.checkpoint == first.checkpoint
        and run.inference == first.inference
        and run.seed is not None
        and run.seed not in [member.seed for member in group]
    )
