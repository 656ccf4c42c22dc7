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
Counts what is in a data set, warns of what training would fail on, and draws samples: readable text green, ignored text
orange with a cross, and with --targets what a detector is trained on.
"""

import argparse
import re
import sys
from pathlib import Path

from PIL import Image

from ..data.formats import find_format, read_dataset
from ..data.inspect_data import Inspection, contact_sheet, draw_sample, format_inspection, inspect_records
from ..model.detectors import detector_names, detector_of
from ..model.image_loading import count_passed_over, describe_passed_over
from ..output_files import exclusive, make_output_folder, printable, replacing
from .parser import CommandParser, advanced
from .source_options import add_source_options, list_formats, source_options


def add_arguments(parser: CommandParser) -> None:
    """Declares the arguments of `tcm-hf inspect`."""
    list_formats(parser)
    parser.add_argument(
        "format", metavar="FORMAT", help="format of SRC, see below, or auto; `hub` for a prepared folder"
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="folder, annotation file or id of a Hub data set")
    add_source_options(parser)
    add = parser.add_argument_group("what is drawn").add_argument
    add("--split", metavar="NAME", help="the split to look at")
    add("--output", type=Path, metavar="DIR", default=Path("inspect"), help="default: %(default)s")
    add("--shots", type=int, default=16, metavar="N", help="samples to draw, 0 for none (default: 16)")
    add(
        "--targets",
        metavar="DETECTOR",
        help="draw the training targets of this detector, too: "
        f"{', '.join(detector_names('targets'))}, or the Python file of your own",
    )
    advanced(
        add("--seed", type=int, default=0, help="seed of the sample (default: 0)"),
        add("--files", action="store_true", help="one file a sample instead of one sheet"),
        add("--size", type=int, default=480, help="longest edge of a drawn image (default: 480)"),
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf inspect`.

    Returns:
        `int`: 0, or 1 when an annotation cannot be meant or an image cannot be read.

    Raises:
        ValueError, OSError: for a wrong command line, source or output; the message says what to change.
    """
    if arguments.shots < 0 or arguments.size < 32:
        raise ValueError("--shots must be at least 0 and --size at least 32")
    if arguments.targets is not None:
        detector_of(arguments.targets).part("targets")  # before anything is read
    entry = find_format(arguments.format, arguments.source, arguments.annotations)
    if arguments.format == "auto":
        print(f"format: {entry.name}")
    errors: list[str] = []
    options = source_options(arguments)
    options["on_error"] = lambda error: errors.append(str(error))
    result = inspect_records(read_dataset(entry.name, arguments.source, **options), arguments.shots, arguments.seed)
    for error in errors:
        result.note("annotations that cannot be meant", error)
    print(format_inspection(result))
    if passed_over := count_passed_over([arguments.source, *(arguments.images or [])]):
        print(f"warning: {describe_passed_over(passed_over)}")
    if not result.counts["images"]:
        raise ValueError(f"{arguments.source}: no image with an annotation that can be read")
    written = _draw(result, arguments) if result.samples else []
    for path in written:
        print(f"written: {path}")
    return 1 if errors or result.problem_counts["images that cannot be read"] else 0


def _draw(result: Inspection, arguments: argparse.Namespace) -> list[Path]:
    drawings = []
    for record in result.samples:
        caption = f"{record.name} ({len(record.polygons)} texts, {sum(record.ignore)} ignored)"
        try:
            drawings.append((caption, draw_sample(record, arguments.targets, arguments.size)))
        except (OSError, ValueError) as error:
            print(f"warning: cannot draw {printable(record.name)}: {printable(str(error))}", file=sys.stderr)
    if not drawings:
        return []
    make_output_folder(arguments.output)
    with exclusive(arguments.output):
        if not arguments.files:
            path = arguments.output / "contact_sheet.jpg"
            _save(contact_sheet(drawings), path)
            return [path]
        paths = []
        for number, (caption, image) in enumerate(drawings, start=1):
            name = re.sub(r"[^\w.-]", "_", Path(caption.rsplit(" (", 1)[0]).stem)
            name = name.encode()[:200].decode(errors="ignore")  # file systems allow 255 bytes
            paths.append(arguments.output / f"{number:03d}_{name}.jpg")
            _save(image, paths[-1])
    return paths


def _save(image: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        image.save(temporary, format="JPEG", quality=90)
