"""An overlap loss with the signature of the loss functions of Hugging Face transformers (5)."""

from typing import Any

from torch import Tensor, nn

from softiou.losses import JaccardMetricLoss


class ForSemanticSegmentationLoss(nn.Module):
    """`transformers.loss.ForSemanticSegmentationLoss` with an overlap loss.

        loss(logits) + auxiliary_loss_weight * loss(auxiliary_logits)

    Assign it to `model.loss_function` of a model that uses this attribute (BEiT, Sapiens), or call
    it in `Trainer(compute_loss_func=...)`.

    Args:
        loss: Loss of logits (N, C, h, w) at any stride and labels (N, H, W), with its own
            `ignore_index`. None for `JaccardMetricLoss(cross_entropy=0.25, ignore_index=255,
            upsample="bilinear")`.
    """

    def __init__(self, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss or JaccardMetricLoss(
            cross_entropy=0.25, ignore_index=255, upsample="bilinear"
        )

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        ignore_index: int = 255,
        num_items_in_batch: Tensor | None = None,
        auxiliary_logits: Tensor | None = None,
        auxiliary_loss_weight: float = 0.4,
        **_: Any,
    ) -> Tensor:
        """Compute the loss; `num_items_in_batch` has no effect, as the loss is not a pixel sum.

        Raises:
            ValueError: The `ignore_index` of the model and of the loss differ.
        """
        own = getattr(self.loss, "ignore_index", ignore_index)
        if own != ignore_index:
            raise ValueError(
                f"Expected the `ignore_index` of the loss to be that of the model's configuration, "
                f"{ignore_index}, but got {own}. Create the loss with ignore_index={ignore_index}."
            )
        total: Tensor = self.loss(logits, labels)
        if auxiliary_logits is not None:
            total = total + auxiliary_loss_weight * self.loss(auxiliary_logits, labels)
        return total
