# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Results in the formats of others: read back by our readers, and harmless whatever names and texts are in them."""

import argparse
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tcm_hf.commands.errors import UsageError
from tcm_hf.commands.format_writer import (
    FOLDER_FORMATS,
    FORMAT_NAMES,
    build_result_writer,
    check_place,
    result_format,
)
from tcm_hf.data.formats import read_dataset
from tcm_hf.outputs.annotations import as_csv, as_hocr, markup
from tcm_hf.outputs.names import FileNames, entry_stem, image_name
from tcm_hf.outputs.registry import OUTPUT_FORMATS


QUADS = [
    [[10.25, 10.5], [90.75, 12.0], [89.0, 30.25], [9.5, 28.0]],
    [[100.0, 50.0], [180.0, 50.0], [180.0, 70.0], [100.0, 70.0]],
    [[0.0, 0.0], [199.0, 0.0], [200.0, 9.0], [0.0, 8.0]],
]
BENT = [[20.0, 60.0], [60.0, 40.5], [100.0, 60.25], [100.0, 80.0], [60.0, 60.0], [20.0, 80.75]]


def detection(polygon, score=0.75, **more):
    points = np.asarray(polygon)
    (xmin, ymin), (xmax, ymax) = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
    box = {"xmin": int(xmin), "ymin": int(ymin), "xmax": int(xmax), "ymax": int(ymax)}
    return {"score": score, "label": "text", "box": box, "polygon": polygon, **more}


def entry(name, polygons=(), size=(200, 100), **more):
    return {
        "image": str(name),
        "width": size[0],
        "height": size[1],
        "detections": [detection(each, **more) for each in polygons],
    }


def write(format, output, entries, inputs=()):
    writer = build_result_writer(argparse.Namespace(format=format, output=output), inputs)
    writer.open()
    try:
        for each in entries:
            writer.write(each)
    finally:
        writer.close()
    return writer


