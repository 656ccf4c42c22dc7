# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Training on several processes so that it is training of one: a loss and BatchNorm statistics of the joint batch."""

import torch
from torch import nn


EMA_NEEDS_WHOLE_MODELS = "averaged weights need whole models: pass --ema_decay 0 with FSDP or DeepSpeed"


class _GatherBatch(torch.autograd.Function):
    """
    Joins the batches of all processes. The gradient of a process's own part is multiplied by their number, since
    DistributedDataParallel takes the mean over processes where the joint loss needs the sum.
    """

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        ctx.rank, ctx.size = torch.distributed.get_rank(), tensor.shape[0]
        # As bytes: not every backend knows every type.
        own = tensor.detach().contiguous().view(torch.uint8) if tensor.dtype != torch.bool else tensor.detach().byte()
        parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, own)
        joint = torch.cat(parts)
        return joint.view(tensor.dtype) if tensor.dtype != torch.bool else joint.bool()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        own = gradient[ctx.rank * ctx.size : (ctx.rank + 1) * ctx.size]
        return own * torch.distributed.get_world_size()


def _joint_loss(self, *inputs):
    """Replaces the model's `_loss` while it trains on several processes."""
    if torch.is_grad_enabled() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        inputs = torch.utils._pytree.tree_map_only(torch.Tensor, _GatherBatch.apply, inputs)
    return type(self)._loss(self, *inputs)


def use_joint_loss(model: nn.Module) -> None:
    """
    Makes the loss that of the joint batch of all processes.

    The detectors' losses pick the hardest pixels of a batch, and divide by numbers of pixels of a batch. With a loss for
    each process a run would depend on how its images are spread over them. With this, every process computes the loss
    from the maps and labels of all, and DistributedDataParallel's mean of the gradients is the gradient of the joint
    batch's loss. The price is a gathering of the detector's maps in every step. All processes need batches of one shape.

    Args:
        model ([`TCMForTextDetection`]): the model, before it is wrapped.
    """
    model._loss = _joint_loss.__get__(model)


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        torch.distributed.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        torch.distributed.all_reduce(gradient)
        return gradient


class _SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the joint batch of all processes, for devices on which torch's own SyncBatchNorm does not run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
            return super().forward(x)
        count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
        values = x.float()
        mean = _SumOverProcesses.apply(values.sum((0, 2, 3))) / count
        centered = values - mean[:, None, None]
        variance = _SumOverProcesses.apply((centered * centered).sum((0, 2, 3))) / count
        # The model's layers all track their statistics, with a fixed momentum.
        assert self.num_batches_tracked is not None and self.momentum is not None
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that goes on with its stored statistics; its weights still learn."""

    def train(self, mode: bool = True):
        return super().train(False)


def synchronize_batch_norm(model: nn.Module, device: torch.device | str) -> nn.Module:
    """
    Makes BatchNorm's statistics those of the joint batch of all processes.

    Args:
        model (`nn.Module`): the model, before it is wrapped.
        device (`torch.device` or `str`): where it will be trained.

    Returns:
        `nn.Module`: the model, changed in place.
    """
    if torch.device(device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SynchronizedBatchNorm2d
    return model


def prepare_for_sharding(model: nn.Module) -> None:
    """
    Makes parameters such that FSDP can split them: in the usual memory format, and none of them without an axis.

    Args:
        model (`nn.Module`): the model, before it is wrapped. What it computes stays the same; a scale without an axis, such as
            that of the visual prompt, gets one of length 1.
    """
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 0:
                setattr(module, name, nn.Parameter(parameter.detach()[None], parameter.requires_grad))


def shaped_like(state: dict[str, torch.Tensor], shapes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Weights in other shapes: what [`prepare_for_sharding`] gave an axis, without it, or the other way round.

    Args:
        state (`dict[str, torch.Tensor]`): the weights.
        shapes (`dict[str, torch.Tensor]`): tensors of the shapes that are wanted, by the same names.

    Returns:
        `dict[str, torch.Tensor]`
    """
    return {
        name: tensor.reshape(shapes[name].shape) if tensor.numel() == 1 else tensor for name, tensor in state.items()
    }


def freeze_batch_norm(model: nn.Module) -> None:
    """
    Keeps BatchNorm's statistics as they are, for fine-tuning with batches too small for good ones.

    Args:
        model (`nn.Module`): the model, before it is wrapped.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _FrozenBatchNorm2d
            module.eval()
