"""A loss with the signature that the models of Hugging Face's transformers (5) call."""

from typing import Any

from torch import Tensor, nn

from softiou.losses import JaccardMetricLoss


class ForSemanticSegmentationLoss(nn.Module):
    """`transformers.loss.ForSemanticSegmentationLoss` with an overlap loss in place of its own.

        loss(logits) + auxiliary_loss_weight * loss(auxiliary_logits)

    Set it as `model.loss_function` of a model that computes its loss by that (BEiT, Sapiens), or
    call it in `Trainer(compute_loss_func=...)`.

    Args:
        loss: Of logits (N, C, h, w) at any stride and labels (N, H, W); None for
            `JaccardMetricLoss(cross_entropy=0.25, ignore_index=255, upsample="bilinear")`. Pixels
            are ignored by its `ignore_index`.
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
        """Compute the loss; `num_items_in_batch` has no effect, the loss being no sum of pixels.

        Raises:
            ValueError: The model ignores another label than the loss.
        """
        own = getattr(self.loss, "ignore_index", ignore_index)
        if own != ignore_index:
            raise ValueError(
                f"Expected the `ignore_index` of the loss to be that of the model's configuration, "
                f"{ignore_index}, but got {own}. Make the loss with ignore_index={ignore_index}."
            )
        total: Tensor = self.loss(logits, labels)
        if auxiliary_logits is not None:
            total = total + auxiliary_loss_weight * self.loss(auxiliary_logits, labels)
        return total
