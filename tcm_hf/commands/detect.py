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
Finds text in images and writes it as JSON: a list with one entry for each image, with its path, width, height
and detections (score, label, box and polygon in pixels of the upright image), or with an error where it could
not be read. Results are written image by image; the file is complete JSON at any time.
"""

import argparse
import glob
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..checkpoints import DEFAULT
from .arguments import positive, positive_int
from .drawing_writer import DrawingWriter
from .errors import UsageError, one_line
from .format_writer import add_format_options, build_result_writer, build_side_writers, check_place
from .loading import add_model_options, load_pipeline
from .parser import advanced
from .result_writer import DetectionWriter, ResultWriteError, ResultWriter


# Below this many images a progress bar is only noise.
MIN_IMAGES_FOR_PROGRESS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf detect`."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|DIR|GLOB",
        help="files, addresses (http, https), directories, quoted patterns",
    )
    add_model_options(parser, f" (default: {DEFAULT})")
    add = parser.add_argument_group("results").add_argument
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the JSON here instead of to stdout; JSON Lines, an entry on each line, where it ends in .jsonl",
    )
    add_format_options(add)
    add("--draw", type=Path, metavar="DIR", help="write images with the texts drawn on them here")
    advanced(add("--show-scores", action="store_true", help="write the scores on these drawings"))
    add("--reading-order", action="store_true", help="sort the texts as they are read")
    add = parser.add_argument_group("limits").add_argument
    advanced(
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


def find_images(inputs: list[str]) -> dict[str, str | None]:
    """
    Lists the images that the inputs of a command stand for.

    Args:
        inputs (`list[str]`): files, web addresses, directories (their images, without those of subdirectories) and
            patterns such as `"photos/**/*.jpg"`.

    Returns:
        `dict[str, str | None]`: each path once, in the order of the inputs, sorted by name inside of directories and
        patterns, with `None`. Files that do not exist are listed too, so that reading them reports the error. A
        directory that holds no image or cannot be listed, and a pattern that matches nothing, come with the reason.

    Raises:
        UsageError: if no input stands for an image.
    """
    from ..model.image_loading import IMAGE_SUFFIXES

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
                found[text] = f"no images in directory {text!r}; for those of its subdirectories pass {pattern!r}"
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


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf detect`.

    Returns:
        `int`: 0, or 1 where an image could not be read or a result not be written.

    Raises:
        UsageError: for inputs, outputs or a model that cannot be used.
    """
    inputs = find_images(arguments.inputs)
    # The places for the results first: the model takes long to load, and the images longer.
    if arguments.output is not None:
        if any(os.path.realpath(path) == os.path.realpath(arguments.output) for path in inputs):
            raise UsageError(f"--output {str(arguments.output)!r} is one of the images; name another file")
        try:
            check_place(arguments)
        except OSError as error:
            raise UsageError(str(error)) from error
    writer = build_result_writer(arguments, inputs)
    try:
        with opened(build_writers(arguments, inputs, writer)) as writers:
            return _detect_all(load_pipeline(arguments), inputs, writers, arguments)
    except (ResultWriteError, BlockingIOError) as error:
        print(f"tcm-hf detect: error: {one_line(error)}{_so_far(writer, inputs)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        error.add_note(_so_far(writer, inputs))
        raise


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
    return f"; the first {writer.count} of {len(inputs)} results are in {repr(str(writer.output)) if writer.output else 'stdout'}"


def _detect_all(
    pipe,
    inputs: dict[str, str | None],
    writers: list[DetectionWriter],
    arguments: argparse.Namespace,
) -> int:
    from tqdm import tqdm

    from ..model import image_loading

    failures = 0
    limits = {"timeout": arguments.timeout, "max_pixels": arguments.max_pixels or pipe.image_processor.max_pixels}
    waiting: list[tuple[dict, Any]] = []  # results to come, with their images; `None` where one could not be read

    def report(error: str) -> str:
        nonlocal failures
        failures += 1
        bar.write(f"tcm-hf detect: error: {error}", file=sys.stderr)
        return error

    def finish() -> None:
        """Detects in the images that wait, and writes their results."""
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
            for writer in writers:
                try:
                    writer.write(record, picture)
                except (ResultWriteError, BrokenPipeError):
                    raise
                except Exception as error:
                    report(one_line(error))
            bar.update()

    bar = tqdm(total=len(inputs), unit="image", file=sys.stderr, disable=len(inputs) < MIN_IMAGES_FOR_PROGRESS)
    with bar, _warnings_beside(bar):
        for path, problem in inputs.items():
            try:
                if problem is not None:
                    raise OSError(problem)
                picture = image_loading.load_rgb_image(path, **limits)
            except (OSError, ValueError) as error:
                waiting.append(({"image": path, "error": report(one_line(error))}, None))
            else:
                waiting.append(({"image": path, "width": picture.width, "height": picture.height}, picture))
                del picture
            # Nothing that is known waits for an image that is not read yet.
            if sum(picture is not None for _, picture in waiting) in (0, arguments.batch_size):
                finish()
        finish()
    return 1 if failures else 0


def _detect_batch(pipe, pictures: list) -> list:
    """The detections of each image, or the reason (`str`) why there are none: one image does not cost the others."""
    if not pictures:
        return []
    pipe.call_count = 0  # transformers' advice to pass a dataset is not for a command that writes as it goes
    try:
        return pipe(pictures, batch_size=len(pictures))
    except Exception as error:  # of the model, such as too little memory, as of the images
        reason = one_line(error)
    if len(pictures) == 1:
        return [reason]
    return [_detect_batch(pipe, [picture])[0] for picture in pictures]


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


def _rounded(detection: dict) -> dict:
    """A hundredth of a pixel is enough for a file, and far shorter than all digits."""
    polygon = [[round(coordinate, 2) for coordinate in point] for point in detection["polygon"]]
    return {**detection, "score": round(detection["score"], 4), "polygon": polygon}
