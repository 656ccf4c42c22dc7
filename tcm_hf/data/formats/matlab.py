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
"""
Reads MATLAB 5 files (`.mat`, saved with `-v6` or `-v7`) without loading them whole.

Only what annotations are made of: numbers, text, and cells of these. The layout is that of The MathWorks' document
"MAT-File Format". Cells come one by one, so that a file with a million of them needs no more memory than one with ten.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from .access import MEMORY_LIMIT, check_memory
from .errors import AnnotationError


# Not scipy's `loadmat`, which reads whole variables: sizes are checked here before memory is taken, and the cells of
# SynthText come one by one.
HEADER_BYTES = 128
CHUNK_BYTES = 1 << 18
MAX_DEPTH = 8
# SynthText has fewer than a million; a damaged or hostile size would keep a reader busy for days.
MAX_CELLS = 10_000_000
# What a cell, and a line of a character array, take as Python objects beside their content.
BYTES_PER_ITEM = 160

MI_MATRIX, MI_COMPRESSED = 14, 15
# Data types of elements: NumPy's letters, and encodings of text.
NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXT_TYPES = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
# Classes of arrays.
MX_CELL, MX_CHAR = 1, 4
MX_NUMBERS = range(6, 16)

Buffer = bytes | bytearray | memoryview
Order = Literal["<", ">"]  # of bytes, as `struct` and NumPy write it
Value = "np.ndarray | list[str] | MatCells"


@dataclass
class MatCells:
    """A cell array: its shape, and its cells column by column."""

    shape: tuple[int, ...]
    items: list


@dataclass(frozen=True)
class MatVariable:
    """Where a variable of a file is, and what it is."""

    path: Path
    name: str
    mx_class: int
    shape: tuple[int, ...]
    order: Order
    offset: int
    size: int
    compressed: bool


class _Inflated(io.RawIOBase):
    """A compressed part of a file as a stream."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._left = file, size
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, target) -> int:
        data = b""
        while not data and not self._inflate.eof:
            # What did not fit into the last output comes before new input.
            waiting = self._inflate.unconsumed_tail
            if not waiting:
                waiting = self._file.read(min(CHUNK_BYTES, self._left))
                self._left -= len(waiting)
                if not waiting:
                    break
            data = self._inflate.decompress(waiting, len(target))
        target[: len(data)] = data
        return len(data)


def _read(stream: BinaryIO, size: int, where: str) -> bytes | bytearray:
    """Exactly so many bytes. In pieces: a damaged size must not reserve memory for bytes that are not there."""
    content = bytearray()
    while size > 0:
        try:
            piece = stream.read(min(size, CHUNK_BYTES))
        except zlib.error as error:
            raise AnnotationError(f"{where}: damaged ({error}); get a complete copy of the file") from error
        if not piece:
            raise AnnotationError(f"{where}: the file ends too early; get a complete copy of it")
        content += piece
        size -= len(piece)
    return bytes(content) if len(content) <= CHUNK_BYTES else content


def _tag(data: Buffer, at: int, order: Order, where: str) -> tuple[int, int, int, int]:
    """An element's type, its data's place and size, and where the next one starts."""
    if at + 8 > len(data):
        raise AnnotationError(f"{where}: damaged (an element is missing); get a complete copy of the file")
    kind, size = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # small elements keep size and type in one word, and their data in the next
        size, kind, start, following = kind >> 16, kind & 0xFFFF, at + 4, at + 8
        valid = size <= 4
    else:
        start, following = at + 8, at + 8 + size + (-size % 8 if kind != MI_COMPRESSED else 0)
        valid = start + size <= len(data)
    if not valid:
        raise AnnotationError(f"{where}: damaged (an element is too long); get a complete copy of the file")
    return kind, start, size, following


