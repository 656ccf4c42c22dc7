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
Measures a checkpoint by the ICDAR 2015 protocol: word level, IoU 0.5, unreadable words (`###`) ignored.

    python examples/evaluate_icdar2015.py --image_dir icdar2015/images --gt_dir icdar2015/gt --threshold 0.5

Every photo goes through the pipeline as a user's would. All settings are fixed beforehand: nothing is tuned on the photos
that are measured, unless `--sweep` asks for a table of score thresholds, which is meant for a validation split.
"""

import argparse
import json
import time

import torch
from PIL import Image
from transformers import pipeline

import tcm_hf
from tcm_hf.data.formats import load_record, read_icdar2015
from tcm_hf.metrics import Icdar2015Evaluator


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=tcm_hf.DEFAULT_CHECKPOINT, help="checkpoint: directory or Hub id")
    parser.add_argument("--image_dir", required=True, help="folder of photos, img_N.jpg")
    parser.add_argument("--gt_dir", required=True, help="folder of annotations, gt_img_N.txt")
    parser.add_argument(
        "--frame_size",
        type=int,
        nargs=2,
        help="height and width of the annotated frame, to which the photos are resized",
    )
    parser.add_argument("--last_digit", type=int, help="measure only photos whose number ends in this digit")
    parser.add_argument("--threshold", type=float, help="score threshold; defaults to the checkpoint's own")
    parser.add_argument(
        "--mask_threshold", type=float, help="threshold of the probability map; defaults to the checkpoint's own"
    )
    parser.add_argument(
        "--unclip_ratio", type=float, help="how far regions grow back; defaults to the checkpoint's own"
    )
    parser.add_argument("--shape", default="quad", choices=("polygon", "quad", "box"))
    parser.add_argument("--bf16", action="store_true", help="run the model in bfloat16")
    parser.add_argument("--sweep", action="store_true", help="also print a table of score thresholds")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    frame_size = tuple(arguments.frame_size) if arguments.frame_size else None
    records = read_icdar2015(arguments.image_dir, arguments.gt_dir, record_size=frame_size)
    if arguments.last_digit is not None:
        records = [r for r in records if r.image.stem.endswith(str(arguments.last_digit))]
    detector = pipeline(
        "text-detection", model=arguments.model, dtype=torch.bfloat16 if arguments.bf16 else torch.float32
    )
    settings = {
        name: getattr(arguments, name)
        for name in ("threshold", "mask_threshold", "unclip_ratio", "shape")
        if getattr(arguments, name) is not None
    }
    if arguments.sweep:
        settings["threshold"] = 0.1
    evaluator, seconds = Icdar2015Evaluator(), 0.0
    for record in records:
        image = Image.fromarray(load_record(record))
        start = time.perf_counter()
        detections = detector(image, **settings)
        seconds += time.perf_counter() - start
        evaluator.add(
            record.polygons,
            [detection["polygon"] for detection in detections],
            ignore=record.ignore,
            scores=[detection["score"] for detection in detections],
        )
    if arguments.sweep:
        for step in range(2, 19):
            print_result(evaluator.compute(step / 20), len(records), seconds, score_threshold=step / 20)
    else:
        threshold = detector.image_processor.decoding_arguments(threshold=arguments.threshold)["threshold"]
        print_result(evaluator.compute(), len(records), seconds, score_threshold=threshold)


def print_result(result, images, seconds, **extra):
    figures = {name: round(float(result[name]), 4) for name in ("hmean", "precision", "recall")}
    print(json.dumps({**extra, **figures, "images": images, "seconds_per_image": round(seconds / images, 3)}))


if __name__ == "__main__":
    main()
