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
"""A training run with the Trainer, from options to a model card: what `tcm-hf train` does."""

import contextlib
import logging
import math

from transformers import set_seed

from ..data.collate import text_detection_collate
from .arguments import TCMTrainingArguments
from .checkpoint import run_lock
from .options import DataArguments, ModelArguments, refusing_options
from .setup import TrainingRun, prepare_run
from .trainer import TCMTrainer


logger = logging.getLogger(__name__)


def train(
    model_arguments: ModelArguments, data_arguments: DataArguments, training_arguments: TCMTrainingArguments
) -> None:
    """
    Trains with [`TCMTrainer`], measures, and leaves model, figures and card in `training_arguments.output_dir`.

    Args:
        model_arguments ([`ModelArguments`]): The source of the model, and what is changed about it.
        data_arguments ([`DataArguments`]): The sources of data, and how samples are made.
        training_arguments ([`TCMTrainingArguments`]): How it is trained.

    Raises:
        OptionError: if the arguments contradict each other, or a source cannot be read.
        CheckpointError: if a checkpoint cannot be written, or not be resumed.
        BlockingIOError: if another process trains into that directory.
        OSError: if something cannot be written.
        RuntimeError: if the loss is not finite.
    """
    set_seed(training_arguments.seed)
    with contextlib.ExitStack() as stack:
        if training_arguments.process_index == 0:
            stack.enter_context(run_lock(str(training_arguments.output_dir)))
        with refusing_options():
            run = prepare_run(
                model_arguments,
                data_arguments,
                seed=training_arguments.seed,
                total_batch_size=training_arguments.train_batch_size
                * training_arguments.world_size
                * training_arguments.gradient_accumulation_steps,
                output_dir=training_arguments.output_dir if training_arguments.process_index == 0 else None,
            )
            trainer = _build_trainer(run, model_arguments, training_arguments)
        _train_and_measure(trainer, run, model_arguments, data_arguments)


def _build_trainer(
    run: TrainingRun, model_arguments: ModelArguments, training_arguments: TCMTrainingArguments
) -> TCMTrainer:
    if run.train_records is None and training_arguments.max_steps <= 0:
        raise ValueError("a stream has no end: --streaming needs --max_steps")
    if run.eval_records is None and training_arguments.eval_strategy != "no":
        raise ValueError(
            "--eval_strategy needs images to measure on: --holdout_last_digit, --train_val_split, "
            "--validation_split, --validation_dir, --validation_image_dir or --validation_sources"
        )
    if isinstance(run.eval_records, dict):
        logger.info(
            "%s", ", ".join(f"{len(part)} images to measure on in {key}" for key, part in run.eval_records.items())
        )
    elif run.eval_records is not None:
        logger.info("%d images to measure on", len(run.eval_records))
    if training_arguments.image_encoder_lr_multiplier is None and model_arguments.config_name is not None:
        training_arguments.image_encoder_lr_multiplier = 1.0
    trainer = TCMTrainer(
        model=run.model,
        args=training_arguments,
        train_dataset=run.dataset,
        eval_dataset=run.eval_records,
        data_collator=text_detection_collate,
        processing_class=run.processor,
    )
    trainer.check_arguments()
    return trainer


def _train_and_measure(
    trainer: TCMTrainer, run: TrainingRun, model_arguments: ModelArguments, data_arguments: DataArguments
) -> None:
    checkpoint = trainer.args.resume_from_checkpoint
    # A run that is restarted by a script starts anew where nothing was saved yet.
    checkpoint = "last" if str(checkpoint).lower() == "true" else checkpoint
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if not math.isfinite(result.training_loss):
        raise RuntimeError(f"The training loss is {result.training_loss}; lower the learning rate and try again.")
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    metrics = None
    if run.eval_records is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.card_facts = {
        **run.describe(model_arguments, data_arguments),
        "rendered_words": bool(data_arguments.synthetic_fraction or data_arguments.paste_probability),
        # What was trained on measures nothing.
        "metrics": None if data_arguments.evaluate_on_train else metrics,
    }
    if trainer.args.push_to_hub:
        trainer.push_to_hub()  # saves the model and writes the card first
    else:
        trainer.save_model()
        trainer.create_model_card()
