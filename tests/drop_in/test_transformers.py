"""The loss that a model of transformers calls."""

import pytest
import torch
import torch.nn.functional as F

from softiou import JaccardMetricLoss
from softiou.drop_in.transformers import ForSemanticSegmentationLoss


def test_with_the_cross_entropy_alone_it_is_the_original() -> None:
    loss_utils = pytest.importorskip("transformers.loss.loss_utils", reason="needs transformers")
    logits, auxiliary = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)
    labels = torch.randint(0, 3, (2, 16, 16))
    labels[:, :3] = 255
    loss = JaccardMetricLoss(cross_entropy=1.0, ignore_index=255, upsample="bilinear")
    for more in ({}, {"auxiliary_logits": auxiliary, "auxiliary_loss_weight": 0.3}):
        found = ForSemanticSegmentationLoss(loss)(logits, labels, ignore_index=255, **more)
        expected = loss_utils.ForSemanticSegmentationLoss(logits, labels, ignore_index=255, **more)
        torch.testing.assert_close(found, expected)


def test_a_model_takes_it_as_its_loss() -> None:
    transformers = pytest.importorskip("transformers", reason="needs softiou[transformers]")
    config = transformers.BeitConfig(
        image_size=32,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        out_indices=[1, 2, 3, 4],
        auxiliary_channels=8,
        num_labels=3,
    )
    torch.manual_seed(0)
    model = transformers.BeitForSemanticSegmentation(config)
    model.loss_function = ForSemanticSegmentationLoss()
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    outputs = model(images, labels=labels)
    wanted = JaccardMetricLoss(cross_entropy=0.25, ignore_index=255)
    small = F.interpolate(outputs.logits, size=(32, 32), mode="bilinear")
    assert outputs.loss > wanted(small, labels)  # and that of the auxiliary head
    outputs.loss.backward()
    assert all(p.grad is not None for p in model.decode_head.parameters())


def test_the_model_and_its_loss_ignore_the_same() -> None:
    loss = ForSemanticSegmentationLoss(JaccardMetricLoss(upsample="bilinear"))
    with pytest.raises(ValueError, match=r"configuration, 255, but got None.*ignore_index=255"):
        loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 8).long())
