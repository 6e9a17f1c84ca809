"""Custom parts of a training, passed from Python: model, loss, data sets, loggers, callbacks."""

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
    """Python objects that a training uses instead of parts of its configuration.

    `config.yaml` records their qualified names in the section `custom`. Such a run has to be
    resumed from Python with the same objects.

    Args:
        model: Maps floats in [0, 1] (N, B, H, W) to logits (N, C, h, w) at any stride, or to a
            dict with the logits as "out". A submodule `encoder` is trained with
            `optim.encoder_rate`; height and width are multiples of its `input_stride`, if any.
        loss: Called with logits at the resolution of the target (N, C, H, W) and the target,
            integers (N, H, W) or probabilities (N, C, H, W); returns a scalar. Padding outside the
            image has the label `ignore_index`.
        loggers: Lightning loggers, in addition to those of the configuration.
        callbacks: Lightning callbacks.
        transform: Transforms image and target together, instead of the built-in augmentation; see
            `CustomAugmentation`.
        train_dataset: Yields {"image", "target"} or pairs; see `CustomDataset`.
        val_dataset: As `train_dataset`, for validation.
        classes: Class names of these data sets. None uses their attribute `classes`, or class_0,
            class_1, ... by the number of logits.
        ignore_index: Label of ignored pixels in these data sets.
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
        """Return the value of `data.source` if both data sets are given, otherwise None."""
        if self.train_dataset is None or self.val_dataset is None:
            return None
        return f"{CUSTOM}{qualified_name(self.train_dataset)}"

    def recorded_in(self, config: Config) -> Config:
        """Return a configuration with the names of the parts in its section `custom`.

        Raises a ConfigError if the configuration, such as that of a run, names parts that are not
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
                f"This run has parts that were passed in Python ({parts}). Train and resume it "
                "from Python with the same parts: softiou.training.resume_training(RUN, "
                f"custom=CustomParts({arguments}))."
            )


NOTHING_CUSTOM = CustomParts()


class CustomLoss(nn.Module):
    """Calls `CustomParts.loss` with logits at the resolution of the target."""

    def __init__(
        self, function: Callable[[Tensor, Any], Tensor], *, num_classes: int, ignore_index: int
    ) -> None:
        super().__init__()
        self.function = function
        self._num_classes = num_classes
        self._ignore_index = ignore_index

    def parts(self, logits: Tensor, target: Targets) -> dict[str, Tensor]:
        """Return the "loss"; its parts are not known."""
        if isinstance(target, Target):
            target = to_probs(
                target, num_classes=self._num_classes, ignore_index=self._ignore_index
            )[0]
        if not isinstance(target, Tensor):
            raise TypeError(f"Expected a single `target`, but got {type(target)}.")
        logits = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)
        return {"loss": self.function(logits, target)}
