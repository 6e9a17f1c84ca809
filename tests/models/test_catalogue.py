"""Sizes and costs, without computing anything."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from softiou.errors import ConfigError
from softiou.models import ModelSpec, SegmentationModel
from softiou.models.catalogue import (
    COMMON_ENCODERS,
    cost_of,
    costs,
    encoder_families,
    search_encoders,
)


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("fpn", "tu-test_efficientnet"), ("segformer", "mit_b0"), ("dpt", "tu-test_vit")],
)
def test_cost_is_that_of_the_real_model(architecture: str, encoder: str) -> None:
    spec = ModelSpec(architecture, encoder, 5)
    model = SegmentationModel(spec).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = model(torch.zeros(1, 3, 96, 96))
    cost = cost_of(spec, crop_px=70)
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost.gmacs == pytest.approx(counter.get_total_flops() / 2e9)
    assert cost.stride == 96 // logits.shape[-1]
    assert cost.input_stride == 32
    assert cost.refusal is None


def test_macs_of_one_convolution_by_hand() -> None:
    """Two specs that differ in the number of classes differ by the last convolution."""
    small, large = (
        cost_of(ModelSpec("fpn", "tu-test_efficientnet", c), crop_px=64) for c in (1, 5)
    )
    cells, channels = 16 * 16, 128
    assert (large.gmacs - small.gmacs) * 1e9 == pytest.approx(4 * channels * cells)
    assert large.parameters - small.parameters == 4 * (channels + 1)


def test_pairs_that_cannot_be_had_have_a_reason() -> None:
    found = {cost.encoder: cost for cost in costs(architecture="linknet", crop_px=32)}
    assert tuple(found) == COMMON_ENCODERS
    assert "begin at stride 4" in str(found["mit_b0"].refusal)
    assert found["mit_b0"].parameters == 0
    assert found["resnet18"].parameters > 1e7


def test_names_that_nothing_has() -> None:
    with pytest.raises(ConfigError, match="Unknown encoder 'resnet19'"):
        costs(encoder="resnet19")


def test_families_and_search() -> None:
    families = encoder_families()
    assert families["xception"] == ["xception"]
    assert "resnet50" in families["resnet"]
    assert search_encoders("mobileone_s")[:2] == ["mobileone_s0", "mobileone_s1"]
    assert "tu-mobileone_s0" in search_encoders("mobileone_s")
