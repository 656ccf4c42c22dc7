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
  tcm-hf train examples/configs/tcm-small-phase2.json --output_dir runs/small --max_steps 2000
"""

import argparse
import difflib
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..training.options import DataArguments, ModelArguments, OptionError
from .parser import CommandParser, advanced


# A first word that ends so is a file of options.
CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
_USAGE = "tcm-hf train [CONFIG] [options]"
# What the short help shows of the options.
_MODEL_OPTIONS = ("model_name_or_path", "clip_name_or_path", "config_name", "detector")
_DATA_OPTIONS = (
    "train_dir",
    "train_format",
    "dataset_name",
    "image_dir",
    "gt_dir",
    "train_sources",
    "train_weights",
    "data_root",
    "validation_dir",
    "holdout_last_digit",
    "train_val_split",
    "crop_size",
    "synthetic_fraction",
    "paste_probability",
)
# What `--official` changes about the defaults: the rules of the papers' own configurations.
OFFICIAL = {
    "image_encoder_lr_multiplier": 0.1,
    "freeze_text_tower": True,  # their rate of 0 grows to 1e-7, which is a slip
    "no_decay": r"\.layers\.\d+\.norm",  # of the prompt decoders; all other vectors decay too
    "lr_scheduler_type": "polynomial",
    "lr_scheduler_kwargs": {"by_epoch": True},
    "max_grad_norm": 0.0,
    "ema_decay": 0.0,
    "joint_loss": False,
    "num_train_epochs": 1200,
    "per_device_train_batch_size": 16,  # on each of eight GPUs
}
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
    parser.usage = _USAGE
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
    group.add_argument("--official", action="store_true", help="Defaults as in the papers' configurations.")
    parser.epilog = (
        "Every option of transformers' TrainingArguments works too; --help-all lists them all. CONFIG is a JSON or YAML file of\n"
        "such options, which those of the command line override. Relative paths, also in CONFIG, begin in the working\n"
        "directory, those of data in --data_root."
    )


def _parser_of_all():
    from ..training.arguments import TCMTrainingArguments

    return _option_parser(TCMTrainingArguments, prog="tcm-hf train", usage=_USAGE)


def _option_parser(kind: type, **settings):
    from transformers import HfArgumentParser

    classes: Any = (ModelArguments, DataArguments, kind)
    parser = HfArgumentParser(classes, **settings)
    if "no_decay" in {item.name for item in fields(kind)}:
        parser.add_argument(
            "--official",
            action="store_true",
            help="Defaults as in the papers' configurations: " + ", ".join(f"{k} {v}" for k, v in OFFICIAL.items()),
        )
    return parser


def _parse(parser, words: list[str]) -> tuple:
    """The options of a command line, which may begin with a file of options."""
    settings = {}
    try:
        if words and words[0].endswith(CONFIG_SUFFIXES):
            settings = read_config(parser, words[0])
            words = words[1:]
        given, rest = _given(parser, words)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        settings.update(given)
        missing = [action for action in parser._actions if action.required and action.dest not in settings]
        if missing:
            parser.error(
                f"the following arguments are required: {', '.join(action.option_strings[0] for action in missing)}"
            )
        preset = OFFICIAL if settings.pop("official", False) else {}
        return parser.parse_dict({**preset, **settings})
    except (ValueError, OSError, TypeError) as error:
        raise OptionError(str(error)) from error


def _given(parser, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Options that a command line names, and words that are none."""
    kept = [(action, action.default, action.required) for action in parser._actions]
    for action in parser._actions:
        action.default, action.required = argparse.SUPPRESS, False
    try:
        namespace, rest = parser.parse_known_args(words)
    finally:
        for action, default, required in kept:
            action.default, action.required = default, required
    return vars(namespace), rest


def read_config(parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """
    Reads a file of options.

    Args:
        parser (`argparse.ArgumentParser`): Knows the options.
        path (`str`): A JSON or YAML file: an object whose names are those of options without `--`. What is text there but is
            no text on the command line is read as there; `null` is the default.

    Returns:
        `dict[str, Any]`: values by name.

    Raises:
        ValueError: if it is no such file, or an option is unknown or has a value that cannot be meant.
        OSError: if it cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8")
    if path.endswith(".json"):
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error})") from error
    else:
        import yaml

        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} must be an object of options, such as {{"output_dir": "runs/mine"}}')
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    settings = {}
    for name, value in content.items():
        action = actions.get(name)
        if action is None:
            close = difflib.get_close_matches(str(name), actions, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{path}: unknown option {name!r}{hint}")
        if value is not None:
            settings[name] = _typed(action, value, f"{path}: {name!r}")
    return settings


def _typed(action: argparse.Action, value: Any, where: str) -> Any:
    """A value of a file, as the command line has it: YAML takes 1e-4 for a text."""
    if isinstance(value, list):
        return [_typed(action, each, where) for each in value]
    if action.choices is not None and value not in action.choices:
        hint = (
            "; YAML takes words such as no for true or false unless they are in quotes"
            if value in (True, False)
            else ""
        )
        raise ValueError(
            f"{where} cannot be {json.dumps(value)}; there are {', '.join(map(str, action.choices))}{hint}"
        )
    convert: Any = action.type  # a function: nothing here is registered by a name
    if not isinstance(value, str) or convert is None:
        return value
    try:
        return convert(value)
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"{where} cannot be {value!r}") from error


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
