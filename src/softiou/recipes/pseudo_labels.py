"""Statistics and pictures of pseudo-labels: the share of each class, and how many are kept.

Shapes: N images, C classes, (H, W) the crop, (h, w) the teacher's logits at their stride.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from softiou._files import write_atomically
from softiou.inference import encode_image, index_image
from softiou.inference.pictures import picture_of

if TYPE_CHECKING:
    from softiou.recipes.semi_supervised import SemiSupervisedRecipe

FOLDER = "pseudo_labels"  # of the pictures, in the run directory
_SHOWN = 3


class PseudoLabelWatch(nn.Module):
    """Adds up the classes of pseudo-labels over the steps between two validations.

    It is part of checkpoints, so that a resumed run reports the same.
    """

    labels: Tensor
    pseudo_labels: Tensor
    kept: Tensor
    steps: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for name in ("labels", "pseudo_labels"):
            self.register_buffer(name, torch.zeros(num_classes))
        for name in ("kept", "steps"):
            self.register_buffer(name, torch.zeros(()))

    def add(self, *, labels: Tensor, pseudo_labels: Tensor, kept: Tensor) -> None:
        """Add a step: the mass of each class in both kinds of labels (C,), and the share kept."""
        self.labels += _shares(labels)
        # A batch without kept pixels has no shares.
        self.pseudo_labels += kept * _shares(pseudo_labels)
        self.kept += kept
        self.steps += 1

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the classes' shares of labels and pseudo-labels (C,), and the share kept."""
        kept = self.kept / self.steps.clamp(min=1)
        return _shares(self.labels), _shares(self.pseudo_labels), kept

    def reset(self) -> None:
        """Start again."""
        for buffer in self.buffers():
            buffer.zero_()


def vanished(
    labels: Tensor, pseudo_labels: Tensor, *, ratio: float = 0.05, trace: float = 0.0
) -> list[int]:
    """Return the classes whose share of the pseudo-labels is below `ratio` that of the labels.

    Both shares are (C,), those of the pseudo-labels all 0 when there were none. `trace` is the
    share that smoothing gives to every class; one that has no more is not in the labels.
    """
    gone = (labels > 1.01 * trace) & (pseudo_labels < ratio * labels)
    return gone.nonzero().flatten().tolist() if bool(pseudo_labels.any()) else []


def _shares(mass: Tensor) -> Tensor:
    return mass / mass.sum().clamp(min=1e-12)


@dataclass(frozen=True)
class Shown:
    """A batch of unlabelled images as the last step has seen it."""

    stems: list[str]  # names of the images
    weak: Tensor  # what the teacher saw, uint8 (N, 3, H, W)
    strong: Tensor  # what the student saw, uint8 (N, 3, H, W), after mixing
    region: Tensor  # where the image was replaced by its partner's, bool (N, H, W)
    # Where the crop shows the image, bool (N, H, W), and the teacher's logits (N, C, h, w).
    own: tuple[Tensor, Tensor]
    theirs: tuple[Tensor, Tensor]  # the same of the partners

    def labels(
        self, number: int, *, confidence_threshold: float, ignore_index: int
    ) -> list[Tensor]:
        """Return the pseudo-labels (H, W) of one of the images and of its partner."""
        found = []
        for inside, logits in (self.own, self.theirs):
            size = (int(inside.shape[1]), int(inside.shape[2]))
            large = F.interpolate(logits[[number]].float(), size, mode="bilinear")
            confidence, labels = large.softmax(1)[0].max(0)
            sure = inside[number] & (confidence >= confidence_threshold)
            found.append(labels.where(sure, ignore_index))
        return found


class PseudoLabelReport(Callback):
    """Reports at every validation the pseudo-labels of the steps before it.

    Logs pseudo/kept, and for each class pseudo/class/NAME and labels/class/NAME, its shares of
    both kinds of labels, all in per cent; says when a class vanishes; and shows some
    pseudo-labels in TensorBoard and as files in RUN/pseudo_labels/, where the last ones stay.
    """

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self.folder = run / FOLDER
        self.say = say
        self.vanished: list[str] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the shares, warn, and write the pictures."""
        recipe: Any = pl_module
        self._report(recipe)
        if trainer.is_global_zero and recipe.shown is not None:
            self._show(trainer, recipe, recipe.shown)

    def _report(self, recipe: "SemiSupervisedRecipe") -> None:
        classes, watch = recipe.description.classes, recipe.watch
        if not int(watch.steps):
            return
        labels, pseudo_labels, kept = watch.compute()
        shares = {"pseudo/kept": 100 * kept}
        for index, name in enumerate(classes):
            shares[f"pseudo/class/{name}"] = 100 * pseudo_labels[index]
            shares[f"labels/class/{name}"] = 100 * labels[index]
        recipe.log_dict(shares)
        gone = [classes[i] for i in vanished(labels, pseudo_labels, trace=recipe.label_trace)]
        if gone != self.vanished and gone:
            self.say(
                f"warning: pseudo-labels hardly name {', '.join(gone)} any more, less than 5 % as "
                "often as the labels do. Lower semi_supervised.confidence_threshold or .weight, or "
                "label more images of these classes."
            )
        self.vanished = gone
        watch.reset()

    def _show(self, trainer: pl.Trainer, recipe: "SemiSupervisedRecipe", shown: Shown) -> None:
        self.folder.mkdir(exist_ok=True)
        boards = [one for one in trainer.loggers if isinstance(one, TensorBoardLogger)]
        palette = recipe.description.palette
        count = min(_SHOWN, len(shown.weak))
        for number in range(count):
            pictures = _pictures(shown, number, recipe)
            for name, content in pictures.items():
                path = self.folder / f"{number}.{name}"
                picture, kind = _picture(content, palette)
                write_atomically(encode_image(picture, kind), path)
            row = [np.asarray(_picture(c, palette)[0].convert("RGB")) for c in pictures.values()]
            for board in boards:
                board.experiment.add_image(
                    f"pseudo_labels/{number}",
                    np.concatenate(row, axis=1),
                    trainer.global_step,
                    dataformats="HWC",
                )
        text = json.dumps({"step": trainer.global_step, "stems": shown.stems[:count]})
        write_atomically(text.encode(), self.folder / "pictures.json")

    def state_dict(self) -> dict[str, Any]:
        """Return the classes that were reported, for a checkpoint."""
        return {"vanished": self.vanished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.vanished = state_dict["vanished"]


def _pictures(shown: Shown, number: int, recipe: "SemiSupervisedRecipe") -> dict[str, Tensor]:
    """Return pictures (3, H, W) and label maps (H, W) of one image, by name of their file."""
    ignore = recipe.description.ignore_index
    threshold = recipe.confidence_threshold
    own, theirs = shown.labels(number, confidence_threshold=threshold, ignore_index=ignore)
    return {
        "weak.jpg": shown.weak[number],
        "pseudo.png": own,
        "strong.jpg": shown.strong[number],
        "mixed.png": theirs.where(shown.region[number], own),
    }


def _picture(content: Tensor, palette: tuple[tuple[int, int, int], ...]) -> tuple[Image.Image, Any]:
    """Return a picture and the kind of its file."""
    if content.ndim == 2:
        return index_image(content, palette), "PNG"
    return picture_of(content), "JPEG"
