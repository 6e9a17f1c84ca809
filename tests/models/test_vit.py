"""Plain vision transformers: patches of 14 pixels, a linear head, and queries in the encoder."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from marks import slow
from models.two_steps import fit_two_steps, stride_of
from softiou.configuration import load_config
from softiou.data import open_dataset
from softiou.errors import ConfigError
from softiou.exporting import trace
from softiou.models import ModelSpec, SegmentationModel
from softiou.models.building import crop_multiple
from softiou.models.semantic_head import semantic_logits
from softiou.models.vit import QUERIES, joint_blocks, patch_and_blocks
from softiou.training.resolving import resolve

DINO, EVA = "tu-vit_small_patch14_dinov2", "tu-eva02_tiny_patch14_224"
SMALL = "tu-test_vit"  # six blocks, patches of 16 pixels

# Architecture, encoder, other settings, stride of the input and of the logits.
CASES = [
    ("dpt", EVA, (), 28, 2),
    ("eomt", "tu-vit_small_patch16_dinov3", (), 16, 4),
    ("linear", DINO, ("loss.auxiliary=0.4",), 14, 14),
    *slow(
        ("dpt", DINO, (), 28, 2),
        ("eomt", DINO, (), 14, 7),
        ("eomt", EVA, ("loss.auxiliary=0.4",), 14, 7),
        ("linear", EVA, (), 14, 14),
    ),
]


@pytest.mark.parametrize(
    ("architecture", "encoder", "overrides", "input_stride", "stride"), CASES, ids=str
)
def test_two_steps(
    architecture: str, encoder: str, overrides: tuple[str, ...], input_stride: int, stride: int
) -> None:
    model = fit_two_steps(architecture, encoder, *overrides, side=56)
    assert model.input_stride == input_stride
    assert stride_of(model) == stride


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        pytest.param("dpt", EVA, marks=pytest.mark.slow),
        pytest.param("eomt", EVA, marks=pytest.mark.slow),
        ("eomt", SMALL),
        ("linear", DINO),
    ],
)
def test_exported_programs_take_any_size(architecture: str, encoder: str) -> None:
    model = SegmentationModel(ModelSpec(architecture, encoder, 3)).eval()
    program = trace(model, None, input_dtype="uint8").module()
    images = torch.randint(0, 256, (2, 3, 61, 77), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model.predict_logits(images).softmax(1)
        torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-5)


def test_dpt_has_the_pyramid_of_patches_of_16() -> None:
    def shapes(encoder: str) -> dict[str, torch.Size]:
        with torch.device("meta"):
            decoder = SegmentationModel(ModelSpec("dpt", encoder, 3)).net.decoder
        return {name: tensor.shape for name, tensor in decoder.state_dict().items()}

    assert shapes(DINO) == shapes("tu-vit_small_patch16_224")


# The heads by hand


def tokens_of(vit: Any, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what enters the first block, and what its blocks are called with."""
    found = vit._pos_embed(vit.patch_embed(images))
    tokens, rope = found if isinstance(found, tuple) else (found, None)
    return vit.norm_pre(tokens), {} if rope is None else {"rope": rope}


@pytest.mark.parametrize("encoder", [SMALL, EVA])
def test_queries_pass_through_the_last_blocks(encoder: str) -> None:
    model = SegmentationModel(ModelSpec("eomt", encoder, 3)).eval()
    net, vit = model.net, model.net.encoder.model
    side, (patch, blocks) = 4 * model.input_stride, patch_and_blocks(encoder)
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        tokens, settings = tokens_of(vit, (images - model.mean) / model.std)
        first = blocks - joint_blocks(blocks)
        for block in vit.blocks[:first]:
            tokens = block(tokens, **settings)
        tokens = torch.cat([net.queries.expand(2, -1, -1), tokens], 1)
        for block in vit.blocks[first:]:
            # Without the hooks, which are called around forward.
            tokens = block.forward(tokens, **settings)
        queries, patches = net.norm(tokens[:, :QUERIES]), tokens[:, QUERIES + 1 :]
        maps = net.decoder(net.map_norm(patches.mT.reshape(2, -1, 4, 4)))
        masks = (net.segmentation_head["masks"](queries) @ maps.flatten(2)).view(
            2, QUERIES, *maps.shape[2:]
        )
        expected = semantic_logits(net.segmentation_head["classes"](queries), masks)
        found = model(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape[-1] == 4 * (2 if patch == 14 else 4)
    assert expected.std() > 0.01


def test_rotated_positions_are_those_of_the_patches_alone() -> None:
    """The rotation of DINOv3 and EVA-02 leaves out as many tokens as stand before the patches."""
    vit = SegmentationModel(ModelSpec("eomt", EVA, 3)).net.encoder.model
    assert [block.attn.num_prefix_tokens for block in vit.blocks] == [1] * 9 + [1 + QUERIES] * 3
    assert [joint_blocks(n) for n in (12, 24, 40)] == [3, 4, 5]


def test_linear_sees_the_last_four_blocks() -> None:
    model = SegmentationModel(ModelSpec("linear", SMALL, 3)).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        maps = model.net.encoder.model.forward_intermediates(
            (images - model.mean) / model.std, indices=4, intermediates_only=True
        )
        expected = model.net.segmentation_head(torch.cat(maps, 1))
        torch.testing.assert_close(model(images), expected)
    assert expected.shape == (2, 3, 4, 6)


# What goes together, crops, weights


@pytest.mark.parametrize(
    ("architecture", "encoder", "message"),
    [
        ("linear", "resnet18", "linear is made for the vision transformers of timm.*tu-vit_small"),
        ("linear", "tu-convnext_atto", "it is not a plain vision transformer. Use one, such as"),
        ("eomt", "tu-samvit_base_patch16", "its blocks cannot take queries. Use a ViT, DINOv2"),
        ("fpn", DINO, "needs features at strides 4 to 32.* Use dpt, linear or eomt with it"),
    ],
)
def test_what_does_not_go_together(architecture: str, encoder: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        SegmentationModel(ModelSpec(architecture, encoder, 3))


@pytest.mark.parametrize(
    ("architecture", "encoder", "multiple"),
    [("dpt", DINO, 28), ("linear", DINO, 14), ("eomt", EVA, 14), ("eomt", SMALL, 32),
     ("fpn", "resnet18", 32), ("dpt", "tu-nobody", 32)],
)  # fmt: skip
def test_crops_are_rounded_to_patches(architecture: str, encoder: str, multiple: int) -> None:
    assert crop_multiple(architecture, encoder) == multiple
    overrides = [f"model.architecture={architecture}", f"model.encoder={encoder}"]
    data = open_dataset("digits", "train")
    crop = resolve(load_config(source="digits", overrides=overrides), data).data.crop_px
    height, width = data[0]["image"].shape[1:]
    assert crop == (height // multiple * multiple, width // multiple * multiple)


def test_a_file_of_timm_holds_the_weights_of_an_encoder(tmp_path: Path) -> None:
    vit = timm.create_model("test_vit")
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    for architecture in ("dpt", "eomt", "linear"):
        spec = ModelSpec(architecture, SMALL, 3)
        model = SegmentationModel(spec, encoder_weights=str(tmp_path / "model.safetensors"))
        loaded = model.net.encoder.model.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in vit.state_dict().items())
