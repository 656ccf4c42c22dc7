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
"""YOLO: boxes, oriented boxes and segments in fractions of the image's size, one text file an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .access import DEFAULT_OPTIONS, MEMORY_LIMIT, PathLike, ReadOptions, SourceFolders, short_text
from .files import (
    MISSING_CHOICES,
    ORIENTATION_CHOICES,
    as_folders,
    check_choice,
    find_files,
    folder,
    natural_key,
    parse_numbers,
    read_lines,
    read_text,
    rectangle,
    shortened,
)
from .frames import MAX_FRACTION, picture_header
from .paired import Instances, OnError
from .records import IMAGE_SUFFIXES, AnnotationError, TextRecord, build_records, then
from .tool_labels import IGNORE_LABELS, ToolLabels


# A list of names; parsing YAML takes long.
MAX_YAML_BYTES = 2**20
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "*.yaml", "*.yml", "classes.txt", "*.names")
# Text files in which nothing is labeled.
_OTHER_TEXT = ("classes", "train", "val", "valid", "validation", "test", "readme")


def read_yolo(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    annotations: PathLike | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    split: str | None = None,
    missing: str = "error",
    record_size: tuple[int, int] | None = None,
    orientation: str = "upright",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads YOLO's text files (https://docs.ultralytics.com/datasets): `images/train/1.jpg` with `labels/train/1.txt`.

    A line is the number of a class, and either `center_x center_y width height` (a box), `x1 y1 ... x4 y4` (an oriented
    box) or `x1 y1 x2 y2 x3 y3 ...` (a segment), in fractions of the image's width and height. A confidence behind a box
    is left out. An image without text file has no text, as YOLO has it.

    Args:
        source (`str` or `Path`): Folder, or its `data.yaml`.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not below `source`.
        annotations (`str` or `Path`, *optional*): Folder of text files, likewise.
        categories (`Sequence[str]`, *optional*):
            Classes that are text, by the names of `data.yaml`, `classes.txt` or `obj.names`, or by their numbers; others
            are left out. All are text by default.
        ignore_labels (`Sequence[str]`, *optional*): Classes of text to be ignored.
        split (`str`, *optional*): `"train"`, `"validation"` or `"test"`: only folders of this split count.
        missing (`str`, *optional*, defaults to `"error"`):
            What becomes of a text file without image; `"skip"` leaves out images without text file, too.
        record_size (`tuple[int, int]`, *optional*): (height, width) of the frame, when the images are not there.
        orientation (`str`, *optional*, defaults to `"upright"`): See [`read_dataset`], as for the following.
        encoding (`str`, *optional*): Encoding of the files.
        on_error (`Callable`, *optional*): Called with the error of a file, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common. Coordinates always are fractions.

    Returns:
        `Iterator[TextRecord]`: lazily.

    Raises:
        FileNotFoundError: if a folder, or with `missing="error"` an image, is missing.
        AnnotationError: if a line cannot be meant; the message names file and line.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    check_choice("missing", missing, MISSING_CHOICES)
    root = Path(source).parent if Path(source).is_file() else folder(source, "Source")
    image_roots = as_folders(images, root)
    label_root = root if annotations is None else folder(annotations, "Annotation")
    folders = SourceFolders(root, label_root, *image_roots, allow_outside=options.allow_outside)
    names = _class_names(source, [root, root / "labels", label_root], folders, encoding)
    labels = ToolLabels(categories, ignore_labels)
    pairs = _pairs(image_roots, label_root, split, missing, folders)

    def build(pair: tuple[Path, Path | None]) -> TextRecord:
        image, file = pair
        instances = Instances()
        if file is not None:
            parsed = parse_yolo(file, encoding, options.memory_limit)
            scale = _scale(image, record_size, orientation, str(file)) if parsed else None
            for number, line, polygon in parsed:
                name = _class_name(number, names, f"{file}, line {line}")
                if labels.keeps(name):
                    instances.add(polygon * scale, None, labels.ignores(name))
        return instances.record(image, orientation, record_size, where=str(file or image))

    # Outlines smaller than a pixel are no fractions that were taken for pixels.
    records = build_records(pairs, build, on_error, replace(options, normalized=True))
    return then(records, lambda: labels.warn(root))


def parse_yolo(
    path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT
) -> list[tuple[int, int, np.ndarray]]:
    """
    Parses one text file of YOLO's: boxes, oriented boxes and segments.

    Args:
        path (`str` or `Path`): The file.
        encoding (`str`, *optional*): Its encoding, when it is neither UTF-8 nor UTF-16 with a byte order mark.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `list[tuple[int, int, np.ndarray]]`: for each line the number of its class, its own number, and its outline, in
        fractions of width and height.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if a line cannot be meant; the message names file and line.
    """
    parsed = []
    for number, line in read_lines(path, encoding, memory_limit):
        where = f"{path}, line {number}"
        fields = line.split()
        if not (fields[0].isascii() and fields[0].isdecimal() and len(fields[0]) < 10):
            raise AnnotationError(
                f"{where}: expected the number of a class and coordinates: {short_text(line)}; correct it or check the format"
            )
        values = np.array(parse_numbers(fields[1:], where, line), dtype=np.float64)
        if len(values) not in (4, 5) and (len(values) < 6 or len(values) % 2):
            raise AnnotationError(
                f"{where}: {len(values)} numbers behind the class; expected `x y width height`, or x and y of at least 3 points: "
                f"{short_text(line)}; correct it"
            )
        if len(values) and np.abs(values).max() > MAX_FRACTION:
            raise AnnotationError(
                f"{where}: {np.abs(values).max():g} is no fraction of the image's width or height: {short_text(line)}; "
                "YOLO's coordinates are from 0 to 1, divide pixels by the size"
            )
        if len(values) >= 6:
            parsed.append((int(fields[0]), number, values.reshape(-1, 2)))
            continue
        x, y, width, height = values[:4]
        if width < 0 or height < 0:
            raise AnnotationError(f"{where}: a negative width or height: {short_text(line)}; correct it")
        box = rectangle(0, 0, 1, 1).astype(np.float64) * (width, height) + (x - width / 2, y - height / 2)
        parsed.append((int(fields[0]), number, box))
    return parsed


def _scale(image: Path, record_size: tuple[int, int] | None, orientation: str, where: str) -> np.ndarray:
    """(width, height) of the frame in which a file's fractions are."""
    if record_size is not None:
        height, width = record_size
        return np.array([width, height], dtype=np.float64)
    try:
        height, width, tag = picture_header(image)
    except OSError as error:
        raise AnnotationError(
            f"{where}: YOLO's coordinates cannot be read without the size of the image {image} ({error}); add the image "
            "(`images=`, --images), or name the size of all (`record_size=`, --frame-size)"
        ) from error
    turned = tag >= 5 and orientation != "stored"
    return np.array([height, width] if turned else [width, height], dtype=np.float64)


