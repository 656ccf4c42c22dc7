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

"""The options of a model that detects, and the pipeline that they ask for."""

import argparse
import json
import os
from typing import Any

from ..checkpoints import DEFAULT, checkpoint_names, find_checkpoint
from ..output_files import printable
from .arguments import fraction, nonnegative, positive_int, size, tile
from .errors import PROGRAMMING_ERRORS, UsageError, one_line
from .parser import advanced


def add_model_options(parser: argparse.ArgumentParser, default: str, title: str = "model") -> None:
    """
    Declares the options that [`load_pipeline`] reads, in groups of their own.

    Args:
        parser (`argparse.ArgumentParser`): Of the command.
        default (`str`): What is said of the model that is taken without `--model`.
        title (`str`, *optional*, defaults to `"model"`): Of the first group.
    """
    add = parser.add_argument_group(title).add_argument
    add(
        "--model",
        metavar="MODEL",
        help=f"checkpoint directory, Hub id, or one of the package: {', '.join(checkpoint_names())}{default}",
    )
    add("--device", help="cpu, cuda, cuda:1, mps, ... (default: the first accelerator, or else cpu)")
    add("--batch-size", type=positive_int, default=1, help="images per forward pass (default: 1)")
    advanced(
        add(
            "--dtype",
            choices=("auto", "float32", "bfloat16", "float16"),
            help="numbers to compute with; auto is what the checkpoint is saved in (default: auto)",
        ),
        add(
            "--trust-remote-code",
            action="store_true",
            help="run the code that comes with the model; only if you trust it",
        ),
    )
    detecting = parser.add_argument_group("detecting")
    add = detecting.add_argument
    add(
        "--shape",
        choices=("auto", "polygon", "quad", "box"),
        help="auto (4 corners, or the edges of bent text), polygon (raw contour), quad (rotated box) or box (default: the "
        "model's)",
    )
    add("--threshold", type=fraction, help="lowest score, 0 to 1 (default: the model's)")
    either = detecting.add_mutually_exclusive_group().add_argument
    either(
        "--size",
        type=size,
        metavar="N|SHORTEST,LONGEST",
        help="images are made smaller until their edges fit; a single N stands for N,2N (default: the model's)",
    )
    either(
        "--tile",
        type=tile,
        nargs="?",
        const="auto",
        metavar="N|HEIGHT,WIDTH",
        help="read images that would be reduced in overlapping tiles at full resolution, for small text in large images; "
        "with a size, all images that are larger (default: the largest that the model does not reduce)",
    )
    advanced(
        add("--upscale", action="store_true", help="also enlarge images that are smaller than the size"),
        add(
            "--turn",
            action=argparse.BooleanOptionalAction,
            help="look a second time at images on their side, turned (default: the model's)",
        ),
        add("--mask-threshold", type=fraction, help="lowest probability of a text pixel, 0 to 1"),
        add("--unclip-ratio", type=nonnegative, help="how far text kernels are expanded"),
    )


def _wrong_file(checkpoint: str) -> str | None:
    """What is wrong in a file of a model's directory that transformers reads before any class of this package."""
    for name in ("config.json", "preprocessor_config.json") if os.path.isdir(checkpoint) else ():
        path = os.path.join(checkpoint, name)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except OSError:
            continue
        except (ValueError, RecursionError) as error:
            return printable(f"{path} is no JSON ({error})")
        if not isinstance(content, dict):
            return f"{path} has to hold an object"
        for field, kind in (("model_type", str), ("image_processor_type", str), ("auto_map", dict)):
            if not isinstance(content.get(field, kind()), kind):
                return f"{path}: {field!r} has a wrong type"
        if not all(isinstance(value, str) for value in content.get("auto_map", {}).values()):
            return f"{path}: 'auto_map' has to give names of classes"
    return None


