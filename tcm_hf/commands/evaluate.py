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
Measures detections by the protocol of a benchmark.

Detections come from files (a folder or zip of res_*.txt, or the JSON of `tcm-hf detect --output`) or are made on the
spot with --model. The ground truth is read in any format that `tcm-hf prepare` knows, a prepared dataset included.

  tcm-hf evaluate submit.zip --ground-truth ICDAR2015/test_gt --protocol icdar2015
  tcm-hf evaluate --model my-model --ground-truth TotalText --split test --protocol totaltext --gallery worst
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..metrics.detection_files import ImageDetections, image_key, read_detections
from ..metrics.evaluator import TextDetectionEvaluator, evaluator_sweep, rotated_box
from ..metrics.protocols import ALIASES, PROTOCOLS, get_protocol
from ..metrics.report import GALLERY_PAGE, json_ready, write_gallery, write_report
from ..output_files import check_output_file, check_overwritten, make_output_folder
from .arguments import fraction, positive_int
from .loading import add_model_options, load_pipeline
from .parser import CommandParser, advanced
from .source_options import add_source_options, source_options


# Lowest score of the detections that a table of thresholds is made of.
SWEEP_THRESHOLD = 0.05

# The format in which the ground truth of a protocol's benchmark is published.
_FORMATS = {
    "rrc_iou": "icdar2015",
    "ic13_deteval": "icdar2013",
    "tt_deteval_0.7_0.6": "totaltext",
    "tt_pascal": "totaltext",
    "ctw1500_official": "ctw1500",
    "td500_angle": "td500",
    "mlt_iou": "mlt2017",
    "tt_pascal_old_art": "art",
}


