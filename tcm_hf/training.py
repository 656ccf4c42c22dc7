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

"""Training of TCM with the Trainer of transformers, or with bare accelerate: what both ways share.

Learning rates by module, learning-rate schedules, averaged weights, evaluation that streams polygons, and exact training on
several processes. `examples/train_text_detection.py` and `examples/train_text_detection_no_trainer.py` show both ways.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, speed_metrics

from .pipeline_text_detection import TextDetectionPipeline
from .training_card import write_model_card
from .training_distributed import freeze_batch_norm, synchronize_batch_norm, use_joint_loss
from .training_ema import (
    TRAINING_WEIGHTS_NAME,
    EMACallback,
    ExponentialMovingAverage,
    load_training_weights,
    save_training_weights,
)
from .training_evaluation import build_evaluator, evaluate_records


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
            For matrices and convolutions. Vectors and scalars, which are biases, the weights of normalisation layers
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


# ---------------------------------------------------------------------------------------- data order


class EpochSampler(Sampler):
    """
    Order of the samples as a function of the seed and of the data set's epoch only.

    Args:
        dataset ([`TextDetectionDataset`]): has an `epoch` and `set_epoch`.
        seed (`int`, *optional*, defaults to 0): another seed gives another order.
    """

    def __init__(self, dataset: Dataset, seed: int = 0):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        # The -1 keeps it apart from the samples' own (seed, epoch, index).
        rng = np.random.default_rng([self.seed, self.dataset.epoch, len(self.dataset), 2**32 - 1])
        yield from rng.permutation(len(self.dataset)).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, of the data set too."""
        self.dataset.set_epoch(epoch)


def build_train_dataloader(dataset: Dataset, accelerator, batch_size: int, seed: int = 0, **settings) -> DataLoader:
    """
    The loader of training batches, prepared for accelerate; [`TCMTrainer`] uses it too.

    Args:
        dataset ([`TextDetectionDataset`] or [`StreamingTextDetectionDataset`]): the samples.
        accelerator (`accelerate.Accelerator`): tells the processes apart.
        batch_size (`int`): samples of one process's batch.
        seed (`int`, *optional*, defaults to 0): seed of the order.
        settings: further arguments of `torch.utils.data.DataLoader`, for example `num_workers`.

    Returns:
        `DataLoader`: process r of n has the r-th part of every joint batch of n times `batch_size` samples. Call
        `set_epoch` before each epoch.
    """
    from accelerate.data_loader import prepare_data_loader

    from .data.collate import text_detection_collate

    # A generator of its own: starting an epoch takes a number from it, which would otherwise be the model's next one.
    settings = {"collate_fn": text_detection_collate, "generator": torch.Generator().manual_seed(seed), **settings}
    if isinstance(dataset, torch.utils.data.IterableDataset):
        # It shares out its rows among processes and workers itself.
        dataset.set_processes(accelerator.process_index, accelerator.num_processes)
        loader = DataLoader(dataset, batch_size=batch_size, **settings)
        return prepare_data_loader(
            loader, accelerator.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
        )
    loader = DataLoader(dataset, batch_size=batch_size, sampler=EpochSampler(dataset, seed), **settings)
    return accelerator.prepare_data_loader(loader)


# ---------------------------------------------------------------------------------------- the Trainer


