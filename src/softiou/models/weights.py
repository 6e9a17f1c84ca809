"""Pretrained weights of encoders: files, downloads and normalisation."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import constants as usual
from timm.models import adapt_input_conv
from torch import nn

from softiou.errors import CheckpointError


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load weights from a safetensors file into an encoder.

    Raises:
        CheckpointError: The file is missing, not in safetensors, or belongs to another encoder.
    """
    if not path.is_file():
        raise CheckpointError(
            f"model.encoder_weights: there is no file {path}. Use none, imagenet or the path of a "
            "safetensors file."
        )
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    own = encoder.state_dict()
    if not any(name in own for name in weights):  # a file of timm, without our prefix
        weights = {f"model.{name}": tensor for name, tensor in weights.items()}
    for name, tensor in weights.items():  # adapt RGB weights to other bands, as timm does
        if name in own and tensor.ndim == 4 and tensor.shape[1] == 3 != own[name].shape[1]:
            weights[name] = adapt_input_conv(own[name].shape[1], tensor)
    missing = [name for name in own if name not in weights]
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or wrong:
        raise CheckpointError(
            f"{path} does not fit the encoder: {len(missing)} tensors are missing and {len(wrong)} "
            f"have another shape, for instance {(missing + wrong)[0]}. Is it for another encoder?"
        )
    encoder.load_state_dict({name: weights[name] for name in own})


@contextmanager
def no_waiting_offline() -> Iterator[None]:
    """Return a context that uses Hugging Face's cache immediately if the network is down."""
    from huggingface_hub import constants

    with nullcontext() if _reachable(constants.ENDPOINT) else offline():
        yield


@contextmanager
def offline() -> Iterator[None]:
    """Return a context in which Hugging Face does not use the network."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    """Return whether a connection can be opened; with a proxy, assume so."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = usual.IMAGENET_DEFAULT_MEAN
IMAGENET_STD: Colour = usual.IMAGENET_DEFAULT_STD


class Normalisation(NamedTuple):
    """The input of the network is (image - mean) / std, of RGB in [0, 1]."""

    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD


# known offline: timm has its own, and segmentation_models_pytorch uses those of ImageNet except for
# these families
_INCEPTION = Normalisation(usual.IMAGENET_INCEPTION_MEAN, usual.IMAGENET_INCEPTION_STD)
_FAMILIES = {
    "dpn": Normalisation(usual.IMAGENET_DPN_MEAN, usual.IMAGENET_DPN_STD),
    "inception": _INCEPTION,
    "timm-tf_efficientnet_lite": _INCEPTION,
    "xception": _INCEPTION,
}


def normalisation_of(encoder: str) -> Normalisation:
    """Return the normalisation used in the pretraining of an encoder.

    Example:
        >>> normalisation_of("xception")
        Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    """
    if encoder.startswith("tu-"):
        settings = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if settings is None:  # an old name without a tag
            return Normalisation()
        return Normalisation(tuple(settings.mean), tuple(settings.std))
    for family, found in _FAMILIES.items():
        if encoder.startswith(family):
            return found
    return Normalisation()
