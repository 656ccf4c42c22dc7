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
"""Benchmarks in one JSON file: ArT, LSVT, COCO-Text, TextOCR, and the general COCO and mmocr forms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .access import DEFAULT_OPTIONS, MEMORY_LIMIT, PathLike, ReadOptions, SourceFolders
from .files import (
    ORIENTATION_CHOICES,
    ImageIndex,
    as_folders,
    as_names,
    check_choice,
    checked,
    find_one,
    json_number,
    json_outline,
    json_size,
    member,
    parse_json,
    read_text,
    rectangle,
    shortened,
    split_name,
)
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, warn


NUMBERS = (int, float)
ID = (int, str)


def load_json(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Any:
    """The content of a JSON file."""
    return parse_json(read_text(path, encoding, memory_limit), str(path), memory_limit)


def find_source(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None,
    patterns: Sequence[str],
    what: str,
    split: str | None,
    missing: str,
    encoding: str | None,
    options: ReadOptions,
) -> tuple[Path, ImageIndex]:
    """The annotation file of a data set that has one for all images, and the images that it may name."""
    root = Path(source)
    root = root if root.is_dir() else root.parent
    image_roots = None if images is None else as_folders(images, root)
    folders = SourceFolders(root, *(image_roots or ()), allow_outside=options.allow_outside)
    path = find_one(source, patterns, what, split, folders)
    return path, ImageIndex(image_roots or as_folders(None, path.parent), missing, None, folders, encoding)


def box_outline(value: Any, where: str, corners: bool = False) -> np.ndarray:
    """
    The outline of a box.

    Args:
        value (`list`): `[x, y, width, height]`, or with `corners` `[xmin, ymin, xmax, ymax]`.
        where (`str`): Its place, for the message.
        corners (`bool`, *optional*, defaults to `False`): Which of the two it is.
    """
    numbers = [json_number(number, where) for number in checked(value, list, where)]
    if len(numbers) != 4:
        raise AnnotationError(f"{where}: a box needs 4 numbers, found {len(numbers)}; correct it")
    x, y, a, b = numbers
    xmax, ymax = (a, b) if corners else (x + a, y + b)
    if xmax < x or ymax < y:
        form = "[xmin, ymin, xmax, ymax]" if corners else "[x, y, width, height]"
        raise AnnotationError(f"{where}: {shortened(value)} is no box {form}; correct it")
    return rectangle(x, y, xmax, ymax)


def _outline_or_box(entry: dict, keys: Sequence[str], where: str) -> np.ndarray:
    """The first outline among some fields that has at least 3 points; otherwise the box of the field `bbox`."""
    for key in keys:
        value = member(entry, key, list, where, None)
        if value and (len(value) >= 6 or (isinstance(value[0], list) and len(value) >= 3)):
            return json_outline(value, f"{where}.{key}")
    if entry.get("bbox") is None:
        raise AnnotationError(
            f"{where}: neither an outline ({', '.join(keys)}) nor a `bbox`; add one or remove the entry"
        )
    return box_outline(entry["bbox"], f"{where}.bbox")


# ArT, LSVT ----------------------------------------------------------------------------------------------------------


def read_art(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    missing: str = "error",
    record_size: tuple[int, int] | None = None,
    orientation: str = "stored",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads ICDAR 2019-ArT (https://rrc.cvc.uab.es/?ch=14) and 2019-LSVT (https://rrc.cvc.uab.es/?ch=16).

    `{"gt_0": [{"points": [[x, y], ...], "transcription": "...", "illegibility": false, "language": "Latin"}, ...]}`, where
    the last two fields may be missing; the image is `gt_0.jpg`. See [`read_dataset`] for arguments and errors.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("train*labels.json", "*labels*.json", "*.json")
    path, pictures = find_source(source, images, patterns, "label file", split, missing, encoding, options)
    content = checked(load_json(path, encoding, options.memory_limit), dict, str(path))

    def build(item: tuple[str, Any]) -> TextRecord | None:
        name, entries = item
        where = f"{path}: {shortened(name)}"
        instances = Instances()
        for index, entry in enumerate(checked(entries, list, where)):
            place = f"{where}[{index}]"
            instances.add(
                json_outline(member(entry, "points", list, place), f"{place}.points"),
                member(entry, "transcription", str, place, None),
                member(entry, "illegibility", (bool, int), place, False),
                member(entry, "language", str, place, None),
            )
        image = pictures.find(name, where)
        if image is None:
            return None
        return instances.record(image, orientation, record_size, where=where, normalized=options.normalized)

    return build_records(content.items(), build, on_error, options)


# COCO-Text, TextOCR -------------------------------------------------------------------------------------------------


def read_cocotext(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads COCO-Text, version 1 or 2 (https://bgshih.github.io/cocotext): `cocotext.v2.json` with COCO's `train2014`.

    Outlines are the field `mask` (version 2) or `polygon` (version 1), or else the `bbox`; text of the `legibility`
    `"illegible"` is ignored. `split` is compared with the images' field `set`. Images without text are included.
    See [`read_dataset`] for the other arguments and the errors.
    """
    patterns = ("cocotext*.json", "COCO_Text*.json", "*.json")
    found = find_source(source, images, patterns, "COCO-Text file", None, missing, encoding, options)
    return _read_image_table(
        *found, split, orientation, encoding, on_error, options, keys=("mask", "polygon"), illegible=()
    )


