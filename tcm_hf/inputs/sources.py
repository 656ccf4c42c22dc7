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

"""From what a user names to images: files, folders, patterns, lists, addresses, standard input."""

import glob
import io
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, BinaryIO

from ..model.image_loading import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    ImageReadError,
    describe_source,
    fetch_source,
)
from .archives import read_tar, read_zip
from .frames import read_frames
from .items import HOLDS_NOTHING, READ_ERRORS, InputFile, InputImage, InputOptions, MissingLibraryError
from .pdf import read_pdf
from .tables import read_hub_dataset, read_parquet
from .video import read_video


# Files that hold images without being one, by their names; without case.
SUFFIXES = {
    "pdf": (".pdf",),
    "video": tuple(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .mts .m2ts .wmv .flv .ogv .3gp".split()),
    "tar": tuple(".tar .tar.gz .tgz .tar.bz2 .tar.xz".split()),
    "zip": (".zip",),
    "parquet": (".parquet",),
    "list": (".txt", ".lst"),
}
READERS: dict[str, Callable[[InputFile, Any], Iterator[InputImage]]] = {
    "pdf": read_pdf,
    "video": read_video,
    "tar": read_tar,
    "zip": read_zip,
    "parquet": read_parquet,
}
HEAD_BYTES = 512
MAX_LINE_BYTES = 2**16  # longer ones are no paths
_ADDRESSES = ("http://", "https://")
_NO_PATHS = (*_ADDRESSES, "hf://", "data:")


def iterate_images(
    inputs: Any, *, recursive: bool = True, has: Callable[[str], bool] | None = None, **options: Any
) -> Iterator[InputImage]:
    """
    Reads the images of any inputs, one by one.

    Memory does not grow with the number of images, pages, frames or rows. What cannot be read is an item whose
    [`~InputImage.load`] raises the reason, and the others follow.

    Args:
        inputs (`str`, `Path`, `bytes`, image, or an iterable of them):
            Each is one of

            - an image: whatever [`~image_loading.load_rgb_image`] takes;
            - a PDF (`pip install "tcm_hf[pdf]"`), a video (`tcm_hf[video]`), a zip or tar file, such as a webdataset shard, or
              a parquet file with a column of images (`tcm_hf[train]`); also as `bytes`;
            - a folder, or a pattern such as `"scans/**/*.pdf"`, for the files of all these kinds in it;
            - a text file (`.txt`, `.lst`) with one path, address or folder on each line; paths are looked for in the
              working directory, and then beside the list;
            - `"hf://datasets/OWNER/NAME"`, with `@REVISION` or without: a data set on the Hub, streamed;
            - `"-"`: standard input, with the content of one file of these kinds, or a list of paths.
        recursive (`bool`, *optional*, defaults to `True`): Whether folders include what is below them.
        has (`Callable`, *optional*): Given the [`place_key`] of an image, tells whether the caller has it, so that it is not
            read; it comes with `is_done`.
        options: Fields of [`InputOptions`]: `dpi`, `all_frames`, `every`, `image_column`, `split`, `max_frames`, `max_pixels`,
            `timeout`.

    Returns:
        `Iterator[InputImage]`: lazily.

    Raises:
        ValueError, TypeError: if an option cannot be meant.

    Example:

    >>> from tcm_hf.inputs import iterate_images

    >>> for item in iterate_images(["examples/sample.jpg"]):
    ...     print(item.name, item.facts, item.load().size)
    examples/sample.jpg {} (...)
    """
    settings = InputOptions(**options)
    single = isinstance(inputs, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(inputs, "read")
    if single or hasattr(inputs, "shape") or hasattr(inputs, "getexif"):  # an array, a tensor, a PIL image
        inputs = [inputs]
    return _iterate(inputs, recursive, settings, has)


def _iterate(
    inputs: Iterable, recursive: bool, options: InputOptions, has: Callable[[str], bool] | None
) -> Iterator[InputImage]:
    for index, each in enumerate(inputs):
        if isinstance(each, os.PathLike):
            each = os.fsdecode(each)
        if isinstance(each, str):
            yield from expand_inputs(find_inputs([each], recursive), options, has)
        elif isinstance(each, bytes | bytearray | memoryview):
            file = InputFile(describe_source(each, index), options, has)
            yield from _guarded(file, _read_content, bytes(each))
        else:
            yield InputImage(describe_source(each, index), each, {}, options)


def find_inputs(inputs: Iterable[str], recursive: bool = True, left_out: Container[str] = ()) -> dict[str, str | None]:
    """
    Lists the files that the inputs of a command stand for.

    Args:
        inputs (`Iterable[str]`): See [`iterate_images`].
        recursive (`bool`, *optional*, defaults to `True`): Whether folders include what is below them.
        left_out (`Container[str]`, *optional*): Folders, by their real paths, that are passed over below others: those of results.

    Returns:
        `dict[str, str | None]`: each path once, in the order of the inputs, sorted by name inside of folders and
        patterns, with `None`. Files that do not exist are listed too, so that reading them reports the error. A
        folder that holds no input or cannot be listed, and a pattern that matches nothing, come with the reason.
    """
    found: dict[str, str | None] = {}
    for text in inputs:
        if text == "-" or text.startswith(_NO_PATHS):
            found[text] = None
        elif os.path.isdir(text):
            count = len(found)
            _list_folder(text, recursive, left_out, found)
            if len(found) == count:
                below = "" if recursive else " itself; leave --no-recursive away to search those below it"
                found[text] = f"no images in directory {text!r}{below}"
        elif not os.path.exists(text) and glob.has_magic(text):
            # By their real folders: `**` follows links that lead back, again and again.
            matches: dict[tuple[str, str], str] = {}
            for path in sorted(glob.glob(text, recursive=True), key=lambda path: (path.count(os.sep), path)):
                if os.path.isfile(path):
                    folder, name = os.path.split(path)
                    matches.setdefault((os.path.realpath(folder), name), path)
            found.update(dict.fromkeys(sorted(matches.values()), None))
            if not matches:
                found[text] = f"no file matches {text!r}"
        else:
            found[text] = None
    return found


def _list_folder(root: str, recursive: bool, left_out: Container[str], found: dict[str, str | None]) -> None:
    """Adds the files below a folder that are read; each folder once, whatever loops links make."""
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen or (real in left_out and folder != root):
            continue
        seen.add(real)
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith((".", "__MACOSX")))
        except OSError as error:
            found[folder] = f"cannot list directory {folder!r} ({error.strerror}); check its permissions"
            continue
        below = []
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isdir(path):
                below.append(path)
            # Links that lead nowhere are listed, to be told of; pipes and devices may never end.
            elif kind_by_name(path) not in (None, "list") and (os.path.isfile(path) or not os.path.exists(path)):
                found[path] = None
        if recursive:
            waiting += reversed(below)


def kind_by_name(path: str) -> str | None:
    """The kind of a file by its suffix: `image` or one of `SUFFIXES`; `None` for all others."""
    name = os.path.basename(path).lower()
    if name.endswith(IMAGE_SUFFIXES):
        return "image"
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def kind_by_content(head: bytes) -> str | None:
    """The kind of a file by its first bytes; `None` where they tell nothing, as for images."""
    if b"%PDF-" in head:
        return "pdf"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")):
        return "tar"
    brands = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # images in the container of videos
    if head[4:8] == b"ftyp" and head[8:12] not in brands:
        return "video"
    if head.startswith((b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"FLV\1", b"OggS")) or head[8:12] == b"AVI ":
        return "video"
    if head[0:1] == b"G" and head[188:189] == b"G" and head[376:377] == b"G":  # packets of MPEG-TS
        return "video"
    return None


def expand_inputs(
    found: dict[str, str | None], options: InputOptions, has: Callable[[str], bool] | None = None
) -> Iterator[InputImage]:
    """
    Reads the images of the files that [`find_inputs`] lists.

    Args:
        found (`dict[str, str | None]`): Files and reasons.
        options ([`InputOptions`]): How they are read.
        has (`Callable`, *optional*): See [`iterate_images`].

    Returns:
        `Iterator[InputImage]`: lazily, in that order.
    """
    for path, problem in found.items():
        file = InputFile(path, options, has)
        if problem is not None:
            yield file.image(ImageReadError(problem))
        else:
            yield from _guarded(file, _read_named, found)


def _guarded(file: InputFile, reader: Callable[[InputFile, Any], Iterator[InputImage]], argument: Any):
    """What a reader yields; a file that it cannot read becomes an image that cannot be read."""
    try:
        yield from reader(file, argument)
    except MissingLibraryError as error:
        yield file.error(str(error))
    except READ_ERRORS as error:
        yield file.error(error)


def _read_named(file: InputFile, listed: Container[str]) -> Iterator[InputImage]:
    path, options = file.name, file.options
    if path == "-":
        yield from _read_stdin(file)
    elif path.startswith("hf://"):
        yield from _at_least_one(file, read_hub_dataset(file, path))
    elif path.startswith(_ADDRESSES):
        kind = kind_by_name(path.split("?")[0].split("#")[0])
        if kind in READERS:
            content = fetch_source(path, describe_source(path), options.timeout)
            yield from _read_content(file, content, kind)
        else:
            yield from _read_image(file, path)
    else:
        kind = kind_by_name(path)
        if kind is None and os.path.isfile(path):
            with open(path, "rb") as stream:
                kind = kind_by_content(stream.read(HEAD_BYTES))
        if kind not in READERS and kind != "list":
            yield from _read_image(file, path)
        elif not os.path.exists(path):
            yield file.image(FileNotFoundError(f"{path!r}: no such file; check the path"))
        elif kind == "list":
            with open(path, "rb") as stream:
                yield from _read_list(file, stream, listed, os.path.dirname(path))
        else:
            yield from _at_least_one(file, READERS[str(kind)](file, path))


def _at_least_one(file: InputFile, images: Iterator[InputImage]) -> Iterator[InputImage]:
    """The images of a file; one error in the place of none, which would look like a run that went well."""
    is_empty = True
    for image in images:
        is_empty = False
        yield image
    if is_empty:
        column = file.options.image_column
        yield file.error(f"holds no {column!r} image; choose another image_column" if column else HOLDS_NOTHING)


def _read_image(file: InputFile, source: Any) -> Iterator[InputImage]:
    if file.options.all_frames:
        yield from read_frames(file, source)
    else:
        yield file.image(source)


def _read_content(file: InputFile, content: bytes, kind: str | None = None) -> Iterator[InputImage]:
    """The images of a file that is in memory."""
    kind = kind or kind_by_content(content[:HEAD_BYTES])
    if kind in ("video", "tar"):
        yield from _at_least_one(file, READERS[kind](file, io.BytesIO(content)))
    elif kind in READERS:
        yield from _at_least_one(file, READERS[str(kind)](file, content))
    else:
        yield from _read_image(file, content)


def _read_list(
    file: InputFile, stream: BinaryIO, listed: Container[str] = (), folder: str = ""
) -> Iterator[InputImage]:
    """The images that the lines of a list name; each line once, and none that is an input of its own."""
    seen: set[int] = set()
    number, names_any = 0, False
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            yield file.error(
                f"has a line {number} of more than {MAX_LINE_BYTES} bytes; one path on each line is expected"
            )
            return
        path = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip("\r\n")
        if not path.strip():
            continue
        names_any = True
        if "\0" in path:
            yield file.error(f"is no list of paths (line {number} is no text); pass the file under its own suffix")
            return
        beside = os.path.join(folder, path)
        if folder and not os.path.exists(path) and os.path.exists(beside):
            path = beside
        key = hash(path)  # far smaller than the paths of a list of millions
        if key in seen or path in listed:
            continue
        seen.add(key)
        entry = InputFile(path, file.options, file.has)
        if path == "-" or kind_by_name(path) == "list":
            yield entry.error("is a list, or standard input, in a list; name it on the command line")
        elif _is_missing(path):
            name = "standard input" if file.name == "-" else repr(file.name)
            yield entry.image(FileNotFoundError(f"{path!r}: no such file; check line {number} of {name}"))
        else:
            yield from expand_inputs(find_inputs([path]), file.options, file.has)
    if not names_any:
        yield file.error("names no image; write a path, address or folder on each line")


def _is_missing(path: str) -> bool:
    """Whether a path, and no address or pattern, leads nowhere; not where that cannot be told."""
    if path.startswith(_NO_PATHS) or glob.has_magic(path):
        return False
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:  # a folder that may not be looked into, a name that is too long
        pass
    return False


def _read_stdin(file: InputFile) -> Iterator[InputImage]:
    try:
        # Not the buffered one: a thread that waits for it would hold its lock when the interpreter ends.
        raw: Any = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (OSError, ValueError, AttributeError):  # it is an object of another program
        raw = sys.stdin.buffer
    head = b""
    while len(head) < HEAD_BYTES and (part := raw.read(HEAD_BYTES - len(head))):
        head += part
        if b"\n" in head and _is_text(head):  # a list, whose paths are not to wait for one another
            break
    rest = _Continued(head, raw)
    stream = io.BufferedReader(rest)
    kind = kind_by_content(head)
    if kind == "video":
        # Not buffered: that would wait for whole blocks of a stream that goes on.
        yield from _at_least_one(file, read_video(file, rest))
    elif kind == "tar":
        yield from _at_least_one(file, read_tar(file, stream))
    elif kind is None and _is_text(head):
        yield from _read_list(file, stream)
    elif not head:
        yield file.error("(standard input) is empty; pipe a file or a list of paths into it")
    else:
        content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            yield file.error(f"has more than {MAX_FILE_BYTES / 2**20:g} MiB; pass it as a file")
        else:
            yield from _read_content(file, content, kind)


def _is_text(head: bytes) -> bool:
    """Whether something is a list of paths, and none of the images that are written as text."""
    if (
        head[:1] == b"P"
        and head[1:2].isdigit()
        and head[2:3].isspace()
        or head.startswith((b"/* XPM", b"#define", b"%PDF"))
    ):
        return False
    # Names of files hold no control characters; images and archives begin with some.
    return bool(head) and not any(byte < 9 or 13 < byte < 32 for byte in head)


class _Continued(io.RawIOBase):
    """A stream whose first bytes were read already. It cannot be sought in."""

    def __init__(self, head: bytes, stream: Any):
        self.head, self.stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self.head[: len(buffer)]
        self.head = self.head[len(data) :]
        if not data:
            data = self.stream.read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)
