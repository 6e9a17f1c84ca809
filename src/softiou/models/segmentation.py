"""A network from RGB images to low-resolution logits."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softiou.errors import CheckpointError, ConfigError
from softiou.models.auxiliary import AuxiliaryHead, second_last
from softiou.models.building import build_network, input_stride, smallest_px
from softiou.models.huggingface import build_transformers
from softiou.models.spec import TRANSFORMERS, ModelSpec
from softiou.models.weights import load_encoder, normalisation_of, offline


def model_of_file(spec: ModelSpec, file: Path) -> "SegmentationModel":
    """Build the model described in a file, offline; raise CheckpointError on failure."""
    if spec.architecture == TRANSFORMERS and spec.settings is None:
        raise CheckpointError(
            f"{file} does not contain the configuration of its model {spec.encoder}."
        )
    try:
        with offline():
            return SegmentationModel(spec)
    except Exception as error:  # the file may have any names and settings
        reason = str(error) or repr(error)
        raise CheckpointError(f"The model of {file} cannot be built: {reason}") from error


class SegmentationModel(nn.Module):
    """A network of segmentation_models_pytorch or transformers, from RGB to logits.

    Normalisation (as required by the pretrained encoder) and padding to the encoder's stride are
    part of the model, so that training, evaluation and export are consistent.

    Args:
        spec: Specification of the model.
        encoder_weights: "none", "imagenet" (downloads; for transformers, the weights of the
            repository or folder), or a local safetensors file.

    Raises:
        ConfigError: Architecture or encoder are unknown or incompatible.
        CheckpointError: The encoder weights cannot be loaded or do not match.
    """

    mean: Tensor
    std: Tensor
    frozen = False  # whether the encoder is excluded from training

    def __init__(self, spec: ModelSpec, *, encoder_weights: str = "none") -> None:
        super().__init__()
        self.net: Any
        pretrained = encoder_weights == "imagenet"
        if spec.architecture == TRANSFORMERS:
            self.net, normalisation = build_transformers(spec, pretrained=pretrained)
            spec = replace(spec, settings=self.net.settings())
        else:
            self.net = build_network(spec, download=pretrained)
            normalisation = normalisation_of(spec.encoder)
        self.spec = spec
        mean, std = torch.tensor(normalisation).view(2, 3, 1, 1)
        if spec.bands is not None:  # band ranges are two standard deviations around the mean
            mean, std = (torch.full((spec.channels, 1, 1), value) for value in (0.5, 0.25))
        if encoder_weights not in ("none", "imagenet"):
            if spec.architecture == TRANSFORMERS:
                raise ConfigError(
                    "model.encoder_weights: for transformers, use imagenet, which means the "
                    "model.safetensors of the repository or folder in model.encoder, or none."
                )
            load_encoder(self.net.encoder, Path(encoder_weights).expanduser())
        self.auxiliary: AuxiliaryHead | None = None
        if spec.auxiliary:
            channels = int(self.net.encoder.out_channels[-2])
            self.auxiliary = AuxiliaryHead(channels, spec.num_classes)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits at the decoder's stride.

        Args:
            images: RGB (N, 3, H, W), uint8 in [0, 255] or floating in [0, 1]; or the scaled bands
                (N, B, H, W) of `spec.bands`, NaN for missing values.

        Returns:
            Logits (N, C, h, w) of the image padded at the right and bottom to a multiple of the
            encoder's stride; `upsample` interpolates them to (H, W).
        """
        if not images.is_floating_point():
            images = images.to(self.mean.dtype) / 255
        images = (images - self.mean) / self.std
        if self.spec.bands is not None:
            images = images.nan_to_num(0.0)
        height, width = images.shape[-2:]
        stride = self.input_stride
        # Zero after normalisation is the mean colour.
        images = F.pad(images, (0, -width % stride, 0, -height % stride))
        smallest = smallest_px(self.spec)
        height, width = images.shape[-2:]
        if height >= smallest and width >= smallest:
            return self._logits(images)
        padding = (0, max(0, smallest - width), 0, max(0, smallest - height))
        return self._without_padding(self._logits(F.pad(images, padding)), (height, width))

    def forward_auxiliary(
        self, images: Tensor, *, count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute logits as in `forward`, and those of the auxiliary head from the same features.

        Args:
            images: As in `forward`; height and width are multiples of `input_stride`.
            count: Number of images for the auxiliary head, the first ones; None for all.

        Returns:
            Logits (N, C, h, w), and (count, C, h', w') at the stride of the encoder's second-last
            stage.

        Raises:
            RuntimeError: The model has no auxiliary head, see `ModelSpec.auxiliary`.
        """
        if self.auxiliary is None:
            raise RuntimeError("This model was built without an auxiliary head.")
        seen: list[Any] = []
        handle = self.net.encoder.register_forward_hook(lambda *call: seen.append(call[-1]))
        try:
            logits = self(images)
        finally:
            handle.remove()
        features = self._without_padding(second_last(seen[0])[:count], images.shape[-2:])
        auxiliary_logits: Tensor = self.auxiliary(features)
        return logits, auxiliary_logits

    @property
    def input_stride(self) -> int:
        """Number that height and width of the network's input must be multiples of."""
        return input_stride(self.spec.architecture, int(self.net.encoder.output_stride))

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Interpolate logits (N, C, h, w) to the size (H, W) of their image."""
        height, width = (length + -length % self.input_stride for length in size)
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]

    def predict_logits(self, images: Tensor) -> Tensor:
        """Compute logits at full resolution (N, C, H, W); images as in `forward`."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return self.upsample(self(images), size)

    def encoder_parameters(self) -> set[nn.Parameter]:
        """Return the parameters of the encoder, for a separate learning rate."""
        return set(self.net.encoder.parameters())

    def freeze_encoder(self) -> None:
        """Exclude the encoder from training: no gradients, and always in eval mode."""
        if not self.encoder_parameters():
            raise ConfigError("model.freeze_encoder: your own model has no submodule `encoder`.")
        self.frozen = True
        self.net.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen encoder stays in eval mode, which keeps its statistics."""
        super().train(mode)
        if self.frozen:
            self.net.encoder.eval()
        return self

    def _without_padding(self, maps: Tensor, size: tuple[int, ...]) -> Tensor:
        """Remove the cells of the padding to the smallest input size."""
        smallest = smallest_px(self.spec)
        if smallest == 1:
            return maps
        rows, columns = (
            cells * length // max(length, smallest)
            for cells, length in zip(maps.shape[-2:], size, strict=True)
        )
        return maps[..., :rows, :columns]

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits
