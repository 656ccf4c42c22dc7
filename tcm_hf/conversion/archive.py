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
"""Reading of PyTorch's files without running anything of them.

A PyTorch file is a pickle, which is a program, beside raw numbers. Here that program is read and not run: its steps
only build numbers, texts, lists and dictionaries. What would be a call becomes a plain record, whatever it names, and
tensors are views of the mapped file, made after their sizes were held against what the file really has. So are the
archives of TorchScript read, whose loader in PyTorch would run the code that they bring along.
"""

import io
import math
import mmap
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch


# Beside the raw numbers there is little: a detector and its optimizer take half a megabyte.
MAX_PICKLE_BYTES = 64 * 2**20
MAX_PICKLE_STEPS = 4_000_000
MAX_TENSORS = 100_000
MAX_NAME_LENGTH = 1000
# Legacy files start with the pickle of this number, then those of the format's version and of the system.
_LEGACY_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001

_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.storage.UntypedStorage": torch.uint8,
}
_OTHER_BLOCKS = {
    f"torch.{name}Storage"
    for name in ("ComplexDouble", "ComplexFloat", "QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")
}
# Tensors of these may come in untyped storages.
_DTYPE_NAMES = {
    str(dtype): dtype
    for dtype in (
        *set(_DTYPES.values()),
        *(getattr(torch, name) for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")),
    )
}
# What else training leaves beside the weights. None of it is called: it is passed over.
_HARMLESS = {
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    *_DTYPE_NAMES,
    *(f"torch.{name}" for name in ("complex32", "complex64", "complex128", "strided")),
    *(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
    "torch.jit._pickle.restore_type_tag",
    "_codecs.encode",
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in (
            "bytearray",
            "bytes",
            "complex",
            "dict",
            "frozenset",
            "int",
            "float",
            "list",
            "object",
            "set",
            "slice",
        )
    ),
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.deque",
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"datetime.{name}" for name in ("date", "datetime", "timedelta", "timezone")),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")),
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    *(
        f"{module}.multiarray.{name}"
        for module in ("numpy.core", "numpy._core")
        for name in ("scalar", "_reconstruct")
    ),
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{name}" for name in ("bool", "bool_", "float16", "float32", "float64", "str_", "bytes_")),
    *(f"numpy.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(
        f"numpy.dtypes.{name}DType"
        for name in ("Bool", "Float16", "Float32", "Float64", "Object", "Str", "Bytes")
        + tuple(f"{sign}nt{bits}" for sign in ("I", "UI") for bits in (8, 16, 32, 64))
    ),
    # Settings and logs of MMCV's and MMEngine's training.
    "addict.addict.Dict",
    "mmcv.utils.config.Config",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.Config",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
}


class ArchiveError(Exception):
    """A file that is damaged, or no file of PyTorch; the message is the reason."""


class NotACheckpoint(Exception):
    """A ZIP or pickle file that PyTorch did not write."""


class ForeignCode(Exception):
    """A pickle names something that is no part of weights; the message is its name."""


