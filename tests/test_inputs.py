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
"""Inputs of detection: every kind from small files made here, and hostile ones. No model is needed."""

import base64
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcm_hf.inputs import InputImage, InputOptions, find_inputs, iterate_images, sources, tables
from tcm_hf.inputs import items as items_module
from tcm_hf.inputs.items import place_key
from tcm_hf.inputs.sources import kind_by_content


SHADES = (0, 40, 80, 120)
# One empty page of 36 x 36 points, encrypted with a password.
ENCRYPTED_PDF = (
    "c-oCoO>Yx15WV|X%q2(a&+*#QDhJv|LVy~jg$wGzYmY-vv|BkFspU^{;2*#r!C9cJ2nVdS<bCtr^LXB3eYJWaFEm?x`~KxClOSN|"
    "KC!lCd|ifgj8vd?XeBkqq;AQUOGbS<any`^_w+!(*I`Qs#xI9sKZ0cZ^)4OY1DHzO!2L|B&!m@O4EtfretN*kdovT5f8NFTh7QBA"
    "#Hy&3O6PAW?ZV69v0f`K#I&_NefKBpLbb8Ky>aIK9#l02&G;MYx8p~U%2gp4<&C$E^0mC$?Z-M5emjOfg_0P*fmWmr9b%5Cl|}2R"
    "vFL@3AzMSH%7ckYBun1goG5#%$#*E6$ex7Lwe@$<sz{+aMG*uVk0ytlgh^R<stcis%5~WglA#7&Fwz<!>c7o72O))<$MaYyGXa)~"
    "=LHr~BV>5SWPSWp>HlEp&oC+7IcA$POwF}p3A;U&X|A`s&s1CCn_(D1PXX{(eI7vmI$zbm+8BI&dBi#c9Xc6|6*9Sw5@JVLndSdb"
    "YS7nxEKd(3;P0dlV<_V^5Yrg8SX|$%*bk9A#Lo"
)


def gray(shade: int, size=(60, 40)) -> Image.Image:
    return Image.new("RGB", size, (shade,) * 3)


def png(shade: int = 0) -> bytes:
    content = io.BytesIO()
    gray(shade).save(content, "PNG")
    return content.getvalue()


def read(inputs, **options) -> list[tuple]:
    """For each image its name, facts and its shade, or the message of its error."""
    rows = []
    for item in iterate_images(inputs, **options):
        name = os.path.basename(item.name)
        try:
            image = item.load()
        except (OSError, ValueError) as error:
            rows.append((name, item.facts, str(error)))
        else:
            assert image.mode == "RGB"
            rows.append((name, item.facts, round(float(np.asarray(image).mean()) / 40) * 40))
    return rows


def places(rows: list[tuple], name: str) -> list:
    return [facts.get(name) for _, facts, _ in rows]


def shades(rows: list[tuple]) -> list:
    return [value for _, _, value in rows]


def write_pdf(path: Path) -> Path:
    first, *others = [gray(shade) for shade in SHADES]
    first.save(path, save_all=True, append_images=others, resolution=72)
    return path


