"""The settings of the pass over the pixels, in one place: names, defaults, checks."""

from dataclasses import dataclass

from softiou import _checks

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
    ignore_index: int | None = None
    cross_entropy: bool = False
    maxima: bool = False
    validate: bool = False
    upsample: str | None = None
    align_corners: bool = False
    impl: str = "auto"
    tile: int | None = None

    def __post_init__(self) -> None:
        _checks.one_of("activation", self.activation, ACTIVATIONS)
        _checks.one_of("upsample", self.upsample, UPSAMPLES)
        _checks.one_of("impl", self.impl, IMPLS)
        if self.tile is not None:
            _checks.in_range("tile", self.tile, 1)
        if self.cross_entropy and self.activation == "none":
            # log p of a probability has lost the digits that log_softmax of a logit keeps.
            raise ValueError(
                "Expected logits for the cross-entropy, but got activation='none', for "
                "probabilities. Hand over logits, or set `cross_entropy` to 0."
            )
