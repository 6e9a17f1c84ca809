"""The base class of all recipes: model, loss, schedule, validation and checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Self, TypeAlias, TypedDict, Unpack

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from softiou import checkpoints
from softiou.configuration import Config
from softiou.configuration.resolved import ResolvedConfig
from softiou.data import (
    Augmentation,
    Batch,
    CustomAugmentation,
    DatasetDescription,
    Sample,
    TrainingStream,
    UnlabeledBatch,
    repeat_factors,
    truth,
)
from softiou.data.folder import stored_target
from softiou.errors import ConfigError, DataError
from softiou.inference import (
    WHOLE_IMAGE,
    ModelPredictor,
    images_at_once,
    of_equal_size,
    probability_bands,
)
from softiou.losses import OverlapLoss, Targets
from softiou.metrics import PixelSums
from softiou.models import CustomModel, ModelSpec, SegmentationModel, freeze_unused
from softiou.models.memory import recompute_activations
from softiou.recipes.building import build_loss, build_target, check_loss
from softiou.recipes.custom import NOTHING_CUSTOM, CustomLoss, CustomParts
from softiou.recipes.data import TrainingData, bands_of
from softiou.recipes.schedule import WarmupPoly, build_optimizer, parameter_groups
from softiou.recipes.validation import ValidationScores
from softiou.soft_labels import SoftLabelReader
from softiou.targets import Target

Augmentations: TypeAlias = Augmentation | CustomAugmentation
Stream: TypeAlias = Callable[[Dataset[Any], int], Iterable[Any]]


class PartlyLabeledBatch(TypedDict):
    """A batch of labelled and a batch of unlabelled images, which may have different sizes."""

    labelled: Batch
    unlabeled: UnlabeledBatch


class ModelSource(TypedDict, total=False):
    """Keyword arguments that determine the model and the loss of a recipe.

    `encoder_weights` is that of `SegmentationModel`, "none" if a checkpoint is loaded afterwards;
    `spec` is that of the checkpoint, None to use the configuration; `custom` has Python objects.
    """

    encoder_weights: str
    spec: ModelSpec | None
    custom: CustomParts


class Recipe(pl.LightningModule, ABC):
    """Trains a segmentation model; subclasses implement `parts`, which computes the loss.

    `open_data`, `build`, `training_batches`, `callbacks` and `memory_settings` do what supervised
    training needs, and may be overridden. Validation, schedule and checkpoints are shared by all
    recipes, so that their runs can be compared.

    Args:
        config: Resolved configuration, without "auto".
        description: Classes of the data set.
        **source: See `ModelSource`.
    """

    def __init__(
        self, config: ResolvedConfig, description: DatasetDescription, **source: Unpack[ModelSource]
    ) -> None:
        super().__init__()
        self.config = config
        self._batch = 0  # index of the batch since the last validation
        self.learns_from = ""  # hash of the teacher or of its soft labels
        self.data_identity = ""  # hash of the training images
        self.soft_labels: SoftLabelReader | None = None
        self.never_predicted: tuple[str, ...] = ()  # classes, at the last validation
        self.description = description
        self.model = _build_model(config, description, **source)
        if config.model.freeze_encoder:
            self.model.freeze_encoder()
        if config.model.gradient_checkpointing:
            recompute_activations(self.model)
        self.loss = _build_loss(config, description, source.get("custom", NOTHING_CUSTOM))
        self.scores = nn.ModuleList()
        self._scored: list[tuple[str, SegmentationModel]] = []
        self.score("", self.model, ValidationScores(description))

    @classmethod
    def open_data(cls, config: Config, labelled: TrainingData) -> TrainingData:
        """Return all data that the recipe needs; `labelled` has the images with labels."""
        return labelled

    @classmethod
    def build(
        cls, config: ResolvedConfig, data: TrainingData, **source: Unpack[ModelSource]
    ) -> Self:
        """Build the recipe, including a teacher if it has one.

        The random initial weights depend only on the seed, see `seed_weights`.
        """
        seed_weights(config.seed)
        return cls(config, data.training.description, **source)

    def training_batches(
        self, data: TrainingData, augmentation: Augmentations, stream: Stream
    ) -> Iterable[Any]:
        """Return the batches for `parts`, made with stream(samples, batch_size)."""
        return stream(self.labelled_samples(data, augmentation), self.batch_sizes()[0])

    def labelled_samples(
        self,
        data: TrainingData,
        augmentation: Augmentations,
        strong: Callable[[Tensor], Tensor] | None = None,
    ) -> TrainingStream:
        """Return the infinite stream of augmented labelled images, optionally with strong views."""
        threshold = self.config.data.repeat_threshold
        return TrainingStream(
            data.training,
            augmentation,
            seed=self.config.seed,
            random_rater=self.config.labels.kind == "random",
            soft_labels=self.soft_labels,
            strong=strong,
            factors=repeat_factors(data.training, threshold) if threshold else None,
        )

    def batch_sizes(self) -> tuple[int, int]:
        """Return the numbers of images with masks and without masks in a batch."""
        return self.config.data.batch_size, 0

    def callbacks(self, run: Path, say: Callable[[str], None]) -> list[Callback]:
        """Return additional callbacks for Lightning's trainer."""
        return []

    def memory_settings(self) -> list[str]:
        """Return additional settings to lower when memory runs out."""
        return []

    def overlap_loss(self) -> OverlapLoss:
        """Return the loss if it is an OverlapLoss; raise a ConfigError for any other callable."""
        if not isinstance(self.loss, OverlapLoss):
            raise ConfigError(
                f"`softiou {self.config.verb}` needs an `OverlapLoss`, such as JaccardMetricLoss: "
                "pass one as `loss`, or leave `loss` out."
            )
        return self.loss

    def score(self, prefix: str, model: SegmentationModel, scores: ValidationScores) -> None:
        """Evaluate a model at every validation, and log its metrics as val/PREFIX...

        The metrics of the student have no prefix, and select the best checkpoint.
        """
        self.scores.append(scores)
        self._scored.append((prefix, model))

    @abstractmethod
    def parts(self, batch: Any) -> dict[str, Tensor]:
        """Return the "loss" to minimise, and its detached parts."""

    def labels_of(self, batch: Batch) -> Tensor | Target:
        """Return the target for the labels of a batch, smoothed as configured."""
        return build_target(batch["target"], self.config.labels, self.description)

    @cached_property
    def _network(self) -> Callable[[Tensor], Tensor]:
        """The compiled model for training; validation images of other sizes use the original."""
        return torch.compile(self.model) if self.config.model.compile else self.model

    def student_logits(
        self, images: Tensor, *, count: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and those of the auxiliary head for the first `count` images."""
        if self.model.auxiliary is None:
            return self._network(images), None
        return self.model.forward_auxiliary(images, count=count)

    def with_auxiliary(
        self, parts: dict[str, Tensor], logits: Tensor | None, target: Targets
    ) -> dict[str, Tensor]:
        """Return the parts of the loss with the weighted loss of the auxiliary head added."""
        if logits is None:
            return parts
        auxiliary = self.loss.parts(logits, target)["loss"]
        loss = parts["loss"] + self.config.loss.auxiliary * auxiliary
        return {**parts, "loss": loss, "auxiliary": auxiliary.detach()}

    def configure_model(self) -> None:
        """With fsdp, shard the weights over the processes, separately for each part of the net."""
        if self.config.strategy == "fsdp":  # with one process it needs contiguous weights
            self.model.to(memory_format=torch.contiguous_format)
        if self.config.strategy == "fsdp" and self.device_mesh is not None:
            mesh = self.device_mesh["data_parallel"]
            for part in [*self.model.net.children(), self.model]:
                fully_shard(part, mesh=mesh)

    def on_train_start(self) -> None:
        """Compute the loss over the joint batch of all processes."""
        if self.trainer.world_size > 1:
            for module in self.modules():
                if isinstance(module, OverlapLoss):
                    module.process_group = "world"

    def generator(self, purpose: str, number: int | None = None) -> torch.Generator:
        """Return a CPU generator, seeded by the step and the purpose.

        A resumed run draws the same numbers, and each process draws different ones. With `number`,
        the position of an image in the joint batch, they do not depend on the number of processes.
        """
        own = self.global_rank if number is None else number
        key = (self.config.seed, self.global_step, self._batch, own, *purpose.encode())
        seed = np.random.SeedSequence(key).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed[0]))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and its detached parts."""
        self._batch = batch_idx
        torch.manual_seed(self.generator("dropout").initial_seed())  # networks use this generator
        parts = self.parts(batch)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in parts.items()},
            batch_size=1,  # only used for means over several batches, which are not logged
        )
        schedule: Any = self.lr_schedulers()
        self.log("learning_rate", schedule.get_last_lr()[0])
        return parts

    def on_before_backward(self, loss: Tensor) -> None:
        """Keep the statistics of the encoder, which recomputing its activations updates again."""
        if self.config.model.gradient_checkpointing:
            self._statistics = [buffer.clone() for buffer in self.model.net.encoder.buffers()]

    def on_after_backward(self) -> None:
        """Restore the statistics of the encoder."""
        if self.config.model.gradient_checkpointing:
            buffers = self.model.net.encoder.buffers()
            for buffer, kept in zip(buffers, self._statistics, strict=True):
                buffer.copy_(kept)

    def on_validation_start(self) -> None:
        """Synchronise the buffers, because batch normalisation may differ between processes."""
        self._gather(True)  # processes validate different numbers of images, so gather only once
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_validation_end(self) -> None:
        """Shard the weights again."""
        self._gather(False)

    def _gather(self, whole: bool) -> None:
        """With strategy=fsdp, gather all weights in each process, or shard them again."""
        for part in self.model.modules():
            if isinstance(part, FSDPModule):
                part.set_reshard_after_forward(not whole, recurse=False)
                part.unshard() if whole else part.reshard()

    def validation_step(self, samples: list[Sample], batch_idx: int) -> None:
        """Evaluate images at their own resolution, those of equal size in one pass."""
        ways: dict[int, list[ValidationScores]] = {}  # scores by model, which may have several
        for (_, model), scores in zip(self._scored, self._scores(), strict=True):
            ways.setdefault(id(model), []).append(scores)
        for model in dict.fromkeys(model for _, model in self._scored):
            predictor, several = ModelPredictor(model, self.config.precision), ways[id(model)]
            for group in of_equal_size(
                samples, lambda sample: sample["image"], at_most=images_at_once(self.device)
            ):
                for sample, bands in zip(group, _bands(predictor, group), strict=True):
                    self._score(sample, bands, several)

    def _score(
        self,
        sample: Sample,
        bands: Iterable[tuple[slice, Tensor]],
        several: Sequence[ValidationScores],
    ) -> None:
        """Add an image to scores, given the rows of its probabilities."""
        target = truth(stored_target(sample), self.description)
        found = [
            [scores.gather(probs, target[..., rows, :].to(probs.device)) for scores in several]
            for rows, probs in bands
        ]
        for scores, parts in zip(several, zip(*found, strict=True), strict=True):
            scores.add(reduce(PixelSums.plus, parts))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics in per cent, and record the classes that are never predicted."""
        if not self._scores()[0].num_pixels():
            raise DataError(
                f"Expected labelled pixels in the split {self.config.data.val_split}, but all "
                "pixels of its masks are ignored, so no best checkpoint can be selected. Check it "
                "with `softiou check`, or choose another split: data.val_split=NAME."
            )
        missing = self._scores()[0].never_predicted()
        self.never_predicted = tuple(self.description.classes[index] for index in missing)
        for (prefix, _), scores in zip(self._scored, self._scores(), strict=True):
            values = {f"val/{prefix}{name}": value for name, value in scores.compute().items()}
            self.log_dict(values)
            scores.reset()

    def _scores(self) -> list[ValidationScores]:
        return [scores for scores in self.scores if isinstance(scores, ValidationScores)]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser with its parameter groups, and the learning rate schedule."""
        settings = self.config.optim
        pretrained = self.model.spec.is_custom or self.config.model.encoder_weights != "none"
        groups = parameter_groups(
            self.model,
            learning_rate=settings.learning_rate,
            encoder_rate=settings.encoder_rate if pretrained else 1.0,
            weight_decay=settings.weight_decay,
        )
        optimizer = build_optimizer(settings.optimizer, groups, momentum=settings.momentum)
        schedule = WarmupPoly(settings.steps, settings.warmup, settings.poly_power)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the specification of the model, its classes and settings, and hashes of its data."""
        config = self.config.model_dump(mode="json")
        entry = checkpoints.entry(self.model.spec, self.description, config)
        checkpoint["softiou"] = entry | {
            "learns_from": self.learns_from,
            "data": self.data_identity,
            "processes": self.trainer.world_size,
        }
        if self.config.strategy == "fsdp" and self.trainer.world_size == 1:
            # Number the weights in the order of the module, as fsdp with several processes does.
            (optimizer,), (saved,) = self.trainer.optimizers, checkpoint["optimizer_states"]
            order = {id(weights): number for number, weights in enumerate(self.parameters())}
            numbers = [order[id(w)] for group in optimizer.param_groups for w in group["params"]]
            saved["state"] = {numbers[own]: state for own, state in saved["state"].items()}
            for group in saved["param_groups"]:
                group["params"] = [numbers[own] for own in group["params"]]


def _bands(
    predictor: ModelPredictor, samples: Sequence[Sample]
) -> list[Iterable[tuple[slice, Tensor]]]:
    """Return the rows of images of equal size with their probabilities."""
    images = [sample["image"] for sample in samples]
    if len(images) == 1:
        return [probability_bands(predictor, images[0], settings=WHOLE_IMAGE)]
    rows, size = slice(0, images[0].shape[-2]), (images[0].shape[-2], images[0].shape[-1])
    probs = predictor.probs(torch.stack(images).to(predictor.device), size)
    return [[(rows, one)] for one in probs]


def seed_weights(seed: int) -> None:
    """Seed the random generators that initialise the weights of a model."""
    pl.seed_everything(seed, workers=False, verbose=False)


def _build_model(
    config: ResolvedConfig,
    description: DatasetDescription,
    *,
    encoder_weights: str = "none",
    spec: ModelSpec | None = None,
    custom: CustomParts = NOTHING_CUSTOM,
) -> SegmentationModel:
    if config.model.compile and config.loss.auxiliary:
        raise ConfigError("model.compile excludes an auxiliary head: set loss.auxiliary=0.")
    chosen = bands_of(config.data)
    bands = chosen if chosen.numbers else None
    if custom.model is not None:
        if config.loss.auxiliary:
            raise ConfigError("loss.auxiliary: your own model has no auxiliary head; set it to 0.")
        if config.model.weights:
            raise ConfigError("model.weights: load them into your own model, and remove this.")
        return CustomModel(custom.model, description.num_classes, bands)
    begin = config.model.weights if spec is None else None  # a resumed run has its own weights
    spec = spec or ModelSpec(
        config.model.architecture,
        config.model.encoder,
        description.num_classes,
        output_stride=config.model.output_stride,
        auxiliary=config.loss.auxiliary > 0,
        bands=bands,
    )
    model = SegmentationModel(spec, encoder_weights="none" if begin else encoder_weights)
    if begin:
        checkpoints.load_into(model, Path(begin).expanduser(), description)
    freeze_unused(model)
    return model


def _build_loss(
    config: ResolvedConfig, description: DatasetDescription, custom: CustomParts
) -> OverlapLoss | CustomLoss:
    num_classes, ignore_index = description.num_classes, description.ignore_index
    if custom.loss is None:
        check_loss(config.loss, num_classes)
        return build_loss(config.loss, ignore_index=ignore_index)
    if isinstance(custom.loss, OverlapLoss):
        loss = copy(custom.loss)
        loss.upsample = "bilinear"  # models return logits at their own stride
        return loss
    return CustomLoss(custom.loss, num_classes=num_classes, ignore_index=ignore_index)
