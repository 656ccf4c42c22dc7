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
"""The command `tcm-hf`."""

# Only the standard library here: torch and transformers are imported by the command that needs them.
import argparse
import glob
import importlib
import inspect
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from .arguments import fraction, nonnegative, positive, positive_int, size
from .checkpoints import DEFAULT, checkpoint_names, find_checkpoint
from .image_loading import IMAGE_SUFFIXES
from .interruption import interruptible
from .output_files import DISK_FULL, check_output_file, exclusive, make_output_folder, naming, printable
from .result_writer import ResultWriteError, ResultWriter


# Below this many pictures a progress bar is only noise.
MIN_IMAGES_FOR_PROGRESS = 4
# Commands that live beside what they do. Each module has `add_arguments(parser)` and `run(arguments) -> int`, its
# docstring is the command's description, and a ValueError or OSError of `run` is a mistake of the user.
COMMAND_MODULES = {
    "prepare": ("data.prepare", "turn a benchmark's files into a dataset folder"),
    "inspect": ("data.inspect_data", "draw samples of a dataset and their training targets"),
    "synthesize": ("data.synthesize", "render pictures with text for pre-training"),
    "evaluate": ("metrics.command", "measure detections by a benchmark's protocol"),
}


class UsageError(Exception):
    """A mistake in the command line that argparse cannot see."""