@dataclass(frozen=True)
class Global:
    """The name of a class or of a function; it is never looked up."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """An object of a class that is not looked up: what the file says to build it from."""

    name: str
    arguments: tuple = ()
    state: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredBlock:
    """A block of raw numbers that the pickle refers to."""

    key: str
    dtype: torch.dtype
    length: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in the file: a view of a block, in numbers of its dtype."""

    block: StoredBlock
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """
    A file that `torch.save` or `torch.jit.save` wrote.

    Args:
        path (`Path`): the file.

    Attributes:
        is_torchscript (`bool`): whether it is an archive of TorchScript.
        content: what was saved. Tensors are [`StoredTensor`], other objects [`Record`].

    Raises:
        ArchiveError: if the file is damaged.
        NotACheckpoint: if it is none of these.
        ForeignCode: if it names a class or function that neither belongs to weights nor is known to be left by training.
    """

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self._size = file.seek(0, io.SEEK_END)
            file.seek(0)
            # Private, as PyTorch only takes what could be written to.
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if self._data[:2] == b"PK":
                self._open_archive(file)
            else:
                self._open_legacy()

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """
        The values of a tensor, which are read from the file when they are used.

        Raises:
            ArchiveError: if the file does not have them.
        """
        if not all(value < 2**48 for value in (*stored.size, *stored.stride, stored.offset)):
            raise ArchiveError("a tensor is declared larger than any file")
        start, size = self._find(stored.block)
        width = stored.dtype.itemsize
        available = min(size, stored.block.length * stored.block.dtype.itemsize)
        count = math.prod(stored.size)
        last = stored.offset + sum((n - 1) * step for n, step in zip(stored.size, stored.stride))
        if available < stored.block.length * stored.block.dtype.itemsize:
            raise ArchiveError(f"{size} bytes are stored where {stored.block.length} numbers should be")
        if not count:
            return torch.empty(0, dtype=stored.dtype).reshape(stored.size)
        if max(last + 1, count) > available // width:
            raise ArchiveError("a tensor is declared larger than what is stored of it")
        # Old files have them at any place; computing wants multiples of the width.
        numbers = torch.frombuffer(self._data, dtype=torch.uint8, count=available // width * width, offset=start)
        if start % width:
            numbers = numbers.clone()
        return numbers.view(stored.dtype).as_strided(stored.size, stored.stride, stored.offset)

    # ------------------------------------------------------------------ zip

    def _open_archive(self, file) -> None:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            ValueError,
            LookupError,
            OverflowError,
            OSError,
            struct.error,
        ):
            raise ArchiveError("its table of contents is damaged or missing") from None
        main = next((member.filename for member in members if member.filename.endswith("/data.pkl")), None)
        if main is None:
            raise NotACheckpoint
        root = main.removesuffix("data.pkl")
        self._members = {m.filename.removeprefix(root): m for m in members if m.filename.startswith(root)}
        self._checked: dict[str, tuple[int, int]] = {}
        self._places: dict[str, tuple[int, int]] | None = None  # of the blocks of a legacy file
        self.is_torchscript = "constants.pkl" in self._members
        if "byteorder" in self._members and self._member_bytes("byteorder", 16) != b"little":
            raise ArchiveError("its numbers are stored in the order of big-endian machines, which is not supported")
        program = _Program(self._member_bytes("data.pkl", MAX_PICKLE_BYTES), self.is_torchscript)
        self.content = program.result

    def _member(self, name: str) -> tuple[int, int]:
        """Where the bytes of a member are: start and size."""
        if name in self._checked:
            return self._checked[name]
        info, shown = self._members[name], repr(name[:50])
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ArchiveError(
                f"its member {shown} is compressed or encrypted, as PyTorch never writes it; unpack it, and pack it again "
                "with `zip -0 -r`"
            )
        offset = info.header_offset
        header = self._data[offset : offset + 30] if offset >= 0 else b""
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise ArchiveError(f"its member {shown} is not where the table of contents says")
        start = offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        if start + info.file_size > self._size:
            raise ArchiveError(f"its member {shown} reaches over the end of the file")
        # Without checksum PyTorch writes a zero.
        with memoryview(self._data) as view:
            if info.CRC and zlib.crc32(view[start : start + info.file_size]) != info.CRC:
                raise ArchiveError(f"the checksum of its member {shown} is wrong")
        self._checked[name] = start, info.file_size
        return self._checked[name]

    def _member_bytes(self, name: str, most: int) -> bytes:
        if self._members[name].file_size > most:
            raise ArchiveError(f"its member {name!r} is larger than {most >> 20} MB")
        start, size = self._member(name)
        return self._data[start : start + size]

    # ------------------------------------------------------------------ legacy

    def _open_legacy(self) -> None:
        self.is_torchscript = False
        position = 0
        parts: list = []
        blocks: dict[str, StoredBlock] = {}
        for _ in range(5):
            program = _Program(self._data[position : position + MAX_PICKLE_BYTES], False)
            parts.append(program.result)
            if parts[0] != _LEGACY_MAGIC_NUMBER:
                raise NotACheckpoint
            position += program.length
            blocks.update(program.blocks)
        _, version, system, self.content, keys = parts
        if version != _LEGACY_VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ArchiveError("its format is not version 1001, of a little-endian machine")
        # Then the blocks, each after the number of its elements.
        places: dict[str, tuple[int, int]] = {}
        for key in keys if isinstance(keys, list) else ():
            block = blocks.get(key) if isinstance(key, str) else None
            length = int.from_bytes(self._data[position : position + 8], "little", signed=True)
            if block is None or not 0 <= length <= self._size - position - 8:
                raise ArchiveError("its list of blocks does not fit")
            places[key] = position + 8, length * block.dtype.itemsize
            position += 8 + length * block.dtype.itemsize
        if position > self._size:
            raise ArchiveError("its end is missing")
        self._places = places

    def _find(self, block: StoredBlock) -> tuple[int, int]:
        """Where the bytes of a block are: start and size."""
        if self._places is not None:
            if block.key not in self._places:
                raise ArchiveError(f"its block {block.key[:50]!r} is missing")
            return self._places[block.key]
        # In an archive of TorchScript the constants of the code have a folder of their own.
        name = next((n for folder in ("data", "constants") if (n := f"{folder}/{block.key}") in self._members), None)
        if name is None:
            raise ArchiveError(f"its member {f'data/{block.key[:50]}'!r} is missing")
        return self._member(name)


