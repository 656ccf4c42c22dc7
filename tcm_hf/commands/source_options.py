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
"""Command-line options of reading a data set, which `prepare`, `inspect` and `evaluate` share."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from ..data.formats import FORMATS
from ..data.formats.access import MEMORY_LIMIT
from ..data.formats.files import MISSING_CHOICES, ORIENTATION_CHOICES
from ..data.formats.labels import LABEL_CHOICES
from .arguments import positive_int
from .parser import CommandParser, advanced


def list_formats(parser: CommandParser) -> None:
    """Ends the help of a command that reads data sets with the formats; the help of all options describes them."""
    names = textwrap.fill(", ".join(FORMATS), 100, initial_indent="  ", subsequent_indent="  ")
    parser.epilog = f"formats (--help-all describes them):\n{names}"
    lines = [
        textwrap.fill(f"{entry.name:10} {entry.title}: {entry.layout}", 100, subsequent_indent=" " * 13)
        for entry in FORMATS.values()
    ]
    parser.full_epilog = "formats:\n" + textwrap.indent("\n".join(lines), "  ")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Declares the options of reading."""
    group = parser.add_argument_group("reading the data set")
    add = group.add_argument
    add("--images", type=Path, action="append", metavar="DIR", help="folder of images; may be repeated")
    add("--annotations", type=Path, metavar="DIR", help="folder of annotation files")
    add("--missing", choices=MISSING_CHOICES, help="annotations without image (default: error)")
    advanced(
        add(
            "--frame-size",
            type=int,
            nargs=2,
            metavar=("HEIGHT", "WIDTH"),
            help="size of the annotated images, when SRC has resized copies",
        ),
        add(
            "--orientation",
            choices=ORIENTATION_CHOICES,
            help="what annotations of images turned by EXIF refer to",
        ),
        add("--encoding", metavar="NAME", help="encoding of annotation files (default: UTF-8)"),
        add(
            "--categories",
            action="append",
            metavar="NAME[,NAME]",
            help="coco and labeling tools: the categories (labels) that are text; others are left out (default: all are text)",
        ),
        add(
            "--labels",
            choices=LABEL_CHOICES,
            help="labelme: whether labels are transcriptions or classes (default: auto, a transcription unless it is "
            "text, word or line)",
        ),
        add(
            "--normalized",
            action="store_true",
            help="coordinates are fractions of width and height, 0 to 1, not pixels",
        ),
        add(
            "--merge-duplicates",
            action="store_true",
            help="join the instances of an image that is listed several times",
        ),
        add(
            "--allow-outside",
            action="store_true",
            help="open files outside of SRC and --images, and addresses, which annotations or links lead to; only if you "
            "trust the data set",
        ),
        add(
            "--memory-limit",
            type=positive_int,
            metavar="MIB",
            help=f"memory that an annotation file may take (default: {MEMORY_LIMIT // 2**20})",
        ),
        add(
            "--option",
            action="append",
            default=[],
            metavar="NAME=JSON",
            help="another option of the reader; may be repeated",
        ),
    )


def source_options(arguments: argparse.Namespace) -> dict:
    """The options of `read_dataset` that a command line names."""
    options = {
        "images": arguments.images,
        "annotations": arguments.annotations,
        "split": arguments.split,
        "missing": arguments.missing,
        "record_size": tuple(arguments.frame_size) if arguments.frame_size else None,
        "orientation": arguments.orientation,
        "encoding": arguments.encoding,
        "categories": [name.strip() for text in arguments.categories or () for name in text.split(",")] or None,
        "labels": arguments.labels,
        "normalized": arguments.normalized or None,
        "merge_duplicates": arguments.merge_duplicates or None,
        "allow_outside": arguments.allow_outside or None,
        "memory_limit": arguments.memory_limit and arguments.memory_limit * 2**20,
    }
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--option {text!r}: expected NAME=JSON")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return {name: value for name, value in options.items() if value is not None}
