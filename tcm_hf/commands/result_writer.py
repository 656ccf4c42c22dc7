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
"""Results of a long run, written entry by entry so that whatever ends the run leaves what was found before."""

# Only the standard library here: every start of `tcm-hf` imports this file.
import io
import json
import os
import stat
import sys
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from ..output_files import exclusive, is_special
from .interruption import uninterrupted


_CLOSING = b"\n]\n"  # of a JSON list


class ResultWriteError(OSError):
    """The results cannot be written; what was written before stays."""


class DetectionWriter(Protocol):
    """
    What takes the results of `tcm-hf detect`: a file of some format, a folder of drawings or crops.

    Its constructor checks what it is given and raises a `UsageError`: it runs before the model is loaded, which takes
    long. Then come one call of `open`, one call of `write` or `skip` for every image, in the order of the inputs and from
    one thread, and one call of `close`, whatever ended the run.

    An entry is what the JSON of the command has for an image: `image` (its path, address or other name), the facts of
    where in a larger file it comes from (`page` and `pages`, counted from 1; `frame` and `row`, counted from 0;
    `timestamp` in seconds; `member`, the name in an archive), and then either `width`, `height` (pixels of the upright
    image) and `detections` (a list of `dict` with `score`, `label`, `box` and `polygon`), or `error`. An entry must
    not be changed.

    Attributes:
        needs_image (`bool`): Whether `write` uses the image. Where no writer does, images are not kept after decoding.
    """

    needs_image: bool

    def open(self) -> None:
        """Takes locks and makes folders."""

    def write(self, entry: dict[str, Any], image: Any = None) -> None:
        """
        Adds an entry.

        Args:
            entry (`dict`): see above.
            image (`PIL.Image.Image`, *optional*):
                The upright RGB image; `None` where it could not be read, or where no writer needs images.

        Raises:
            ResultWriteError, BrokenPipeError, and the `PROGRAMMING_ERRORS`: end the run.
            Exception: any other one is told as an error, fails this image only, and the run goes on.
        """

    def skip(self, entry: dict[str, Any]) -> None:
        """Passes over an entry that an earlier run, which this one resumes, has written; its image is not read again."""

    def close(self) -> None:
        """Completes what was written, and gives back locks."""


