"""Convert Mask2Former's masks and classes to per-cell class logits.

Shapes: N images, Q queries, C classes, (h, w) cells.
"""

from typing import Any

import torch
from torch import Tensor, nn

EPS = 1e-6


def semantic_logits(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Compute logits whose softmax is proportional to the scores of the queries for each class.

        score_c = sum_q softmax(class_logits)_qc sigmoid(mask_logits)_q
        logits_c = log(score_c + eps)

    Mask2Former ranks classes by these scores. They are positive with a sum of up to Q, so their
    softmax would be almost uniform and hard to train. The softmax of their logarithms is score_c /
    sum of the scores: a distribution with the same most probable class.

    Args:
        class_logits: (N, Q, C + 1); the last class is "no object".
        mask_logits: (N, Q, h, w).

    Returns:
        (N, C, h, w), float32, at least log(1e-6) = -13.8.

    Note:
        Computed in float32, also under autocast. If no query has a mask, all logits are low and
        their softmax is uniform.

    Example:
        >>> classes = torch.tensor([[[2.0, 0.0, -9.0], [0.0, 3.0, -9.0]]])  # two queries
        >>> masks = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])  # a cell each
        >>> semantic_logits(classes, masks).softmax(1)[0, :, 0].mT.round(decimals=2)
        tensor([[0.8800, 0.1200],
                [0.0500, 0.9500]])

    References:
        Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation, CVPR 2022,
        arXiv 2112.01527; the scores are the semantic inference of Cheng et al., Per-Pixel
        Classification is Not All You Need, NeurIPS 2021, section 3.4.
    """
    with torch.autocast("cpu" if class_logits.is_meta else class_logits.device.type, enabled=False):
        classes = class_logits.float().softmax(-1)[..., :-1]
        masks = mask_logits.float().sigmoid()
        scores = torch.einsum("nqc,nqhw->nchw", classes, masks)
        return (scores + EPS).log()


class Mask2FormerHead(nn.Module):
    """The decoder of a `Mask2FormerForUniversalSegmentation`: features to semantic logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.pixel_decoder = model.model.pixel_level_module.decoder
        self.queries = model.model.transformer_module
        self.class_predictor = model.class_predictor

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return logits (N, C, h, w) of features at strides 4 to 32."""
        pixels = self.pixel_decoder(features)
        found = self.queries(
            multi_scale_features=pixels.multi_scale_features, mask_features=pixels.mask_features
        )
        # (Q, N, channels) -> (N, Q, C + 1)
        classes = self.class_predictor(found.intermediate_hidden_states[-1].transpose(0, 1))
        return semantic_logits(classes, found.masks_queries_logits[-1])
