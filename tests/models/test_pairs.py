"""Which architecture and encoder go together, and what is said of the others."""

import warnings

import pytest
import timm
import torch

from softiou.errors import ConfigError
from softiou.models import IMAGENET_MEAN, ModelSpec, SegmentationModel
from softiou.models import pairs as tested
from softiou.models.pairs import any_size

SMALL_VIT = "tu-test_vit"


@pytest.mark.parametrize(
    ("architecture", "encoder", "message"),
    [
        (
            "unett",
            "resnet18",
            "Unknown architecture 'unett'. Did you mean unet"
            ".* Available are deeplabv3, .*transformers",
        ),
        ("unet", "resnet19", r"Unknown encoder 'resnet19'\. Did you mean .*resnet18"),
        (
            "unet",
            "zzzzzz",
            r"Unknown encoder 'zzzzzz'\. Encoders have the names of segmentation_models_",
        ),
        ("unet", "tu-convnex_tiny", r"Unknown encoder .* Did you mean tu-convnext_tiny"),
        ("unet", "tu-hf-hub:somebody/model", "Unknown encoder"),
        ("unet", "tu-resnet18.no_such_tag", r"Unknown encoder 'tu-resnet18.no_such_tag'"),
        ("dpt", "resnet18", "is made for the vision transformers of timm.*tu-vit_small_patch16"),
        ("unet", SMALL_VIT, "needs features at strides 4 to 32.* Use dpt, linear or eomt with it"),
        ("unet", "tu-mixer_b16_224", "takes images of one size only"),
        ("fpn", "tu-test_maxvit", "takes images of one size only.*tu-convnext_tiny"),
        (
            "unetplusplus",
            "mit_b0",
            "needs features at stride 2, but those of mit encoders begin at stride 4",
        ),
        ("linknet", "mit_b0", "Use unet, fpn, segformer or upernet"),
        ("deeplabv3", "xception", "this one does not support.*tu-xception65 do"),
        ("deeplabv3plus", "tu-swin_tiny_patch4_window7_224", "this one does not support"),
        ("pan", "vgg11", "this one does not support.*upernet, fpn"),
        ("pan", "tu-dla34", "this one does not support"),
    ],
)
def test_what_does_not_go_together_is_refused(
    architecture: str, encoder: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SegmentationModel(ModelSpec(architecture, encoder, 3))


def test_a_reason_that_nobody_foresaw_is_handed_on() -> None:
    spec = ModelSpec("unet", "tu-test_efficientnet", 3)
    assert tested.unsupported_reason(spec, ValueError("the moon is full")) == (
        "Cannot build 'unet' with the encoder 'tu-test_efficientnet': the moon is full"
    )
    assert tested.unsupported_reason(spec, AssertionError()).endswith(": AssertionError")


# Output stride


@pytest.mark.parametrize(
    ("architecture", "output_stride", "stride"),
    [
        ("deeplabv3", 8, 8),
        ("deeplabv3", 16, 16),
        ("deeplabv3plus", 8, 4),
        ("deeplabv3plus", 16, 4),
        ("pan", 16, 4),
        ("pspnet", 8, 8),
        ("pspnet", 16, 16),
    ],
)
def test_output_stride(architecture: str, output_stride: int, stride: int) -> None:
    spec = ModelSpec(architecture, "resnet18", 3, output_stride=output_stride)
    with torch.device("meta"):
        model = SegmentationModel(spec).eval()
        images = torch.zeros(1, 3, 128, 256)
    assert model.input_stride == output_stride
    assert model.net.encoder(images)[-1].shape[-2:] == (128 // output_stride, 256 // output_stride)
    assert model.net.encoder(images)[-1].shape[1] == 512  # the last stage, in pspnet as well
    assert model(images).shape[-2:] == (128 // stride, 256 // stride)


@pytest.mark.parametrize(("stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18])])
@pytest.mark.parametrize("architecture", ["deeplabv3", "deeplabv3plus"])
def test_rates_are_those_of_the_papers(architecture: str, stride: int, rates: list[int]) -> None:
    with torch.device("meta"):
        spec = ModelSpec(architecture, "resnet18", 3, output_stride=stride)
        decoder = SegmentationModel(spec).net.decoder
    found = [
        module.dilation[0]
        for name, module in decoder.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.dilation[0] > 1
    ]
    assert found == rates


@pytest.mark.parametrize(("architecture", "output_stride"), [("unet", 8), ("pan", 8), ("fpn", 16)])
def test_output_stride_of_others_is_refused(architecture: str, output_stride: int) -> None:
    message = rf"{architecture} has no output stride of {output_stride}; leave it.*pspnet \[8, 16\]"
    with pytest.raises(ConfigError, match=message):
        SegmentationModel(ModelSpec(architecture, "resnet18", 3, output_stride=output_stride))


def test_output_stride_of_an_encoder_that_cannot() -> None:
    with pytest.raises(ConfigError, match="this one does not support"):
        SegmentationModel(ModelSpec("pspnet", "vgg11", 3, output_stride=8))


# Any size of image


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("resnet18", {}),
        ("tu-test_resnet", {}),
        ("tu-vit_tiny_patch16_224", {"dynamic_img_size": True}),
        ("tu-vit_tiny_patch16_224.augreg_in21k", {"dynamic_img_size": True}),
        ("tu-twins_pcpvt_small", {}),  # said to have one size, and has not
    ],
)
def test_options_for_any_size(encoder: str, options: dict[str, bool]) -> None:
    assert any_size(encoder) == options


def test_names_from_before_there_were_tags() -> None:
    """timm still builds them, so checkpoints with them have to load."""
    name = "tu-vit_tiny_patch16_224_in21k"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mapping deprecated model name")
        model = SegmentationModel(ModelSpec("dpt", name, 3)).eval()
    assert model.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert model(torch.zeros(1, 3, 64, 32)).shape == (1, 3, 32, 16)


def test_swin_takes_any_size() -> None:
    assert any_size("tu-swin_tiny_patch4_window7_224") in (
        {"dynamic_img_size": True},
        {"strict_img_size": False},  # older versions of timm
    )


def test_positions_are_interpolated() -> None:
    """A vision transformer sees a small image as a larger one at the size it was made for."""
    model = SegmentationModel(ModelSpec("dpt", SMALL_VIT, 3)).eval()
    size = timm.get_pretrained_cfg("test_vit").input_size[1]
    with torch.no_grad():
        own = model(torch.rand(1, 3, size, size))
        other = model(torch.rand(1, 3, 2 * size, size // 5 * 3))
    assert own.shape[-2:] == (size // 2, size // 2)
    assert other.shape[-2:] == (size, size // 10 * 3)
    assert other.isfinite().all()
