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

"""Drawings of results, one file for each image."""

import io
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..output_files import exclusive, make_output_folder
from ..outputs.names import entry_stem
from .errors import PROGRAMMING_ERRORS, UsageError, one_line


class DrawingWriter:
    """
    Writes every image with its texts drawn on it: a `DetectionWriter`.

    Args:
        directory (`Path`): where the drawings go; it is made when it does not exist.
        inputs (`Iterable[str]`): the input files, none of which is overwritten.
        show_scores (`bool`, *optional*, defaults to `False`): whether scores are written on the drawings.

    Raises:
        UsageError: if no file can be written into the directory.
    """

    needs_image = True

    def __init__(self, directory: Path, inputs: Iterable[str], show_scores: bool = False):
        self.names = DrawingNames(directory, inputs)
        self.show_scores = show_scores
        self._lock: AbstractContextManager = exclusive(directory)

    def open(self) -> None:
        self._lock.__enter__()

    def close(self) -> None:
        self._lock.__exit__(None, None, None)

    def skip(self, entry: dict[str, Any]) -> None:
        if "detections" in entry:
            self.names.next(entry)

    def write(self, entry: dict[str, Any], image: Any = None) -> None:
        if "detections" not in entry:
            return
        target = self.names.next(entry)
        try:
            _draw(image, entry["detections"], target, self.show_scores)
        except PROGRAMMING_ERRORS:
            raise
        except Exception as error:  # encoders raise errors of many kinds
            raise OSError(f"cannot write {str(target)!r} ({one_line(error)})") from error


def _draw(image, detections: list[dict], target: Path, show_scores: bool) -> None:
    from ..visualization import draw_detections

    # In one piece, since an encoder that fails leaves half a file.
    content = io.BytesIO()
    drawing = draw_detections(image, detections, show_scores=show_scores, max_pixels=None)
    drawing.save(content, "JPEG", quality=90)
    try:
        target.write_bytes(content.getvalue())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


class DrawingNames:
    """
    Gives every image a file for its drawing, so that none overwrites another one or an input.

    Args:
        directory (`Path`): where the drawings go; it is made when it does not exist.
        inputs (`Iterable[str]`): all input files.

    Raises:
        UsageError: if no file can be written into the directory.
    """

    def __init__(self, directory: Path, inputs: Iterable[str]):
        try:
            make_output_folder(directory)
        except OSError as error:
            raise UsageError(str(error)) from error
        self.directory = directory
        # Compared without case, as some file systems do.
        self.taken = {os.path.realpath(path).casefold() for path in inputs}

    def next(self, entry: dict[str, Any]) -> Path:
        """The drawing's file: the image's name with `.jpg`, and a number where that is taken already."""
        stem = entry_stem(entry)
        number = 1
        while True:
            target = self.directory / f"{stem}{'' if number == 1 else f'_{number}'}.jpg"
            key = os.path.realpath(target).casefold()
            if key not in self.taken:
                self.taken.add(key)
                return target
            number += 1