@pytest.fixture
def images(tmp_path):
    """Three images, of which the last has no text and one cannot be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        Image.new("RGB", (200, 100)).save(folder / name)
    return folder


def read_back(format, output, images):
    reader = {"yolo-seg": "yolo", "yolo-obb": "yolo", "icdar": "icdar2015"}.get(format, format)
    return {Path(record.image).name: record for record in read_dataset(reader, output, images=images)}


READABLE = [
    ("coco", "found.json"),
    ("paddleocr", "Label.txt"),
    ("csv", "found.csv"),
    *((name, "found") for name in ("icdar", "labelme", "yolo-seg", "yolo-obb")),
]


@pytest.mark.parametrize("format, name", READABLE)
def test_our_readers_read_what_was_written(format, name, images, tmp_path):
    polygons = [*QUADS] if format in ("icdar", "yolo-obb") else [*QUADS, BENT]
    entries = [
        entry(images / "1.jpg", polygons),
        entry(images / "2.jpg", polygons[:1]),
        {"image": str(images / "broken.jpg"), "error": "damaged"},
        entry(images / "3.jpg"),
    ]
    write(format, tmp_path / name, entries)
    records = read_back(format, tmp_path / name, images)
    assert set(records) == {"1.jpg", "2.jpg", "3.jpg"} and records["3.jpg"].polygons == []
    tolerance = 0.5 if format == "icdar" else 0.02  # of a pixel
    for file, expected in (("1.jpg", polygons), ("2.jpg", polygons[:1])):
        assert len(records[file].polygons) == len(expected)
        for polygon, known in zip(records[file].polygons, expected):
            assert polygon.shape == np.shape(known) and np.abs(polygon - known).max() <= tolerance
        assert not any(records[file].ignore) and not any(records[file].texts)


@pytest.mark.parametrize("format, name", [each for each in READABLE if not each[0].startswith("yolo")])
def test_texts_are_read_back(format, name, images, tmp_path):
    write(format, tmp_path / name, [entry(images / "1.jpg", QUADS[:1], text='Café "3,50"')])
    Path(images / "2.jpg").unlink(), Path(images / "3.jpg").unlink()
    assert read_back(format, tmp_path / name, images)["1.jpg"].texts == ['Café "3,50"']


@pytest.mark.parametrize("format", ["icdar", "yolo-obb"])
def test_formats_of_four_corners_get_the_rectangle_around_a_bent_word(format, images, tmp_path):
    write(format, tmp_path / "found", [entry(images / name, [BENT]) for name in ("1.jpg", "2.jpg", "3.jpg")])
    (polygon,) = read_back(format, tmp_path / "found", images)["1.jpg"].polygons
    assert polygon.shape == (4, 2)
    assert np.abs(polygon.min(0) - (20, 40.5)).max() <= 0.5 and np.abs(polygon.max(0) - (100, 80.75)).max() <= 0.5


HOSTILE = ['=cmd|"/c calc"!A1', "@SUM(1)", "+1", "-1", '<script>alert(1)</script>', "\"'><img src=x onerror=alert(1)>", "a;b\\c\"d", "]]>&amp;<!--", "\x00\x07\x1b[31m", "名\u2028前", "a\tb", "a\nb", "\udcff"]  # fmt: skip


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_hostile_names_and_texts(format, tmp_path):
    for index, text in enumerate(HOSTILE):
        output = tmp_path / f"out{index}"
        try:
            write(format, output, [entry(f"{text}.jpg", QUADS[:1], text=text)])
        except ValueError as error:
            assert format == "paddleocr" and "rename the file" in str(error) and "\n" not in str(error)
            continue
        files = [path for path in output.rglob("*") if path.is_file()] if output.is_dir() else [output]
        assert files and all(path.resolve().is_relative_to(tmp_path) for path in files)
        for path in files:
            content = path.read_bytes().decode("utf-8")
            if path.suffix == ".xml" or format == "hocr":
                root = ElementTree.fromstring(content)
                assert not [node for node in root.iter() if node.tag.split("}")[-1] in ("script", "img")]
                assert markup(text).split(";")[0] in content or text.isspace()
            elif format == "csv":
                rows = list(csv.reader(io.StringIO(content, newline="")))
                assert len(rows) == 2 and len(rows[1]) == 7
                assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in rows for cell in row)
            elif format in ("coco", "labelme", "json"):
                json.loads(content)


def test_a_name_that_would_be_a_formula_is_found_again(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "=1+1.jpg")
    write("csv", tmp_path / "found.csv", [entry(tmp_path / "=1+1.jpg", QUADS)])
    (record,) = read_dataset("csv", tmp_path / "found.csv")
    assert len(record.polygons) == 3 and record.image.name == "=1+1.jpg"


def test_hocr_and_alto_have_boxes_polygons_and_scores(tmp_path):
    write("hocr", tmp_path / "page.hocr", [entry("a.jpg", [BENT], score=0.876, text="Ba & r"), entry("b.jpg")])
    root = ElementTree.parse(tmp_path / "page.hocr").getroot()
    found = {node.get("class"): node for node in root.iter() if node.get("class")}
    assert found["ocrx_word"].get("title") == "bbox 20 40 100 81; x_wconf 88" and found["ocrx_word"].text == "Ba & r"
    assert "poly 20 60 60 40" in found["ocr_line"].get("title")
    pages = [node.get("title") for node in root.iter() if node.get("class") == "ocr_page"]
    assert pages == ['image "a.jpg"; bbox 0 0 200 100; ppageno 0', 'image "b.jpg"; bbox 0 0 200 100; ppageno 1']
    write("alto", tmp_path / "alto", [entry("a.jpg", [BENT], score=0.876, text="Bar")])
    root = ElementTree.parse(tmp_path / "alto" / "a.xml").getroot()
    space = "{http://www.loc.gov/standards/alto/ns-v4#}"
    (word,) = root.iter(f"{space}String")
    assert word.get("CONTENT") == "Bar" and word.get("WC") == "0.8760" and word.get("VPOS") == "40.5"
    assert next(root.iter(f"{space}Polygon")).get("POINTS").startswith("20,60 60,40.5")
    assert next(root.iter(f"{space}Page")).get("WIDTH") == "200"


# What ALTO 4.4 (alto-4-4.xsd of the Library of Congress) says of the elements that are written: their children, in this order,
# attributes that they must have, and others that they may have.
PLACE = {"HPOS", "VPOS", "WIDTH", "HEIGHT"}
ALTO_ELEMENTS = {
    "alto": (["Description", "Layout"], set(), {"SCHEMAVERSION"}),
    "Description": (["MeasurementUnit", "sourceImageInformation"], set(), set()),
    "MeasurementUnit": ([], set(), set()),
    "sourceImageInformation": (["fileName"], set(), set()),
    "fileName": ([], set(), set()),
    "Layout": (["Page"], set(), set()),
    "Page": (["PrintSpace"], {"ID", "PHYSICAL_IMG_NR"}, {"WIDTH", "HEIGHT"}),
    "PrintSpace": (["TextBlock"], set(), PLACE | {"ID"}),
    "TextBlock": (["Shape", "TextLine"], {"ID"}, PLACE),
    "TextLine": (["Shape", "String"], set(), PLACE | {"ID"}),
    "Shape": (["Polygon"], set(), set()),
    "Polygon": ([], {"POINTS"}, set()),
    "String": (["Shape"], {"CONTENT"}, PLACE | {"ID", "WC"}),
}


def test_alto_keeps_to_its_schema(tmp_path):
    texts = ["Ba & r", "", HOSTILE[4]]
    found = {**entry("a & b.jpg"), "detections": [detection(QUADS[0], text=text, score=1.0) for text in texts]}
    write("alto", tmp_path / "alto", [found, entry("empty.jpg"), {**entry("c.pdf", [BENT]), "page": 3}])
    space = "{http://www.loc.gov/standards/alto/ns-v4#}"
    paths = sorted((tmp_path / "alto").iterdir())
    assert len(paths) == 3
    for path in paths:
        nodes = list(ElementTree.parse(path).iter())
        assert nodes[0].tag == f"{space}alto"
        for node in nodes:
            assert node.tag.startswith(space)
            children, required, optional = ALTO_ELEMENTS[node.tag.removeprefix(space)]
            places = [children.index(child.tag.removeprefix(space)) for child in node]
            assert places == sorted(places) and required <= set(node.attrib) <= required | optional
            for name in {*PLACE, "PHYSICAL_IMG_NR"} & set(node.attrib):
                assert np.isfinite(float(node.get(name)))
            assert 0 <= float(node.get("WC", 0)) <= 1
            assert not (children and (node.text or "").strip())
        identifiers = [node.get("ID") for node in nodes if "ID" in node.attrib]
        assert len(set(identifiers)) == len(identifiers)  # of the type xsd:ID
        assert all(re.fullmatch("[A-Za-z_][\\w.-]*", each) for each in identifiers)
        assert next(node.text for node in nodes if node.tag == f"{space}MeasurementUnit") in (
            "pixel",
            "mm10",
            "inch1200",
        )


# Properties of hOCR 1.2 that are written into titles, and the capability that one of them needs.
HOCR_PROPERTIES = {
    "image": r'"(?:[^"\\]|\\.)*"',
    "bbox": r"\d+ \d+ \d+ \d+",
    "ppageno": r"\d+",
    "poly": r"-?\d+(?: -?\d+)+",
    "x_wconf": r"(?:100|\d?\d)",
}


def test_hocr_keeps_to_its_rules(tmp_path):
    names = ["a.jpg", 'b "c"; bbox 0 0 1 1.jpg', "d\\e;f.jpg"]
    write("hocr", tmp_path / "a.hocr", [entry(name, [BENT, QUADS[0]], text="a;b") for name in names])
    root = ElementTree.parse(tmp_path / "a.hocr").getroot()
    metas = {node.get("name"): node.get("content") for node in root.iter("{http://www.w3.org/1999/xhtml}meta")}
    assert metas["ocr-system"]
    needed = {"ocrp_poly"}
    for node in (each for each in root.iter() if each.get("class")):
        needed.add(node.get("class"))
        title = node.get("title")
        one = "|".join(f"{name} {value}" for name, value in HOCR_PROPERTIES.items())
        assert re.fullmatch(f"(?:{one})(?:; (?:{one}))*", title), title
        inside = {"ocr_page": "ocr_line", "ocr_line": "ocrx_word"}.get(node.get("class"))
        assert {child.get("class") for child in node} <= {inside}
        left, top, right, bottom = map(int, re.search(r"(?:^|; )bbox (\d+) (\d+) (\d+) (\d+)(?:;|$)", title).groups())
        assert left < right and top < bottom
    assert needed == {"ocr_page", "ocr_line", "ocrx_word", "ocrp_poly"} == set(metas["ocr-capabilities"].split())
    identifiers = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(set(identifiers)) == len(identifiers) == 3 + 6 + 6


@pytest.mark.parametrize("format", ["csv", "hocr", "paddleocr"])
def test_a_file_is_complete_after_every_entry(format, tmp_path):
    output = tmp_path / "found"
    writer = build_result_writer(argparse.Namespace(format=format, output=output), ())
    writer.open()
    output.write_text("of an earlier run")
    for index in range(3):
        writer.write(entry(f"{index}.jpg", QUADS[:1]))
        content = output.read_text()
        assert content.count(".jpg") == index + 1 and (format != "hocr" or content.endswith("</html>\n"))
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["found"]


def test_coco_has_what_there_is_when_a_run_ends_early(tmp_path):
    writer = build_result_writer(argparse.Namespace(format="coco", output=tmp_path / "found.json"), ())
    writer.open()
    writer.write(entry("a.jpg", [BENT]))
    writer.close()
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["annotations"][0]["area"] == pytest.approx(80 * 20, abs=20) and len(content["images"]) == 1


def test_names():
    names = FileNames(Path("out"), ".txt", "gt_", ["out/gt_a.txt"])
    entries = [
        {"image": "x/a.jpg"},
        {"image": "y/A.png"},
        {"image": "../../etc/passwd"},
        {"image": "s.pdf", "page": 3},
        {"image": "."},
    ]
    assert [names.next(each).name for each in entries] == [
        "gt_a_2.txt",
        "gt_A_3.txt",
        "gt_passwd.txt",
        "gt_s_page_3.txt",
        "gt_image.txt",
    ]
    assert len(names.next({"image": "ä" * 250 + ".jpg"}).name.encode()) < 250
    assert image_name({"image": "s.pdf", "page": 3}, Path()) == "s_page_3" == entry_stem({"image": "s.pdf", "page": 3})
    assert image_name({"image": "/other/a.jpg"}, Path("/here")) == "/other/a.jpg"


@pytest.mark.parametrize("format", ["labelme", "hocr", "alto"])
def test_programs_that_look_from_the_file_on_find_the_image(format, images, tmp_path, monkeypatch):
    """Paths were given relative to the working directory, and results lie elsewhere, also behind a link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "down")
    for folder in ("found", "link/found"):
        output = Path(folder, "all.hocr") if format == "hocr" else Path(folder)
        output.parent.mkdir(exist_ok=True)
        write(format, output, [entry("images/1.jpg", QUADS), entry(images / "2.jpg", QUADS)])
        content = "".join(path.read_text() for path in sorted(Path(folder).iterdir()) if path.is_file())
        names = re.findall(r'(?<=imagePath": ")[^"]+|(?<=image &quot;)[^&]+|(?<=<fileName>)[^<]+', content)
        assert len(names) == 2 and names[1] == str(images / "2.jpg")  # absolute, as it was given
        assert not Path(names[0]).is_absolute() and Path(folder, names[0]).samefile(images / "1.jpg")
    if format == "labelme":
        for options in ({"images": "images"}, {"allow_outside": True}):
            assert len(next(iter(read_dataset("labelme", Path("found"), **options))).polygons) == len(QUADS)


