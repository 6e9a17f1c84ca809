"""The available models and their costs."""

from dataclasses import dataclass

import segmentation_models_pytorch as smp
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from softiou.errors import ConfigError
from softiou.models.building import architectures
from softiou.models.pairs import VIT_ONLY
from softiou.models.segmentation import SegmentationModel
from softiou.models.spec import TRANSFORMERS, ModelSpec

# at least one of each family used in the papers
COMMON_ENCODERS = (
    "resnet18",
    "resnet50",
    "resnet101",
    "mobilenet_v2",
    "efficientnet-b0",
    "xception",
    "tu-convnext_tiny",
    "tu-swin_tiny_patch4_window7_224",
    *(f"mit_b{size}" for size in range(6)),
    "tu-vit_small_patch16_224",
)
DEFAULT_ENCODER = "mobilenet_v2"
DEFAULT_VIT = "tu-vit_small_patch16_224"


@dataclass(frozen=True)
class Cost:
    """The cost of a model; architecture and encoder are those of its `ModelSpec`."""

    architecture: str
    encoder: str
    parameters: int = 0  # number of weights, unused ones included
    gmacs: float = 0.0  # billions of multiply-add operations for one crop
    stride: int = 0  # of the logits, in pixels of the image
    input_stride: int = 0  # height and width of a crop are multiples of it
    refusal: str | None = None  # why the two are incompatible; the numbers are then 0


def encoder_families() -> dict[str, list[str]]:
    """Return the encoders of segmentation_models_pytorch by family, without those of timm."""
    families: dict[str, list[str]] = {}
    for name, entry in smp.encoders.encoders.items():
        if not name.startswith("timm-"):  # old names of encoders that are available as tu-NAME
            family = entry["encoder"].__module__.rpartition(".")[2]
            families.setdefault(family, []).append(name)
    return families


def search_encoders(text: str) -> list[str]:
    """Return the names of encoders that contain a text; encoders of timm are tu-NAME."""
    own = [name for names in encoder_families().values() for name in names]
    return [
        name
        for name in [*own, *(f"tu-{n}" for n in timm.list_models())]
        if text.lower() in name.lower()
    ]


def costs(
    *,
    architecture: str | None = None,
    encoder: str | None = None,
    crop_px: int = 512,
    num_classes: int = 19,
) -> list[Cost]:
    """Return the costs of models: of a pair, or of the usual pairs with an architecture or encoder.

    Without an encoder, the common ones are used for an architecture, else a small one.
    `crop_px` is rounded up to a multiple of the input stride.
    """
    if architecture == TRANSFORMERS and encoder is None:
        raise ConfigError(
            "Models of transformers are not listed: name one, --encoder REPOSITORY|FOLDER."
        )
    if architecture is None:
        usual = dict.fromkeys(VIT_ONLY, DEFAULT_VIT)
        names = architectures()
        pairs = [(name, encoder or usual.get(name, DEFAULT_ENCODER)) for name in names]
    else:
        pairs = [(architecture, name) for name in ([encoder] if encoder else COMMON_ENCODERS)]
    found = [cost_of(ModelSpec(one, other, num_classes), crop_px=crop_px) for one, other in pairs]
    if all(cost.refusal for cost in found):
        raise ConfigError(str(found[0].refusal))
    return found


def cost_of(spec: ModelSpec, *, crop_px: int) -> Cost:
    """Return the cost of a model without running it; arguments as in `costs`."""
    try:
        model = _without_memory(spec)
    except ConfigError as error:
        return Cost(spec.architecture, spec.encoder, refusal=str(error))
    side = crop_px + -crop_px % model.input_stride
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = model(torch.zeros(1, 3, side, side, device="meta"))
    return Cost(
        spec.architecture,
        spec.encoder,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=counter.get_total_flops() / 2e9,
        stride=side // int(logits.shape[-1]),
        input_stride=model.input_stride,
    )


def _without_memory(spec: ModelSpec) -> SegmentationModel:
    """Build a model of shapes without data."""
    try:
        with torch.device("meta"):
            return SegmentationModel(spec).eval()
    except ConfigError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        # Some encoders compute with their weights while they are built.
        return SegmentationModel(spec).eval().to("meta")