def main(argv: list[str] | None = None) -> int:
    """
    Runs `tcm-hf`.

    Args:
        argv (`list[str]`, *optional*): arguments after the program's name; those of the process by default.

    Returns:
        `int`: 0 when all went well, 1 when some input could not be read or some result not be written, 2 for a wrong
        command line or model, 128 + the signal's number after one (130 for Ctrl-C, 143 for SIGTERM).
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # File names can hold what the terminal's encoding cannot.
            stream.reconfigure(errors="backslashreplace")
    try:
        with interruptible():
            code = arguments.run(arguments)
            with naming("/dev/stdout"):
                sys.stdout.flush()
            return code
    except UsageError as error:
        print(f"tcm-hf {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        _drop_stdout()
        return 1
    except OSError as error:
        print(f"tcm-hf {arguments.command}: error: {_one_line(error)}", file=sys.stderr)
        _drop_stdout()
        return 1
    except KeyboardInterrupt as error:
        notes = "".join(getattr(error, "__notes__", ()))
        print(f"tcm-hf {arguments.command}: interrupted{notes}", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)


def _drop_stdout() -> None:
    """What could not be written would be tried again when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The parser of `tcm-hf` with all its commands."""
    parser = argparse.ArgumentParser(prog="tcm-hf", description="Scene text detection with TCM.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_detect(commands)
    _add_convert(commands)
    for name, (module_name, summary) in COMMAND_MODULES.items():
        module = importlib.import_module(f"tcm_hf.{module_name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=inspect.cleandoc(module.__doc__),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=_run_module(name, module))
    return parser


def _run_module(name: str, module) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from .data.formats import AnnotationWarning

        def show(message, category, *place, **keywords) -> None:
            if issubclass(category, AnnotationWarning):
                print(f"tcm-hf {name}: warning: {message}", file=sys.stderr)
            else:
                other(message, category, *place, **keywords)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", AnnotationWarning)
                other, warnings.showwarning = warnings.showwarning, show
                return module.run(arguments)
        except (ValueError, OSError, ImportError) as error:
            print(f"tcm-hf {name}: error: {_one_line(error)}", file=sys.stderr)
            return 1

    return run


def _add_detect(commands) -> None:
    parser = commands.add_parser(
        "detect",
        help="find text in pictures",
        description="Finds text in pictures and writes it as JSON: a list with one entry for each picture, with its path, "
        "width, height and detections (score, label, box and polygon in pixels of the upright picture), or with an "
        "error where it could not be read. Results are written picture by picture; the file is complete JSON at any time.",
        epilog="Exit code: 0 if all went well; 1 if a picture could not be read or a result not be written, or another run "
        "writes to the same place; 2 for a wrong command line, a model that cannot be loaded, or a place that cannot be "
        "written to; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. What was found until then stays in the output.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|DIR|GLOB",
        help="files, addresses (http, https), directories, quoted patterns",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"checkpoint directory, Hub id, or one of the package: {', '.join(checkpoint_names())} (default: {DEFAULT})",
    )
    parser.add_argument(
        "--shape", choices=("polygon", "quad", "box"), help="shape of the texts (default: the model's)"
    )
    parser.add_argument("--threshold", type=fraction, help="lowest score, 0 to 1 (default: the model's)")
    parser.add_argument("--mask-threshold", type=fraction, help="lowest probability of a text pixel, 0 to 1")
    parser.add_argument("--unclip-ratio", type=nonnegative, help="how far text kernels are expanded")
    parser.add_argument("--reading-order", action="store_true", help="sort the texts as they are read")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the JSON here instead of to stdout; JSON Lines, an entry on each line, where it ends in .jsonl",
    )
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write pictures with the texts drawn on them here")
    parser.add_argument("--show-scores", action="store_true", help="write the scores on these drawings")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: the first accelerator, or else cpu)")
    parser.add_argument("--batch-size", type=positive_int, default=1, help="pictures per forward pass (default: 1)")
    parser.add_argument(
        "--size",
        type=size,
        metavar="N|SHORTEST,LONGEST",
        help="pictures are made smaller until their edges fit; a single N stands for N,2N (default: the model's)",
    )
    parser.add_argument("--upscale", action="store_true", help="also enlarge pictures that are smaller than the size")
    parser.add_argument(
        "--max-pixels",
        type=positive_int,
        metavar="N",
        help="pictures of more pixels (width x height) are refused, before they take memory (default: the model's, "
        "50331648 = 8192 x 6144)",
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=60.0,
        metavar="SECONDS",
        help="time that the download of one address may take in all (default: 60)",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the code that comes with the model; only if you trust it"
    )
    parser.set_defaults(run=_detect)


def _add_convert(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert CLIP weights or an official TCM checkpoint",
        description="Makes a model directory from CLIP weights (OpenAI, open_clip, timm, transformers), with a new detector "
        "to be trained, or from an official checkpoint of TCM, FastTCM or DBNet. Nothing of a file is run, TorchScript "
        "included. Prints what became of the weights; conversion_report.json in the directory has it in full.",
    )
    parser.add_argument("source", metavar="SOURCE", help="file, directory or Hub id")
    parser.add_argument("output", metavar="OUT_DIR", help="the directory to make")
    parser.add_argument("--preset", metavar="NAME", help="test size and thresholds: ic15, td500, ctw1500, totaltext")
    parser.add_argument("--detector", metavar="NAME", help="detector on a bare CLIP: db, pan, fce (default: db)")
    parser.add_argument("--no-text-side", action="store_true", help="on a bare CLIP: the detector without text side")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="FIELD=JSON",
        help='field of the configuration, e.g. num_context_vectors=32 or \'text_config={"hidden_act": "gelu"}\'; may be '
        "given several times",
    )
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read pickle files that hold more than weights, which can run any code; only from a trusted source",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the model that is in OUT_DIR, at once and whole"
    )
    parser.set_defaults(run=_convert)


def _setting(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text} is not FIELD=JSON")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _convert(arguments: argparse.Namespace) -> int:
    fields = dict(arguments.set)
    if arguments.detector is not None:
        fields["detector"] = arguments.detector
    if arguments.no_text_side:
        fields["text_side"] = False

    from .configuration_tcm import DETECTOR_DEFAULTS
    from .convert import convert_checkpoint
    from .convert_layouts import ConfigurationError

    if arguments.detector not in (None, *DETECTOR_DEFAULTS):
        raise UsageError(f"unknown detector {arguments.detector!r}; known are {', '.join(sorted(DETECTOR_DEFAULTS))}")
    try:
        report = convert_checkpoint(
            arguments.source,
            arguments.output,
            preset=arguments.preset,
            allow_pickle=arguments.allow_pickle,
            overwrite=arguments.overwrite,
            revision=arguments.revision,
            **fields,
        )
    except ConfigurationError as error:
        raise UsageError(f"wrong configuration: {_one_line(error)}") from error
    except (OSError, ValueError, TypeError) as error:
        print(f"tcm-hf convert: error: {_one_line(error)}", file=sys.stderr)
        return 1
    print(f"{report.summary()}\nwritten to {arguments.output}")
    return 0


def find_images(inputs: list[str]) -> dict[str, str | None]:
    """
    Lists the pictures that the inputs of a command stand for.

    Args:
        inputs (`list[str]`): files, web addresses, directories (their pictures, without those of subdirectories) and
            patterns such as `"photos/**/*.jpg"`.

    Returns:
        `dict[str, str | None]`: each path once, in the order of the inputs, sorted by name inside of directories and
        patterns, with `None`. Files that do not exist are listed too, so that reading them reports the error. A
        directory that holds no picture or cannot be listed, and a pattern that matches nothing, come with the reason.

    Raises:
        UsageError: if no input stands for a picture.
    """
    found: dict[str, str | None] = {}
    for text in inputs:
        if text.startswith(("http://", "https://")):
            matches = [text]
        elif os.path.isdir(text):
            try:
                entries = sorted(os.path.join(text, name) for name in os.listdir(text))
            except OSError as error:
                found[text] = f"cannot list directory {text!r} ({error.strerror}); check its permissions"
                continue
            matches = [
                path for path in entries if Path(path).suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path)
            ]
            if not matches:
                pattern = os.path.join(text, "**", "*.jpg")
                found[text] = f"no pictures in directory {text!r}; for those of its subdirectories pass {pattern!r}"
        elif not os.path.exists(text) and glob.has_magic(text):
            matches = [path for path in sorted(glob.glob(text, recursive=True)) if os.path.isfile(path)]
            if not matches:
                found[text] = f"no file matches {text!r}"
        else:
            matches = [text]
        found.update(dict.fromkeys(matches))
    if None not in found.values():
        raise UsageError("; ".join(filter(None, found.values())))
    return found


def _detect(arguments: argparse.Namespace) -> int:
    inputs = find_images(arguments.inputs)
    # The places for the results first: the model takes long to load, and the pictures longer.
    if arguments.output is not None:
        if any(os.path.realpath(path) == os.path.realpath(arguments.output) for path in inputs):
            raise UsageError(f"--output {str(arguments.output)!r} is one of the pictures; name another file")
        try:
            check_output_file(arguments.output)
        except OSError as error:
            raise UsageError(str(error)) from error
    names = DrawingNames(arguments.draw, list(inputs)) if arguments.draw else None
    writer = ResultWriter(arguments.output)
    try:
        with writer, exclusive(arguments.draw) if arguments.draw else nullcontext():
            return _detect_all(load_pipeline(arguments), inputs, writer, names, arguments)
    except (ResultWriteError, BlockingIOError) as error:
        print(f"tcm-hf detect: error: {_one_line(error)}{_so_far(writer, inputs)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        error.add_note(_so_far(writer, inputs))
        raise


def _so_far(writer: ResultWriter, inputs: dict) -> str:
    """What there is of the results when a run ends early, for its last message."""
    if not writer.count:
        return ""
    return f"; the first {writer.count} of {len(inputs)} results are in {repr(str(writer.output)) if writer.output else 'stdout'}"


def _detect_all(
    pipe,
    inputs: dict[str, str | None],
    writer: ResultWriter,
    names: "DrawingNames | None",
    arguments: argparse.Namespace,
) -> int:
    from tqdm import tqdm

    from . import image_loading

    failures = 0
    limits = {"timeout": arguments.timeout, "max_pixels": arguments.max_pixels or pipe.image_processor.max_pixels}
    waiting: list[tuple[dict, Any]] = []  # results to come, with their pictures; `None` where one could not be read

    def report(error: str) -> str:
        nonlocal failures
        failures += 1
        bar.write(f"tcm-hf detect: error: {error}", file=sys.stderr)
        return error

    def finish() -> None:
        """Detects in the pictures that wait, and writes their results."""
        records, pictures = [record for record, _ in waiting], [picture for _, picture in waiting]
        waiting.clear()
        found = iter(_detect_batch(pipe, [picture for picture in pictures if picture is not None]))
        for record, picture in zip(records, pictures):
            detections = None if picture is None else next(found)
            if isinstance(detections, str):
                path = record["image"]
                record = {"image": path, "error": report(f"{path!r}: {detections}")}
            elif detections is not None:
                record["detections"] = [_rounded(detection) for detection in detections]
                if names is not None:
                    target = names.next(record["image"])
                    try:
                        _draw(picture, detections, target, arguments.show_scores)
                    except Exception as error:
                        report(f"cannot write {str(target)!r} ({_one_line(error)})")
            writer.write(record)
            bar.update()

    bar = tqdm(total=len(inputs), unit="image", file=sys.stderr, disable=len(inputs) < MIN_IMAGES_FOR_PROGRESS)
    with bar, _warnings_beside(bar):
        for path, problem in inputs.items():
            try:
                if problem is not None:
                    raise OSError(problem)
                picture = image_loading.load_rgb_image(path, **limits)
            except (OSError, ValueError) as error:
                waiting.append(({"image": path, "error": report(_one_line(error))}, None))
            else:
                waiting.append(({"image": path, "width": picture.width, "height": picture.height}, picture))
                del picture
            # Nothing that is known waits for a picture that is not read yet.
            if sum(picture is not None for _, picture in waiting) in (0, arguments.batch_size):
                finish()
        finish()
    return 1 if failures else 0


def _detect_batch(pipe, pictures: list) -> list:
    """The detections of each picture, or the reason (`str`) why there are none: one picture does not cost the others."""
    if not pictures:
        return []
    pipe.call_count = 0  # transformers' advice to pass a dataset is not for a command that writes as it goes
    try:
        return pipe(pictures, batch_size=len(pictures))
    except Exception as error:  # of the model, such as too little memory, as of the pictures
        reason = _one_line(error)
    if len(pictures) == 1:
        return [reason]
    return [_detect_batch(pipe, [picture])[0] for picture in pictures]


def _draw(picture, detections: list[dict], target: Path, show_scores: bool) -> None:
    from .visualization import draw_detections

    # In one piece, since an encoder that fails leaves half a file.
    content = io.BytesIO()
    drawing = draw_detections(picture, detections, show_scores=show_scores, max_pixels=None)
    drawing.save(content, "JPEG", quality=90)
    try:
        target.write_bytes(content.getvalue())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


@contextmanager
def _warnings_beside(bar) -> Iterator[None]:
    """Shows the package's warnings as lines of the command, above the progress bar."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bar.write(f"tcm-hf detect: warning: {' '.join(record.getMessage().split())}", file=sys.stderr)

    handler, logger = Handler(logging.WARNING), logging.getLogger("tcm_hf")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def load_pipeline(arguments: argparse.Namespace):
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    model = DEFAULT if arguments.model is None else arguments.model
    checkpoint = find_checkpoint(model)
    if not os.path.isdir(checkpoint):
        try:
            validate_repo_id(checkpoint)
        except HFValidationError as error:
            raise UsageError(
                f"cannot load model {model!r}: there is no such directory, a Hub id has the form OWNER/NAME, and the "
                f"checkpoints of the package are {', '.join(checkpoint_names())}"
            ) from error

    from transformers import pipeline
    from transformers.utils import logging

    import tcm_hf

    logging.disable_progress_bar()
    options = {
        "shape": arguments.shape,
        "threshold": arguments.threshold,
        "mask_threshold": arguments.mask_threshold,
        "unclip_ratio": arguments.unclip_ratio,
        "size": arguments.size,
        "do_upscale": arguments.upscale or None,
        "max_pixels": getattr(arguments, "max_pixels", None),
        "reading_order": arguments.reading_order or None,
        "device": arguments.device,
        "trust_remote_code": arguments.trust_remote_code,  # without a value transformers would ask on the terminal
        # A published checkpoint names the pipeline's file that it carries; without trust, the installed one is used.
        "pipeline_class": None if arguments.trust_remote_code else tcm_hf.TextDetectionPipeline,
    }
    options = {key: value for key, value in options.items() if value is not None}
    try:
        return pipeline("text-detection", model=checkpoint, **options)
    except Exception as error:  # a checkpoint's files can be damaged in any way
        raise UsageError(f"cannot load model {model!r}: {_wrong_file(str(checkpoint)) or _one_line(error)}") from error


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