def _header(data: Buffer, order: Order, where: str) -> tuple[int, tuple[int, ...], str, int]:
    """Class, shape and name of a matrix, and where its content starts."""
    kind, start, size, at = _tag(data, 0, order, where)
    if kind != 6 or size != 8:
        raise AnnotationError(f"{where}: damaged (an array without flags); get a complete copy of the file")
    mx_class = struct.unpack_from(order + "I", data, start)[0] & 0xFF
    kind, start, size, at = _tag(data, at, order, where)
    if kind != 5 or size % 4 or not 8 <= size <= 32:
        raise AnnotationError(f"{where}: damaged (an array without dimensions); get a complete copy of the file")
    shape = struct.unpack_from(f"{order}{size // 4}i", data, start)
    if min(shape) < 0:
        raise AnnotationError(f"{where}: damaged (negative dimensions {shape}); get a complete copy of the file")
    kind, start, size, at = _tag(data, at, order, where)
    if kind not in (1, 2, 16):
        raise AnnotationError(f"{where}: damaged (an array without name); get a complete copy of the file")
    return mx_class, shape, bytes(data[start : start + size]).decode("ascii", "replace"), at


class _Budget:
    """Memory that the value of one variable may still take."""

    def __init__(self, limit: int, where: str):
        self.limit, self.where, self.taken = limit, where, 0

    def take(self, size: int) -> None:
        self.taken += size
        check_memory(self.taken, self.limit, self.where)


def _matrix(data: memoryview, order: Order, where: str, budget: _Budget, depth: int = 0):
    """The value of a matrix element: numbers, lines of text, or cells."""
    budget.take(BYTES_PER_ITEM)
    if not data:
        return np.empty((0, 0))
    mx_class, shape, _, at = _header(data, order, where)
    count = math.prod(shape)
    if mx_class == MX_CELL:
        if depth == MAX_DEPTH:
            raise AnnotationError(f"{where}: cells are nested too deeply for an annotation; check the file")
        items = []
        for _ in range(count):
            kind, start, size, at = _tag(data, at, order, where)
            if kind != MI_MATRIX:
                raise AnnotationError(f"{where}: damaged (a cell that is no array); get a complete copy of the file")
            items.append(_matrix(data[start : start + size], order, where, budget, depth + 1))
        return MatCells(shape, items)
    if mx_class != MX_CHAR and mx_class not in MX_NUMBERS:
        raise AnnotationError(
            f"{where}: an array of class {mx_class}; annotations are numbers, text and cells of these"
        )
    if mx_class == MX_CHAR and count == 0:
        return []
    kind, start, size, _ = _tag(data, at, order, where)
    content = data[start : start + size]
    if mx_class == MX_CHAR:
        # The characters, one to four bytes each, and the lines, each with a part of them.
        budget.take(8 * size + BYTES_PER_ITEM * min(shape[0], size))
        return _text(bytes(content), kind, shape, order, where)
    if kind not in NUMBER_TYPES or size != count * np.dtype(NUMBER_TYPES[kind]).itemsize:
        raise AnnotationError(
            f"{where}: damaged (an array of {shape} in {size} bytes); get a complete copy of the file"
        )
    return np.frombuffer(content, np.dtype(NUMBER_TYPES[kind]).newbyteorder(order)).reshape(shape, order="F")


def _text(content: bytes, kind: int, shape: tuple[int, ...], order: Order, where: str) -> list[str]:
    """Lines of a character array, which stores them column by column."""
    encoding = TEXT_TYPES.get(kind)
    if encoding is None and kind in (1, 2, 4):
        encoding = "latin-1" if kind != 4 else "utf-16"
    if encoding is None:
        raise AnnotationError(f"{where}: damaged (text of type {kind}); get a complete copy of the file")
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise AnnotationError(f"{where}: text that cannot be decoded ({error}); correct it") from error
    rows, columns = shape[0], math.prod(shape[1:])
    if len(text) != rows * columns:
        if rows == 1:  # characters beyond the basic plane count twice in MATLAB
            return [text]
        raise AnnotationError(f"{where}: damaged ({len(text)} characters for {rows} x {columns}); get a complete copy")
    return [text[row::rows] for row in range(rows)]


@contextmanager
def _opened(variable: MatVariable) -> Iterator[tuple[BinaryIO, int]]:
    """The matrix element of a variable as a stream, behind its tag, and its size."""
    with open(variable.path, "rb") as file:
        file.seek(variable.offset)
        size = variable.size
        if variable.compressed:
            file = io.BufferedReader(_Inflated(file, variable.size), CHUNK_BYTES)
            _, size = struct.unpack(variable.order + "II", _read(file, 8, str(variable.path)))
        yield file, size


