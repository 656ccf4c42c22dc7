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
"""Readers of benchmark annotation files: every format becomes a list of `TextRecord`.

A format is one public function that returns `list[TextRecord]`. A reader parses and checks; it neither decodes pictures
nor repairs outlines, so an annotation reaches training exactly as it was published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..image_loading import load_rgb_image


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Reading pictures needs OpenCV: pip install opencv-python-headless") from error


ImageSource = str | Path | Image.Image | np.ndarray
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
IGNORE_TRANSCRIPTION = "###"


@dataclass
class TextRecord:
    """One picture and its text instances.

    Args:
        image (`str`, `Path`, `PIL.Image.Image` or `np.ndarray`):
            The picture, or the path of its file. An array is RGB uint8 of shape (height, width, 3).
        polygons (`list[np.ndarray]`, *optional*, defaults to an empty list):
            Outlines of shape (n, 2), n >= 3: x to the right, y down, in pixels of the frame given by `size`.
        ignore (`list[bool]`, *optional*, defaults to `False` for every polygon):
            Whether an instance is unreadable ("don't care"): left out of the loss and of the metric.
        texts (`list[str | None]`, *optional*, defaults to `None` for every polygon):
            Transcriptions; `None` where the benchmark gives none.
        size (`tuple[int, int]`, *optional*):
            (height, width) of the frame the polygons live in, when it is not the stored picture's own size.

    Raises:
        ValueError: if `polygons`, `ignore` and `texts` differ in length, or a polygon is not of shape (n >= 3, 2).
    """

    image: ImageSource
    polygons: list[np.ndarray] = field(default_factory=list)
    ignore: list[bool] | None = None
    texts: list[str | None] | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self):
        count = len(self.polygons)
        self.ignore = [False] * count if self.ignore is None else [bool(flag) for flag in self.ignore]
        self.texts = [None] * count if self.texts is None else list(self.texts)
        if len(self.ignore) != count or len(self.texts) != count:
            raise ValueError(
                f"TextRecord of {self.name}: {count} polygons, {len(self.ignore)} `ignore` flags and {len(self.texts)} "
                "`texts`: give one of each per polygon."
            )
        self.polygons = [np.asarray(polygon, dtype=np.float32) for polygon in self.polygons]
        for index, polygon in enumerate(self.polygons):
            if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
                raise ValueError(
                    f"TextRecord of {self.name}: polygon {index} has shape {polygon.shape}; expected (n, 2) with n >= 3."
                )

    @property
    def name(self) -> str:
        """The picture's path, or a description of a picture held in memory; for messages."""
        return str(self.image) if isinstance(self.image, (str, Path)) else f"<{type(self.image).__name__} in memory>"


def load_image(source: ImageSource) -> np.ndarray:
    """
    Decodes a picture to upright RGB, exactly as the image processor does.

    Args:
        source (`str`, `Path`, `PIL.Image.Image` or `np.ndarray`): path of a file, or a picture in memory.

    Returns:
        `np.ndarray`: uint8 of shape (height, width, 3).

    Raises:
        FileNotFoundError: if the file does not exist.
        OSError: if the file is no picture or is damaged.
        ValueError: if the values of an array are not those of a picture.
    """
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        return source
    return np.array(load_rgb_image(source))


def load_record(record: TextRecord) -> np.ndarray:
    """
    Decodes a record's picture and resizes it to the frame of the record's polygons.

    Args:
        record (`TextRecord`): the record; with `size` `None` the picture keeps its own size.

    Returns:
        `np.ndarray`: RGB uint8 of shape (height, width, 3).
    """
    image = load_image(record.image)
    if record.size is not None and tuple(record.size) != image.shape[:2]:
        height, width = record.size
        shrinks = height < image.shape[0] and width < image.shape[1]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image


def _list_images(image_dir: str | Path) -> list[Path]:
    """Pictures of a folder in natural order (`img_2` before `img_10`)."""
    folder = Path(image_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"Image folder not found: {folder}")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise ValueError(f"{folder}: no picture ({', '.join(IMAGE_SUFFIXES)}) in this folder")
    return sorted(paths, key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)])


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered, non-empty lines of a UTF-8 file, free of a byte order mark and of carriage returns."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); convert the file to UTF-8") from error
    # Not str.splitlines: a transcription may hold U+2028 or U+0085, which it would split.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # Some published files repeat the mark at the start of later lines.
    lines = [line.lstrip("\ufeff") for line in lines]
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def parse_icdar2015(gt_path: str | Path) -> tuple[list[np.ndarray], list[bool], list[str]]:
    """
    Parses one ICDAR 2015 file: `x1,y1,x2,y2,x3,y3,x4,y4,transcription` a line, `###` for an unreadable word.

    Args:
        gt_path (`str` or `Path`): the annotation file; UTF-8, with or without byte order mark, any line ending.

    Returns:
        `tuple[list[np.ndarray], list[bool], list[str]]`: float32 polygons of shape (4, 2), ignore flags, transcriptions.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a line cannot be parsed; the message names file and line.
    """
    path = Path(gt_path)
    if not path.is_file():
        raise FileNotFoundError(f"Annotation file not found: {path}")
    polygons, ignore, texts = [], [], []
    for number, line in _read_lines(path):
        # The transcription is unquoted and may contain commas: only the first eight separate fields.
        fields = line.split(",", 8)
        if len(fields) < 9:
            raise ValueError(
                f"{path}, line {number}: expected `x1,y1,x2,y2,x3,y3,x4,y4,transcription` (8 numbers and a text), "
                f"found {len(fields)} fields: {line!r}"
            )
        try:
            coordinates = np.array([float(value) for value in fields[:8]], dtype=np.float32)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: a coordinate is not a number ({error}): {line!r}") from error
        if not np.isfinite(coordinates).all():
            raise ValueError(f"{path}, line {number}: a coordinate is not finite: {line!r}")
        polygons.append(coordinates.reshape(4, 2))
        texts.append(fields[8])
        ignore.append(fields[8].strip() == IGNORE_TRANSCRIPTION)
    return polygons, ignore, texts


def read_icdar2015(
    image_dir: str | Path, gt_dir: str | Path, record_size: tuple[int, int] | None = None
) -> list[TextRecord]:
    """
    Reads ICDAR 2015 Incidental Scene Text (https://rrc.cvc.uab.es/?ch=4): `img_N.jpg` with `gt_img_N.txt`.

    Args:
        image_dir (`str` or `Path`): folder of pictures.
        gt_dir (`str` or `Path`): folder of annotation files, `gt_<picture's stem>.txt`.
        record_size (`tuple[int, int]`, *optional*):
            (height, width) of the frame the annotations were made in, when the pictures are resized copies:
            (720, 1280) for copies of the official photos. `None`: the pictures have their original size.

    Returns:
        `list[TextRecord]`: one record a picture, in natural order of the file names.

    Raises:
        FileNotFoundError: if a folder or the annotation file of a picture is missing.
        ValueError: if an annotation line cannot be parsed; the message names file and line.
    """
    gt_folder = Path(gt_dir)
    if not gt_folder.is_dir():
        raise FileNotFoundError(f"Annotation folder not found: {gt_folder}")
    records = []
    for image_path in _list_images(image_dir):
        gt_path = gt_folder / f"gt_{image_path.stem}.txt"
        if not gt_path.is_file():
            raise FileNotFoundError(f"Annotation file not found: {gt_path} (for the picture {image_path})")
        polygons, ignore, texts = parse_icdar2015(gt_path)
        records.append(TextRecord(image_path, polygons, ignore, list(texts), record_size))
    return records
