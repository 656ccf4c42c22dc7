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

"""Few-shot subsets of a data set: seeded, nested, and written as a list that can be published and read back.

Every image gets a place in one order that depends on the seed and on its own name only; a subset is the start of that
order. So the 1 % lie inside the 5 %, whatever order the files were listed in, and on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..output_files import output_file
from .formats import TextRecord


SUBSET_FORMAT = "tcm_hf.subset"


def record_ids(records: Sequence[TextRecord]) -> list[str]:
    """
    Names by which a subset refers to images.

    Args:
        records (`Sequence[TextRecord]`): the whole data set.

    Returns:
        `list[str]`: the file names, with as many of their folders as it takes to tell all of them apart; `row-N` for
        images without a file.
    """
    paths = []
    for row, record in enumerate(records):
        name = record.image if isinstance(record.image, (str, Path)) else record.image_name
        paths.append(Path(name).parts if name is not None else (f"row-{row}",))
    depth = 1
    names = ["/".join(parts[-depth:]) for parts in paths]
    while len(set(names)) < len(names) and depth < max(map(len, paths), default=1):
        depth += 1
        names = ["/".join(parts[-depth:]) for parts in paths]
    return names


def subset_order(names: Sequence[str], seed: int = 0) -> list[str]:
    """
    The order whose starts are the subsets.

    Args:
        names (`Sequence[str]`): names of all images, each once.
        seed (`int`, *optional*, defaults to 0): another seed gives another order.

    Returns:
        `list[str]`: the names, sorted by a hash of seed and name.

    Raises:
        ValueError: if a name comes twice.
    """
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})[:3]
        raise ValueError(f"every image needs a name of its own; these come more than once: {twice}")
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{int(seed)}:{name}".encode("utf-8", "surrogatepass")).digest()
    )


def select_subset(
    names: Sequence[str], *, fraction: float | None = None, shots: int | None = None, seed: int = 0
) -> list[str]:
    """
    Chooses a subset; with one seed, a smaller one always lies inside a larger one.

    Args:
        names (`Sequence[str]`): names of all images.
        fraction (`float`, *optional*): share of the images, above 0 and at most 1; at least one image is taken.
        shots (`int`, *optional*): number of images, instead of `fraction`.
        seed (`int`, *optional*, defaults to 0): see [`subset_order`].

    Returns:
        `list[str]`: the chosen names, in the order of the subset.

    Raises:
        ValueError: unless exactly one of `fraction` and `shots` is given and in range.
    """
    if (fraction is None) == (shots is None):
        raise ValueError("give exactly one of `fraction` and `shots`")
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise ValueError(f"`fraction` must be above 0 and at most 1 (1 % is 0.01), got {fraction}")
        shots = max(1, int(fraction * len(names) + 0.5))
    if shots is None or not 1 <= shots <= len(names):
        raise ValueError(f"`shots` must be between 1 and the number of images, {len(names)}, got {shots}")
    return subset_order(names, seed)[:shots]


def filter_records(records: Sequence[TextRecord], names: Sequence[str]) -> list[TextRecord]:
    """
    The records of a subset.

    Args:
        records (`Sequence[TextRecord]`): the whole data set.
        names (`Sequence[str]`): names of the subset, see [`record_ids`].

    Returns:
        `list[TextRecord]`: the records, in the order of `names`.

    Raises:
        ValueError: if a name is not in the data set, or two names are one image of it.
    """
    by_name = dict(zip(record_ids(records), records))
    missing = [name for name in names if name not in by_name]
    if missing:
        # A list that was written from files in another folder, or with fewer folders in its names.
        by_end: dict[str, list[TextRecord]] = {}
        for name, record in by_name.items():
            by_end.setdefault(name.rsplit("/", 1)[-1], []).append(record)
        for name in missing:
            found = by_end.get(name.rsplit("/", 1)[-1], [])
            if len(found) != 1:
                raise ValueError(
                    f"the subset names {name!r}, of which this data set of {len(by_name)} images has {len(found)}; "
                    "use the list with the data set that it was drawn from"
                )
            by_name[name] = found[0]
    chosen = [by_name[name] for name in names]
    if len({id(record) for record in chosen}) < len(set(names)):
        raise ValueError(
            "two names of the subset lead to one image of this data set; use the list with the data set that it was drawn "
            "from"
        )
    return chosen


def write_subset(path: str | os.PathLike, names: Sequence[str], **facts) -> None:
    """
    Writes a subset as JSON, to be published beside a result.

    Args:
        path (`str` or `os.PathLike`): the file.
        names (`Sequence[str]`): names of the images.
        facts: what a reader should know, for example `seed`, `fraction` and `total`.

    Raises:
        OSError: if the file cannot be written; the message names it.
    """
    content = {"format": SUBSET_FORMAT, **facts, "count": len(names), "images": list(names)}
    with output_file(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_subset(path: str | os.PathLike) -> list[str]:
    """
    Reads a subset: what [`write_subset`] wrote, or a text file with one name a line.

    Args:
        path (`str` or `os.PathLike`): the file.

    Returns:
        `list[str]`: names of the images.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it names no images, or one of them twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"subset file not found: {path}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    if text.lstrip().startswith("{"):
        try:
            names = json.loads(text)["images"]
        except (json.JSONDecodeError, KeyError) as error:
            raise ValueError(f'{path}: expected JSON with a list of names under "images" ({error})') from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f'{path}: "images" must be a list of names')
    else:
        lines = (line.strip() for line in text.splitlines())
        names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise ValueError(f"{path}: names no image")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: names an image twice")
    return names
