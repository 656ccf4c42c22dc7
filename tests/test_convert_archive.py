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
"""PyTorch's files are read without running anything of them, whatever they hold."""

import collections
import io
import pickle
import struct
import zipfile

import clip_layouts
import numpy as np
import pytest
import torch
from clip_layouts import TINY, load, save
from torch import nn

from tcm_hf.conversion import archive as convert_archive
from tcm_hf.conversion.archive import ArchiveError, ForeignCode, TorchFile
from tcm_hf.conversion.convert import ConversionError, convert_checkpoint
from tcm_hf.conversion.reading import read_weights


def tensors(path) -> dict[str, torch.Tensor]:
    return read_weights(path)[0].tensors


# ---------------------------------------------------------------------- what PyTorch writes


@pytest.mark.parametrize("zipped", [True, False])
def test_same_tensors_as_pytorch_reads(zipped, tmp_path):
    base = torch.arange(24.0)
    dtypes = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
    content = {
        "view": base[3:9],
        "transposed": base.reshape(4, 6).T,
        "sliced": base.reshape(2, 3, 4)[:, 1:, ::2],
        "expanded": torch.arange(5).expand(1, -1),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.randn(3, 2)),
        **{str(dtype): torch.arange(7).to(dtype) for dtype in dtypes},
    }
    marked = torch.ones(2)
    marked.note = "with an attribute"
    content["marked"] = marked
    if zipped:
        content["uint16"] = torch.arange(5).to(torch.uint16)
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    expected = torch.load(tmp_path / "x.pth", weights_only=True)
    read = tensors(tmp_path / "x.pth")
    assert list(read) == list(content)
    for name, value in read.items():
        assert value.dtype == expected[name].dtype and value.shape == expected[name].shape
        assert torch.equal(value, expected[name].detach()), name
    assert not read["parameter"].requires_grad


def test_what_training_leaves_beside_the_weights(tmp_path):
    meta = {
        "epoch": 3,
        "score": np.float64(0.5),
        "scalars": [np.int64(3), np.bool_(True), np.float32(1), np.str_("x")],
        "array": np.arange(6.0).reshape(2, 3),
        "dtype": np.dtype("float32"),
        "generator": np.random.RandomState(0).get_state(),
        "defaults": collections.defaultdict(list, a=[1]),
        "counts": collections.Counter("aab"),
        "queue": collections.deque([1, 2]),
        "set": {1, "b"},
        "frozen": frozenset([1]),
        "keys": {(1, (2, 3)): 1, 2.5: 2, b"x": 3, 10**30: 4, None: 5, torch.float16: 6},
        "complex": 1j,
        "bytes": b"abc",
        "bytearray": bytearray(b"abc"),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtypes": [torch.float32, torch.complex64],
        "complex tensor": torch.zeros(2, dtype=torch.complex64),
        "path": tmp_path,
    }
    state = clip_layouts.tcm()
    for protocol in (2, 3, 4, 5):
        torch.save({"meta": meta, "state_dict": dict(state)}, tmp_path / "x.pth", pickle_protocol=protocol)
        read = tensors(tmp_path / "x.pth")
        assert list(read) == list(state) and all(torch.equal(read[name], state[name]) for name in state)
    convert_checkpoint(tmp_path / "x.pth", tmp_path / "out", **TINY)
    assert load(tmp_path / "out")


