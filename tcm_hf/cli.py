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
import errno
import glob
import importlib
import inspect
import json
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .arguments import fraction, nonnegative, positive_int, size
from .image_loading import IMAGE_SUFFIXES
from .output_files import make_output_folder, naming, output_file, printable


# Below this many pictures a progress bar is only noise.
MIN_IMAGES_FOR_PROGRESS = 4
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
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
        `int`: 0 when all went well, 1 when some input could not be read, 2 for a wrong command line or model.
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
    except KeyboardInterrupt:
        print(f"tcm-hf {arguments.command}: interrupted", file=sys.stderr)
        return 130


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
        "error where it could not be read.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|DIR|GLOB",
        help="files, addresses (http, https), directories, quoted patterns",
    )
    parser.add_argument(
        "--model", metavar="DIR_OR_ID", help="checkpoint directory or Hub id (default: the bundled one)"
    )
    parser.add_argument(
        "--shape", choices=("polygon", "quad", "box"), help="shape of the texts (default: the model's)"
    )
    parser.add_argument("--threshold", type=fraction, help="lowest score, 0 to 1 (default: the model's)")
    parser.add_argument("--mask-threshold", type=fraction, help="lowest probability of a text pixel, 0 to 1")
    parser.add_argument("--unclip-ratio", type=nonnegative, help="how far text kernels are expanded")
    parser.add_argument("--reading-order", action="store_true", help="sort the texts as they are read")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON here instead of to stdout")
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

    from huggingface_hub.errors import StrictDataclassError

    from .configuration_tcm import DETECTOR_DEFAULTS
    from .convert import convert_checkpoint

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
    except StrictDataclassError as error:
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
    names = DrawingNames(arguments.draw, list(inputs)) if arguments.draw else None
    with _json_list(arguments.output) as write:
        pipe = load_pipeline(arguments)
        return _detect_all(pipe, inputs, write, names, arguments.batch_size, arguments.show_scores)


def _detect_all(
    pipe,
    inputs: dict[str, str | None],
    write: Callable[[dict], None],
    names: "DrawingNames | None",
    batch_size: int,
    show_scores: bool,
) -> int:
    from tqdm import tqdm

    from .image_loading import load_rgb_image
    from .visualization import draw_detections

    decode = pipe.postprocess

    def decode_or_error(outputs, **parameters):
        # An error raised here would also lose the rest of the batch.
        try:
            return decode(outputs, **parameters)
        except ValueError as error:
            return error

    pipe.postprocess = decode_or_error
    failures = 0
    # What is read but not yet answered: at most one batch. Failed inputs keep their place among the others.
    pending: deque[dict] = deque()
    pictures: deque = deque()
    bar = tqdm(total=len(inputs), unit="image", file=sys.stderr, disable=len(inputs) < MIN_IMAGES_FOR_PROGRESS)

    def report(error: Exception) -> str:
        nonlocal failures
        failures += 1
        message = _one_line(error)
        bar.write(f"tcm-hf detect: error: {message}", file=sys.stderr)
        return message

    def images():
        for path, problem in inputs.items():
            try:
                if problem is not None:
                    raise OSError(problem)
                image = load_rgb_image(path)
            except (OSError, ValueError) as error:
                pending.append({"image": path, "error": report(error)})
                bar.update()
                continue
            pictures.append(image if names is not None else None)
            pending.append({"image": path, "width": image.width, "height": image.height})
            yield image

    def failed() -> Iterator[dict]:
        while pending and "error" in pending[0]:
            yield pending.popleft()

    with bar:
        for detections in pipe(images(), batch_size=batch_size):
            for record in failed():
                write(record)
            record = pending.popleft()
            picture = pictures.popleft()
            bar.update()
            if isinstance(detections, ValueError):
                path = record["image"]
                write({"image": path, "error": report(ValueError(f"{path!r}: {detections}"))})
                continue
            if names is not None:
                target = names.next(record["image"])
                try:
                    draw_detections(picture, detections, show_scores=show_scores).save(target, quality=90)
                except (OSError, ValueError) as error:
                    report(OSError(f"cannot write {str(target)!r} ({error})"))
            write({**record, "detections": [_rounded(detection) for detection in detections]})
        for record in failed():
            write(record)
    return 1 if failures else 0


def load_pipeline(arguments: argparse.Namespace):
    from huggingface_hub.errors import HFValidationError, StrictDataclassError
    from huggingface_hub.utils import validate_repo_id

    if arguments.model is not None and not os.path.isdir(arguments.model):
        try:
            validate_repo_id(arguments.model)
        except HFValidationError as error:
            raise UsageError(
                f"cannot load model {arguments.model!r}: there is no such directory, and a Hub id has the form OWNER/NAME"
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
        "reading_order": arguments.reading_order or None,
        "device": arguments.device,
        "trust_remote_code": arguments.trust_remote_code or None,
        # A published checkpoint names the pipeline's file that it carries; without trust, the installed one is used.
        "pipeline_class": None if arguments.trust_remote_code else tcm_hf.TextDetectionPipeline,
    }
    options = {key: value for key, value in options.items() if value is not None}
    try:
        return pipeline("text-detection", model=arguments.model or tcm_hf.DEFAULT_CHECKPOINT, **options)
    except (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
        KeyError,
        ImportError,
        AssertionError,  # of a torch without CUDA that is asked for it
        StrictDataclassError,
    ) as error:
        model = "the bundled model" if arguments.model is None else f"model {arguments.model!r}"
        raise UsageError(f"cannot load {model}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    text = str(error)
    if "Traceback" in text:  # transformers wraps the tracebacks of its attempts; the last error is the reason
        text = text.rsplit("Error: ", 1)[-1]
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        # Whatever writes to a file names it; `print` does not.
        text = f"cannot write to standard output ({error.strerror})" if error.errno in _DISK_ERRORS else text
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


@contextmanager
def _json_list(output: Path | None):
    """
    Writes a JSON list entry by entry, to stdout or to an [`output_file`].

    Args:
        output (`Path`, *optional*): the file; stdout by default.

    Yields:
        a function that writes one entry.

    Raises:
        UsageError: if the file cannot be made.
    """
    separator = "[\n"

    def write(entry: dict) -> None:
        nonlocal separator
        file.write(separator + json.dumps(entry, ensure_ascii=output is None))
        file.flush()
        separator = ",\n"

    with ExitStack() as stack:
        file = sys.stdout
        if output is not None:
            try:
                file = stack.enter_context(output_file(output))
            except OSError as error:
                raise UsageError(str(error)) from error
        yield write
        file.write("[]\n" if separator == "[\n" else "\n]\n")
        file.flush()


if __name__ == "__main__":
    sys.exit(main())