def add_arguments(parser: CommandParser) -> None:
    """Declares the arguments of `tcm-hf evaluate`."""
    parser.add_argument("detections", nargs="?", metavar="DETECTIONS", help="folder or zip of text files, or JSON")
    parser.add_argument(
        "--ground-truth", required=True, metavar="DIR_OR_FILE", help="annotations, with or without images"
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="format of the annotations, or auto (default: the protocol's benchmark, or hub)",
    )
    parser.add_argument(
        "--protocol",
        default="icdar2015",
        metavar="NAME",
        help=f"{', '.join(ALIASES)}, or one script's own rule, which --help-all lists (default: icdar2015)",
    )
    rules = textwrap.fill(", ".join(PROTOCOLS), 100, initial_indent="  ", subsequent_indent="  ")
    parser.full_epilog = f"rules of single scripts, for --protocol:\n{rules}"
    parser.add_argument("--split", help="split of the ground truth, where there are several")
    advanced(
        parser.add_argument("--language", metavar="NAME", help="mlt: only words in this script, such as Latin"),
        parser.add_argument(
            "--score-threshold", type=fraction, metavar="SCORE", help="drop detections below this score"
        ),
    )
    add = parser.add_argument_group("results").add_argument
    add("--output", type=Path, metavar="FILE", help="write a JSON report with every image here")
    add("--gallery", type=Path, metavar="DIR", help="write a page with the worst images here")
    advanced(add("--worst", type=positive_int, default=24, metavar="N", help="images in the gallery (default: 24)"))
    add("--sweep", action="store_true", help="also a table of score thresholds; choose one on a validation split only")
    add_model_options(parser, "", "model, to detect on the spot")
    add_source_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf evaluate`.

    Returns:
        `int`: 0, or 1 when an image has no result or an image could not be read.

    Raises:
        ValueError, OSError: for a wrong command line, input or output; the message says what to change.
    """
    protocol = get_protocol(arguments.protocol)
    if (arguments.detections is None) == (arguments.model is None):
        raise ValueError("give either DETECTIONS (files) or --model, which detects on the spot")
    # The places for the results first: detecting and scoring take long.
    gallery = None if arguments.gallery is None else arguments.gallery / GALLERY_PAGE
    sources = arguments.detections, arguments.ground_truth, arguments.annotations
    check_overwritten({"--output": arguments.output, "--gallery": gallery}, filter(None, sources))
    if arguments.output is not None:
        check_output_file(arguments.output)
    if arguments.gallery is not None:
        make_output_folder(arguments.gallery)
    records = _read_ground_truth(arguments)
    problems: list[str] = []
    if arguments.model is not None:
        results = _detect(records, arguments, problems)
    else:
        read = read_detections(arguments.detections, rotated=protocol.needs_angles)
        results = ((name, detections, detections) for name, detections in _from_files(records, read, problems))

    evaluator, sweeper = (TextDetectionEvaluator(protocol, language=arguments.language) for _ in range(2))
    kept: dict[str, ImageDetections] = {}
    for name, found, with_low_scores in results:
        for target, detections in ((evaluator, found), (sweeper, with_low_scores)):
            if target is evaluator or arguments.sweep:
                _add(target, name, detections, records[name])
        kept[name] = found
    if not kept:
        raise ValueError("no image is left to score")
    result = evaluator.compute(arguments.score_threshold)
    sweep = evaluator_sweep(sweeper) if arguments.sweep else None
    _print_result(result, sweep)
    if arguments.output is not None:
        settings = {
            "ground_truth": arguments.ground_truth,
            "detections": arguments.detections,
            "model": arguments.model,
        }
        extra = {"settings": settings, "problems": problems, **({"threshold_sweep": sweep["sweep"]} if sweep else {})}
        write_report(arguments.output, result, **extra)
    if arguments.gallery is not None:
        page = write_gallery(
            arguments.gallery,
            result,
            lambda name: _picture(records[str(name)], kept[str(name)]),
            count=arguments.worst,
        )
        print(f"gallery: {page}")
    for problem in problems:
        print(f"tcm-hf evaluate: warning: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _add(evaluator: TextDetectionEvaluator, name: str, found: ImageDetections, record) -> None:
    detections = {"polygons": found.polygons, "scores": found.scores, "rotated_boxes": found.rotated_boxes}
    evaluator.add(detections, _truth(record, found), image_id=name)


def _truth(record, found: ImageDetections):
    """The record; beside rotated boxes, with its own boxes as they were published."""
    if found.rotated_boxes is None or any(len(polygon) != 4 for polygon in record.polygons):
        return record
    boxes = [rotated_box(polygon, as_listed=True) for polygon in record.polygons]
    return {"polygons": record.polygons, "ignore": record.ignore, "texts": record.texts, "rotated_boxes": boxes}


def _read_ground_truth(arguments: argparse.Namespace) -> dict:
    """The records by a name that is unique among them."""
    from ..data.formats import find_format, read_dataset

    name = arguments.format or _guess_format(arguments)
    options = source_options(arguments)
    entry = find_format(name, arguments.ground_truth, arguments.annotations)
    if arguments.detections is not None and "missing" in entry.options:
        # Annotations are all that is needed; images only for the gallery.
        options.setdefault("missing", "keep")
    records = list(read_dataset(entry.name, arguments.ground_truth, **options))
    if not records:
        raise ValueError(f"no annotated image in {arguments.ground_truth!r} ({name}); see --format and --split")
    keys = [image_key(record.name) for record in records]
    # Names that occur in several folders are told apart by their paths, where a model finds the detections.
    unique = len(set(keys)) == len(keys)
    named = dict(zip(keys if unique else [record.name for record in records], records))
    if len(named) < len(records):
        raise ValueError(f"{arguments.ground_truth!r} lists an image twice; remove one annotation")
    return named


def _guess_format(arguments: argparse.Namespace) -> str:
    source = Path(arguments.ground_truth)
    prepared = ("metadata.jsonl", "*/metadata.jsonl", "*.parquet", "*/*.parquet")
    if source.suffix == ".parquet" or any(next(source.glob(pattern), None) for pattern in prepared):
        return "hub"
    name = get_protocol(arguments.protocol).name
    if name not in _FORMATS:
        raise ValueError(f"protocol {arguments.protocol!r} is not one benchmark's: say with --format how to read it")
    return _FORMATS[name]


def _from_files(
    records: dict, found: dict[str, ImageDetections], problems: list[str]
) -> Iterator[tuple[str, ImageDetections]]:
    """The detections of every record."""
    keys = Counter(image_key(name) for name in records)
    shared = [key for key, count in keys.items() if count > 1]
    if shared:
        raise ValueError(
            f"{keys[shared[0]]} images of the ground truth are called {shared[0]!r}, and results are paired by file names "
            "without folders: evaluate one folder at a time (--split), or rename the images"
        )
    pairs = _pair_names([image_key(name) for name in records], list(found))
    if not pairs:
        examples = f"{next(iter(found), 'none')!r} and {next(iter(records))!r}"
        raise ValueError(
            f"no detections belong to an image of the ground truth (for example {examples}); check the names"
        )
    surplus = sorted(set(found) - set(pairs.values()))
    if surplus:
        problems.append(
            f"{len(surplus)} results without an image in the ground truth, such as {surplus[0]!r}: not used"
        )
    missing = [name for name in records if image_key(name) not in pairs]
    if missing:
        problems.append(
            f"{len(missing)} images without a result, such as {missing[0]!r}: counted as without detections"
        )
    for name, record in records.items():
        key = pairs.get(image_key(name))
        yield name, ImageDetections("none", [], None) if key is None else _to_frame(found[key], record)


def _pair_names(images: list[str], results: list[str]) -> dict[str, str]:
    """
    Which result belongs to which image: the same name or, where no name fits, the same number.

    Benchmarks name results after the number of an image only: `res_1` for `gt_1.jpg`, `0001001.txt` for `1001.jpg`.
    """
    pairs = {name: name for name in images if name in set(results)}
    if pairs:
        return pairs
    numbers: dict[str, list[str]] = {}
    for name in results:
        numbers.setdefault(_last_number(name), []).append(name)
    by_image: dict[str, list[str]] = {}
    for name in images:
        by_image.setdefault(_last_number(name), []).append(name)
    return {
        names[0]: numbers[number][0]
        for number, names in by_image.items()
        if number and len(names) == 1 and len(numbers.get(number, ())) == 1
    }


def _last_number(name: str) -> str:
    digits = re.findall(r"\d+", name)
    # CTW1500 repeats the running number before the image's own four digits.
    return str(int(digits[-1][-4:] if len(digits[-1]) == 7 else digits[-1])) if digits else ""


def _to_frame(found: ImageDetections, record) -> ImageDetections:
    """Detections in the pixels of the record's outlines, which may refer to an image of another size."""
    if found.size is None or record.size is None or tuple(record.size) == found.size or not found.polygons:
        return found
    scale = np.array([record.size[1] / found.size[1], record.size[0] / found.size[0]])
    return ImageDetections(found.source, [polygon * scale for polygon in found.polygons], found.scores, record.size)


def _detect(
    records: dict, arguments: argparse.Namespace, problems: list[str]
) -> Iterator[tuple[str, ImageDetections, ImageDetections]]:
    """The pipeline's detections in the images of the records: those to score, and those that a sweep needs."""
    from PIL import Image
    from tqdm import tqdm

    from ..data.formats import load_record

    arguments.reading_order = False
    pipe = load_pipeline(arguments)
    names: list[str] = []

    def pictures():
        for name, record in records.items():
            try:
                picture = Image.fromarray(load_record(record))
            except (OSError, ValueError) as error:
                problems.append(f"{name}: left out, its image cannot be read ({error})")
                continue
            names.append(name)
            yield picture

    # Scores below the model's own threshold are needed to try others.
    low = {"threshold": SWEEP_THRESHOLD}
    with_low_scores = []
    if arguments.sweep:
        # The maps are decoded twice: with another threshold, other regions may be joined, so that the detections of one
        # are not those of the other without the lowest.
        decode = pipe.postprocess

        def decode_twice(outputs, **settings):
            with_low_scores.append(decode(outputs, **{**settings, **low}))
            return decode(outputs, **settings)

        pipe.postprocess = decode_twice
    settings = low if arguments.threshold is None and get_protocol(arguments.protocol).sweep else {}
    found = pipe(pictures(), batch_size=arguments.batch_size, **settings)
    for index, detections in enumerate(tqdm(found, total=len(records), unit="image", file=sys.stderr)):
        scored = _image_detections(names[index], detections)
        yield (
            names[index],
            scored,
            _image_detections(names[index], with_low_scores.pop(0)) if arguments.sweep else scored,
        )


def _image_detections(name: str, detections: list[dict]) -> ImageDetections:
    polygons = [np.asarray(detection["polygon"], dtype=np.float64) for detection in detections]
    return ImageDetections(name, polygons, [detection["score"] for detection in detections])


def _picture(record, found: ImageDetections) -> tuple:
    """What the gallery draws of an image."""
    from PIL import Image

    from ..data.formats import load_record

    try:
        picture = Image.fromarray(load_record(record))
    except (OSError, ValueError):
        picture = None
    return picture, record.polygons, record.ignore, found.polygons, found.scores


def _print_result(result: dict, sweep: dict | None) -> None:
    line = {
        key: result[key]
        for key in ("protocol", "precision", "recall", "hmean", "average_precision", "error")
        if key in result
    }
    line["images"] = len(result["per_image"])
    if result["score_threshold"] is not None:
        line["score_threshold"] = result["score_threshold"]
    print(json.dumps(json_ready({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()})))
    if sweep is not None:
        for row in sweep["sweep"]:
            figures = "  ".join(f"{name} {row[name]:.4f}" for name in ("precision", "recall", "hmean"))
            best = "  best" if row["score_threshold"] == sweep["best_threshold"] else ""
            print(f"score {row['score_threshold']:.2f}  {figures}{best}")