class Half(nn.Module):
    """With what archives of OpenAI have: half precision, constants, buffers, modules that are used twice."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.again = self.layers[0]
        self.tied = self.layers[0].weight
        self.register_buffer("sizes", torch.tensor([224]))
        self.constant = 3.5
        self.names = ["a", "b"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + torch.ones(4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("traced", [True, False])
def test_torchscript(traced, tmp_path):
    module = Half().eval().half()
    script = torch.jit.trace(module, torch.ones(2, 3).half()) if traced else torch.jit.script(module)
    torch.jit.save(script, tmp_path / "x.pt")
    expected, read = torch.jit.load(tmp_path / "x.pt").state_dict(), tensors(tmp_path / "x.pt")
    assert set(read) == set(expected) and len(read) >= 8
    for name, value in read.items():
        assert value.dtype == expected[name].dtype and torch.equal(value, expected[name])


@pytest.mark.filterwarnings("ignore")
def test_blocks_in_the_folder_of_constants(tmp_path):
    torch.jit.save(torch.jit.script(Half().eval()), tmp_path / "x.pt")
    expected = {name: value.clone() for name, value in tensors(tmp_path / "x.pt").items()}
    members = unpack(tmp_path / "x.pt")
    pack(tmp_path / "y.pt", {name.replace("/data/", "/constants/"): data for name, data in members.items()})
    read = tensors(tmp_path / "y.pt")
    assert all(torch.equal(read[name], value) for name, value in expected.items())


# ---------------------------------------------------------------------- hostile archives of TorchScript


class Overwrites(nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))
        self.path = path

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]):
        self.path, self.weight, self.training = state[0], state[1], state[2]
        self.weight = torch.from_file(self.path, shared=True, size=4).fill_(7.0)


class LoopsForEver(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))
        self.count = 0

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight, self.training, self.count = state[0], state[1], 0
        while True:
            self.count += 1


@pytest.mark.filterwarnings("ignore")
def test_code_of_torchscript_is_not_run(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(16))
    torch.jit.save(torch.jit.script(Overwrites(str(victim))), tmp_path / "x.pt")
    torch.jit.load(tmp_path / "x.pt")
    assert victim.read_bytes() != bytes(16)  # the attack works where the code is run
    victim.write_bytes(bytes(16))
    torch.jit.save(torch.jit.script(LoopsForEver()), tmp_path / "y.pt")
    for path in (tmp_path / "x.pt", tmp_path / "y.pt"):
        for allow_pickle in (False, True):
            with pytest.raises(ConversionError, match=path.name):
                convert_checkpoint(path, tmp_path / "out", allow_pickle=allow_pickle, **TINY)
    assert victim.read_bytes() == bytes(16)


# ---------------------------------------------------------------------- hostile pickles


def unpack(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, members: dict[str, bytes], compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def archive_of(path, program: bytes, torchscript=False, **blocks: bytes):
    members = {"x/data.pkl": program, **{f"x/data/{key}": data for key, data in blocks.items()}, "x/version": b"3\n"}
    return pack(path, {**members, **({"x/constants.pkl": b"\x80\x02)."} if torchscript else {})})


TOUCH = b"cposix\nsystem\n"
ATTACKS = {
    "REDUCE": TOUCH + b"(X\x0b\x00\x00\x00touch tracetR",
    "INST": b"(X\x0b\x00\x00\x00touch traceiposix\nsystem\n",
    "OBJ": b"(" + TOUCH + b"X\x0b\x00\x00\x00touch traceo",
    "STACK_GLOBAL": b"\x8c\x05posix\x8c\x06system\x93X\x0b\x00\x00\x00touch trace\x85R",
    "NEWOBJ": b"csubprocess\nPopen\n(X\x0b\x00\x00\x00touch tracet\x81",
    "BUILD": b"c__main__\nEvil\n)\x81}X\x05\x00\x00\x00stateK\x01sb",
    "getattr": b"cbuiltins\ngetattr\n(cposix\nsystem\nX\x08\x00\x00\x00__call__tR",
    "eval": b"c__builtin__\neval\n(X\x01\x00\x00\x001tR",
    "numpy": b"cnumpy.testing._private.utils\nrunstring\n(X\x01\x00\x00\x001}tR",
    "dotted name": b"\x8c\x0bcollections\x8c\x0fabc.sys.modules\x93",
    "torch.load": b"ctorch.serialization\nload\n(X\x05\x00\x00\x00x.pthtR",
    "from_file": b"ctorch\nfrom_file\n(X\x05\x00\x00\x00trace\x88K\x10tR",
    "TorchScript's class in a plain file": b"c__torch__\nEvil\n)\x81",
    "name with escapes": b"cos\nsys\x1b[31mtem\n)R",
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("kind", ["zip", "legacy", "torchscript"])
def test_foreign_names_are_refused(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = b"\x80\x04" + ATTACKS[name] + b"."
    path = tmp_path / "evil.pt"
    if kind == "legacy":
        head = pickle.dumps(convert_archive._LEGACY_MAGIC_NUMBER, 2) + pickle.dumps(1001, 2)
        path.write_bytes(head + pickle.dumps({"little_endian": True}, 2) + program + pickle.dumps([], 2))
    else:
        archive_of(path, program, kind == "torchscript")
    with pytest.raises(ConversionError, match=r"evil\.pt (holds|is)") as error:
        convert_checkpoint(path, tmp_path / "out", **TINY)
    assert "--allow-pickle" in str(error.value) or "__torch__" in ATTACKS[name].decode("latin1")
    assert str(error.value).isprintable() and [file.name for file in tmp_path.iterdir()] == ["evil.pt"]


def block(key="0", length=4, kind=b"FloatStorage") -> bytes:
    return (
        b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX" + struct.pack("<I", len(key)) + key.encode()
        + b"X\x03\x00\x00\x00cpu\x8a\x09" + struct.pack("<q", length) + b"\x00tQ"
    )  # fmt: skip


def tensor_of(offset=0, size=(4,), stride=(1,), **fields) -> bytes:
    def numbers(values):
        return (
            b"("
            + b"".join(b"\x8a\x09" + struct.pack("<q", value) + bytes([255 * (value < 0)]) for value in values)
            + b"t"
        )

    parts = block(**fields) + numbers([offset])[1:-1] + numbers(size) + numbers(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"\x89}tR"


def state_of(tensor: bytes) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"s."


def test_made_tensor_is_read(tmp_path):
    numbers = np.arange(4, dtype=np.float32)
    path = archive_of(tmp_path / "x.pt", state_of(tensor_of(1, (2,), (2,))), **{"0": numbers.tobytes()})
    assert tensors(path)["w"].tolist() == [1, 3]


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"size": (5,)},
        {"size": (-1,)},
        {"size": (2, 2), "stride": (4, 1)},
        {"size": (2,), "stride": (-1,)},
        {"size": (10**6, 10**6), "stride": (0, 0)},
        {"size": (2**62, 4), "stride": (1, 1)},
        {"size": (0, 2**62, 2**62), "stride": (1, 1, 1)},
        {"size": (4, 1), "stride": (1,)},
        {"size": (1,) * 70, "stride": (0,) * 70},
        {"length": 5},
        {"length": 2**60},
        {"length": -1},
        {"kind": b"DoubleStorage"},
        {"key": "1"},
        {"key": "../../../etc/passwd"},
        {"key": "x" * 3000},
    ],
    ids=str,
)
def test_tensors_beyond_what_is_stored(fields, tmp_path):
    path = archive_of(tmp_path / "x.pt", state_of(tensor_of(**fields)), **{"0": bytes(16)})
    with pytest.raises(ConversionError, match=r"x\.pt is damaged or incomplete") as error:
        tensors(path)
    assert len(str(error.value)) < 400 and str(error.value).isprintable()


def test_bombs(tmp_path, monkeypatch):
    def refused(path, message):
        with pytest.raises(ConversionError, match=message) as error:
            tensors(path)
        assert len(str(error.value)) < 500 and str(error.value).isprintable()

    x = tmp_path / "x.pt"
    # Compressed members, of which 1 MB may stand for 1 GB.
    program = state_of(tensor_of())
    refused(pack(x, {"x/data.pkl": program + bytes(10**6), "x/data/0": bytes(16)}, zipfile.ZIP_DEFLATED), "compressed")
    # Sizes that the pickle declares of texts, numbers and its memory.
    for attack in (
        b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"T" + struct.pack("<I", 2**31 - 1) + b"x.",
        b"\x8b" + struct.pack("<I", 2**31 - 1) + b"x.",
        b"Nr" + struct.pack("<I", 2**32 - 1) + b"0j" + struct.pack("<I", 2**32 - 2) + b".",
        b"L" + b"9" * 10**5 + b"L\n.",
        b"cbuiltins\nbytearray\n(\x8a\x06" + struct.pack("<Q", 2**40)[:6] + b"tR.",
    ):
        refused(archive_of(x, b"\x80\x04" + attack), "damaged or incomplete|holds no weights")
    # Nothing that is built is compared, copied or printed in whole: 2**60 elements, keys that all have one hash.
    laughs = b"(K\x01t" + b"2\x86" * 60
    refused(archive_of(x, b"\x80\x02}" + laughs + b"K\x01s."), "holds no weights")
    refused(archive_of(x, b"\x80\x02]" + b"(" * 10**5 + b"t" * 10**5 + b"a."), "holds no weights")
    same = b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(1, 50_000))
    refused(archive_of(x, b"\x80\x02}(" + same + b"u."), "holds no weights")
    monkeypatch.setattr(convert_archive, "MAX_PICKLE_BYTES", 2**20)
    refused(archive_of(x, bytes(2**20 + 1)), "'data.pkl' is larger than 1 MB")
    monkeypatch.setattr(convert_archive, "MAX_PICKLE_STEPS", 1000)
    refused(archive_of(x, b"}" * 5000), "more than 1000 steps")


def test_modules_inside_of_themselves(tmp_path):
    module = b"\x80\x02c__torch__\nM\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub."
    with pytest.raises(ConversionError, match="nested without end"):
        tensors(archive_of(tmp_path / "x.pt", module, torchscript=True))


def test_names_that_are_no_text(tmp_path):
    for name in ("a\nb", "\x1b[31m", "\ud800", "n" * 2000):
        save({name: torch.ones(2), **clip_layouts.tcm()}, tmp_path / "x.pth")
        with pytest.raises(ConversionError, match="no readable text") as error:
            convert_checkpoint(tmp_path / "x.pth", tmp_path / "out", **TINY)
        assert str(error.value).isprintable()


def test_damage_inside(tmp_path):
    path = save(clip_layouts.tcm(), tmp_path / "x.pth")
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("x/data/3")
    place = member.header_offset + 30 + sum(struct.unpack("<HH", good[member.header_offset + 26 :][:4]))
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    with pytest.raises(ConversionError, match=r"checksum of its member 'data/3' is wrong"):
        tensors(path)
    for position in (0, 6, 8, 18, 26, 30):
        where = member.header_offset + position
        path.write_bytes(good[:where] + b"\xff\xff" + good[where + 2 :])
        try:
            tensors(path)  # what only the local header says twice may differ
        except ConversionError as error:
            assert "x.pth is damaged" in str(error)
    # Checksums are optional.
    torch.serialization.set_crc32_options(False)
    try:
        save(clip_layouts.tcm(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert len(tensors(path)) == len(clip_layouts.tcm())
    members = unpack(save(clip_layouts.tcm(), path))
    pack(path, {**members, "x/byteorder": b"big"})
    with pytest.raises(ConversionError, match="big-endian"):
        tensors(path)
    pack(path, {"x/readme.txt": b"hello"})
    with pytest.raises(ConversionError, match="a ZIP file, but no PyTorch checkpoint"):
        tensors(path)
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(ConversionError, match="a pickle file, but no PyTorch checkpoint"):
        tensors(path)


def test_errors_of_the_reader(tmp_path):
    with pytest.raises(ForeignCode, match=r"posix\.system"):
        TorchFile(archive_of(tmp_path / "x.pt", b"\x80\x02" + TOUCH + b"."))
    with pytest.raises(ArchiveError, match=r"step that PyTorch does not write \(EXT1\)"):
        TorchFile(archive_of(tmp_path / "x.pt", b"\x80\x02\x82\x01."))
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(3)}, buffer)
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    file = TorchFile(tmp_path / "x.pt")
    assert not file.is_torchscript and file.tensor(file.content["w"]).tolist() == [1, 1, 1]
