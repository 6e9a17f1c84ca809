"""The supervised recipe: logits at the decoder's stride, one loss, one schedule."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from softiou import checkpoints
from softiou.data import Batch, DatasetDescription, Sample
from softiou.errors import ConfigError
from softiou.inference import predict_probs
from softiou.losses import (
    DiceSemimetricLoss,
    JaccardMetricLoss,
    LossSettings,
    OverlapLoss,
    SoftJaccardLoss,
    TverskyLoss,
)
from softiou.metrics import ExpectedCalibrationError, SegmentationScores
from softiou.models import ModelSpec, SegmentationModel
from softiou.recipes.config import Config, LossConfig


class SupervisedRecipe(pl.LightningModule):
    """Trains a segmentation model on images with targets.

    Args:
        config: Resolved configuration, without "auto".
        description: Classes of the data set.
        encoder_weights: As in `SegmentationModel`; "none" when a checkpoint is loaded next.
    """

    def __init__(
        self, config: Config, description: DatasetDescription, *, encoder_weights: str
    ) -> None:
        super().__init__()
        self.config = config
        self.description = description
        spec = ModelSpec(config.model.architecture, config.model.encoder, description.num_classes)
        self.model = SegmentationModel(spec, encoder_weights=encoder_weights)
        ignore, num_classes = description.ignore_index, description.num_classes
        _check_classes(config.loss, num_classes)
        self.loss = build_loss(config.loss, ignore_index=ignore)
        self.scores = SegmentationScores(num_classes, ignore_index=ignore)
        self.calibration = ExpectedCalibrationError(num_classes, ignore_index=ignore)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and its detached parts."""
        parts = self.loss.parts(self.model(batch["image"]), batch["target"])
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in parts.items()},
            batch_size=len(batch["image"]),
        )
        self.log("loss", parts["loss"].detach(), prog_bar=True, logger=False)
        schedule: Any = self.lr_schedulers()
        self.log("learning_rate", schedule.get_last_lr()[0])
        return parts

    def validation_step(self, sample: Sample, batch_idx: int) -> None:
        """Score one image at its own resolution."""
        probs = predict_probs(self.model, sample["image"], precision=self._precision())
        probs, target = probs.unsqueeze(0), sample["target"].unsqueeze(0)
        self.scores.update(probs, target)
        self.calibration.update(probs, target)

    def on_validation_epoch_end(self) -> None:
        """Log the scores in per cent."""
        scores = {**self.scores.compute(), "ece_d": self.calibration.compute()}
        self.log_dict({f"val/{name}": 100 * value.float() for name, value in scores.items()})
        self.scores.reset()
        self.calibration.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW, slower for a pretrained encoder, with warm-up and polynomial decay."""
        settings = self.config.optim
        pretrained = self.config.model.encoder_weights != "none"
        optimizer = torch.optim.AdamW(
            parameter_groups(
                self.model,
                learning_rate=settings.learning_rate,
                encoder_rate=settings.encoder_rate if pretrained else 1.0,
                weight_decay=settings.weight_decay,
            )
        )
        steps = int(settings.steps)
        schedule = WarmupPoly(steps, settings.warmup, settings.poly_power)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to build the model again."""
        config = self.config.model_dump(mode="json")
        checkpoint["softiou"] = checkpoints.entry(self.model.spec, self.description, config)

    def _precision(self) -> Any:
        return self.config.precision


class WarmupPoly:
    """Share of the learning rate at a step: linear warm-up, then (1 - progress) ** power.

    Args:
        steps: Steps of the whole run.
        warmup: Share of them that raise the rate.
        power: 0.9 is usual in segmentation.
    """

    def __init__(self, steps: int, warmup: float, power: float) -> None:
        self.steps = steps
        self.warmup_steps = int(warmup * steps)
        self.power = power

    def __call__(self, step: int) -> float:
        """Return the share, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return float(max(0.0, 1 - progress) ** self.power)


def parameter_groups(
    model: SegmentationModel, *, learning_rate: float, encoder_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Split parameters by rate (encoder, rest) and decay (none for biases and norms)."""
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.net.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("encoder."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    # Sorted: the decoder comes first, so the logged rate is `learning_rate` itself.
    return [
        {
            "params": parameters,
            "lr": learning_rate * (encoder_rate if encoder else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _check_classes(settings: LossConfig, num_classes: int) -> None:
    """Compare what a loss says of the classes with the data set, before a run is begun."""
    weights, classes = settings.class_weights, settings.classes
    if weights is not None and len(weights) != num_classes:
        raise ConfigError(
            f"loss.class_weights: expected {num_classes} numbers, one for each class of the data "
            f"set, but got {len(weights)}."
        )
    if isinstance(classes, list) and not (classes and set(classes) <= set(range(num_classes))):
        raise ConfigError(
            f"loss.classes: expected indices in 0..{num_classes - 1}, at least one, but got "
            f"{classes}."
        )


def build_loss(settings: LossConfig, *, ignore_index: int | None) -> OverlapLoss:
    """Return the loss that a configuration describes."""
    common: LossSettings = {
        "upsample": "bilinear",  # models hand out logits at their own stride
        "cross_entropy": settings.cross_entropy,
        "smooth": settings.smooth,
        "per": settings.per if isinstance(settings.per, str) else dict(settings.per.items()),
        "classes": settings.classes,
        "threshold": settings.threshold,
        "class_weights": settings.class_weights,
        "ignore_index": ignore_index,
    }
    if settings.kind == "jaccard":
        return JaccardMetricLoss(form=settings.form, **common)
    if settings.kind == "dice":
        return DiceSemimetricLoss(form=settings.form, **common)
    if settings.kind == "soft_jaccard":
        return SoftJaccardLoss(**common)
    return TverskyLoss(
        alpha=settings.alpha,
        beta=settings.beta,
        gamma=settings.gamma,
        log=settings.log,
        form=settings.form,
        **common,
    )