def bf16_is_supported(use_cpu: bool = False) -> bool:
    """Whether the hardware computes in bfloat16; `use_cpu` asks about the processor even where there is a GPU."""
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@dataclass
class TCMTrainingArguments(TrainingArguments):
    """
    [`~transformers.TrainingArguments`] with the defaults of TCM's training, and with settings of [`TCMTrainer`].
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Rate of all but the image encoder."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of matrices and convolutions."})
    lr_scheduler_type: str = field(
        default="polynomial",
        metadata={"help": "Schedule: polynomial (power 0.9), cosine or another of transformers'."},
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "Compute in bfloat16; by default where the hardware has it."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: targets are no columns."})
    dataloader_persistent_workers: bool | None = field(
        default=None,
        metadata={"help": "Keep the loader's workers from epoch to epoch; by default where there are any."},
    )
    metric_for_best_model: str | None = field(
        default=None, metadata={"help": "Figure that chooses the best checkpoint; hmean by default."}
    )
    load_best_model_at_end: bool | None = field(
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
        metadata={"help": "polygon, quad or box; by default quad where the annotation has four points throughout."},
    )

    def __post_init__(self):
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


class _RunCallback(TrainerCallback):
    """Tells the data set its epoch, and logs with every checkpoint, so that a resumed run's log is the unbroken one's."""

    def __init__(self, dataset: Dataset | None):
        self.dataset = dataset

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.dataset, "set_epoch") and not isinstance(self.dataset, torch.utils.data.IterableDataset):
            self.dataset.set_epoch(int(state.epoch + 1e-6))

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save:
            control.should_log = True
        return control

    on_epoch_end = on_step_end


class TCMTrainer(Trainer):
    """
    Trainer of [`TCMForTextDetection`].

    - every term of the loss is logged;
    - the image encoder learns at a tenth of the rate, see [`TCMTrainingArguments`] and `parameter_groups`;
    - evaluation takes a list of [`TextRecord`] and gives `eval_hmean`, `eval_precision` and `eval_recall`;
    - weights are averaged: evaluation, `model.safetensors` of each checkpoint and the final model have the average,
      `training_weights.safetensors` of a checkpoint has what training goes on with;
    - saved and uploaded models come with the code that loads them where this package is not installed;
    - a run on several processes is the run of one with the joint batch (but for dropout's random numbers).

    Args:
        model ([`TCMForTextDetection`]): the model.
        args ([`TCMTrainingArguments`]): the settings.
        train_dataset ([`TextDetectionDataset`] or [`StreamingTextDetectionDataset`], *optional*): training samples.
        eval_dataset (`list[TextRecord]`, or a `dict` of them, *optional*): pictures to measure on.
        processing_class ([`TCMImageProcessor`], *optional*): needed for evaluation; saved with the model.
        kwargs: see [`~transformers.Trainer`].
    """

    def __init__(self, model=None, args: TCMTrainingArguments | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        if (self.is_fsdp_enabled or self.is_deepspeed_enabled) and self.args.ema_decay:
            raise ValueError("averaged weights need whole models: set `ema_decay=0` with FSDP or DeepSpeed")
        self._term_sums, self._term_count = {}, 0
        # What the model card should say that the trainer does not know: `start`, `dataset`, `num_photos`, ...
        self.card_facts: dict = {}
        self.ema_callback = EMACallback(self.args.ema_decay) if self.args.ema_decay else None
        self.add_callback(_RunCallback(self.train_dataset))
        if self.ema_callback is not None:
            self.add_callback(self.ema_callback)
        if self.args.freeze_batch_norm:
            freeze_batch_norm(self.model)
        if self.args.world_size > 1:
            if self.args.joint_loss:
                use_joint_loss(self.model)
            if self.args.sync_batch_norm and not self.args.freeze_batch_norm:
                self.model = self.model_wrapped = synchronize_batch_norm(self.model, self.args.device)

    # ------------------------------------------------------------------ optimizer

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            plain = self.model if model is None else model
            multipliers = json.loads(self.args.lr_multipliers) if self.args.lr_multipliers else {}
            factor = self.args.image_encoder_lr_multiplier
            multipliers.setdefault(IMAGE_ENCODER_PREFIX, IMAGE_ENCODER_MULTIPLIER if factor is None else factor)
            groups = parameter_groups(plain, self.args.learning_rate, self.args.weight_decay, multipliers)
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, plain)
            self.optimizer = optimizer_class(groups, **settings)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            self.lr_scheduler = build_scheduler(
                self.optimizer if optimizer is None else optimizer,
                self.args.lr_scheduler_type,
                num_training_steps,
                self.args.get_warmup_steps(num_training_steps),
                **(self.args.lr_scheduler_kwargs or {}),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # ------------------------------------------------------------------ data and loss

    def get_train_dataloader(self) -> DataLoader:
        if self.train_dataset is None:
            raise ValueError("training needs a `train_dataset`")
        args, workers = self.args, self.args.dataloader_num_workers
        return build_train_dataloader(
            self.train_dataset,
            self.accelerator,
            self._train_batch_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=args.dataloader_pin_memory and self.accelerator.device.type == "cuda",
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            drop_last=args.dataloader_drop_last,
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name, value in outputs.loss_dict.items():
            self._term_sums[name] = self._term_sums.get(name, 0.0) + value.detach()
        self._term_count += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs, start_time=None):
        loss = logs.get("loss", logs.get("train_loss", 0.0))
        if not math.isfinite(float(loss)):
            # Before the checkpoint of this step, which might replace the last good one, or before the final model is saved.
            raise RuntimeError(
                f"the loss is {loss} at step {self.state.global_step}: training has diverged; lower the learning "
                "rate and go on from the last checkpoint"
            )
        if "loss" in logs and self._term_count:
            logs.update({f"loss_{name}": float(x) / self._term_count for name, x in self._term_sums.items()})
            self._term_sums, self._term_count = {}, 0
        super().log(logs, start_time)

    # ------------------------------------------------------------------ evaluation

    def _averaged(self):
        return contextlib.nullcontext() if self.ema_callback is None else self.ema_callback.applied(self.model)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        Measures the averaged weights.

        Args:
            eval_dataset (`list[TextRecord]`, or a `dict` of them, *optional*, defaults to `self.eval_dataset`):
                The pictures; with a dictionary, its keys become part of the figures' names, and `eval_hmean`,
                `eval_precision` and `eval_recall` are the means of its entries.
            ignore_keys: without meaning here.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): start of the figures' names.

        Returns:
            `dict[str, float]`: `eval_hmean`, `eval_precision`, `eval_recall`, `eval_num_images` and the time taken.
        """
        records = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(records, dict):
            parts = [self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{key}") for key, part in records.items()]
            means = {}
            for name in ("hmean", "precision", "recall"):
                values = [part[f"{metric_key_prefix}_{key}_{name}"] for key, part in zip(records, parts)]
                means[f"{metric_key_prefix}_{name}"] = sum(values) / len(values)
            self.log(means)
            return {name: value for part in (*parts, means) for name, value in part.items()}
        if records is None or self.processing_class is None:
            raise ValueError("evaluation needs an `eval_dataset`, a list of TextRecord, and a `processing_class`")
        start = time.time()
        with self._averaged():
            figures = evaluate_records(
                self.model,
                self.processing_class,
                records,
                protocol=self.args.protocol,
                shape=self.args.eval_shape,
                accelerator=self.accelerator,
                num_workers=self.args.dataloader_num_workers,
                progress=not self.args.disable_tqdm,
            )
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        metrics.update(speed_metrics(metric_key_prefix, start, num_samples=len(records), num_steps=len(records)))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # ------------------------------------------------------------------ checkpoints and card

    def create_model_card(self, **kwargs) -> None:
        """Writes the card of `training_card.write_model_card`, with `self.card_facts` and the last measured figures."""
        if not self.is_world_process_zero():
            return
        args, facts = self.args, self.card_facts
        measured = [entry for entry in self.state.log_history if "eval_hmean" in entry]
        training = {
            "photos": facts.get("num_photos"),
            "rendered words": {True: "mixed in", False: "none", None: None}[facts.get("rendered_words")],
            "steps": self.state.global_step,
            "batch": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "learning rate": f"{args.learning_rate:g}, {str(getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type))}",
            "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
            "averaged weights": f"decay {args.ema_decay:g}" if args.ema_decay else "none",
            "seed": args.seed,
        }
        write_model_card(
            args.output_dir,
            self.model.config,
            training=training,
            metrics=facts.get("metrics", measured[-1] if measured else None),
            protocol=args.protocol,
            start=facts.get("start"),
            dataset=facts.get("dataset"),
            # The full name: without a user in the argument it is the account's own.
            repository=getattr(self, "hub_model_id", None) or args.hub_model_id,
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        running = self.ema_callback is not None and self.ema_callback.average is not None
        checkpoint = output_dir is not None and os.path.basename(output_dir).startswith(PREFIX_CHECKPOINT_DIR)
        if running and checkpoint and self.args.should_save:
            # First, so that no checkpoint lacks them that has the rest.
            os.makedirs(output_dir, exist_ok=True)
            save_training_weights(self.model, output_dir)
        with self._averaged():
            super().save_model(output_dir, _internal_call=_internal_call)
            whole = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
            if not checkpoint and self.args.should_save and self.processing_class is not None and whole:
                # A model to use, and to upload, also has the pipeline's code and tells where it is.
                TextDetectionPipeline(
                    model=self.accelerator.unwrap_model(self.model),
                    image_processor=self.processing_class,
                    task="text-detection",
                    device=self.args.device,
                ).save_pretrained(self.args.output_dir if output_dir is None else output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        model = self.model if model is None else model
        if os.path.isfile(os.path.join(resume_from_checkpoint, TRAINING_WEIGHTS_NAME)):
            if self.ema_callback is not None:
                self.ema_callback.start(model)
            load_training_weights(model, resume_from_checkpoint)


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """
    The newest checkpoint that a run wrote to its end; one that was cut short is passed over.

    Args:
        output_dir (`str` or `os.PathLike`): the run's directory.

    Returns:
        `str` or `None`: the checkpoint's directory.
    """
    if not os.path.isdir(output_dir):
        return None
    steps = [name.rpartition("-") for name in os.listdir(output_dir)]
    steps = sorted(int(s) for prefix, _, s in steps if prefix == PREFIX_CHECKPOINT_DIR and s.isdigit())
    for step in reversed(steps):
        directory = os.path.join(output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}")
        try:
            # The Trainer writes it last.
            with open(os.path.join(directory, TRAINER_STATE_NAME), encoding="utf-8") as file:
                json.load(file)
            return directory
        except (OSError, ValueError):
            continue
    return None


__all__ = [
    "EMACallback",
    "EpochSampler",
    "ExponentialMovingAverage",
    "TCMTrainer",
    "TCMTrainingArguments",
    "build_evaluator",
    "build_scheduler",
    "build_train_dataloader",
    "evaluate_records",
    "freeze_batch_norm",
    "last_complete_checkpoint",
    "parameter_groups",
    "polynomial_lr",
    "synchronize_batch_norm",
    "use_joint_loss",
]
