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

For other benchmarks, and what is printed, see `evaluate_text_detection.py`.
"""

import argparse

from evaluate_text_detection import add_model_arguments, evaluate

from tcm_hf.checkpoints import DEFAULT
from tcm_hf.data.formats import read_icdar2015


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help="checkpoint: directory, Hub id, or a name in the package")
    parser.add_argument("--image_dir", required=True, help="folder of photos, img_N.jpg")
    parser.add_argument("--gt_dir", required=True, help="folder of annotations, gt_img_N.txt")
    parser.add_argument(
        "--frame_size",
        type=int,
        nargs=2,
        help="height and width of the annotated frame, to which the photos are resized",
    )
    parser.add_argument("--last_digit", type=int, help="measure only photos whose number ends in this digit")
    add_model_arguments(parser)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    frame_size = tuple(arguments.frame_size) if arguments.frame_size else None
    records = read_icdar2015(arguments.image_dir, arguments.gt_dir, record_size=frame_size)
    if arguments.last_digit is not None:
        records = [r for r in records if r.image.stem.endswith(str(arguments.last_digit))]
    evaluate(records, "icdar2015", arguments)


if __name__ == "__main__":
    main()
