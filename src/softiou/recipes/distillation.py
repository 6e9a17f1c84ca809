"""The distillation recipe: trains a student with labels and the probabilities of a teacher."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, Unpack, cast, final

import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor

from softiou import targets
from softiou._processes import is_first
from softiou.calibration import load_scaling
from softiou.checkpoints import check_classes, file_sha256, find_checkpoint, load_trained
from softiou.configuration import Config
from softiou.configuration.resolved import ResolvedConfig, ResolvedDistillation
from softiou.configuration.sections import DistillationConfig
from softiou.data import (
    Augmentation,
    Batch,
    DatasetDescription,
    PartlyLabeled,
    SegmentationDataset,
    StrongColours,
    UnlabeledStream,
    stems_by_folder,
)
from softiou.errors import CheckpointError, ConfigError
from softiou.inference import autocast
from softiou.inference.views import resized
from softiou.losses import Targets, channel_wise_divergence, correlation_distance, weights_of
from softiou.models import SegmentationModel
from softiou.overlap.processes import of_all, place
from softiou.recipes.alignment import ClassAlignment, label_mass
from softiou.recipes.base import (
    Augmentations,
    ModelSource,
    PartlyLabeledBatch,
    Recipe,
    Stream,
    seed_weights,
)
from softiou.recipes.data import TrainingData, open_without_labels
from softiou.recipes.mixing import at_the_stride_of, draw_regions, joined_numbers, partners
from softiou.soft_labels import SoftLabelReader, SoftLabelStore
from softiou.targets import Target
from softiou.temperature import LogitScaling

Pairs = Sequence[tuple[float, Tensor | Target]]


class DistillationBatch(Batch):
    """A batch with weak views for the teacher, `image` (N, 3, H, W), and `view` for the student."""

    view: Tensor


@dataclass(frozen=True)
class Lesson:
    """The images and targets of a batch for the student."""

    images: Tensor  # uint8 (N, 3, H, W), with strong views after CutMix and ClassMix
    pairs: Pairs  # weights and targets; the weights sum to 1
    teacher_logits: Tensor | None  # (N, C, h, w) of the same pixels; None with stored soft labels
    inside: Tensor  # bool (N, H, W), False for padding outside the image


@final
class DistillationRecipe(Recipe):
    """Trains a student with labels and the probabilities of a teacher.

        loss = L(student, (1 - weight) labels + weight teacher)
               + channel_wise CWD + correlation DIST

    L is the loss of the configuration, cross-entropy and overlap loss. Pixels without a label use
    only the teacher's probabilities. With `mix=losses`, the loss is instead

        loss = (1 - weight) L(student, labels) + weight L(student, teacher) + ...

    An auxiliary head is trained with the same targets and the same L. CWD is
    `softiou.losses.ChannelWiseDistillation`, DIST is `softiou.losses.correlation_distance`.

    Args:
        config: Resolved configuration with a section `distillation`.
        description: Classes of the data set.
        teacher: Teacher network, frozen and in eval mode; None if batches contain soft labels.
        **source: See `ModelSource`.
    """

    def __init__(
        self,
        config: ResolvedConfig,
        description: DatasetDescription,
        *,
        teacher: SegmentationModel | None,
        **source: Unpack[ModelSource],
    ) -> None:
        super().__init__(config, description, **source)
        self.settings = settings = section_of(config)
        self.teacher = Frozen(teacher)
        classes = description.num_classes
        self.alignment = ClassAlignment(classes, settings.align) if settings.align else None
        self.scaling: LogitScaling | None = None  # of the teacher's logits, by its calibration
        self.store: SoftLabelStore | None = None
        if settings.unlabeled and config.data.batch_size == 1:
            raise ConfigError(
                "data.batch_size: a batch of images with and without masks needs at least 2, but "
                "got 1. Raise it, or set distillation.unlabeled=false."
            )

    @classmethod
    def open_data(cls, config: Config, labelled: TrainingData) -> TrainingData:
        """Add the images without labels if `distillation.unlabeled` is set."""
        if config.distillation is None or not config.distillation.unlabeled:
            return labelled
        others = open_without_labels(config.data, None, labelled.training.bands)
        return replace(labelled, unlabeled=others)

    @classmethod
    def build(
        cls, config: ResolvedConfig, data: TrainingData, **source: Unpack[ModelSource]
    ) -> Self:
        """Load the teacher or open its soft labels, and build the student."""
        settings, dataset = section_of(config), data.training
        teacher, scaling = load_teacher(settings, dataset) if settings.teacher else (None, None)
        seed_weights(config.seed)
        recipe = cls(config, dataset.description, teacher=teacher, **source)
        recipe.scaling = scaling
        recipe.overlap_loss()  # raises if the loss is not an OverlapLoss
        if settings.soft_labels:
            every = PartlyLabeled(dataset, data.unlabeled) if data.unlabeled else dataset
            recipe.store = open_soft_labels(
                settings, every, verify=config.data.verify and is_first()
            )
            recipe.soft_labels = SoftLabelReader(recipe.store, dataset.folder)
        recipe.learns_from = identity_of(settings) + ("" if scaling is None else f", {scaling}")
        return recipe

    def batch_sizes(self) -> tuple[int, int]:
        """Return the numbers of images with masks and without masks in a batch."""
        size = self.config.data.batch_size
        if not self.settings.unlabeled:
            return size, 0
        labelled = min(max(1, round(self.settings.labelled_share * size)), size - 1)
        return labelled, size - labelled

    def training_batches(
        self, data: TrainingData, augmentation: Augmentations, stream: Stream
    ) -> Iterable[Any]:
        """Return labelled batches, or pairs of a labelled and an unlabelled batch."""
        settings, sizes = self.settings, self.batch_sizes()
        if data.unlabeled is None and settings.strong != "all":
            return super().training_batches(data, augmentation, stream)
        if not isinstance(augmentation, Augmentation):
            raise ConfigError(
                "distillation.unlabeled and strong=all need the built-in augmentation to make weak "
                "and strong views: remove your own transform."
            )
        bands = self.config.data.bands is not None
        strong = StrongColours(settings.colour, settings.grey, settings.blur, bands)
        if settings.strong == "all":
            augmentation = replace(augmentation, colour=0)  # no colour jitter in the weak view
            samples = self.labelled_samples(data, augmentation, strong)
        else:
            samples = self.labelled_samples(data, augmentation)
        labelled = stream(samples, sizes[0])
        if data.unlabeled is None:
            return labelled
        if settings.strong == "none":
            strong = StrongColours(augmentation.colour, 0, 0, bands)
        unlabeled = UnlabeledStream(
            data.unlabeled,
            augmentation,
            strong,
            views=1,
            seed=self.config.seed,
            soft_labels=SoftLabelReader(self.store, "") if self.store else None,
        )
        batches = {"labelled": labelled, "unlabeled": stream(unlabeled, sizes[1])}
        return CombinedLoader(batches, mode="min_size")

    def on_fit_start(self) -> None:
        """Move the teacher to the device of the student."""
        if self.teacher.model is not None:
            self.teacher.model.to(self.device)

    def parts(self, batch: Batch | PartlyLabeledBatch) -> dict[str, Tensor]:
        """Return the loss against labels and teacher, and its detached parts."""
        lesson = self._lesson(batch)
        logits, auxiliary_logits = self.student_logits(lesson.images)
        parts = self._parts(logits, lesson.pairs)
        parts = self.with_auxiliary(parts, auxiliary_logits, self._joint(lesson.pairs))
        if lesson.teacher_logits is not None:
            inside = at_the_stride_of(logits, lesson.inside)
            for name in ("channel_wise", "correlation"):
                if weight := getattr(self.settings, name):
                    extra = self._divergence(name, logits, lesson.teacher_logits, inside)
                    parts["loss"] = parts["loss"] + weight * extra
                    parts[name] = extra.detach()
        return parts

    def _divergence(self, name: str, logits: Tensor, teachers: Tensor, inside: Tensor) -> Tensor:
        """Return the channel-wise or correlation distance from the teacher's logits."""
        if name == "channel_wise":  # a mean over images, which DDP averages correctly
            temperature = self.settings.channel_wise_temperature
            return channel_wise_divergence(logits, teachers, temperature=temperature, valid=inside)
        group = self.overlap_loss().process_group
        return correlation_distance(logits, teachers, valid=inside, process_group=group)

    def _lesson(self, batch: Any) -> Lesson:
        """Return the images and targets for the student, after CutMix and ClassMix."""
        views, logits = self._taught(self._joined(batch))
        pairs, images, inside = self._pairs(views), views["view"], views["inside"]
        kinds = batch.values() if "unlabeled" in batch else [batch]
        groups = [len(kind["stem"]) for kind in kinds]
        size, labelled = sum(groups), groups[0]
        weak = {"none": size, "unlabeled": labelled, "all": 0}[self.settings.strong]
        if weak == size or self.settings.cut_mix + self.settings.class_mix == 0:
            return Lesson(images, pairs, logits, inside)
        rolled = {name: partners(x, groups) for name, x in views.items() if isinstance(x, Tensor)}
        other = cast(DistillationBatch, {**views, **rolled})
        region = self._regions(other, groups)
        region[:weak] = False
        images = torch.where(region.unsqueeze(1), other["view"], images)
        inside = torch.where(region, other["inside"], inside)
        pasted = [
            (weight, targets.paste(one, another, region))
            for (weight, one), (_, another) in zip(self._pairs(other), pairs, strict=True)
        ]
        if logits is not None:
            cells = at_the_stride_of(logits, region).unsqueeze(1)
            logits = torch.where(cells, partners(logits, groups), logits)
        return Lesson(images, pasted, logits, inside)

    def _taught(self, views: DistillationBatch) -> tuple[DistillationBatch, Tensor | None]:
        """Return the batch with scaled and aligned logits, and the teacher's original logits.

        With stored soft labels, the batch is returned unchanged, and the logits are None.
        """
        logits = self._teacher_logits(views["image"])
        if logits is None:
            return views, None
        soft = logits if self.scaling is None else self.scaling.apply(logits.float())
        if self.alignment is not None:
            mass = label_mass(views["target"], logits.shape[1], self.description.ignore_index)
            self.alignment.add_labels(mass)
            soft = self.alignment(soft, views["inside"])
        return {**views, "soft_logits": soft}, logits

    def _regions(self, theirs: DistillationBatch, groups: Sequence[int]) -> Tensor:
        """Draw the pixels of each image that its partner in `theirs` replaces: bool (N, H, W)."""
        settings, size = self.settings, (theirs["view"].shape[-2], theirs["view"].shape[-1])
        logits = theirs.get("soft_logits")
        if logits is None:  # stored soft labels have full resolution; every fourth pixel is enough
            best = theirs["soft_indices"][:, 0, ::4, ::4].long()
            classes = torch.arange(self.description.num_classes, device=best.device)
            logits = 20.0 * (best.unsqueeze(1) == classes.view(-1, 1, 1))
        return draw_regions(
            logits,
            size,
            cut_mix=settings.cut_mix,
            class_mix=settings.class_mix,
            generators=[self.generator("mix", n) for n in joined_numbers(groups)],
        )

    def _pairs(self, batch: DistillationBatch) -> Pairs:
        """Return the targets of labels and teacher with their weights, without weights of 0."""
        weight, pairs = self.settings.weight, list[tuple[float, Tensor | Target]]()
        if weight < 1:
            pairs.append((1 - weight, self.labels_of(batch)))
        if weight > 0:
            pairs.append((weight, self._soft_target(batch)))
        return pairs

    def _joint(self, pairs: Pairs) -> Targets:
        """Return the target of the loss: a single one, the mixture, or pairs for mix=losses."""
        if len(pairs) == 1:
            return pairs[0][1]
        return targets.mix(*pairs) if self.settings.mix == "targets" else pairs

    def _parts(self, logits: Tensor, pairs: Pairs) -> dict[str, Tensor]:
        """Return the loss and its parts.

        With `student_temperature` the cross-entropy is

            (1 - weight) CE(labels, softmax(z)) + weight T^2 CE(teacher, softmax(z / T))
        """
        loss, target = self.overlap_loss(), self._joint(pairs)
        if not self.settings.student_temperature or self.settings.weight == 0:
            return loss.parts(logits, target)
        temperature, share = self.settings.temperature, loss.cross_entropy
        entropy, overlap = logits.new_zeros(()), logits.new_zeros(())
        for weight, found in zip(weights_of(target), loss.statistics(logits, target), strict=True):
            overlap = overlap + weight * loss.overlap(found)
        for (weight, one), own in zip(reversed(pairs), (temperature, 1.0), strict=False):
            (found,) = loss.statistics(logits / own, one)
            entropy = entropy + weight * own**2 * found.mean_cross_entropy()
        total = entropy if share == 1 else torch.lerp(overlap, entropy, share)
        return {"loss": total, "overlap": overlap.detach(), "cross_entropy": entropy.detach()}

    def _joined(self, batch: Any) -> DistillationBatch:
        """Join labelled and unlabelled images; the latter come last, with ignored labels."""
        one = batch.get("labelled", batch)
        view = one["strong"][:, 0] if "strong" in one else one["image"]
        joined: dict[str, Any] = {**one, "view": view}
        if "unlabeled" in batch:
            other = batch["unlabeled"]
            shape = (len(other["image"]), *one["target"].shape[1:])
            ignored = one["target"].new_full(shape, self.description.ignore_index)
            other = {**other, "target": ignored, "view": other["strong"][:, 0]}
            joined = {key: _concatenated(joined[key], other[key]) for key in joined}
        for name in ("soft_indices", "soft_weights"):
            if name in joined and place()[1] > 1:  # processes exchange images of equal shape
                own = joined[name].shape[1]
                depth = int(of_all(torch.tensor(own, device=joined[name].device), "max"))
                joined[name] = torch.nn.functional.pad(joined[name], (0, 0, 0, 0, 0, depth - own))
        return cast(DistillationBatch, joined)

    @torch.no_grad()
    def _teacher_logits(self, images: Tensor) -> Tensor | None:
        """Return the teacher's logits (N, C, h, w) at its own stride; None without a teacher."""
        teacher = self.teacher.model
        if teacher is None:
            return None
        # Sizes that are multiples of the stride need no padding.
        height, width = (
            length + -length % teacher.input_stride
            for length in self.settings.teacher_px or images.shape[-2:]
        )
        with autocast(images.device, self.settings.teacher_precision):
            logits: Tensor = teacher(resized(images, (height, width)))
        return logits

    def _soft_target(self, batch: Batch) -> Target:
        """Return the teacher's probabilities as a target, with threshold, keep and temperature.

        Threshold and keep apply to the probabilities before the temperature.
        """
        settings, temperature = self.settings, self.settings.temperature
        filtered = settings.threshold > 0 or settings.keep is not None
        logits = batch.get("soft_logits")
        if logits is not None and not filtered:
            return targets.teacher(logits, temperature=temperature, valid=batch["inside"])
        if logits is not None:
            target = targets.teacher(logits, valid=batch["inside"])
        else:
            target = targets.sparse(batch["soft_indices"], batch["soft_weights"])
        if not filtered and temperature == 1:
            return target
        return targets.confident(
            target, threshold=settings.threshold, temperature=temperature, keep=settings.keep
        )


