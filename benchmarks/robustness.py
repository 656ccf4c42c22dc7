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
How much a checkpoint loses when images get worse: motion blur, strong JPEG compression, low light, rotation.

    python benchmarks/robustness.py --image_dir icdar2015/images --gt_dir icdar2015/gt --frame_size 720 1280 --last_digit 1

Prints a Markdown table of hmean, precision and recall by the ICDAR 2015 protocol (IoU 0.5, unreadable words ignored), each
condition on the same images with the checkpoint's own settings.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm
from transformers import pipeline

from tcm_hf.checkpoints import DEFAULT, find_checkpoint
from tcm_hf.data.formats import load_record, read_icdar2015
from tcm_hf.metrics import Icdar2015Evaluator


def motion_blur(image: np.ndarray, length: int, angle: float) -> np.ndarray:
    """Moves the camera by `length` pixels in the direction of `angle` (degrees) during the exposure."""
    kernel = np.zeros((length, length), dtype=np.float32)
    kernel[length // 2] = 1
    centre = ((length - 1) / 2, (length - 1) / 2)
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D(centre, angle, 1), (length, length))
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compresses the image and reads it back."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def rotate(image: np.ndarray, polygons: list[np.ndarray], quarters: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rotates image and polygons counter-clockwise by quarter turns."""
    for _ in range(quarters):
        width = image.shape[1]
        image = np.rot90(image)
        polygons = [np.stack([polygon[:, 1], width - polygon[:, 0]], axis=1) for polygon in polygons]
    return np.ascontiguousarray(image), polygons


AS_THEY_ARE = "as they are"
CONDITIONS = {
    AS_THEY_ARE: lambda image, polygons: (image, polygons),
    "motion blur, 9 px at 30°": lambda image, polygons: (motion_blur(image, 9, 30), polygons),
    "JPEG quality 20": lambda image, polygons: (jpeg(image, 20), polygons),
    "half brightness": lambda image, polygons: ((image // 2).astype(np.uint8), polygons),
    "rotated by 90°": lambda image, polygons: rotate(image, polygons, 1),
    "rotated by 180°": lambda image, polygons: rotate(image, polygons, 2),
    "rotated by 270°": lambda image, polygons: rotate(image, polygons, 3),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_dir", required=True, help="folder of images, img_N.jpg")
    parser.add_argument("--gt_dir", required=True, help="folder of annotations, gt_img_N.txt")
    parser.add_argument("--frame_size", type=int, nargs=2, help="height and width of the annotated frame")
    parser.add_argument("--last_digit", type=int, help="measure only images whose number ends in this digit")
    parser.add_argument("--model", default=DEFAULT, help="checkpoint: directory, Hub id, or a name in the package")
    parser.add_argument(
        "--conditions",
        nargs="+",
        choices=CONDITIONS,
        default=list(CONDITIONS),
        help="only these, beside the images as they are",
    )
    parser.add_argument("--output", type=Path, help="also write the figures as JSON here")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    frame_size = tuple(arguments.frame_size) if arguments.frame_size else None
    records = read_icdar2015(arguments.image_dir, arguments.gt_dir, record_size=frame_size)
    if arguments.last_digit is not None:
        records = [record for record in records if record.image.stem.endswith(str(arguments.last_digit))]
    detector = pipeline("text-detection", model=find_checkpoint(arguments.model))
    chosen = {name: spoil for name, spoil in CONDITIONS.items() if name in (AS_THEY_ARE, *arguments.conditions)}
    evaluators = {name: Icdar2015Evaluator() for name in chosen}
    for record in tqdm(records, unit="photo"):
        original = load_record(record)
        for name, spoil in chosen.items():
            image, polygons = spoil(original, list(record.polygons))
            found = detector(Image.fromarray(image), shape="quad")
            evaluators[name].add(found, {"polygons": polygons, "ignore": record.ignore})
    results = {name: evaluator.compute() for name, evaluator in evaluators.items()}
    figures = {
        name: {key: round(float(result[key]), 4) for key in ("hmean", "precision", "recall")}
        for name, result in results.items()
    }
    reference = figures[AS_THEY_ARE]["hmean"]
    print(f"| {len(records)} images | hmean | change | precision | recall |\n|---|---|---|---|---|")
    for name, row in figures.items():
        change = row["hmean"] - reference
        print(f"| {name} | {row['hmean']:.3f} | {change:+.3f} | {row['precision']:.3f} | {row['recall']:.3f} |")
    if arguments.output is not None:
        temporary = arguments.output.with_name(f".{arguments.output.name}.tmp")
        temporary.write_text(json.dumps(figures, indent=2) + "\n")
        temporary.replace(arguments.output)


if __name__ == "__main__":
    main()
