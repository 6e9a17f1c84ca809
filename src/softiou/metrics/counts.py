"""Exact integer counts of predictions and targets, per image and class.

They are the overlap statistics of hard predictions: tp = M, D = P + Y - 2 M. Integers do not
saturate, as float32 sums do at 2^24 pixels.

Shapes: N images, C classes, *S space, P pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics import native
from softiou.metrics.images import OverlapSums
from softiou.metrics.truth import read_answers, read_truth


@dataclass(frozen=True)
class OverlapCounts(OverlapSums):
    """Pixels of each image and class, int64 (N, C).

    Attributes:
        true_positives: Predicted and there.
        predicted: Predicted.
        present: There, in the target.
    """

    true_positives: Tensor
    predicted: Tensor
    present: Tensor

    def occurs(self) -> Tensor:
        """Say which classes the target of each image holds, bool (N, C)."""
        return self.present > 0

    def iou(self) -> Tensor:
        """Compute tp / (tp + fp + fn) in float64 (N, C); NaN where the union is empty."""
        union = self.predicted + self.present - self.true_positives
        return self.true_positives.double() / union.double()

    def dice(self) -> Tensor:
        """Compute 2 tp / (2 tp + fp + fn) in float64 (N, C); NaN where both are empty."""
        return 2 * self.true_positives.double() / (self.predicted + self.present).double()

    def recall(self) -> Tensor:
        """Compute tp / (tp + fn) in float64 (N, C), the accuracy of a class; NaN where absent."""
        return self.true_positives.double() / self.present.double()

    def accuracy(self) -> Tensor:
        """Compute the share of right pixels over all images and classes; NaN without pixels."""
        return self.true_positives.sum().double() / self.present.sum().double()


@dataclass(frozen=True)
class AnswerCounts(OverlapCounts):
    """Counts of classes that do not exclude each other: each pixel says yes or no to every class.

    Attributes:
        judged: Answers that count, yes and no.
    """

    judged: Tensor

    # The right answers hold the right noes, which classes that exclude each other do not have.
    def accuracy(self) -> Tensor:
        """Compute the share of right answers over all images and classes; NaN without any."""
        wrong = self.predicted + self.present - 2 * self.true_positives
        return 1 - wrong.sum().double() / self.judged.sum().double()


def empty_counts(num_classes: int, *, independent: bool = False) -> OverlapCounts:
    """Return the counts of no image."""
    none = torch.zeros(0, num_classes, dtype=torch.int64)
    return AnswerCounts(*[none] * 4) if independent else OverlapCounts(*[none] * 3)


def overlap_counts(
    preds: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    independent: bool = False,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> OverlapCounts:
    """Count the pixels of each class in prediction, target and both, image by image.

    Args:
        preds: Class indices (N, *S), or probabilities, logits or one-hot (N, C, *S), whose largest
            counts. Of independent classes probabilities, yes above 1/2, or 0 and 1 (N, C, *S).
        target: Class indices (N, *S), or probabilities (N, C, *S), whose largest counts. Of
            independent classes 0 and 1 (N, C, *S), or probabilities, yes above 1/2; of a single
            class also labels (N, *S).
        num_classes: C, at least 2; a binary problem has background and foreground, or is a single
            independent class.
        independent: True when the classes do not exclude each other (binary with C = 1, and
            multilabel).
        ignore_index: Label value whose pixels (entries for independent classes) do not count.
        valid: Bool (N, *S), True where the pixel counts.

    Returns:
        int64 counts (N, C); `AnswerCounts` for independent classes.

    Raises:
        TypeError: `preds` (N, *S) are floating, or `valid` is not bool.
        ValueError: Shapes do not match, or predictions lie outside the classes.

    Example:
        >>> preds, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> overlap_counts(preds, target, num_classes=2).iou()
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    if independent:
        yes, shape = predicted_answers(preds, num_classes), tuple(preds.shape)
        truth = read_answers(target, shape=shape, ignore_index=ignore_index, valid=valid)
        return count_answers(yes, truth.answers(), truth.counts)
    if not target.is_floating_point():
        _check_predictions(preds, tuple(target.shape), num_classes)
        valid = _checks.pixel_map("valid", valid, tuple(target.shape), boolean=True)
        # An integer is a class to the compiled pass; one-hot ones are not.
        readable = preds.is_floating_point() or preds.shape == target.shape
        if readable and native.refuses(preds, target, valid) is None:
            found = native.gather(
                preds, target, valid, num_classes=num_classes, ignore_index=ignore_index
            )
            if found is not None:
                return OverlapCounts(*found.counts.unbind(1))
    truth = read_truth(
        target, num_classes=num_classes, space=(), ignore_index=ignore_index, valid=valid
    )
    labels = truth.top_labels()
    preds = top_prediction(preds, tuple(labels.shape), num_classes)
    return count_overlap(preds, labels, truth.counts, num_classes)


