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
Times the pipeline with a checkpoint beside RapidOCR's text detector: whole calls, from decoded image to polygons.

    pip install rapidocr onnxruntime
    python benchmarks/pipeline.py --image_dir icdar2015/images --images 20

Both get the same images, resized beforehand to `--size` (height and width, multiples of 32, so that neither resizes
again), with the same number of threads, in turns image by image, so that whatever else the machine does meets all of
them. After each call there is a rest, since idle threads of onnxruntime and OpenMP go on spinning for a while, which would
be charged to whoever comes next. RapidOCR runs its own default detection model and settings under onnxruntime. Prints
medians and their ratios.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import cv2
import torch
from PIL import Image
from transformers import pipeline

from tcm_hf.checkpoints import DEFAULT, find_checkpoint


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_dir", required=True, type=Path, help="folder of images")
    parser.add_argument("--images", type=int, default=20, help="how many images, in the order of their names")
    parser.add_argument("--model", default=DEFAULT, help="checkpoint: directory, Hub id, or a name in the package")
    parser.add_argument("--size", type=int, nargs=2, default=(736, 1280), help="height and width of the input")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rest", type=float, default=0.1, help="seconds of rest after each call")
    parser.add_argument("--rounds", type=int, default=3, help="how often each image is measured")
    return parser.parse_args()


def load_rapidocr(threads: int):
    """RapidOCR's detector alone, with its default model; `None` where it is not installed."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        return None
    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    detector = engine.text_det
    return detector if detector is not None else engine._load_det_model()  # newer releases load it on first use


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    height, width = arguments.size
    suffixes = {".jpg", ".jpeg", ".png"}
    paths = sorted(path for path in arguments.image_dir.iterdir() if path.suffix.lower() in suffixes)
    if not paths:
        sys.exit(f"no images in {arguments.image_dir}")
    pictures = [
        cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_LINEAR)
        for path in paths[: arguments.images]
    ]
    detectors = {}
    for name, dtype in (("tcm_hf fp32", torch.float32), ("tcm_hf bf16", torch.bfloat16)):
        detectors[name] = pipeline("text-detection", model=find_checkpoint(arguments.model), dtype=dtype)
    peer = load_rapidocr(arguments.threads)
    if peer is None:
        print("rapidocr is not installed: `pip install rapidocr onnxruntime` to measure it too", file=sys.stderr)

    # Each gets the image decoded, as its own users have it: PIL and RGB here, OpenCV's BGR there.
    calls = {
        name: (lambda picture, detector=detector: detector(picture["pil"])) for name, detector in detectors.items()
    }
    if peer is not None:
        calls["rapidocr"] = lambda picture: peer(picture["bgr"])
    pictures = [{"bgr": x, "pil": Image.fromarray(cv2.cvtColor(x, cv2.COLOR_BGR2RGB))} for x in pictures]
    for call in calls.values():
        call(pictures[0])
    seconds = {name: [] for name in calls}
    for _ in range(arguments.rounds):
        for picture in pictures:
            for name, call in calls.items():
                start = time.perf_counter()
                call(picture)
                seconds[name].append(time.perf_counter() - start)
                time.sleep(arguments.rest)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {name: {"seconds": round(value, 4)} for name, value in medians.items()}
    if peer is not None:
        for name, value in medians.items():
            result[name]["ratio_to_rapidocr"] = round(value / medians["rapidocr"], 3)
    settings = {"size": [height, width], "images": len(pictures), "threads": arguments.threads, "rest": arguments.rest}
    print(json.dumps({**settings, "torch": torch.__version__, "detectors": result}, indent=2))


if __name__ == "__main__":
    main()
