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

Data come from the Hub (--dataset_name), from a folder that `tcm-hf prepare` wrote (--train_dir), or in ICDAR 2015's form.
Start from a checkpoint of this package (--model_name_or_path), from a CLIP model (--clip_name_or_path) or from scratch
(--config_name). `--resume_from_checkpoint last` goes on with an interrupted run as if nothing had happened.
`accelerate launch -m tcm_hf train ...` runs the same on several processes.

  tcm-hf train --model_name_or_path tcm-tiny --image_dir icdar2015/images --gt_dir icdar2015/gt --holdout_last_digit 1 \\
      --output_dir runs/icdar2015 --max_steps 2000 --eval_strategy steps --eval_steps 500 --save_steps 500
  tcm-hf train settings.json
"""

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..training.options import DataArguments, ModelArguments, OptionError
from .parser import CommandParser, advanced


# What the short help shows of the options.
_MODEL_OPTIONS = ("model_name_or_path", "clip_name_or_path", "config_name", "detector")
_DATA_OPTIONS = (
    "dataset_name",
    "train_dir",
    "train_format",
    "validation_dir",
    "image_dir",
    "gt_dir",
    "holdout_last_digit",
    "train_val_split",
    "crop_size",
    "synthetic_fraction",
    "paste_probability",
)
# Of `TrainingArguments`, which only transformers knows; with this package's words.
_TRAINING_OPTIONS = {
    "output_dir": "Where checkpoints and the model go.",
    "max_steps": "Optimizer steps, instead of --num_train_epochs.",
    "per_device_train_batch_size": "Samples of one process's batch.",
    "learning_rate": "Rate of all but the image encoder; default 1e-4.",
    "eval_strategy": "When to measure: no, steps (with --eval_steps) or epoch.",
    "save_steps": "Steps between two checkpoints.",
    "resume_from_checkpoint": "A checkpoint, or last, the newest intact one.",
}


def add_arguments(parser: CommandParser) -> None:
    """Declares the arguments of `tcm-hf train`: those of the short help; transformers parses them all."""
    parser.usage = "tcm-hf train [options]\n       tcm-hf train SETTINGS.json"
    parser.delegate = _parser_of_all
    for title, options, kind in (("model", _MODEL_OPTIONS, ModelArguments), ("data", _DATA_OPTIONS, DataArguments)):
        group = parser.add_argument_group(title)
        for item in fields(kind):
            action = group.add_argument(f"--{item.name}", metavar="VALUE", help=item.metadata["help"])
            if item.name not in options:
                advanced(action)
    group = parser.add_argument_group("training")
    for name, text in _TRAINING_OPTIONS.items():
        group.add_argument(f"--{name}", metavar="VALUE", help=text)
    parser.epilog = (
        "Every option of transformers' TrainingArguments works too; --help-all lists them all. A JSON file of such options may\n"
        "stand alone."
    )


def _parser_of_all():
    from ..training.arguments import TCMTrainingArguments

    usage = "tcm-hf train [options]\n       tcm-hf train SETTINGS.json"
    return _option_parser(TCMTrainingArguments, prog="tcm-hf train", usage=usage)


def _option_parser(kind: type, **settings):
    from transformers import HfArgumentParser

    classes: Any = (ModelArguments, DataArguments, kind)
    return HfArgumentParser(classes, **settings)


def _parse(parser, words: list[str]) -> tuple:
    """The options of a command line, or of the JSON file that is its only word."""
    try:
        if len(words) == 1 and words[0].endswith(".json"):
            return parser.parse_json_file(words[0])
        *options, rest = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
    except (ValueError, OSError) as error:
        raise OptionError(str(error)) from error
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return tuple(options)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf train`.

    Returns:
        `int`: 0, or 2 for an unknown option.

    Raises:
        ValueError, OSError, RuntimeError: as [`~training.run.train`] does.
    """
    from ..training.run import train

    try:
        options = _parse(_parser_of_all(), arguments.words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    _log_to_stderr(logging.INFO)
    train(*options)
    return 0


def main(train: Callable[..., None], kind: type, level: int = logging.INFO) -> None:
    """
    Runs a training script, with the options of the process.

    Args:
        train (`Callable`): `train(model_arguments, data_arguments, arguments)`.
        kind (`type`): Dataclass of the last of them.
        level (`int`, *optional*, defaults to `logging.INFO`): Of the log.

    Raises:
        SystemExit: with one line that starts with `error:`, for options that cannot be used, a checkpoint that cannot be written
            or resumed, and a file that cannot be written.
    """
    from ..training.checkpoint import CheckpointError

    try:
        options = _parse(_option_parser(kind), sys.argv[1:])
        _log_to_stderr(level)
        train(*options)
    except OptionError as error:
        sys.exit(f"error: {error}")
    except (CheckpointError, OSError) as error:
        logging.getLogger(__name__).debug("", exc_info=True)
        sys.exit(f"error: {str(error).strip().splitlines()[0]}")


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=level)
