"""Convert predictions and labels from the shapes of segmentation_models_pytorch."""

from torch import Tensor

from softiou.targets import DenseTarget, HardTarget, Target

MODES = BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE = "binary", "multiclass", "multilabel"


def read(
    mode: str, y_pred: Tensor, y_true: Tensor | Target, *, ignore_index: int | None
) -> tuple[Tensor, Tensor | Target]:
    """Return the prediction (N, C, *S) and its target.

    Args:
        mode: One of `MODES`.
        y_pred: (N, C, *S), for binary also (N, *S).
        y_true: A tensor of any shape that the library accepts, or a `Target`.
        ignore_index: Label of ignored pixels.

    Raises:
        ValueError: The sizes do not match.
    """
    if mode == MULTICLASS_MODE and y_pred.shape[1] == 1:
        raise ValueError(
            f"Expected `y_pred` to have several classes with mode='multiclass', but got shape "
            f"{tuple(y_pred.shape)}. Use mode='binary', or make the background a class."
        )
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
    _same_size(y_pred, y_true, y_pred.numel())
    return y_pred, y_true.reshape(y_pred.shape)


def _same_size(y_pred: Tensor, y_true: Tensor, wanted: int) -> None:
    if y_true.numel() != wanted or len(y_true) != len(y_pred):
        raise ValueError(
            f"Expected `y_true` to hold {wanted} values for {len(y_pred)} images, as `y_pred` of "
            f"shape {tuple(y_pred.shape)} needs, but got {tuple(y_true.shape)}. Resize labels or "
            "prediction to the same size; for one-hot integers, use `argmax(1)`."
        )


def several_classes(mode: str, **settings: object) -> None:
    """Raise a ValueError if a setting for several classes is given in mode "binary"."""
    for name, setting in settings.items():
        if setting is not None and mode == BINARY_MODE:
            raise ValueError(
                f"`{name}` needs several classes, but mode='binary' has one: remove it."
            )


def class_weights_for(weights: object, num_classes: int) -> Tensor | None:
    """Return the weights, or raise a ValueError unless there is one for each class."""
    if isinstance(weights, Tensor) and len(weights) != num_classes:
        raise ValueError(
            f"Expected {num_classes} `class_weights`, one for each class of `y_pred`, but got "
            f"{len(weights)}."
        )
    return weights if isinstance(weights, Tensor) else None
