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
"""The one record type that every reader yields, its images, and the error of a bad annotation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ...model.image_loading import IMAGE_SUFFIXES as IMAGE_SUFFIXES  # the readers' list is that of all commands
from ...model.image_loading import load_rgb_image
from .access import DEFAULT_OPTIONS, ReadOptions, SourceFolders
from .errors import AnnotationError, AnnotationWarning


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Reading images needs OpenCV: pip install opencv-python-headless") from error


IGNORE_TRANSCRIPTION = "###"
# Frames of more pixels than Pillow decodes by default would only fill the memory.
MAX_FRAME_PIXELS = 178_956_970

Item = TypeVar("Item")


@dataclass(frozen=True)
class DatasetImage:
    """
    An image that stays in its `datasets.Dataset` until it is needed.

    Args:
        dataset (`datasets.Dataset`): The data set, with its image column undecoded (`Image(decode=False)`).
        index (`int`): Row of the image.
        column (`str`): Column of the image.
        path (`str`, *optional*): The image's file name, for messages.
        folders (`SourceFolders`, *optional*): What an image that is only named may be; without it nothing is opened.
    """

    dataset: Any = field(repr=False)
    index: int
    column: str = "image"
    path: str | None = None
    folders: SourceFolders = field(default_factory=SourceFolders, repr=False, compare=False)

    def load(self) -> Any:
        """The image as stored: encoded bytes, a path, or a decoded image."""
        where = f"row {self.index}, column {self.column!r}"
        return stored_picture(self.dataset[self.index][self.column], where, self.folders)


ImageSource = str | Path | bytes | Image.Image | np.ndarray | DatasetImage


def stored_picture(value: Any, where: str, folders: SourceFolders) -> Any:
    """The bytes or the path inside the value of an undecoded image column; a decoded image as it is."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise AnnotationError(f"{where}: there is no image; remove the row")
    if isinstance(value, (str, Path)):
        return folders.picture(str(value), where)
    if not isinstance(value, (bytes, Image.Image, np.ndarray)):
        raise AnnotationError(f"{where}: {type(value).__name__} is no image; store the bytes of an image file")
    return value


@dataclass(init=False)
class TextRecord:
    """One image and its text instances.

    Args:
        image (`str`, `Path`, `bytes`, `PIL.Image.Image`, `np.ndarray` or `DatasetImage`):
            The image, the path of its file, or the file's content. An array is RGB uint8 of shape
            (height, width, 3).
        polygons (`list[np.ndarray]`, *optional*, defaults to an empty list):
            Outlines of shape (n, 2), n >= 3: x to the right, y down, in pixels of the frame given by `size`. They
            refer to the upright image (EXIF orientation applied), as `load_image` returns it.
        ignore (`list[bool]`, *optional*, defaults to `False` for every polygon):
            Whether an instance is unreadable ("don't care"): left out of the loss and of the metric.
        texts (`list[str | None]`, *optional*, defaults to `None` for every polygon):
            Transcriptions; `None` where the benchmark gives none.
        size (`tuple[int, int]`, *optional*):
            (height, width) of the frame the polygons live in, when it is not the stored image's own size.
        languages (`list[str | None]`, *optional*):
            Script or language of every instance as the benchmark names it (`"Latin"`, `"Korean"`); `None` for the
            whole list when it names none.
        image_name (`str`, *optional*):
            File name of an image that is held in memory.

    Raises:
        ValueError: if `polygons`, `ignore`, `texts` and `languages` differ in length, or a polygon is not of shape
            (n >= 3, 2).
    """

    image: ImageSource
    polygons: list[np.ndarray]
    ignore: list[bool]
    texts: list[str | None]
    size: tuple[int, int] | None
    languages: list[str | None] | None
    image_name: str | None

    def __init__(
        self,
        image: ImageSource,
        polygons: Sequence[np.ndarray] = (),
        ignore: Sequence[bool] | None = None,
        texts: Sequence[str | None] | None = None,
        size: tuple[int, int] | None = None,
        languages: list[str | None] | None = None,
        image_name: str | None = None,
    ):
        self.image, self.size, self.languages, self.image_name = image, size, languages, image_name
        count = len(polygons)
        self.ignore = [False] * count if ignore is None else [bool(flag) for flag in ignore]
        self.texts = [None] * count if texts is None else list(texts)
        if len(self.ignore) != count or len(self.texts) != count:
            raise ValueError(
                f"TextRecord of {self.name}: {count} polygons, {len(self.ignore)} `ignore` flags and {len(self.texts)} "
                "`texts`: give one of each per polygon."
            )
        if self.languages is not None and len(self.languages) != count:
            raise ValueError(
                f"TextRecord of {self.name}: {count} polygons and {len(self.languages)} `languages`: give one per polygon."
            )
        self.polygons = [np.asarray(polygon, dtype=np.float32) for polygon in polygons]
        for index, polygon in enumerate(self.polygons):
            if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
                raise ValueError(
                    f"TextRecord of {self.name}: polygon {index} has shape {polygon.shape}; expected (n, 2) with n >= 3."
                )

    @property
    def name(self) -> str:
        """The image's path, or a description of an image held in memory; for messages."""
        if isinstance(self.image, (str, Path)):
            return str(self.image)
        if self.image_name is not None:
            return self.image_name
        if isinstance(self.image, DatasetImage):
            return self.image.path or f"row {self.image.index}"
        return f"<{type(self.image).__name__} in memory>"


