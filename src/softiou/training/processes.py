"""How Lightning's trainer uses several processes: devices, and batch norm over all their images."""

import os
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.plugins.layer_sync import LayerSync
from pytorch_lightning.strategies import ModelParallelStrategy
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from softiou._processes import are_several, by_srun, world_size
from softiou.inference import best_device
from softiou.overlap.processes import of_all, sum_of


def alone() -> dict[str, Any]:
    """Return how Lightning's trainer is to use this process, whatever others there are."""
    index = best_device().index
    one = {"devices": 1 if index is None else [index], "num_nodes": 1, "strategy": "auto"}
    return one | {"plugins": [LightningEnvironment()]}  # not SLURM's without srun


def trainer_settings(strategy: str = "ddp") -> dict[str, Any]:
    """Return how Lightning's trainer is to use the processes: one device each."""
    if not are_several():
        return alone()
    settings: dict[str, Any] = {"strategy": strategy}
    if strategy == "fsdp":  # Lightning's own needs GPUs; this one is torch's fully_shard
        strategy_of_torch = ModelParallelStrategy(
            world_size(), 1, save_distributed_checkpoint=False
        )
        settings["strategy"] = strategy_of_torch
    if by_srun():
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        plugins = [JoinedBatchNorm(), SLURMEnvironment(auto_requeue=False)]
        devices = world_size() // nodes
        return settings | {"devices": devices, "num_nodes": nodes, "plugins": plugins}
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    settings |= {"devices": here, "num_nodes": world_size() // here}
    return settings | {"plugins": [JoinedBatchNorm()]}


class JoinedBatchNorm(LayerSync):
    """Lets every batch norm of a model see the images of all processes, on a CPU, too."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch norms; torch's own conversion would lose activations of timm's."""
        if torch.cuda.is_available():
            converted: nn.Module = convert_sync_batchnorm(model)
            return converted
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, _BatchNorm):
                    setattr(module, name, _BatchNormOfAll(child))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the model as it is: it has the same weights, and is not trained any more."""
        return model


class _BatchNormOfAll(_BatchNorm):
    """A batch norm with the mean and the variance of all processes' images.

    It takes over the tensors of another one under the same names, and what timm's does behind it.
    """

    def __init__(self, own: _BatchNorm) -> None:
        super().__init__(own.num_features, own.eps, own.momentum)
        self._parameters, self._buffers = own._parameters, own._buffers
        self.train(own.training)
        self.drop, self.act = getattr(own, "drop", None), getattr(own, "act", None)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise x (N, C, *S)."""
        x = input
        across = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean, variance = self.running_mean, self.running_var
        if self.training or mean is None or variance is None:
            count = of_all(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            mean = sum_of(wide.sum(across)) / count
            variance = sum_of((wide - mean.view(shape)).square().sum(across)) / count
            self._update(mean.detach(), variance.detach() * count / (count - 1))
        y = (x - mean.view(shape)) * (variance.view(shape) + self.eps).rsqrt()
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        y = y.to(x.dtype)
        for following in (self.drop, self.act):
            y = y if following is None else following(y)
        return y

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        share = self.momentum or 1 / float(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
