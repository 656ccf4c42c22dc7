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
"""What writes the results of many images in a format: a folder with a file for each, or one file for all."""

import json
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..output_files import exclusive, make_output_folder, output_file, write_text
from .names import FileNames


Entry = dict[str, Any]


@dataclass
class StreamForm:
    """
    A format of one file that grows entry by entry.

    Args:
        opening (`str`): what the file begins with.
        closing (`str`): what it ends with.
        render (`Callable[[dict, Any], str]`): the text of an entry, from it and its image; empty to leave it out.
        needs_image (`bool`, *optional*, defaults to `False`): whether `render` uses the image.
    """

    opening: str
    closing: str
    render: Callable[[Entry, Any], str]
    needs_image: bool = False


class FolderWriter:
    """
    Writes a file for each image into a folder, each whole or not at all.

    Args:
        folder (`Path`): the folder; it is made when it does not exist.
        render (`Callable[[dict, Path], str]`): the text of an entry's file, which is to lie in the given folder.
        suffix (`str`): how the files end.
        prefix (`str`, *optional*, defaults to none): how they begin.
        below (`str`, *optional*, defaults to none): the folder inside of `folder` that they lie in.
        extra (`dict[str, str]`, *optional*): other files of the format, by name.
        inputs (`Iterable[str]`, *optional*): the input files, none of which is overwritten.

    Raises:
        OSError: if no file can be written into the folder.
    """

    needs_image = False

    def __init__(
        self,
        folder: Path,
        render: Callable[[Entry, Path], str],
        suffix: str,
        prefix: str = "",
        below: str = "",
        extra: dict[str, str] | None = None,
        inputs: Iterable[str] = (),
    ):
        self.output, self.place, self.count = folder, folder / below, 0
        self.render, self.extra = render, extra or {}
        make_output_folder(folder)
        self.names = FileNames(self.place, suffix, prefix, inputs)
        self._lock: AbstractContextManager = exclusive(folder)

    def open(self) -> None:
        """Takes the lock of the folder, and writes what is the same for all images."""
        self._lock.__enter__()
        try:
            make_output_folder(self.place)
            for name, text in self.extra.items():
                write_text(self.output / name, text)
        except BaseException:
            self.close()
            raise

    def write(self, entry: Entry, image: Any = None) -> None:
        """Writes the file of an image that could be read."""
        if "detections" in entry:
            write_text(self.names.next(entry), self.render(entry, self.place))
        self.count += 1

    def skip(self, entry: Entry) -> None:
        """The file is there; its name is taken."""
        if "detections" in entry:
            self.names.next(entry)

    def close(self) -> None:
        """Gives the lock back."""
        self._lock.__exit__(None, None, None)


@dataclass
class CocoWriter:
    """
    Writes one JSON file in the COCO detection form when the run ends, whatever ended it.

    Args:
        output (`Path`, *optional*): the file; stdout by default.
    """

    output: Path | None
    needs_image: bool = False
    count: int = 0
    _images: list[Entry] = field(default_factory=list)
    _regions: int = 0

    def open(self) -> None:
        """Takes the lock of the file. Annotations wait in a temporary file: there may be millions."""
        self._lock = None if self.output is None else exclusive(self.output)
        if self._lock is not None:
            self._lock.__enter__()
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8")

    def write(self, entry: Entry, image: Any = None) -> None:
        """Notes the texts of an image."""
        from .annotations import coco_annotations, coco_image

        self.count += 1
        if "detections" not in entry:
            return
        folder = Path.cwd() if self.output is None else self.output.parent
        described = coco_image(entry, folder, len(self._images) + 1)
        annotations = coco_annotations(entry, described["id"], self._regions + 1)
        self._spool.write("".join(f"{json.dumps(annotation)}\n" for annotation in annotations))
        self._images.append(described)
        self._regions += len(annotations)

    def skip(self, entry: Entry) -> None:
        """Writes what is known of the image again: the file is made anew."""
        self.write(entry)

    def close(self) -> None:
        """Writes the file."""
        try:
            with self._spool, output_file("/dev/stdout" if self.output is None else self.output) as file:
                file.write(
                    '{"info": {"description": "text detected by tcm_hf"},\n"categories": [{"id": 1, "name": "text"}],\n'
                )
                file.write(f'"images": {json.dumps(self._images)},\n"annotations": [')
                self._spool.seek(0)
                for index, line in enumerate(self._spool):
                    file.write(("\n" if index == 0 else ",\n") + line.rstrip("\n"))
                file.write("\n]}\n")
        finally:
            if self._lock is not None:
                self._lock.__exit__(None, None, None)
