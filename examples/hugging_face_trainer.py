"""SegFormer in the Hugging Face Trainer, with the loss computed from its low-resolution logits.

    python examples/hugging_face_trainer.py

SegFormer's logits have a quarter of the image's height and width. The model's own loss upsamples
them to the size of the image; here the loss interpolates them tile by tile. The model starts from
random weights, so that nothing is downloaded; for a pretrained one, use
`SegformerForSemanticSegmentation.from_pretrained(...)`.
"""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    EvalPrediction,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    Trainer,
    TrainingArguments,
)

from softiou import JaccardMetricLoss
from softiou.data import DigitScenes
from softiou.metrics import MeanIoU

NUM_CLASSES = 2  # ground and digit


class Digits(Dataset[dict[str, Tensor]]):
    """Images and masks of the embedded digits, with the input names of Hugging Face models."""

    def __init__(self, split: str, size: int) -> None:
        self.scenes = DigitScenes(split, size=size)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return an image (3, H, W) and its labels (H, W)."""
        scene = self.scenes[index]
        labels = (scene["target"] > 0).long()
        return {"pixel_values": scene["image"] / 255 - 0.5, "labels": labels}


class SegmentationTrainer(Trainer):
    """A Trainer whose loss is 0.25 cross-entropy + 0.75 Jaccard metric loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_function = JaccardMetricLoss(
            cross_entropy=0.25, ignore_index=255, upsample="bilinear"
        )
        # The loss is a mean over its batch, so the Trainer has to average over the micro-batches.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch, and the outputs of the model if requested."""
        labels = inputs.pop("labels")  # otherwise the model computes its own loss, too
        outputs = model(**inputs)
        loss = self.loss_function(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def model() -> SegformerForSemanticSegmentation:
    """Return a tiny SegFormer with random weights."""
    config = SegformerConfig(
        hidden_sizes=[16, 16, 32, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32,
    )
    config.num_labels = NUM_CLASSES
    return SegformerForSemanticSegmentation(config)


def predicted_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Keep the class of each pixel instead of all logits, for the evaluation."""
    size = labels.shape[-2:]
    return nn.functional.interpolate(logits, size, mode="bilinear").argmax(1)


def mean_iou(prediction: EvalPrediction) -> dict[str, float]:
    """Return the mean IoU over the data set."""
    metric = MeanIoU(num_classes=NUM_CLASSES, ignore_index=255)
    metric.update(torch.as_tensor(prediction.predictions), torch.as_tensor(prediction.label_ids))
    return {"miou": metric.compute().item()}


def make_trainer(folder: str, steps: int = 200, **arguments: Any) -> SegmentationTrainer:
    """Return a trainer that writes into a folder; arguments are those of TrainingArguments."""
    return SegmentationTrainer(
        model=model(),
        args=TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=16,
            learning_rate=3e-3,
            logging_steps=max(1, steps // 10),
            save_strategy="no",
            report_to="none",
            **arguments,
        ),
        train_dataset=Digits("train", size=8 * steps),
        eval_dataset=Digits("val", size=32),
        preprocess_logits_for_metrics=predicted_classes,
        compute_metrics=mean_iou,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
        trainer.train()
        print(trainer.evaluate())
