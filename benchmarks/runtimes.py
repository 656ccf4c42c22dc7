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
Measures the ways to run a checkpoint, from an image to its texts: PyTorch in three ways, exported folders, int8, and RapidOCR.

    tcm-hf export onnx exported-onnx && tcm-hf export openvino exported-openvino
    python benchmarks/runtimes.py --model tcm-tiny --folder exported-onnx exported-openvino --compile --int8 --rapidocr \
        --set icdar2015 icdar2015/images icdar2015/gt 720x1280 --last_digit 1 --images 20

All rows get the same decoded images in turns, image by image, on the same number of threads. What counts is the ratio to the
pipeline as it is (the fast path), as the median of the ratios of single images: seconds depend on what else the machine does.
hmean is that of ICDAR 2015's rule on the same images.

`--int8` quantizes each folder's convolutions, calibrated on images of the set whose number does not end in `--last_digit`, and
measures it as one more row: ONNX by ONNX Runtime (static, per channel), OpenVINO by NNCF, as `tcm-hf export
openvino --int8` does.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from peers import read_set
from PIL import Image
from pipeline import load_rapidocr
from transformers import pipeline

from tcm_hf.checkpoints import DEFAULT, find_checkpoint
from tcm_hf.data.formats import load_image
from tcm_hf.export.quantization import quantize_openvino
from tcm_hf.export.runtime import RuntimeDetector, network_inputs
from tcm_hf.metrics import TextDetectionEvaluator
from tcm_hf.model.image_processing_tcm import TCMImageProcessor
from tcm_hf.model.modeling_tcm import TCMForTextDetection


FAST_PATH = "PyTorch, fast path (the pipeline as it is)"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", required=True, metavar="NAME IMAGES GT [HxW]")
    parser.add_argument("--model", default=DEFAULT, help="directory, Hub id or name in the package")
    parser.add_argument("--folder", nargs="*", default=[], help="exported folders of this model")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--int8", action="store_true", help="quantize each folder, and measure it")
    parser.add_argument("--calibration", type=int, default=8, help="images that int8 is calibrated on")
    parser.add_argument("--rapidocr", action="store_true", help="measure RapidOCR's default detector, too")
    parser.add_argument("--last_digit", type=int, help="only images whose number ends in this digit")
    parser.add_argument("--images", type=int, default=20, help="the first so many images of the set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def load_pipeline(name: str, way: str):
    """The pipeline: `"fast"` as it is, `"eager"` with the modules as they are written, `"compiled"` by `torch.compile`."""
    checkpoint = find_checkpoint(name)
    model = TCMForTextDetection.from_pretrained(checkpoint)
    if way != "fast":
        model.optimize_for_inference = lambda: model
    detector = pipeline(
        "text-detection",
        model=model,
        image_processor=TCMImageProcessor.from_pretrained(checkpoint),
        device="cpu",
        shape="quad",
    )
    if way == "compiled":
        detector.model = torch.compile(model, dynamic=True)
    return detector


class Calibration:
    """What `onnxruntime.quantization` reads images from."""

    def __init__(self, detector: RuntimeDetector, images: list):
        self.feeds = (network_inputs(detector.prepare(image)) for image in images)

    def get_next(self):
        return next(self.feeds, None)


def quantize_onnx(folder: Path, images: list, output: Path) -> None:
    """A copy of an ONNX folder with convolutions in int8."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    shutil.copytree(folder, output)
    for name in ("model.onnx", "model.onnx.data"):
        (output / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        prepared = os.path.join(temporary, "model.onnx")
        onnx.save(onnx.load(folder / "model.onnx"), prepared)  # with the weights in one file
        quantize_static(
            prepared,
            os.fspath(output / "model.onnx"),
            Calibration(RuntimeDetector(folder), images),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def quads(texts: list[dict]) -> list[np.ndarray]:
    return [np.asarray(text["polygon"], dtype=float) for text in texts]


def load_rows(arguments, calibration: list, scratch: Path) -> dict:
    """Functions from a PIL image to polygons, by name."""
    ways = {FAST_PATH: "fast", "PyTorch, eager": "eager"}
    if arguments.compile:
        ways["torch.compile"] = "compiled"
    rows = {}
    for name, way in ways.items():
        loaded = load_pipeline(arguments.model, way)
        rows[name] = lambda image, detector=loaded: quads(detector(image))
    for folder in map(Path, arguments.folder):
        is_onnx = (folder / "model.onnx").is_file()
        name = "ONNX Runtime" if is_onnx else "OpenVINO"
        networks = {name: folder}
        if arguments.int8:
            networks[f"{name}, int8"] = scratch / name
            if is_onnx:
                quantize_onnx(folder, calibration, scratch / name)
            else:
                quantize_openvino(Path(shutil.copytree(folder, scratch / name)), calibration)
        for row, network in networks.items():
            detector = RuntimeDetector(network, threads=arguments.threads)
            rows[row] = lambda image, detector=detector: quads(detector(image, shape="quad"))
    if arguments.rapidocr:
        peer = load_rapidocr(arguments.threads)
        if peer is None:
            sys.exit("error: --rapidocr needs `pip install rapidocr onnxruntime`")

        def call_rapidocr(image):
            boxes = peer(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)).boxes
            return [] if boxes is None else [np.asarray(box, dtype=float) for box in boxes]

        rows["RapidOCR"] = call_rapidocr
    return rows


def read_images(arguments) -> tuple[list, list]:
    """Records to measure on, and decoded images to calibrate on."""
    given = argparse.Namespace(last_digit=arguments.last_digit, images=arguments.images)
    records = read_set(arguments.set, given)
    others: list = []
    if arguments.int8:
        every = read_set(arguments.set, argparse.Namespace(last_digit=None, images=None))
        names = {record.name for record in records}
        last = str(arguments.last_digit)
        free = [each for each in every if each.name not in names and not Path(each.name).stem.endswith(last)]
        others = [Image.fromarray(load_image(each.image)) for each in free[: arguments.calibration]]
    return records, others


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    records, others = read_images(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        rows = load_rows(arguments, others, Path(scratch))
        seconds = {name: [] for name in rows}
        evaluators = {name: TextDetectionEvaluator("icdar2015") for name in rows}
        for number, record in enumerate(records):
            image = Image.fromarray(load_image(record.image))
            for name, detect in rows.items():
                if number == 0:
                    detect(image)
                start = time.perf_counter()
                regions = detect(image)
                seconds[name].append(time.perf_counter() - start)
                # The photos may be copies in another size than that of the annotations.
                scale = np.ones(2) if record.size is None else np.array(record.size[::-1]) / image.size
                found = {"polygons": [region * scale for region in regions]}
                truth = {"polygons": record.polygons, "ignore": record.ignore}
                evaluators[name].add(found, truth, image_id=record.name)
    figures = {}
    for name in rows:
        ratios = [time / base for time, base in zip(seconds[name], seconds[FAST_PATH])]
        figures[name] = {
            "ratio": round(statistics.median(ratios), 3),
            "seconds": round(statistics.median(seconds[name]), 4),
            "hmean": round(evaluators[name].compute()["hmean"], 4),
        }
        print(f"{name}: {json.dumps(figures[name])}", flush=True)
    settings = {"model": arguments.model, "images": len(records), "threads": arguments.threads}
    settings |= {"torch": torch.__version__, "machine": platform.processor() or platform.machine()}
    print(json.dumps(settings))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({**settings, "rows": figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
