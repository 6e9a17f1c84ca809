"""Every architecture, and every family of encoders: two steps, and logits at the right stride."""

import pytest
import torch
import torch.nn.functional as F

from marks import slow
from models.two_steps import fit_two_steps, stride_of
from softiou.models import ModelSpec, SegmentationModel, architectures
from softiou.models.building import create
from softiou.models.vit import NETWORKS

SWIN = "tu-swin_tiny_patch4_window7_224"
AUXILIARY = "loss.auxiliary=0.4"

# Architecture, encoder, other settings, stride of the logits.
CASES = [
    ("deeplabv3", "resnet18", (), 8),
    ("deeplabv3plus", "mobilenet_v2", (), 4),
    ("dpt", "tu-test_vit", (AUXILIARY,), 2),
    ("eomt", "tu-test_vit", (AUXILIARY,), 4),
    ("fpn", "xception", (), 4),
    ("fpn", "tu-resnet18", (), 4),
    ("linear", "tu-test_vit", (), 16),
    ("linknet", "resnet18", (), 1),
    ("manet", "resnet18", (), 1),
    ("pan", "resnet18", (AUXILIARY,), 4),
    ("pspnet", "resnet18", (), 8),
    ("segformer", "mit_b0", (), 4),
    ("unet", "efficientnet-b0", (), 1),
    ("unetplusplus", "resnet18", (), 1),
    ("upernet", "tu-convnext_atto", (AUXILIARY,), 4),
]


# Larger encoders of the same families: with bottlenecks, more blocks or a larger patch.
LARGER = [
    ("deeplabv3", "resnet50", (AUXILIARY, "model.output_stride=16"), 16),
    ("deeplabv3plus", "resnet101", ("model.output_stride=8",), 4),
    ("dpt", "tu-vit_tiny_patch16_224", (), 2),
    ("pspnet", "resnet50", (AUXILIARY, "model.output_stride=8"), 8),
    ("upernet", SWIN, (AUXILIARY,), 4),
    *(("segformer", f"mit_b{n}", (), 4) for n in (1, 2, 3, 4, 5)),
]


def test_cases_cover_all_architectures() -> None:
    assert {case[0] for case in CASES} == set(architectures())


@pytest.mark.parametrize(
    ("architecture", "encoder", "overrides", "stride"), [*CASES, *slow(*LARGER)], ids=str
)
def test_two_steps(
    architecture: str, encoder: str, overrides: tuple[str, ...], stride: int
) -> None:
    assert stride_of(fit_two_steps(architecture, encoder, *overrides)) == stride


@pytest.mark.parametrize(
    ("architecture", "output_stride"),
    [
        *((name, None) for name in architectures() if name not in NETWORKS),
        *((name, 8) for name in ("deeplabv3", "deeplabv3plus", "pspnet")),
    ],
)
def test_logits_are_those_of_the_whole_network(
    architecture: str, output_stride: int | None
) -> None:
    """Interpolated as the network itself would, they are what it hands out."""
    encoder = "tu-test_vit" if architecture == "dpt" else "resnet18"
    spec = ModelSpec(architecture, encoder, 3, output_stride=output_stride)
    model, whole = SegmentationModel(spec).double().eval(), create(spec).double().eval()
    whole.load_state_dict(model.net.state_dict())
    images = torch.rand(1, 3, 128, 160, dtype=torch.float64)
    with torch.no_grad():
        expected = whole((images - model.mean) / model.std)
        logits = model(images)
    assert expected.shape[-2:] == (128, 160)
    # Its corners are aligned; ours are those of the pixels, as in the loss and in inference.
    found = F.interpolate(logits, (128, 160), mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("architecture", "encoder", "size", "smallest", "stride"),
    [
        ("pan", "resnet18", (48, 160), 128, 4),
        ("pspnet", "mit_b0", (16, 40), 32, 8),
        ("deeplabv3", "mit_b0", (8, 8), 32, 8),
    ],
)
def test_small_images_are_padded_to_what_the_network_can_see(
    architecture: str, encoder: str, size: tuple[int, int], smallest: int, stride: int
) -> None:
    model = SegmentationModel(ModelSpec(architecture, encoder, 3)).eval()
    height, width = size
    image = torch.rand(1, 3, height, width)
    padded = model.mean.expand(1, 3, max(height, smallest), max(width, smallest)).clone()
    padded[..., :height, :width] = image
    rows, columns = height // stride, width // stride
    with torch.no_grad():
        assert model(image).shape[-2:] == (rows, columns)
        torch.testing.assert_close(model(image), model(padded)[..., :rows, :columns])
