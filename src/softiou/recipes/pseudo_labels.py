"""Statistics and pictures of pseudo-labels: class frequencies, and the share of kept pixels.

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

FOLDER = "pseudo_labels"  # folder of the pictures in the run directory
_SHOWN = 3


class PseudoLabelWatch(nn.Module):
    """Accumulates class frequencies of pseudo-labels between validations.

    The sums are buffers, so they are saved in checkpoints, and a resumed run reports the same.
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
        """Add a step: the class masses (C,) of labels and pseudo-labels, and the share kept."""
        self.labels += _shares(labels)
        # Weighted by `kept`, because a batch without kept pixels has no class frequencies.
        self.pseudo_labels += kept * _shares(pseudo_labels)
        self.kept += kept
        self.steps += 1

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the class frequencies of labels and pseudo-labels (C,), and the share kept."""
        kept = self.kept / self.steps.clamp(min=1)
        return _shares(self.labels), _shares(self.pseudo_labels), kept

    def reset(self) -> None:
        """Set the sums to 0."""
        for buffer in self.buffers():
            buffer.zero_()


def vanished(
    labels: Tensor, pseudo_labels: Tensor, *, ratio: float = 0.05, trace: float = 0.0
) -> list[int]:
    """Return the classes whose frequency in pseudo-labels is below `ratio` times that in labels.

    Both are class frequencies (C,); if no pixel was kept, the result is empty. `trace` is the
    frequency that label smoothing gives to a class which does not occur in the labels.
    """
    gone = (labels > 1.01 * trace) & (pseudo_labels < ratio * labels)
    return gone.nonzero().flatten().tolist() if bool(pseudo_labels.any()) else []


def _shares(mass: Tensor) -> Tensor:
    return mass / mass.sum().clamp(min=1e-12)


@dataclass(frozen=True)
class Shown:
    """The unlabelled images of the last step, for pictures."""

    stems: list[str]  # names of the images
    weak: Tensor  # weak views for the teacher, uint8 (N, 3, H, W)
    strong: Tensor  # strong views for the student after mixing, uint8 (N, 3, H, W)
    region: Tensor  # pixels that come from the partner, bool (N, H, W)
    # Pixels that are not padding, bool (N, H, W), and the teacher's logits (N, C, h, w).
    own: tuple[Tensor, Tensor]
    theirs: tuple[Tensor, Tensor]  # the same for the partners

    def labels(
        self, number: int, *, confidence_threshold: float, ignore_index: int
    ) -> list[Tensor]:
        """Return the pseudo-labels (H, W) of image `number` and of its partner."""
        found = []
        for inside, logits in (self.own, self.theirs):
            size = (int(inside.shape[1]), int(inside.shape[2]))
            large = F.interpolate(logits[[number]].float(), size, mode="bilinear")
            confidence, labels = large.softmax(1)[0].max(0)
            sure = inside[number] & (confidence >= confidence_threshold)
            found.append(labels.where(sure, ignore_index))
        return found


class PseudoLabelReport(Callback):
    """Reports statistics and pictures of the pseudo-labels at every validation.

    It logs pseudo/kept, and for each class its frequencies pseudo/class/NAME and labels/class/NAME,
    in per cent. It warns when a class vanishes from the pseudo-labels. Pictures are shown in
    TensorBoard and written to RUN/pseudo_labels/, where they replace the previous ones.
    """

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self.folder = run / FOLDER
        self.say = say
        self.vanished: list[str] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the class frequencies, warn, and write the pictures."""
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
                f"warning: {', '.join(gone)} is almost absent from the pseudo-labels, less than "
                "5 % as frequent as in the labels. Lower semi_supervised.confidence_threshold or "
                ".weight, or label more images of these classes."
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
        """Return the classes that have been reported, for a checkpoint."""
        return {"vanished": self.vanished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the reported classes from a checkpoint."""
        self.vanished = state_dict["vanished"]


def _pictures(shown: Shown, number: int, recipe: "SemiSupervisedRecipe") -> dict[str, Tensor]:
    """Return pictures (3, H, W) and label maps (H, W) of one image, by file name."""
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
    """Return a picture and its file format."""
    if content.ndim == 2:
        return index_image(content, palette), "PNG"
    return picture_of(content), "JPEG"
