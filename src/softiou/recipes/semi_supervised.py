"""The semi-supervised recipe: labelled images, and pseudo-labels of a mean teacher for others.

Shapes: N images, V strong views, C classes, (H, W) the crop, (h, w) logits at their stride.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack, cast, final

import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from softiou import targets
from softiou.configuration import Config
from softiou.configuration.resolved import ResolvedConfig, ResolvedSemiSupervised
from softiou.configuration.sections import LossConfig
from softiou.data import (
    Augmentation,
    DatasetDescription,
    StrongColours,
    UnlabeledBatch,
    UnlabeledStream,
)
from softiou.errors import ConfigError
from softiou.inference import autocast
from softiou.losses import OverlapLoss
from softiou.models import SegmentationModel
from softiou.overlap.processes import of_all
from softiou.recipes.alignment import ClassAlignment, ClassConfidence
from softiou.recipes.averaging import averaging
from softiou.recipes.base import Augmentations, ModelSource, PartlyLabeledBatch, Recipe, Stream
from softiou.recipes.building import build_loss, check_loss
from softiou.recipes.data import TrainingData, open_without_labels
from softiou.recipes.mixing import at_the_stride_of, draw_regions, joined_numbers, partners
from softiou.recipes.pseudo_labels import PseudoLabelReport, PseudoLabelWatch, Shown
from softiou.recipes.validation import ValidationScores
from softiou.targets import Target


@dataclass(frozen=True)
class StrongView:
    """Images for the student and the pseudo-labels of their pixels."""

    images: Tensor  # uint8 (N, 3, H, W), after mixing
    pseudo_target: Target  # of shape (N, H, W)
    weights: Tensor | None  # pixel weights (N, H, W); None for equal weights
    inside: Tensor  # bool (N, H, W), False for padding outside the image


@final
class SemiSupervisedRecipe(Recipe):
    """Trains with labelled images, and with pseudo-labels of a moving average of the model.

        loss = L(student(image), labels) + w(t) mean_v k_v U(student(view v), teacher(weak view))
        teacher <- d teacher + (1 - d) student,    d = min(ema, 1 - 1 / (updates + 1))

    L is the loss of the configuration, including an auxiliary head; U is the same without
    auxiliary head, or cross-entropy alone. The weight w = weight exp(-5 (1 - t)^2) rises with t
    from 0 to 1 over the ramp. k is the share of pixels of a view that are kept, or the mean
    confidence if pixels are weighted by it. As in FixMatch, ignored pixels therefore count as 0,
    and batches with low confidence have less weight. Parameters and buffers of the teacher are
    averaged. The strong views have equal weights in the mean; a view with dropped features has
    weight 1/2, and the strong views together the other half.

    Args:
        config: Resolved configuration with a section `semi_supervised`.
        description: Classes of the data set.
        **source: See `ModelSource`.

    References:
        Tarvainen, Valpola, Mean teachers are better role models, NeurIPS 2017. Sohn et al.,
        FixMatch, NeurIPS 2020. Yang et al., UniMatch, CVPR 2023. Wang, Ning, Blaschko, Jaccard
        Metric Losses, NeurIPS 2023, arXiv 2302.05666, section on semi-supervised learning.
    """

    def __init__(
        self, config: ResolvedConfig, description: DatasetDescription, **source: Unpack[ModelSource]
    ) -> None:
        super().__init__(config, description, **source)
        if config.semi_supervised is None:
            raise ValueError("Expected a section `semi_supervised`, but got none.")
        self.settings = settings = config.semi_supervised
        self.overlap_loss()  # raises if the loss is not an OverlapLoss
        if settings.feature_dropout and self.model.spec.is_custom:
            raise ConfigError(
                "semi_supervised.feature_dropout: the features of your own model are not known; "
                "set it to 0."
            )
        self.teacher = AveragedModel(
            self.model, multi_avg_fn=averaging(settings.ema), use_buffers=True
        ).requires_grad_(False)
        self.teacher.eval()  # Lightning does not change the mode
        self.unlabeled_loss = _unlabeled_loss(config.loss, settings, description)
        self.confidence_threshold = settings.confidence_threshold
        self.label_trace = (config.labels.epsilon or 0.0) / description.num_classes
        teacher = cast(SegmentationModel, self.teacher.module)
        sure = ValidationScores(description, confidence_threshold=self.confidence_threshold)
        self.score("teacher_", teacher, ValidationScores(description))
        self.score("pseudo_", teacher, sure)
        self.watch = PseudoLabelWatch(description.num_classes)
        classes = description.num_classes
        self.alignment = ClassAlignment(classes, settings.align) if settings.align else None
        self.class_confidence = ClassConfidence(classes) if settings.class_confidence else None
        if settings.class_confidence and self.confidence_threshold:
            raise ConfigError(
                "semi_supervised.class_confidence: with a threshold, pixels are not weighted by "
                "confidence. Set it to false, or semi_supervised.confidence_threshold to 0."
            )
        self.shown: Shown | None = None

    @classmethod
    def open_data(cls, config: Config, labelled: TrainingData) -> TrainingData:
        """Add the images without labels."""
        semi = config.semi_supervised
        others = open_without_labels(
            config.data, semi.unlabeled if semi else None, labelled.training.bands
        )
        return replace(labelled, unlabeled=others)

    def training_batches(
        self, data: TrainingData, augmentation: Augmentations, stream: Stream
    ) -> CombinedLoader:
        """Return pairs of a labelled and an unlabelled batch."""
        if data.unlabeled is None or not isinstance(augmentation, Augmentation):
            raise ConfigError(
                "`softiou semi` needs the built-in augmentation to make weak and strong views: "
                "remove your own transform."
            )
        settings = self.settings
        unlabeled = UnlabeledStream(
            data.unlabeled,
            augmentation,
            StrongColours(
                settings.colour, settings.grey, settings.blur, self.config.data.bands is not None
            ),
            views=settings.views,
            seed=self.config.seed,
        )
        # Both streams have the same number of batches between validations.
        batches = {
            "labelled": super().training_batches(data, augmentation, stream),
            "unlabeled": stream(unlabeled, settings.batch_size),
        }
        return CombinedLoader(batches, mode="min_size")

    def batch_sizes(self) -> tuple[int, int]:
        """Return the numbers of images with masks and without masks in a batch."""
        return self.config.data.batch_size, self.settings.batch_size

    def callbacks(self, run: Path, say: Callable[[str], None]) -> list[Callback]:
        """Return the callback that reports on the pseudo-labels."""
        return [PseudoLabelReport(run, say)]

    def memory_settings(self) -> list[str]:
        """Return the size of the unlabelled batch as a setting to lower."""
        return [f"semi_supervised.batch_size ({self.settings.batch_size})"]

    def train(self, mode: bool = True) -> "SemiSupervisedRecipe":
        """Set the mode of the student; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the student, then the teacher, before a checkpoint is saved."""
        super().optimizer_step(*args, **kwargs)
        self.teacher.update_parameters(self.model)

    def parts(self, batch: PartlyLabeledBatch) -> dict[str, Tensor]:
        """Return the loss against labels and pseudo-labels, and its detached parts."""
        labelled, unlabeled = batch["labelled"], batch["unlabeled"]
        views = self._views(unlabeled)
        groups = [labelled["image"], *(view.images for view in views)]
        logits, auxiliary_logits = self._student(groups, drops=self._drops)
        target = self.labels_of(labelled)
        found = self.overlap_loss().statistics(logits[0], target)
        parts = self.overlap_loss().parts_of(found, [1.0])
        parts = self.with_auxiliary(parts, auxiliary_logits, target)
        about = [
            self.unlabeled_loss.statistics(theirs, view.pseudo_target, weights=view.weights)[0]
            for theirs, view in zip(logits[1:], views, strict=True)
        ]
        kept = [
            one.weight.sum() / of_all(view.inside.sum()).clamp(min=1)
            for one, view in zip(about, views, strict=True)
        ]
        weights = [share * k for share, k in zip(self._shares(len(about)), kept, strict=True)]
        loss = self.unlabeled_loss.parts_of(about, weights)["loss"]
        mass, pseudo_mass = (one.Y.detach().sum(0) for one in (found[0], about[0]))
        self.watch.add(labels=mass, pseudo_labels=pseudo_mass, kept=kept[0])
        if self.alignment is not None:
            self.alignment.add_labels(mass)
        return {
            **parts,
            "loss": parts["loss"] + self._weight() * loss,
            "labelled": parts["loss"].detach(),
            "unlabeled": loss.detach(),
            "kept": kept[0],
        }

    @property
    def _drops(self) -> bool:
        return self.settings.feature_dropout > 0

    def _weight(self) -> float:
        """Return the weight of the unlabelled loss at this step."""
        ramp = self.settings.ramp * self.config.optim.steps
        progress = min(1.0, self.global_step / ramp) if ramp else 1.0
        return self.settings.weight * math.exp(-5 * (1 - progress) ** 2)

    def _shares(self, count: int) -> Tensor:
        """Return the weights of the views in the unlabelled loss."""
        if not self._drops:
            return torch.full((count,), 1 / count, device=self.device)
        shares = [0.5 / (count - 1)] * (count - 1) + [0.5]
        return torch.tensor(shares, device=self.device)

    def _views(self, batch: UnlabeledBatch) -> list[StrongView]:
        """Compute the pseudo-labels from the weak views, and mix the strong views."""
        logits, own_inside = self._teacher_logits(batch["image"]), batch["inside"]
        if self.alignment is not None:
            logits = self.alignment(logits, own_inside)
        their_logits, their_inside = partners(logits), partners(own_inside)
        size = (int(own_inside.shape[1]), int(own_inside.shape[2]))
        target = self._teacher_target(logits, own_inside)
        weights = None if self.confidence_threshold else self._weights(logits, own_inside)
        theirs = self._teacher_target(their_logits, their_inside)
        generators = [self.generator("mix", n) for n in joined_numbers([len(logits)])]
        views: list[StrongView] = []
        for strong in batch["strong"].unbind(1):
            region = draw_regions(
                their_logits,
                size,
                cut_mix=self.settings.cut_mix,
                class_mix=self.settings.class_mix,
                generators=generators,
            )
            mixed = torch.where(region.unsqueeze(1), partners(strong), strong)
            pasted = None if weights is None else torch.where(region, partners(weights), weights)
            inside = torch.where(region, their_inside, own_inside)
            pseudo_target = self._confident(targets.paste(theirs, target, region))
            views.append(StrongView(mixed, pseudo_target, pasted, inside))
        pseudo = (own_inside, logits), (their_inside, their_logits)
        self.shown = Shown(batch["stem"], batch["image"], mixed, region, *pseudo)
        if self._drops:
            own = self._confident(target)
            views.append(StrongView(batch["image"], own, weights, own_inside))
        return views

    def _weights(self, logits: Tensor, inside: Tensor) -> Tensor:
        """Return the weights of the pseudo-labels (N, H, W): the confidence at each pixel.

        The confidence is interpolated instead of the probabilities, so that it remains high at the
        boundary between two confident cells, and boundaries are not ignored in training.
        """
        dtype = torch.promote_types(logits.dtype, torch.float32)
        weights, classes = logits.softmax(1, dtype=dtype).max(1)
        if self.class_confidence is not None:
            weights = self.class_confidence(weights, classes, at_the_stride_of(logits, inside))
        size = (int(inside.shape[1]), int(inside.shape[2]))
        large = F.interpolate(weights.unsqueeze(1), size, mode="bilinear", align_corners=False)
        return large[:, 0]

    def _teacher_target(self, logits: Tensor, inside: Tensor) -> Target:
        """Return the teacher's probabilities as a target."""
        temperature = 1.0 if self._selects else self.settings.temperature
        return targets.teacher(logits, valid=inside, temperature=temperature)

    def _confident(self, target: Target) -> Target:
        """Return the pseudo-labels: the target without pixels of low confidence."""
        if not self._selects:
            return target
        return targets.confident(
            target,
            threshold=self.confidence_threshold,
            temperature=self.settings.temperature,
            keep=1 if self.settings.pseudo_labels == "hard" else None,
        )

    @property
    def _selects(self) -> bool:
        return self.settings.pseudo_labels == "hard" or self.confidence_threshold > 0

    @torch.no_grad()
    def _teacher_logits(self, images: Tensor) -> Tensor:
        with autocast(images.device, self.settings.teacher_precision):
            logits: Tensor = self.teacher.module(images)
        return logits

    def _student(
        self, groups: Sequence[Tensor], *, drops: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return the logits of each group, and the auxiliary logits of the first, in one pass."""
        sizes = [len(images) for images in groups]
        dropping: AbstractContextManager[None] = nullcontext()
        if drops:  # only for the last group
            generators = [self.generator("drop", n) for n in joined_numbers(sizes[-1:])]
            share = self.settings.feature_dropout
            dropping = _dropped_features(self.model, sum(sizes[:-1]), share, generators)
        with dropping:
            logits, auxiliary_logits = self.student_logits(torch.cat(list(groups)), count=sizes[0])
        return list(torch.split(logits, sizes)), auxiliary_logits


def _unlabeled_loss(
    loss: LossConfig, settings: ResolvedSemiSupervised, description: DatasetDescription
) -> OverlapLoss:
    """Return the loss for pseudo-labels, that of the labels with some settings changed."""
    changed = loss.model_copy(
        update={
            "cross_entropy": settings.cross_entropy,
            "classes": settings.classes,
            "threshold": settings.classes_threshold,
        }
    )
    check_loss(changed, description.num_classes)
    return build_loss(changed, ignore_index=description.ignore_index)


@contextmanager
def _dropped_features(
    model: SegmentationModel, start: int, share: float, generators: Sequence[torch.Generator]
) -> Iterator[None]:
    """In this context, drop channels of the encoder's features for images from `start` on."""

    def drop(features: Tensor) -> Tensor:
        images = features[start:]
        draws = torch.stack([torch.rand(images.shape[1], generator=g) for g in generators]) >= share
        factors = draws.to(features.device, features.dtype)[:, :, None, None] / (1 - share)
        return torch.cat([features[:start], images * factors])

    def hook(module: torch.nn.Module, inputs: object, outputs: Any) -> Any:
        if not all(isinstance(features, Tensor) for features in outputs):
            raise ConfigError(
                f"semi_supervised.feature_dropout: the encoder of {model.spec.architecture} "
                "does not return a list of feature maps only; set it to 0."
            )
        # The first entry is the image itself, not a feature map.
        return [outputs[0], *map(drop, outputs[1:])]

    handle = model.net.encoder.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
