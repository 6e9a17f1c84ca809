"""Write the tables of the pages from the files in benchmarks/results/.

    python -m benchmarks.tables            # writes
    python -m benchmarks.tables --check    # fails if a table is not up to date

A table is written between `<!-- table: NAME -->` and `<!-- end of table -->`. NAME is EXPERIMENT,
EXPERIMENT_calibration or EXPERIMENT_differences (intervals of `benchmarks.differences`), optionally
followed by the methods to show: `<!-- table: camvid: ce jml -->`; `after_temperature` is for all
experiments. Tables of time and memory are in `benchmarks.speed_tables`.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence

from benchmarks import results_files
from benchmarks._machine import ROOT
from benchmarks.accuracy_tables import accuracy_table
from benchmarks.speed_tables import MEASURED

PAGES = (
    "README.md",
    "docs/how-to/choosing.md",
    "docs/how-to/migration.md",
    "docs/performance.md",
    "docs/results.md",
)
MARKED = re.compile(
    r"(<!-- table: (\w+)(?:: ([\w ]+))? -->\n).*?(<!-- end of table -->)", re.DOTALL
)


def main() -> None:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    check = parser.parse_args().check
    for name in PAGES:
        page = ROOT / name
        old = page.read_text()
        new = MARKED.sub(lambda m: f"{m[1]}{table(m[2], (m[3] or '').split())}{m[4]}", old)
        if check and new != old:
            sys.exit(f"{name}: the tables differ from the results; run python -m benchmarks.tables")
        if new != old:
            page.write_text(new)


def table(name: str, methods: Sequence[str] = ()) -> str:
    """Return a Markdown table of measurements or of an experiment."""
    if name not in MEASURED:
        return accuracy_table(name, methods)
    folder, make = MEASURED[name]
    files = sorted((results_files.RESULTS / folder).glob("*.json"))
    return "\n".join(filter(None, (make(json.loads(path.read_text())) for path in files)))


if __name__ == "__main__":
    main()
