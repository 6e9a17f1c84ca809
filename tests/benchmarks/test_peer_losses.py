"""Losses of other libraries in our recipes."""

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.peer_losses import LovaszSoftmax, peer_loss
from softiou import JaccardMetricLoss
from softiou.configuration.sections import LossConfig
from softiou.losses import OverlapLoss
from softiou.recipes import base


def test_lovasz_is_the_jaccard_index_where_predictions_are_sure() -> None:
    random = torch.Generator().manual_seed(0)
    target = torch.randint(3, (2, 8, 8), generator=random)
    target[0, :2] = 255
    preds = torch.randint(4, (2, 8, 8), generator=random)
    logits = 40.0 * one_hot(preds, 4).permute(0, 3, 1, 2).double()
    loss = LovaszSoftmax(cross_entropy=0.25, ignore_index=255)
    parts = loss.parts(logits, target)
    counts = target != 255
    ious = [
        ((preds == c) & (target == c) & counts).sum()
        / (((preds == c) | (target == c)) & counts).sum()
        for c in range(3)  # the fourth is not there
    ]
    overlap = 1 - torch.stack(ious).mean()
    of_pixels = cross_entropy(logits.float(), target, ignore_index=255)
    torch.testing.assert_close(parts["overlap"], overlap)
    torch.testing.assert_close(parts["loss"], 0.25 * of_pixels + 0.75 * overlap)
    # There, ours is the same.
    ours = JaccardMetricLoss(ignore_index=255, smooth=0.0)(logits, target)
    torch.testing.assert_close(ours.float(), overlap)


def test_logits_at_a_stride_are_interpolated() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    LovaszSoftmax(cross_entropy=0.5).parts(logits, target)["loss"].backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.abs().min() > 0
    with pytest.raises(TypeError, match="hard labels"):
        LovaszSoftmax().parts(logits, torch.rand(1, 3, 16, 16))


def test_a_peer_takes_the_place_of_our_loss_and_goes_away() -> None:
    def built() -> OverlapLoss:
        loss: OverlapLoss = vars(base)["build_loss"](LossConfig(cross_entropy=0.5), ignore_index=9)
        return loss

    with peer_loss("lovasz"):
        loss = built()
    assert isinstance(loss, LovaszSoftmax)
    assert (loss.cross_entropy, loss.ignore_index) == (0.5, 9)
    with peer_loss(None):
        assert isinstance(built(), JaccardMetricLoss)
