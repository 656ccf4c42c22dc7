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
Trains or fine-tunes TCM for text detection with the Trainer of transformers.

Data come from the Hub (`--dataset_name`), from a folder that `tcm-hf prepare` wrote (`--train_dir`), or in ICDAR 2015's
form:

    python examples/train_text_detection.py --model_name_or_path tcm-tiny \
        --image_dir icdar2015/images --gt_dir icdar2015/gt --holdout_last_digit 1 --output_dir runs/icdar2015 \
        --max_steps 2000 --eval_strategy steps --eval_steps 500 --save_steps 500 --per_device_train_batch_size 8

Start from a checkpoint of this package (`--model_name_or_path`), from a CLIP model (`--clip_name_or_path`) or from scratch
(`--config_name`). Words rendered on backgrounds and on the photos themselves can be mixed in, which is what makes training
from scratch on few photos work (`--synthetic_fraction`, `--paste_probability`). `--resume_from_checkpoint last` goes on with
an interrupted run as if nothing had happened. `accelerate launch` runs the same on several processes. examples/README.md has
recipes.
"""

import contextlib
import logging
import math
import sys

from transformers import HfArgumentParser, set_seed

from tcm_hf.data.collate import text_detection_collate
from tcm_hf.training.checkpoint import run_lock
from tcm_hf.training.setup import (
    DataArguments,
    ModelArguments,
    build_train_dataset,
    choose_subset,
    load_model,
    load_processor,
    read_records,
)
from tcm_hf.training.trainer import CheckpointError, TCMTrainer, TCMTrainingArguments


logger = logging.getLogger(__name__)


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TCMTrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_arguments, data_arguments, training_arguments = parser.parse_json_file(sys.argv[1])
    else:
        model_arguments, data_arguments, training_arguments = parser.parse_args_into_dataclasses()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    set_seed(training_arguments.seed)
    with contextlib.ExitStack() as stack:
        try:
            if training_arguments.process_index == 0:
                stack.enter_context(run_lock(training_arguments.output_dir))
            run(model_arguments, data_arguments, training_arguments)
        except (CheckpointError, OSError) as error:
            logger.debug("", exc_info=True)
            sys.exit(f"error: {str(error).strip().splitlines()[0]}")


def run(model_arguments, data_arguments, training_arguments):
    try:
        model = load_model(model_arguments)
        processor = load_processor(model_arguments, data_arguments, model.config)
        train_records, eval_records = read_records(data_arguments)
        if train_records is not None:
            output_dir = training_arguments.output_dir if training_arguments.process_index == 0 else None
            train_records = choose_subset(train_records, data_arguments, output_dir)
            if data_arguments.evaluate_on_train:
                eval_records = train_records
        dataset = build_train_dataset(
            train_records,
            data_arguments,
            model.config,
            processor,
            seed=training_arguments.seed,
            total_batch_size=training_arguments.train_batch_size
            * training_arguments.world_size
            * training_arguments.gradient_accumulation_steps,
        )
        if train_records is None and training_arguments.max_steps <= 0:
            raise ValueError("a stream has no end: --streaming needs --max_steps")
        if eval_records is None and training_arguments.eval_strategy != "no":
            raise ValueError(
                "--eval_strategy needs pictures to measure on: --holdout_last_digit, --train_val_split, "
                "--validation_split, --validation_dir or --validation_image_dir"
            )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if eval_records is not None:
        logger.info("%d photos to measure on", len(eval_records))
    if training_arguments.image_encoder_lr_multiplier is None and model_arguments.config_name is not None:
        training_arguments.image_encoder_lr_multiplier = 1.0

    try:
        trainer = TCMTrainer(
            model=model,
            args=training_arguments,
            train_dataset=dataset,
            eval_dataset=eval_records,
            data_collator=text_detection_collate,
            processing_class=processor,
        )
        trainer.check_arguments()
    except ValueError as error:
        sys.exit(f"error: {error}")
    checkpoint = training_arguments.resume_from_checkpoint
    # A run that is restarted by a script starts anew where nothing was saved yet.
    checkpoint = "last" if str(checkpoint).lower() == "true" else checkpoint
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if not math.isfinite(result.training_loss):
        raise RuntimeError(f"The training loss is {result.training_loss}; lower the learning rate and try again.")
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    metrics = None
    if eval_records is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.card_facts = {
        "start": model_arguments.model_name_or_path or model_arguments.clip_name_or_path,
        "dataset": data_arguments.dataset_name,
        "num_photos": None if train_records is None else len(train_records),
        "rendered_words": bool(data_arguments.synthetic_fraction or data_arguments.paste_probability),
        # What was trained on measures nothing.
        "metrics": None if data_arguments.evaluate_on_train else metrics,
    }
    if training_arguments.push_to_hub:
        trainer.push_to_hub()  # saves the model and writes the card first
    else:
        trainer.save_model()
        trainer.create_model_card()


if __name__ == "__main__":
    main()
