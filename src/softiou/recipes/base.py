"""What the recipes share: model, loss, schedule, validation and checkpoints."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from softiou import checkpoints
from softiou.configuration.sections import Config
from softiou.data import Batch, DatasetDescription, Sample, truth
from softiou.inference import predict_probs
from softiou.losses import OverlapLoss, Targets
from softiou.models import ModelSpec, SegmentationModel, freeze_unused
from softiou.recipes.building import build_loss, build_target, check_loss
from softiou.recipes.schedule import WarmupPoly, build_optimizer, parameter_groups
from softiou.recipes.validation import ValidationScores
from softiou.targets import Target


class Recipe(pl.LightningModule, ABC):
    """Trains a segmentation model; a subclass says with `parts` what of a batch is minimised.

    Recipes share this much code, against the usual advice to repeat it: validation, schedule and
    checkpoints must be the same for runs that are compared.

    Args:
        config: Resolved configuration, without "auto".
        description: Classes of the data set.
        encoder_weights: As in `SegmentationModel`; "none" when a checkpoint is loaded next.
        spec: Of the model in a checkpoint that is loaded next; None for what `config` says.
    """

    def __init__(
        self,
        config: Config,
        description: DatasetDescription,
        *,
        encoder_weights: str,
        spec: ModelSpec | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self._batch = 0  # of the round
        self.learns_from = ""  # identity of the teacher or of its soft labels
        self.never_predicted: tuple[str, ...] = ()  # classes, at the last validation
        self.description = description
        spec = spec or ModelSpec(
            config.model.architecture,
            config.model.encoder,
            description.num_classes,
            output_stride=config.model.output_stride,
            auxiliary=config.loss.auxiliary > 0,
        )
        self.model = SegmentationModel(spec, encoder_weights=encoder_weights)
        freeze_unused(self.model)
        ignore, num_classes = description.ignore_index, description.num_classes
        check_loss(config.loss, num_classes)
        self.loss = build_loss(config.loss, ignore_index=ignore)
        self.scores = nn.ModuleList()
        self._scored: list[tuple[str, SegmentationModel]] = []
        self.score("", self.model, ValidationScores(description))

    def score(self, prefix: str, model: SegmentationModel, scores: ValidationScores) -> None:
        """Score a model at every validation and log the values as val/PREFIX...

        The student's own scores have no prefix and choose the best checkpoint.
        """
        self.scores.append(scores)
        self._scored.append((prefix, model))

    @abstractmethod
    def parts(self, batch: Any) -> dict[str, Tensor]:
        """Return "loss", which is minimised, and detached what it is made of."""

    def labels_of(self, batch: Batch) -> Tensor | Target:
        """Return what the labels of a batch say, as the configuration wants them."""
        return build_target(batch["target"], self.config.labels, self.description)

    def with_auxiliary(
        self, parts: dict[str, Tensor], logits: Tensor, target: Targets
    ) -> dict[str, Tensor]:
        """Return the parts of the loss with that of the auxiliary head added, by its weight."""
        auxiliary = self.loss.parts(logits, target)["loss"]
        loss = parts["loss"] + self.config.loss.auxiliary * auxiliary
        return {**parts, "loss": loss, "auxiliary": auxiliary.detach()}

    def on_train_start(self) -> None:
        """Take the images of all processes for one batch."""
        if self.trainer.world_size > 1:
            for module in self.modules():
                if isinstance(module, OverlapLoss):
                    module.process_group = "world"

    def generator(self, purpose: str) -> torch.Generator:
        """Return chance, on the CPU, that depends on the batch and the purpose alone.

        A run that was interrupted repeats it, and no two processes share it.
        """
        key = (self.config.seed, self.global_step, self._batch, self.global_rank, *purpose.encode())
        seed = np.random.SeedSequence(key).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed[0]))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and its detached parts."""
        self._batch = batch_idx
        torch.manual_seed(self.generator("dropout").initial_seed())  # what networks draw from
        parts = self.parts(batch)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in parts.items()},
            batch_size=1,  # matters for means over several batches alone, and there are none
        )
        self.log("loss", parts["loss"].detach(), prog_bar=True, logger=False)
        schedule: Any = self.lr_schedulers()
        self.log("learning_rate", schedule.get_last_lr()[0])
        return parts

    def on_validation_start(self) -> None:
        """Give all processes the same buffers: their batch norms have seen different images."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, sample: Sample, batch_idx: int) -> None:
        """Score one image at its own resolution."""
        target = truth(sample["target"], self.description)
        probs: dict[int, Tensor] = {}  # a model may be scored in several ways
        for (_, model), scores in zip(self._scored, self._scores(), strict=True):
            if id(model) not in probs:
                probs[id(model)] = predict_probs(
                    model, sample["image"], precision=self._precision()
                )
            scores.update(probs[id(model)], target)

    def on_validation_epoch_end(self) -> None:
        """Log the scores in per cent, and note the classes that are never predicted."""
        missing = self._scores()[0].never_predicted()
        self.never_predicted = tuple(self.description.classes[index] for index in missing)
        for (prefix, _), scores in zip(self._scored, self._scores(), strict=True):
            values = {f"val/{prefix}{name}": value for name, value in scores.compute().items()}
            self.log_dict(values)
            scores.reset()

    def _scores(self) -> list[ValidationScores]:
        return [scores for scores in self.scores if isinstance(scores, ValidationScores)]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser, slower for a pretrained encoder, and its warm-up and decay."""
        settings = self.config.optim
        pretrained = self.config.model.encoder_weights != "none"
        groups = parameter_groups(
            self.model,
            learning_rate=float(settings.learning_rate),
            encoder_rate=settings.encoder_rate if pretrained else 1.0,
            weight_decay=float(settings.weight_decay),
        )
        optimizer = build_optimizer(settings.optimizer, groups, momentum=settings.momentum)
        schedule = WarmupPoly(int(settings.steps), settings.warmup, settings.poly_power)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to build the model again, and what it learns from."""
        config = self.config.model_dump(mode="json")
        entry = checkpoints.entry(self.model.spec, self.description, config)
        checkpoint["softiou"] = entry | {"learns_from": self.learns_from}

    def _precision(self) -> Any:
        return self.config.precision
