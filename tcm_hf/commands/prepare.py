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
Writes a benchmark as a folder that datasets.load_dataset('imagefolder', data_dir=OUT) loads: images and metadata.jsonl
(polygons, ignore, text, width, height), with report.json. A run that was killed goes on where it was; a second one on
the same OUT is refused while it writes. One folder, or one split of it, is made of one source: several sources get a folder
each, and `tcm-hf train --train_dir A B` trains on them together. Nothing is downloaded.
"""

import argparse
import re
from pathlib import Path

from ..data.formats import AnnotationError, find_format, read_dataset
from ..data.formats.records import noted_warnings
from ..data.parquet_shards import SHARD_MEGABYTES, write_parquet
from ..data.prepare import REPORT_NAME, format_report, prepare_held_folder
from ..model.image_loading import count_passed_over
from ..output_files import exclusive
from .parser import CommandParser, advanced
from .source_options import add_source_options, list_formats, source_options


def add_arguments(parser: CommandParser) -> None:
    """Declares the arguments of `tcm-hf prepare`."""
    list_formats(parser)
    parser.add_argument("format", metavar="FORMAT", help="format of SRC, see below, or auto")
    parser.add_argument("source", metavar="SRC", type=Path, help="folder or annotation file")
    parser.add_argument("output", metavar="OUT", type=Path, help="the folder to make")
    add_source_options(parser)
    group = parser.add_argument_group("what is written")
    add = group.add_argument
    add("--split", metavar="NAME", help="read this split only; OUT/NAME is written (default: train)")
    advanced(add("--output-split", metavar="NAME", help="name of the split in OUT, when it is another one"))
    placing = group.add_mutually_exclusive_group()
    for name, text in (("copy", "copy the images (default)"), ("link", "link them"), ("hardlink", "link them hard")):
        action = placing.add_argument(
            f"--{name}", dest="placing", action="store_const", const=name, default="copy", help=text
        )
        advanced(action)
    advanced(add("--no-repair", action="store_true", help="write every outline as it is, degenerate ones too"))
    add("--verify", action="store_true", help="decode every image and leave out damaged ones")
    add("--skip-bad", action="store_true", help="leave out images whose annotation cannot be meant")
    add("--parquet", type=Path, metavar="DIR", help="also write parquet shards with the images, for the Hub")
    advanced(
        add(
            "--shard-size", type=float, default=SHARD_MEGABYTES, metavar="MB", help="of parquet (default: %(default)s)"
        )
    )
    add(
        "--overwrite",
        action="store_true",
        help="remove what an earlier run made in OUT, and its parquet, once SRC could be read",
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf prepare`.

    Returns:
        `int`: 0, or 1 when images had to be left out.

    Raises:
        ValueError, OSError: for a wrong command line, source or output; the message says what to change.
    """
    entry = find_format(arguments.format, arguments.source, arguments.annotations)
    if arguments.format == "auto":
        print(f"format: {entry.name}")
    options = source_options(arguments)
    errors: list[str] = []
    reader_options = dict(options)
    if arguments.skip_bad:
        reader_options["on_error"] = lambda error: errors.append(str(error))
    split = arguments.output_split or arguments.split or "train"
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ValueError(f"--output-split {split!r}: letters, digits and _ only")
    root = arguments.output / split
    warnings: list[str] = []
    with noted_warnings(warnings):
        records = read_dataset(entry.name, arguments.source, **reader_options)
    passed_over = count_passed_over([arguments.source, *(arguments.images or [])])
    with exclusive(root):
        try:
            with noted_warnings(warnings):
                report = prepare_held_folder(
                    records,
                    root,
                    arguments.source,
                    {
                        "format": entry.name,
                        "source": str(arguments.source.absolute()),
                        "split": split,
                        "options": options,
                        "placing": arguments.placing,
                        "repair": not arguments.no_repair,
                        "verify": arguments.verify,
                        "languages": entry.languages,
                    },
                    errors=errors,
                    warnings=warnings,
                    progress=True,
                    overwrite=arguments.overwrite,
                    passed_over=passed_over,
                )
        except AnnotationError as error:
            hint = "--skip-bad leaves out such images; what is done so far is kept"
            raise AnnotationError(f"{error} ({hint})") from error
        if report.get("already_complete"):
            print(f"{root} is complete already; --overwrite makes it anew")
        print(format_report(report))
        load = f"datasets.load_dataset('imagefolder', data_dir={str(arguments.output)!r})"
        print(f"written to {root}; load it with {load}")
        others = [
            path.parent.name for path in sorted(arguments.output.glob(f"*/{REPORT_NAME}")) if path.parent != root
        ]
        if others:
            print(
                f"{arguments.output} also has the splits {', '.join(others)}, which earlier runs wrote and this one left alone"
            )
        if arguments.placing == "link":
            print("its images are links that lead outside of it: commands that read it need --allow-outside")
        if arguments.parquet is not None:
            shards = write_parquet(root, arguments.parquet, split, arguments.shard_size, arguments.overwrite)
            files = "parquet files" if len(shards) > 1 else "parquet file"
            print(f"{len(shards)} {files} written to {arguments.parquet / 'data'}")
    return 1 if report["dropped_images"] else 0