def read_textocr(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads TextOCR (https://textvqa.org/textocr): `TextOCR_0.1_train.json` with the folder `train_images`.

    Outlines are the field `points`; the transcription `.` marks unreadable text. `split` chooses among several files.
    See [`read_dataset`] for the other arguments and the errors.
    """
    patterns = ("TextOCR*.json", "*.json")
    found = find_source(source, images, patterns, "TextOCR file", split, missing, encoding, options)
    return _read_image_table(
        *found, None, orientation, encoding, on_error, options, keys=("points",), illegible=(".",)
    )


def _read_image_table(
    path: Path,
    pictures: ImageIndex,
    split: str | None,
    orientation: str,
    encoding: str | None,
    on_error: OnError | None,
    options: ReadOptions,
    *,
    keys: Sequence[str],
    illegible: Sequence[str],
) -> Iterator[TextRecord]:
    """The form that COCO-Text and TextOCR share: the tables `imgs` and `anns`, both by id."""
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    content = load_json(path, encoding, options.memory_limit)
    table = member(content, "imgs", dict, str(path))
    entries_of: dict[str, list[str]] = {}
    entries = member(content, "anns", dict, str(path))
    for key, entry in entries.items():
        where = f"{path}: anns[{shortened(key)}]"
        image_id = str(member(entry, "image_id", ID, where))
        if image_id not in table:
            raise AnnotationError(f"{where}.image_id: no image {image_id} in `imgs`; get a complete copy of the file")
        entries_of.setdefault(image_id, []).append(key)

    def build(item: tuple[str, Any]) -> TextRecord | None:
        image_id, info = item
        where = f"{path}: imgs[{shortened(image_id)}]"
        name = member(info, "file_name", str, where)
        if split is not None and split_name(member(info, "set", str, where)) != split_name(split):
            return None
        instances = Instances()
        for key in entries_of.get(image_id, ()):
            place = f"{path}: anns[{shortened(key)}]"
            entry = entries[key]
            text = member(entry, "utf8_string", str, place, None)
            ignore = text in illegible or member(entry, "legibility", str, place, "legible") == "illegible"
            language = member(entry, "language", str, place, None)
            instances.add(_outline_or_box(entry, keys, place), text, ignore, language)
        size = json_size(info, where)
        image = pictures.find(name, where)
        if image is None:
            return None
        return instances.record(image, orientation, None, size, where, normalized=options.normalized)

    return build_records(table.items(), build, on_error, options)


# COCO ---------------------------------------------------------------------------------------------------------------

_COCO_TEXT_KEYS = ("text", "utf8_string", "transcription", "caption")


def read_coco(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads the COCO detection form (https://cocodataset.org/#format-data): `images`, `annotations`, `categories`.

    Outlines are the polygons of `segmentation`, every part one instance, or else the `bbox`. Annotations with `iscrowd`
    or `ignore` are ignored; they may have a run-length `segmentation`, of which the `bbox` is taken. The transcription
    is the field `text`, `utf8_string`, `transcription` or `caption`, where there is one.

    Args:
        source (`str` or `Path`): The JSON file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        split (`str`, *optional*): Chooses among several files in a folder.
        categories (`Sequence[str]`, *optional*):
            Names of the categories that are text; annotations of others are left out. By default all are text, with an
            [`AnnotationWarning`] when there are several, or the name of one does not say that it is text.
        missing (`str`, *optional*, defaults to `"error"`): See [`read_dataset`], as for the following.
        orientation (`str`, *optional*, defaults to `"auto"`): The images' `width` and `height` decide.
        encoding (`str`, *optional*): Encoding of the file.
        on_error (`Callable`, *optional*): Called with the error of an image's annotation.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: lazily.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("instances*.json", "*.json")
    path, pictures = find_source(source, images, patterns, "COCO file", split, missing, encoding, options)
    content = load_json(path, encoding, options.memory_limit)
    wanted = None if categories is None else _category_ids(content, path, as_names(categories, "categories"))
    infos: dict[Any, tuple[str, dict, list]] = {}
    for index, info in enumerate(member(content, "images", list, str(path))):
        where = f"{path}: images[{index}]"
        image_id = member(info, "id", ID, where)
        if image_id in infos:
            raise AnnotationError(f"{where}.id: {shortened(image_id)} is the id of an earlier image, too; correct it")
        infos[image_id] = (where, info, [])
    used: Counter = Counter()
    for index, entry in enumerate(member(content, "annotations", list, str(path))):
        where = f"{path}: annotations[{index}]"
        image_id = member(entry, "image_id", ID, where)
        if image_id not in infos:
            raise AnnotationError(f"{where}.image_id: no image with the id {shortened(image_id)}; correct it")
        category = member(entry, "category_id", ID, where, None if wanted is None else ...)
        used[category] += 1
        if wanted is None or category in wanted:
            infos[image_id][2].append((where, entry))
    if wanted is None:
        _warn_of_categories(content, path, used)

    def build(item: tuple[str, dict, list]) -> TextRecord | None:
        where, info, entries = item
        name = member(info, "file_name", str, where)
        instances = Instances()
        for place, entry in entries:
            flags = [member(entry, key, (bool, int), place, 0) for key in ("iscrowd", "ignore")]
            texts = [member(entry, key, str, place, None) for key in _COCO_TEXT_KEYS]
            text = next((text for text in texts if text is not None), None)
            for polygon in _coco_outlines(entry, place, any(flags)):
                instances.add(polygon, text, any(flags))
        size = json_size(info, where)
        image = pictures.find(name, where)
        if image is None:
            return None
        return instances.record(image, orientation, None, size, where, normalized=options.normalized)

    return build_records(infos.values(), build, on_error, options)


def _category_names(content: Any, path: Path) -> dict:
    """The names of the categories by their ids."""
    names = {}
    for index, entry in enumerate(member(content, "categories", list, str(path), [])):
        where = f"{path}: categories[{index}]"
        names[member(entry, "id", ID, where)] = member(entry, "name", str, where)
    return names


def _category_ids(content: Any, path: Path, categories: Sequence[str]) -> set:
    names = _category_names(content, path)
    unknown = [name for name in categories if name not in names.values()]
    if unknown:
        known = ", ".join(map(repr, names.values())) or "none"
        raise ValueError(f"{path} has no category {unknown[0]!r}, but {known}; see `categories` (--categories)")
    return {identifier for identifier, name in names.items() if name in categories}


_TEXT_CATEGORY = re.compile(r"text|word|letter|char|line|ocr|transcription", re.IGNORECASE)


def _warn_of_categories(content: Any, path: Path, used: Counter) -> None:
    """Warns when what becomes text is probably not all text."""
    names = _category_names(content, path)
    counts = {
        names.get(identifier, str(identifier)): count for identifier, count in used.items() if identifier is not None
    }
    warn_of_categories(path, counts, [name for identifier, name in names.items() if identifier in used])


def warn_of_categories(place: Path | str, counts: Mapping[str, int], names: Sequence[str] | None = None) -> None:
    """
    Warns when what becomes text is probably not all text.

    Args:
        place (`Path` or `str`): The file or folder, for the message.
        counts (`Mapping[str, int]`): How many annotations each category has.
        names (`Sequence[str]`, *optional*): The categories whose names are known; all by default.
    """
    if len(counts) > 1 or any(not _TEXT_CATEGORY.search(name) for name in (counts if names is None else names)):
        listed = ", ".join(f"{shortened(name)} ({count})" for name, count in list(counts.items())[:8])
        warn(
            f"{place}: annotations of all categories are read as text: {listed}; pass categories=[...] "
            "(--categories NAME,NAME) with those that are"
        )


def _coco_outlines(entry: dict, where: str, ignored: bool) -> list[np.ndarray]:
    segmentation = member(entry, "segmentation", (list, dict), where, None)
    if isinstance(segmentation, dict) and not ignored:
        raise AnnotationError(
            f"{where}.segmentation: run-length masks are not read; convert it to polygons, or remove it"
        )
    if segmentation and isinstance(segmentation, list):
        # A single flat polygon is often written without the outer list.
        if not isinstance(segmentation[0], list):
            return [json_outline(segmentation, f"{where}.segmentation")]
        return [json_outline(part, f"{where}.segmentation[{index}]") for index, part in enumerate(segmentation)]
    return [_outline_or_box(entry, (), where) if "bbox" in entry else _missing_outline(where)]


def _missing_outline(where: str):
    raise AnnotationError(f"{where}: neither a `segmentation` nor a `bbox`; add one or remove the annotation")


# mmocr --------------------------------------------------------------------------------------------------------------


def read_mmocr(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads the text-detection form of mmocr 1.x: `data_list` of images with `instances`.

    An instance has a flat `polygon`, or else a `bbox` `[xmin, ymin, xmax, ymax]`; `ignore` and `text` are optional. See
    [`read_dataset`] for arguments and errors.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("textdet*.json", "textspotting*.json", "*.json")
    path, pictures = find_source(source, images, patterns, "mmocr file", split, missing, encoding, options)
    entries = member(load_json(path, encoding, options.memory_limit), "data_list", list, str(path))

    def build(item: tuple[int, Any]) -> TextRecord | None:
        where = f"{path}: data_list[{item[0]}]"
        name = member(item[1], "img_path", str, where)
        instances = Instances()
        for index, entry in enumerate(member(item[1], "instances", list, where, [])):
            place = f"{where}.instances[{index}]"
            if member(entry, "polygon", list, place, None):
                polygon = json_outline(entry["polygon"], f"{place}.polygon")
            else:
                polygon = box_outline(member(entry, "bbox", list, place), f"{place}.bbox", corners=True)
            ignore = member(entry, "ignore", (bool, int), place, False)
            instances.add(polygon, member(entry, "text", str, place, None), ignore)
        size = json_size(item[1], where)
        image = pictures.find(name, where)
        if image is None:
            return None
        return instances.record(image, orientation, None, size, where, normalized=options.normalized)

    return build_records(enumerate(entries), build, on_error, options)
