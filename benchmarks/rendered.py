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
Measures checkpoints on rendered images of one kind each: documents, receipts, screens, bent words, vertical lines, scripts,
and images without any text.

    python benchmarks/rendered.py --model tcm-small tcm-tiny --images 20 --text_free 200

Words and, in scripts without gaps, lines count as found where a region has an IoU above 0.5 with them, one to one; of bent
words with the polygons, else with quads. Images are drawn with the fonts of this machine and without photos, so that figures
of two machines can only be compared if their fonts are the same. The seed must be another one than that of a training run.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import pipeline

from tcm_hf.checkpoints import DEFAULT, find_checkpoint
from tcm_hf.data.synthesis.generator import SyntheticTextGenerator, find_fonts
from tcm_hf.data.synthesis.words import SCRIPTS, default_words
from tcm_hf.metrics import TextDetectionEvaluator


KINDS = {
    **{f"{style}s": {"styles": {style: 1}} for style in ("scene", "document", "receipt", "screen", "sign")},
    "bent words": {"curved": 1.0, "bend": (60, 220), "text_height": (12, 100)},
    "vertical Chinese": {"styles": {"vertical": 1}, "scripts": {"chinese": 1}},
    **{
        f"documents in {script}": {"styles": {"document": 1}, "scripts": {script: 1}}
        for script in SCRIPTS
        if script != "latin"
    },
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=[DEFAULT], help="checkpoints: directories, Hub ids or names")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these kinds of images")
    parser.add_argument("--images", type=int, default=20, help="images of each kind")
    parser.add_argument("--text_free", type=int, default=200, help="images without text")
    parser.add_argument("--size", type=int, nargs=2, default=(720, 960), help="height and width of the images")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def draw(arguments, count: int, **settings):
    """Images with outlines and flags, one after the other."""
    settings = {"words": default_words(), "fonts": find_fonts(), "size": tuple(arguments.size), **settings}
    generator = SyntheticTextGenerator(**settings)
    for number in range(count):
        image, polygons, ignore, _ = generator.generate(np.random.default_rng([arguments.seed, number]))
        yield number, Image.fromarray(image), {"polygons": polygons, "ignore": ignore}


def main():
    arguments = parse_arguments()
    detectors = {Path(name).name: pipeline("text-detection", model=find_checkpoint(name)) for name in arguments.model}
    figures: dict[str, dict] = {}
    print("| images | checkpoint | words | recall | precision | hmean |\n|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        shape = "polygon" if kind == "bent words" else "quad"
        evaluators = {name: TextDetectionEvaluator("icdar2015") for name in detectors}
        words = 0
        for number, image, truth in draw(arguments, arguments.images, **KINDS[kind]):
            words += truth["ignore"].count(False)
            for name, detector in detectors.items():
                evaluators[name].add(detector(image, shape=shape), truth, image_id=number)
        for name, evaluator in evaluators.items():
            result = evaluator.compute()
            row = {key: round(float(result[key]), 4) for key in ("recall", "precision", "hmean")}
            figures.setdefault(kind, {})[name] = {"words": words, **row}
            print(f"| {kind} | {name} | {words} | " + " | ".join(f"{x:.3f}" for x in row.values()) + " |", flush=True)
    false = dict.fromkeys(detectors, 0)
    for _, image, _ in draw(arguments, arguments.text_free, text_free=1.0) if arguments.text_free else ():
        for name, detector in detectors.items():
            false[name] += len(detector(image))
    for name, count in false.items() if arguments.text_free else ():
        figures.setdefault("without text", {})[name] = {"regions an image": count / arguments.text_free}
        print(
            f"{name}: {count / arguments.text_free:.3f} regions an image on {arguments.text_free} images without text"
        )
    if arguments.output is not None:
        settings = {"seed": arguments.seed, "images": arguments.images, "size": list(arguments.size)}
        text = json.dumps({**settings, "fonts": len(find_fonts()), "kinds": figures}, indent=2)
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
