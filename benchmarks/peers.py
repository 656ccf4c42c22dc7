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
Measures checkpoints beside other text detectors on annotated images: accuracy by one rule, and seconds of whole calls.

    pip install rapidocr onnxruntime
    python benchmarks/peers.py --model tcm-tiny --rapidocr --last_digit 1 \
        --set icdar2015 icdar2015/images icdar2015/gt 720x1280 --set street street/images street/gt

Each `--set` is a name, a folder of images, a folder of annotations in the form of ICDAR 2015 and, where the images are
resized copies, the annotated frame, height x width, to which they are resized again. All detectors get the same decoded
images in turns, image by image, with the same number of threads and at their own default settings, and rest
after each call, as in `benchmarks/pipeline.py`. `--detector NAME=FILE.py` adds any other one: the file has a function `load()`
that gives a function from an RGB array (height, width, 3) to a list of polygons in its pixels.

What is printed for each set and detector: hmean, precision and recall by ICDAR 2015's rule (quads, IoU above 0.5); the
share of words whose area is covered by regions to at least 80 %, which does not punish a detector of lines; the share of
words that one region covers together with another word; recall by the height of the words; median seconds.
"""

import argparse
import importlib.util
import json
import re
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from pipeline import load_rapidocr
from shapely import Polygon, make_valid, union_all
from transformers import pipeline

from tcm_hf.checkpoints import DEFAULT, find_checkpoint
from tcm_hf.data.formats import load_image, read_icdar2015
from tcm_hf.metrics import TextDetectionEvaluator


# A word is covered where at least this share of its area is.
COVERED = 0.8
HEIGHTS = (8, 16, 32, 64)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", action="append", required=True, metavar="NAME IMAGES GT [HxW]")
    parser.add_argument(
        "--model", nargs="*", default=[DEFAULT], help="checkpoints: directories, Hub ids or names in the package"
    )
    parser.add_argument("--rapidocr", action="store_true", help="measure RapidOCR's default detector, too")
    parser.add_argument("--detector", action="append", default=[], metavar="NAME=FILE.py", help="another detector")
    parser.add_argument("--last_digit", type=int, help="only images whose number ends in this digit")
    parser.add_argument("--images", type=int, help="only the first so many images of each set")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rest", type=float, default=0.1, help="seconds of rest after each call")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    for given in arguments.set:
        if len(given) not in (3, 4) or (len(given) == 4 and not re.fullmatch(r"\d+x\d+", given[3])):
            parser.error(f"--set takes a name, two folders and at most a frame such as 720x1280, got {given}")
    return arguments


def load_detectors(arguments) -> dict:
    """Functions from a PIL image to a list of polygons, by name."""
    detectors = {}
    for model in arguments.model:
        detector = pipeline("text-detection", model=find_checkpoint(model), shape="quad")

        def call(image, detector=detector):
            return [np.asarray(word["polygon"], dtype=float) for word in detector(image)]

        detectors[Path(model).name] = call
    if arguments.rapidocr:
        peer = load_rapidocr(arguments.threads)
        if peer is None:
            sys.exit("error: --rapidocr needs `pip install rapidocr onnxruntime`")

        def call_rapidocr(image):
            boxes = peer(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)).boxes
            return [] if boxes is None else [np.asarray(box, dtype=float) for box in boxes]

        detectors["rapidocr"] = call_rapidocr
    for given in arguments.detector:
        name, _, file = given.partition("=")
        specification = importlib.util.spec_from_file_location(f"detector_{name}", file)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        detect = module.load()
        detectors[name] = lambda image, detect=detect: [np.asarray(x, float) for x in detect(np.asarray(image))]
    return detectors


def read_set(given: list[str], arguments) -> list:
    size = tuple(int(length) for length in given[3].split("x")) if len(given) == 4 else None
    records = read_icdar2015(given[1], given[2], record_size=size)
    if arguments.last_digit is not None:
        records = [r for r in records if Path(r.name).stem.endswith(str(arguments.last_digit))]
    return records[: arguments.images]


def coverage(words: list[np.ndarray], regions: list[np.ndarray]) -> tuple[list[bool], list[bool]]:
    """
    Which words the regions cover, and which share a region with another word.

    Args:
        words (`list[np.ndarray]`): polygons of shape (n, 2).
        regions (`list[np.ndarray]`): detected polygons of shape (n, 2), in the same pixels.

    Returns:
        `tuple[list[bool], list[bool]]`: one flag a word each.
    """
    words = [make_valid(Polygon(word)) for word in words]
    regions = [make_valid(Polygon(region)) for region in regions if len(region) > 2]
    union = union_all(regions)
    covered = [word.area > 0 and word.intersection(union).area >= COVERED * word.area for word in words]
    merged = [False] * len(words)
    for region in regions:
        inside = [
            i for i, word in enumerate(words) if word.area and word.intersection(region).area >= COVERED * word.area
        ]
        if len(inside) > 1:
            for i in inside:
                merged[i] = True
    return covered, merged


def summarize(rows: list[dict], evaluator: TextDetectionEvaluator) -> dict:
    """The figures of one detector on one set, from what was kept of each image."""
    result = evaluator.compute()
    heights = {}
    flags = {"covered": [], "merged": []}
    for row in rows:
        hits = {i for _, truths, _ in result["per_image"][row["name"]]["pairs"] for i in truths}
        for i in row["readable"]:
            height = min(cv2.minAreaRect(row["words"][i].astype(np.float32))[1])
            low = max((edge for edge in HEIGHTS if edge <= height), default=0)
            heights.setdefault(low, []).append(i in hits)
        for name in flags:
            flags[name] += row[name]
    labels = dict(zip((0, *HEIGHTS), ("<8", "8-16", "16-32", "32-64", ">=64")))
    return {
        **{name: round(result[name], 4) for name in ("hmean", "precision", "recall")},
        **{name: round(float(np.mean(values)), 4) if values else None for name, values in flags.items()},
        "recall_by_height": {labels[low]: [round(float(np.mean(x)), 4), len(x)] for low, x in sorted(heights.items())},
        "seconds": round(statistics.median(row["seconds"] for row in rows), 4),
    }


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    detectors = load_detectors(arguments)
    figures: dict[str, dict] = {}
    for given in arguments.set:
        records = read_set(given, arguments)
        if not records:
            sys.exit(f"error: no images to measure on in {given[1]}")
        rows = {name: [] for name in detectors}
        evaluators = {name: TextDetectionEvaluator("icdar2015") for name in detectors}
        for number, record in enumerate(records):
            image = Image.fromarray(load_image(record.image))
            if record.size is not None and record.size != (image.height, image.width):
                image = image.resize(record.size[::-1], Image.Resampling.BICUBIC)
            readable = [i for i, ignored in enumerate(record.ignore) if not ignored]
            for name, detect in detectors.items():
                if number == 0:
                    detect(image)
                start = time.perf_counter()
                regions = detect(image)
                seconds = time.perf_counter() - start
                time.sleep(arguments.rest)
                truth = {"polygons": record.polygons, "ignore": record.ignore}
                evaluators[name].add({"polygons": regions}, truth, image_id=record.name)
                covered, merged = coverage([record.polygons[i] for i in readable], regions)
                rows[name].append(
                    {"name": record.name, "words": record.polygons, "readable": readable, "seconds": seconds}
                    | {"covered": covered, "merged": merged}
                )
        figures[given[0]] = {name: summarize(rows[name], evaluators[name]) for name in detectors}
        for name, row in figures[given[0]].items():
            print(f"{given[0]} ({len(records)} images) {name}: {json.dumps(row)}", flush=True)
    if arguments.output is not None:
        settings = {"threads": arguments.threads, "torch": torch.__version__}
        arguments.output.write_text(json.dumps({**settings, "sets": figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
