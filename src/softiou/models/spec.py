"""The specification of a model, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from softiou.data import Bands
from softiou.errors import CheckpointError

# architecture of all models with a Hugging Face configuration
TRANSFORMERS = "transformers"
# prefix of the qualified name of a custom module, see `CustomModel`
CUSTOM = "python:"


@dataclass(frozen=True)
class ModelSpec:
    """The settings to rebuild a model, stored in checkpoints.

    Attributes:
        architecture: A name of segmentation_models_pytorch, for instance "deeplabv3plus" or "unet",
            or "transformers"; "python:package.module.Class" for a custom module.
        encoder: An encoder name of segmentation_models_pytorch; "tu-NAME" is timm's NAME. For
            transformers a repository of Hugging Face, or a folder.
        num_classes: C.
        output_stride: Stride of the encoder's last features, 8 or 16, reached by dilation. None for
            the default of the architecture.
        auxiliary: Whether there is an auxiliary head, for training only.
        settings: For transformers, the configuration as plain values; None reads it from the
            repository or the folder.
        bands: Bands of the images; None for RGB.
    """

    architecture: str
    encoder: str
    num_classes: int
    output_stride: int | None = None
    auxiliary: bool = False
    settings: dict[str, Any] | None = field(default=None, hash=False)
    bands: Bands | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, file: Path) -> Self:
        """Invert `as_dict`; raise CheckpointError for a missing or unknown setting."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(
                f"{file} has a model with settings unknown to this softiou: {unknown}. "
                "Update softiou."
            )
        try:
            return cls(**{**values, "bands": Bands.from_dict(values.get("bands"))})
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file} has an invalid model specification: {error}.") from error

    @property
    def channels(self) -> int:
        """Return the number of input channels."""
        return len(self.bands.numbers) if self.bands else 3

    @property
    def is_custom(self) -> bool:
        """Return whether the model is a custom module, which cannot be built by name."""
        return self.architecture.startswith(CUSTOM)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        # omit bands for RGB, for compatibility with earlier versions
        return {key: value for key, value in asdict(self).items() if key != "bands" or value}


def qualified_name(thing: object) -> str:
    """Return module and name of a class or function, or of the class of an object.

    Example:
        >>> qualified_name(qualified_name), qualified_name({}.items())
        ('softiou.models.spec.qualified_name', 'builtins.dict_items')
    """
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
