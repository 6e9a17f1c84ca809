"""Exact integer counts of predictions and targets, per image and class.

They are the overlap statistics of hard predictions: tp = M, D = P + Y - 2 M. Integers are used
because float32 sums of ones stop growing at 2^24 pixels.

Shapes: N images, C classes, *S space, P pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics import native
from softiou.metrics.decoding import AnyTarget, decode_independent, decode_target
from softiou.metrics.image_sums import OverlapSums


@dataclass(frozen=True)
class OverlapCounts(OverlapSums):
    """Numbers of pixels of each image and class, int64 (N, C).

    Attributes:
        true_positives: Pixels with the class in both prediction and target.
        predicted: Pixels with the class in the prediction.
        present: Pixels with the class in the target.
    """

    true_positives: Tensor
    predicted: Tensor
    present: Tensor

    def target_size(self) -> Tensor:
        """Return the number of pixels in the target (N, C)."""
        return self.present

    def predicted_size(self) -> Tensor:
        """Return the number of pixels in the prediction (N, C)."""
        return self.predicted

    def iou(self) -> Tensor:
        """Compute tp / (tp + fp + fn), float64 (N, C); NaN if the union is empty."""
        union = self.predicted + self.present - self.true_positives
        return self.true_positives.double() / union.double()

    def dice(self) -> Tensor:
        """Compute 2 tp / (2 tp + fp + fn), float64 (N, C); NaN if both are empty."""
        return 2 * self.true_positives.double() / (self.predicted + self.present).double()

    def recall(self) -> Tensor:
        """Compute the recall tp / (tp + fn), float64 (N, C); NaN if the target has no pixels."""
        return self.true_positives.double() / self.present.double()

    def accuracies(self) -> Tensor:
        """Compute the pixel accuracy of each image, float64 (N,); NaN without pixels."""
        return self.true_positives.sum(1).double() / self.present.sum(1).double()

    def accuracy(self) -> Tensor:
        """Compute the pixel accuracy over all images; NaN without pixels."""
        return self.merge_images().accuracies()[0]


@dataclass(frozen=True)
class AnswerCounts(OverlapCounts):
    """Counts of independent classes, each of which is present or absent in a pixel.

    Attributes:
        valid: Number of valid entries (pixel, class).
    """

    valid: Tensor

    # Entries include true negatives, in contrast to pixels of classes that exclude each other.
    def accuracies(self) -> Tensor:
        """Compute the fraction of correct entries of each image, float64 (N,); NaN without any."""
        wrong = self.predicted + self.present - 2 * self.true_positives
        return 1 - wrong.sum(1).double() / self.valid.sum(1).double()


def empty_counts(num_classes: int, *, independent: bool = False) -> OverlapCounts:
    """Return the counts of no image."""
    _checks.whole("num_classes", num_classes, 1)
    none = torch.zeros(0, num_classes, dtype=torch.int64)
    return AnswerCounts(*[none] * 4) if independent else OverlapCounts(*[none] * 3)


def overlap_counts(
    preds: Tensor,
    target: AnyTarget,
    *,
    num_classes: int,
    independent: bool = False,
    threshold: float = 0.5,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> OverlapCounts:
    """Count the pixels of each class in prediction, target and both, for each image.

    Args:
        preds: Class indices (N, *S), or probabilities, logits or one-hot (N, C, *S), of which the
            argmax is used. For independent classes, probabilities or 0/1 (N, C, *S).
        target: Class indices (N, *S), or probabilities (N, C, *S), of which the argmax is used. For
            independent classes, 0/1 or probabilities (N, C, *S), which are thresholded at 1/2; for
            a single class also labels (N, *S).
        num_classes: C, at least 2; a binary problem has the classes background and foreground, or a
            single independent class.
        independent: True if the classes do not exclude each other (binary with C = 1, or
            multilabel).
        threshold: For independent classes, the probability in [0, 1) above which one is predicted.
        ignore_index: Label of pixels (entries for independent classes) to ignore.
        valid: Bool (N, *S), False for pixels to ignore.

    Returns:
        int64 counts (N, C); `AnswerCounts` for independent classes.

    Raises:
        TypeError: `preds` (N, *S) are floating, or `valid` is not bool.
        ValueError: Shapes do not match, predictions lie outside the classes, or, on the CPU, a
            label is neither a class nor `ignore_index`.

    Example:
        >>> preds, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> overlap_counts(preds, target, num_classes=2).iou()
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    check_threshold(threshold, independent)
    if independent:
        found = predicted_answers(preds, num_classes, threshold)
        decoded = decode_independent(
            target, shape=tuple(preds.shape), ignore_index=ignore_index, valid=valid
        )
        return count_answers(found, decoded.is_present(), decoded.valid)
    if isinstance(target, Tensor) and not target.is_floating_point():
        _check_predictions(preds, tuple(target.shape), num_classes)
        valid = _checks.pixel_map("valid", valid, tuple(target.shape), boolean=True)
        # The compiled code reads integers as class indices, so it cannot read one-hot integers.
        readable = preds.is_floating_point() or preds.shape == target.shape
        if readable and native.unsupported_reason(preds, target, valid) is None:
            gathered = native.gather(
                preds, target, valid, num_classes=num_classes, ignore_index=ignore_index
            )
            if gathered is not None:
                return OverlapCounts(*gathered.counts.unbind(1))
    decoded = decode_target(target, num_classes=num_classes, ignore_index=ignore_index, valid=valid)
    labels = decoded.top_labels()
    preds = top_prediction(preds, tuple(labels.shape), num_classes)
    return count_overlap(preds, labels, decoded.valid, num_classes)


