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

"""Learning rates by module, and their schedules."""

import torch
from torch import nn
from transformers import get_scheduler


# The paper's rate of CLIP's image encoder over that of everything else.
IMAGE_ENCODER_MULTIPLIER = 0.1
IMAGE_ENCODER_PREFIX = "model.vision_tower"


# ---------------------------------------------------------------------------------------- optimizer and schedule


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    multipliers: dict[str, float] | None = None,
) -> list[dict]:
    """
    Sorts the trainable parameters into an optimizer's groups.

    Args:
        model (`nn.Module`): the model, not wrapped; frozen parameters are left out.
        learning_rate (`float`): the base rate.
        weight_decay (`float`, *optional*, defaults to 0.0):
            For matrices and convolutions. Vectors and scalars, which are biases, the weights of normalization layers
            and learned scales, have none.
        multipliers (`dict[str, float]`, *optional*, defaults to `{"model.vision_tower": 0.1}`):
            Factors of the rate by the start of the parameters' names, up to a dot; the longest that fits counts.

    Returns:
        `list[dict]`: groups with `params`, `lr`, `weight_decay` and a `name`.

    Raises:
        ValueError: if a factor is not positive, no parameter has such a name, or nothing is trainable.
    """
    multipliers = {IMAGE_ENCODER_PREFIX: IMAGE_ENCODER_MULTIPLIER} if multipliers is None else dict(multipliers)
    names = [name for name, _ in model.named_parameters()]
    for prefix, factor in multipliers.items():
        if not factor > 0:
            raise ValueError(f"the multiplier of {prefix!r} must be positive, got {factor}; freeze it instead")
        if not any(name == prefix or name.startswith(prefix + ".") for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ValueError(f"no parameter's name starts with {prefix!r}; the model has {parts}")
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        fitting = [prefix for prefix in multipliers if name == prefix or name.startswith(prefix + ".")]
        prefix = max(fitting, key=len, default="")
        decay = weight_decay if parameter.dim() > 1 else 0.0
        group = groups.setdefault(
            (prefix, decay > 0),
            {
                "params": [],
                "lr": learning_rate * multipliers.get(prefix, 1.0),
                "weight_decay": decay,
                "name": (prefix or "rest") + ("" if decay else " without decay"),
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise ValueError("no parameter is trainable: all of the model is frozen")
    return list(groups.values())


def polynomial_lr(base_lr: float, step: int, num_steps: int, power: float = 0.9, min_lr: float = 1e-7) -> float:
    """
    Learning rate of the polynomial schedule, as in TCM's training: `(base - min) (1 - step / steps)^power + min`.

    Args:
        base_lr (`float`): rate at the start.
        step (`int`): steps made.
        num_steps (`int`): steps in all.
        power (`float`, *optional*, defaults to 0.9): the exponent.
        min_lr (`float`, *optional*, defaults to 1e-7): rate at the end.

    Returns:
        `float`: the rate.
    """
    return (base_lr - min_lr) * (1 - min(step, num_steps) / max(num_steps, 1)) ** power + min_lr


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    name: str = "polynomial",
    num_training_steps: int = 0,
    num_warmup_steps: int = 0,
    **settings,
) -> torch.optim.lr_scheduler.LRScheduler:
    """
    A schedule of the learning rate, by steps.

    Args:
        optimizer (`torch.optim.Optimizer`): whose groups may have different rates.
        name (`str`, *optional*, defaults to `"polynomial"`):
            `"polynomial"` as in `polynomial_lr`, or another name that transformers knows, such as `"cosine"`.
        num_training_steps (`int`): optimizer steps in all.
        num_warmup_steps (`int`, *optional*, defaults to 0): first steps, over which the rate grows from 0.
        settings: `power` and `lr_end` of the polynomial schedule; those of the others as transformers names them.

    Returns:
        `LRScheduler`: to be stepped once after every optimizer step.
    """
    name = str(getattr(name, "value", name))
    if name != "polynomial":
        return get_scheduler(
            name,
            optimizer=optimizer,
            num_warmup_steps=num_warmup_steps,
            num_training_steps=num_training_steps,
            scheduler_specific_kwargs=settings,
        )
    # Not transformers' `get_polynomial_decay_schedule_with_warmup`: it knows one rate for all groups, and the rate at the
    # end would be multiplied with the image encoder's, to 1e-8 instead of the 1e-7 of TCM's training.
    power, min_lr = settings.pop("power", 0.9), settings.pop("lr_end", 1e-7)
    if settings:
        raise ValueError(f"unknown settings of the polynomial schedule: {sorted(settings)}; known: power, lr_end")

    def factor_of(base_lr):
        def factor(step):
            if step < num_warmup_steps:
                return step / num_warmup_steps
            steps = num_training_steps - num_warmup_steps
            return polynomial_lr(base_lr, step - num_warmup_steps, steps, power, min_lr) / base_lr

        return factor

    # `initial_lr` is there when a schedule is made a second time for the same optimizer.
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor_of(rate) for rate in rates])
