"""What a model is, in plain values."""

from dataclasses import asdict, dataclass, field
from typing import Any

# The architecture that stands for whatever a configuration of Hugging Face describes.
TRANSFORMERS = "transformers"


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model again: what a checkpoint stores beside the weights.

    Attributes:
        architecture: A name of segmentation_models_pytorch, for instance "deeplabv3plus" or "unet",
            or "transformers".
        encoder: An encoder name of segmentation_models_pytorch; "tu-NAME" is timm's NAME. For
            transformers a repository of Hugging Face, or a folder.
        num_classes: C.
        output_stride: Pixels a cell of the encoder's last features, 8 or 16: reached by dilation.
            None is the architecture's own.
        auxiliary: Whether there is a second head, for training alone.
        settings: For transformers, the configuration as plain values; None reads it from the
            repository or the folder.
    """

    architecture: str
    encoder: str
    num_classes: int
    output_stride: int | None = None
    auxiliary: bool = False
    settings: dict[str, Any] | None = field(default=None, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return asdict(self)
