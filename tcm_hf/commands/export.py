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
Makes a folder that finds text without PyTorch: the network for ONNX Runtime or OpenVINO, its settings, a card, and
`python detect.py photo.jpg`, which prints what `tcm-hf detect` prints. It is compared with the model, and written where it agrees.
"""

import argparse
import json
import sys
from dataclasses import asdict

from ..checkpoints import DEFAULT, checkpoint_names
from .errors import UsageError, one_line
from .parser import advanced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf export`."""
    parser.add_argument("runtime", choices=("onnx", "openvino"), help="onnx for ONNX Runtime, or openvino")
    parser.add_argument("output", metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="MODEL",
        help=f"checkpoint directory, Hub id, or one of the package: {', '.join(checkpoint_names())} (default: {DEFAULT})",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help="images to compare the texts on (default: a picture of the package)",
    )
    parser.add_argument(
        "--int8", action="store_true", help="quantize the network to int8 (openvino only); needs --calibration"
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        metavar="IMAGE",
        help="photos like those that the network is going to see, some tens of them, which int8 is fitted to",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the export that is in DIR, at once and whole"
    )
    advanced(
        parser.add_argument(
            "--trust-remote-code",
            action="store_true",
            help="run the code that comes with the model; only if you trust it",
        )
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf export`.

    Returns:
        `int`: 0, or 1 where the export failed or differs from the model.

    Raises:
        UsageError: where the folder holds something else, a package is missing, or the model cannot be loaded.
    """
    if arguments.int8 and arguments.runtime != "openvino":
        raise UsageError(
            "--int8 is for openvino: quantized for ONNX Runtime, networks lost too much; use `export openvino`"
        )
    if arguments.int8 != bool(arguments.calibration):
        raise UsageError("--int8 and --calibration IMAGE [IMAGE ...] go together; give both or neither")

    from transformers.utils import logging

    from ..export.folder import export_model

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        parity = export_model(
            arguments.runtime,
            arguments.output,
            model=arguments.model,
            images=arguments.images,
            calibration=arguments.calibration,
            overwrite=arguments.overwrite,
            trust_remote_code=arguments.trust_remote_code,
        )
    except (FileExistsError, ImportError) as error:
        raise UsageError(one_line(error)) from error
    print(json.dumps(asdict(parity)))
    print(f"written to {arguments.output}; try: python {arguments.output}/detect.py IMAGE", file=sys.stderr)
    return 0