def _pairs(
    image_roots: Sequence[Path], label_root: Path, split: str | None, missing: str, folders: SourceFolders
) -> list[tuple[Path, Path | None]]:
    """Images with their text files, in natural order: the same path below `labels` instead of `images`, or the same name."""
    files = [
        path for path in find_files([label_root], (".txt",), split, folders) if path.stem.casefold() not in _OTHER_TEXT
    ]
    by_path = {path.with_suffix(""): path for path in files}
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.stem.casefold(), []).append(path)
    pairs: list[tuple[Path, Path | None]] = []
    used = set()
    for root in image_roots:
        for image in find_files([root], IMAGE_SUFFIXES, split, folders):
            relative = image.relative_to(root).with_suffix("")
            mirrored = Path(*("labels" if part == "images" else part for part in relative.parts))
            places = (label_root / mirrored, label_root / relative, image.with_suffix(""))
            named = by_stem.get(image.stem.casefold(), [])
            file = next((by_path[place] for place in places if place in by_path), None)
            if file is None and len(named) > 1:
                raise AnnotationError(
                    f"two text files for the image {image}: {named[0]} and {named[1]}; name the folder that is meant "
                    "(`annotations=`, --annotations) or the `split`"
                )
            file = file or next(iter(named), None)
            used.add(file)
            if file is not None or missing != "skip":
                pairs.append((image, file))
    unused = [file for file in files if file not in used]
    if unused and missing == "error":
        raise FileNotFoundError(
            f"Image not found for the annotation {unused[0]} in {', '.join(map(str, image_roots))}; name its folder "
            "(`images=`), or pass missing='skip'"
        )
    if missing == "keep":
        pairs += [(image_roots[0] / f"{file.stem}.jpg", file) for file in unused]
    if not files or not pairs:
        place = f"{label_root}{f' in the split {split!r}' if split else ''}"
        raise AnnotationError(f"{place}: no image with a text file of YOLO's (.txt); check the folder and its layout")
    return sorted(pairs, key=lambda pair: natural_key(str(pair[0])))


# Names of classes ---------------------------------------------------------------------------------------------------


def _class_names(
    source: PathLike, places: Sequence[Path], folders: SourceFolders, encoding: str | None
) -> dict[int, str] | None:
    """The names of the classes by their numbers; `None` if no file has them."""
    found = [Path(source)] if Path(source).is_file() else []
    found += [path for place in places for pattern in _NAMES for path in sorted(place.glob(pattern))]
    for path in found:
        path = folders.check(path, str(source))
        if path.suffix in (".yaml", ".yml"):
            names = _yaml_names(path, encoding)
        else:
            names = {number: name for number, (_, name) in enumerate(read_lines(path, encoding))}
        if names is not None:
            return {number: name.strip() for number, name in names.items()}
    return None


def _yaml_names(path: Path, encoding: str | None) -> dict[int, str] | None:
    import yaml

    if path.stat().st_size > MAX_YAML_BYTES:
        raise AnnotationError(f"{path}: more than {MAX_YAML_BYTES} bytes are no list of classes; check the file")
    try:
        # Texts and lists only: no types of Python's, and no merged keys, which could be multiplied without end.
        content = yaml.load(read_text(path, encoding), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AnnotationError(f"{path}: no valid YAML ({reason}); correct it") from error
    names = content.get("names") if isinstance(content, dict) else None
    if names is None:
        return None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(
        isinstance(number, str)
        and number.isascii()
        and number.isdecimal()
        and len(number) < 10
        and isinstance(name, str)
        for number, name in names.items()
    ):
        raise AnnotationError(f"{path}: `names` must be a list of names, or names by numbers, got {shortened(names)}")
    return {int(number): name for number, name in names.items()}


def _class_name(number: int, names: dict[int, str] | None, where: str) -> str:
    if names is None:
        return str(number)
    if number not in names:
        raise AnnotationError(
            f"{where}: there is no class {number} among the {len(names)} names of the data set; correct one of them"
        )
    return names[number]
