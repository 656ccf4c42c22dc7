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
"""Files and folders that a command writes its results to."""

# Only the standard library here: every start of `tcm-hf` imports this file.
import errno
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


# Written to by their descriptor: where a shell redirects them to a file, opening their name would empty it.
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
# The lock's file inside of a folder; it does not count as content.
LOCK_NAME = ".lock"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What file systems say that cannot lock.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def output_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """
    Opens a UTF-8 text file that appears only when it is complete; what was there before stays until then.

    A symbolic link is followed. Pipes and devices, such as `/dev/null` and `/dev/stdout`, are written to as they are.
    What no UTF-8 can hold, as of file names in another encoding, is written as `\\udcXX`, which JSON reads back.

    Args:
        path (`str` or `Path`): the file; its folder is made when it does not exist.

    Yields:
        `TextIO`: the file to write to. An exception in the `with` block leaves no file.

    Raises:
        OSError: if the file cannot be made or written; the message names it.
    """
    with naming(path):
        if is_special(path):
            place: str | os.PathLike[str] | int = path
            if str(path) in _STREAMS:
                sys.stdout.flush()  # what was printed before comes before
                place = os.dup(_STREAMS[str(path)])
            special = NamedFile(place, "w", path)
        else:
            special = None
            target, temporary, file = _open_temporary(path)
    if special is not None:
        with special:
            yield special
        return
    try:
        with file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        with naming(path):
            os.chmod(temporary, 0o666 & ~umask)  # temporary files are private, results are not
            os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


class NamedFile(io.TextIOWrapper):
    """
    A UTF-8 text file to write to, whose errors name it: the system's `No space left on device` does not.

    Args:
        path (`str`, `Path` or `int`): The file, or its descriptor.
        mode (`str`): `"w"` or `"a"`.
        place (`str` or `Path`, *optional*): What messages call it; `path` by default.
    """

    def __init__(self, path: str | os.PathLike[str] | int, mode: str, place: str | os.PathLike[str] | None = None):
        self.place = str(path) if place is None else place
        super().__init__(open(path, f"{mode}b"), encoding="utf-8", errors="backslashreplace")

    def write(self, text: str) -> int:
        with naming(self.place):
            return super().write(text)

    def flush(self) -> None:
        with naming(self.place):
            super().flush()


@contextmanager
def replacing(path: str | Path, temporary: str | Path | None = None) -> Iterator[Path]:
    """
    Makes a file that appears only when it is complete, in a place that is [`exclusive`]ly held: the temporary file has
    always the same name, so that the next run takes that of a run that was killed.

    Args:
        path (`str` or `Path`): the file.
        temporary (`str` or `Path`, *optional*): the temporary file, on the same file system; `.NAME.tmp` beside by default.

    Yields:
        `Path`: the temporary file, which does not exist yet. An exception in the `with` block removes it.

    Raises:
        OSError: if the file cannot be made or written; the message names it. Whatever the block reads must have been opened before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp") if temporary is None else Path(temporary)
    with naming(path):
        try:
            temporary.unlink(missing_ok=True)
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all; errors name it."""
    with replacing(path) as temporary, NamedFile(temporary, "w", path) as file:
        file.write(text)


def check_output_file(path: str | Path) -> None:
    """
    Sees to it that [`output_file`] will open a file, for checks before a long run.

    Args:
        path (`str` or `Path`): the file; its folder is made when it does not exist.

    Raises:
        OSError: if the file cannot be made; the message names it.
    """
    if not is_special(path):
        with naming(path):
            _, temporary, file = _open_temporary(path)
            file.close()
            os.unlink(temporary)


def check_overwritten(places: Mapping[str, str | Path | None], inputs: Iterable[str | Path]) -> None:
    """
    Sees to it that the files of a run's results are neither its inputs nor one another.

    Args:
        places (`dict[str, str | Path | None]`): the files by what the user calls them, such as `"--output"`; `None` for none.
        inputs (`Iterable[str | Path]`): the files that the run reads.

    Raises:
        ValueError: if one of them is; the message names it.
    """
    files = {
        option: place
        for option, place in places.items()
        if place is not None and not is_special(place) and not os.path.isdir(place)
    }
    read = {os.path.realpath(path) for path in inputs} if files else set()
    written: dict[str, str] = {}
    for option, place in files.items():
        real = os.path.realpath(place)
        if real in read:
            raise ValueError(f"{option} {str(place)!r} is one of the inputs; name another file")
        if real in written:
            raise ValueError(f"{written[real]} and {option} name the same file, {str(place)!r}; name another one")
        written[real] = option