@dataclass(frozen=True)
class Frozen:
    """Hides the teacher from torch, so that it is not trained, averaged or saved."""

    model: SegmentationModel | None

    def __deepcopy__(self, memo: object) -> "Frozen":
        return self  # averaging the weights copies the module, but the teacher is shared


def _concatenated(one: Any, other: Any) -> Any:
    """Concatenate lists or tensors; sparse soft labels (N, K, ...) are padded to the same K."""
    if isinstance(one, list):
        return one + other
    depth = max(one.shape[1], other.shape[1])
    lacking = (x.new_zeros(len(x), depth - x.shape[1], *x.shape[2:]) for x in (one, other))
    return torch.cat([torch.cat(pair, 1) for pair in zip((one, other), lacking, strict=True)])


def section_of(config: ResolvedConfig) -> ResolvedDistillation:
    """Return the section `distillation` of a configuration."""
    if config.distillation is None:
        raise ValueError("Expected a configuration with a section `distillation`, but got none.")
    return config.distillation


def load_teacher(
    settings: DistillationConfig, dataset: SegmentationDataset
) -> tuple[SegmentationModel, LogitScaling | None]:
    """Load a teacher, frozen and in eval mode, and its calibration if `calibrated` is set."""
    trained = load_trained(Path(str(settings.teacher)).expanduser())
    check_classes(trained.path, trained.description, dataset.description, data="the data set")
    if trained.bands != dataset.bands:
        raise CheckpointError(
            f"{trained.path} has the bands {trained.bands or 'RGB'}, the student "
            f"{dataset.bands or 'RGB'}. Set data.bands and data.band_ranges to the teacher's."
        )
    scaling = load_scaling(trained) if settings.calibrated else None
    return trained.model.requires_grad_(False), scaling


def open_soft_labels(
    settings: DistillationConfig, dataset: SegmentationDataset, *, verify: bool = True
) -> SoftLabelStore:
    """Open stored soft labels, or raise a DataError if some are missing or damaged."""
    store = SoftLabelStore.open(Path(str(settings.soft_labels)).expanduser())
    store.check_description(dataset.description)
    for folder, stems in stems_by_folder(dataset):
        store.check_complete(folder, stems)
        if verify:
            store.check_whole(folder, stems)
    return store


def identity_of(settings: DistillationConfig) -> str:
    """Return a hash that identifies the teacher or the stored soft labels."""
    if settings.teacher is not None:
        return file_sha256(find_checkpoint(Path(settings.teacher).expanduser()))
    return SoftLabelStore.open(Path(str(settings.soft_labels)).expanduser()).manifest.identity
