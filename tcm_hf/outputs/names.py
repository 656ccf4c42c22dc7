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
"""Names of the files that are made of results, and of the images in them."""

# Only the standard library here: every start of `tcm-hf` imports this file.
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


# Bytes; file systems allow 255, and prefixes, numbers and suffixes come to it.
MAX_STEM_BYTES = 180
# What tells a part of a file from the others.
PART_FACTS = ("page", "row", "frame")


def entry_stem(entry: dict[str, Any]) -> str:
    """
    A name for files that are made of an entry, such as `scan_page_3` or `clip_frame_120`: never a path.

    Args:
        entry (`dict`): the result of an image, as the JSON of `tcm-hf detect` has it.
    """
    name = str(entry["image"])
    if name.startswith(("http://", "https://")):
        name = name.split("?")[0]
    if "member" in entry:
        name = str(entry["member"])
    stem = "stdin" if name == "-" else Path(name.replace("\0", "")).stem
    facts = [f"_{fact}_{entry[fact]}" for fact in PART_FACTS if fact in entry]
    stem = os.fsdecode(os.fsencode(stem)[:MAX_STEM_BYTES])
    return (stem.strip(".") or "image") + "".join(facts)


def image_name(entry: dict[str, Any], folder: Path, climbs: bool = False) -> str:
    """
    How a file of annotations names the image of an entry.

    Args:
        entry (`dict`): see [`entry_stem`].
        folder (`Path`): where the file of annotations lies.
        climbs (`bool`, *optional*, defaults to `False`):
            Whether programs look for the image from that folder on, and nowhere else, as LabelMe does: then a path that is relative
            to the working directory is made relative to the folder, wherever the image is.

    Returns:
        `str`: the path relative to the folder where the image is below it, and otherwise as it was given; for a page, a frame or
        a member of a larger file, which have no file of their own, their [`entry_stem`].
    """
    if "member" in entry or any(fact in entry for fact in PART_FACTS):
        return entry_stem(entry)
    path = str(entry["image"])
    if os.path.exists(path):
        relative = os.path.relpath(os.path.abspath(path), os.path.abspath(folder))
        if not relative.startswith(("..", os.sep)):
            path = relative
        elif climbs and not os.path.isabs(path):
            # By their real folders: where one is a link, the way up is not the one by which it was entered.
            parent, name = os.path.split(path)
            path = os.path.relpath(os.path.join(os.path.realpath(parent), name), os.path.realpath(folder))
    return path.replace(os.sep, "/")


class FileNames:
    """
    Gives every entry a file of its own in a folder, so that none overwrites another one or an input.

    Args:
        folder (`Path`): where the files go.
        suffix (`str`): how they end, such as `.json`.
        prefix (`str`, *optional*, defaults to none): how they begin.
        inputs (`Iterable[str]`, *optional*): the input files.
    """

    def __init__(self, folder: Path, suffix: str, prefix: str = "", inputs: Iterable[str] = ()):
        self.folder, self.suffix, self.prefix = folder, suffix, prefix
        # Compared without case, as some file systems do.
        self._taken = {os.path.realpath(path).casefold() for path in inputs}

    def next(self, entry: dict[str, Any]) -> Path:
        """The file of an entry: the image's name, and a number where that is taken already."""
        stem, number = entry_stem(entry), 1
        while True:
            target = self.folder / f"{self.prefix}{stem}{'' if number == 1 else f'_{number}'}{self.suffix}"
            key = os.path.realpath(target).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return target
            number += 1