def write_video(path: Path, codec: str = "mpeg4", times: Sequence[int] = range(40), silence: int = 0) -> Path:
    """Frames at tenths of a second, each quarter of them in a shade of its own; and seconds of silence."""
    av = pytest.importorskip("av")
    # MP4's header at the front, so that a part of the file can be read.
    options = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        sound = container.add_stream("mp2", rate=48000, layout="mono") if silence else None
        for number, time in enumerate(times):
            pixels = np.full((48, 64, 3), SHADES[number * 4 // len(times)], np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for start in range(0, silence * 48000, 1152):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
                frame.rate, frame.pts = 48000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def write_tar(path: Path, members: dict[str, bytes | None], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, **columns) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


# ---------------------------------------------------------------------- PDF


def test_pdf_pages(tmp_path):
    pytest.importorskip("pypdfium2")
    path = write_pdf(tmp_path / "a.pdf")
    rows = read(path, dpi=144)
    assert shades(rows) == list(SHADES) and places(rows, "page") == [1, 2, 3, 4]
    assert all(facts["pages"] == 4 and facts["dpi"] == 144 for _, facts, _ in rows)
    assert [item.load().size for item in iterate_images(path, dpi=144)] == [(120, 80)] * 4
    assert [item.siblings for item in iterate_images(path)] == [4, None, None, None]
    assert shades(read(path.read_bytes())) == list(SHADES)
    rows = read(path, max_frames=2)
    assert shades(rows)[:2] == list(SHADES[:2]) and len(rows) == 3 and "more than 2 pages" in rows[2][2]


def test_pdfs_that_cannot_be_read(tmp_path):
    pytest.importorskip("pypdfium2")
    path = tmp_path / "locked.pdf"
    path.write_bytes(zlib.decompress(base64.b85decode(ENCRYPTED_PDF)))
    ((_, facts, error),) = read(path)
    assert facts == {} and str(path) in error and "password" in error
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 and nothing more")
    ((_, _, error),) = read(path)
    assert str(path) in error and "damaged" in error
    # Without pages, after one that is locked: PDFium keeps the code of an earlier error.
    path = tmp_path / "none.pdf"
    pages = [
        b"%PDF-1.7\n",
        b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
        b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n",
    ]
    starts = [len(b"".join(pages[:count])) for count in (1, 2, 3)]
    table = b"xref\n0 3\n0000000000 65535 f \n%010d 00000 n \n%010d 00000 n \n" % tuple(starts[:2])
    end = b"trailer<</Root 1 0 R/Size 3>>\nstartxref\n%d\n%%%%EOF\n" % starts[2]
    path.write_bytes(b"".join([*pages, table, end]))
    for source in (path, path.read_bytes()):
        read(tmp_path / "locked.pdf")
        ((_, facts, error),) = read(source)
        assert facts == {} and "holds no image" in error and (source is not path or str(path) in error)
    rows = read(write_pdf(tmp_path / "a.pdf"), dpi=72, max_pixels=60 * 40 - 1)
    assert len(rows) == 4 and all(f"page {n}" in row[2] and "60 x 40" in row[2] for n, row in enumerate(rows, 1))


def test_huge_pages_take_no_memory(tmp_path):
    pytest.importorskip("pypdfium2")
    path = write_pdf(tmp_path / "huge.pdf")
    path.write_bytes(path.read_bytes().replace(b"0 0 60.0 40.0", b"0 0 9999 9999", 1))
    rows = read(path)
    assert "page 1" in rows[0][2] and "max_pixels" in rows[0][2] and shades(rows)[1:] == list(SHADES[1:])


def test_missing_libraries_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-")
    (tmp_path / "b.mp4").write_bytes(b"video")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    for module in ("pypdfium2", "av", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    for (name, _, error), extra in zip(read(tmp_path), ("pdf", "video", "train"), strict=True):
        assert name in error and f'pip install "tcm_hf[{extra}]"' in error


# ---------------------------------------------------------------------- frames


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_frames_of_images(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    first, *others = [gray(shade) for shade in SHADES]
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=others, **options)
    assert read(path) == [(path.name, {}, 0)]
    rows = read(path, all_frames=True)
    assert shades(rows) == list(SHADES) and places(rows, "frame") == [0, 1, 2, 3]
    assert [item.load().getpixel((5, 5))[0] for item in list(iterate_images(path, all_frames=True))] == list(SHADES)
    assert "more than 3 frames" in read(path, all_frames=True, max_frames=3)[3][2]
    gray(80).save(tmp_path / f"single.{suffix}")
    assert read(tmp_path / f"single.{suffix}", all_frames=True) == [(f"single.{suffix}", {}, 80)]


def test_a_damaged_frame_in_the_middle(tmp_path):
    path = tmp_path / "a.tif"
    frames = [Image.effect_noise((60, 40), 90 + shade).convert("RGB") for shade in SHADES]
    frames[0].save(path, save_all=True, append_images=frames[1:], compression="tiff_deflate")
    with Image.open(path) as image:
        image.seek(1)
        start = image.tag_v2[273][0]
    data = bytearray(path.read_bytes())
    data[start : start + 40] = b"x" * 40
    path.write_bytes(data)
    rows = read(path, all_frames=True)
    assert places(rows, "frame") == [0, 1, 2, 3]
    assert [isinstance(value, str) for value in shades(rows)] == [False, True, False, False]
    assert f"{str(path)!r}, frame 1" in rows[1][2]


# ---------------------------------------------------------------------- video


def test_video(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    rows = read(path, every=10)
    assert shades(rows) == list(SHADES) and places(rows, "frame") == [0, 10, 20, 30]
    assert places(rows, "timestamp") == [0.0, 1.0, 2.0, 3.0]
    rows = read(path, every="1.5s")
    assert places(rows, "frame") == [0, 15, 30] and shades(rows) == [0, 40, 120]
    assert len(read(path)) == 40 and len(read(path.read_bytes(), every=4)) == 10
    assert next(iterate_images(path, every=4)).siblings == 10
    assert "64 x 48" in read(path, max_pixels=1000)[0][2]
    assert "more than 3 frames" in read(path, max_frames=3)[3][2]


def test_frames_come_while_a_video_goes_on(tmp_path):
    """An endless stream: what was taken of it comes at once, and the limit ends it."""
    data = write_video(tmp_path / "a.mkv", "mjpeg").read_bytes()
    script = "import sys\nfrom tcm_hf.inputs import iterate_images\nfor item in iterate_images('-', max_frames=60):\n"
    script += "    print(item.facts.get('frame'), item.error, flush=True)"
    root = Path(items_module.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False, cwd=root
    )
    process.stdin.write(data)
    process.stdin.flush()
    killer = threading.Timer(60, process.kill)
    killer.start()
    assert process.stdout.readline() == b"0 None\n"  # and the stream is still open
    killer.cancel()
    process.stdin.close()
    assert process.wait(60) == 0 and len(process.stdout.read().splitlines()) == 39


def test_damaged_frames_of_a_video(tmp_path):
    path = write_video(tmp_path / "a.avi", "mjpeg")
    data = bytearray(path.read_bytes())
    starts = [index for index in range(len(data) - 3) if data[index : index + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 40
    # All of the frame, up to the header of the next: decoders make something of less.
    end = starts[6] - 8
    data[starts[5] : end] = bytes(end - starts[5])
    path.write_bytes(data)
    rows = read(path)
    assert len(rows) == 40 and [index for index, row in enumerate(rows) if isinstance(row[2], str)] == [5]
    assert f"{str(path)!r}, frame 5" in rows[5][2]
    path.write_bytes(path.read_bytes()[: len(data) // 2])
    assert 15 < len(read(path)) < 40
    path.write_bytes(b"RIFF....AVI no video")
    ((_, _, error),) = read(path)
    assert str(path) in error
    # A play list could name any file or address.
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    assert len(read(path)) == 1


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "mov"])
def test_a_video_that_was_cut(tmp_path, suffix):
    """Most formats end without an error there, as if that had been all."""
    path = write_video(tmp_path / f"a.{suffix}", "mjpeg")
    assert shades(read(path, every=10)) == list(SHADES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *rows, (_, _, error) = read(path, every=10)
    # The frame that was cut may be an error, too.
    found = [value for value in shades(rows) if not isinstance(value, str)]
    assert found == list(SHADES[: len(found)]) and 1 <= len(found) <= 2
    assert str(path) in error and "of 4.0 seconds; get a complete copy" in error


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_videos_that_look_cut_and_are_whole(tmp_path, suffix):
    """The last slide begins long before the end, and sound goes on after it; Matroska counts from zero, not from the first frame."""
    slides = write_video(tmp_path / f"slides.{suffix}", times=range(0, 200, 50), silence=24)
    assert shades(read(slides)) == list(SHADES)
    late = write_video(tmp_path / f"late.{suffix}", times=range(50, 90))
    assert shades(read(late, every=10)) == list(SHADES)


@pytest.mark.parametrize("every", [0, -1, "0s", "s", "two", "nans", "infs", 1.5])
def test_intervals_that_cannot_be_meant(every):
    with pytest.raises(ValueError, match="every must be"):
        InputOptions(every=every)


# ---------------------------------------------------------------------- archives and tables


HOSTILE_NAMES = ("../evil.png", "/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png")


@pytest.mark.parametrize("mode, name", [("w", "a.tar"), ("w:gz", "a.tar.gz"), ("w:xz", "a.tar.xz")])
def test_tar(tmp_path, mode, name):
    members = {"1.png": png(40), "1.json": b"{}", **dict.fromkeys(HOSTILE_NAMES, png()), "2.png": png(80)}
    path = write_tar(tmp_path / name, {**members, "link.png": None, "bad.png": b"no image"}, mode)
    rows = read(path)
    assert [(row[1]["member"], row[2]) for row in rows if not isinstance(row[2], str)] == [
        ("1.png", 40),
        ("2.png", 80),
    ]
    errors = {row[1]["member"]: row[2] for row in rows if isinstance(row[2], str)}
    assert list(errors) == [*HOSTILE_NAMES, "link.png", "bad.png"]
    assert all("outside" in errors[hostile] for hostile in HOSTILE_NAMES) and "link" in errors["link.png"]
    assert str(path) in errors["bad.png"] and os.listdir(tmp_path) == [name]
    path.write_bytes(path.read_bytes()[:700])
    read(path)  # whatever is left of it


def test_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("1.png", "folder/2.png", "notes.txt", "../evil.png", "__MACOSX/._1.png"):
            archive.writestr(name, png(40))
    rows = read(path)
    assert [row[2] for row in rows[:2]] == [40, 40] and len(rows) == 3 and "outside" in rows[2][2]
    assert read(path.read_bytes())[0][1:] == rows[0][1:]
    data = bytearray(path.read_bytes())
    start = data.index(b"1.png") + 5
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    rows = read(path)
    assert str(path) in rows[0][2] and rows[1][2] == 40


def test_damaged_files_of_every_kind_give_errors_and_nothing_else(tmp_path):
    """Whatever is wrong in a file is told of the file; only mistakes in programs are raised."""
    contents = {
        f"a.tar{end}": write_tar(tmp_path / "a", {"1.png": png()}, f"w:{end[1:]}").read_bytes()
        for end in ("", ".gz", ".xz")
    }
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a", "w", method) as archive:
            archive.writestr("1.png", png())
        contents[f"{method}.zip"] = (tmp_path / "a").read_bytes()
    contents |= {
        "a.pdf": write_pdf(tmp_path / "a.pdf").read_bytes(),
        "a.mp4": write_video(tmp_path / "a.mp4").read_bytes(),
    }
    rng = np.random.default_rng(0)
    for name, content in contents.items():
        for _ in range(15):
            data = bytearray(content)
            for place in rng.integers(0, len(data), 8):
                data[place] = rng.integers(256)
            (tmp_path / name).write_bytes(data[: rng.integers(1, len(data)) if rng.random() < 0.2 else None])
            read(tmp_path / name, max_frames=5, all_frames=True)


def test_files_that_hold_no_image_are_errors(tmp_path):
    """Silence would look like a run that went well."""
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("notes.txt", "text")
    write_tar(tmp_path / "other.tar", {"notes.txt": b"text"})
    write_parquet(tmp_path / "rows.parquet", image=[b"x"][:0], other=[1][:0])
    rows = read(tmp_path)
    assert [row[0] for row in rows] == ["empty.zip", "other.tar", "other.zip", "rows.parquet"]
    assert all(f"{str(tmp_path / name)!r} holds no image; check" in error for name, _, error in rows)
    write_tar(tmp_path / "a.tar", {"1.png": png()})
    ((_, _, error),) = read(tmp_path / "a.tar", image_column="jpg")
    assert "a.tar' holds no 'jpg' image; choose another image_column" in error
    for text in ("", "\n \r\n"):
        (tmp_path / "list.txt").write_text(text)
        ((_, _, error),) = read(tmp_path / "list.txt")
        assert "list.txt' names no image; write a path" in error


def test_errors_of_the_system_name_the_file_once_and_a_remedy(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().partition(b"moov")[0])  # its table of frames is at the end
    ((_, _, error),) = read(path)
    assert (
        error == f"{str(path)!r} cannot be read (Invalid data found when processing input); get a complete copy of it"
    )

    def refuse(file, source):
        raise PermissionError(13, "Permission denied", source)

    monkeypatch.setitem(sources.READERS, "zip", refuse)
    (tmp_path / "a.zip").write_bytes(b"PK")
    ((_, _, error),) = read(tmp_path / "a.zip")
    assert error == f"{str(tmp_path / 'a.zip')!r} cannot be read (Permission denied); check its permissions"


def test_a_video_of_an_unknown_codec(tmp_path):
    path = write_video(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/", b"V_OTHER/"))
    assert f"{str(path)!r} holds video of an unknown codec" in read(path)[0][2]


@pytest.mark.parametrize("kind", ["pdf", "tar", "zip", "parquet"])
def test_mistakes_in_a_reader_are_raised(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sources.READERS, kind, lambda file, source: iter([None.missing]))
    (tmp_path / f"a.{kind}").write_bytes(b"anything")
    with pytest.raises(AttributeError, match="missing"):
        read(tmp_path / f"a.{kind}")


def test_webdataset_columns(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"1.left.png": png(40), "1.right.png": png(80), "1.cls": b"3"})
    assert shades(read(path)) == [40, 80] and shades(read(path, image_column="right.png")) == [80]


def test_parquet(tmp_path):
    (tmp_path / "beside.png").write_bytes(png(120))
    images = [
        {"bytes": png(40), "path": "1.png"},
        {"bytes": b"x", "path": None},
        {"bytes": None, "path": "beside.png"},
    ]
    images += [
        {"bytes": None, "path": "../../etc/passwd"},
        {"bytes": None, "path": None},
        {"bytes": png(80), "path": ""},
    ]
    path = write_parquet(tmp_path / "a.parquet", image=images, text=[""] * 6)
    rows = read(path)
    assert places(rows, "row") == list(range(6))
    assert [value if isinstance(value, int) else "" for value in shades(rows)] == [40, "", 120, "", "", 80]
    assert all(f"{str(path)!r}, row {row}" in rows[row][2] for row in (1, 3, 4)) and "outside" in rows[3][2]
    path = write_parquet(tmp_path / "b.parquet", a=[png(40)], b=[png(80)], c=["text"])
    assert "no column 'image', but 'a', 'b', 'c'" in read(path)[0][2]
    assert shades(read(path, image_column="b")) == [80]
    assert shades(read(write_parquet(tmp_path / "c.parquet", jpg=[png(80)], c=["text"]))) == [80]
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in read(path)[0][2]


def test_addresses_of_data_sets():
    for text in ("hf://", "hf://name", "hf://a/b/c", "hf://models/a/b/c"):
        ((_, _, error),) = read(text)
        assert text in error and "hf://datasets/OWNER/NAME" in error


def test_data_sets_of_the_hub(monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = {
        "picture": [{"bytes": png(40), "path": None}, {"bytes": b"x", "path": None}, {"bytes": png(80), "path": "a"}]
    }
    features = datasets.Features({"picture": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict({**rows, "text": ["a", "b", "c"]}, features=features).to_iterable_dataset()
    asked = []
    monkeypatch.setattr(tables, "load_hub_dataset", lambda *arguments: (asked.append(arguments), table)[1])
    rows = read("hf://datasets/me/words@v2", split="test")
    assert asked == [("me/words", "test", True, {"revision": "v2"})]
    assert places(rows, "row") == [0, 1, 2] and places(rows, "split") == ["test"] * 3
    assert rows[0][2] == 40 and "row 1" in rows[1][2] and rows[2][2] == 80


# ---------------------------------------------------------------------- folders, lists, standard input


def test_folders(tmp_path):
    for name in ("b.png", "a/x.png", "a/b/y.PNG", ".hidden/z.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(40))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    rows = read(tmp_path)
    assert [row[0] for row in rows] == ["b.png", "self.png", "x.png", "y.PNG"]
    assert "self.png" in rows[1][2] and [rows[index][2] for index in (0, 2, 3)] == [40] * 3
    assert [row[0] for row in read(tmp_path, recursive=False)] == ["b.png", "self.png"]
    assert [row[0] for row in read(str(tmp_path / "**" / "*.PNG"))] == ["y.PNG"]
    assert list(find_inputs([str(tmp_path)], left_out={str(tmp_path / "a")})) == [
        str(tmp_path / name) for name in ("b.png", "self.png")
    ]
    (tmp_path / "empty").mkdir()
    for text in (str(tmp_path / "empty"), str(tmp_path / "*.gif"), str(tmp_path / "absent.pdf")):
        ((_, _, error),) = read(text)
        assert text in error


def test_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "more").mkdir(parents=True)
    for name in ("here.png", "data/beside.png", "data/more/1.png", "data/ä #1.png"):
        (tmp_path / name).write_bytes(png(40))
    lines = ["\ufeffhere.png", "beside.png", "", "more", "ä #1.png\r", "here.png", "absent.png", "-", "other.txt"]
    (tmp_path / "data" / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    rows = read("data/list.txt")
    assert [row[0] for row in rows] == ["here.png", "beside.png", "1.png", "ä #1.png", "absent.png", "-", "other.txt"]
    assert shades(rows)[:4] == [40] * 4 and all(isinstance(value, str) for value in shades(rows)[4:])
    assert rows[4][2].endswith("'absent.png': no such file; check line 7 of 'data/list.txt'")
    (tmp_path / "binary.txt").write_bytes(b"x\0" * 10)
    assert "no list of paths" in read("binary.txt")[0][2]
    (tmp_path / "long.lst").write_bytes(b"x" * 200_000)
    assert "line 1 of more than" in read("long.lst")[0][2]


class Stdin:
    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)


def test_standard_input(tmp_path, monkeypatch):
    def piped(content: bytes, **options):
        monkeypatch.setattr(sys, "stdin", Stdin(content))
        return read("-", **options)

    assert piped(png(40)) == [("-", {}, 40)]
    assert piped(b"P2 2 1 255 80 80") == [("-", {}, 80)]
    assert "check line 1 of standard input" in piped(b"absent.png")[0][2]
    (tmp_path / "1.png").write_bytes(png(80))
    assert piped(f"{tmp_path}/1.png\n{tmp_path}/2.png".encode())[0] == ("1.png", {}, 80)
    tar = write_tar(tmp_path / "a.tar", {"1.png": png(40), "2.png": png(80)}).read_bytes()
    assert shades(piped(tar)) == [40, 80]
    assert "empty" in piped(b"")[0][2] and "'-'" in piped(bytes(100))[0][2]


def test_images_of_every_kind(tmp_path):
    (tmp_path / "no_suffix").write_bytes(write_tar(tmp_path / "a.tar", {"1.png": png(40)}).read_bytes())
    rows = read([np.full((4, 5, 3), 80, np.uint8), gray(40), png(120), tmp_path / "no_suffix"])
    assert shades(rows) == [80, 40, 120, 40] and [row[0] for row in rows][:3] == ["image 0", "image 1", "image 2"]
    assert shades(read(gray(40))) == [40] and shades(read(np.zeros((4, 5), np.uint8))) == [0]
    assert "neither" in read([np.zeros((5, 5, 7), np.uint8)])[0][2]


@pytest.mark.parametrize("head", [b"", b"\xff\xd8\xff\xe0", b"GIF89a", b"\0\0\0\x20ftypavif", b"\x89PNG\r\n\x1a\n"])
def test_images_are_no_other_kind(head):
    assert kind_by_content(head + bytes(400)) is None


def test_what_the_caller_has_is_not_read(tmp_path):
    pytest.importorskip("pypdfium2")
    path = write_pdf(tmp_path / "a.pdf")
    done = {place_key(str(path), {"page": page}) for page in (1, 3)}
    found = list(iterate_images(path, has=lambda key: key in done))
    assert [item.is_done for item in found] == [True, False, True, False]
    assert found[0].source is None and found[0].siblings == 4 and found[1].load().size == (167, 112)


def test_memory_does_not_grow(tmp_path):
    """A long list, and an archive of many members, lazily."""
    write_tar(tmp_path / "a.tar", {f"{index}.png": png(40) for index in range(500)})
    source = iterate_images([tmp_path / "a.tar"] * 2000)
    assert sum(isinstance(next(source), InputImage) for _ in range(600)) == 600
