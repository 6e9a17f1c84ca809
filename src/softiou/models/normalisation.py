"""The mean and standard deviation of colours that an encoder's pretrained weights expect.

They are known without a network: those of timm are part of it, and those of
segmentation_models_pytorch are ImageNet's except for the families below.
"""

from typing import NamedTuple

import timm
from timm.data.constants import (
    IMAGENET_DPN_MEAN,
    IMAGENET_DPN_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)


class Normalisation(NamedTuple):
    """The input of the network is (image - mean) / std, of RGB in [0, 1]."""

    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD


_INCEPTION = Normalisation(IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)
_FAMILIES = {
    "dpn": Normalisation(IMAGENET_DPN_MEAN, IMAGENET_DPN_STD),
    "inception": _INCEPTION,
    "timm-tf_efficientnet_lite": _INCEPTION,
    "xception": _INCEPTION,
}


def normalisation_of(encoder: str) -> Normalisation:
    """Return the normalisation that the weights of an encoder were trained with.

    Args:
        encoder: As in `ModelSpec`, of segmentation_models_pytorch or timm.

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
