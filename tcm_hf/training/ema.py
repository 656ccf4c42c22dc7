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

"""Averaged weights: a running mean of what training changes, which is smoother than the last step's weights."""

import contextlib
import os
from collections.abc import Iterator

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback


# The weights that training goes on with, beside a checkpoint's averaged ones.
TRAINING_WEIGHTS_NAME = "training_weights.safetensors"


class ExponentialMovingAverage:
    """
    Running average of a model's weights and of its BatchNorm statistics.

    Args:
        model (`nn.Module`): the model, not wrapped; the average starts at its values.
        decay (`float`, *optional*, defaults to 0.999):
            Weight of the past. In the first steps it is `(1 + step) / (10 + step)` where that is less, so that the
            random start is soon forgotten.

    Call [`update`] after every optimizer step. With accelerate, `accelerator.register_for_checkpointing(average)` makes it
    part of the checkpoints.

    Raises:
        ValueError: if the decay is not in 0..1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 < decay < 1:
            raise ValueError(f"`decay` must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.values = {name: tensor.detach().clone() for name, tensor in self._tensors(model).items()}

    @staticmethod
    def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
        """What training changes: trainable parameters and all buffers that are stored."""
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """
        Takes the model's present values into the average.

        Args:
            model (`nn.Module`): the model, not wrapped.
            step (`int`): optimizer steps made so far, at least 1.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        tensors = self._tensors(model)
        floating = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        # Not `AveragedModel`, which copies the whole model, frozen towers included, and has one decay for all steps.
        average = get_ema_multi_avg_fn(decay)
        average([self.values[name] for name in floating], [tensors[name] for name in floating], step)
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                self.values[name].copy_(tensor)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Gives the model the averaged values."""
        for name, tensor in self._tensors(model).items():
            tensor.copy_(self.values[name])

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within it, the model has the averaged values."""
        with torch.no_grad():
            kept = {name: tensor.clone() for name, tensor in self._tensors(model).items()}
            self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self._tensors(model).items():
                    tensor.copy_(kept[name])

    def state_dict(self) -> dict:
        """The average, to be stored."""
        return {"decay": self.decay, "values": self.values}

    def load_state_dict(self, state: dict) -> None:
        """Takes over what `state_dict` gave."""
        if set(state["values"]) != set(self.values):
            names = sorted(set(state["values"]) ^ set(self.values))[:5]
            raise ValueError(f"the stored average is that of another model: {names} and others differ")
        self.decay = state["decay"]
        with torch.no_grad():
            for name, value in state["values"].items():
                self.values[name].copy_(value)


class EMACallback(TrainerCallback):
    """
    Keeps an [`ExponentialMovingAverage`] up to date during a Trainer's run, and leaves the model with it at the end.

    Args:
        decay (`float`, *optional*, defaults to 0.999): see [`ExponentialMovingAverage`].

    With [`TCMTrainer`], evaluation and saved models use the average, and checkpoints hold both.
    """

    def __init__(self, decay: float = 0.999):
        self.decay = decay
        self.average: ExponentialMovingAverage | None = None

    def start(self, model: nn.Module) -> None:
        """Starts the average at the model's present values."""
        self.average = ExponentialMovingAverage(model, self.decay)

    def applied(self, model: nn.Module):
        """See [`ExponentialMovingAverage.applied`]; without effect before training and after it."""
        return contextlib.nullcontext() if self.average is None else self.average.applied(model)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if self.average is None:
            self.start(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if self.average is not None:
            self.average.update(model, state.global_step)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        # The best checkpoint's weights, where they were loaded, are averaged ones already.
        if self.average is not None and not (args.load_best_model_at_end and state.best_model_checkpoint is not None):
            self.average.copy_to(model)
        self.average = None


def save_training_weights(model: nn.Module, directory: str | os.PathLike) -> None:
    """Stores what training changes, beside the averaged weights of a checkpoint."""
    tensors = {name: tensor.contiguous() for name, tensor in ExponentialMovingAverage._tensors(model).items()}
    path = os.path.join(directory, TRAINING_WEIGHTS_NAME)
    save_file(tensors, path + ".part", metadata={"format": "pt"})
    os.replace(path + ".part", path)


def load_training_weights(model: nn.Module, directory: str | os.PathLike) -> None:
    """Reads what `save_training_weights` stored."""
    tensors = load_file(os.path.join(directory, TRAINING_WEIGHTS_NAME))
    unknown = model.load_state_dict(tensors, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{directory} holds weights that this model does not have, such as {unknown[:3]}")
