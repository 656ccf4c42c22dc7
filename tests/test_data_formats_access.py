# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""What readers open and what not, and how much memory they take."""

import builtins
import json
import os
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from annotation_samples import (
    CURVES,
    QUADS,
    SAMPLES,
    box,
    cells,
    coco_json,
    ctw1500_xml,
    cvat_xml,
    hub_line,
    label_studio_json,
    label_studio_min_json,
    labelme_json,
    mat_file,
    mat_matrix,
    mmocr_json,
    paddle_line,
    save_pictures,
    synthtext_mat,
    via3_json,
    via_json,
    voc_xml,
    write_sample,
)
from PIL import Image

from tcm_hf.data.formats import AnnotationError, AnnotationWarning, load_image, parse_ctw1500, read_dataset
from tcm_hf.data.formats.files import parse_json
from tcm_hf.data.formats.matlab import read_mat


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """An image beside the data set that nobody may open."""
    path = tmp_path / "private" / "secret.png"
    path.parent.mkdir()
    Image.new("RGB", (640, 480), (1, 2, 3)).save(path)
    (path.parent / "gt_secret.txt").write_text("1,2,9,2,9,9,1,9,secret")
    really_open = builtins.open

    def watched(file, *arguments, **keywords):
        assert "private" not in os.path.realpath(file) if isinstance(file, (str, Path)) else True, file
        return really_open(file, *arguments, **keywords)

    monkeypatch.setattr(builtins, "open", watched)
    return path


def with_name(format, name):
    """The annotation file of a format that names one image."""
    picture = QUADS[0]
    if format == "hub":
        return "metadata.jsonl", json.dumps({**json.loads(hub_line(picture)), "file_name": name})
    if format == "paddleocr":
        return "Label.txt", f"{name}\t{paddle_line(picture).partition(chr(9))[2]}"
    if format in ("art", "lsvt"):
        return "train_labels.json", json.dumps({name: []})
    if format in ("cocotext", "textocr"):
        return "a.json", json.dumps({"imgs": {"1": {"file_name": name, "set": "train"}}, "anns": {}})
    if format == "labelme":
        return "a.json", json.dumps({**labelme_json(picture), "imagePath": name})
    if format == "coco":
        content = coco_json([picture])
        content["images"][0]["file_name"] = name
        return "a.json", json.dumps(content)
    if format == "csv":
        return "a.csv", f'image,xmin,ymin,xmax,ymax\n"{name}",1,2,9,9\n'
    if format == "cvat":
        return "a.xml", cvat_xml([picture], name.replace("{", "{{").replace("}", "}}"))
    if format == "labelstudio-min":
        return "a.json", json.dumps(label_studio_min_json([picture], name))
    if format == "labelstudio":
        return "a.json", json.dumps(label_studio_json([picture], name))
    if format == "via-3":
        return "a.json", json.dumps(via3_json([picture], name))
    if format == "via":
        return "a.json", json.dumps(via_json([picture], name))
    if format == "voc":
        return "a.xml", voc_xml(picture, name)
    if format == "doctr":
        return "labels.json", json.dumps({name: {"polygons": [QUADS[0].words[0].points]}})
    assert format == "mmocr"
    content = mmocr_json([picture])
    content["data_list"][0]["img_path"] = name
    return "a.json", json.dumps(content)


NAMING = ("hub", "paddleocr", "art", "lsvt", "cocotext", "textocr", "labelme", "coco", "mmocr")
NAMING += ("csv", "cvat", "labelstudio", "via", "voc", "doctr", "labelstudio-min", "via-3", "synthtext")


