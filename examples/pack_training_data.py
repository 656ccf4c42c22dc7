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
Packs what a training run of `tcm-hf train CONFIG.json` reads, small enough to be sent to a machine with a GPU:

    python examples/pack_training_data.py examples/configs/tcm-small-phase2.json pack.tar --data_root data

The archive has the images of every source in at most `--longest_side` pixels, with their outlines and under their own names,
so that the same images are held out, and the fonts that the run's scripts need. `examples/train_on_gpu.sh` trains on it.
"""

import argparse
import io
import json
import logging
import os
import sys
import tarfile
from pathlib import Path

import cv2

from tcm_hf.data.formats import TextRecord, load_record
from tcm_hf.data.synthesis.fonts import find_fonts
from tcm_hf.training.options import DataArguments
from tcm_hf.training.sources import read_sources


def pack_records(archive: tarfile.TarFile, name: str, records: list[TextRecord], longest: int, quality: int) -> None:
    """A source in the form of `tcm-hf prepare`, below `data/NAME`."""
    rows = []
    for record in records:
        image = load_record(record)
        height, width = image.shape[:2]
        scale = min(1.0, longest / max(height, width))
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        if scale < 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        file_name = f"{Path(record.name).stem}.jpg"
        add_bytes(archive, f"data/{name}/train/{file_name}", jpeg.tobytes())
        # As far as the two sides were rounded, each has a scale of its own.
        factors = size[0] / width, size[1] / height
        polygons = [(polygon * factors).round(2).tolist() for polygon in record.polygons]
        row = {"file_name": file_name, "polygons": polygons, "ignore": [bool(flag) for flag in record.ignore]}
        rows.append(json.dumps({**row, "text": list(record.texts)}))
    add_bytes(archive, f"data/{name}/train/metadata.jsonl", ("\n".join(rows) + "\n").encode())


def add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def choose_fonts(scripts: list[str], count: int) -> list[Path]:
    """Files that can draw the scripts: of Latin so many, evenly taken, of each other script a few."""
    chosen: dict[Path, None] = {}
    for script in scripts:
        fonts = find_fonts(script=script)
        wanted = count if script == "latin" else max(count // 20, 1)
        chosen.update(dict.fromkeys(fonts[:: max(len(fonts) // wanted, 1)][:wanted]))
    return list(chosen)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="options of a run, see examples/configs")
    parser.add_argument("archive", type=Path, help="tar file to write")
    parser.add_argument("--data_root", help="where the paths of the sources begin")
    parser.add_argument("--longest_side", type=int, default=960, help="pixels that larger images are reduced to")
    parser.add_argument("--quality", type=int, default=85, help="of JPEG")
    parser.add_argument("--fonts", type=int, default=200, help="Latin fonts; other scripts have a twentieth each")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = json.loads(options.config.read_text(encoding="utf-8"))
    data = DataArguments(
        train_sources=settings["train_sources"], data_root=options.data_root or settings.get("data_root")
    )
    scripts = list((settings.get("synthetic_settings") or {}).get("scripts") or {"latin": 1})
    part = options.archive.with_name(options.archive.name + ".part")
    try:
        with tarfile.open(part, "w") as archive:
            sources = []
            for group in read_sources(data)[0]:
                name = group.source.name
                if group.records is None:
                    raise ValueError(f"{name} is a stream: leave `streaming` out to pack it")
                pack_records(archive, name, group.records, options.longest_side, options.quality)
                weight = {} if group.source.weight is None else {"weight": group.source.weight}
                sources.append({"path": name, "name": name, **weight})
                logging.info("%s: %d images", name, len(group.records))
            add_bytes(archive, "sources.json", json.dumps({"train_sources": sources}).encode())
            fonts = choose_fonts(scripts, options.fonts)
            for number, font in enumerate(fonts):
                archive.add(font.resolve(), f"fonts/{number}-{font.name}", filter=without_owner)
        os.replace(part, options.archive)
    except (OSError, ValueError, KeyError) as error:
        part.unlink(missing_ok=True)
        sys.exit(f"error: {error}")
    logging.info("%d fonts; %s has %.0f MB", len(fonts), options.archive, options.archive.stat().st_size / 1e6)
    return 0


def without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    sys.exit(main())
