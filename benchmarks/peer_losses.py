"""Use losses of other libraries in the recipes."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from softiou.configuration.sections import LossConfig
from softiou.losses import OverlapLoss, Targets
from softiou.overlap import OverlapStatistics


class LovaszSoftmax(OverlapLoss):
    """w CE + (1 - w) Lovasz-Softmax against hard labels, of segmentation_models_pytorch.

    References:
        Berman, Rannen Triki, Blaschko, The Lovasz-Softmax loss, CVPR 2018, arXiv 1705.08790.
    """

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Raise: the loss sorts pixel errors, so it cannot be computed from sums."""
        raise NotImplementedError

    def parts(
        self,
        logits: Tensor,
        target: Targets,
        *,
        valid: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the "loss", and the detached "overlap" and "cross_entropy"."""
        if not isinstance(target, Tensor) or target.is_floating_point():
            raise TypeError("Lovasz-Softmax needs hard labels.")
        whole = interpolate(logits.float(), target.shape[1:], mode="bilinear")
        overlap = LovaszLoss("multiclass", ignore_index=self.ignore_index)(whole, target)
        ignored = -100 if self.ignore_index is None else self.ignore_index
        of_pixels = cross_entropy(whole, target.long(), ignore_index=ignored)
        loss = self.cross_entropy * of_pixels + (1 - self.cross_entropy) * overlap
        return {"loss": loss, "overlap": overlap.detach(), "cross_entropy": of_pixels.detach()}


PEERS = {"lovasz": LovaszSoftmax}


@contextmanager
def peer_loss(name: str | None) -> Iterator[None]:
    """Context in which recipes use the loss of another library; None uses that of softiou."""
    if name is None:
        yield
        return

    def build(settings: LossConfig, *, ignore_index: int | None) -> OverlapLoss:
        return PEERS[name](cross_entropy=settings.cross_entropy, ignore_index=ignore_index)

    with patch("softiou.recipes.base.build_loss", build):
        yield
