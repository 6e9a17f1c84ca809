"""The settings of the pass over the pixels, with defaults and checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from softiou import _checks
from softiou.targets.base import pack

ACTIVATIONS = ("softmax", "sigmoid", "none")
IMPLS = ("auto", "torch", "native", "triton", "chunked")
UPSAMPLES = (None, "bilinear")


@dataclass(frozen=True)
class PassSettings:
    """The settings of `overlap_statistics`, which documents the fields.

    They are checked when the object is created; losses store one.

    Raises:
        ValueError: A setting is out of range, or `cross_entropy` is used with activation "none".
    """

    activation: str = "softmax"
    ignore_index: int | Sequence[int] | None = None
    cross_entropy: bool = False
    maxima: bool = False
    validate: bool | None = None
    upsample: str | None = None
    align_corners: bool = False
    impl: str = "auto"
    tile: int | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    # The settings as text for compiled code, created here because torch.compile cannot trace it.
    packed: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _checks.one_of("activation", self.activation, ACTIVATIONS)
        _checks.one_of("upsample", self.upsample, UPSAMPLES)
        _checks.one_of("impl", self.impl, IMPLS)
        _checks.in_range("label_smoothing", self.label_smoothing, 0.0, 1.0)
        _checks.finite("focal_gamma", self.focal_gamma, 0.0)
        ignored = _checks.indices_or_none("ignore_index", self.ignore_index)
        object.__setattr__(self, "ignore_index", ignored)  # the dataclass is frozen
        if self.tile is not None:
            _checks.in_range("tile", self.tile, 1)
        if self.cross_entropy and self.activation == "none":
            # log(p) is less accurate than the log_softmax of logits.
            raise ValueError(
                "Expected logits for the cross-entropy, but got activation='none', for "
                "probabilities. Pass logits, or set `cross_entropy` to 0."
            )
        values = tuple([getattr(self, one.name) for one in fields(self) if one.init])
        object.__setattr__(self, "packed", pack(values, []))
