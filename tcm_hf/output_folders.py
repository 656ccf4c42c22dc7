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
"""Folders that a command makes as a whole."""

# Only the standard library here, as in output_files.py.
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .output_files import DISK_FULL, exclusive, naming


# Beside the folder: the one that is being made, and where two folders cannot be exchanged, the one that was there.
_NEW_SUFFIX, _OLD_SUFFIX = ".tcm-hf-new", ".tcm-hf-old"


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """
    Makes a folder that appears when it is complete; what was there before stays until then.

    Whenever the process dies, the folder is either the former one or the new one, whole. On Linux and macOS one step
    exchanges them. Where the file system cannot do that, there is a moment in which the former one stands beside,
    as `.NAME.tcm-hf-old`; the next run for this folder puts it back, or [`recover_folder`] does. What an unfinished run left
    behind, `.NAME.tcm-hf-new`, is removed then, too.

    Args:
        path (`str` or `Path`): the folder; a symbolic link is followed.

    Yields:
        `Path`: the folder to write into. An exception in the `with` block leaves everything as it was.

    Raises:
        BlockingIOError: if another run is writing to it.
        OSError: if it cannot be written.
    """
    output = Path(os.path.realpath(path))
    with exclusive(output):
        recover_folder(output)
        new, old = _beside(output)
        try:
            with naming(path):
                new.mkdir()
            with naming(path, only=DISK_FULL):
                yield new
            if not output.exists():
                os.rename(new, output)
            elif not _exchange(new, output):
                os.rename(output, old)
                try:
                    os.rename(new, output)
                finally:
                    recover_folder(output)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def recover_folder(path: str | Path) -> None:
    """
    Puts things right where a run of [`output_folder`] was killed; for those who hold the lock.

    Args:
        path (`str` or `Path`): the folder.
    """
    output = Path(os.path.realpath(path))
    new, old = _beside(output)
    if old.exists() and not (output.exists() and any(output.iterdir())):
        os.replace(old, output)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)


def _beside(output: Path) -> tuple[Path, Path]:
    return output.with_name(f".{output.name}{_NEW_SUFFIX}"), output.with_name(f".{output.name}{_OLD_SUFFIX}")


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two folders in one step; `False` where the system cannot."""
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "linux":
            here = ctypes.c_int(-100)  # AT_FDCWD; then RENAME_EXCHANGE
            return library.renameat2(here, os.fsencode(first), here, os.fsencode(second), ctypes.c_uint(2)) == 0
        if sys.platform == "darwin":
            return library.renamex_np(os.fsencode(first), os.fsencode(second), ctypes.c_uint(2)) == 0  # RENAME_SWAP
    except (OSError, AttributeError, TypeError):  # a C library without it, or none that can be opened
        pass
    return False
