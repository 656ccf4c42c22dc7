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
"""Parquet shards of a prepared folder, with the images inside, for the Hub."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ..output_files import exclusive, replacing
from .formats.hub import METADATA_NAME


SHARD_MEGABYTES = 400
ROWS_PER_GROUP = 100
DIGEST_KEY = b"tcm_hf.rows"


def write_parquet(
    folder: str | Path,
    output: str | Path,
    split: str,
    shard_megabytes: float = SHARD_MEGABYTES,
    overwrite: bool = False,
) -> list[Path]:
    """
    Writes a prepared folder as parquet shards with the images inside, ready for the Hub.

    Shards of the same rows that are there already are kept, so that a killed run goes on; they appear when all of them are
    complete. A shard knows its rows by a digest in its schema.

    Args:
        folder (`str` or `Path`): Folder with `metadata.jsonl`.
        output (`str` or `Path`): Folder of the shards, `data/<split>-00000-of-00001.parquet` and so on.
        split (`str`): Name of the split.
        shard_megabytes (`float`, *optional*, defaults to 400): Size of the images in a shard.
        overwrite (`bool`, *optional*, defaults to `False`): Whether shards that are there already are replaced.

    Returns:
        `list[Path]`: the shards.

    Raises:
        FileExistsError: if `output` has shards of this split with other rows, and `overwrite` is not set.
        BlockingIOError: if another run is writing shards of this split.
        OSError: if a shard cannot be written.
        ImportError: if `datasets` is not installed.
    """
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise ImportError("Writing parquet needs `pip install datasets`") from error
    folder, output = Path(folder), Path(output) / "data"
    with exclusive(output / split):
        return _write_shards(folder, output, split, shard_megabytes, overwrite)


def _write_shards(folder: Path, output: Path, split: str, shard_megabytes: float, overwrite: bool) -> list[Path]:
    import datasets
    import pyarrow
    from pyarrow import parquet

    with open(folder / METADATA_NAME, encoding="utf-8") as file:
        first = json.loads(next(file))
    columns = {
        "image": datasets.Image(),
        "polygons": [[[datasets.Value("float32")]]],
        "ignore": [datasets.Value("bool")],
        "text": [datasets.Value("string")],
        "width": datasets.Value("int32"),
        "height": datasets.Value("int32"),
    }
    if "language" in first:
        columns["language"] = [datasets.Value("string")]
    schema = datasets.Features(columns).arrow_schema
    sizes = [(folder / row["file_name"]).stat().st_size for row in _rows(folder)]
    shard_of = np.cumsum(sizes) // max(1, int(shard_megabytes * 1e6))
    _, starts = np.unique(shard_of, return_index=True)
    bounds = [*starts.tolist(), len(sizes)]
    paths = [output / f"{split}-{k:05d}-of-{len(starts):05d}.parquet" for k in range(len(starts))]
    rows = _rows(folder)
    digests = [_digest(islice(rows, end - start)) for start, end in zip(bounds, bounds[1:])]
    wanted = dict(zip(paths, digests))
    shards = re.compile(rf"{re.escape(split)}-\d{{5}}-of-\d{{5}}\.parquet")
    present = [path for path in sorted(output.glob("*.parquet")) if shards.fullmatch(path.name)]
    found = {path: _stored_digest(path) for path in present}
    others = [path for path, digest in found.items() if digest != wanted.get(path, b"")]
    if others and not overwrite:
        if unknown := [path for path in others if found[path] is None]:
            reason = f"{unknown[0]} does not say which rows it has (an older version or another program wrote it)"
        else:
            reason = f"{others[0]} has other rows than {folder}, or is a shard of another size"
        raise FileExistsError(f"{reason}; --overwrite (`overwrite=True`) replaces the {len(others)} such shards")
    # All of them are written under hidden names first, so that old and new shards are never there together.
    staged = {path: path.with_name(f".{path.name}.whole") for path in paths}
    rows = _rows(folder)
    for path, start, end in zip(paths, bounds, bounds[1:]):
        shard = [next(rows) for _ in range(end - start)]
        if not overwrite and wanted[path] in (found.get(path), _stored_digest(staged[path])):
            continue
        marked = schema.with_metadata({**schema.metadata, DIGEST_KEY: wanted[path]})
        with replacing(staged[path]) as temporary, parquet.ParquetWriter(temporary, marked) as writer:
            for at in range(0, len(shard), ROWS_PER_GROUP):
                group = [_parquet_row(row, folder) for row in shard[at : at + ROWS_PER_GROUP]]
                writer.write_table(pyarrow.Table.from_pylist(group, schema=marked))
    for path in others:
        path.unlink()
    for path in paths:
        if found.get(path) != wanted[path] or staged[path].is_file():
            os.replace(staged[path], path)
    for path in output.glob(f".{split}-*"):
        if shards.fullmatch(path.name[1:].rpartition(".parquet")[0] + ".parquet"):
            path.unlink()
    return paths


def _stored_digest(path: Path) -> bytes | None:
    """What `write_parquet` noted in a shard; `None` for files of another origin."""
    from pyarrow import ArrowException, parquet

    try:
        return (parquet.read_schema(path).metadata or {}).get(DIGEST_KEY)
    except (ArrowException, OSError):
        return None


def _digest(rows: Iterable[dict]) -> bytes:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest().encode()


def _rows(folder: Path) -> Iterator[dict]:
    with open(folder / METADATA_NAME, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _parquet_row(row: dict, folder: Path) -> dict:
    name = row.pop("file_name")
    return {"image": {"bytes": (folder / name).read_bytes(), "path": Path(name).name}, **row}
