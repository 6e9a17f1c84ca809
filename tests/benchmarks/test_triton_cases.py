"""Random jobs of the kernels: a few of them, and that an error would be seen.

In a process of its own, because Triton decides when it is imported whether it interprets.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json
import numpy as np
from benchmarks import triton_cases
from softiou.overlap import triton
from softiou.overlap.operators import IMPLEMENTATIONS, Implementation

np.seterr(all="ignore")
NUMBERS = (3, 11, 12, 64)
right = [triton_cases.compare(number) for number in NUMBERS]
IMPLEMENTATIONS["triton"] = Implementation(
    triton.gather, lambda job, slopes: 1.01 * triton.gradient(job, slopes), lambda job: None
)
wrong = [{"number": n, **triton_cases.compare(n)} for n in NUMBERS]
print(json.dumps([right, wrong, triton_cases.summary(wrong)]))
"""


@pytest.mark.slow
def test_a_wrong_gradient_is_counted() -> None:
    if find_spec("triton") is None:
        pytest.skip("needs Triton")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    right, wrong, summary = json.loads(done.stdout.splitlines()[-1])
    assert all(0 < max(row["sums"], row["gradient"]) < 1 for row in right)
    assert [row["sums"] for row in wrong] == [row["sums"] for row in right]
    in_float32 = [row["number"] for row in wrong if row["dtype"] == "float32"]
    assert in_float32
    assert set(in_float32) <= set(summary["wrong"])
    assert summary["cases"] == 4
    assert sum(summary["targets"].values()) == sum(len(row["kinds"]) for row in wrong)
