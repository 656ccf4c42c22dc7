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
Speed of the metrics: CPU seconds of one core for a data set, side by side with a plain implementation of the same rule.

    python benchmarks/evaluation.py --cases perf_iou_500x40.json --protocols icdar2015 totaltext mmocr

Without `--cases` a similar data set is made up: 500 images with about 40 words and 40 detections each. The peer is the
rule of ICDAR 2015 written in Python loops on the library Polygon3, which the official script uses (pip install Polygon3);
it is left out when that is not installed. Building the geometry counts, reading the file does not.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from tcm_hf.metrics import TextDetectionEvaluator, get_protocol


def read_cases(path):
    """Detections and ground truth of a file of cases: images with `gts` and `preds`, each with flat `points`."""
    images = json.loads(Path(path).read_text(encoding="utf-8"))["images"]
    truths = [
        {
            "polygons": [region["points"] for region in image["gts"]],
            "ignore": [region["ignore"] for region in image["gts"]],
            "texts": [region.get("text", "") for region in image["gts"]],
        }
        for image in images
    ]
    detections = [
        {"polygons": [d["points"] for d in image["preds"]], "scores": [d["score"] for d in image["preds"]]}
        for image in images
    ]
    return detections, truths


def make_cases(images, words, seed=0):
    """Slanted quadrilaterals with whole-number corners, and disturbed copies of most of them."""
    rng = random.Random(seed)
    detections, truths = [], []
    for _ in range(images):
        truth, found = [], []
        for _ in range(words):
            x, y = rng.randint(0, 1150), rng.randint(0, 650)
            width, height, slant = rng.randint(20, 120), rng.randint(12, 40), rng.randint(-8, 8)
            corners = [x, y, x + width, y + slant, x + width, y + slant + height, x, y + height]
            truth.append(corners)
            if rng.random() < 0.9:
                found.append([value + rng.randint(-3, 3) for value in corners])
            else:
                x, y = rng.randint(0, 1150), rng.randint(0, 650)
                found.append([x, y, x + width, y, x + width, y + height, x, y + height])
        ignore = [rng.random() < 0.25 for _ in truth]
        truths.append({"polygons": truth, "ignore": ignore, "texts": ["word"] * len(truth)})
        detections.append({"polygons": found, "scores": [rng.random() for _ in found]})
    return detections, truths


def run_ours(protocol, detections, truths):
    evaluator = TextDetectionEvaluator(protocol)
    for found, truth in zip(detections, truths):
        evaluator.add(found, truth)
    return evaluator.compute()["hmean"]


def run_plain(detections, truths):
    """ICDAR 2015's rule, pair by pair."""
    from Polygon import Polygon

    def polygons(outlines):
        return [Polygon(list(zip(points[::2], points[1::2]))) for points in outlines]

    matches = care = counted = 0
    for found, truth in zip(detections, truths):
        regions, boxes = polygons(truth["polygons"]), polygons(found["polygons"])
        ignore = truth["ignore"]
        ignored = [
            any(
                skip and box.area() > 0 and (region & box).area() / box.area() > 0.5
                for region, skip in zip(regions, ignore)
            )
            for box in boxes
        ]
        care += len(ignore) - sum(ignore)
        counted += len(ignored) - sum(ignored)
        free = [not skip for skip in ignored]
        for region, skip in zip(regions, ignore):
            shares = []
            for box in boxes:
                both = (region & box).area()
                union = region.area() + box.area() - both
                shares.append(both / union if union > 0 else 0.0)
            if skip:
                continue
            for index, share in enumerate(shares):
                if free[index] and share > 0.5:
                    free[index] = False
                    matches += 1
                    break
    precision, recall = matches / max(counted, 1), matches / max(care, 1)
    return 2 * precision * recall / (precision + recall) if matches else 0.0


def measure(function, repeats):
    """CPU seconds of every run, and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return seconds, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", metavar="FILE", help="JSON file of cases")
    parser.add_argument("--images", type=int, default=500, help="images of the made-up data set")
    parser.add_argument("--words", type=int, default=40, help="words in each of them")
    parser.add_argument("--protocols", nargs="+", default=["icdar2015"], metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    detections, truths = (
        read_cases(arguments.cases) if arguments.cases else make_cases(arguments.images, arguments.words)
    )
    regions, boxes = (sum(len(entry["polygons"]) for entry in side) for side in (truths, detections))
    print(
        f"{len(truths)} images, {regions} regions, {boxes} detections; CPU seconds, median of {arguments.repeats} runs"
    )
    ours = {}
    for name in arguments.protocols:
        protocol = get_protocol(name)
        seconds, hmean = measure(lambda p=protocol: run_ours(p, detections, truths), arguments.repeats)
        ours[protocol.name] = statistics.median(seconds)
        print(f"{'tcm_hf ' + protocol.name:36} {ours[protocol.name]:7.3f}   hmean {hmean:.6f}")
    try:
        import Polygon  # noqa: F401
    except ImportError:
        print("no peer: Polygon3 is not installed")
        return
    seconds, hmean = measure(lambda: run_plain(detections, truths), max(1, arguments.repeats // 2))
    plain = statistics.median(seconds)
    print(f"{'plain loops on Polygon3, rrc_iou':36} {plain:7.3f}   hmean {hmean:.6f}")
    if "rrc_iou" in ours:
        print(f"ratio tcm_hf / plain: {ours['rrc_iou'] / plain:.3f}")


if __name__ == "__main__":
    main()
