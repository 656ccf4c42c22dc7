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
Finds text in images, pages of PDFs and frames of videos, and writes it as JSON: a list with one entry for each of them,
with its path, page or frame, width, height and detections (score, label, box and polygon in pixels of the upright
image), or with an error where it could not be read. Results are written image by image; the file is complete JSON at
any time.
"""

import argparse
import logging
import os
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints import DEFAULT
from ..output_files import check_overwritten
from .arguments import nonnegative_int, positive, positive_int
from .drawing_writer import DrawingWriter
from .errors import PROGRAMMING_ERRORS, UsageError, one_line
from .format_writer import add_format_options, build_result_writer, build_side_writers, check_place, result_format
from .loading import add_model_options, check_model_options, load_pipeline
from .parser import advanced
from .result_writer import DetectionWriter, ResultWriteError, ResultWriter


if TYPE_CHECKING:
    from ..inputs import InputOptions


SECONDS_BEFORE_PROGRESS = 1.0
DEFAULT_WORKERS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf detect`."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="images, PDFs, videos, zip and tar files, parquet files; folders of them, quoted patterns, lists of paths "
        "(.txt), addresses (http, https), data sets on the Hub (hf://datasets/OWNER/NAME), or - for standard input",
    )
    _add_input_options(parser)
    add_model_options(parser, f" (default: {DEFAULT})")
    add = parser.add_argument_group("results").add_argument
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the JSON here instead of to stdout; JSON Lines, an entry on each line, where it ends in .jsonl",
    )
    add_format_options(add)
    add(
        "--resume", action="store_true", help="go on with the .jsonl file of --output: what is in it is not done again"
    )
    add("--draw", type=Path, metavar="DIR", help="write images with the texts drawn on them here")
    advanced(add("--show-scores", action="store_true", help="write the scores on these drawings"))
    add("--reading-order", action="store_true", help="sort the texts as they are read")
    add = parser.add_argument_group("speed").add_argument
    add(
        "--workers",
        type=nonnegative_int,
        default=DEFAULT_WORKERS,
        metavar="N",
        help="threads that decode images and read out results beside the model, which on a CPU takes several images at a "
        "time; 0 does one thing after the other "
        f"(default: {DEFAULT_WORKERS})",
    )
    add = parser.add_argument_group("limits").add_argument
    advanced(
        add(
            "--max-frames",
            type=positive_int,
            metavar="N",
            help="most pages or frames that are taken out of one file (default: 100000)",
        ),
        add(
            "--max-pixels",
            type=positive_int,
            metavar="N",
            help="images of more pixels (width x height) are refused, before they take memory (default: the model's, "
            "50331648 = 8192 x 6144)",
        ),
        add(
            "--timeout",
            type=positive,
            default=60.0,
            metavar="SECONDS",
            help="time that the download of one address may take in all (default: 60)",
        ),
    )


def _add_input_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("inputs").add_argument
    add("--dpi", type=positive, metavar="N", help="pixels an inch that pages of PDFs are rendered with (default: 200)")
    add(
        "--every",
        metavar="N|SECONDSs",
        help="frames of a video: every n-th one, or one every so many seconds, as in 2s or 0.5s (default: 1, all)",
    )
    add("--all-frames", action="store_true", help="all frames of TIFF, GIF, WebP and other images, not only the first")
    advanced(
        add(
            "--recursive",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="search folders below folders, too (default: yes)",
        ),
        add(
            "--image-column",
            metavar="NAME",
            help="column of images in parquet files and data sets, suffix of the images in webdataset shards (default: found)",
        ),
        add("--split", metavar="NAME", help="split of data sets on the Hub, where there are several"),
    )


def find_images(inputs: list[str], recursive: bool = True, left_out: Container[str] = ()) -> dict[str, str | None]:
    """
    Lists the files that the inputs of a command stand for, see [`~tcm_hf.inputs.find_inputs`].

    Raises:
        UsageError: if no input stands for a file.
    """
    from ..inputs import find_inputs

    found = find_inputs(inputs, recursive, left_out)
    if None not in found.values():
        raise UsageError("; ".join(filter(None, found.values())))
    return found


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf detect`.

    Returns:
        `int`: 0, or 1 where an image could not be read or a result not be written.

    Raises:
        UsageError: for inputs, outputs or a model that cannot be used.
    """
    if arguments.resume and (arguments.output is None or result_format(arguments) != "jsonl"):
        raise UsageError("--resume goes on with a file of JSON Lines; name it by --output FILE.jsonl")
    options = input_options(arguments)
    check_model_options(arguments)
    # Drawings and crops are no inputs of the next run.
    left_out = {
        os.path.realpath(place) for place in (arguments.draw, arguments.crops) if place is not None and place.is_dir()
    }
    inputs = find_images(arguments.inputs, arguments.recursive, left_out)
    # The places for the results first: the model takes long to load, and the images longer.
    _check_files(arguments, inputs)
    if arguments.output is not None:
        try:
            check_place(arguments)
        except OSError as error:
            raise UsageError(str(error)) from error
    writer = build_result_writer(arguments, inputs, resume=arguments.resume)
    try:
        with opened(build_writers(arguments, inputs, writer)) as writers:
            return _detect_all(load_pipeline(arguments), inputs, options, writers, arguments)
    except (ResultWriteError, BlockingIOError) as error:
        print(f"tcm-hf detect: error: {one_line(error)}{_so_far(writer, inputs)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        error.add_note(_so_far(writer, inputs))
        raise


def _check_files(arguments: argparse.Namespace, inputs: Iterable[str]) -> None:
    """Sees to it that no image is overwritten, nor one result by another."""
    from ..inputs.sources import kind_by_name

    files = {"--output": arguments.output, "--html": arguments.html}
    table = None if arguments.crops is None else arguments.crops / "crops.csv"
    try:
        check_overwritten({**files, "--crops": table}, inputs)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for option, place in files.items():
        # Images that a list names are known only when it is read.
        if place is not None and os.path.isfile(place) and kind_by_name(str(place)) not in (None, "list"):
            raise UsageError(f"{option} {str(place)!r} is a file of images, by its name; name another file")


def build_writers(
    arguments: argparse.Namespace, inputs: dict[str, str | None], results: ResultWriter
) -> list[DetectionWriter]:
    """
    All that the results go to, in the order in which each of them is written.

    The JSON comes last: whatever it holds, the others have, too.

    Raises:
        UsageError: if one of them cannot be made.
    """
    writers: list[DetectionWriter] = []
    if arguments.draw:
        writers.append(DrawingWriter(arguments.draw, inputs, arguments.show_scores))
    return [*writers, *build_side_writers(arguments, inputs), results]


@contextmanager
def opened(writers: list[DetectionWriter]) -> Iterator[list[DetectionWriter]]:
    """Opens writers, and closes those that were opened."""
    with ExitStack() as stack:
        for writer in writers:
            writer.open()
            stack.callback(writer.close)
        yield writers


def _so_far(writer: ResultWriter, inputs: dict) -> str:
    """What there is of the results when a run ends early, for its last message."""
    if not writer.count:
        return ""
    from ..inputs.sources import kind_by_name

    # Files of many images tell only while they are read how many these are.
    of = f" of {len(inputs)}" if all(kind_by_name(path) == "image" for path in inputs) else ""
    return f"; the first {writer.count}{of} results are in {repr(str(writer.output)) if writer.output else 'stdout'}"


def input_options(arguments: argparse.Namespace) -> "InputOptions":
    """
    How the command line wants inputs to be read.

    Raises:
        UsageError: if a value cannot be meant.
    """
    from ..inputs import InputOptions

    names = ("dpi", "all_frames", "every", "image_column", "split", "max_frames", "max_pixels", "timeout")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    try:
        return InputOptions(**given)
    except ValueError as error:
        raise UsageError(f"--{error}".replace("_", "-", 1)) from error


def _detect_all(
    pipe,
    inputs: dict[str, str | None],
    options: "InputOptions",
    writers: list[DetectionWriter],
    arguments: argparse.Namespace,
) -> int:
    from tqdm import tqdm

    from ..inputs.items import place_key
    from ..inputs.sources import expand_inputs
    from .detection_loop import LoopOptions, detect_images, passes_at_a_time

    failures = 0
    results: Any = writers[-1]
    if arguments.max_pixels is None:
        options = replace(options, max_pixels=pipe.image_processor.max_pixels)
    keep = any(writer.needs_image for writer in writers)
    passes = passes_at_a_time(pipe, arguments.batch_size)
    loop = LoopOptions(arguments.batch_size, arguments.workers, passes, keep)

    def report(error: str) -> None:
        nonlocal failures
        failures += 1
        bar.write(f"tcm-hf detect: error: {error}", file=sys.stderr)

    def write(entry: dict[str, Any], image: Any) -> None:
        if "error" in entry:
            report(entry["error"])
        for writer in writers:
            try:
                writer.write(entry, image)
            except (ResultWriteError, BrokenPipeError, *PROGRAMMING_ERRORS):
                raise
            except Exception as error:
                report(one_line(error))

    # A run of seconds needs no bar, and a log no thousands of them.
    bar = tqdm(
        total=len(inputs),
        unit="image",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        delay=SECONDS_BEFORE_PROGRESS,
    )
    items = expand_inputs(inputs, options, results.has if arguments.resume else None)
    with bar, _warnings_beside(bar), closing(detect_images(pipe, items, loop)) as detected:
        for item, entry, image in detected:
            if item.siblings is not None:
                bar.total = (bar.total or 0) + item.siblings - 1
            if item.is_done:
                entry = results.earlier_entry(place_key(item.name, item.facts))
                failures += "error" in entry
                for writer in writers:
                    writer.skip(entry)
                if not bar.disable:
                    bar.initial += 1  # no work of this run, by whose speed the time that is left is estimated
            else:
                write(entry, image)
            bar.update()
    return 1 if failures else 0


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
