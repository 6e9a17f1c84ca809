"""The supervised recipe."""

from typing import final

from torch import Tensor

from softiou.data import Batch
from softiou.recipes.base import Recipe


@final
class SupervisedRecipe(Recipe):
    """Trains with labelled images: hard, smoothed, soft, or labels of several annotators."""

    def parts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss against the labels and its detached parts."""
        target = self.labels_of(batch)
        logits, auxiliary_logits = self.student_logits(batch["image"])
        return self.with_auxiliary(self.loss.parts(logits, target), auxiliary_logits, target)