def named_tensors(content) -> dict[str, StoredTensor]:
    """
    The tensors of an archive of TorchScript by the names that its module's `state_dict()` would give them.

    Args:
        content: of a [`TorchFile`].

    Raises:
        ArchiveError: if the modules are nested without end.
    """
    found: dict[str, StoredTensor] = {}
    waiting = [("", content)]
    for prefix, module in waiting:
        # Modules may stand in several places, and a hostile file nests them in themselves.
        if len(waiting) + len(found) > MAX_TENSORS or len(prefix) > MAX_NAME_LENGTH:
            raise ArchiveError("its modules are nested without end")
        for name, value in module.state.items() if isinstance(module, Record) else ():
            if isinstance(value, StoredTensor):
                found[prefix + name] = value
            elif isinstance(value, Record) and value.name.startswith("__torch__."):
                waiting.append((f"{prefix}{name}.", value))
    return found


# ---------------------------------------------------------------------- tensors


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _rebuild_tensor(block, offset, size, stride, *rest, dtype=None):
    if not isinstance(block, StoredBlock):
        return Record("tensor")  # of a kind that is not read
    parts = (size, stride)
    if not all(isinstance(part, tuple) and all(map(_is_count, part)) for part in (*parts, (offset,))):
        raise ArchiveError("a tensor has a damaged size")
    if len(size) != len(stride) or len(size) > 64:
        raise ArchiveError("a tensor has a damaged size")
    return StoredTensor(block, dtype or block.dtype, offset, size, stride)


def _rebuild_tensor_of_dtype(block, offset, size, stride, requires_grad, hooks, dtype, *rest):
    known = _DTYPE_NAMES.get(dtype.name) if isinstance(dtype, Global) else None
    return _rebuild_tensor(block if known else None, offset, size, stride, dtype=known)


def _rebuild_parameter(data, *rest):
    return data


def _rebuild_from_type(function, kind, arguments, *rest):
    return _call(function, arguments)


def _ordered_dict(pairs=(), *rest):
    result = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        result[_key(key)] = value
    return result


_REBUILDING: dict[str, Callable] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_of_dtype,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.nn.parameter.Parameter": _rebuild_parameter,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda *rest: {},
}