def mat_variables(path: str | Path) -> dict[str, MatVariable]:
    """
    The variables of a file.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is no MATLAB 5 file, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Annotation file not found: {path}")
    found = {}
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
        if header[:10] == b"MATLAB 7.3" or header[:4] == b"\x89HDF":
            raise AnnotationError(f"{path}: a MATLAB 7.3 (HDF5) file; save it with `-v7` in MATLAB")
        orders: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}
        order = orders.get(header[126:128])
        if order is None or struct.unpack(order + "H", header[124:126])[0] >> 8 != 1:
            raise AnnotationError(f"{path}: no MATLAB 5 file; get a complete copy, or save it with `-v7` in MATLAB")
        end = path.stat().st_size
        at = HEADER_BYTES
        while at + 8 <= end:
            file.seek(at)
            kind, size = struct.unpack(order + "II", _read(file, 8, str(path)))
            if kind not in (MI_MATRIX, MI_COMPRESSED) or at + 8 + size > end:
                raise AnnotationError(
                    f"{path}: damaged (an element of type {kind}, {size} bytes); get a complete copy of it"
                )
            stream, left = file, size
            if kind == MI_COMPRESSED:
                stream = io.BufferedReader(_Inflated(file, size), CHUNK_BYTES)
                inner, left = struct.unpack(order + "II", _read(stream, 8, str(path)))
                if inner != MI_MATRIX:
                    raise AnnotationError(
                        f"{path}: damaged (a compressed element of type {inner}); get a complete copy of it"
                    )
            # Flags, dimensions and name, which has at most 63 characters, are within the first bytes.
            start = stream.read(min(left, 160))
            if start:
                mx_class, shape, name, _ = _header(start, order, str(path))
                found[name] = MatVariable(path, name, mx_class, shape, order, at + 8, size, kind == MI_COMPRESSED)
            at += 8 + size + (-size % 8 if kind == MI_MATRIX else 0)
    return found


def find_variable(path: str | Path, name: str) -> MatVariable:
    """The variable of a name; raises an `AnnotationError` if there is none."""
    variables = mat_variables(path)
    if name not in variables:
        names = ", ".join(map(repr, variables)) or "none"
        raise AnnotationError(f"{path}: no variable {name!r}, but {names}; check that this is the right format")
    return variables[name]


def read_mat(path: str | Path, name: str, memory_limit: int = MEMORY_LIMIT):
    """
    Reads a small variable whole.

    Args:
        path (`str` or `Path`): The file.
        name (`str`): The variable.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that it may take in memory, by its declared size.

    Returns:
        `np.ndarray`, `list[str]` (the lines of a character array) or `MatCells`.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if there is no such variable, the file is damaged, or it is too large.
    """
    variable = find_variable(path, name)
    where = f"{path}, {name}"
    budget = _Budget(memory_limit, where)
    with _opened(variable) as (stream, size):
        # What is read grows as it comes, for which there are at times two copies of it.
        budget.take(2 * size)
        return _matrix(memoryview(_read(stream, size, where)), variable.order, where, budget)


def iterate_cells(variable: MatVariable, memory_limit: int = MEMORY_LIMIT) -> Iterator:
    """
    The cells of a variable one by one, column by column.

    Args:
        variable (`MatVariable`): The variable.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that one cell may take in memory.

    Raises:
        AnnotationError: if it is no cell array, the file is damaged, or a cell is too large.
    """
    where = f"{variable.path}, {variable.name}"
    if variable.mx_class != MX_CELL:
        raise AnnotationError(f"{where}: no cell array; check that this is the right format")
    count = math.prod(variable.shape)
    if count > MAX_CELLS:
        raise AnnotationError(f"{where}: {count} cells are more than {MAX_CELLS}; get a complete copy of the file")
    order = variable.order
    with _opened(variable) as (stream, _):
        # The header again, element by element: cells follow without a gap.
        for _ in range(3):
            tag = _read(stream, 8, where)
            kind, size = struct.unpack(order + "II", tag)
            if not kind >> 16:
                _read(stream, size + -size % 8, where)
        for index in range(count):
            cell = f"{where}, cell {index + 1}"
            kind, size = struct.unpack(order + "II", _read(stream, 8, cell))
            if kind != MI_MATRIX:
                raise AnnotationError(f"{cell}: damaged (a cell that is no array); get a complete copy of the file")
            budget = _Budget(memory_limit, cell)
            budget.take(2 * size)
            yield _matrix(memoryview(_read(stream, size, cell)), order, cell, budget)
