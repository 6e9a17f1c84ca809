"""Metrics over two real processes (gloo): the result is that of all images in one."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from softiou import targets
from softiou.metrics import (
    ExpectedCalibrationError,
    GeneralizedEnergyDistance,
    SegmentationScores,
    SoftScores,
    sample_levels,
)

# Which of the four images each process sees; the last row leaves one without any.
SHARES = {"uneven": [[0, 1, 2], [3]], "nothing for one": [[], [0, 1, 2, 3]]}


def images() -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, labels and the masks of two annotators."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(4, 3, 10, generator=generator).softmax(1)
    masks = torch.randint(0, 3, (4, 2, 10), generator=generator)
    return probs, torch.randint(0, 3, (4, 10), generator=generator), masks


def scores_of(share: list[int]) -> dict[str, float]:
    """Update image by image and compute."""
    overlap, calibration = SegmentationScores(3), ExpectedCalibrationError(3)
    soft, disagreement = SoftScores(3), GeneralizedEnergyDistance(3)
    for n in share:
        probs, target, masks = (x[n : n + 1] for x in images())
        overlap.update(probs, target)
        calibration.update(probs, target)
        soft.update(probs, targets.votes(masks))
        disagreement.update(sample_levels(probs, 3), masks)
    scores = overlap.compute() | soft.compute()
    scores |= {"ece": calibration.compute(), "ged": disagreement.compute()}
    seen_here = len(overlap.counts().present)
    if len(soft.sums().Y) != seen_here or disagreement.images != seen_here:
        raise RuntimeError("metrics disagree on what was seen here")
    return {name: value.item() for name, value in scores.items()} | {"seen here": seen_here}


def work(rank: int, folder: str) -> dict[str, dict[str, float]]:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    try:
        results = {name: scores_of(shares[rank]) for name, shares in SHARES.items()}
    finally:
        dist.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps(results), encoding="utf-8")
    return results


def work_elsewhere(_: int, folder: str) -> None:
    work(1, folder)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_two_processes_agree_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scores_of([0, 1, 2, 3])
    assert expected.pop("seen here") == 4
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    other = spawn(work_elsewhere, args=(str(tmp_path),), join=False)  # type: ignore[no-untyped-call]
    results = [work(0, str(tmp_path))]
    while not other.join():
        pass
    results.append(json.loads((tmp_path / "1.json").read_text(encoding="utf-8")))
    for rank in (0, 1):
        for name, shares in SHARES.items():
            # After compute each process is back at what it saw itself.
            assert results[rank][name].pop("seen here") == len(shares[rank])
            assert results[rank][name] == pytest.approx(expected, abs=1e-12)
