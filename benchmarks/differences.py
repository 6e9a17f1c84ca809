"""How sure the differences between methods are: 95 % intervals over images and seeds, paired.

    python -m benchmarks.differences    # writes benchmarks/results/EXPERIMENT/differences.json

Which methods are compared is declared in experiments.yaml, as `contrasts`. An interval is that of
`softiou compare`: images and seeds are drawn with replacement, the images for both methods at once.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks._machine import ROOT
from benchmarks.results_files import RESULTS, read_results, read_sums, result_file
from softiou._files import write_atomically
from softiou.comparison import resampled_means
from softiou.metrics import ImageStatistics
from softiou.metrics.bootstrap import percentile_interval
from softiou.metrics.figures import Figures, weighted_figures

METRICS = ("miou_d", "miou_i", "miou_c", "miou_i_q10", "soft_dice_d", "ece_d", "ece_i", "bece_d")
RESAMPLES = 10_000
SEED = 0


def main() -> None:
    """Write the differences of every experiment that has contrasts and several runs."""
    grid = yaml.safe_load((ROOT / "benchmarks" / "experiments.yaml").read_text())
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", help="default: all of them")
    for name in parser.parse_args().experiments or list(grid):
        found = differences(name, grid[name].get("contrasts", ()))
        if found:
            content = {"resamples": RESAMPLES, "level": 95, "contrasts": found}
            path = RESULTS / name / "differences.json"
            write_atomically((json.dumps(content, indent=1) + "\n").encode(), path)
            print(f"wrote {path.relative_to(ROOT)}")


def differences(experiment: str, contrasts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Compare pairs of methods (better, baseline) over the seeds that both have sums of."""
    sums = _sums(experiment)
    found = []
    drawn: dict[tuple[str, tuple[int, ...]], tuple[Tensor, Tensor]] = {}
    for pair in contrasts:
        seeds = tuple(sorted(set.intersection(*(set(sums.get(m, {})) for m in pair))))
        if not seeds:
            continue
        for method in pair:
            if (method, seeds) not in drawn:
                drawn[method, seeds] = _drawn([sums[method][seed] for seed in seeds])
        (ours, our_draws), (theirs, their_draws) = (drawn[method, seeds] for method in pair)
        intervals = percentile_interval(our_draws - their_draws)
        found.append(
            {
                "method": pair[0],
                "baseline": pair[1],
                "seeds": list(seeds),
                "metrics": {
                    name: {"value": value.item(), "interval": interval.tolist()}
                    for name, value, interval in zip(METRICS, ours - theirs, intervals, strict=True)
                    if value.isfinite()
                },
            }
        )
    return found


def _sums(experiment: str) -> dict[str, dict[int, ImageStatistics]]:
    """Read what runs got of every image, by method and seed; refuse runs on other images."""
    found: dict[str, dict[int, ImageStatistics]] = {}
    truths = {}
    for run in read_results(experiment):
        statistics = read_sums(result_file(experiment, run["method"], run["seed"]))
        if statistics is not None:
            found.setdefault(run["method"], {})[run["seed"]] = statistics
            truths[run["method"], run["seed"]] = run["images"]
    if len(set(truths.values())) > 1:
        raise ValueError(f"Runs of {experiment} were scored on different images: {truths}")
    return found


def _drawn(seeds: Sequence[ImageStatistics]) -> tuple[Tensor, Tensor]:
    """Return means over the seeds (F,), and those of every resample (R, F), per cent."""
    values = [_columns(weighted_figures(s, torch.ones(1, s.num_images).double())) for s in seeds]
    draws = resampled_means(seeds, _columns, resamples=RESAMPLES, seed=SEED)
    return torch.cat(values).mean(0), draws


def _columns(figures: Figures) -> Tensor:
    known: Mapping[str, Tensor] = figures.metrics
    unknown = torch.full_like(known["miou_d"], torch.nan)
    return 100 * torch.stack([known.get(name, unknown) for name in METRICS], 1)


if __name__ == "__main__":
    main()
