"""Write the tables of the README from the files in benchmarks/results/.

    python -m benchmarks.tables            # writes
    python -m benchmarks.tables --check    # fails when a table is not what the files say

A table stands between `<!-- table: EXPERIMENT -->` and `<!-- end of table -->`.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md",)
COLUMNS = {
    "miou_d": "mIoU^D",
    "miou_i": "mIoU^I",
    "miou_c": "mIoU^C",
    "accuracy": "accuracy",
    "ece_d": "ECE",
}
NAMES = {"ce": "cross-entropy", "jml": "0.25 CE + 0.75 JML"}
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main() -> None:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    check = parser.parse_args().check
    for name in PAGES:
        page = ROOT / name
        old = page.read_text()
        new = MARKED.sub(lambda m: f"{m[1]}{table(m[2])}{m[3]}", old)
        if check and new != old:
            sys.exit(f"{name}: the tables differ from the results; run python -m benchmarks.tables")
        if new != old:
            page.write_text(new)


def table(experiment: str) -> str:
    """Return the Markdown table of an experiment: a row a method, per cent."""
    order = yaml.safe_load((ROOT / "benchmarks" / "experiments.yaml").read_text())[experiment]
    runs = [json.loads(path.read_text()) for path in _files(experiment)]
    by_method = {m: [r for r in runs if r["method"] == m] for m in order["methods"]}
    lines = [
        f"| method | seeds | {' | '.join(COLUMNS.values())} | minutes |",
        f"| --- | ---: |{' ---: |' * len(COLUMNS)} ---: |",
    ]
    for method, found in by_method.items():
        if found:
            cells = [_spread([run["metrics"][key] for run in found]) for key in COLUMNS]
            minutes = mean(run["seconds"] for run in found) / 60
            name = NAMES.get(method, method)
            lines.append(f"| {name} | {len(found)} | {' | '.join(cells)} | {minutes:.0f} |")
    return "\n".join(lines) + "\n"


def _files(experiment: str) -> list[Path]:
    return sorted((ROOT / "benchmarks" / "results" / experiment).glob("*.json"))


def _spread(values: list[Any]) -> str:
    """One seed as it is, several as mean and standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


if __name__ == "__main__":
    main()
