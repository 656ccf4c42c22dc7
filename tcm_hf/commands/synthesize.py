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
Renders images with text, and their word outlines, as a dataset folder for pre-training or for tests.

OUT gets images and metadata.jsonl (file_name, polygons, ignore, text, width, height), which
datasets.load_dataset("imagefolder", data_dir=OUT) loads. Image number n depends on the seed and n only, on any number of
workers. A run that was stopped goes on where it was, and a second one on OUT is refused while it writes; a larger --count adds
to a finished folder. Training needs no such folder: tcm_hf.data.synthesis.generator renders while it trains.

  tcm-hf synthesize out --count 10000 --size 640 640 --seed 1
  tcm-hf synthesize out --count 500 --curved 1 --backgrounds photos/ --words words.txt
  tcm-hf synthesize out --count 500 --script chinese
  tcm-hf synthesize out --count 500 --styles scene=2,document,screen,sign --scripts latin=8,chinese=1 --text-free 0.1
"""

import argparse
import sys

from ..data.synthesis.folder import DRAWING, synthesize_dataset
from ..data.synthesis.weights import parse_weights
from .parser import advanced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf synthesize`."""
    parser.add_argument("output", metavar="OUT", help="folder to write; new, or of an earlier run with these settings")
    add = parser.add_argument
    add("--count", type=int, required=True, metavar="N", help="number of images in all")
    add(
        "--size",
        type=int,
        nargs=2,
        default=DRAWING["size"],
        metavar=("H", "W"),
        help="height and width (default: 640 640)",
    )
    add("--seed", type=int, default=0, metavar="S", help="seed of all images (default: 0)")
    advanced(
        add("--quality", type=int, default=95, metavar="Q", help="JPEG quality, 1 to 100; 0 writes PNG (default: 95)")
    )
    add("--workers", type=int, metavar="N", help="processes (default: one a processor core)")
    add("--quiet", action="store_true", help="show no progress")

    add = parser.add_argument_group("sources").add_argument
    add(
        "--backgrounds",
        metavar="DIR",
        help="folder of photos to render on, searched with its sub-folders; they must show no text, unless the folder has a "
        "metadata.jsonl that outlines it (default: generated backgrounds)",
    )
    advanced(
        add(
            "--allow-outside",
            action="store_true",
            help="open photos outside of --backgrounds, which its metadata.jsonl or links lead to; only if you trust it",
        )
    )
    add("--words", metavar="FILE", help="UTF-8 list of words (default: /usr/share/dict/words, or built-in words)")
    add(
        "--script",
        default=DRAWING["script"],
        help="writing system: latin, greek, cyrillic, chinese, traditional_chinese, japanese, korean, thai, hebrew, arabic "
        "or devanagari (default: latin)",
    )
    add(
        "--scripts",
        metavar="NAME=WEIGHT,...",
        help="several writing systems by weight, one an image, such as latin=8,chinese=1,arabic=1 (default: --script alone)",
    )
    add("--fonts", nargs="+", metavar="DIR", help="folders of font files (default: the system's and the user's)")

    add = parser.add_argument_group("how words are drawn").add_argument
    add(
        "--styles",
        metavar="NAME=WEIGHT,...",
        help="what images show, by weight: scene, document, receipt, screen, sign, vertical (default: scene)",
    )
    add(
        "--text-free",
        type=float,
        default=DRAWING["text_free"],
        metavar="SHARE",
        help="share of images without words, of patterns that are taken for text (default: 0)",
    )
    advanced(
        add(
            "--hard-negatives",
            type=float,
            default=DRAWING["hard_negatives"],
            metavar="SHARE",
            help="share of scenes with hatching, blinds, fences, icons and the like (default: 0)",
        ),
        add(
            "--quarter-turns",
            type=float,
            default=DRAWING["quarter_turns"],
            metavar="SHARE",
            help="share of images turned by 90, 180 or 270 degrees (default: 0)",
        ),
    )
    add(
        "--curved",
        type=float,
        default=DRAWING["curved"],
        metavar="SHARE",
        help="share of bent words and lines (default: 0.1)",
    )
    advanced(
        add(
            "--bend",
            type=float,
            nargs=2,
            default=DRAWING["bend"],
            metavar=("LOW", "HIGH"),
            help="angle in degrees through which an arc bends a word (default: 20 200)",
        ),
        add(
            "--any-angle",
            type=float,
            default=DRAWING["any_angle"],
            metavar="SHARE",
            help="share turned by any angle (default: 0.06)",
        ),
    )
    add(
        "--text-height",
        type=float,
        nargs=2,
        default=DRAWING["text_height"],
        metavar=("LOW", "HIGH"),
        help="height of capitals in pixels (default: 8 100)",
    )
    advanced(
        add("--max-words", type=int, metavar="N", help="most words on one image"),
        add(
            "--degradation",
            type=float,
            default=DRAWING["degradation"],
            metavar="FACTOR",
            help="factor on the chances of blur, noise, bad light and JPEG artifacts, 0 to 1 (default: 1)",
        ),
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf synthesize`.

    Returns:
        `int`: 0.

    Raises:
        ValueError, OSError: as [`~data.synthesis.folder.synthesize_dataset`] does; the message says what to change.
    """
    drawing = {name: getattr(arguments, name) for name in DRAWING}
    for name in ("styles", "scripts"):
        if drawing[name] is not None:
            drawing[name] = parse_weights(f"--{name}", drawing[name])
    report = synthesize_dataset(
        arguments.output,
        arguments.count,
        seed=arguments.seed,
        backgrounds=arguments.backgrounds,
        allow_outside=arguments.allow_outside,
        words=arguments.words,
        fonts=arguments.fonts,
        quality=arguments.quality,
        workers=arguments.workers,
        progress=not arguments.quiet,
        warn=_warn,
        **drawing,
    )
    if not report["words"]:
        _warn("no image has a word; choose a larger --size or a smaller --text-height")
    print(
        f"{arguments.output}: {report['images']} images, {report['words']} words, {report['ignored']} of them not readable"
    )
    return 0


def _warn(message: str) -> None:
    print(f"tcm-hf synthesize: warning: {message}", file=sys.stderr)