def check_model_options(arguments: argparse.Namespace) -> None:
    """
    Checks what can be checked of the options of [`add_model_options`] without the model.

    Raises:
        UsageError: if a value cannot be meant, or names a device that is not there.
    """
    import torch

    from ..model.tiling import check_tile

    try:
        check_tile(arguments.tile)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    if arguments.device is None:
        return
    try:
        device = torch.device(arguments.device)
    except RuntimeError as error:
        raise UsageError(f"--device {arguments.device!r} is no device; it is cpu, cuda, cuda:1, mps, ...") from error
    if device.type in ("cuda", "mps", "xpu"):
        found = torch.get_device_module(device).device_count()
        if (device.index or 0) >= found:
            raise UsageError(
                f"cannot load model {_model_name(arguments)!r}: PyTorch finds {found} devices of the kind {device.type!r}, "
                f"so --device {arguments.device} is not there; choose another one, or cpu"
            )


def _model_name(arguments: argparse.Namespace) -> str:
    return DEFAULT if arguments.model is None else arguments.model


def load_pipeline(arguments: argparse.Namespace):
    """
    Loads the model that `--model` names, with the settings of the command line.

    Args:
        arguments (`argparse.Namespace`): of a parser with the options of `tcm-hf detect`.

    Returns:
        [`~tcm_hf.TextDetectionPipeline`]

    Raises:
        UsageError: if an option cannot be meant, also for this model, or the model cannot be loaded.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    check_model_options(arguments)
    model = _model_name(arguments)
    checkpoint = find_checkpoint(model)
    if not os.path.isdir(checkpoint):
        try:
            validate_repo_id(checkpoint)
        except HFValidationError as error:
            raise UsageError(
                f"cannot load model {model!r}: there is no such directory, a Hub id has the form OWNER/NAME, and the "
                f"checkpoints of the package are {', '.join(checkpoint_names())}"
            ) from error

    from transformers import AutoImageProcessor, pipeline
    from transformers.utils import logging

    import tcm_hf

    from ..export.model import TCMRuntimeModel

    logging.disable_progress_bar()
    given = _given(
        size=arguments.size,
        tile=arguments.tile,
        do_upscale=arguments.upscale or None,
        do_turn=arguments.turn,
        max_pixels=getattr(arguments, "max_pixels", None),
        reading_order=arguments.reading_order or None,
        device=arguments.device,
        dtype=arguments.dtype,
        # A published checkpoint names the pipeline's file that it carries; without trust, the installed one is used.
        pipeline_class=None if arguments.trust_remote_code else tcm_hf.TextDetectionPipeline,
    )
    decoding = _given(
        shape=arguments.shape,
        threshold=arguments.threshold,
        mask_threshold=arguments.mask_threshold,
        unclip_ratio=arguments.unclip_ratio,
    )
    # Without a value transformers would ask on the terminal.
    trust = {"trust_remote_code": arguments.trust_remote_code}
    try:
        processor = AutoImageProcessor.from_pretrained(checkpoint, **trust)
        _check_decoding(processor, decoding)  # before the weights, which take longer
        network: Any = checkpoint
        if TCMRuntimeModel.is_exported(checkpoint):
            network = TCMRuntimeModel.from_pretrained(checkpoint)
            if given.pop("dtype", "auto") not in ("auto", "float32"):
                raise UsageError(
                    f"--dtype {arguments.dtype}: {model!r} is exported, and runs in float32; name the checkpoint it was made of"
                )
            given.setdefault("device", "cpu")  # whatever accelerator there is
        options: Any = {**trust, **given, **decoding, "image_processor": processor}
        return pipeline("text-detection", model=network, **options)  # type: ignore[call-overload]  # a task of ours
    except UsageError:
        raise
    except Exception as error:  # a checkpoint's files can be damaged in any way
        wrong_file = _wrong_file(str(checkpoint))
        if wrong_file is None and isinstance(error, PROGRAMMING_ERRORS):
            raise
        raise UsageError(f"cannot load model {model!r}: {wrong_file or one_line(error)}") from error


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check_decoding(processor: Any, decoding: dict[str, Any]) -> None:
    """Refuses options that a model of this detector does not have."""
    if hasattr(processor, "decoding_arguments"):  # whatever class came with the checkpoint
        known = processor.decoding_arguments()
        for name in decoding:
            if name not in known:
                raise UsageError(
                    f"--{name.replace('_', '-')}: the model's detector {processor.detector!r} has no such setting; leave it away"
                )
