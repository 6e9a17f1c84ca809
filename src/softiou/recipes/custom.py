"""Parts of a training that are objects of Python: a model, loss, data set, logger of one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import Dataset

from softiou.configuration import Config
from softiou.configuration.sections import CustomConfig
from softiou.errors import ConfigError
from softiou.losses import Targets
from softiou.models.spec import CUSTOM, qualified_name
from softiou.targets import Target, to_probs


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

    @property
    def source(self) -> str | None:
        """Return what stands for `data.source` when both data sets are given, otherwise None."""
        if self.train_dataset is None or self.val_dataset is None:
            return None
        return f"{CUSTOM}{qualified_name(self.train_dataset)}"

    def recorded_in(self, config: Config) -> Config:
        """Return a configuration that has the names of the parts in its section `custom`.

        A ConfigError says that it names parts already, as that of a run does, which are not
        given.
        """
        named = CustomConfig(
            **{
                name: qualified_name(part)
                for name in ("model", "loss", "transform", "train_dataset", "val_dataset")
                if (part := getattr(self, name)) is not None
            },
            loggers=[qualified_name(logger) for logger in self.loggers],
            callbacks=[qualified_name(callback) for callback in self.callbacks],
        )
        if config.custom is not None:
            self._check_given(config.custom, named)
        changes: dict[str, Any] = {"custom": None if named == CustomConfig() else named}
        if self.source is not None:
            changes["data"] = config.data.model_copy(update={"source": self.source})
        return config.model_copy(update=changes)

    def _check_given(self, wanted: CustomConfig, named: CustomConfig) -> None:
        missing = {
            name: value
            for name, value in wanted.model_dump().items()
            if value and not getattr(named, name)
        }
        if missing:
            parts = ", ".join(f"{name}: {value}" for name, value in missing.items())
            arguments = ", ".join(f"{name}=..." for name in missing)
            raise ConfigError(
                f"This run has parts that config.yaml can only name ({parts}). Train and resume it "
                "from Python with the same parts: softiou.training.resume_training(RUN, "
                f"custom=CustomParts({arguments}))."
            )


NOTHING_CUSTOM = CustomParts()


class CustomLoss(nn.Module):
    """A loss of one's own, `CustomParts.loss`; gets logits at the resolution of the target."""

    def __init__(
        self, function: Callable[[Tensor, Any], Tensor], *, num_classes: int, ignore_index: int
    ) -> None:
        super().__init__()
        self.function = function
        self._num_classes = num_classes
        self._ignore_index = ignore_index

    def parts(self, logits: Tensor, target: Targets) -> dict[str, Tensor]:
        """Return "loss" alone: what it is made of is not known."""
        if isinstance(target, Target):
            target = to_probs(
                target, num_classes=self._num_classes, ignore_index=self._ignore_index
            )[0]
        if not isinstance(target, Tensor):
            raise TypeError(f"Expected `target` to be a single one, but got {type(target)}.")
        logits = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)
        return {"loss": self.function(logits, target)}