def count_overlap(
    preds: Tensor,
    labels: Tensor,
    valid: Tensor,
    num_classes: int,
    valid_labels: Tensor | None = None,
) -> OverlapCounts:
    """Count class indices (N, *S) in plain PyTorch, the reference implementation.

    `valid` is the mask of the prediction, and `valid_labels` that of the target if it is another
    one; true positives are valid in both.
    """
    valid_labels = valid if valid_labels is None else valid_labels
    check_range(preds, valid, num_classes)
    return OverlapCounts(
        true_positives=_histogram(labels, valid & valid_labels & (preds == labels), num_classes),
        predicted=_histogram(preds, valid, num_classes),
        present=_histogram(labels, valid_labels, num_classes),
    )


def count_answers(preds: Tensor, target: Tensor, valid: Tensor) -> AnswerCounts:
    """Count the entries of independent classes; all arguments are bool (N, C, *S)."""
    preds, target, valid = (x.flatten(2) for x in (preds & valid, target & valid, valid))
    return AnswerCounts(*(x.sum(2) for x in (preds & target, preds, target, valid)))


def confusion_counts(
    preds: Tensor,
    target: AnyTarget,
    *,
    num_classes: int,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Compute the confusion matrix of each image; arguments as in `overlap_counts`.

    Returns:
        int64 (N, C, C): rows are the classes of the target, columns those of the prediction.

    Example:
        >>> preds, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> confusion_counts(preds, target, num_classes=2).tolist()
        [[[1, 1], [0, 1]]]
    """
    decoded = decode_target(target, num_classes=num_classes, ignore_index=ignore_index, valid=valid)
    labels = decoded.top_labels()
    preds = top_prediction(preds, tuple(labels.shape), num_classes)
    check_range(preds, decoded.valid, num_classes)
    pairs = labels * num_classes + preds
    return _histogram(pairs, decoded.valid, num_classes**2).view(-1, num_classes, num_classes)


def check_threshold(threshold: float, independent: bool) -> None:
    """Raise a ValueError unless the threshold is in [0, 1), and 0.5 for exclusive classes."""
    if not 0 <= threshold < 1 or (threshold != 0.5 and not independent):
        raise ValueError(
            f"Expected `threshold` to be in [0, 1), and 0.5 without `independent=True`, but got "
            f"{threshold}. Otherwise, the most probable class is predicted."
        )


def predicted_answers(preds: Tensor, num_classes: int, threshold: float) -> Tensor:
    """Return where each independent class is predicted, bool (N, C, *S)."""
    if _checks.dense_tensor("preds", preds).ndim < 3 or preds.shape[1] != num_classes:
        raise ValueError(
            f"Expected `preds` of independent classes to have shape (N, C, *S) with C = "
            f"{num_classes}, but got {tuple(preds.shape)}."
        )
    return preds > threshold if preds.is_floating_point() else preds == 1


def _histogram(index: Tensor, valid: Tensor, size: int) -> Tensor:
    """Count the valid values of `index`, int64 (N, *S) in [0, size), in each image: (N, size)."""
    image = torch.arange(len(index), device=index.device).unsqueeze(1) * size
    index, valid = index.flatten(1) + image, valid.flatten(1)  # (N, P)
    return torch.bincount(index[valid], minlength=len(index) * size).view(-1, size)


def check_range(preds: Tensor, valid: Tensor, num_classes: int) -> None:
    """Raise a ValueError unless the predictions of valid pixels are class indices."""
    wrong = ((preds < 0) | (preds >= num_classes)) & valid
    if bool(wrong.any()):
        raise ValueError(
            f"Expected `preds` to hold class indices in [0, {num_classes - 1}], but found "
            f"{preds[valid].min().item()} to {preds[valid].max().item()}."
        )


def top_prediction(preds: Tensor, shape: tuple[int, ...], num_classes: int) -> Tensor:
    """Return the predicted classes (N, *S), or raise if `preds` do not match the target."""
    _check_predictions(preds, shape, num_classes)
    if tuple(preds.shape) == shape:
        return preds.long()
    return (preds.byte() if preds.dtype == torch.bool else preds).argmax(1)


def _check_predictions(preds: Tensor, shape: tuple[int, ...], num_classes: int) -> None:
    """Raise unless `preds` are (N, C, *S), or class indices (N, *S), for a target of `shape`."""
    _checks.dense_tensor("preds", preds)
    scores_shape = (*shape[:1], num_classes, *shape[1:])
    if tuple(preds.shape) == scores_shape:
        return
    if tuple(preds.shape) != shape:
        raise ValueError(
            f"Expected `preds` to have shape (N, *S) = {shape} or (N, C, *S) = {scores_shape}, "
            f"matching the target, but got {tuple(preds.shape)}. Resize the prediction to the "
            "target. Apply a threshold to a binary prediction, `squeeze(1)` to a target (N, 1, *S) "
            "and `argmax(1)` to one-hot integers."
        )
    if preds.is_floating_point():
        one_hot = len(shape) > 2 and shape[1] == num_classes
        way = "For probabilities of one class, use (preds > 0.5).long()."
        way = "For a one-hot target, use target.argmax(1)." if one_hot else way
        raise TypeError(
            f"Expected `preds` of shape (N, *S) to hold integer class indices, but got "
            f"{preds.dtype}. {way}"
        )
