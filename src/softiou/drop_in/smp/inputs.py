"""Predictions and labels in the shapes of segmentation_models_pytorch, read for softiou."""

from torch import Tensor

from softiou.targets import DenseTarget, HardTarget, Target

MODES = ("binary", "multiclass", "multilabel")


def read(
    mode: str, y_pred: Tensor, y_true: Tensor | Target, *, ignore_index: int | None
) -> tuple[Tensor, Tensor | Target]:
    """Return the prediction (N, C, *S) and its target.

    Args:
        mode: One of `MODES`.
        y_pred: (N, C, *S), for binary also (N, *S).
        y_true: A tensor in any of the shapes that the library reshapes, or a `Target`.
        ignore_index: Label value whose pixels do not count.

    Raises:
        ValueError: The sizes do not match.
    """
    if not isinstance(y_true, Tensor):
        return y_pred, y_true
    hard = not y_true.is_floating_point()
    if mode == "binary":
        _same_size(y_pred, y_true, y_pred.numel())
        flat = y_true.reshape(len(y_pred), -1)  # (N, 1, *S) or (N, *S) -> (N, P)
        y_pred = y_pred.reshape(len(y_pred), 1, -1)
        return y_pred, HardTarget(flat, ignore_index) if hard else flat.unsqueeze(1)
    if mode == "multilabel":
        _same_size(y_pred, y_true, y_pred.numel())
        return y_pred, DenseTarget(y_true.reshape(y_pred.shape), ignore_index, independent=True)
    if hard:
        _same_size(y_pred, y_true, y_pred[:, 0].numel())
        return y_pred, y_true.reshape(len(y_pred), *y_pred.shape[2:])
    return y_pred, y_true


def _same_size(y_pred: Tensor, y_true: Tensor, wanted: int) -> None:
    if y_true.numel() != wanted or len(y_true) != len(y_pred):
        raise ValueError(
            f"Expected `y_true` to hold {wanted} values for {len(y_pred)} images, as `y_pred` of "
            f"shape {tuple(y_pred.shape)} wants, but got {tuple(y_true.shape)}. Resize the labels "
            "to the prediction, or the prediction to the labels."
        )
