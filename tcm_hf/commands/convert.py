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
Makes a model directory from CLIP weights (OpenAI, open_clip, timm, transformers), with a new detector to be
trained, or from an official checkpoint of TCM, FastTCM or DBNet. Nothing of a file is run, TorchScript included.
Prints what became of the weights; conversion_report.json in the directory has it in full.
"""

import argparse
import json
import sys

from ..model.detectors import detector_names, detector_of
from .errors import UsageError, one_line
from .parser import advanced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf convert`."""
    parser.add_argument("source", metavar="SOURCE", help="file, directory or Hub id")
    parser.add_argument("output", metavar="OUT_DIR", help="the directory to make")
    add = parser.add_argument_group("the model").add_argument
    add("--preset", metavar="NAME", help="test size and thresholds: ic15, td500, ctw1500, totaltext")
    add(
        "--detector",
        metavar="NAME",
        help=f"detector on a bare CLIP: {', '.join(detector_names('settings'))}, or the Python file of your own (default: db)",
    )
    advanced(
        add("--no-text-side", action="store_true", help="on a bare CLIP: the detector without text side"),
        add(
            "--set",
            action="append",
            default=[],
            type=_setting,
            metavar="FIELD=JSON",
            help='field of the configuration, e.g. num_context_vectors=32 or \'text_config={"hidden_act": "gelu"}\'; may be '
            "given several times",
        ),
    )
    add = parser.add_argument_group("reading and writing").add_argument
    advanced(
        add("--layout", metavar="NAME", help="oclip: the first stage of oCLIP, whose weights are named as CLIP's are"),
        add("--revision", help="branch, tag or commit on the Hub"),
        add(
            "--allow-pickle",
            action="store_true",
            help="read pickle files that hold more than weights, which can run any code; only from a trusted source",
        ),
    )
    add("--overwrite", action="store_true", help="replace the model that is in OUT_DIR, at once and whole")


def _setting(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text} is not FIELD=JSON")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf convert`.

    Returns:
        `int`: 0, or 1 where the source cannot be converted.

    Raises:
        UsageError: for a wrong configuration.
    """
    fields = dict(arguments.set)
    if arguments.detector is not None:
        try:
            fields["detector"] = detector_of(arguments.detector).name
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from error
    if arguments.no_text_side:
        fields["text_side"] = False

    from ..conversion.convert import convert_checkpoint
    from ..conversion.layouts import ConfigurationError

    try:
        report = convert_checkpoint(
            arguments.source,
            arguments.output,
            preset=arguments.preset,
            allow_pickle=arguments.allow_pickle,
            overwrite=arguments.overwrite,
            revision=arguments.revision,
            layout=arguments.layout,
            **fields,
        )
    except ConfigurationError as error:
        raise UsageError(f"wrong configuration: {one_line(error)}") from error
    except (OSError, ValueError, TypeError) as error:
        print(f"tcm-hf convert: error: {one_line(error)}", file=sys.stderr)
        return 1
    print(f"{report.summary()}\nwritten to {arguments.output}")
    return 0
