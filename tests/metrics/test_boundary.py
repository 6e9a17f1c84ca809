import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference import metric_loops, score_loops
from softiou import targets
from softiou.metrics import (
    BoundaryCalibrationError,
    BoundaryIoU,
    ExpectedCalibrationError,
    MeanIoU,
    boundary_counts,
)
from softiou.targets.smoothing import boundary_band


def labels_of(text: str) -> Tensor:
    """Class indices (1, H, W) from rows of digits."""
    return torch.tensor([[[int(x) for x in row] for row in text.split()]])


def scores(metric: Any, *batch: Any) -> list[float]:
    metric.update(*batch)
    found: list[float] = metric.compute().tolist()
    return found


# Values by hand


def test_boundary_iou_by_hand() -> None:
    """A square of 3 x 3 has a rim of 8; moved by one pixel it shares 4 of them, of 12 in all."""
    target = labels_of("0000000 0000000 0011100 0011100 0011100 0000000 0000000")
    preds = target.roll(1, 2)
    counts = boundary_counts(preds, target, num_classes=2, width=1)
    assert counts.present[0, 1] == counts.predicted[0, 1] == 8
    assert counts.true_positives[0, 1] == 4
    found = scores(BoundaryIoU(2, width=1, per="none"), preds, target)
    assert found[1] == pytest.approx(4 / 12)
    # Of the ground: 24 pixels at the edge of the image, and those around the square.
    assert counts.present[0, 0] == 24 + 16


def test_width_is_two_per_cent_of_the_diagonal_and_at_least_one_pixel() -> None:
    for size, d in (((3, 4), 1), ((30, 40), 1), ((90, 120), 3), ((60, 80), 2)):
        target = torch.zeros(1, *size, dtype=torch.long)
        counts = boundary_counts(target, target, num_classes=2)
        rest = max(0, size[0] - 2 * d) * max(0, size[1] - 2 * d)
        assert counts.present.tolist() == [[size[0] * size[1] - rest, 0]]
    wide = boundary_counts(target, target, num_classes=2, ratio=0.1)
    assert wide.present[0, 0] == 60 * 80 - 40 * 60


def test_a_rim_as_wide_as_the_image_is_the_iou() -> None:
    preds, target = torch.randint(0, 3, (2, 9, 8)), torch.randint(0, 3, (2, 9, 8))
    found = scores(BoundaryIoU(3, width=9, per="none"), preds, target)
    assert found == scores(MeanIoU(3, per="none"), preds, target)


# The slow reference


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 3))
def test_boundary_iou_agrees_with_erosion(seed: int, d: int, C: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, C, (2, 2, 3, 3))
    preds, target = (np.kron(b, np.ones((1, 4, 3), dtype=np.int64))[:, 1:, 1:] for b in blocks)
    table = score_loops.boundary_iou(preds, target, num_classes=C, d=d)
    one, other = torch.from_numpy(preds), torch.from_numpy(target)
    found = boundary_counts(one, other, num_classes=C, width=d).iou()
    np.testing.assert_allclose(found, table)
    occurring = [
        [x if (image == c).any() else math.nan for c, x in enumerate(row)]
        for row, image in zip(table, target, strict=True)
    ]
    expected = {
        "image": metric_loops.mean([metric_loops.mean(row) for row in occurring]),
        "class": metric_loops.mean(
            [metric_loops.mean([row[c] for row in occurring]) for c in range(C)]
        ),
    }
    for per, mean in expected.items():
        metric = BoundaryIoU(C, width=d, per=per)
        metric.update(one[:1], other[:1])
        metric.update(one[1:], other[1:])
        assert metric.compute().item() == pytest.approx(mean)


def test_independent_classes_have_rims_of_their_own() -> None:
    """Each class is a mask of its own: as the two-class problem of its pixels."""
    yes, truth = torch.rand(2, 3, 12, 11) < 0.7, torch.rand(2, 3, 12, 11) < 0.7
    found = boundary_counts(yes.float(), truth, num_classes=3, width=1, independent=True)
    for c in range(3):
        expected = boundary_counts(yes[:, c].long(), truth[:, c].long(), num_classes=2, width=1)
        for name in ("true_positives", "predicted", "present"):
            assert torch.equal(getattr(found, name)[:, c], getattr(expected, name)[:, 1])
    one = BoundaryIoU(1, independent=True)
    one.update(yes[:, :1], yes[:, 0].long())
    assert one.compute().item() == 1.0


# Properties


def test_pixels_that_do_not_count_make_no_contour() -> None:
    target = torch.zeros(1, 20, 20, dtype=torch.long)
    target[:, 8:12, 8:12] = 255
    preds = torch.zeros_like(target)
    preds[:, 9:11, 9:11] = 1  # nobody asks
    whole = boundary_counts(torch.zeros_like(preds), target * 0, num_classes=2, width=2)
    valid = target != 255
    for found in (
        boundary_counts(preds, target, num_classes=2, width=2, ignore_index=255),
        boundary_counts(preds, target * 0, num_classes=2, width=2, valid=valid),
    ):
        assert found.present.tolist() == whole.present.tolist() == [[20 * 20 - 16 * 16, 0]]
        assert found.predicted.tolist() == found.true_positives.tolist() == whole.present.tolist()


