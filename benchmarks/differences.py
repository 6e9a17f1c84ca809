"""Paired 95 % intervals, over images and seeds, of the differences between methods.

    python -m benchmarks.differences    # writes benchmarks/results/EXPERIMENT/differences.json

The compared methods are declared as `contrasts` in experiments.yaml. Images and seeds are drawn
with replacement, the same for both methods: runs with the same seed have the same data order and
random weights. Similar images are drawn together, as declared in `drawn_together`: images whose
names match the same prefix of a regular expression, such as a patient, or a number of consecutive
images, such as frames of a video.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks._machine import ROOT
from benchmarks.accuracy_tables import differences_of
from benchmarks.grid import read_grid
from benchmarks.results_files import RESULTS, Sums, read_results, read_sums, result_file
from softiou._files import write_atomically
from softiou.comparison import groups_of, resampled_means
from softiou.metrics import MetricValues
from softiou.resampling import weighted_metrics
from softiou.resampling.bootstrap import percentile_interval, resample

RESAMPLES = 10_000
SEED = 0


def main() -> None:
    """Write the differences of all experiments with contrasts and several runs."""
    grid = read_grid()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", help="default: all that have contrasts")
    with_contrasts = [name for name, declared in grid.items() if "contrasts" in declared]
    chosen = parser.parse_args().experiments or with_contrasts
    if others := sorted(set(chosen) - set(with_contrasts)):
        parser.error(f"expected {', '.join(with_contrasts)}, but got {', '.join(others)}")
    for name in chosen:
        together = grid[name].get("drawn_together", 1)
        found = differences(name, grid[name]["contrasts"], together)
        if found:
            settings = {"resamples": RESAMPLES, "level": 95, "drawn_together": together}
            content = settings | {"contrasts": found}
            path = RESULTS / name / "differences.json"
            write_atomically((json.dumps(content, indent=1) + "\n").encode(), path)
            print(f"wrote {path.relative_to(ROOT)}")


def differences(
    experiment: str, contrasts: Sequence[Sequence[str]], together: str | int = 1
) -> list[dict[str, Any]]:
    """Compare pairs of methods (better, baseline) over the seeds that both have.

    Args:
        experiment: Name of the experiment, which also determines the metrics.
        contrasts: The pairs.
        together: Images drawn together: a regular expression, or a number of consecutive images.
    """
    sums, names = _sums(experiment), tuple(differences_of(experiment))
    found = []
    drawn: dict[tuple[str, tuple[int, ...]], tuple[Tensor, Tensor]] = {}
    for pair in contrasts:
        seeds = tuple(sorted(set.intersection(*(set(sums.get(m, {})) for m in pair))))
        if not seeds:
            continue
        for method in pair:
            if (method, seeds) not in drawn:
                runs = [sums[method][seed] for seed in seeds]
                drawn[method, seeds] = _drawn(runs, names, together)
        (ours, our_draws), (theirs, their_draws) = (drawn[method, seeds] for method in pair)
        apart = (ours - theirs).T
        intervals = percentile_interval(our_draws - their_draws)
        found.append(
            {
                "method": pair[0],
                "baseline": pair[1],
                "seeds": list(seeds),
                "metrics": {
                    name: {
                        "value": _rounded(of_seeds.mean()),
                        "interval": [*map(_rounded, interval)],
                        "of_seeds": [*map(_rounded, of_seeds)],
                    }
                    for name, of_seeds, interval in zip(names, apart, intervals, strict=True)
                    if of_seeds.isfinite().all()
                },
            }
        )
    return found


def _rounded(value: Tensor) -> float:
    """Round a number, so that it does not depend on the order of floating-point sums."""
    return round(value.item(), 6)


def _sums(experiment: str) -> dict[str, dict[int, Sums]]:
    """Read the sums of every image by method and seed; raise if the runs have other images."""
    found: dict[str, dict[int, Sums]] = {}
    truths = {}
    for run in read_results(experiment):
        method, seed = run["method"], run["seed"]
        sums = read_sums(result_file(experiment, method, seed))
        if sums is not None:
            found.setdefault(method, {})[seed] = sums
            truths[method, seed] = run["images"]
    if len(set(truths.values())) > 1:
        raise ValueError(f"Runs of {experiment} were scored on different images: {truths}")
    return found


def _drawn(
    seeds: Sequence[Sums], names: Sequence[str], together: str | int
) -> tuple[Tensor, Tensor]:
    """Return the metrics of each seed (S, F), and the means of every resample (R, F)."""

    def columns(figures: MetricValues) -> Tensor:
        return torch.stack([_column(figures, name, seeds[0].classes) for name in names], 1)

    statistics = [one.statistics for one in seeds]
    once = torch.ones(1, statistics[0].num_images, dtype=torch.float64)
    values = [columns(weighted_metrics(one, once)) for one in statistics]
    groups = groups_of(seeds[0].stems, together)
    times = resample(len(seeds), RESAMPLES, seed=SEED + 1)  # the same resamples for every method
    draws = resampled_means(
        statistics, columns, resamples=RESAMPLES, seed=SEED, groups=groups, times=times
    )
    return torch.cat(values), draws


def _column(figures: MetricValues, name: str, classes: Sequence[str]) -> Tensor:
    """Return a metric (R,) in per cent, or "class/metric" of one class; NaN if unknown."""
    unknown = torch.full_like(figures.metrics["miou_d"], torch.nan)
    of_class, slash, figure = name.rpartition("/")
    if not slash:
        return 100 * figures.metrics.get(figure, unknown)
    known = figures.per_class.get(figure)
    return unknown if known is None else 100 * known[:, classes.index(of_class)]


if __name__ == "__main__":
    main()