def _call(function, arguments):
    """What takes the place of a call or of a new object."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise ArchiveError("its pickle is damaged")
    rebuild = _REBUILDING.get(function.name)
    return Record(function.name, arguments) if rebuild is None else rebuild(*arguments)


def _key(key):
    """A key that is compared in no time; names are texts, and nothing else is looked for."""
    simple = isinstance(key, (str, bytes, bool, type(None), Global)) or (type(key) is int and abs(key) < 2**48)
    return key if simple else Record("key", (key,))


# ---------------------------------------------------------------------- pickles


class _Program:
    """
    Reads one pickle, step by step.

    Args:
        data (`bytes`): it starts with the pickle.
        is_torchscript (`bool`): whether there may be objects of the archive's own classes.

    Attributes:
        result: what it builds.
        length (`int`): bytes that it takes.
        blocks (`dict[str, StoredBlock]`): the blocks that it refers to, by key.
    """

    def __init__(self, data: bytes, is_torchscript: bool):
        self.blocks: dict[str, StoredBlock] = {}
        self._is_torchscript = is_torchscript
        self._stack: list = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in old texts
                for step, (opcode, argument, position) in enumerate(pickletools.genops(data)):
                    if step > MAX_PICKLE_STEPS:
                        raise ArchiveError(f"its pickle has more than {MAX_PICKLE_STEPS} steps")
                    self._step(opcode.name, argument)
                    self.length = (position or 0) + 1
            (self.result,) = self._stack
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, struct.error):
            raise ArchiveError("its pickle is damaged") from None

    def _step(self, name: str, argument) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            stack.append(argument)
        elif name in _IGNORED:
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("EMPTY_LIST", "EMPTY_SET"):
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._pop(int(name[-1]))))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_mark()))
        elif name in ("LIST", "FROZENSET"):
            stack.append(self._pop_mark())
        elif name == "DICT":
            items = self._pop_mark()
            stack.append({})
            self._set_items(stack[-1], items)
        elif name == "APPEND":
            self._extend(self._pop(1))
        elif name in ("APPENDS", "ADDITEMS"):
            self._extend(self._pop_mark())
        elif name == "SETITEM":
            pair = self._pop(2)
            self._set_items(stack[-1], pair)
        elif name == "SETITEMS":
            pairs = self._pop_mark()
            self._set_items(stack[-1], pairs)
        elif name == "POP":
            self._pop(1)
        elif name == "POP_MARK":
            self._pop_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "GLOBAL":
            stack.append(self._global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(self._global(*self._pop(2)))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.append(_call(*self._pop(2)))
        elif name == "NEWOBJ_EX":
            stack.append(_call(*self._pop(3)[:2]))
        elif name == "INST":
            stack.append(_call(self._global(*argument.split(" ", 1)), tuple(self._pop_mark())))
        elif name == "OBJ":
            function, *arguments = self._pop_mark()
            stack.append(_call(function, tuple(arguments)))
        elif name == "BUILD":
            (state,) = self._pop(1)
            self._build(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(self._block(*self._pop(1)))
        else:
            raise ArchiveError(f"its pickle has a step that PyTorch does not write ({name})")

    def _pop(self, count: int) -> list:
        if len(self._stack) < count:
            raise IndexError
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_mark(self) -> list:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _extend(self, values: list) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Record):
            raise ArchiveError("its pickle is damaged")

    def _set_items(self, target, items: list) -> None:
        if len(items) % 2 or not isinstance(target, (dict, Record)):
            raise ArchiveError("its pickle is damaged")
        if isinstance(target, dict):
            target.update((_key(key), value) for key, value in zip(items[::2], items[1::2]))

    def _build(self, target, state) -> None:
        """What would set the attributes of an object, or call its `__setstate__`: records keep it."""
        if isinstance(target, Record) and isinstance(state, dict):
            target.state.update((key, value) for key, value in state.items() if isinstance(key, str))

    def _global(self, module, name) -> Global:
        full = f"{module}.{name}"
        if not isinstance(module, str) or not isinstance(name, str):
            raise ArchiveError("its pickle is damaged")
        known = (
            full in _HARMLESS or full in _REBUILDING or full.replace(".cuda.", ".") in _DTYPES or full in _OTHER_BLOCKS
        )
        if not known and not (self._is_torchscript and full.startswith("__torch__.")):
            raise ForeignCode("".join(c if c.isprintable() else "?" for c in full[:100]))
        return Global(full)

    def _block(self, reference):
        tag, kind, key, _, length, *view = reference
        if tag != "storage" or not isinstance(kind, Global) or not isinstance(key, str) or not _is_count(length):
            raise ArchiveError("its pickle is damaged")
        if view and view[0] is not None:
            raise ArchiveError("its tensors are stored as a PyTorch before 1.0 did")
        dtype = _DTYPES.get(kind.name.replace(".cuda.", "."))
        if dtype is None:
            return Record("block")
        self.blocks[key] = StoredBlock(key, dtype, length)
        return self.blocks[key]


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE "
    "BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
