"""Test an installed wheel: the compiled code is used, and agrees with PyTorch operators."""

import sys

import torch

from softiou.losses import JaccardMetricLoss
from softiou.overlap import native

if __name__ == "__main__":
    compiled = native.library()
    logits, target = torch.randn(2, 19, 33, 65), torch.randint(0, 19, (2, 33, 65))
    values = [JaccardMetricLoss(impl=impl)(logits, target) for impl in ("native", "chunked")]
    torch.testing.assert_close(*values)
    sys.stdout.write(f"{compiled}: {values[0]:.6f}\n")
