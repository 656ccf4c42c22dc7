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
Trains or fine-tunes TCM for text detection in a loop of its own, on accelerate.

It is what `train_text_detection.py` does with the Trainer, spelled out, for those who want to change the loop. The
arguments of model and data are the same:

    accelerate launch --num_processes 2 examples/train_text_detection_no_trainer.py \
        --model_name_or_path tcm-tiny --image_dir icdar2015/images --gt_dir icdar2015/gt \
        --holdout_last_digit 1 --output_dir runs/icdar2015 --max_train_steps 2000 --checkpointing_steps 500

A run on n processes is the run of one process with an n times larger batch: order of samples, loss and BatchNorm statistics
are those of the joint batch. Only dropout draws other random numbers.
"""

import contextlib
import json
import logging
import math
import os
import sys
from dataclasses import asdict, dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from huggingface_hub import HfApi
from tqdm.auto import tqdm
from transformers import HfArgumentParser

from tcm_hf import TextDetectionPipeline
from tcm_hf.metrics.report import json_ready
from tcm_hf.model.model_card import write_model_card
from tcm_hf.training.checkpoint import (
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
from tcm_hf.training.setup import (
    DataArguments,
    ModelArguments,
    build_train_dataset,
    choose_subset,
    load_model,
    load_processor,
    read_records,
)
from tcm_hf.training.trainer import (
    IMAGE_ENCODER_MULTIPLIER,
    IMAGE_ENCODER_PREFIX,
    ExponentialMovingAverage,
    bf16_is_supported,
    build_scheduler,
    build_train_dataloader,
    evaluate_records,
    freeze_batch_norm,
    parameter_groups,
    synchronize_batch_norm,
    use_joint_loss,
)


logger = logging.getLogger(__name__)


@dataclass
class LoopArguments:
    output_dir: str = field(metadata={"help": "Where checkpoints and the model go."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Samples of one process's batch."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches between two optimizer steps."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Rate of all but the image encoder."})
    image_encoder_lr_multiplier: float | None = field(
        default=None, metadata={"help": "Image encoder's rate over the others'; 0.1, or 1 from scratch."}
    )
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of matrices and convolutions."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Largest norm of the gradient; 0 turns it off."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over the data."})
    max_train_steps: int | None = field(default=None, metadata={"help": "Optimizer steps, instead of epochs."})
    lr_scheduler_type: str = field(default="polynomial", metadata={"help": "polynomial, cosine or another."})
    num_warmup_steps: int = field(default=0, metadata={"help": "First steps, over which the rate grows."})
    ema_decay: float = field(default=0.999, metadata={"help": "Decay of the averaged weights; 0 turns it off."})
    joint_loss: bool = field(default=True, metadata={"help": "Several processes: loss of their joint batch."})
    sync_batch_norm: bool = field(default=True, metadata={"help": "Several processes: joint batch's statistics."})
    freeze_batch_norm: bool = field(default=False, metadata={"help": "Keep BatchNorm's stored statistics."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, bf16 or fp16; by default bf16 where the hardware has it."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that make samples."})
    activation_checkpointing: bool = field(default=False, metadata={"help": "Trade time for memory."})
    seed: int = field(default=42, metadata={"help": "Seed of every random choice."})
    checkpointing_steps: int | None = field(default=None, metadata={"help": "Steps between two checkpoints."})
    checkpoints_total_limit: int | None = field(
        default=None, metadata={"help": "Newest checkpoints that are kept; the best one is kept too."}
    )
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the checkpoint of the best hmean, where they are measured."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "A checkpoint, or last, the newest intact one."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two log lines."})
    protocol: str = field(default="icdar2015", metadata={"help": "Protocol of the evaluation."})
    with_tracking: bool = field(default=False, metadata={"help": "Report to experiment trackers."})
    report_to: str | None = field(
        default=None, metadata={"help": "Which: tensorboard, wandb, trackio, ... or all, the default of the former."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the model at the end."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository to upload to."})
    hub_token: str | None = field(default=None, metadata={"help": "Token for it."})


def checkpoint_directory(arguments, step):
    return os.path.join(arguments.output_dir, f"checkpoint-{step}")


def save_pretrained(accelerator, model, processor, average, directory):
    """The model with averaged weights, as a user loads it."""
    plain = accelerator.unwrap_model(model)
    # On the device it is on: by itself a pipeline moves its model to the first GPU.
    detector = TextDetectionPipeline(
        model=plain, image_processor=processor, task="text-detection", device=accelerator.device
    )
    with average.applied(plain) if average is not None else contextlib.nullcontext():
        detector.save_pretrained(directory)


def rank(metrics):
    """hmean for comparisons; protocols that divide by nothing give NaN where nothing was found, which is the worst."""
    hmean = metrics["eval_hmean"]  # None: NaN, as a checkpoint stores it
    return -1.0 if hmean is None or math.isnan(hmean) else hmean


def save_checkpoint(accelerator, model, processor, average, scheduler, arguments, step, best, history):
    with staged_checkpoint(accelerator, arguments.output_dir, step) as directory:
        save_loop_state(accelerator, os.path.join(directory, "state"), scheduler, average)
        if accelerator.is_main_process:
            save_pretrained(accelerator, model, processor, average, directory)
            progress = {"step": step, "best": best, "log": history}
            write_json(os.path.join(directory, PROGRESS_NAME), json_ready(progress))
    if accelerator.is_main_process:
        best_step = None if best is None else best["step"]
        rotate_checkpoints(arguments.output_dir, arguments.checkpoints_total_limit, best_step, PROGRESS_NAME)
    accelerator.wait_for_everyone()


def checkpoint_to_resume(accelerator, arguments):
    """Directory of the checkpoint to go on with, `None` for the start; looked at by one process, for all."""
    wanted, found = arguments.resume_from_checkpoint, [None, None]
    if wanted is not None and accelerator.is_main_process:
        try:
            if wanted.lower() in ("last", "true"):
                found[0] = last_complete_checkpoint(arguments.output_dir, PROGRESS_NAME)
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


def evaluate(accelerator, model, processor, average, records, arguments, progress=True):
    plain = accelerator.unwrap_model(model)
    settings = {
        "protocol": arguments.protocol,
        "accelerator": accelerator,
        "num_workers": arguments.dataloader_num_workers,
        "progress": progress,
    }
    if average is None:
        figures = evaluate_records(plain, processor, records, **settings)
    else:
        with average.applied(plain):
            figures = evaluate_records(plain, processor, records, **settings)
    return {f"eval_{name}": value for name, value in figures.items()}


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, LoopArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_arguments, data_arguments, arguments = parser.parse_json_file(sys.argv[1])
    else:
        model_arguments, data_arguments, arguments = parser.parse_args_into_dataclasses()
    # Without this, processes that torchrun starts on a machine without GPU would not know of each other.
    arguments.use_cpu = arguments.use_cpu or not torch.accelerator.is_available()
    precision = arguments.mixed_precision or ("bf16" if bf16_is_supported(arguments.use_cpu) else "no")
    if arguments.report_to == "none":
        arguments.report_to, arguments.with_tracking = None, False
    tracking = arguments.with_tracking or arguments.report_to is not None
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=arguments.use_cpu,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=(arguments.report_to or "all") if tracking else None,
        project_dir=arguments.output_dir,
    )
    level = logging.INFO if accelerator.is_main_process else logging.ERROR
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=level)
    if arguments.report_to not in (None, "all") and not accelerator.log_with:
        sys.exit(f"error: --report_to {arguments.report_to}: it is not installed (pip install {arguments.report_to})")
    with contextlib.ExitStack() as stack:
        try:
            if accelerator.is_main_process:
                stack.enter_context(run_lock(arguments.output_dir))
                recover(arguments.output_dir)
            train(accelerator, model_arguments, data_arguments, arguments, precision, tracking)
        except (CheckpointError, OSError) as error:
            logger.debug("", exc_info=True)
            sys.exit(f"error: {str(error).strip().splitlines()[0]}")


def train(accelerator, model_arguments, data_arguments, arguments, precision, tracking):
    set_seed(arguments.seed)
    total_batch_size = (
        arguments.per_device_train_batch_size * accelerator.num_processes * arguments.gradient_accumulation_steps
    )
    try:
        model = load_model(model_arguments)
        processor = load_processor(model_arguments, data_arguments, model.config)
        train_records, eval_records = read_records(data_arguments)
        if train_records is not None:
            output_dir = arguments.output_dir if accelerator.is_main_process else None
            train_records = choose_subset(train_records, data_arguments, output_dir)
            if data_arguments.evaluate_on_train:
                eval_records = train_records
        dataset = build_train_dataset(
            train_records, data_arguments, model.config, processor, arguments.seed, total_batch_size
        )
        if train_records is None and arguments.max_train_steps is None:
            raise ValueError("a stream has no end: --streaming needs --max_train_steps")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")

    if arguments.activation_checkpointing:
        model.activation_checkpointing_enable()
    if arguments.freeze_batch_norm:
        freeze_batch_norm(model)
    if accelerator.num_processes > 1:
        if arguments.joint_loss:
            use_joint_loss(model)
        if arguments.sync_batch_norm and not arguments.freeze_batch_norm:
            model = synchronize_batch_norm(model, accelerator.device)
    model = model.to(accelerator.device)
    multiplier = arguments.image_encoder_lr_multiplier
    if multiplier is None:
        multiplier = IMAGE_ENCODER_MULTIPLIER if model_arguments.config_name is None else 1.0
    groups = parameter_groups(
        model, arguments.learning_rate, arguments.weight_decay, {IMAGE_ENCODER_PREFIX: multiplier}
    )
    optimizer = torch.optim.AdamW(groups, lr=arguments.learning_rate, fused=True)
    loader = build_train_dataloader(
        dataset,
        accelerator,
        arguments.per_device_train_batch_size,
        arguments.seed,
        num_workers=arguments.dataloader_num_workers,
        persistent_workers=arguments.dataloader_num_workers > 0,
        pin_memory=accelerator.device.type == "cuda",
    )
    # A stream is one endless epoch.
    batches_per_epoch = None if train_records is None else len(loader)
    steps_per_epoch = None
    if batches_per_epoch is not None:
        steps_per_epoch = math.ceil(batches_per_epoch / arguments.gradient_accumulation_steps)
    max_steps = arguments.max_train_steps or math.ceil(arguments.num_train_epochs * steps_per_epoch)
    scheduler = build_scheduler(optimizer, arguments.lr_scheduler_type, max_steps, arguments.num_warmup_steps)
    average = ExponentialMovingAverage(model, arguments.ema_decay) if arguments.ema_decay else None
    model, optimizer = accelerator.prepare(model, optimizer)
    # The schedule is not prepared: a prepared one would take a step for every process.
    if tracking:
        settings = {**asdict(arguments), **asdict(model_arguments), **asdict(data_arguments)}
        # Trackers publish what they get, and their files are uploaded with the model: no tokens.
        settings = {name: value for name, value in settings.items() if not name.endswith("token")}
        accelerator.init_trackers(
            "text_detection", {k: v for k, v in settings.items() if isinstance(v, (int, float, str, bool))}
        )

    repository, api = arguments.hub_model_id, HfApi(token=arguments.hub_token)
    if arguments.push_to_hub and accelerator.is_main_process:
        # Now, so that a wrong token costs no training; the card needs the full name.
        name = repository or os.path.basename(os.path.abspath(arguments.output_dir))
        repository = api.create_repo(name, exist_ok=True).repo_id

    # Once more, as the Trainer does, so that dropout does not depend on how the model was made.
    set_seed(arguments.seed)
    step, best, history = 0, None, []
    checkpoint = checkpoint_to_resume(accelerator, arguments)
    if checkpoint is not None:
        progress = read_progress(checkpoint)
        step, best, history = progress["step"], progress["best"], progress["log"]
        load_loop_state(accelerator, checkpoint, scheduler, average)
        logger.info("resumed from %s at step %d", checkpoint, step)

    epoch, first = (0, step) if steps_per_epoch is None else divmod(step, steps_per_epoch)
    sums, count = {}, 0
    bar = tqdm(total=max_steps, initial=step, disable=not accelerator.is_main_process)
    model.train()
    while step < max_steps:
        loader.set_epoch(epoch)
        active = loader
        if first:
            active = accelerator.skip_first_batches(loader, first * arguments.gradient_accumulation_steps)
            if hasattr(active, "set_epoch"):
                active.set_epoch(epoch)
            first = 0
        batch = None
        for batch in active:
            with accelerator.accumulate(model):
                outputs = model(**batch)
                accelerator.backward(outputs.loss)
                if accelerator.sync_gradients and arguments.max_grad_norm > 0:
                    accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
                name = name if name == "loss" else f"loss_{name}"
                sums[name] = sums.get(name, 0.0) + value.detach()
            count += 1
            if not accelerator.sync_gradients:
                continue
            scheduler.step()
            step += 1
            bar.update()
            if average is not None:
                average.update(accelerator.unwrap_model(model), step)
            saves = bool(arguments.checkpointing_steps) and step % arguments.checkpointing_steps == 0
            # With every checkpoint too, so that the log of a resumed run is that of an unbroken one.
            if step % arguments.logging_steps == 0 or saves or step == max_steps:
                entry = {name: accelerator.reduce(value / count, "mean").item() for name, value in sums.items()}
                entry["learning_rate"] = scheduler.get_last_lr()[-1]
                sums, count = {}, 0
                if not math.isfinite(entry["loss"]):
                    raise RuntimeError(f"The loss is {entry['loss']} at step {step}; lower the learning rate.")
                history.append({**entry, "step": step})
                logger.info(json.dumps(history[-1]))
                accelerator.log(entry, step=step)
            if saves:
                if eval_records is not None:
                    metrics = evaluate(accelerator, model, processor, average, eval_records, arguments)
                    history.append({**metrics, "step": step})
                    logger.info(json.dumps(history[-1]))
                    accelerator.log(metrics, step=step)
                    if best is None or rank(metrics) >= rank(best):
                        best = {"step": step, **metrics}
                save_checkpoint(accelerator, model, processor, average, scheduler, arguments, step, best, history)
                model.train()
            if step >= max_steps:
                break
        if batch is None:
            raise ValueError("there is nothing to train on: the stream of training rows is empty")
        epoch += 1
    bar.close()

    results = {"step": step, "log": history}
    metrics = None
    if eval_records is not None:
        metrics = evaluate(accelerator, model, processor, average, eval_records, arguments)
        if arguments.load_best_model_at_end and best is not None and rank(best) > rank(metrics):
            directory = checkpoint_directory(arguments, best["step"])
            damage = find_damage(directory, PROGRESS_NAME) if os.path.isdir(directory) else "it is not there"
            if damage is None:
                logger.info("the best checkpoint is %s", directory)
                plain = accelerator.unwrap_model(model)
                # Its weights are averaged ones already.
                plain.load_state_dict(type(plain).from_pretrained(directory).state_dict())
                metrics = {name: value for name, value in best.items() if name != "step"}
                average = None
            else:
                logger.warning(
                    "the best checkpoint %s cannot be used (%s): the last weights are kept", directory, damage
                )
        results.update(metrics)
        logger.info(json.dumps(metrics))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with staged_files(arguments.output_dir) as folder:
            save_pretrained(accelerator, model, processor, average, folder)
        write_model_card(
            arguments.output_dir,
            accelerator.unwrap_model(model).config,
            training={
                "photos": None if train_records is None else len(train_records),
                "steps": step,
                "batch": total_batch_size,
                "learning rate": f"{arguments.learning_rate:g}, {arguments.lr_scheduler_type}",
                "precision": precision,
                "seed": arguments.seed,
            },
            metrics=None if data_arguments.evaluate_on_train else metrics,
            protocol=arguments.protocol,
            start=model_arguments.model_name_or_path or model_arguments.clip_name_or_path,
            dataset=data_arguments.dataset_name,
            repository=repository,
        )
        path = os.path.join(arguments.output_dir, "all_results.json")
        with saving(path):
            write_json(path, json_ready(results))
        if arguments.push_to_hub:
            api.upload_folder(
                repo_id=repository, folder_path=arguments.output_dir, ignore_patterns=["checkpoint-*", "_*"]
            )
    accelerator.end_training()


if __name__ == "__main__":
    main()
