"""An auxiliary head on the encoder's second-last stage, for training."""

from typing import Any

from torch import Tensor, nn

CHANNELS = 256
DROPOUT = 0.1


class AuxiliaryHead(nn.Sequential):
    """A convolution with batch norm and a classifier per cell: logits (N, C, h, w).

    It is trained with the network's own head, with a weight of 0.4 in the papers, so that the
    gradient reaches the middle of the encoder directly. It is used for training only.

    References:
        Zhao et al., Pyramid Scene Parsing Network, CVPR 2017, arXiv 1612.01105, section 3.3. The
        256 channels are those of `FCNHead` in mmsegmentation's configurations.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(inplace=True),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(CHANNELS, num_classes, 1),
        )


def second_last(found: Any) -> Tensor:
    """Return the features (N, channels, h, w) for the head from the output of an encoder."""
    maps = found[0] if isinstance(found, tuple) else found  # that of dpt also returns prefix tokens
    features: Tensor = maps[-2]
    return features
