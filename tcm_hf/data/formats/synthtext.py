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
"""SynthText: 800 thousand rendered images in one MATLAB file, read as a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions
from .files import MISSING_CHOICES, check_choice, checked_number
from .frames import upright_frame
from .json_sets import find_source
from .matlab import find_variable, iterate_cells
from .paired import OnError
from .records import AnnotationError, TextRecord, build_records


def read_synthtext(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    level: str = "word",
    missing: str = "error",
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads SynthText in the Wild (https://www.robots.ox.ac.uk/~vgg/data/scenetext): `gt.mat` with folders of images.

    The file is read as a stream: at no time are there more records than those the caller keeps.

    Args:
        source (`str` or `Path`): `gt.mat` or its folder.
        images (`str`, `Path` or list of them, *optional*): Root of the images, when it is not the file's folder.
        level (`str`, *optional*, defaults to `"word"`): `"word"` or `"character"` outlines; the latter have no texts.
        missing (`str`, *optional*, defaults to `"error"`): What becomes of an image that is not there; see
            [`read_dataset`].
        on_error (`Callable`, *optional*): Called with the error of an image's annotation, which is then left out.
        options (`ReadOptions`, *optional*): What all readers have in common; `memory_limit` holds for every image.

    Returns:
        `Iterator[TextRecord]`: lazily, in the file's order. Where the words of `txt` are not as many as the outlines,
        the image's transcriptions are `None`.

    Raises:
        FileNotFoundError: if the file, or with `missing="error"` an image, is missing.
        AnnotationError: if the file is damaged or is none of SynthText.
    """
    check_choice("missing", missing, MISSING_CHOICES)
    check_choice("level", level, ("word", "character"))
    patterns = ("gt.mat", "*.mat")
    path, pictures = find_source(source, images, patterns, "SynthText file", None, missing, None, options)
    variables = [find_variable(path, name) for name in ("imnames", "wordBB" if level == "word" else "charBB", "txt")]
    counts = [math.prod(variable.shape) for variable in variables]
    if len(set(counts)) != 1:
        raise AnnotationError(
            f"{path}: {counts[0]} names, {counts[1]} lists of outlines and {counts[2]} of texts; get a complete copy"
        )

    def build(item: tuple[int, tuple]) -> TextRecord | None:
        number, (name, boxes, lines) = item
        where = f"{path}, image {number + 1}"
        if not (isinstance(name, list) and len(name) == 1):
            raise AnnotationError(f"{where}: no image's name in `imnames`; get a complete copy of the file")
        polygons = _outlines(boxes, where)
        words = " ".join(lines).split() if isinstance(lines, list) and level == "word" else []
        texts: list[str] | None = words if len(words) == len(polygons) else None
        image = pictures.find(name[0], where)
        if image is None:
            return None
        polygons, _ = upright_frame(image, polygons, "upright", None, None, where, options.normalized)
        return TextRecord(image, polygons, None, texts)

    # `build_records` sees one image at a time, and so do these.
    cells = map(partial(iterate_cells, memory_limit=options.memory_limit), variables)
    return build_records(enumerate(zip(*cells)), build, on_error, options)


def _outlines(boxes, where: str) -> list[np.ndarray]:
    """Quadrilaterals from an array of shape (2, 4, n), or (2, 4) of a single one."""
    if not isinstance(boxes, np.ndarray) or boxes.shape[:2] != (2, 4) or boxes.ndim > 3:
        shape = boxes.shape if isinstance(boxes, np.ndarray) else "no numbers"
        raise AnnotationError(
            f"{where}: outlines must be an array of 2 x 4 x n, got {shape}; get a complete copy of the file"
        )
    boxes = boxes.reshape(2, 4, -1, order="F").astype(np.float64)
    if boxes.size:
        # NaN compares as false, so this sees it.
        largest = float(np.abs(boxes).max())
        checked_number(largest, where)
    return list(boxes.transpose(2, 1, 0).astype(np.float32))
