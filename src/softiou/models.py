"""Segmentation models by name, that take plain RGB and hand out logits at the decoder's own stride.

Shapes: N images, C classes, (H, W) the image, (h, w) the logits at the decoder's stride.
"""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from softiou.errors import CheckpointError, ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model again: what a checkpoint stores beside the weights.

    Attributes:
        architecture: A name of segmentation_models_pytorch, for instance "deeplabv3plus" or "unet".
        encoder: An encoder name of segmentation_models_pytorch; "tu-NAME" is timm's NAME.
        num_classes: C.
    """

    architecture: str
    encoder: str
    num_classes: int

    def as_dict(self) -> dict[str, str | int]:
        """Return plain values for a checkpoint."""
        return asdict(self)


class SegmentationModel(nn.Module):
    """A network of segmentation_models_pytorch between RGB in [0, 1] and low-resolution logits.

    Normalisation and padding to the encoder's stride happen inside, so that training, evaluation
    and export cannot disagree on them.

    Args:
        spec: What to build.
        encoder_weights: "none", "imagenet" (downloads), or a local safetensors file.

    Raises:
        ConfigError: Architecture or encoder are unknown, or do not go together.
        CheckpointError: The encoder weights cannot be had or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, *, encoder_weights: str = "none") -> None:
        super().__init__()
        self.spec = spec
        self.net = _build(spec, download=encoder_weights == "imagenet")
        if encoder_weights not in ("none", "imagenet"):
            load_encoder(self.net.encoder, Path(encoder_weights).expanduser())
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits at the decoder's stride.

        Args:
            images: RGB (N, 3, H, W), uint8 in [0, 255] or floating in [0, 1].

        Returns:
            Logits (N, C, h, w) that cover the image, padded at the right and bottom to a multiple
            of the encoder's stride; `upsample` brings them to (H, W).
        """
        if not images.is_floating_point():
            images = images.to(self.mean.dtype) / 255
        images = (images - self.mean) / self.std
        height, width = images.shape[-2:]
        stride = self.input_stride
        # Zero after normalisation is the mean colour.
        images = F.pad(images, (0, -width % stride, 0, -height % stride))
        logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits

    @property
    def input_stride(self) -> int:
        """Pixels that height and width of the network's input are a multiple of."""
        return int(self.net.encoder.output_stride)

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Interpolate logits (N, C, h, w) to the image size (H, W) that they were computed for."""
        height, width = (length + -length % self.input_stride for length in size)
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]

    def predict_logits(self, images: Tensor) -> Tensor:
        """Compute logits at full resolution (N, C, H, W); images as in `forward`."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return self.upsample(self(images), size)


def architectures() -> list[str]:
    """Return the names of the architectures."""
    return sorted(smp.MODEL_ARCHITECTURES_MAPPING)


def _build(spec: ModelSpec, *, download: bool) -> Any:
    if spec.architecture not in architectures():
        raise ConfigError(
            f"Unknown architecture {spec.architecture!r}; there are {', '.join(architectures())}."
        )
    try:
        with _no_waiting_offline() if download else nullcontext():
            net = smp.create_model(
                spec.architecture,
                encoder_name=spec.encoder,
                encoder_weights=_imagenet(spec.encoder) if download else None,
                classes=spec.num_classes,
            )
    except KeyError as error:
        raise ConfigError(_encoder_mistake(spec.encoder, str(error.args[0]))) from error
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"Cannot build {spec.architecture!r} with the encoder {spec.encoder!r}: {error}"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"Cannot download the ImageNet weights of {spec.encoder!r}. Set model.encoder_weights "
            f"to a local safetensors file, or to none to start from scratch. ({error})"
        ) from error
    # The head's last upsampling is left to the loss and to `upsample`.
    head = net.segmentation_head
    for name, module in head.named_children():
        if isinstance(module, nn.Upsample):
            setattr(head, name, nn.Identity())
    return net.to(memory_format=torch.channels_last)


def _imagenet(encoder: str) -> str | bool:
    # timm's names stand for one set of weights each, and True is that one.
    return True if encoder.startswith("tu-") else "imagenet"


def _encoder_mistake(encoder: str, message: str) -> str:
    """Say what is wrong with an encoder that is unknown, or that has no ImageNet weights."""
    known = smp.encoders.get_encoder_names()
    if encoder in known:
        return f"Cannot build the encoder {encoder!r}: {message}"
    close = get_close_matches(encoder, known, n=3)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    return (
        f"Unknown encoder {encoder!r}. {guess}It takes the names of segmentation_models_pytorch, "
        "and tu-NAME for timm's NAME."
    )


@contextmanager
def _no_waiting_offline() -> Iterator[None]:
    """Without a network, make Hugging Face look into its cache at once, not after many retries."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    """Return whether a connection can be opened; a proxy is trusted to know a way."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load weights from a safetensors file into an encoder.

    Raises:
        CheckpointError: The file is missing, is no safetensors file, or belongs to another encoder.
    """
    if not path.is_file():
        raise CheckpointError(
            f"model.encoder_weights: there is no file {path}. Give none, imagenet or the path of a "
            "safetensors file."
        )
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
    own = encoder.state_dict()
    missing = [name for name in own if name not in weights]
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or wrong:
        raise CheckpointError(
            f"{path} does not fit the encoder: {len(missing)} tensors are missing and {len(wrong)} "
            f"have another shape, for instance {(missing + wrong)[0]}. Is it another encoder's?"
        )
    encoder.load_state_dict({name: weights[name] for name in own})
