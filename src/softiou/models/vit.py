"""Heads for plain vision transformers: a linear classifier, and queries inside the encoder.

Shapes: N images, C classes, D channels of a token, Q queries, (H, W) the image, p the patch size.
"""

from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from timm.layers import LayerNorm2d, Mlp
from timm.models import Eva, VisionTransformer
from torch import Tensor, nn

from softiou.models.semantic_head import semantic_logits

QUERIES = 100
LINEAR_BLOCKS = 4
FINEST_STRIDE = 4  # stride of the masks of eomt


def patch_and_blocks(encoder: str) -> tuple[int, int]:
    """Return the side of the patches and the number of blocks of a vision transformer of timm.

    Raises:
        TypeError: The encoder is not a vision transformer, or has several strides.
    """
    if not encoder.startswith("tu-"):
        raise TypeError("the name must be tu-NAME, from timm.")
    with torch.device("meta"):
        vit: Any = timm.create_model(encoder.removeprefix("tu-"))
    strides = {int(info["reduction"]) for info in vit.feature_info}
    if not hasattr(vit, "blocks") or len(strides) != 1:
        raise TypeError(
            "it is not a plain vision transformer. Use one, such as tu-vit_small_patch14_dinov2."
        )
    return strides.pop(), len(vit.blocks)


def vit_network(
    architecture: str, *, encoder_name: str, encoder_weights: Any, classes: int, **options: Any
) -> nn.Module:
    """Build the network of an architecture; the arguments are those of `smp.create_model`."""
    _, blocks = patch_and_blocks(encoder_name)
    kind, first = NETWORKS[architecture]
    indices = [*range(-LINEAR_BLOCKS, 0)] if first is None else [-first(blocks) - 1, -1]
    options["pretrained"] = encoder_weights is not None
    options |= {"depth": len(indices), "output_indices": indices}
    network: nn.Module = kind(TimmViTEncoder(encoder_name.removeprefix("tu-"), **options), classes)
    return network


class LinearNetwork(nn.Module):
    """Batch norm and a linear classifier on the tokens of the last four blocks.

    The stride of the logits (N, C, H / p, W / p) is the patch size.

    References:
        Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024, arXiv
        2304.07193, section 7.4: the head of "+ms", at one size of the image.
    """

    def __init__(self, encoder: Any, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        channels = sum(encoder.out_channels)
        self.segmentation_head = nn.Sequential(
            nn.BatchNorm2d(channels), nn.Conv2d(channels, num_classes, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of normalised images (N, 3, H, W)."""
        logits: Tensor = self.segmentation_head(torch.cat(self.encoder(images)[0], 1))
        return logits


def joint_blocks(blocks: int) -> int:
    """Return the number of last blocks with queries: 3 of 12, 4 of 24, 5 of 40."""
    return 2 + blocks // 12


class QueryNetwork(nn.Module):
    """Queries that pass through the last encoder blocks; each predicts a class and a mask.

        logits_c = log sum_q softmax(classes_q)_c sigmoid(masks_q), see `semantic_logits`

    The mask of a query is its product with the patch features, which are upsampled by two while
    their stride is even and above 4: to stride 4 for patches of 16 pixels, 7 for 14.

    References:
        Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025, arXiv
        2503.19108: EoMT, here with an MLP of two layers, without masked attention and without
        matching queries to objects.
    """

    def __init__(self, encoder: Any, num_classes: int) -> None:
        super().__init__()
        vit, channels, stride = encoder.model, encoder.out_channels[-1], encoder.output_stride
        if not isinstance(vit, VisionTransformer | Eva):
            raise TypeError("its blocks cannot take queries. Use a ViT, DINOv2, DINOv3 or EVA-02.")
        self.encoder = encoder
        self.queries = nn.Parameter(torch.randn(1, QUERIES, channels))
        self.norm = nn.LayerNorm(channels)
        self.map_norm = LayerNorm2d(channels)
        self.decoder = nn.Sequential()
        while stride % 2 == 0 and stride > FINEST_STRIDE:
            self.decoder += nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 2, stride=2),
                nn.GELU(),
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                LayerNorm2d(channels),
            )
            stride //= 2
        self.segmentation_head = nn.ModuleDict(
            {
                "classes": nn.Linear(channels, num_classes + 1),
                "masks": Mlp(channels, channels, channels),
            }
        )
        self._seen: list[Tensor] = []
        joint = vit.blocks[-joint_blocks(len(vit.blocks)) :]
        joint[0].register_forward_pre_hook(self._enter)
        joint[-1].register_forward_hook(self._leave)
        for block in joint:
            if hasattr(block.attn, "num_prefix_tokens"):  # blocks without rotary positions
                block.attn.num_prefix_tokens += QUERIES

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of normalised images (N, 3, H, W)."""
        features = self.decoder(self.map_norm(self.encoder(images)[0][-1]))
        queries = self.norm(self._seen.pop())
        head = self.segmentation_head
        masks = torch.einsum("nqd,ndhw->nqhw", head["masks"](queries), features)
        return semantic_logits(head["classes"](queries), masks)

    def _enter(self, block: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Prepend the queries to the tokens (N, T, D)."""
        tokens, *others = args
        queries = self.queries.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return torch.cat([queries, tokens], 1), *others

    def _leave(self, block: nn.Module, args: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
        """Remove the queries from the tokens."""
        self._seen[:] = [tokens[:, :QUERIES]]
        return tokens[:, QUERIES:]


# class, and the number of blocks after the first features, by name
NETWORKS: dict[str, tuple[Any, Any]] = {
    "eomt": (QueryNetwork, joint_blocks),
    "linear": (LinearNetwork, None),
}
