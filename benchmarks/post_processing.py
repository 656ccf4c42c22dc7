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
Time of post-processing, from the maps of the DB detector to outlines: by word, and of a page without text.

    python benchmarks/post_processing.py                                  # 1,000 words, every shape
    python benchmarks/post_processing.py --words 3000 --size 2484 1926 --batch 16

The map is that of a drawn page: one kernel with soft edges and noise for each word, at the settings of a checkpoint. It is
the processor's time that is told, the best of some rounds, which depends less on what else runs on the machine; all rows
take turns. The row `batch` has the time by word where many pages are decoded in one call. `--threads 2` tells besides what
two threads take of the time of one, by the clock, to decode the pages of the batch: below 1 they pay.
"""

import argparse
import json
import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from tcm_hf import TCMImageProcessor
from tcm_hf.checkpoints import DEFAULT, find_checkpoint
from tcm_hf.model.outlines import SHAPES


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=DEFAULT, help="checkpoint whose settings are used: directory, Hub id, or a name"
    )
    parser.add_argument("--words", type=int, default=1000, help="words of the page")
    parser.add_argument("--size", type=int, nargs=2, default=(1656, 1284), help="height and width of the map")
    parser.add_argument("--batch", type=int, default=4, help="pages in the row `batch`")
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is measured")
    parser.add_argument("--threads", type=int, help="threads to compare with one")
    return parser.parse_args()


def draw_page(words: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """The probability map of a page with that many words, in rows and columns."""
    generator = np.random.default_rng(seed)
    page = np.zeros((height, width), dtype=np.float32)
    columns = max(math.ceil(math.sqrt(words * width / height / 3.2)), 1)
    rows = max(math.ceil(words / columns), 1)
    column_width, row_height = width / columns, height / rows
    for index in range(words):
        row, column = divmod(index, columns)
        length, radius = column_width * generator.uniform(0.45, 0.8), row_height * 0.175
        left, middle = column_width * (column + 0.1) + radius, row_height * (row + 0.5)
        ends = [(round(left), round(middle)), (round(left + length - 2 * radius), round(middle))]
        cv2.line(page, *ends, 1, thickness=max(round(2 * radius), 1))
    page = cv2.GaussianBlur(page, (0, 0), 1.2) * 0.95
    page += generator.normal(0, 0.02, page.shape) * (page > 0.05)
    return page.clip(1e-4, 1 - 1e-4)


def time_with_threads(
    processor: TCMImageProcessor, logits: np.ndarray, sizes: list, threads: int, rounds: int
) -> float:
    """The median time of so many threads for pages of a batch, over that of one; they take turns."""
    pages = [({"logits": page[None]}, [size]) for page, size in zip(logits, sizes)]
    seconds: dict[int, list[float]] = {1: [], threads: []}
    for _ in range(rounds):
        for count, times in seconds.items():
            with ThreadPoolExecutor(count) as pool:
                start = time.perf_counter()
                list(pool.map(lambda page: processor.post_process_text_detection(*page, shape="auto"), pages))
                times.append(time.perf_counter() - start)
    return statistics.median(seconds[threads]) / statistics.median(seconds[1])


def main():
    arguments = parse_arguments()
    cv2.setNumThreads(1)
    processor = TCMImageProcessor.from_pretrained(find_checkpoint(arguments.model))
    page = draw_page(arguments.words, *arguments.size)
    logits = np.log(page / (1 - page))[None, None]
    rows = {shape: ({"logits": logits}, shape) for shape in SHAPES}
    rows["batch"] = ({"logits": np.repeat(logits, arguments.batch, axis=0)}, "auto")
    rows["without text"] = ({"logits": np.full_like(logits, -9)}, "auto")
    seconds, found = dict.fromkeys(rows, math.inf), {}
    for _ in range(arguments.rounds):
        for name, (outputs, shape) in rows.items():
            sizes = [(arguments.size[0] * 2 // 3, arguments.size[1] * 2 // 3)] * len(outputs["logits"])
            start = time.process_time()
            results = processor.post_process_text_detection(outputs, sizes, shape=shape)
            seconds[name] = min(seconds[name], time.process_time() - start)
            found[name] = sum(len(result["polygons"]) for result in results)
    table = {
        name: {"words": found[name], "seconds": round(value, 4)}
        | ({"ms_per_word": round(1000 * value / found[name], 3)} if found[name] else {})
        for name, value in seconds.items()
    }
    result = {"size": list(arguments.size), "opencv": cv2.__version__, "rows": table}
    if arguments.threads:
        logits = rows["batch"][0]["logits"]
        sizes = [(arguments.size[0] * 2 // 3, arguments.size[1] * 2 // 3)] * len(logits)
        ratio = time_with_threads(processor, logits, sizes, arguments.threads, arguments.rounds)
        result[f"time of {arguments.threads} threads"] = round(ratio, 3)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
