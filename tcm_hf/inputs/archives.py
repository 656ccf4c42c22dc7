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

"""Images in archives, which are read where they are: nothing is unpacked to the disk."""

import io
import posixpath
import re
import tarfile
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from ..model.image_loading import IMAGE_SUFFIXES, MAX_FILE_BYTES
from .frames import read_frames
from .items import READ_ERRORS, InputFile, InputImage


def read_tar(file: InputFile, source: str | BinaryIO) -> Iterator[InputImage]:
    """
    Yields the images of a tar file, such as a webdataset shard, in its order; the file may be compressed, and a stream.

    Args:
        file ([`InputFile`]): The file.
        source (`str` or file object): Its path, or a stream.
    """
    with open(source, "rb") if isinstance(source, str) else source as stream:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if member.isdir() or not _is_wanted(member.name, file):
                    continue
                reason = _refusal(member.name, member.size)
                if not member.isfile():
                    reason = "is a link or a device, which is not followed; store the image itself"
                if reason is not None:
                    yield file.error(reason, member=member.name)
                elif file.is_done(member=member.name):
                    yield file.image(None, member=member.name)
                else:
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    yield from _images(file, content, member.name)


def read_zip(file: InputFile, source: str | bytes) -> Iterator[InputImage]:
    """
    Yields the images of a zip file, in its order.

    Args:
        file ([`InputFile`]): The file.
        source (`str` or `bytes`): Its path or content.
    """
    with zipfile.ZipFile(source if isinstance(source, str) else io.BytesIO(source)) as archive:
        members = [each for each in archive.infolist() if not each.is_dir() and _is_wanted(each.filename, file)]
        siblings: int | None = len(members)
        for member in members:
            reason = _refusal(member.filename, member.file_size)
            if member.flag_bits & 1:
                reason = "is encrypted; unpack the archive with its password"
            if reason is not None:
                yield file.error(reason, member=member.filename)
            elif file.is_done(member=member.filename):
                yield file.image(None, siblings, member=member.filename)
            else:
                try:
                    content = archive.open(member)
                except READ_ERRORS as error:  # of a damaged entry; the others may be whole
                    yield file.error(error, member=member.filename)
                    continue
                for image in _images(file, content, member.filename):
                    image.siblings, siblings = siblings, None
                    yield image
            siblings = None


def _images(file: InputFile, content, name: str) -> Iterator[InputImage]:
    try:
        with content:
            data = content.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:  # whatever size is declared
            yield file.error(_too_large(), member=name)
        elif file.options.all_frames:
            yield from read_frames(file, data, member=name)
        else:
            yield file.image(data, member=name)
    except READ_ERRORS as error:  # checksums, damaged compression; other members may be whole
        yield file.error(error, member=name)


def _is_wanted(name: str, file: InputFile) -> bool:
    base = posixpath.basename(name.replace("\\", "/"))
    if base.startswith(".") or name.startswith("__MACOSX/"):
        return False
    column = file.options.image_column
    if column is not None:  # webdataset takes all that follows the first dot for the name of a column
        return base.lower().endswith(f".{column.lower().lstrip('.')}")
    return base.lower().endswith(IMAGE_SUFFIXES)


def _refusal(name: str, size: int) -> str | None:
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return "has a name that leads outside of the archive, and is not opened; rename it"
    return _too_large() if size > MAX_FILE_BYTES else None


def _too_large() -> str:
    return f"has more than {MAX_FILE_BYTES / 2**20:g} MiB; make it smaller"