def test_formats_of_the_command(tmp_path):
    assert tuple(OUTPUT_FORMATS) == FORMAT_NAMES
    assert tuple(name for name, each in OUTPUT_FORMATS.items() if each.folder) == FOLDER_FORMATS
    for name, expected in (
        ("a.csv", "csv"),
        ("a.jsonl", "jsonl"),
        ("a.JSON", "json"),
        ("a.txt", "json"),
        ("a.hocr", "hocr"),
    ):
        assert result_format(argparse.Namespace(format=None, output=Path(name))) == expected
    with pytest.raises(UsageError, match="--output DIR"):
        result_format(argparse.Namespace(format="alto", output=None))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        check_place(argparse.Namespace(format="icdar", output=tmp_path / "file"))
    with pytest.raises(UsageError, match="--resume"):
        build_result_writer(argparse.Namespace(format="coco", output=tmp_path / "new"), (), resume=True)


@settings(deadline=None, max_examples=50)
@given(
    st.text(), st.lists(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 100)), min_size=3, max_size=9), max_size=3)
)
def test_any_text_and_outline_can_be_written(text, polygons):
    item = entry(f"{text}.jpg", [[list(point) for point in polygon] for polygon in polygons], text=text)
    ElementTree.fromstring(as_hocr(item, Path("x"), 0))
    rows = list(csv.reader(io.StringIO(as_csv(item, Path("x")), newline="")))
    assert len(rows) == max(len(polygons), 1)
