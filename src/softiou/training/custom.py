"""Parts of a training that are objects of Python: a model, loss, data set, logger of one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import Dataset


@dataclass(frozen=True)
class CustomParts:
    """What a training takes from Python instead of its configuration.

    `config.yaml` records the parts by their qualified names in the section `custom`; a run that has
    some is resumed from Python, with the same parts.

    Args:
        model: Maps floats in [0, 1] (N, B, H, W) to logits (N, C, h, w) at any stride, or to a
            dict that has them as "out". A submodule `encoder` learns with `optim.encoder_rate`; an
            attribute `input_stride` says what height and width have to be a multiple of.
        loss: Called with logits at the resolution of the target (N, C, H, W) and with the target,
            integers (N, H, W) or probabilities (N, C, H, W); returns a scalar. Pixels outside of
            the image are `ignore_index`.
        loggers: Lightning loggers, beside those that the configuration names.
        callbacks: Lightning callbacks.
        transform: Maps image and target together in place of our augmentation; see
            `CustomAugmentation`.
        train_dataset: Samples {"image", "target"} or pairs; see `CustomDataset`.
        val_dataset: The same for the validation.
        classes: Names of the classes of these data sets; None: their attribute `classes`, or
            class_0, class_1, ... for as many as the model has logits.
        ignore_index: Label value of these data sets whose pixels do not count.
    """

    model: nn.Module | None = None
    loss: Callable[[Tensor, Any], Tensor] | None = None
    loggers: Sequence[Logger] = ()
    callbacks: Sequence[Callback] = ()
    transform: Callable[..., Any] | None = None
    train_dataset: Dataset[Any] | None = None
    val_dataset: Dataset[Any] | None = None
    classes: Sequence[str] | None = None
    ignore_index: int = 255


NOTHING_CUSTOM = CustomParts()
