"""Toy training data: white images with a dark bar as their only word, and a tiny configuration."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tiny_model import tiny_config

from tcm_hf.data.formats import TextRecord


def toy_quad(number: int) -> np.ndarray:
    left, top = 10 + 8 * number, 10 + 8 * number
    return np.array([[left, top], [left + 80, top], [left + 80, top + 24], [left, top + 24]], dtype=np.float32)


def toy_picture(number: int) -> Image.Image:
    image = Image.new("RGB", (160, 128), "white")
    quad = toy_quad(number)
    ImageDraw.Draw(image).rectangle([*quad[0], *quad[2]], fill="black")
    return image


def toy_records(count: int) -> list[TextRecord]:
    return [TextRecord(np.array(toy_picture(number)), [toy_quad(number)]) for number in range(1, count + 1)]


def write_toy_photos(folder: Path, count: int) -> Path:
    """`images`, `gt` (ICDAR 2015's form), `hub` (metadata.jsonl) and `config.json`; returns the folder."""
    for name in ("images", "gt", "hub/train"):
        (folder / name).mkdir(parents=True)
    rows = []
    for number in range(1, count + 1):
        toy_picture(number).save(folder / "images" / f"img_{number}.jpg")
        toy_picture(number).save(folder / "hub/train" / f"img_{number}.jpg")
        quad = toy_quad(number)
        line = ",".join(str(int(value)) for value in quad.flatten()) + ",word\n"
        (folder / "gt" / f"gt_img_{number}.txt").write_text(line, encoding="utf-8")
        row = {"file_name": f"img_{number}.jpg", "polygons": [quad.tolist()], "ignore": [False], "text": ["word"]}
        rows.append(json.dumps(row) + "\n")
    (folder / "hub/train/metadata.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(tiny_config().to_dict()), encoding="utf-8")
    return folder


def write_toy_shards(folder: Path, count: int, shards: int) -> Path:
    """The images as a data set in the Hub's form, in so many Parquet files; returns the folder."""
    import datasets

    folder.mkdir(parents=True)
    rows = []
    for number in range(1, count + 1):
        buffer = io.BytesIO()
        toy_picture(number).save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": f"img_{number}.png"}
        row = {"image": image, "polygons": [toy_quad(number).tolist()], "ignore": [number % 4 == 0], "text": ["word"]}
        rows.append(row)
    for shard in range(shards):
        part = datasets.Dataset.from_list(rows[shard::shards]).cast_column("image", datasets.Image())
        part.to_parquet(folder / f"train-{shard:05d}-of-{shards:05d}.parquet")
    return folder
