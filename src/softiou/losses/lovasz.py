"""The Lovász-softmax loss, which sorts the errors of each class and has no overlap statistics.

Shapes: N images, C classes, *S space, P valid pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softiou import _checks
from softiou.overlap.scores import class_indices
from softiou.targets import HardTarget, as_target
from softiou.targets.hard import valid_labels


class LovaszSoftmaxLoss(nn.Module):
    """Lovász-softmax loss: the convex extension of 1 - IoU, for hard labels.

        loss = mean over classes of sum_i e_(i) (J_i - J_(i-1)),    e = |[label = c] - p_c|

    with the errors e in descending order, and J_i the Jaccard loss of a prediction that is wrong
    only in the first i pixels. It is not defined for soft labels: use `JaccardMetricLoss`.

    Args:
        per: "batch" sorts the pixels of all images together; "image" averages over the images.
        classes: Classes in the mean: "present" (those in the labels), "all", or indices,
            negative ones from the end.
        ignore_index: Label of ignored pixels, or several labels.

    Note:
        It sorts the pixels for every class, so it is many times slower than the overlap losses, and
        it allocates several tensors of the size of the logits, in float32 or float64.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
        >>> LovaszSoftmaxLoss()(logits, torch.tensor([[0, 1]]))  # |y - p| is 0.1192 and 0.5
        tensor(0.4048)

    References:
        Berman, Rannen Triki, Blaschko, The Lovász-Softmax Loss, CVPR 2018, algorithm 1.
    """

    def __init__(
        self,
        *,
        per: str = "batch",
        classes: str | Sequence[int] | Tensor = "present",
        ignore_index: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        _checks.one_of("per", per, ("batch", "image"))
        self.classes: str | tuple[int, ...]
        if isinstance(classes, str):
            _checks.one_of("classes", classes, ("present", "all"))
            self.classes = classes
        else:
            self.classes = _checks.indices("classes", classes)
        self.per, self.ignore_index = per, _checks.indices_or_none("ignore_index", ignore_index)

    def extra_repr(self) -> str:
        """Return the settings for `repr`."""
        return f"per={self.per!r}, classes={self.classes!r}, ignore_index={self.ignore_index}"

    def forward(self, logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: Scores (N, C, *S), any floating dtype.
            target: Class indices (N, *S) or (N, 1, *S).
            valid: Bool (N, *S), False for ignored pixels.

        Returns:
            A scalar, at least 0. If no pixel is valid, a 0 that is still attached to the graph.

        Raises:
            TypeError: The target is soft.
            ValueError: A shape does not match, or a label or one of `classes` is not a class.
        """
        shape = _checks.spatial_shape(logits, activation="softmax")
        hard = as_target(target, logits_shape=tuple(logits.shape), ignore_index=self.ignore_index)
        if not isinstance(hard, HardTarget):
            raise TypeError(
                "Expected `target` to hold class indices (N, *S): the Lovász extension is not "
                "defined for soft labels. Use JaccardMetricLoss."
            )
        counts = _checks.pixel_map("valid", valid, shape, boolean=True)
        C = logits.shape[1]
        hard.validate(C, counts)
        labelled = valid_labels(hard.labels, num_classes=C, ignore_index=hard.ignore_index)
        counts = labelled if counts is None else counts & labelled
        # (N, C, *S) -> (N, *S, C)
        probs = (
            logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1).movedim(1, -1)
        )
        groups = [slice(n, n + 1) for n in range(len(logits))] if self.per == "image" else [...]
        losses = [self._of_pixels(probs[n][counts[n]], hard.labels[n][counts[n]]) for n in groups]
        kept = [loss for loss in losses if loss is not None]
        return torch.stack(kept).mean() if kept else 0.0 * logits[:0].sum()

    def _of_pixels(self, probs: Tensor, labels: Tensor) -> Tensor | None:
        """Return the mean loss over the classes for probs (P, C) and labels (P,), or None."""
        C = probs.shape[1]
        given = range(C) if isinstance(self.classes, str) else class_indices(self.classes, C)
        chosen = list(dict.fromkeys(given))  # -1 and C - 1 are the same class
        one_hot = [(labels == c).to(probs.dtype) for c in chosen]
        losses = [
            lovasz_extension((y - probs[:, c]).abs(), y)
            for c, y in zip(chosen, one_hot, strict=True)
            if len(y) and (self.classes != "present" or bool(y.any()))
        ]
        return torch.stack(losses).mean() if losses else None


def lovasz_extension(errors: Tensor, y: Tensor) -> Tensor:
    """Compute the Lovász extension of the Jaccard loss of one class; 0 without pixels.

    `errors` (P,) are the absolute errors of the pixels, and y (P,) is 0 or 1, floating.
    """
    errors, order = errors.sort(descending=True)
    y = y[order]
    total = y.sum()
    jaccard = 1 - (total - y.cumsum(0)) / (total + (1 - y).cumsum(0))
    slope = torch.cat([jaccard[:1], jaccard.diff()])
    return errors @ slope