@pytest.mark.parametrize("format", NAMING)
@pytest.mark.parametrize(
    "name", ["../private/secret.png", "{}", "x/../../private/secret.png", "..\\private\\secret.png"]
)
@pytest.mark.filterwarnings("ignore::tcm_hf.data.formats.AnnotationWarning")
def test_names_that_lead_outside(format, name, secret, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    name = name.format(secret)
    if format == "synthtext":
        words = cells(np.zeros((2, 4)))
        (folder / "gt.mat").write_bytes(mat_file({"imnames": cells(name), "wordBB": words, "txt": cells("a")}))
    else:
        file, content = with_name(format, name)
        (folder / file).write_text(content)
    format = format.split("-")[0]
    with pytest.raises(AnnotationError, match=r"set/.*secret\.png' leads outside of the data set.*--allow-outside"):
        list(read_dataset(format, folder))
    assert list(read_dataset(format, folder, missing="skip")) == []
    for record in read_dataset(format, folder, missing="keep"):
        assert record.image == folder / "secret.png"
    # One of that name inside is what is meant, as with the absolute names of another computer.
    (folder / "sub").mkdir()
    Image.new("RGB", (640, 480)).save(folder / "sub" / "secret.png")
    (record,) = read_dataset(format, folder)
    assert record.image == folder / "sub" / "secret.png"


@pytest.mark.filterwarnings("ignore::tcm_hf.data.formats.AnnotationWarning")
def test_what_is_allowed_is_opened(tmp_path):
    (tmp_path / "set").mkdir()
    save_pictures(tmp_path / "private", ["secret"])
    for format in NAMING[:-1]:
        file, content = with_name(format, "../private/secret.jpg")
        (tmp_path / "set" / file).write_text(content)
        format = format.split("-")[0]
        (record,) = read_dataset(
            format, tmp_path / "set" / file if format != "hub" else tmp_path / "set", allow_outside=True
        )
        assert load_image(record.image).shape == (480, 640, 3)
        if format not in ("hub",):
            (record,) = read_dataset(format, tmp_path / "set" / file, images=tmp_path / "private")
            assert load_image(record.image).shape == (480, 640, 3)


@pytest.mark.parametrize("format", SAMPLES)
@pytest.mark.filterwarnings("ignore::tcm_hf.data.formats.AnnotationWarning")
def test_pictures_and_annotations_that_are_links(format, tmp_path):
    write_sample(format, tmp_path / "private")
    folder = tmp_path / "set"
    for part in ("pictures", "annotations"):
        folder.mkdir()
        for path in sorted((tmp_path / "private").rglob("*")):
            target = folder / path.relative_to(tmp_path / "private")
            if path.is_dir():
                target.mkdir()
            elif (path.suffix == ".jpg") == (part == "pictures"):
                target.symlink_to(path)
            else:
                target.write_bytes(path.read_bytes())
        with pytest.raises(AnnotationError, match=r"set/.*leads outside of the data set"):
            list(read_dataset(format.split("-")[0], folder))
        allowed = list(read_dataset(format.split("-")[0], folder, allow_outside=True))
        assert allowed and all(load_image(record.image).shape == (480, 640, 3) for record in allowed)
        folder.rename(tmp_path / part)


def test_folders_that_are_links(tmp_path):
    write_sample("icdar2015", tmp_path / "set")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set" / "gt")
    (tmp_path / "set" / "gt" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "itself").symlink_to(tmp_path / "set" / "itself")
    assert len(list(read_dataset("icdar2015", tmp_path / "set"))) == 3
    # A hidden folder that a link shows, and a folder elsewhere.
    (tmp_path / "set" / "gt").rename(tmp_path / "set" / ".store")
    for link in ("again", "gt"):
        (tmp_path / "set" / link).unlink(missing_ok=True)
    (tmp_path / "set" / "gt").symlink_to(".store")
    assert len(list(read_dataset("icdar2015", tmp_path / "set"))) == 3
    (tmp_path / "set" / ".store").rename(tmp_path / "elsewhere")
    (tmp_path / "set" / "gt").unlink()
    (tmp_path / "set" / "gt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AnnotationError, match="gt' leads outside of the data set"):
        read_dataset("icdar2015", tmp_path / "set")
    assert len(list(read_dataset("icdar2015", tmp_path / "set", allow_outside=True))) == 3
    assert len(list(read_dataset("icdar2015", tmp_path / "set", annotations=tmp_path / "elsewhere"))) == 3
    # The folder that the user names may be a link.
    (tmp_path / "named").symlink_to(tmp_path / "set")
    assert len(list(read_dataset("icdar2015", tmp_path / "named", annotations=tmp_path / "elsewhere"))) == 3


def test_backgrounds_of_rendered_words(tmp_path, capsys):
    from tcm_hf.cli import main

    save_pictures(tmp_path / "private", ["secret"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jpg").symlink_to(tmp_path / "private" / "secret.jpg")
    command = ["synthesize", str(tmp_path / "out"), "--count", "1", "--backgrounds", str(tmp_path / "set")]
    assert main(command) == 1
    assert "a.jpg' leads outside of the data set" in capsys.readouterr().err
    assert main([*command, "--allow-outside", "--workers", "1"]) == 0


def test_training_reads_nothing_outside(tmp_path):
    from tcm_hf.training import DataArguments
    from tcm_hf.training.sources import read_sources

    save_pictures(tmp_path / "private", ["img_1"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "img_1.jpg").symlink_to(tmp_path / "private" / "img_1.jpg")
    (tmp_path / "set" / "metadata.jsonl").write_text(hub_line(QUADS[0]))
    with pytest.raises(AnnotationError, match="leads outside of the data set.*--allow-outside"):
        read_sources(DataArguments(train_dir=str(tmp_path / "set")))
    [group], _ = read_sources(DataArguments(train_dir=str(tmp_path / "set"), allow_outside=True))
    assert load_image(group.records[0].image).shape == (480, 640, 3)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match="nor a parquet file"):
        read_dataset("hub", tmp_path)


# Names without encoding


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode("店.jpg".encode("gbk"))
    save_pictures(tmp_path, ["店"])
    os.rename(tmp_path / "店.jpg", tmp_path / name)
    (tmp_path / os.fsdecode("gt_店.txt".encode("gbk"))).write_text("1,2,9,2,9,9,1,9,a")
    (record,) = read_dataset("icdar2015", tmp_path)
    assert record.image.name == name and load_image(record.image).shape == (480, 640, 3)
    # As JSON that Python wrote has it, and in the encoding of the annotations.
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": name, "polygons": []}))
    (record,) = read_dataset("hub", tmp_path)
    assert record.image.name == name
    (tmp_path / "Label.txt").write_bytes("店.jpg\t[]".encode("gbk"))
    (record,) = read_dataset("paddleocr", tmp_path, encoding="gbk")
    assert record.image.name == name
    with pytest.raises(AnnotationError, match=r"Label\.txt: not UTF-8 text .*--encoding"):
        list(read_dataset("paddleocr", tmp_path))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "\\ud800.jpg", "polygons": []}')
    with pytest.raises(AnnotationError, match="no name of an image file"):
        list(read_dataset("hub", tmp_path))


# Memory and time


def peak_and_error(folder, format, **options):
    """Peak memory of reading in MiB, beyond that of the imports, and the error's text."""
    code = """
import json, resource, sys, time
from tcm_hf.data.formats import AnnotationError, read_dataset
import tcm_hf.data.formats.curved, defusedxml.ElementTree
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start, error = peak(), time.process_time(), ""
try:
    for record in read_dataset(sys.argv[1], sys.argv[2], missing="keep", **json.loads(sys.argv[3])):
        pass
except AnnotationError as caught:
    error = str(caught)
print(json.dumps([peak() - before, time.process_time() - start, error]))
"""
    arguments = [sys.executable, "-W", "ignore", "-c", code, format, str(folder), json.dumps(options)]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def bomb(size=2**30 + 2**20):
    """Cells that declare a gigabyte, of which a megabyte is there."""
    element = mat_matrix(cells("x:", "a", "y:", "b", "t", "c", shape=(1, 6)), "polygt")
    compress = zlib.compressobj(9)
    packed = compress.compress((14).to_bytes(4, "little") + size.to_bytes(4, "little") + element[8:56])
    for _ in range(size // 2**20):
        packed += compress.compress(bytes(2**20))
    packed += compress.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    return head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed


def test_a_large_mat_in_a_small_file(tmp_path):
    save_pictures(tmp_path, ["img1"])
    data = bomb()
    assert len(data) < 1.2e6
    (tmp_path / "poly_gt_img1.mat").write_bytes(data)
    peak, seconds, error = peak_and_error(tmp_path, "totaltext")
    assert "poly_gt_img1.mat, polygt: would take about 2,050 MiB of memory" in error and "--memory-limit" in error
    assert peak < 50 and seconds < 5
    with pytest.raises(AnnotationError, match="the limit is 1 MiB"):
        read_mat(tmp_path / "poly_gt_img1.mat", "polygt", 2**20)


@pytest.mark.parametrize(
    "variable",
    [
        cells(*["x"] * 2000),
        cells(*[np.empty((0, 0))] * 2000),
        ["ab"] * 4000,
        cells(*[cells(*["x"] * 20)] * 100),
    ],
)
def test_many_small_values_count_too(variable, tmp_path):
    (tmp_path / "a.mat").write_bytes(mat_file({"polygt": variable}, True))
    read_mat(tmp_path / "a.mat", "polygt", 2**22)
    with pytest.raises(AnnotationError, match="the limit is 0 MiB"):
        read_mat(tmp_path / "a.mat", "polygt", 2**18)


def test_cells_without_end(tmp_path):
    data = mat_file({"imnames": cells("a"), "wordBB": cells(np.zeros((2, 4))), "txt": cells("a")})
    ones = (1).to_bytes(4, "little") * 2
    (tmp_path / "gt.mat").write_bytes(data.replace(ones, (2**31 - 1).to_bytes(4, "little") * 2))
    with pytest.raises(AnnotationError, match="cells are more than 10000000"):
        list(read_dataset("synthtext", tmp_path, missing="keep"))
    (tmp_path / "gt.mat").write_bytes(synthtext_mat(QUADS[:2]))
    with pytest.raises(AnnotationError, match="cell 1: would take"):
        list(read_dataset("synthtext", tmp_path, missing="keep", memory_limit=100))


@pytest.mark.slow
@pytest.mark.parametrize(
    "format, name, head, repeated, tail",
    [
        ("coco", "a.json", '{"images": [', "[],", "0]}"),
        ("coco", "a.json", '{"images": [', '{"a":1},', "0]}"),
        ("coco", "a.json", '{"images": "', "x", '"}'),
        ("mmocr", "a.json", '{"data_list": [', "1,", "0]}"),
        ("hub", "metadata.jsonl", '{"file_name": "a.jpg", "polygons": [', "[],", "0]}"),
        ("paddleocr", "Label.txt", "a.jpg\t[", "{},", "0]"),
        ("icdar2015", "gt_a.txt", "", "1\n", ""),
        ("icdar2015", "gt_a.txt", "0,0,9,0,9,9,0,9,", "x", "\n"),
        ("icdar2013", "gt_a.txt", "1", " ", "x"),
        ("totaltext", "gt_a.txt", "x: [[", "1 ", "]]"),
        ("ctw1500", "a.xml", "<a>", "<b/>", "</a>"),
    ],
)
def test_hundred_megabytes_stay_within_two_gigabytes(format, name, head, repeated, tail, tmp_path):
    save_pictures(tmp_path, ["a"])
    (tmp_path / name).write_text(head + repeated * (100_000_000 // len(repeated)) + tail)
    peak, seconds, error = peak_and_error(tmp_path, format)
    assert peak < 2000 and seconds < 60 and len(error) < 2000
    assert name in error


def test_the_estimate_of_json_is_not_far_off():
    import tracemalloc

    for text in (
        json.dumps(coco_json(QUADS * 300)),
        json.dumps([[]] * 30_000),
        json.dumps([{"a": 1}] * 30_000),
        json.dumps([1.5] * 100_000),
        json.dumps(["abc def"] * 50_000),
        json.dumps({f"k{i}": None for i in range(30_000)}),
    ):
        from tcm_hf.data.formats.access import json_memory

        tracemalloc.start()
        content = parse_json(text, "a.json")
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert content and 0.3 * taken < json_memory(text) < 3 * taken + len(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900])
@pytest.mark.parametrize("format", ["coco", "hub", "labelme", "paddleocr"])
def test_deep_json(format, text, tmp_path):
    save_pictures(tmp_path, ["a"])
    name = {"hub": "metadata.jsonl", "paddleocr": "Label.txt"}.get(format, "a.json")
    (tmp_path / name).write_text("a.jpg\t" + text if format == "paddleocr" else text)
    with pytest.raises(AnnotationError, match=name):
        list(read_dataset(format, tmp_path))
    field = {"coco": "images", "hub": "file_name", "labelme": "shapes", "paddleocr": "points"}[format]
    content = f'{{"{field}": {{"a": {"[" * 800 + "]" * 800}}}}}'
    (tmp_path / name).write_text(f"a.jpg\t[{content}]" if format == "paddleocr" else content)
    with pytest.raises(AnnotationError, match=name) as error:
        list(read_dataset(format, tmp_path))
    assert len(str(error.value)) < 500


def test_a_field_that_is_given_twice(tmp_path):
    save_pictures(tmp_path, ["gt_0"])
    (tmp_path / "train_labels.json").write_text('{"gt_0": [], "gt_0": []}')
    with pytest.raises(AnnotationError, match="the field 'gt_0' is given twice"):
        read_dataset("art", tmp_path)


def test_frames_of_too_many_pixels(tmp_path):
    save_pictures(tmp_path, ["a"])
    row = {"file_name": "a.jpg", "polygons": [], "width": 10_000_000, "height": 10_000_000}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(AnnotationError, match="too many for an image"):
        list(read_dataset("hub", tmp_path))


def test_long_lines_make_short_messages(tmp_path):
    save_pictures(tmp_path, ["a"])
    for format, line in (
        ("icdar2015", "x" * 10**6),
        ("icdar2013", "1" + " " * 10**6 + "x"),
        ("totaltext", "1,2,3," + "y" * 10**6),
        ("mlt2017", "9" * 10**6 + ",2,3,4,5,6,7,8,Latin,a"),
        ("td500", "1 " * 10**6),
        ("icdar2015", "1,2,3,4,5,6,7,8" + ",1" * 10**6),
    ):
        (tmp_path / "gt_a.txt").write_text(line)
        with pytest.raises(AnnotationError, match=r"gt_a\.txt, line 1") as error:
            list(read_dataset(format, tmp_path))
        assert len(str(error.value)) < 1000


# XML

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "iso-8859-1", "cp1252")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_xml_in_every_encoding(encoding, tmp_path):
    path = tmp_path / "a.xml"
    text = ctw1500_xml(CURVES[1]).replace("Shop", "Caf\u00e9 & Shop").replace("UTF-8", encoding.removesuffix("-sig"))
    path.write_bytes(text.encode(encoding))
    assert parse_ctw1500(path).texts == ["Caf\u00e9 & Shop & Co"]
    for declaration in (
        '<!DOCTYPE Annotations [<!ENTITY b "c">]>',
        "<!DOCTYPE Annotations>",
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;]>',
    ):
        hostile = text.replace("<Annotations>", declaration + "<Annotations>").replace("Shop", "&b;")
        path.write_bytes(hostile.encode(encoding))
        with pytest.raises(AnnotationError, match=r"a\.xml: a document type or entities of its own") as error:
            parse_ctw1500(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["rot13", "zlib", "unicode_escape", "utf-7", "idna", "punycode", "utf-16", "klingon"])
def test_encodings_that_xml_may_not_ask_for(name, tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(ctw1500_xml(CURVES[1]).replace("UTF-8", name).encode())
    with pytest.raises(AnnotationError, match="encoding that is not read"):
        parse_ctw1500(path)


# What is probably meant otherwise


# Integers only, or fractions in every case.
NO_FRACTIONS = ("totaltext", "td500", "tr400", "yolo", "labelstudio", "labelstudio-min")


def warned(read):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = list(read())
    assert all(warning.category is AnnotationWarning for warning in caught)
    return records, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("format", [name for name in SAMPLES if name not in NO_FRACTIONS])
@pytest.mark.filterwarnings("ignore::tcm_hf.data.formats.AnnotationWarning")
def test_fractions_are_told_and_read(format, tmp_path):
    from annotation_samples import Picture, Word, picture_names, sample_files

    points = [[1 / 16 + k / 32, 0.25] for k in range(7)] + [[1 / 4 - k / 32, 0.5] for k in range(7)]
    if "ctw1500" not in format:
        points = [[0.125, 0.25], [0.5, 0.25], [0.5, 0.75], [0.125, 0.75]]
    name = "1001" if "ctw1500" in format else picture_names(format)[0]
    pictures = [Picture(name, [Word(points, "shop", language="Latin")])]
    if format == "totaltext-mat":
        from annotation_samples import mat_file as write

        xs, ys = np.array(points).T
        (tmp_path / f"poly_gt_{name}.mat").write_bytes(
            write({"polygt": cells("x:", xs[None], "y:", ys[None], "shop", "c", shape=(1, 6))})
        )
        save_pictures(tmp_path, [name])
    else:
        write_sample(format, tmp_path, pictures)
        assert sample_files(format, pictures)
    _, messages = warned(lambda: read_dataset(format.split("-")[0], tmp_path))
    assert any("smaller than a pixel" in message and "--normalized" in message for message in messages)
    (record,) = read_dataset(format.split("-")[0], tmp_path, normalized=True)
    np.testing.assert_allclose(record.polygons[0], np.array(points) * (640, 480), atol=1e-3)
    (tmp_path / "pixels").mkdir()
    write_sample(format, tmp_path / "pixels")
    with pytest.raises(AnnotationError, match="no fraction of the image's"):
        list(read_dataset(format.split("-")[0], tmp_path / "pixels", normalized=True))


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_fractions_of_turned_pictures(tag, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.new("RGB", (64, 40)).save(tmp_path / "a.jpg", exif=exif)
    for orientation in ("stored", "upright"):
        (tmp_path / "gt_a.txt").write_text("16,10,48,10,48,20,16,20,a")
        if orientation == "upright" and tag in (6, 8):
            (tmp_path / "gt_a.txt").write_text("10,16,30,16,30,32,10,32,a")
        (expected,) = read_dataset("icdar2015", tmp_path, orientation=orientation)
        (tmp_path / "gt_a.txt").write_text("0.25,0.25,0.75,0.25,0.75,0.5,0.25,0.5,a")
        (record,) = read_dataset("icdar2015", tmp_path, orientation=orientation, normalized=True)
        np.testing.assert_allclose(record.polygons[0], expected.polygons[0], atol=1e-4)


def test_pictures_that_are_listed_twice(tmp_path):
    save_pictures(tmp_path, ["img_1", "img_2"])
    lines = [
        {"file_name": f"img_{n}.jpg", "polygons": [box(x, 1)], "text": [f"w{x}"], "ignore": [x > 5]}
        for n, x in ((1, 1), (2, 3), (1, 5), (1, 7))
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    records, messages = warned(lambda: read_dataset("hub", tmp_path))
    assert len(records) == 4 and len(messages) == 1
    assert "2 more records of images that are listed already" in messages[0] and "--merge-duplicates" in messages[0]
    records, messages = warned(lambda: read_dataset("hub", tmp_path, merge_duplicates=True))
    assert messages == [] and [record.texts for record in records] == [["w1", "w5", "w7"], ["w3"]]
    assert records[0].ignore == [False, False, True] and len(records[0].polygons) == 3
    content = coco_json(QUADS[:1] * 2)
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert "listed already" in warned(lambda: read_dataset("coco", tmp_path))[1][0]
    (record,) = read_dataset("coco", tmp_path, merge_duplicates=True)
    assert len(record.polygons) == 6


def test_coco_categories_are_told(tmp_path):
    content = coco_json(QUADS)
    (tmp_path / "a.json").write_text(json.dumps(content))
    save_pictures(tmp_path, [picture.name for picture in QUADS])
    assert warned(lambda: read_dataset("coco", tmp_path))[1] == []
    content["annotations"][0]["category_id"] = 2
    (tmp_path / "a.json").write_text(json.dumps(content))
    records, messages = warned(lambda: read_dataset("coco", tmp_path))
    assert len(messages) == 1 and "'cat' (1)" in messages[0] and "--categories" in messages[0]
    for categories in (["text"], "text"):
        records, messages = warned(lambda categories=categories: read_dataset("coco", tmp_path, categories=categories))
        assert messages == [] and len(records[0].polygons) == 2
    content["categories"] = [{"id": 1, "name": "car"}]
    content["annotations"][0]["category_id"] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert "'car' (4)" in warned(lambda: read_dataset("coco", tmp_path))[1][0]


def test_labelme_labels_are_told(tmp_path):
    content = labelme_json(QUADS[0])
    labels = ["plate", "text", "car", "Ignore"]
    content["shapes"] = [{"label": label, "points": box(1 + k, 2)} for k, label in enumerate(labels)]
    (tmp_path / "a.json").write_text(json.dumps(content))
    save_pictures(tmp_path, ["img_1"])
    ((record,), messages) = warned(lambda: read_dataset("labelme", tmp_path))
    assert record.texts == ["plate", None, "car", "Ignore"] and record.ignore == [False, False, False, True]
    assert len(messages) == 1 and "2 shapes" in messages[0] and "'plate', 'car'" in messages[0]
    assert "--labels" in messages[0] and "--categories" in messages[0]
    ((record,), messages) = warned(lambda: read_dataset("labelme", tmp_path, labels="class"))
    assert record.texts == [None] * 4 and record.ignore[-1] and messages == []
    ((record,), messages) = warned(lambda: read_dataset("labelme", tmp_path, labels="transcription"))
    assert record.texts == labels and messages == []
    ((record,), messages) = warned(lambda: read_dataset("labelme", tmp_path, categories=["plate", "text"]))
    assert (
        [polygon[0, 0] for polygon in record.polygons] == [1, 2, 4] and record.texts == [None] * 3 and messages == []
    )


# Lines with more or fewer numbers

QUAD_LINE = "60,60,255,60,255,112,60,112"


@pytest.mark.parametrize(
    "format, line",
    [
        ("icdar2015", "60,60,120,58,180,58,255,60,255,112,180,114,120,114,shop"),
        ("icdar2015", "60,60,120,58,180,58,255,60,255,112,180,114,120,114"),
        ("icdar2015", f"{QUAD_LINE},50,90,shop"),
        ("icdar2015", "60,60,150,40,255,60,255,112,150,120"),
        ("icdar2015", "60,5,60,255,5,60,255,112,60,112"),
        ("icdar2015", "60,60,255,60,255,112,60,5,112,5"),
        ("icdar2013", "60,5,60,255,5,112"),
        ("icdar2015", "60,5,60,0,255,5,60,0,255,5,112,0,60,5,112,0,shop"),
        ("icdar2015", "60,5;60,0;255,5;60,0;255,5;112,0;60,5;112,0,shop"),
        ("icdar2013", "60, 60, 255, 112, 60, 112, shop"),
        ("icdar2013", "60 60 255 112 255 120 60 112 shop"),
        ("icdar2013", "60,5, 60,0, 255,5, 112,0, shop"),
        ("mlt2017", f"{QUAD_LINE},50,90,Latin,shop"),
        ("mlt2017", "60,60,120,58,180,58,255,60,255,112,180,114,120,114,Latin,shop"),
        ("td500", "60,60,255,112,0.5,70,80,shop"),
        ("td500", "0 0 60 60 100 20 0 5"),
        ("ctw1500", ",".join(map(str, range(60, 92))) + ",####shop"),
        ("ctw1500", ",".join(map(str, range(60, 90))) + ",shop"),
    ],
)
def test_lines_with_too_many_numbers_are_refused(format, line, tmp_path):
    name = "1.txt" if format == "ctw1500" else "gt_1.txt"
    save_pictures(tmp_path, ["1"])
    (tmp_path / name).write_text(line)
    with pytest.raises(AnnotationError, match=rf"{name}, line 1: "):
        list(read_dataset(format, tmp_path))


@pytest.mark.parametrize(
    "text",
    ["12,50", "410,310", "460,300", "1996", "1,000,000", "1,234,567,890", "020 7946 0958 12", "3,5,7 days", "10%"],
)
def test_numbers_that_are_text(text, tmp_path):
    save_pictures(tmp_path, ["1"])
    line = "400,300,460,300,460,320,400,320"
    (tmp_path / "gt_1.txt").write_text(f"{line},{text}")
    (record,) = read_dataset("icdar2015", tmp_path)
    assert record.texts == [text] and record.polygons[0].shape == (4, 2)
    (tmp_path / "gt_1.txt").write_text(f"{line},Latin,{text}")
    (record,) = read_dataset("mlt2017", tmp_path)
    assert record.texts == [text]


@pytest.mark.parametrize(
    "format, line, points",
    [
        ("icdar2015", QUAD_LINE, 4),
        ("icdar2015", f" {QUAD_LINE} ", 4),
        ("mlt2017", QUAD_LINE, 4),
        ("totaltext", QUAD_LINE, 4),
        ("totaltext", f"{QUAD_LINE},40,90", 5),
        ("icdar2013", "60,60,255,112", 4),
        ("td500", "60,60,255,112,0.1", 4),
    ],
)
def test_numbers_without_transcription(format, line, points, tmp_path):
    save_pictures(tmp_path, ["1"])
    (tmp_path / "gt_1.txt").write_text(line)
    (record,) = read_dataset(format, tmp_path)
    assert record.texts == [None] and record.polygons[0].shape == (points, 2) and record.ignore == [False]
