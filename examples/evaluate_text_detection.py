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
Measures a checkpoint on a data set by the protocol of a benchmark.

    python examples/evaluate_text_detection.py --dataset TotalText --format totaltext --split test --protocol totaltext

Every photo goes through the pipeline as a user's would. All settings are fixed beforehand: nothing is tuned on the photos
that are measured, unless `--sweep` asks for a table of score thresholds, which is meant for a validation split. The command
`tcm-hf evaluate` does the same, and also scores files of detections; this script shows how little code it takes.
"""

import argparse
import json
import time

import torch
from PIL import Image
from transformers import pipeline

from tcm_hf.checkpoints import DEFAULT, find_checkpoint
from tcm_hf.data.formats import load_record, read_dataset
from tcm_hf.metrics import TextDetectionEvaluator


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help="checkpoint: directory, Hub id, or a name in the package")
    parser.add_argument("--dataset", required=True, help="the data set: folder or file")
    parser.add_argument(
        "--format", default="hub", help="its format, such as icdar2015; see tcm_hf.data.formats.FORMATS"
    )
    parser.add_argument("--split", help="its split, where there are several")
    parser.add_argument("--protocol", default="icdar2015", help="a benchmark, or a key of tcm_hf.metrics.PROTOCOLS")
    add_model_arguments(parser)
    return parser.parse_args()


def add_model_arguments(parser):
    parser.add_argument("--threshold", type=float, help="score threshold; defaults to the checkpoint's own")
    parser.add_argument(
        "--mask_threshold", type=float, help="threshold of the probability map; defaults to the checkpoint's own"
    )
    parser.add_argument(
        "--unclip_ratio", type=float, help="how far regions grow back; defaults to the checkpoint's own"
    )
    parser.add_argument("--shape", default="quad", choices=("auto", "polygon", "quad", "box"))
    parser.add_argument("--allow_outside", action="store_true", help="open images outside of the data set's folder")
    parser.add_argument("--bf16", action="store_true", help="run the model in bfloat16")
    parser.add_argument("--sweep", action="store_true", help="print a table of score thresholds instead")


def evaluate(records, protocol, arguments):
    """Detects text in the images of the records, and prints the figures of the protocol as JSON, one object a line."""
    detector = pipeline(
        "text-detection",
        model=find_checkpoint(arguments.model),
        dtype=torch.bfloat16 if arguments.bf16 else torch.float32,
    )
    settings = {
        name: getattr(arguments, name)
        for name in ("threshold", "mask_threshold", "unclip_ratio", "shape")
        if getattr(arguments, name) is not None
    }
    if arguments.sweep:
        settings["threshold"] = 0.1
    evaluator, seconds = TextDetectionEvaluator(protocol), 0.0
    for record in records:
        image = Image.fromarray(load_record(record))
        start = time.perf_counter()
        detections = detector(image, **settings)
        seconds += time.perf_counter() - start
        evaluator.add(detections, record)
    if arguments.sweep:
        for step in range(2, 19):
            print_result(evaluator.compute(step / 20), seconds, score_threshold=step / 20)
    else:
        threshold = detector.image_processor.decoding_arguments(threshold=arguments.threshold)["threshold"]
        print_result(evaluator.compute(), seconds, score_threshold=threshold)


def print_result(result, seconds, **extra):
    images = len(result["per_image"])
    figures = {name: round(float(result[name]), 4) for name in ("hmean", "precision", "recall")}
    print(json.dumps({**extra, **figures, "images": images, "seconds_per_image": round(seconds / images, 3)}))


def main():
    arguments = parse_arguments()
    options = {"allow_outside": arguments.allow_outside}
    if arguments.split is not None:
        options["split"] = arguments.split
    evaluate(read_dataset(arguments.format, arguments.dataset, **options), arguments.protocol, arguments)


if __name__ == "__main__":
    main()
