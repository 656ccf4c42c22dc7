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
"""The options of `tcm-hf detect` on what becomes of results, and the writers that they ask for."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..output_files import check_output_file
from .errors import UsageError
from .result_writer import DetectionWriter, ResultWriter


if TYPE_CHECKING:
    from ..outputs.writers import StreamForm

# Spelled out, since the help is shown without loading what writes them; a test compares.
FORMAT_NAMES = (
    "json",
    "jsonl",
    "coco",
    "icdar",
    "labelme",
    "yolo-seg",
    "yolo-obb",
    "paddleocr",
    "csv",
    "hocr",
    "alto",
)
FOLDER_FORMATS = ("icdar", "labelme", "yolo-seg", "yolo-obb", "alto")


def add_format_options(add) -> None:
    """Declares the options, by the `add_argument` of a group."""
    add(
        "--format",
        choices=FORMAT_NAMES,
        help=f"format of --output, which is a folder for {', '.join(FOLDER_FORMATS)} (default: by the name of the file, or "
        "else json)",
    )
    add(
        "--crops",
        type=Path,
        metavar="DIR",
        help="write every text as an image here, upright and straight, with the table crops.csv of their regions",
    )
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page here that shows every image with its texts, to be filtered by score; it needs no other file",
    )


class StreamWriter(ResultWriter):
    """
    A [`ResultWriter`] of another form than JSON.

    Args:
        output (`Path`, *optional*): the file; stdout by default.
        form ([`StreamForm`]): what is written.
    """

    def __init__(self, output: Path | None, form: "StreamForm"):
        super().__init__(output)
        self.form, self.lines = form, False
        self.needs_image = form.needs_image

    @property
    def closing(self) -> bytes:
        return self.form.closing.encode()

    def encode(self, entry: dict[str, Any], image: Any = None) -> bytes:
        text = self.form.render(entry, image)
        text = text if self.count else self.form.opening + text
        # As `output_file` does with names that are no UTF-8.
        return text.encode("utf-8", errors="backslashreplace")

    def skip(self, entry: dict[str, Any]) -> None:
        """The file is made anew: what is known of the entry is written again."""
        self.write(entry)


def result_format(arguments: argparse.Namespace) -> str:
    """
    The format that the command line asks for.

    Raises:
        UsageError: if it needs a place to write to, and has none.
    """
    from ..outputs.registry import format_of

    if arguments.format is None:
        return format_of(arguments.output)
    if arguments.format in FOLDER_FORMATS and arguments.output is None:
        raise UsageError(f"--format {arguments.format} writes a file for each image; name a folder (--output DIR)")
    return arguments.format


def check_place(arguments: argparse.Namespace) -> None:
    """Sees to it that `--output` can be written; an `OSError` names it."""
    if result_format(arguments) not in FOLDER_FORMATS:
        check_output_file(arguments.output)
    elif arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(
            f"--output {str(arguments.output)!r} is a file; name a folder for --format {arguments.format}"
        )


def build_result_writer(arguments: argparse.Namespace, inputs: Iterable[str], **options) -> Any:
    """
    The writer of `--output` in its format.

    Args:
        arguments (`argparse.Namespace`): the command line.
        inputs (`Iterable[str]`): the input files, none of which is overwritten.
        options: of [`ResultWriter`], for JSON.

    Raises:
        UsageError: if it cannot be made.
    """
    from ..outputs.registry import OUTPUT_FORMATS
    from ..outputs.writers import CocoWriter

    name = result_format(arguments)
    entry, output = OUTPUT_FORMATS[name], arguments.output
    if name not in ("json", "jsonl") and any(options.values()):
        raise UsageError(f"--resume goes on with JSON Lines, not with --format {name}")
    if entry.folder is not None:
        try:
            return entry.folder(output, inputs)
        except OSError as error:
            raise UsageError(str(error)) from error
    if entry.stream is not None:
        return StreamWriter(output, entry.stream(Path.cwd() if output is None else output.parent))
    if name == "coco":
        return CocoWriter(output)
    writer = ResultWriter(output, **options)
    writer.lines = name == "jsonl"
    return writer


def build_side_writers(arguments: argparse.Namespace, inputs: Iterable[str]) -> list[DetectionWriter]:
    """
    What is written beside the results: crops, a page to look at.

    Raises:
        UsageError: if one of them cannot be made.
    """
    writers: list[DetectionWriter] = []
    if arguments.crops is not None:
        from ..outputs.crops import crops_form

        try:
            writers.append(StreamWriter(arguments.crops / "crops.csv", crops_form(arguments.crops, inputs)))
        except OSError as error:
            raise UsageError(str(error)) from error
    if arguments.html is not None:
        from ..outputs.html_page import page_form

        try:
            check_output_file(arguments.html)
        except OSError as error:
            raise UsageError(str(error)) from error
        writers.append(StreamWriter(arguments.html, page_form()))
    return writers
