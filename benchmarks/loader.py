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
Speed of the training loader on one core: JPEG files in, augmented crops with targets out.

    python benchmarks/loader.py --image_dir icdar2015/images --gt_dir icdar2015/gt --frame_size 720 1280

Images that do not have the frame's size are first stored once in that size, so that a JPEG of the frame's size is decoded
for every sample. Nothing is kept decoded between samples. CPU seconds are those of this process and of the loader's workers.
"""

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader

from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import TextDetectionDataset, text_detection_collate
from tcm_hf.data.formats import TextRecord, load_record, read_icdar2015
from tcm_hf.targets import build_db_targets, build_fce_targets, build_pan_targets


BUILDERS = {"db": build_db_targets, "fce": build_fce_targets, "pan": build_pan_targets}


def store_in_frame_size(records: list[TextRecord], folder: Path, quality: int) -> list[TextRecord]:
    """Records of JPEG files that have the size of their frame."""
    result = []
    for number, record in enumerate(records):
        path = folder / f"{number}.jpg"
        image = load_record(record)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        result.append(TextRecord(path, record.polygons, record.ignore))
    return result


def cpu_seconds() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_dir", required=True, help="folder of images, img_N.jpg")
    parser.add_argument("--gt_dir", required=True, help="folder of annotations, gt_img_N.txt")
    parser.add_argument("--frame_size", type=int, nargs=2, default=(720, 1280), help="height and width in pixels")
    parser.add_argument("--detector", choices=sorted(BUILDERS), default="db")
    parser.add_argument("--crop_size", type=int, default=640)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0, help="processes of the loader; 0 = none but this one")
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality of the stored images")
    parser.add_argument("--cached", action="store_true", help="keep decoded images in memory")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    records = read_icdar2015(arguments.image_dir, arguments.gt_dir, record_size=tuple(arguments.frame_size))
    records = records[: arguments.photos]
    with tempfile.TemporaryDirectory() as folder:
        records = store_in_frame_size(records, Path(folder), arguments.quality)
        dataset = TextDetectionDataset(
            records,
            BUILDERS[arguments.detector],
            TextAugmentation(arguments.crop_size),
            length=arguments.samples,
            keep_images=arguments.cached,
        )
        if arguments.cached:
            dataset.preload()
        dataset[0]
        loader = DataLoader(
            dataset, arguments.batch_size, collate_fn=text_detection_collate, num_workers=arguments.workers
        )
        profile = cProfile.Profile()
        wall, cpu = time.perf_counter(), cpu_seconds()
        if arguments.profile:
            profile.enable()
        for batch in loader:
            batch["pixel_values"][0, 0, 0, 0].item()
        profile.disable()
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    print(
        f"{arguments.detector}, crop {arguments.crop_size}, {arguments.samples} samples of {len(records)} images: "
        f"{arguments.samples / cpu:.1f} samples per CPU second, {arguments.samples / wall:.1f} per second"
    )
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
