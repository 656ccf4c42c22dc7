# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Data sets of the Hub as inputs, read from a small server that imitates it, in processes whose endpoint it is."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from PIL import Image


pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("datasets")

# Reads the inputs that are asked for, one after the other: of each image its facts and its shade, or the error.
READ = """
import json, sys
import numpy as np
from tcm_hf.inputs import iterate_images

def read(source, options):
    for item in iterate_images(source, **options):
        try:
            yield [item.name, item.facts, int(np.asarray(item.load()).mean())]
        except (OSError, ValueError) as error:
            yield [item.name, item.facts, str(error)]

print(json.dumps([list(read(*asked)) for asked in json.loads(sys.argv[1])]))
"""


def png(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (60, 40), (shade,) * 3).save(content, "PNG")
    return content.getvalue()


def parquet(images: list) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"image": images, "text": ["word"] * len(images)}), content)
    return content.getvalue()


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        images = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in (10, 20)]
        table = parquet([*images, {"bytes": b"no image", "path": "damaged.png"}])
        server.commit("datasets/me/words", {"README.md": b"# Words\n", "data/test-00000-of-00001.parquet": table})
        server.commit("datasets/me/words", {"data/test-00000-of-00001.parquet": parquet(images[:1])}, branch="smaller")
        photos = {f"{split}/{shade}.png": png(shade) for split, shade in (("test", 30), ("test", 40), ("train", 50))}
        server.commit("datasets/me/photos", photos)
        yield server


@pytest.fixture(scope="module")
def rows(hub, tmp_path_factory):
    """What is read of each input, by its address and options; all in one process, since each imports much."""
    folder = tmp_path_factory.mktemp("home")
    asked = [
        ("hf://datasets/me/words", {}),
        ("hf://me/words@smaller", {"split": "test"}),
        ("hf://datasets/me/photos", {"split": "test"}),
        ("hf://datasets/me/photos", {}),
        ("hf://datasets/me/photos", {"split": "val"}),
        ("hf://datasets/me/absent", {}),
        ("hf://datasets/me/words@absent", {}),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(asked)], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return dict(zip(map(str, asked), json.loads(result.stdout.splitlines()[-1])))


def of(rows, address, **options):
    return rows[str((f"hf://{address}", options))]


def test_a_parquet_file(rows):
    first, second, damaged = of(rows, "datasets/me/words")
    assert [first[1:], second[1:]] == [[{"row": 0}, 10], [{"row": 1}, 20]]
    assert damaged[1] == {"row": 2} and "row 2" in damaged[2] and "hf://datasets/me/words" in damaged[2]


def test_a_revision(rows):
    assert [row[1:] for row in of(rows, "me/words@smaller", split="test")] == [[{"split": "test", "row": 0}, 10]]


def test_images(rows):
    assert [row[1:] for row in of(rows, "datasets/me/photos", split="test")] == [
        [{"split": "test", "row": 0}, 30],
        [{"split": "test", "row": 1}, 40],
    ]


def test_what_is_wrong_is_told(rows):
    ((_, _, several),) = of(rows, "datasets/me/photos")
    assert "test" in several and "train" in several and "split" in several
    ((_, _, unknown),) = of(rows, "datasets/me/photos", split="val")
    assert "val" in unknown and "test" in unknown
    for address in ("datasets/me/absent", "datasets/me/words@absent"):
        ((_, _, absent),) = of(rows, address)
        assert f"hf://{address}" in absent


def test_only_what_was_asked_for_is_downloaded(rows, hub):
    paths = {path for method, path in hub.requests if method == "GET" and "/resolve/" in path}
    assert any(path.endswith("test/30.png") for path in paths)
    assert not any(path.endswith("train/50.png") for path in paths)