def count_overlap(
    preds: Tensor, labels: Tensor, counts: Tensor, num_classes: int, present: Tensor | None = None
) -> OverlapCounts:
    """Count class indices (N, *S) where `counts`, bool (N, *S); plain PyTorch, the definition.

    Args:
        preds: Predicted classes.
        labels: Those of the target.
        counts: Which pixels of the prediction count, and of the target unless `present` says so.
        num_classes: C.
        present: Which pixels of the target count, where it differs; both have to, for a hit.
    """
    present = counts if present is None else present
    check_range(preds, counts, num_classes)
    return OverlapCounts(
        true_positives=_histogram(labels, counts & present & (preds == labels), num_classes),
        predicted=_histogram(preds, counts, num_classes),
        present=_histogram(labels, present, num_classes),
    )


def count_answers(preds: Tensor, truth: Tensor, counts: Tensor) -> AnswerCounts:
    """Count the answers of independent classes, all bool (N, C, *S)."""
    preds, truth, counts = (x.flatten(2) for x in (preds & counts, truth & counts, counts))
    return AnswerCounts(*(x.sum(2) for x in (preds & truth, preds, truth, counts)))


def confusion_counts(
    preds: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Count the pixels of each pair of classes, image by image.

    Args:
        preds: As in `overlap_counts`.
        target: As in `overlap_counts`.
        num_classes: C, at least 2.
        ignore_index: Label value whose pixels do not count.
        valid: Bool (N, *S), True where the pixel counts.

    Returns:
        int64 (N, C, C): rows are the classes of the target, columns those of the prediction.

    Raises:
        TypeError: `preds` (N, *S) are floating, or `valid` is not bool.
        ValueError: Shapes do not match, or predictions lie outside the classes.

    Example:
        >>> preds, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> confusion_counts(preds, target, num_classes=2).tolist()
        [[[1, 1], [0, 1]]]
    """
    truth = read_truth(
        target, num_classes=num_classes, space=(), ignore_index=ignore_index, valid=valid
    )
    labels = truth.top_labels()
    preds = top_prediction(preds, tuple(labels.shape), num_classes)
    check_range(preds, truth.counts, num_classes)
    pairs = labels * num_classes + preds
    return _histogram(pairs, truth.counts, num_classes**2).view(-1, num_classes, num_classes)


def predicted_answers(preds: Tensor, num_classes: int) -> Tensor:
    """Return the yes or no to each independent class, bool (N, C, *S)."""
    if preds.ndim < 3 or preds.shape[1] != num_classes:
        raise ValueError(
            f"Expected `preds` of independent classes to have shape (N, C, *S) with C = "
            f"{num_classes}, but got {tuple(preds.shape)}."
        )
    return preds > 0.5 if preds.is_floating_point() else preds == 1


def _histogram(index: Tensor, counts: Tensor, size: int) -> Tensor:
    """Count the values of int64 (N, *S) in [0, size) where `counts`, image by image: (N, size)."""
    image = torch.arange(len(index), device=index.device).unsqueeze(1) * size
    index, counts = index.flatten(1) + image, counts.flatten(1)  # (N, P)
    return torch.bincount(index[counts], minlength=len(index) * size).view(-1, size)


def check_range(preds: Tensor, counts: Tensor, num_classes: int) -> None:
    """Raise unless the predictions that count are classes."""
    wrong = ((preds < 0) | (preds >= num_classes)) & counts
    if bool(wrong.any()):
        raise ValueError(
            f"Expected `preds` to hold class indices in [0, {num_classes - 1}], but found "
            f"{preds[counts].min().item()} to {preds[counts].max().item()}."
        )


def top_prediction(preds: Tensor, shape: tuple[int, ...], num_classes: int) -> Tensor:
    """Return the predicted classes (N, *S), or raise when `preds` do not fit the target."""
    _check_predictions(preds, shape, num_classes)
    if tuple(preds.shape) == shape:
        return preds.long()
    return (preds.byte() if preds.dtype == torch.bool else preds).argmax(1)


def _check_predictions(preds: Tensor, shape: tuple[int, ...], num_classes: int) -> None:
    """Raise unless `preds` are (N, C, *S), or class indices (N, *S), of this shape (N, *S)."""
    scores_shape = (shape[0], num_classes, *shape[1:])
    if tuple(preds.shape) == scores_shape:
        return
    if tuple(preds.shape) != shape:
        raise ValueError(
            f"Expected `preds` to have shape (N, *S) = {shape} or (N, C, *S) = {scores_shape}, "
            f"matching the target, but got {tuple(preds.shape)}. Resize the prediction to the "
            "target; a binary prediction needs a threshold first."
        )
    if preds.is_floating_point():
        raise TypeError(
            f"Expected `preds` of shape (N, *S) to hold integer class indices, but got "
            f"{preds.dtype}. Turn probabilities of one class into indices: (preds > 0.5).long()."
        )
