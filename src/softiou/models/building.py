"""Networks of segmentation_models_pytorch whose logits stay at the decoder's stride."""

import math
import warnings
from contextlib import nullcontext
from difflib import get_close_matches
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from torch import nn

from softiou.data.crops import CROP_MULTIPLE
from softiou.errors import CheckpointError, ConfigError
from softiou.models.pairs import OUTPUT_STRIDES, VIT_ONLY, any_size, check_names, unsupported_reason
from softiou.models.spec import TRANSFORMERS, ModelSpec
from softiou.models.vit import NETWORKS, patch_and_blocks, vit_network
from softiou.models.weights import no_waiting_offline

DPT_STRIDE = 32  # the last one of its pyramid, with patches of a power of two
PAN_SMALLEST_PX = 128  # it halves the features of stride 16 three times
REDUCING = ("mit_", "tu-pvt_")  # encoders whose attention reduces keys and values by 8 at stride 4
REDUCING_SMALLEST_PX = 32


def architectures() -> list[str]:
    """Return the names of the architectures, except transformers."""
    return sorted([*smp.MODEL_ARCHITECTURES_MAPPING, *NETWORKS])


def build_network(spec: ModelSpec, *, download: bool = False) -> Any:
    """Return a network without its last upsampling, which loss and inference do."""
    net = create(spec, download=download)
    head = net.segmentation_head
    if spec.architecture == "dpt":
        patch = net.encoder.output_stride
        head.upsampling_factor = patch / _power_of_two(patch)  # stride 2 for any patch size
    for name, module in head.named_children():
        if isinstance(module, nn.Upsample):
            setattr(head, name, nn.Identity())
    return net.to(memory_format=torch.channels_last)


def create(spec: ModelSpec, *, download: bool = False) -> Any:
    """Return a network with its last upsampling; arguments as in `build_network`."""
    if spec.architecture not in architectures():
        close = get_close_matches(spec.architecture, architectures(), n=2)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(
            f"Unknown architecture {spec.architecture!r}.{guess} Available are "
            f"{', '.join(architectures())}, and {TRANSFORMERS} for models of Hugging Face."
        )
    check_names(spec)
    timm_name = spec.encoder.removeprefix("tu-")
    if download and timm_name != spec.encoder and not timm.is_model_pretrained(timm_name):
        raise _no_weights(spec)
    # timm has one default set of weights per name, selected by True
    imagenet = True if spec.encoder.startswith("tu-") else "imagenet"
    try:
        with no_waiting_offline() if download else nullcontext(), warnings.catch_warnings():
            # dpt works without prefix tokens as well
            warnings.filterwarnings("ignore", "Encoder does not have prefix tokens")
            make = vit_network if spec.architecture in NETWORKS else smp.create_model
            net = make(
                spec.architecture,
                encoder_name=spec.encoder,
                encoder_weights=imagenet if download else None,
                in_channels=spec.channels,
                classes=spec.num_classes,
                **_dilation(spec),
                **any_size(spec.encoder),
            )
    except KeyError as error:
        if not download:
            raise ConfigError(unsupported_reason(spec, error)) from error
        raise _no_weights(spec, f" ({error.args[0]})") from error
    except OSError as error:
        raise CheckpointError(
            f"Cannot download the ImageNet weights of {spec.encoder!r}. Set model.encoder_weights "
            f"to a local safetensors file, or to none to start from scratch. ({error})"
        ) from error
    except ConfigError:
        raise
    except _BUILDING as error:
        raise ConfigError(unsupported_reason(spec, error)) from error
    if spec.architecture == "dpt":
        _adapt_to_patches(net)
    return net


def _adapt_to_patches(net: Any) -> None:
    """Give a dpt with patches of 14 pixels the feature pyramid for 16 pixels."""
    encoder, patches = net.encoder, [_power_of_two(side) for side in net.encoder.output_strides]
    if patches != encoder.output_strides:
        net.decoder = DPTDecoder(
            encoder.out_channels, patches, encoder_has_prefix_tokens=encoder.has_prefix_tokens
        )
        net.initialize()


def _power_of_two(length: int) -> int:
    """Return the nearest power of two, by ratio."""
    return int(2 ** round(math.log2(length)))


def _no_weights(spec: ModelSpec, reason: str = "") -> CheckpointError:
    return CheckpointError(
        f"model.encoder_weights: there are no ImageNet weights of {spec.encoder!r}. Set it to a "
        f"local safetensors file, or to none to start from scratch.{reason}"
    )


_BUILDING = (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError)


def input_stride(architecture: str, stride: int) -> int:
    """Return the number that height and width of the input must be multiples of."""
    coarsest = DPT_STRIDE // _power_of_two(stride) if architecture == "dpt" else 1
    return stride * max(1, coarsest)


def crop_multiple(architecture: str, encoder: str) -> int:
    """Return the number that crop sides are rounded to: 32, or more for other patch sizes.

    For a patch of 14 pixels it is 14, and 28 with dpt.
    """
    if architecture not in VIT_ONLY:
        return CROP_MULTIPLE
    try:
        stride = input_stride(architecture, patch_and_blocks(encoder)[0])
    except (RuntimeError, TypeError, ValueError):  # reported when the network is built
        return CROP_MULTIPLE
    return stride if CROP_MULTIPLE % stride else CROP_MULTIPLE


def smallest_px(spec: ModelSpec) -> int:
    """Return the smallest height and width of the input; 1 if there is no extra limit."""
    if spec.architecture == "pan":
        return PAN_SMALLEST_PX
    strided = spec.architecture in OUTPUT_STRIDES  # all others have a stride of 32
    return REDUCING_SMALLEST_PX if strided and spec.encoder.startswith(REDUCING) else 1


def _dilation(spec: ModelSpec) -> dict[str, Any]:
    """Return the options for an output stride, with the dilation rates of the DeepLab papers."""
    stride = spec.output_stride
    if stride is None:
        return {}
    if spec.architecture == "pspnet":  # by default it uses the encoder up to stride 8 only
        return {"encoder_depth": 5, "output_stride": stride, "upsampling": stride}
    options: dict[str, Any] = {"encoder_output_stride": stride}
    if spec.architecture.startswith("deeplab"):
        options["decoder_atrous_rates"] = (12, 24, 36) if stride == 8 else (6, 12, 18)
    return options
