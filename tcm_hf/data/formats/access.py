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
"""What a reader may open, and how much memory an annotation file may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import AnnotationError


PathLike = str | Path

MEMORY_LIMIT = 2**31
# An image inside of an archive or at an address; encoded ones are far smaller.
MAX_PICTURE_BYTES = 256 * 2**20
# What a text file takes in memory when it is read whole, for every byte of it; two-byte lines are the worst.
BYTES_PER_TEXT_BYTE = 32
ARCHIVE_PROTOCOLS = ("zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd")


@dataclass(frozen=True)
class ReadOptions:
    """
    What all readers have in common.

    Args:
        allow_outside (`bool`, *optional*, defaults to `False`):
            Whether to open files outside of the data set's folder (and of those that `images` and `annotations` name),
            which names such as `../x.jpg`, absolute names and symbolic links lead to, and addresses in the data.
        memory_limit (`int`, *optional*, defaults to 2 GiB):
            Bytes that the content of an annotation file may take in memory, by what its sizes declare.
        normalized (`bool`, *optional*, defaults to `False`):
            Whether coordinates are fractions of the image's width and height, 0 to 1, instead of pixels.
        merge_duplicates (`bool`, *optional*, defaults to `False`):
            Whether the instances of an image that is listed several times become one record, which takes all records
            into memory. Otherwise they stay apart, with an [`AnnotationWarning`].
    """

    allow_outside: bool = False
    memory_limit: int = MEMORY_LIMIT
    normalized: bool = False
    merge_duplicates: bool = False

    def __post_init__(self):
        if isinstance(self.memory_limit, bool) or not isinstance(self.memory_limit, int) or self.memory_limit < 1:
            raise ValueError(f"`memory_limit` must be a number of bytes, got {self.memory_limit!r}")


DEFAULT_OPTIONS = ReadOptions()


class SourceFolders:
    """
    The folders whose files a data set may name; the only place that decides which files are opened.

    Args:
        roots (`str` or `Path`): The folders, as the user named them; `hf://` addresses for data sets on the Hub.
        allow_outside (`bool`, *optional*, defaults to `False`): Whether anything may be opened.
        listed (`bool`, *optional*, defaults to `False`):
            Whether local files anywhere, and those on the Hub, may be opened, because the caller or `datasets` listed
            them, not the data. Links must not lead out of their own folder then, except inside of the Hub's cache.
    """

    def __init__(self, *roots: PathLike, allow_outside: bool = False, listed: bool = False):
        self.roots = [str(root) if str(root).startswith("hf://") else os.path.realpath(root) for root in roots]
        self.allow_outside, self.listed = allow_outside, listed

    def check(self, path: PathLike, where: str = "") -> Path:
        """
        The path itself, when following all its links ends inside of the folders.

        Raises:
            AnnotationError: if it does not.
        """
        if not (self.allow_outside or self._contains(os.path.realpath(path)) or self._is_listed(path)):
            raise self.outside(path, where)
        return Path(path)

    def join(self, root: PathLike, name: str) -> Path | None:
        """The place of a relative or absolute name; `None` if its text alone leads outside, so that nothing is asked."""
        path = os.path.join(root, name)
        if not self.allow_outside and not self._contains(os.path.normpath(os.path.join(os.path.realpath(root), name))):
            return None
        return Path(path)

    def picture(self, name: str, where: str) -> Path | str | bytes:
        """
        What a data set's row names as its image: the path of a file, or the content of a file at an address.

        Raises:
            AnnotationError: if it lies outside, or is an address that nobody allowed.
            OSError: if it cannot be read.
        """
        if name.startswith("data:image/"):
            return name
        if "://" in name or "::" in name:
            return self._at_address(name, where)
        if self.listed or self.allow_outside:
            return self.check(name, where)
        joined = [self.join(root, name) for root in self.roots if not root.startswith("hf://")]
        paths = [path for path in joined if path is not None]
        if not paths:
            raise self.outside(name, where)
        return self.check(next((path for path in paths if path.exists()), paths[0]), where)

    def _at_address(self, name: str, where: str) -> str | bytes:
        *archives, last = name.split("::")
        protocols = [part.partition("://")[0] for part in archives]
        if not self.allow_outside:
            if any(protocol not in ARCHIVE_PROTOCOLS for protocol in protocols):
                raise self.outside(name, where)
            if last.startswith("hf://"):
                if not self.listed and not any(last.startswith((f"{root}/", f"{root}@")) for root in self.roots):
                    raise self.outside(name, where)
            elif not archives or "://" in last:
                raise self.outside(name, where)
            else:
                self.check(last, where)
        elif name.startswith(("http://", "https://")):
            return name
        import fsspec

        try:
            with fsspec.open(name, "rb") as file:
                data = file.read(MAX_PICTURE_BYTES + 1)
        except (OSError, ValueError):
            raise
        except Exception as error:  # whatever the file systems raise
            raise OSError(f"{where}: {name!r} cannot be read ({error}); check the address") from error
        if len(data) > MAX_PICTURE_BYTES:
            raise OSError(f"{where}: {name!r} has more than {MAX_PICTURE_BYTES / 2**20:g} MiB; it is no image")
        return data

    def _contains(self, real: str) -> bool:
        return any(real == root or real.startswith(os.path.join(root, "")) for root in self.roots)

    def _is_listed(self, path: PathLike) -> bool:
        if not self.listed:
            return False
        from huggingface_hub.constants import HF_HUB_CACHE

        real, cache = os.path.realpath(path), os.path.join(os.path.realpath(HF_HUB_CACHE), "")
        own = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), "")
        return real.startswith(own) or (real.startswith(cache) and own.startswith(cache))

    def outside(self, name: PathLike, where: str) -> AnnotationError:
        """The error of a name that leads outside."""
        place = f"{where}: " if where else ""
        if self.roots:
            remedy = f"copy it to {self.roots[0]}"
        else:
            remedy = "name the folder of the images (`image_root=`)"
        return AnnotationError(
            f"{place}{short_text(str(name))} leads outside of the data set, and is not opened; {remedy}, or pass "
            "allow_outside=True (--allow-outside) if you trust the data set"
        )


def short_text(text: str) -> str:
    """A quoted text for messages, without the middle of a long one."""
    return repr(text if len(text) <= 200 else f"{text[:120]}...{text[-60:]}")


def walk(root: PathLike, folders: SourceFolders) -> Iterator[os.DirEntry]:
    """
    All files below a folder but hidden ones, each once, whatever loops links make.

    Raises:
        AnnotationError: if a folder is a link that leads outside.
        OSError: if a folder cannot be listed.
    """
    seen: set[str] = set()
    links: list[PathLike] = []
    waiting: list[PathLike] = [os.fspath(root)]
    while waiting or links:
        # Real folders first: a link to one of them would list its files twice.
        path = waiting.pop() if waiting else links.pop()
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                if not _is_folder(entry):
                    yield entry
                elif entry.is_symlink():
                    links.append(folders.check(entry.path, str(root)))
                else:
                    waiting.append(entry.path)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def check_memory(size: float, limit: int, where: str) -> None:
    """Raises an `AnnotationError` if what is to be read would take more memory than is allowed."""
    if size > limit:
        raise AnnotationError(
            f"{where}: would take about {size / 2**20:,.0f} MiB of memory, the limit is {limit / 2**20:,.0f} MiB; if the file "
            "is what it should be, raise `memory_limit` (--memory-limit)"
        )


def json_memory(text: str | bytes) -> int:
    """About how many bytes JSON takes when it is parsed, from its brackets, commas and quotes."""
    signs = '[{,:"'
    counts = (
        [text.count(sign.encode()) for sign in signs]
        if isinstance(text, bytes)
        else [text.count(sign) for sign in signs]
    )
    lists, objects, commas, colons, quotes = counts
    texts = max(quotes // 2 - colons, 0)
    return len(text) + 72 * lists + 200 * objects + 32 * commas + 32 * colons + 56 * texts
