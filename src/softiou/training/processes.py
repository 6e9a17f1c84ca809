"""Settings of Lightning's trainer for several processes, and their joint batch normalisation."""

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
    """Return the settings of Lightning's trainer to use only this process."""
    index = best_device().index
    one = {"devices": 1 if index is None else [index], "num_nodes": 1, "strategy": "auto"}
    return one | {"plugins": [LightningEnvironment()]}  # otherwise it may assume SLURM's srun


def trainer_settings(strategy: str = "ddp") -> dict[str, Any]:
    """Return the settings of Lightning's trainer for all processes, with one device each."""
    if not are_several():
        return alone()
    settings: dict[str, Any] = {"strategy": strategy}
    if strategy == "fsdp":  # Lightning's FSDPStrategy needs GPUs; torch's fully_shard does not
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
    """Synchronises the batch normalisation of all processes, also on CPUs."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the layers; the conversion of torch would drop the activations of timm's."""
        if torch.cuda.is_available():
            converted: nn.Module = convert_sync_batchnorm(model)
            return converted
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, _BatchNorm):
                    setattr(module, name, _BatchNormOfAll(child))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged; its weights are the same, and training is over."""
        return model


class _BatchNormOfAll(_BatchNorm):
    """Batch normalisation with the mean and variance over the images of all processes.

    It shares the tensors of an existing layer, and applies the dropout and activation of timm's.
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
        """Update the running averages."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        share = self.momentum or 1 / float(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
