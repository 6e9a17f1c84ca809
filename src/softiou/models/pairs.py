"""Compatibility of architectures and encoders."""

from difflib import get_close_matches
from functools import cache
from itertools import pairwise

import segmentation_models_pytorch as smp
import timm
import torch

from softiou.errors import ConfigError
from softiou.models.spec import ModelSpec

# Output strides of each architecture's paper, reached by dilating the last stages of the encoder.
OUTPUT_STRIDES = {"deeplabv3": (8, 16), "deeplabv3plus": (8, 16), "pan": (16,), "pspnet": (8, 16)}
DILATED = ("deeplabv3", "deeplabv3plus", "pan")  # by default
NEEDS_STRIDE_2 = ("linknet", "unetplusplus")
VIT_ONLY = ("dpt", "eomt", "linear")
_HIERARCHICAL = "resnet50, mit_b2, tu-convnext_tiny or tu-swin_tiny_patch4_window7_224"


def check_names(spec: ModelSpec) -> None:
    """Raise ConfigError for an unknown encoder or an unsupported output stride."""
    encoder, architecture = spec.encoder, spec.architecture
    strides = OUTPUT_STRIDES.get(architecture, ())
    if spec.output_stride is not None and spec.output_stride not in strides:
        others = ", ".join(f"{name} {list(known)}" for name, known in OUTPUT_STRIDES.items())
        raise ConfigError(
            f"model.output_stride: {architecture} has no output stride of {spec.output_stride}; "
            f"leave it at null. Architectures that have one: {others}."
        )
    if not _is_known(encoder):
        raise ConfigError(unknown_encoder(encoder))


def _is_known(encoder: str) -> bool:
    if not encoder.startswith("tu-"):
        return encoder in smp.encoders.get_encoder_names()
    name, _, tag = encoder.removeprefix("tu-").partition(".")
    return timm.is_model(name) and (not tag or f"{name}.{tag}" in timm.list_pretrained(f"{name}.*"))


def unknown_encoder(encoder: str) -> str:
    """Return the message for an unknown encoder, with similar names."""
    names = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())]
    close = get_close_matches(encoder, names, n=3)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    return (
        f"Unknown encoder {encoder!r}. {guess}Encoders have the names of "
        "segmentation_models_pytorch, or tu-NAME for timm's NAME: `softiou models` lists them."
    )


def unsupported_reason(spec: ModelSpec, error: Exception) -> str:
    """Return why a network cannot be built, after an error, and what to use instead."""
    return f"Cannot build {spec.architecture!r} with the encoder {spec.encoder!r}: " + (
        _known_reason(spec) or str(error) or type(error).__name__
    )


def _known_reason(spec: ModelSpec) -> str | None:
    architecture, encoder = spec.architecture, spec.encoder
    if architecture in VIT_ONLY and not encoder.startswith("tu-"):
        return (
            f"{architecture} is made for the vision transformers of timm, tu-NAME. "
            "Use one, such as tu-vit_small_patch16_224, or another architecture."
        )
    if architecture in NEEDS_STRIDE_2 and encoder.startswith("mit_"):
        return (
            f"{architecture} needs features at stride 2, but those of mit encoders begin at stride "
            "4. Use unet, fpn, segformer or upernet."
        )
    if architecture not in VIT_ONLY and encoder.startswith("tu-") and not _is_pyramid(encoder):
        return (
            f"{architecture} needs features at strides 4 to 32, but this encoder has others. Use "
            "dpt, linear or eomt with it if it is a vision transformer, or an encoder such as "
            f"{_HIERARCHICAL}."
        )
    if architecture in DILATED or spec.output_stride is not None:
        return (
            "the architecture dilates the last stages of its encoder, which this one does not "
            "support. ResNets, MobileNets, EfficientNets, RegNets (tu-regnety_040), ConvNeXts "
            "(tu-convnext_tiny) and tu-xception65 do; upernet, fpn, unet and segformer do not need "
            "it."
        )
    return None


def any_size(encoder: str) -> dict[str, bool]:
    """Return the options that let an encoder of timm take images of any size.

    Vision transformers are made for one image size; most have an option to interpolate their
    positions or to adapt their windows. Raises ConfigError for others.
    """
    return dict(_any_size(encoder.removeprefix("tu-"))) if encoder.startswith("tu-") else {}


@cache
def _any_size(name: str) -> tuple[tuple[str, bool], ...]:
    settings = timm.get_pretrained_cfg(name.partition(".")[0])
    if settings is not None and not settings.fixed_input_size:
        return ()
    for option in (("dynamic_img_size", True), ("strict_img_size", False)):
        try:
            with torch.device("meta"):
                timm.create_model(name, **dict([option]))
        except TypeError:  # it has no such option
            continue
        return (option,)
    if not _takes_any_size(name):
        raise ConfigError(
            f"The encoder 'tu-{name}' takes images of one size only, but segmentation needs any "
            f"size. Use another, such as {_HIERARCHICAL}."
        )
    return ()


def _takes_any_size(name: str) -> bool:
    """Return whether an encoder runs on another image size, tested on the meta device."""
    try:
        with torch.device("meta"):
            timm.create_model(name, features_only=True)(torch.zeros(1, 3, 96, 160))
    except (AssertionError, IndexError, RuntimeError, ValueError):
        return False
    return True


def _is_pyramid(encoder: str) -> bool:
    """Return whether the strides of a timm encoder start at 1, 2 or 4 and double."""
    with torch.device("meta"):
        net = timm.create_model(encoder.removeprefix("tu-"), features_only=True)
    strides = list(net.feature_info.reduction())
    return strides[0] in (1, 2, 4) and all(
        after == 2 * before for before, after in pairwise(strides)
    )