def test_probabilities_and_soft_targets_count_as_their_largest_class() -> None:
    probs, soft = torch.rand(2, 3, 9, 9), torch.rand(2, 3, 9, 9)
    expected = boundary_counts(probs.argmax(1), soft.argmax(1), num_classes=3, width=1)
    found = boundary_counts(probs, soft, num_classes=3, width=1)
    assert torch.equal(found.true_positives, expected.true_positives)


def test_space_can_have_any_number_of_dimensions() -> None:
    target = torch.zeros(1, 5, 6, 7, dtype=torch.long)
    found = boundary_counts(target, target, num_classes=2, width=1)
    assert found.present.tolist() == [[5 * 6 * 7 - 3 * 4 * 5, 0]]


def test_wrong_settings_raise() -> None:
    with pytest.raises(ValueError, match=r"`width` to be at least 1, but got 0"):
        BoundaryIoU(2, width=0)
    with pytest.raises(ValueError, match=r"`ratio` to be above 0, but got -1"):
        BoundaryIoU(2, ratio=-1)
    with pytest.raises(ValueError, match=r"`width` to be at least 1, but got 0"):
        BoundaryCalibrationError(2, width=0)
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\], but found 0 to 2"):
        boundary_counts(torch.tensor([[0, 2]]), torch.tensor([[0, 1]]), num_classes=2)


# Calibration near the borders


@pytest.mark.parametrize("kind", ["hard", "soft", "votes"])
def test_boundary_error_is_that_of_the_pixels_in_the_band(kind: str) -> None:
    probs, labels = torch.rand(2, 3, 30, 30).softmax(1), torch.zeros(2, 30, 30).long()
    labels[:, 5:17, 12:] = 1
    labels[:, 20:23, 3:8] = 255
    valid = torch.rand(2, 30, 30) < 0.9
    target: Any = labels
    if kind != "hard":
        target = torch.nn.functional.one_hot(labels.clamp(max=2), 3).movedim(-1, 1).double()
        target = target.where(labels.unsqueeze(1) != 255, 255)
    if kind == "votes":
        target = targets.votes(torch.stack([labels, labels], 1))
    marked = labels.where(valid & (labels != 255), -1)
    band = boundary_band(marked, width=2, num_classes=3)
    metric = BoundaryCalibrationError(3, width=2, ignore_index=255)
    expected = ExpectedCalibrationError(3)
    expected.update(probs, labels, band)
    metric.update(probs, target, valid)
    assert metric.compute().item() == pytest.approx(expected.compute().item(), abs=1e-7)
    assert 0 < metric.sums().pixels.sum() == band.sum() < 0.3 * band.numel()
    assert torch.equal(metric.reliability()["count"], expected.reliability()["count"])


def test_independent_classes_have_borders_of_their_own() -> None:
    probs = torch.rand(1, 2, 10, 10)
    target = torch.zeros(1, 2, 10, 10, dtype=torch.long)
    target[:, 0, :, 5:] = 1
    band = torch.zeros(1, 10, 10, dtype=torch.bool)
    band[..., 4:6] = True
    metric = BoundaryCalibrationError(2, width=1, independent=True)
    metric.update(probs, target)
    one = ExpectedCalibrationError(1, independent=True)
    one.update(probs[:, :1], target[:, :1], band)
    assert metric.sums().pixels.tolist() == [20]
    assert metric.compute().item() == pytest.approx(one.compute().item())


def test_a_perfectly_calibrated_model_has_no_error_at_the_borders() -> None:
    """Stripes of 12 pixels whose borders are uncertain by a pixel on each side.

    The labels of these pixels are drawn from their probabilities. The stripes on both sides are
    certain, so that the band holds all of the uncertain pixels, whatever is drawn.
    """
    N, H, W, C = 4, 300, 240, 3
    stripe = torch.arange(W) // 12
    probs = torch.nn.functional.one_hot(stripe % C, C).double().T.expand(N, H, C, W)
    probs = probs.movedim(2, 1).clone()  # (N, C, H, W)
    for border in range(12, W, 12):
        left, right = (border // 12 - 1) % C, border // 12 % C
        share = torch.rand(N, H, 2, dtype=torch.float64)
        probs[..., border - 1 : border + 1] = 0
        probs[:, left, :, border - 1 : border + 1] = share
        probs[:, right, :, border - 1 : border + 1] = 1 - share
    flat = probs.movedim(1, -1).reshape(-1, C)
    target = flat.multinomial(1).view(N, H, W)
    metric = BoundaryCalibrationError(C, width=3)
    metric.update(probs, target)
    pixels = int(metric.sums().pixels.sum())
    assert 0.4 * target.numel() < pixels < 0.8 * target.numel()
    bound = 2 * math.sqrt(15 * pixels) / 2 / pixels
    assert metric.compute().item() < bound < 0.01
    metric.reset()
    metric.update(probs**2 / (probs**2).sum(1, keepdim=True), target)
    assert metric.compute().item() > 2 * bound
