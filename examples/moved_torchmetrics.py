"""An evaluation with torchmetrics in which two import lines were changed.

`python -m examples.moved_torchmetrics` prints the same numbers with the original imports.
"""

import torch
from torchmetrics import MetricCollection

from softiou.drop_in import torchmetrics as seg  # was: import torchmetrics.segmentation as seg
from softiou.drop_in import torchmetrics as tm  # was: import torchmetrics as tm


def evaluate(images: int = 6, size: int = 32) -> dict[str, float]:
    """Score random predictions that follow the labels."""
    torch.manual_seed(0)
    metrics = MetricCollection(
        {
            "iou": tm.JaccardIndex(task="multiclass", num_classes=4, ignore_index=255),
            "iou weighted": tm.JaccardIndex(
                task="multiclass", num_classes=4, average="weighted", ignore_index=255
            ),
            "ece": tm.CalibrationError(task="multiclass", num_classes=4, ignore_index=255),
        }
    )
    of_images = seg.MeanIoU(num_classes=4, include_background=False, input_format="index")
    for _ in range(images):
        labels = torch.randint(0, 3, (1, size, size))  # class 3 is predicted, never labelled
        logits = torch.randn(1, 4, size, size)
        logits.scatter_add_(1, labels.unsqueeze(1), torch.ones(1, 1, size, size))
        of_images.update(logits.argmax(1), labels)
        labels[:, :4] = 255
        metrics.update(logits.softmax(1), labels)
    found = {**metrics.compute(), "iou of images": of_images.compute()}
    return {name: float(value) for name, value in found.items()}


if __name__ == "__main__":
    print(evaluate())
