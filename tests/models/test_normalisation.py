"""The colours that pretrained weights expect."""

import pytest
import torch

from softiou.models import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, SegmentationModel
from softiou.models.weights import normalisation_of

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("resnet50", IMAGENET),
        ("mobilenet_v2", IMAGENET),
        ("efficientnet-b0", IMAGENET),
        ("mit_b3", IMAGENET),
        ("xception", HALF),
        ("inceptionv4", HALF),
        ("inceptionresnetv2", HALF),
        ("timm-tf_efficientnet_lite0", HALF),
        ("tu-convnext_tiny", IMAGENET),
        ("tu-vit_small_patch16_224", HALF),
        ("tu-vit_small_patch16_224.dino", IMAGENET),  # other weights, other colours
        ("tu-xception65", HALF),
    ],
)
def test_mean_and_deviation(encoder: str, expected: tuple[object, object]) -> None:
    assert normalisation_of(encoder) == expected


def test_dual_path_networks_have_their_own() -> None:
    mean, std = normalisation_of("dpn68")
    assert mean == pytest.approx((124 / 255, 117 / 255, 104 / 255))
    assert std == pytest.approx([1 / (0.0167 * 255)] * 3)


def test_the_network_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SegmentationModel(ModelSpec("unet", "tu-test_resnet", 3))  # 0.5 and 0.5
    seen: list[torch.Tensor] = []

    def record(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images

    monkeypatch.setattr(model.net, "forward", record)
    model(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 32, 32))


def test_old_weights_keep_theirs() -> None:
    old = SegmentationModel(ModelSpec("unet", "tu-test_resnet", 3))
    old.mean.copy_(torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
    new = SegmentationModel(old.spec)
    new.load_state_dict(old.state_dict())
    assert new.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
