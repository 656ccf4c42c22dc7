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
Speed of the generator of rendered text: images a second on one core, on several processes, and with training targets.

    python benchmarks/synthetic.py --size 640 640 --images 200 --workers 2

Each figure is measured after a warm-up, in which fonts and textures are loaded, by the clock and by the CPU time of the
processes: on a machine that is busy with something else, only the latter says what the generator costs.
"""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np

from tcm_hf.data.synthesis.generator import SyntheticTextGenerator, find_fonts
from tcm_hf.data.synthesis.words import default_words
from tcm_hf.targets.db import build_db_targets


_STATE = {}


def start(options: dict, warm_up: int) -> None:
    """Makes the generator of a process, and fills its caches."""
    cv2.setNumThreads(1)
    _STATE["generator"] = SyntheticTextGenerator(**options)
    for number in range(warm_up):
        draw((1, number, False))


def draw(task: tuple[int, int, bool]) -> tuple[int, int, float]:
    """One image: its words, how many of them are not readable, and the CPU seconds."""
    seed, number, with_targets = task
    begin = time.process_time()
    image, polygons, ignore, _ = _STATE["generator"].generate(np.random.default_rng([seed, number]))
    if with_targets:
        build_db_targets(polygons, ignore, *image.shape[:2])
    return len(polygons), sum(ignore), time.process_time() - begin


def measure(name: str, results, count: int, begin: float) -> None:
    words, ignored, seconds = np.array(list(results)).sum(axis=0)
    wall = time.perf_counter() - begin
    print(
        f"{name:34s} {count / wall:6.1f} images/s by the clock   {count / seconds:6.1f} images/s a core by CPU time   "
        f"{words / count:.1f} words an image, {ignored / max(words, 1):.0%} not readable"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), help="height and width in pixels")
    parser.add_argument("--images", type=int, default=200, help="images of each measurement")
    parser.add_argument("--workers", type=int, default=2, help="processes of the last measurement")
    parser.add_argument("--warm_up", type=int, default=100, help="images drawn before a measurement")
    parser.add_argument("--fonts", nargs="+", help="folders of fonts (default: those of the system)")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    fonts = find_fonts(*([arguments.fonts] if arguments.fonts else []))
    print(f"{len(fonts)} fonts, found in {time.perf_counter() - begin:.1f} s; {os.cpu_count()} cores")
    options = {"fonts": fonts, "words": default_words(), "size": tuple(arguments.size)}
    count = arguments.images
    start(options, arguments.warm_up)
    for name, with_targets in (("one process", False), ("one process, with DB targets", True)):
        begin = time.perf_counter()
        measure(name, [draw((0, number, with_targets)) for number in range(count)], count, begin)
    context = multiprocessing.get_context("spawn")
    tasks = [(0, number, False) for number in range(count)]
    setup = (options, arguments.warm_up)
    with ProcessPoolExecutor(arguments.workers, context, start, setup) as pool:
        # Both processes have to be warm before the clock starts.
        list(pool.map(draw, [(2, number, False) for number in range(8 * arguments.workers)]))
        begin = time.perf_counter()
        measure(f"{arguments.workers} processes", pool.map(draw, tasks, chunksize=4), count, begin)


if __name__ == "__main__":
    main()
