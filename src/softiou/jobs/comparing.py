"""Compare evaluated runs on the same images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from softiou._screen import Progress, progress_of
from softiou.errors import ConfigError, DataError
from softiou.jobs.trained import RunLike, as_trained

if TYPE_CHECKING:
    from softiou.comparison import Comparison


def compare(
    *runs: RunLike,
    level: float = 95,
    resamples: int = 10_000,
    seed: int = 0,
    together: str | int | None = None,
    out: Path | str | None = None,
    report: Path | str | None = None,
    progress: bool | Progress | None = None,
) -> "Comparison":
    """Estimate whether a run is better than another, with confidence intervals.

    Uses a paired bootstrap over the images of both evaluations. Runs that differ only in their
    seed are pooled.

    Args:
        runs: Two or more evaluated runs, run directories or files evaluation.json; the first is the
            baseline.
        level: Confidence level of the intervals, in per cent.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        together: Resamples groups of images: a regular expression groups the images whose names
            begin with the same match (a patient), a number groups consecutive images (a video).
        out: New JSON file for the result.
        report: New HTML page that shows the images side by side.
        progress: As in `evaluate`.

    Raises:
        ConfigError: A value is out of range.
        DataError: A run has no evaluation, the images differ, or an output file already exists.
    """
    from softiou import comparison
    from softiou._files import write_atomically
    from softiou.reports import write_comparison_report

    if not 0 < level < 100:
        raise ConfigError(f"--level: {level:g} is not between 0 and 100 per cent.")
    file, page = (None if path is None else Path(path) for path in (out, report))
    _check_places(file, page)
    paths = [as_trained(run).path for run in runs]
    shown = progress_of(progress)
    with shown.doing(f"comparing {resamples} resamples of the images"):
        result = comparison.compare(
            paths, resamples=resamples, seed=seed, level=level, together=together
        )
    if file is not None:
        _refuse_existing("--out", file)  # another process may have created it meanwhile
        text = json.dumps(result.as_dict(), indent=1, allow_nan=False)
        write_atomically((text + "\n").encode(), file)
    if page is not None:
        _refuse_existing("--report", page)
        with shown.doing("writing the report"):
            write_comparison_report(result, paths, page)
    return result


def _check_places(out: Path | None, report: Path | None) -> None:
    """Raise early, before the computation, unless both files can be written."""
    for option, path in (("--out", out), ("--report", report)):
        if path is not None and not path.parent.is_dir():
            raise DataError(
                f"{option} {path}: the folder {path.parent} does not exist. Create it, or choose "
                "another path."
            )
        _refuse_existing(option, path)
    if out is not None and report is not None and out.resolve() == report.resolve():
        raise ConfigError(f"--out and --report both name {out}. Choose two different files.")


def _refuse_existing(option: str, path: Path | None) -> None:
    if path is not None and path.exists():
        raise DataError(
            f"{path}: the file already exists; nothing was changed. Remove it, or choose another "
            f"name with {option}."
        )