class ResultWriter:
    """
    Writes a JSON list or, where the name ends in `.jsonl`, JSON Lines: an entry on each line.

    It is a [`DetectionWriter`], and a context manager that opens and closes it. A file is complete after every entry, also while the run goes on: a list is closed at once, and the next entry is
    written over its closing. It takes the place of an older file with the first entry, and until then that stays. A
    pipe or terminal gets the closing at the end. One run at a time writes to a file.

    Args:
        output (`Path`, *optional*): the file; stdout by default. Its folder is made when it does not exist.
        resume (`bool`, *optional*, defaults to `False`):
            Whether to go on with a file of JSON Lines, if there is one: what is in it stays, but for half a last line.

    Raises:
        BlockingIOError: on opening, if another run writes to the file.
        ResultWriteError: on opening, if the file to go on with holds something else.
        OSError: on opening, if the file cannot be made.
    """

    needs_image = False

    def __init__(self, output: Path | None, resume: bool = False):
        self.output, self.resume = output, resume
        self.lines = output is not None and output.suffix.lower() == ".jsonl"
        self.count = 0
        self._place: str | None = None
        self._lock: AbstractContextManager | None = None
        if output is not None and not is_special(output):
            self._place, self._lock = os.path.realpath(output), exclusive(output)
        self._descriptor: int | None = None
        self._owned = False  # whether the descriptor is to be closed
        self._rewritable = self._broken = False
        self._end = 0  # where the complete entries end, without the list's closing
        self._earlier: dict[str, int] = {}  # where the entries of an earlier run begin

    def __enter__(self) -> "ResultWriter":
        self.open()
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def open(self) -> None:
        """Takes the lock of the file, and reads what an earlier run has written if it is to go on with that."""
        if self._lock is not None:
            self._lock.__enter__()
        try:
            if self.resume and self._place is not None and os.path.exists(self._place):
                self._reopen(self._place)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends a list that is written to a pipe, and gives the lock back."""
        try:
            self._close()
        finally:
            if self._lock is not None:
                self._lock.__exit__(None, None, None)

    def skip(self, entry: dict[str, Any]) -> None:
        """The entry is in the file already."""

    def write(self, entry: dict[str, Any], image: Any = None) -> None:
        """
        Adds an entry.

        Raises:
            ResultWriteError: if it cannot be written; the file is then as it was before.
            BrokenPipeError: if the reader of a pipe has gone.
        """
        data = self.encode(entry, image)
        with uninterrupted():
            try:
                if self.count == 0 and self._place is not None and self._descriptor is None:
                    self._start_file(self._place, data)
                else:
                    if self.count == 0 and self._descriptor is None:
                        self._open_stream()
                    self._append(data)
            except BrokenPipeError:
                raise
            except OSError as error:
                where = "stdout" if self.output is None else repr(str(self.output))
                raise ResultWriteError(f"cannot write to {where} ({error.strerror or error})") from error
            self.count += 1

    @property
    def closing(self) -> bytes:
        """What stands behind the last entry."""
        return b"" if self.lines else _CLOSING

    def encode(self, entry: dict[str, Any], image: Any = None) -> bytes:
        """The bytes of an entry, with what stands before it."""
        # Readable where it is a file; in ASCII for terminals of any encoding and for names that are no UTF-8.
        text = json.dumps(entry, ensure_ascii=self.output is None)
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:
            data = json.dumps(entry).encode("ascii")
        return data + b"\n" if self.lines else (b",\n" if self.count else b"[\n") + data

    def has(self, key: str) -> bool:
        """Whether an earlier run has written the entry of a [`~tcm_hf.inputs.items.place_key`]."""
        return key in self._earlier

    def earlier_entry(self, key: str) -> dict[str, Any]:
        """The entry that an earlier run has written."""
        assert self._place is not None
        with open(self._place, "rb") as file:
            file.seek(self._earlier[key])
            return json.loads(file.readline())

    def _reopen(self, place: str) -> None:
        from ..inputs.items import place_key

        self._descriptor, self._owned, self._rewritable = os.open(place, os.O_RDWR), True, True
        with open(place, "rb") as file:
            for number, line in enumerate(file, start=1):
                is_whole = line.endswith(b"\n")
                try:
                    if line.strip():
                        entry = json.loads(line)
                        self._earlier.setdefault(place_key(entry["image"], entry), self._end)
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    if not is_whole:
                        break  # the write of the last line was cut short
                    raise ResultWriteError(
                        f"cannot resume: line {number} of {str(self.output)!r} is no result of tcm-hf detect; name another file"
                    ) from error
                self._end += len(line)
                if not is_whole:
                    os.lseek(self._descriptor, self._end, os.SEEK_SET)
                    _write_all(self._descriptor, b"\n")
                    self._end += 1
                    break  # or the new end would be read as another line
        os.ftruncate(self._descriptor, self._end)

    def _start_file(self, place: str, data: bytes) -> None:
        folder, name = os.path.split(place)
        # A long name leaves no room for more.
        self._descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name[:50]}.", suffix=".tmp")
        self._owned = self._rewritable = True
        try:
            self._append(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)  # temporary files are private, results are not
            os.replace(temporary, place)
        except BaseException:
            os.close(self._descriptor)
            self._descriptor = None
            os.unlink(temporary)
            raise

    def _open_stream(self) -> None:
        if self.output is not None and str(self.output) not in ("/dev/stdout", "/dev/stderr"):
            self._descriptor, self._owned = os.open(self.output, os.O_WRONLY), True
            return
        stream = sys.stderr if str(self.output) == "/dev/stderr" else sys.stdout
        stream.flush()  # what was printed before comes before
        try:
            self._descriptor = stream.fileno()
        except (io.UnsupportedOperation, AttributeError):  # it is no file, but an object of another program
            return
        # Where a shell appends, every write goes to the end, and nothing can be written over.
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode) and not _appends(self._descriptor):
            self._rewritable = True
            self._end = os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            sys.stdout.write(data.decode("utf-8"))
            sys.stdout.flush()
            return
        if not self._rewritable:
            self._broken = True  # half an entry cannot be taken back
            _write_all(self._descriptor, data)
            self._broken = False
            return
        closing = self.closing
        try:
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            _write_all(self._descriptor, data + closing)
        except OSError:
            with suppress(OSError):  # these bytes were there before, so that a full disk has room for them
                os.lseek(self._descriptor, self._end, os.SEEK_SET)
                if self.count:
                    _write_all(self._descriptor, closing)
                os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR))
            raise
        self._end += len(data)

    def _close(self) -> None:
        if self.count and not (self._rewritable or self._broken):
            with suppress(OSError):
                if self._descriptor is None:
                    sys.stdout.write(self.closing.decode())
                    sys.stdout.flush()
                else:
                    _write_all(self._descriptor, self.closing)
        if self._owned and self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _appends(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)
