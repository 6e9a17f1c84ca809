"""The specification of a model, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from softiou.data import Bands
from softiou.errors import CheckpointError

# The architecture of all models that a configuration of Hugging Face describes.
TRANSFORMERS = "transformers"
# Before the qualified name of a module that somebody else has written: see `CustomModel`.
CUSTOM = "python:"


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to rebuild a model; checkpoints store it with the weights.

    Attributes:
        architecture: A name of segmentation_models_pytorch, for instance "deeplabv3plus" or "unet",
            or "transformers"; "python:package.module.Class" for a module of one's own.
        encoder: An encoder name of segmentation_models_pytorch; "tu-NAME" is timm's NAME. For
            transformers a repository of Hugging Face, or a folder.
        num_classes: C.
        output_stride: Of the encoder's last features, 8 or 16, reached by dilation. None is the
            architecture's own.
        auxiliary: Whether there is an auxiliary head, for training only.
        settings: For transformers, the configuration as plain values; None reads it from the
            repository or the folder.
        bands: Of the images; None for RGB.
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
        """Undo `as_dict`; CheckpointError names the file where a setting is missing or unknown."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(
                f"{file} has a model with settings that this softiou does not know: {unknown}. "
                "Update softiou."
            )
        try:
            return cls(**{**values, "bands": Bands.from_dict(values.get("bands"))})
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file} does not say what its model is: {error}.") from error

    @property
    def channels(self) -> int:
        """Return the number of bands of the images."""
        return len(self.bands.numbers) if self.bands else 3

    @property
    def is_custom(self) -> bool:
        """Return whether the model is a module of one's own, which no name can build."""
        return self.architecture.startswith(CUSTOM)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        # Without bands it is what earlier versions wrote, and read.
        return {key: value for key, value in asdict(self).items() if key != "bands" or value}


def qualified_name(thing: object) -> str:
    """Return module and name of a class or function, or of the class of an object.

    Example:
        >>> qualified_name(qualified_name), qualified_name({}.items())
        ('softiou.models.spec.qualified_name', 'builtins.dict_items')
    """
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
