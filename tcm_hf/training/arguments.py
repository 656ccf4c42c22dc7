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

"""The settings of a training run with [`TCMTrainer`]."""

import dataclasses
from dataclasses import dataclass, field
from typing import cast

import torch
from transformers import TrainingArguments

from ..model.modeling_fused_convolution import computes_in_bfloat16
from .optimizer import OPTIMIZERS


def bf16_is_supported(use_cpu: bool = False) -> bool:
    """Whether the hardware computes in bfloat16; `use_cpu` asks about the processor even where there is a GPU."""
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_in_bfloat16()


@dataclass
class TCMTrainingArguments(TrainingArguments):
    """
    [`~transformers.TrainingArguments`] with the defaults of TCM's training, and with settings of [`TCMTrainer`].
    """

    _argument_group_name = "training"  # of the help

    learning_rate: float = field(default=1e-4, metadata={"help": "Rate of all but the image encoder."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of matrices and convolutions."})
    lr_scheduler_type: str = field(
        default="polynomial",
        metadata={
            "help": "Schedule: polynomial (power 0.9; by epochs with --lr_scheduler_kwargs '{\"by_epoch\": true}'), cosine or "
            "another of transformers'."
        },
    )
    bf16: bool | None = field(  # type: ignore[assignment]  # a bool after `__post_init__`
        default=None, metadata={"help": "Compute in bfloat16; by default where the hardware has it."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: targets are no columns."})
    dataloader_persistent_workers: bool | None = field(  # type: ignore[assignment]  # a bool after `__post_init__`
        default=None,
        metadata={"help": "Keep the loader's workers from epoch to epoch; by default where there are any."},
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "Figure that chooses the best checkpoint: hmean (default), precision or recall; of several sets the mean, "
            "or NAME_hmean."
        },
    )
    load_best_model_at_end: bool | None = field(  # type: ignore[assignment]  # a bool after `__post_init__`
        default=None,
        metadata={"help": "End with the best checkpoint; by default where checkpoints are evaluated when saved."},
    )
    image_encoder_lr_multiplier: float | None = field(
        default=None,
        metadata={
            "help": "Image encoder's learning rate over the others'; default 0.1, or 1 when trained from scratch."
        },
    )
    lr_multipliers: str | None = field(
        default=None,
        metadata={
            "help": 'More learning-rate multipliers, JSON such as {"detector": 2, "model.prompt_generator": 5}.'
        },
    )
    no_decay: str | None = field(
        default=None,
        metadata={
            "help": "Regular expression of the names of parameters without weight decay; by default vectors and scalars "
            "have none."
        },
    )
    optimizer: str | None = field(
        default=None,
        metadata={"help": "adam or ranger, which --optim does not know; --weight_decay and --learning_rate apply."},
    )
    ema_decay: float = field(
        default=0.999, metadata={"help": "Decay of the averaged weights that are evaluated and saved; 0 turns it off."}
    )
    joint_loss: bool = field(
        default=True,
        metadata={"help": "With several processes: the loss of their joint batch, see the documentation."},
    )
    sync_batch_norm: bool = field(
        default=True, metadata={"help": "With several processes: BatchNorm statistics of their joint batch."}
    )
    freeze_batch_norm: bool = field(default=False, metadata={"help": "Keep BatchNorm's stored statistics."})
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Leave losses that are not finite out of the logged mean, instead of ending the run."},
    )
    protocol: str = field(default="icdar2015", metadata={"help": "Protocol of the evaluation during training."})
    eval_shape: str | None = field(
        default=None,
        metadata={
            "help": "auto, polygon, quad or box; by default quad where the annotation has four points throughout, else polygon."
        },
    )

    def __post_init__(self):
        if self.optimizer is not None and self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"--optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}; see --optim too"
            )
        if not torch.accelerator.is_available():
            self.use_cpu = True  # said aloud, bfloat16 is allowed there
        if self.bf16 is None:
            self.bf16 = not self.fp16 and bf16_is_supported(self.use_cpu)
        if self.dataloader_persistent_workers is None:
            self.dataloader_persistent_workers = self.dataloader_num_workers > 0
        if self.load_best_model_at_end is None:
            strategy, save_strategy = (getattr(x, "value", x) for x in (self.eval_strategy, self.save_strategy))
            steps = self.eval_steps or self.logging_steps
            aligned = strategy == save_strategy and (strategy != "steps" or self.save_steps % steps == 0)
            self.load_best_model_at_end = strategy != "no" and aligned
        if self.metric_for_best_model is None and getattr(self.eval_strategy, "value", self.eval_strategy) != "no":
            self.metric_for_best_model = "hmean"
            if self.greater_is_better is None:
                self.greater_is_better = True
        super().__post_init__()


def complete_arguments(args: TrainingArguments) -> TCMTrainingArguments:
    """
    Gives plain [`~transformers.TrainingArguments`] the settings that only [`TCMTrainingArguments`] has, by their defaults.

    Args:
        args ([`~transformers.TrainingArguments`]): changed in place; what it has is kept, its learning rate for example.

    Returns:
        [`~transformers.TrainingArguments`]: the same object.
    """
    known = {item.name for item in dataclasses.fields(TrainingArguments)}
    for item in dataclasses.fields(TCMTrainingArguments):
        if item.name not in known and not hasattr(args, item.name):
            setattr(args, item.name, item.default)
    return cast(TCMTrainingArguments, args)  # it has all that those have