def make_output_folder(folder: str | Path) -> None:
    """
    Makes a folder, if there is none, and sees to it that files can be written into it.

    Args:
        folder (`str` or `Path`): the folder.

    Raises:
        OSError: if they cannot; the message names the folder.
    """
    with naming(folder):
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise NotADirectoryError("it is a file; name a folder")
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """
    Keeps other runs from writing to a file or folder while the `with` block runs.

    The lock is the system's (flock) on a hidden file beside `path`, `.NAME.lock`, so that `path` itself may be missing,
    and may be replaced meanwhile; the file lies inside where only the folder itself can be written to. The lock ends with
    the process, however that dies; the file goes at the end of the block, or of the next one after a kill. Where the
    file system knows no locks there is a warning, and no lock.

    Args:
        path (`str` or `Path`): the file or folder; the folder that it is in is made when it does not exist.

    Raises:
        BlockingIOError: if another run holds the lock; it is not waited for. The message says what to do.
        OSError: if the lock's file cannot be made; the message names `path`.
    """
    target = Path(os.path.realpath(path))
    with naming(path):
        lock, file = _acquire_lock(target)
    try:
        if lock is None:
            raise BlockingIOError(
                f"another run is writing to {str(path)!r}; wait until it has ended, or choose another place"
            )
        yield
    finally:
        if lock is not None:
            # While it is still locked: whoever opened it before sees that it is gone, and tries again.
            with suppress(OSError):
                file.unlink()
            lock.release()


def _acquire_lock(target: Path):
    """The lock of a file or folder, or `None` where another process has it, and the locked file."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.lock")
    for _ in range(1000):
        try:
            handle, file = _open_lock(beside)
        except OSError:
            # The file of another user is a lock, too.
            if not target.is_dir() or os.path.lexists(beside):
                raise
            handle, file = _open_lock(target / LOCK_NAME)
        try:
            # A lock that is nothing but a file would outlive a process that is killed.
            lock = FileLock(file, timeout=0, fallback_to_soft=False)
            try:
                lock.acquire()
            except Timeout:
                return None, file
            except (NotImplementedError, OSError) as error:
                if getattr(error, "errno", None) not in (None, *_NO_LOCKS):
                    raise
                message = f"no locks on the file system of {file.parent}: start no second run on {target}"
                warnings.warn(message, stacklevel=4)
            # What is locked may be a file that another run removed when it ended.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(file)):
                    return lock, file
            lock.release()
        finally:
            os.close(handle)
    return None, file


def _open_lock(file: Path) -> tuple[int, Path]:
    return os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), file


def printable(text: str) -> str:
    """A text for the terminal: line breaks, control characters and bytes that are no UTF-8 are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pipe or device, which is written to as it is."""
    special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    return special or str(path) in _STREAMS


def _open_temporary(path: str | os.PathLike[str]) -> tuple[str, str, TextIO]:
    """The place that a path stands for, and a file beside it that can be moved there."""
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError("it is a directory; name a file")
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    return target, temporary, NamedFile(handle, "w", path)


@contextmanager
def naming(path: str | os.PathLike[str], only: Container[int] | None = None) -> Iterator[None]:
    """
    Errors of the system say that this file or folder cannot be written to.

    Args:
        path (`str` or `Path`): the file or folder.
        only (`Container[int]`, *optional*): numbers of errors, such as [`DISK_FULL`], where the block also reads.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error.__cause__, OSError) and str(error).startswith("cannot write to "):
            raise  # it is named already
        if only is not None and error.errno not in only:
            raise
        named = type(error)(f"cannot write to {str(path)!r} ({error.strerror or error})")
        named.errno = error.errno
        raise named from error