def _one_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "Traceback" in text:  # transformers wraps the tracebacks of its attempts; the last error is the reason
        text = text.rsplit("Error: ", 1)[-1]
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        # Whatever writes to a file names it; `print` does not.
        text = f"cannot write to standard output ({error.strerror})" if error.errno in DISK_FULL else text
    return printable(" ".join(text.split()))


def _rounded(detection: dict) -> dict:
    """A hundredth of a pixel is enough for a file, and far shorter than all digits."""
    polygon = [[round(coordinate, 2) for coordinate in point] for point in detection["polygon"]]
    return {**detection, "score": round(detection["score"], 4), "polygon": polygon}


class DrawingNames:
    """
    Gives every picture a file for its drawing, so that none overwrites another one or an input.

    Args:
        directory (`Path`): where the drawings go; it is made when it does not exist.
        inputs (`list[str]`): all input files.

    Raises:
        UsageError: if no file can be written into the directory.
    """

    def __init__(self, directory: Path, inputs: list[str]):
        try:
            make_output_folder(directory)
        except OSError as error:
            raise UsageError(str(error)) from error
        self.directory = directory
        # Compared without case, as some file systems do.
        self.taken = {os.path.realpath(path).casefold() for path in inputs}

    def next(self, path: str) -> Path:
        """The drawing's file: the picture's name with `.jpg`, and a number where that is taken already."""
        stem = Path(path.split("?")[0] if path.startswith(("http://", "https://")) else path).stem or "image"
        number = 1
        while True:
            target = self.directory / f"{stem}{'' if number == 1 else f'_{number}'}.jpg"
            key = os.path.realpath(target).casefold()
            if key not in self.taken:
                self.taken.add(key)
                return target
            number += 1


if __name__ == "__main__":
    sys.exit(main())
