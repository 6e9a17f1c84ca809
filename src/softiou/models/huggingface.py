"""Segmentation models of Hugging Face's transformers, with the interface of the other networks.

Shapes: N images, Q queries, C classes, (h, w) cells at the decoder's stride.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softiou._reading import read_json
from softiou.errors import CheckpointError, ConfigError
from softiou.models.semantic_head import Mask2FormerHead
from softiou.models.spec import ModelSpec
from softiou.models.weights import Normalisation, no_waiting_offline, offline

INPUT_STRIDE = 32
# class name, and modules that depend on the number of classes, by model type
CLASSES = {
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "segformer": "SegformerForSemanticSegmentation",
    "upernet": "UperNetForSemanticSegmentation",
}
CLASSIFIERS = {
    "mask2former": ("class_predictor.", "criterion."),
    "segformer": ("decode_head.classifier.",),
    "upernet": ("decode_head.classifier.",),
}
_PRIVATE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


class TransformersEncoder(nn.Module):
    """A backbone that returns the image and its features, as the other encoders do.

    `body` returns `hidden_states` or `feature_maps` at strides 4 to 32, with `channels`.
    """

    def __init__(self, body: nn.Module, channels: list[int]) -> None:
        super().__init__()
        self.body = body
        self.out_channels = [3, *channels]
        self.output_stride = INPUT_STRIDE

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the images (N, 3, H, W) and features (N, channels, H / stride, W / stride)."""
        found = self.body(images, output_hidden_states=True)
        maps = found.feature_maps if "feature_maps" in found else found.hidden_states
        return [images, *maps]


class TransformersNetwork(nn.Module):
    """Encoder and decoder of a model of transformers: images to logits at the decoder's stride."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._config = model.config
        if model.config.model_type == "segformer":
            body, channels = model.segformer, model.config.hidden_sizes
        elif model.config.model_type == "upernet":
            body, channels = model.backbone, model.backbone.channels
        else:
            body = model.model.pixel_level_module.encoder
            channels = body.channels
        self.encoder = TransformersEncoder(body, list(channels))
        semantic = model.config.model_type == "mask2former"
        self.decoder = Mask2FormerHead(model) if semantic else model.decode_head

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, h, w) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.decoder(self.encoder(images)[1:])
        return logits

    def settings(self) -> dict[str, Any]:
        """Return the configuration as plain values, without its origin."""
        found: dict[str, Any] = json.loads(self._config.to_json_string(use_diff=False))
        return {key: value for key, value in found.items() if key not in _PRIVATE}


def build_transformers(
    spec: ModelSpec, *, pretrained: bool
) -> tuple[TransformersNetwork, Normalisation]:
    """Build the network of a configuration, and return the normalisation of its colours.

    Pretrained weights are read from safetensors only.
    """
    if spec.channels != 3:
        raise ConfigError(
            f"data.bands: transformers take three bands, but got {spec.channels}. Choose three, or "
            "another model.architecture."
        )
    transformers = _transformers()
    name = str(Path(spec.encoder).expanduser()) if _is_folder(spec.encoder) else spec.encoder
    with _quiet(transformers), _reading(spec.encoder, local=spec.settings is not None):
        if spec.settings is not None:
            config = transformers.AutoConfig.for_model(**_without_code(spec.settings))
        else:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        kind = _class_of(transformers, config)
        config.num_labels = spec.num_classes
        if config.model_type == "upernet":
            config.use_auxiliary_head = False  # replaced by `AuxiliaryHead`, as for all networks
        model = _load(kind, name, config) if pretrained else kind(config)
        found = Normalisation() if spec.settings is not None else _normalisation(name)
    return TransformersNetwork(model), found


_CHOOSING = ("attn_implementation", "auto_map", "trust_remote_code", "use_pretrained_backbone")


def _without_code(settings: Any) -> Any:
    """Drop settings that would let a checkpoint choose code or weights to download."""
    if not isinstance(settings, dict):
        return settings
    return {
        key: _without_code(value)
        for key, value in settings.items()
        if str(key).lstrip("_") not in _CHOOSING
    }


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "model.architecture: transformers needs the package of that name. Install it with: "
            "pip install 'transformers>=5.0'"
        ) from error
    return transformers


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir()


def _class_of(transformers: Any, config: Any) -> Any:
    if config.model_type not in CLASSES:
        raise ConfigError(
            f"model.encoder: softiou cannot train a {config.model_type!r} of transformers, only "
            f"{', '.join(sorted(CLASSES))}. Its backbone may be available from timm, as tu-NAME, "
            "for another architecture."
        )
    return getattr(transformers, CLASSES[config.model_type])


def _load(kind: Any, name: str, config: Any) -> Any:
    """Load weights; those of the classifier are random if the number of classes differs."""
    model, found = kind.from_pretrained(
        name,
        config=config,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
    )
    heads = CLASSIFIERS[config.model_type]
    wrong = [str(key[0]) for key in found["mismatched_keys"]]
    missing = [key for key in found["missing_keys"] if not key.startswith(("decode_head.", *heads))]
    unfit = sorted(key for key in [*wrong, *missing] if not key.startswith(heads))
    if unfit:
        raise CheckpointError(
            f"model.encoder: the weights of {name} do not fit its configuration: {len(unfit)} "
            f"tensors are missing or of another shape, for instance {unfit[0]}."
        )
    return model


def _normalisation(name: str) -> Normalisation:
    """Read the normalisation of a repository or folder, by default that of ImageNet."""
    from transformers.utils.hub import cached_file

    file = cached_file(
        name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
    )
    if file is None:
        return Normalisation()
    found = read_json(Path(file))
    if not found.get("do_normalize", True):
        return Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    usual = Normalisation()
    mean, std = found.get("image_mean", usual.mean), found.get("image_std", usual.std)
    return Normalisation(tuple(mean), tuple(std))


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Suppress reports of random weights and progress bars."""
    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


@contextmanager
def _reading(name: str, *, local: bool) -> Iterator[None]:
    """Turn errors of a repository or folder into one that says what to do."""
    try:
        with offline() if local or _is_folder(name) else no_waiting_offline():
            yield
    except (ConfigError, CheckpointError):
        raise
    except Exception as error:  # transformers raises many types of errors
        raise CheckpointError(
            f"model.encoder: cannot read {name!r}. Give a repository of Hugging Face (without a "
            "network, one that was downloaded before), or a folder with config.json and "
            "model.safetensors; pickled weights are never loaded. "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        ) from error
