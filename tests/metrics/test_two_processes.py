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
    BoundaryCalibrationError,
    BoundaryIoU,
    ClasswiseCalibrationError,
    EvaluationScores,
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
    scores_of_pixels, classes = EvaluationScores(3), ClasswiseCalibrationError(3, per="none")
    boundary = BoundaryIoU(3, per="class", worst=[50, 100], width=1)
    band = BoundaryCalibrationError(3, per="image", width=1)
    multilabel = EvaluationScores(3, independent=True)
    soft, disagreement = SoftScores(3), GeneralizedEnergyDistance(3)
    for n in share:
        probs, target, masks = (x[n : n + 1] for x in images())
        overlap.update(probs, target)
        for metric in (calibration, scores_of_pixels, classes, boundary, band):
            metric.update(probs, target)
        multilabel.update(probs, masks[:, :1].expand(-1, 3, -1) > 1)
        soft.update(probs, targets.votes(masks))
        disagreement.update(sample_levels(probs, 3), masks)
    scores = overlap.compute() | soft.compute()
    scores |= {"ece": calibration.compute(), "ged": disagreement.compute()}
    scores |= {f"pixels_{name}": x for name, x in scores_of_pixels.compute().items()}
    scores |= {f"multilabel_{name}": x for name, x in multilabel.compute().items()}
    scores |= {f"cece_{c}": x for c, x in enumerate(classes.compute())}
    scores |= {"biou_50": boundary.compute()[0], "biou": boundary.compute()[1]}
    scores |= {"bece": band.compute()}
    seen_here = len(overlap.counts().present)
    if not len(soft.sums().Y) == len(band.sums().pixels) == disagreement.images == seen_here:
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
