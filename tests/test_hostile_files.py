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
"""File names that are hostile or no UTF-8, suffixes, and images of every kind of damage, in the commands for data sets."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from annotation_samples import box, numbers
from PIL import Image, features

from tcm_hf import cli
from tcm_hf.commands.detect import find_images
from tcm_hf.data import prepare
from tcm_hf.data.formats import read_dataset
from tcm_hf.data.subsets import read_subset, record_ids, select_subset, write_subset
from tcm_hf.model.image_loading import IMAGE_SUFFIXES, count_passed_over


BAD_NAME = os.fsdecode(b"x\xb3\xb5")
HOSTILE = [
    BAD_NAME,
    "line\nbreak",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)<",
    "a'b\"c&d",
    "\u202egnp.exe",
    "名" * 60,
    "%s{0}",
    "-rf",
]


def write(folder, name, suffix=".png", shade=9, format=None):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(folder / f"{name}{suffix}", format)
    (folder / f"gt_{name}.txt").write_text(f"{numbers(box(1, 1, 30, 20))},word")


@pytest.fixture
def hostile(tmp_path):
    try:
        for shade, name in enumerate(HOSTILE):
            write(tmp_path / "s", name, shade=shade)
    except OSError:
        pytest.skip("the file system takes no such names")
    return tmp_path / "s"


def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def check_terminal(text):
    """No control character reaches the terminal."""
    assert all(c.isprintable() for c in text.replace("\n", "").replace("\r", "")), repr(text)
    assert "\nbreak" not in text


def test_hostile_names_are_prepared(hostile, tmp_path, capsys):
    (hostile / f"{BAD_NAME}2.jpg").write_bytes(b"no image")
    (hostile / f"gt_{BAD_NAME}2.txt").write_text("")
    (hostile / "line\nbreak2.jpg").write_bytes(b"no image")
    (hostile / "gt_line\nbreak2.txt").write_text("")
    argv = ["prepare", "icdar2015", str(hostile), str(tmp_path / "out"), "--parquet", str(tmp_path / "hub")]
    assert cli.main(argv) == 1
    captured = capsys.readouterr()
    check_terminal(captured.out)
    assert "dropped images    2" in captured.out
    root = tmp_path / "out" / "train"
    names = [row["file_name"] for row in rows(root)]
    assert len(set(names)) == len(HOSTILE) and "images/x~B3~B5.png" in names
    assert all(name.isprintable() and name.encode("utf-8") for name in names)
    sources = {
        prepare.PictureStore(root, hostile, "copy").name(record, record.image): record.image
        for record in read_dataset("icdar2015", hostile)
        if "2.jpg" not in record.name
    }
    for name in names:
        assert (root / name).read_bytes() == sources[name].read_bytes()
    # The name itself can be read back.
    examples = json.loads((root / "report.json").read_text(encoding="utf-8"))["examples"]["image cannot be read"]
    assert any(repr(BAD_NAME)[1:-1] in example for example in examples)
    assert len(list(read_dataset("hub", tmp_path / "hub"))) == len(HOSTILE)
    assert cli.main(argv) == 1 and "complete already" in capsys.readouterr().out


def test_a_source_and_an_output_that_are_no_utf8(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "s", "img_1")
    os.rename(tmp_path / "s", BAD_NAME)
    out = f"out{BAD_NAME}"
    for _ in range(2):
        assert cli.main(["prepare", "icdar2015", BAD_NAME, out]) == 0
    check_terminal(capsys.readouterr().out)
    assert len(list(read_dataset("hub", out))) == 1
    assert cli.main(["inspect", "icdar2015", BAD_NAME, "--output", f"sheet{BAD_NAME}"]) == 0
    assert os.listdir(f"sheet{BAD_NAME}") == ["contact_sheet.jpg"]
    assert cli.main(["prepare", "icdar2015", f"absent{BAD_NAME}", out]) == 1
    captured = capsys.readouterr()
    check_terminal(captured.out + captured.err)
    options = ["--count", "1", "--size", "64", "64", "--workers", "1", "--quiet", "--backgrounds", BAD_NAME]
    for _ in range(2):
        assert cli.main(["synthesize", f"drawn{BAD_NAME}", *options]) == 0
    assert len(rows(tmp_path / f"drawn{BAD_NAME}")) == 1


@pytest.mark.parametrize("files", [[], ["--files"]])
def test_hostile_names_are_inspected(hostile, tmp_path, capsys, files):
    (hostile / f"{BAD_NAME}2.jpg").write_bytes(b"no image")
    (hostile / f"gt_{BAD_NAME}2.txt").write_text("1,1,9,1,9,9,1,9,a\n")
    assert cli.main(["inspect", "icdar2015", str(hostile), "--output", str(tmp_path / "o"), *files]) == 1
    captured = capsys.readouterr()
    check_terminal(captured.out + captured.err)
    assert r"x\udcb3\udcb52.jpg" in captured.out
    assert len(os.listdir(tmp_path / "o")) == (len(HOSTILE) if files else 1)


def test_hostile_names_and_texts_in_the_gallery(hostile, tmp_path):
    """The page holds no element and no attribute that a name or a text could have brought."""
    from html.parser import HTMLParser

    results = tmp_path / "results"
    results.mkdir()
    for name in HOSTILE:
        (results / f"res_{name}.txt").write_text("1,1,9,1,9,9,1,9\n")
        (hostile / f"gt_{name}.txt").write_text(f"{numbers(box(20, 20, 30, 15))},<img src=x onerror=alert(1)>")
    report, gallery = tmp_path / "r.json", tmp_path / "g"
    argv = [
        "evaluate",
        str(results),
        "--ground-truth",
        str(hostile),
        "--output",
        str(report),
        "--gallery",
        str(gallery),
    ]
    assert cli.main([*argv, "--worst", "99"]) == 0
    images = json.loads(report.read_text(encoding="utf-8"))["images"]
    assert sorted(image["image"] for image in images) == sorted(HOSTILE)
    page = (gallery / "index.html").read_text(encoding="utf-8")
    headings, elements = [], set()

    class Reader(HTMLParser):
        tag = None

        def handle_starttag(self, tag, attributes):
            elements.add(tag)
            assert not [name for name, value in attributes if name.startswith("on")]
            assert all("alert" not in (value or "") for _, value in attributes)
            if tag == "h2":
                headings.append("")
            self.tag = tag

        def handle_data(self, data):
            if self.tag == "h2":
                headings[-1] += data

        def handle_endtag(self, tag):
            self.tag = None

    Reader().feed(page)
    assert "script" not in elements and elements <= set(
        "html head meta title style body h1 h2 p table tr th td span div img svg polygon".split()
    )
    expected = {name.encode("utf-8", "backslashreplace").decode() for name in HOSTILE}
    assert len(headings) == len(HOSTILE) and expected <= set(headings)


def test_subsets_keep_names_that_are_no_utf8(hostile, tmp_path):
    names = record_ids(list(read_dataset("icdar2015", hostile)))
    chosen = select_subset(names, shots=len(names), seed=3)
    write_subset(tmp_path / "subset.json", chosen, seed=3)
    assert read_subset(tmp_path / "subset.json") == chosen


@pytest.mark.parametrize("stem", ["a" * 240, "é" * 120, "日" * 80])
def test_names_as_long_as_they_may_be(tmp_path, stem):
    for number in "12":
        write(tmp_path / "s" if number == "1" else tmp_path / "s2", stem)
    records = [*read_dataset("icdar2015", tmp_path / "s"), *read_dataset("icdar2015", tmp_path / "s2")]
    report = prepare.prepare_dataset(records, tmp_path / "out", source=tmp_path)
    assert report["images"] == 2 and len(list(read_dataset("hub", tmp_path / "out"))) == 2
    assert cli.main(["inspect", "icdar2015", str(tmp_path / "s"), "--files", "--output", str(tmp_path / "o")]) == 0


# Suffixes -----------------------------------------------------------------------------------------------------------


def test_all_commands_read_the_same_suffixes(tmp_path, monkeypatch, capsys):
    formats = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "dib": "BMP", "jpx": "JPEG2000", "jpf": "JPEG2000"}
    written = []
    for suffix in IMAGE_SUFFIXES:
        if suffix == ".avif" and not features.check("avif"):
            continue
        name = suffix[1:]
        try:
            write(tmp_path / "s", name, suffix.upper() if len(written) % 2 else suffix, format=formats.get(name))
        except OSError as error:  # a build of Pillow without this encoder
            assert "encoder" in str(error)
            continue
        written.append(name)
    assert len(written) > 15
    assert cli.main(["prepare", "icdar2015", str(tmp_path / "s"), str(tmp_path / "out")]) == 0
    assert "passed over" not in capsys.readouterr().out
    assert sorted(row["file_name"].split("/")[1].split(".")[0] for row in rows(tmp_path / "out" / "train")) == sorted(
        written
    )
    assert sorted(os.path.basename(path).split(".")[0] for path in find_images([str(tmp_path / "s")])) == sorted(
        written
    )
    assert len(list(read_dataset("hub", tmp_path / "out"))) == len(written)
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), split="train")
    assert len(loaded) == len(written) and all(row["image"].size == (60, 40) for row in loaded)


def test_what_is_passed_over_is_told(tmp_path, capsys):
    write(tmp_path / "s", "img_1")
    for name in ("b.heic", "deep/c.HEIC", "d.svg", "e", ".hidden.heic", "__MACOSX/f.heic", "readme.md", "g.csv"):
        path = tmp_path / "s" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert count_passed_over([tmp_path / "s", tmp_path / "s" / "deep", tmp_path / "absent"]) == {
        ".heic": 2,
        ".svg": 1,
        "": 1,
    }
    expected = "warning: 4 files were passed over, by the suffix no image that is read (.heic: 2"
    assert cli.main(["prepare", "icdar2015", str(tmp_path / "s"), str(tmp_path / "out")]) == 0
    assert expected in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "train" / "report.json").read_text())
    assert report["passed_over"] == {".heic": 2, ".svg": 1, "": 1} and "passed over" in report["warnings"][0]
    assert cli.main(["inspect", "icdar2015", str(tmp_path / "s"), "--shots", "0"]) == 0
    assert expected in capsys.readouterr().out
    options = ["--count", "1", "--size", "64", "64", "--workers", "1", "--quiet", "--backgrounds", str(tmp_path / "s")]
    assert cli.main(["synthesize", str(tmp_path / "drawn"), *options]) == 0
    assert "warning: --backgrounds: 4 files were passed over" in capsys.readouterr().err


# Damaged images ---------------------------------------------------------------------------------------------------


def encoded(format, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(*chunks):
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def broken_pictures():
    """One of every kind of exception that Pillow has for damaged files."""
    header = (b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0))
    huge = (b"IHDR", struct.pack(">IIBBBBB", 178_000_000, 1, 8, 2, 0, 0, 0))
    dds = bytearray(encoded("DDS"))
    dds[80:84], dds[84:88] = struct.pack("<I", 4), b"ABCD"
    yield "unknown format of a DDS", bytes(dds)
    if features.check("avif"):
        avif = encoded("AVIF")
        yield "half an AVIF", avif[: len(avif) // 2]
        yield "AVIF without item", avif[:32]
    yield "PNG of absurd size", png(huge, (b"IDAT", b""), (b"IEND", b""))
    yield "PNG whose data ends", png(header, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    yield "PNG whose data is none", png(header, (b"IDAT", b"none"), (b"IEND", b""))
    yield (
        "PNG with a text that explodes",
        png(header, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27))), (b"IDAT", b"")),
    )
    yield "PNG without size", png((b"IHDR", b""), (b"IDAT", b""))
    for format in ("JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000", "TGA", "ICO", "PCX", "SGI", "ICNS"):
        data = encoded(format)
        yield f"half of {format}", data[: len(data) // 2]
        yield f"start of {format}", data[:30]
        yield f"{format} full of 0xff", data[:20] + b"\xff" * 200
    yield "a program of Ghostscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\nshowpage\n"
    yield "nothing", b""


@pytest.mark.parametrize("verify", [False, True])
def test_pictures_of_every_kind_of_damage_are_left_out(tmp_path, capsys, verify):
    folder = tmp_path / "s"
    folder.mkdir()
    write(folder, "whole")
    kinds = dict(broken_pictures())
    for number, data in enumerate(kinds.values()):
        (folder / f"img_{number}.jpg").write_bytes(data)
        (folder / f"gt_img_{number}.txt").write_text(f"{numbers(box(1, 1, 30, 20))},word")
    argv = ["prepare", "icdar2015", str(folder), str(tmp_path / "out"), "--skip-bad", *["--verify"][: int(verify)]]
    assert cli.main(argv) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and "images            " in captured.out
    kept = [row["file_name"] for row in rows(tmp_path / "out" / "train")]
    assert "images/whole.png" in kept
    if verify:
        # What Pillow can read in spite of its damage is an image; everything else is left out, in one line each.
        for name in kept:
            with Image.open(tmp_path / "out" / "train" / name) as image:
                image.load()
        assert len(kept) < 12
    report = json.loads((tmp_path / "out" / "train" / "report.json").read_text())
    assert sum(report["dropped_images"].values()) == len(kinds) + 1 - len(kept)
    examples = report["examples"]["image cannot be read"]
    assert all("\n" not in example and "img_" in example and len(example) < 500 for example in examples)
    assert cli.main(["inspect", "icdar2015", str(folder), "--output", str(tmp_path / "o"), "--shots", "99"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    if verify:
        options = ["--count", "1", "--size", "64", "64", "--workers", "1", "--quiet", "--backgrounds", str(folder)]
        assert cli.main(["synthesize", str(tmp_path / "drawn"), *options]) == 1
        error = capsys.readouterr().err.strip()
        assert error.count("\n") == 0 and "cannot be read" in error


def test_pictures_in_parquet_of_every_kind_of_damage_are_left_out(tmp_path):
    datasets = pytest.importorskip("datasets")
    contents = [encoded("PNG"), *dict(broken_pictures()).values()]
    table = {
        "image": [{"bytes": data, "path": f"{number}.jpg"} for number, data in enumerate(contents)],
        "polygons": [[box(1, 1, 30, 20)]] * len(contents),
        "ignore": [[False]] * len(contents),
        "text": [["a"]] * len(contents),
    }
    features_of = datasets.Features(
        {
            "image": datasets.Image(decode=False),
            "polygons": [[[datasets.Value("float32")]]],
            "ignore": [datasets.Value("bool")],
            "text": [datasets.Value("string")],
        }
    )
    (tmp_path / "s").mkdir()
    datasets.Dataset.from_dict(table, features=features_of).to_parquet(str(tmp_path / "s" / "train.parquet"))
    assert cli.main(["prepare", "hub", str(tmp_path / "s"), str(tmp_path / "out"), "--verify", "--skip-bad"]) == 1
    assert (tmp_path / "out" / "train" / rows(tmp_path / "out" / "train")[0]["file_name"]).read_bytes() == contents[0]


# Standard output ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["prepare", "inspect"])
def test_a_full_standard_output_is_one_line(tmp_path, command):
    write(tmp_path / "s", "img_1")
    argv = [
        command,
        "icdar2015",
        str(tmp_path / "s"),
        *([str(tmp_path / "out")] if command == "prepare" else ["--shots", "0"]),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = "import sys; from tcm_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", program, *argv], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    errors = [
        line for line in result.stderr.replace("\r", "\n").splitlines() if "image" not in line or "error" in line
    ]
    assert result.returncode == 1 and len([line for line in errors if line.strip()]) == 1, result.stderr
    assert f"tcm-hf {command}: error: cannot write to " in result.stderr and "No space left" in result.stderr
    if command == "prepare":
        assert len(rows(tmp_path / "out" / "train")) == 1


def test_names_that_the_terminal_cannot_show(tmp_path):
    write(tmp_path / "s", "日本")
    shutil.copy(tmp_path / "s" / "日本.png", tmp_path / "s" / "語.png")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    program = "import sys; from tcm_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = ["prepare", "icdar2015", str(tmp_path / "s"), str(tmp_path / "日")]
    result = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and r"\u8a9e.png" in result.stderr and "Traceback" not in result.stderr
    (tmp_path / "s" / "語.png").unlink()
    result = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and r"\u65e5" in result.stdout, result.stderr
