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

"""Learning rates by module, their schedules, and optimizers that transformers does not have."""

import math
import re

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
    no_decay: str | None = None,
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
        no_decay (`str`, *optional*):
            Regular expression of the names without weight decay, instead of vectors and scalars.

    Returns:
        `list[dict]`: groups with `params`, `lr`, `weight_decay` and a `name`.

    Raises:
        ValueError: if a factor is not positive, no parameter has such a name, or nothing is trainable.
    """
    try:
        exempt = None if no_decay is None else re.compile(no_decay)
    except re.error as error:
        raise ValueError(f"--no_decay is no regular expression ({error}): {no_decay}") from error
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
        decays = parameter.dim() > 1 if exempt is None else exempt.search(name) is None
        decay = weight_decay if decays else 0.0
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
        settings:
            `power`, `lr_end` and `steps_per_epoch` of the polynomial schedule; with the last the rate falls from epoch to epoch,
            and not from step to step. Those of the others as transformers names them.

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
    power, min_lr, per_epoch = (
        settings.pop("power", 0.9),
        settings.pop("lr_end", 1e-7),
        settings.pop("steps_per_epoch", 1),
    )
    if settings:
        raise ValueError(
            f"unknown settings of the polynomial schedule: {sorted(settings)}; known: power, lr_end, steps_per_epoch"
        )

    def factor_of(base_lr):
        def factor(step):
            if step < num_warmup_steps:
                return step / num_warmup_steps
            done, steps = step - num_warmup_steps, num_training_steps - num_warmup_steps
            done, steps = done // per_epoch, math.ceil(steps / per_epoch)
            return polynomial_lr(base_lr, done, steps, power, min_lr) / base_lr

        return factor

    # `initial_lr` is there when a schedule is made a second time for the same optimizer.
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor_of(rate) for rate in rates])


class Ranger(torch.optim.RAdam):
    """
    RAdam whose weights return halfway to those of `k` steps ago after every `k` steps (Lookahead, arXiv 1907.08610).

    PyTorch has RAdam, but no Lookahead.

    Args:
        params (`Iterable`): Parameters, or groups of them.
        lr (`float`, *optional*, defaults to 1e-3): Learning rate.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.95, 0.999)`): Of the running means.
        eps (`float`, *optional*, defaults to 1e-5): Added to the denominator.
        weight_decay (`float`, *optional*, defaults to 0): Decay of the weights, apart from the gradient.
        alpha (`float`, *optional*, defaults to 0.5): Part of the way to the new weights that is kept.
        k (`int`, *optional*, defaults to 6): Steps between two returns.
    """

    def __init__(self, params, lr=1e-3, betas=(0.95, 0.999), eps=1e-5, weight_decay=0.0, alpha=0.5, k=6):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decoupled_weight_decay=True)
        self.alpha, self.k = alpha, k

    @torch.no_grad()
    def step(self, closure=None):
        """A step, see `torch.optim.Optimizer`."""
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = {p: p.clone() for p in trained if "slow" not in self.state[p]}
        loss = super().step(closure)
        for parameter in trained:
            state = self.state[parameter]
            slow = state.setdefault("slow", before.get(parameter))
            if int(state["step"]) % self.k == 0:
                slow.lerp_(parameter, self.alpha)
                parameter.copy_(slow)
        return loss


# By the names of `--optimizer`; Adam's weight decay is part of the gradient, unlike AdamW's.
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "ranger": Ranger}