def load_image(source: ImageSource) -> np.ndarray:
    """
    Decodes an image to upright RGB, exactly as the image processor does.

    Args:
        source (`str`, `Path`, `bytes`, `PIL.Image.Image`, `np.ndarray` or `DatasetImage`):
            Path or content of a file, or an image in memory.

    Returns:
        `np.ndarray`: uint8 of shape (height, width, 3).

    Raises:
        FileNotFoundError: if the file does not exist.
        OSError: if the file is no image or is damaged.
        ValueError: if the values of an array are not those of an image.
    """
    if isinstance(source, DatasetImage):
        source = source.load()
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        return source
    return np.array(load_rgb_image(source))


def load_record(record: TextRecord) -> np.ndarray:
    """
    Decodes a record's image and resizes it to the frame of the record's polygons.

    Args:
        record (`TextRecord`): the record; with `size` `None` the image keeps its own size.

    Returns:
        `np.ndarray`: RGB uint8 of shape (height, width, 3).

    Raises:
        OSError, ValueError: as [`load_image`]; also if the frame has no pixels, or too many.
    """
    image = load_image(record.image)
    if record.size is not None and tuple(record.size) != image.shape[:2]:
        height, width = record.size
        if height < 1 or width < 1 or math.prod(record.size) > MAX_FRAME_PIXELS:
            raise ValueError(
                f"{record.name}: the frame of {width} x {height} pixels is empty or has more than {MAX_FRAME_PIXELS} pixels; "
                "correct `size`"
            )
        shrinks = height < image.shape[0] and width < image.shape[1]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image


def build_records(
    items: Iterable[Item],
    build: Callable[[Item], TextRecord | None],
    on_error: Callable[[AnnotationError], None] | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Builds records one by one, and warns at the end of what is probably meant otherwise.

    Args:
        items (`Iterable`): What one record each is made of.
        build (`Callable`): Makes the record of an item; `None` leaves it out.
        on_error (`Callable[[AnnotationError], None]`, *optional*):
            Called with the error of a bad item, which is then left out. By default the error is raised.
        options (`ReadOptions`, *optional*): Whether records of one image are merged.

    Returns:
        `Iterator[TextRecord]`: lazily; when records are merged, all at once.
    """
    records = _built(items, build, on_error)
    if options.merge_duplicates:
        records = _merged(records, on_error)
    return _watched(records, options)


def _built(items, build, on_error) -> Iterator[TextRecord]:
    for item in items:
        try:
            record = build(item)
        except AnnotationError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        if record is not None:
            yield record


def _merged(records: Iterable[TextRecord], on_error) -> Iterator[TextRecord]:
    """One record an image, in the order of their first ones."""
    merged: dict[Any, TextRecord] = {}
    for record in records:
        key = str(record.image) if isinstance(record.image, (str, Path)) else object()
        first = merged.setdefault(key, record)
        if first is record:
            continue
        if first.size != record.size:
            error = AnnotationError(
                f"{record.name}: listed twice, with frames of {first.size} and {record.size} (height, width); correct one"
            )
            if on_error is None:
                raise error
            on_error(error)
            continue
        if first.languages is not None or record.languages is not None:
            first.languages = first.languages or [None] * len(first.polygons)
            first.languages.extend(record.languages or [None] * len(record.polygons))
        first.polygons.extend(record.polygons)
        first.ignore.extend(record.ignore)
        first.texts.extend(record.texts)
    return iter(merged.values())


def _watched(records: Iterable[TextRecord], options: ReadOptions) -> Iterator[TextRecord]:
    """Passes records on; at the end it warns of images that come twice, and of outlines smaller than a pixel."""
    seen: set[int] = set()
    annotated = 0
    repeated: list[str] = []
    tiny: list[str] = []
    for record in records:
        if isinstance(record.image, (str, Path)):
            key = hash(str(record.image))
            if key in seen:
                repeated.append(record.name)
            seen.add(key)
        if record.polygons:
            annotated += 1
            if max(np.ptp(polygon, axis=0).max() for polygon in record.polygons) <= 1:
                tiny.append(record.name)
        yield record
    if repeated:
        warn(
            f"{len(repeated)} more records of images that are listed already (first: {repeated[0]}): if their instances "
            "belong together, pass merge_duplicates=True (--merge-duplicates)"
        )
    if tiny and not options.normalized:
        warn(
            f"in {len(tiny)} of {annotated} annotated images all outlines are smaller than a pixel (first: {tiny[0]}): if "
            "the coordinates are fractions of width and height, pass normalized=True (--normalized)"
        )


def then(records: Iterable[TextRecord], finish: Callable[[], None]) -> Iterator[TextRecord]:
    """Passes records on, and calls a function behind the last one."""
    yield from records
    finish()


@contextmanager
def noted_warnings(messages: list[str]) -> Iterator[None]:
    """Adds the text of every [`AnnotationWarning`] to a list instead of showing it."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", AnnotationWarning)
        show = warnings.showwarning

        def note(message, category, *arguments, **keywords) -> None:
            if issubclass(category, AnnotationWarning):
                messages.append(str(message))
            else:
                show(message, category, *arguments, **keywords)

        warnings.showwarning = note
        yield


def warn(message: str) -> None:
    """Issues an [`AnnotationWarning`]."""
    warnings.warn(message, AnnotationWarning, stacklevel=2)
