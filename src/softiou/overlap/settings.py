"""The settings of the pass over the pixels, in one place: names, defaults, checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from softiou import _checks
from softiou.targets.base import pack

ACTIVATIONS = ("softmax", "sigmoid", "none")
IMPLS = ("auto", "torch", "native", "triton", "chunked")
UPSAMPLES = (None, "bilinear")


@dataclass(frozen=True)
class PassSettings:
    """How a prediction is read, what is gathered from it, and by which implementation.

    Checked once, when it is made; losses hold one, and every step of the pass takes it as it is.
    The fields are the arguments of `overlap_statistics`, where they are explained.

    Raises:
        ValueError: A setting is out of range, or the cross-entropy of probabilities is asked for.
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
    # For compiled code; written here, as the compiler cannot write numbers that it traces.
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
            # log p of a probability has lost the digits that log_softmax of a logit keeps.
            raise ValueError(
                "Expected logits for the cross-entropy, but got activation='none', for "
                "probabilities. Hand over logits, or set `cross_entropy` to 0."
            )
        values = tuple([getattr(self, one.name) for one in fields(self) if one.init])
        object.__setattr__(self, "packed", pack(values, []))
