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
"""
The same as [`TCMTrainer`] in a loop of its own, on accelerate, for those who want to change the loop.

A run on n processes is the run of one process with an n times larger batch: order of samples, loss and BatchNorm statistics
are those of the joint batch. Only dropout draws other random numbers.
"""

import contextlib
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list, set_seed
from huggingface_hub import HfApi
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..data.formats import TextRecord
from ..metrics.report import json_ready
from ..model.model_card import write_model_card
from ..model.modeling_tcm import TCMForTextDetection
from ..model.pipeline_text_detection import TextDetectionPipeline
from . import trainer
from .arguments import bf16_is_supported
from .checkpoint import (
    PROGRESS_NAME,
    CheckpointError,
    check_checkpoint,
    find_damage,
    last_complete_checkpoint,
    load_loop_state,
    read_progress,
    recover,
    rotate_checkpoints,
    run_lock,
    save_loop_state,
    saving,
    staged_checkpoint,
    staged_files,
    write_json,
)
from .distributed import (
    EMA_NEEDS_WHOLE_MODELS,
    prepare_for_sharding,
    shaped_like,
    synchronize_batch_norm,
    use_joint_loss,
)
from .ema import ExponentialMovingAverage
from .evaluation import check_metric, mean_figures
from .optimizer import IMAGE_ENCODER_MULTIPLIER, IMAGE_ENCODER_PREFIX, build_scheduler, parameter_groups
from .options import DataArguments, LoopArguments, ModelArguments, OptionError, refusing_options
from .setup import TrainingRun, prepare_run


logger = logging.getLogger(__name__)


def train(model_arguments: ModelArguments, data_arguments: DataArguments, arguments: LoopArguments) -> None:
    """
    Trains in a loop on accelerate, measures, and leaves model, figures and card in `arguments.output_dir`.

    Args:
        model_arguments ([`ModelArguments`]): The source of the model, and what is changed about it.
        data_arguments ([`DataArguments`]): The sources of data, and how samples are made.
        arguments ([`LoopArguments`]): How it is trained.

    Raises:
        OptionError: if the arguments contradict each other, or a source cannot be read.
        CheckpointError: if a checkpoint cannot be written, or not be resumed.
        BlockingIOError: if another process trains into that directory.
        OSError: if something cannot be written.
        RuntimeError: if the loss is not finite.
    """
    accelerator = build_accelerator(arguments)
    if arguments.ema_decay and is_sharded(accelerator):
        raise OptionError(EMA_NEEDS_WHOLE_MODELS)
    with contextlib.ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(run_lock(arguments.output_dir))
            recover(arguments.output_dir)
        set_seed(arguments.seed)
        total_batch_size = (
            arguments.per_device_train_batch_size * accelerator.num_processes * arguments.gradient_accumulation_steps
        )
        with refusing_options():
            run = prepare_run(
                model_arguments,
                data_arguments,
                seed=arguments.seed,
                total_batch_size=total_batch_size,
                output_dir=arguments.output_dir if accelerator.is_main_process else None,
            )
            if run.train_records is None and arguments.max_train_steps is None:
                raise ValueError("a stream has no end: --streaming needs --max_train_steps")
            check_metric(
                arguments.metric_for_best_model, run.eval_records if isinstance(run.eval_records, dict) else ()
            )
        loop = TrainingLoop(accelerator, run, model_arguments, data_arguments, arguments)
        loop.resume()
        loop.train()
        loop.finish(total_batch_size)


def build_accelerator(arguments: LoopArguments) -> Accelerator:
    """
    The accelerator that the arguments ask for; what they leave open is filled in.

    Raises:
        OptionError: if a tracker is not installed.
    """
    # Without this, processes that torchrun starts on a machine without GPU would not know of each other.
    arguments.use_cpu = arguments.use_cpu or not torch.accelerator.is_available()
    arguments.mixed_precision = arguments.mixed_precision or ("bf16" if bf16_is_supported(arguments.use_cpu) else "no")
    if arguments.report_to == "none":
        arguments.report_to, arguments.with_tracking = None, False
    arguments.with_tracking = arguments.with_tracking or arguments.report_to is not None
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        cpu=arguments.use_cpu,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=(arguments.report_to or "all") if arguments.with_tracking else None,
        project_dir=arguments.output_dir,
    )
    if arguments.report_to not in (None, "all") and not accelerator.log_with:
        raise OptionError(
            f"--report_to {arguments.report_to}: it is not installed (pip install {arguments.report_to})"
        )
    return accelerator


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether every process has a part of the weights only."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


class TrainingLoop:
    """
    A run: what is trained, how far it is, and what was measured.

    Args:
        accelerator (`Accelerator`): Of this process.
        run ([`TrainingRun`]): Model, processor and data.
        model_arguments ([`ModelArguments`]): Where the model came from.
        data_arguments ([`DataArguments`]): Where the data came from.
        arguments ([`LoopArguments`]): How it is trained.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        run: TrainingRun,
        model_arguments: ModelArguments,
        data_arguments: DataArguments,
        arguments: LoopArguments,
    ):
        self.accelerator, self.run, self.arguments = accelerator, run, arguments
        self.model_arguments, self.data_arguments = model_arguments, data_arguments
        self.step = 0
        self.best: dict | None = None
        self.history: list[dict] = []
        self.sums: dict[str, Any] = {}
        self.count = 0
        model = self._place(run.model)
        optimizer = self._build_optimizer(model)
        self.loader: Any = trainer.build_train_dataloader(
            run.dataset,
            accelerator,
            arguments.per_device_train_batch_size,
            arguments.seed,
            num_workers=arguments.dataloader_num_workers,
            persistent_workers=arguments.dataloader_num_workers > 0,
            pin_memory=accelerator.device.type == "cuda",
        )
        # A stream is one endless epoch.
        self.steps_per_epoch: int | None = None
        if run.train_records is not None:
            self.steps_per_epoch = math.ceil(len(self.loader) / arguments.gradient_accumulation_steps)
        self.max_steps = arguments.max_train_steps or math.ceil(
            arguments.num_train_epochs * cast(int, self.steps_per_epoch)
        )
        self.scheduler = build_scheduler(
            optimizer, arguments.lr_scheduler_type, self.max_steps, arguments.num_warmup_steps
        )
        self.average = ExponentialMovingAverage(model, arguments.ema_decay) if arguments.ema_decay else None
        # The schedule is not prepared: a prepared one would take a step for every process.
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if arguments.with_tracking:
            self._start_trackers()
        self.repository, self.api = arguments.hub_model_id, HfApi(token=arguments.hub_token)
        if arguments.push_to_hub and accelerator.is_main_process:
            # Now, so that a wrong token costs no training; the card needs the full name.
            name = self.repository or os.path.basename(os.path.abspath(arguments.output_dir))
            self.repository = self.api.create_repo(name, exist_ok=True).repo_id
        # Once more, as the Trainer does, so that dropout does not depend on how the model was made.
        set_seed(arguments.seed)

    @property
    def plain_model(self):
        """The model without what accelerate puts around it, compilation included: its names are those of a checkpoint."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    # ------------------------------------------------------------------------------------ building

    def _place(self, model):
        """The model as it is trained, on its device."""
        arguments = self.arguments
        if arguments.activation_checkpointing:
            model.activation_checkpointing_enable()
        if arguments.freeze_batch_norm:
            trainer.freeze_batch_norm(model)
        if self.accelerator.num_processes > 1:
            if arguments.joint_loss:
                use_joint_loss(model)
            if arguments.sync_batch_norm and not arguments.freeze_batch_norm:
                model = synchronize_batch_norm(model, self.accelerator.device)
        if is_sharded(self.accelerator):
            prepare_for_sharding(model)
        return model.to(self.accelerator.device)

    def _build_optimizer(self, model) -> torch.optim.Optimizer:
        arguments = self.arguments
        multiplier = arguments.image_encoder_lr_multiplier
        if multiplier is None:
            multiplier = IMAGE_ENCODER_MULTIPLIER if self.model_arguments.config_name is None else 1.0
        groups = parameter_groups(
            model, arguments.learning_rate, arguments.weight_decay, {IMAGE_ENCODER_PREFIX: multiplier}
        )
        return torch.optim.AdamW(groups, lr=arguments.learning_rate, fused=True)

    def _start_trackers(self) -> None:
        settings = {**asdict(self.arguments), **asdict(self.model_arguments), **asdict(self.data_arguments)}
        # Trackers publish what they get, and their files are uploaded with the model: no tokens.
        settings = {name: value for name, value in settings.items() if not name.endswith("token")}
        self.accelerator.init_trackers(
            "text_detection", {k: v for k, v in settings.items() if isinstance(v, (int, float, str, bool))}
        )

    # ------------------------------------------------------------------------------------ training

    def resume(self) -> None:
        """Goes on with the checkpoint that the arguments name, if they do."""
        checkpoint = self._checkpoint_to_resume()
        if checkpoint is not None:
            progress = read_progress(checkpoint)
            self.step, self.best, self.history = progress["step"], progress["best"], progress["log"]
            load_loop_state(self.accelerator, checkpoint, self.scheduler, self.average)
            logger.info("resumed from %s at step %d", checkpoint, self.step)

    def _checkpoint_to_resume(self) -> str | None:
        """Directory of the checkpoint to go on with, `None` for the start; looked at by one process, for all."""
        wanted = self.arguments.resume_from_checkpoint
        found: list[str | None] = [None, None]
        if wanted is not None and self.accelerator.is_main_process:
            try:
                if wanted.lower() in ("last", "true"):
                    found[0] = last_complete_checkpoint(self.arguments.output_dir, PROGRESS_NAME)
                    logger.info("resuming from %s", found[0] or "the start: there is no intact checkpoint")
                else:
                    check_checkpoint(wanted, PROGRESS_NAME)
                    found[0] = wanted
            except CheckpointError as error:
                found[1] = str(error)
        checkpoint, problem = broadcast_object_list(found)
        if problem is not None:
            raise CheckpointError(problem)
        return checkpoint

    def train(self) -> None:
        """Takes the steps that are left."""
        epoch, first = (0, self.step) if self.steps_per_epoch is None else divmod(self.step, self.steps_per_epoch)
        with tqdm(
            total=self.max_steps, initial=self.step, disable=not self.accelerator.is_main_process
        ) as self.progress_bar:
            self.model.train()
            while self.step < self.max_steps:
                self._train_epoch(epoch, first)
                epoch, first = epoch + 1, 0

    def _train_epoch(self, epoch: int, first: int) -> None:
        """An epoch from its optimizer step `first` on, or what is left of the run."""
        self.loader.set_epoch(epoch)
        active = self.loader
        if first:
            active = self.accelerator.skip_first_batches(
                self.loader, first * self.arguments.gradient_accumulation_steps
            )
            if hasattr(active, "set_epoch"):
                active.set_epoch(epoch)
        batch = None
        for batch in active:
            self._train_batch(batch)
            if self.accelerator.sync_gradients:
                self._end_step()
            if self.step >= self.max_steps:
                break
        if batch is None:
            raise ValueError("there is nothing to train on: the stream of training rows is empty")

    def _train_batch(self, batch: dict) -> None:
        accelerator = self.accelerator
        with accelerator.accumulate(self.model):
            outputs = self.model(**batch)
            accelerator.backward(outputs.loss)
            if accelerator.sync_gradients and self.arguments.max_grad_norm > 0:
                accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
            name = name if name == "loss" else f"loss_{name}"
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        self.count += 1

    def _end_step(self) -> None:
        """What follows an optimizer step: the averages, the log, a checkpoint."""
        arguments = self.arguments
        self.scheduler.step()
        self.step += 1
        self.progress_bar.update()
        if self.average is not None:
            self.average.update(self.plain_model, self.step)
        every = arguments.checkpointing_steps
        saves = bool(every) and self.step % cast(int, every) == 0
        # With every checkpoint too, so that the log of a resumed run is that of an unbroken one.
        if self.step % arguments.logging_steps == 0 or saves or self.step == self.max_steps:
            entry = {
                name: self.accelerator.reduce(value / self.count, "mean").item() for name, value in self.sums.items()
            }
            entry["learning_rate"] = self.scheduler.get_last_lr()[-1]
            self.sums, self.count = {}, 0
            if not math.isfinite(entry["loss"]):
                raise RuntimeError(f"The loss is {entry['loss']} at step {self.step}; lower the learning rate.")
            self._log(entry)
        if saves:
            if self.run.eval_records is not None:
                metrics = self.evaluate()
                self._log(metrics)
                if self.best is None or self.rank(metrics) >= self.rank(self.best):
                    self.best = {"step": self.step, **metrics}
            self._save_checkpoint()
            self.model.train()

    def _log(self, entry: dict) -> None:
        self.history.append({**entry, "step": self.step})
        logger.info(json.dumps(self.history[-1]))
        self.accelerator.log(entry, step=self.step)

    # ------------------------------------------------------------------------------------ measuring and saving

    def _averaged(self) -> contextlib.AbstractContextManager:
        """The averaged weights in the model, where there are any."""
        return self.average.applied(self.plain_model) if self.average is not None else contextlib.nullcontext()

    def evaluate(self) -> dict:
        """
        Figures of the averaged weights on the images to measure on, by the names `eval_...`; of several sets
        `eval_NAME_...`, and their means.
        """
        sets = self.run.eval_records or ()
        with self._averaged():
            if not isinstance(sets, dict):
                return self._measure(sets, "eval")
            prefixes = [f"eval_{name}" for name in sets]
            parts = [self._measure(records, prefix) for records, prefix in zip(sets.values(), prefixes)]
        figures = {name: value for part in parts for name, value in part.items()}
        return {**figures, **mean_figures(parts, prefixes, "eval")}

    def _measure(self, records: Sequence[TextRecord], prefix: str) -> dict:
        figures = trainer.evaluate_records(
            self.plain_model,
            self.run.processor,
            records,
            protocol=self.arguments.protocol,
            accelerator=self.accelerator,
            num_workers=self.arguments.dataloader_num_workers,
            progress=True,
        )
        return {f"{prefix}_{name}": value for name, value in figures.items()}

    def _whole_model(self) -> PreTrainedModel:
        """The model with all its weights in this process; all processes have to ask for it together."""
        if not is_sharded(self.accelerator):
            return self.plain_model
        state = self.accelerator.get_state_dict(self.model)
        model = TCMForTextDetection(self.plain_model.config)
        if self.accelerator.is_main_process:  # the others are given nothing
            model.load_state_dict(shaped_like(state, model.state_dict()))
        return model

    def save_pretrained(self, directory: str | os.PathLike, model: PreTrainedModel | None = None) -> None:
        """
        Saves the model with averaged weights, as a user loads it.

        Args:
            directory (`str` or `os.PathLike`): where to.
            model ([`TCMForTextDetection`], *optional*): the whole model, where processes have parts of it.
        """
        model = self.plain_model if model is None else model
        # On the device it is on: by itself a pipeline moves its model to the first GPU.
        detector = TextDetectionPipeline(
            model=model, image_processor=self.run.processor, task="text-detection", device=model.device
        )
        with self._averaged():
            detector.save_pretrained(directory)

    def _save_checkpoint(self) -> None:
        accelerator, output_dir = self.accelerator, self.arguments.output_dir
        with staged_checkpoint(accelerator, output_dir, self.step) as directory:
            save_loop_state(accelerator, os.path.join(directory, "state"), self.scheduler, self.average)
            model = self._whole_model()
            if accelerator.is_main_process:
                self.save_pretrained(directory, model)
                progress = {"step": self.step, "best": self.best, "log": self.history}
                write_json(os.path.join(directory, PROGRESS_NAME), json_ready(progress))
        if accelerator.is_main_process:
            best_step = None if self.best is None else self.best["step"]
            rotate_checkpoints(output_dir, self.arguments.checkpoints_total_limit, best_step, PROGRESS_NAME)
        accelerator.wait_for_everyone()

    def finish(self, total_batch_size: int) -> None:
        """
        Measures the end, takes the best checkpoint where that is better, and writes model, card and figures.

        Args:
            total_batch_size (`int`): Samples of an optimizer step, for the card.
        """
        results = {"step": self.step, "log": self.history}
        metrics = None
        if self.run.eval_records is not None:
            metrics = self.evaluate()
            if (
                self.arguments.load_best_model_at_end
                and self.best is not None
                and self.rank(self.best) > self.rank(metrics)
            ):
                metrics = self._load_best() or metrics
            results.update(metrics)
            logger.info(json.dumps(metrics))
        self.accelerator.wait_for_everyone()
        model = self._whole_model()
        if self.accelerator.is_main_process:
            with staged_files(self.arguments.output_dir) as folder:
                self.save_pretrained(folder, model)
            self._write_card(metrics, total_batch_size)
            path = os.path.join(self.arguments.output_dir, "all_results.json")
            with saving(path):
                write_json(path, json_ready(results))
            if self.arguments.push_to_hub:
                self.api.upload_folder(
                    repo_id=str(self.repository),
                    folder_path=self.arguments.output_dir,
                    ignore_patterns=["checkpoint-*", "_*"],
                )
        self.accelerator.end_training()

    def rank(self, metrics: dict) -> float:
        """
        The figure that chooses the best checkpoint, for comparisons; protocols that divide by nothing give NaN where nothing
        was found, which is the worst.
        """
        value = metrics.get(f"eval_{self.arguments.metric_for_best_model.removeprefix('eval_')}")
        return -1.0 if value is None or math.isnan(value) else value  # a checkpoint stores NaN as None

    def _load_best(self) -> dict | None:
        """Puts the weights of the best checkpoint into the model; its figures, or `None` where it cannot be used."""
        best = self.best or {}
        directory = os.path.join(self.arguments.output_dir, f"checkpoint-{best['step']}")
        damage = find_damage(directory, PROGRESS_NAME) if os.path.isdir(directory) else "it is not there"
        if damage is not None:
            logger.warning("the best checkpoint %s cannot be used (%s): the last weights are kept", directory, damage)
            return None
        logger.info("the best checkpoint is %s", directory)
        plain = self.plain_model
        # Its weights are averaged ones already.
        state = TCMForTextDetection.from_pretrained(directory).state_dict()
        if is_sharded(self.accelerator):
            # Each process takes its own part.
            state = shaped_like(state, plain.state_dict())
            set_model_state_dict(plain, dict(state), options=StateDictOptions(full_state_dict=True))
        else:
            plain.load_state_dict(state)
        self.average = None
        return {name: value for name, value in best.items() if name != "step"}

    def _write_card(self, metrics: dict | None, total_batch_size: int) -> None:
        arguments = self.arguments
        facts = self.run.describe(self.model_arguments, self.data_arguments)
        write_model_card(
            arguments.output_dir,
            self.plain_model.config,
            training={
                "images": facts["num_photos"],
                "sources": facts["sources"],
                "steps": self.step,
                "batch": total_batch_size,
                "learning rate": f"{arguments.learning_rate:g}, {arguments.lr_scheduler_type}",
                "precision": arguments.mixed_precision,
                "seed": arguments.seed,
            },
            # What was trained on measures nothing.
            metrics=None if self.data_arguments.evaluate_on_train else metrics,
            protocol=arguments.protocol,
            start=facts["start"],
            dataset=facts["dataset"],
            repository=self.repository,
        )
