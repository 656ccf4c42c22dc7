# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""What people label with: YOLO, CSV, CVAT, Label Studio, VIA, Pascal VOC, Supervisely, docTR, boxes of the Hub."""

import json
import math
import warnings

import cv2
import numpy as np
import pytest
from annotation_samples import (
    QUADS,
    Picture,
    Word,
    box,
    cvat_xml,
    doctr_json,
    label_studio_json,
    save_pictures,
    supervisely_json,
    via_json,
    write_sample,
)
from PIL import Image

from tcm_hf.data.formats import AnnotationError, AnnotationWarning, load_record, read_dataset


def points(record, index=0):
    return record.polygons[index].round(3).tolist()


def turned(center, size, degrees):
    """Corners of a rotated rectangle, by OpenCV, in any order."""
    return {tuple(np.round(point, 2)) for point in cv2.boxPoints((center, size, degrees)).tolist()}


def corners(polygon):
    return {tuple(np.round(point, 2)) for point in polygon.tolist()}


def read_warned(*arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnnotationWarning)
        records = list(read_dataset(*arguments, **options))
    return records, [str(warning.message) for warning in caught]


def refused(format, folder, reason, **options):
    with pytest.raises(AnnotationError, match=reason):
        list(read_dataset(format, folder, **options))


# YOLO


def yolo_folder(folder, lines, names="names: [text, logo, ignore]\n", name="train/1"):
    save_pictures(folder, [f"images/{name}"])
    path = folder / "labels" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines)
    if names is not None:
        (folder / "data.yaml").write_text(names)
    return path


def test_yolo_boxes_oriented_boxes_and_segments(tmp_path):
    yolo_folder(
        tmp_path,
        "0 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25 0.5 0.87\n2 0 0 0.5 0 0.5 0.25 0 0.25\n0 0.1 0.1 0.2 0.1 0.2 0.2\n\n",
    )
    (record,) = read_dataset("yolo", tmp_path)
    half = [[240, 120], [400, 120], [400, 360], [240, 360]]
    assert points(record) == points(record, 1) == half
    assert points(record, 2) == [[0, 0], [320, 0], [320, 120], [0, 120]] and points(record, 3)[2] == [128, 96]
    assert record.ignore == [False, False, True, False] and record.texts == [None] * 4


@pytest.mark.parametrize(
    "names",
    [
        ("data.yaml", "names:\n  0: text\n  1: logo\n"),
        ("my.yml", "nc: 2\nnames: [text, logo]\n"),
        ("classes.txt", "text\nlogo\n"),
        ("obj.names", "text\nlogo\n"),
        ("labels/classes.txt", "text\nlogo\n"),
    ],
)
def test_yolo_classes_have_names(names, tmp_path):
    yolo_folder(tmp_path, "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.1 0.1\n", None)
    (tmp_path / names[0]).write_text(names[1])
    (records, messages) = read_warned("yolo", tmp_path)
    assert len(records[0].polygons) == 2 and "'text' (1), 'logo' (1)" in messages[0]
    (records, messages) = read_warned("yolo", tmp_path, categories=["Text"])
    assert len(records[0].polygons) == 1 and messages == []
    (records, messages) = read_warned("yolo", tmp_path, categories=["word"])
    assert records[0].polygons == [] and "no shape has a label of `categories`" in messages[0]


def test_yolo_layouts_and_splits(tmp_path):
    # Images of one name in two splits; an image without text file has no text.
    yolo_folder(tmp_path, "0 0.5 0.5 0.25 0.5\n")
    yolo_folder(tmp_path, "0 0.5 0.5 0.5 0.5\n", name="val/1")
    save_pictures(tmp_path, ["images/train/2"])
    records = list(read_dataset("yolo", tmp_path))
    assert [(r.image.parent.name, r.image.stem, len(r.polygons)) for r in records] == [
        ("train", "1", 1),
        ("train", "2", 0),
        ("val", "1", 1),
    ]
    assert points(records[2])[0] == [160, 120]
    assert len(list(read_dataset("yolo", tmp_path / "data.yaml", split="train"))) == 2
    assert len(list(read_dataset("yolo", tmp_path, split="train", missing="skip"))) == 1
    # Roboflow's layout, with the folders the other way round.
    other = tmp_path / "other"
    save_pictures(other, ["train/images/1", "valid/images/1"])
    for split, width in (("train", 0.25), ("valid", 0.5)):
        (other / split / "labels").mkdir()
        (other / split / "labels" / "1.txt").write_text(f"0 0.5 0.5 {width} 0.5\n")
    assert [points(r)[0][0] for r in read_dataset("yolo", other)] == [240, 160]
    (record,) = read_dataset("yolo", other, split="val")
    assert record.image.parent.parent.name == "valid"


def test_yolo_needs_the_size_only(tmp_path):
    path = yolo_folder(tmp_path, "0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "images" / "train" / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"Image not found for the annotation .*labels/train/1\.txt"):
        list(read_dataset("yolo", tmp_path))
    refused("yolo", tmp_path, r"1\.txt: .*size of the image .*record_size", missing="keep")
    (record,) = read_dataset("yolo", tmp_path, missing="keep", record_size=(200, 100))
    assert points(record)[0] == [37.5, 50]
    (tmp_path / "images" / "train" / "1.jpg").write_bytes(b"no image")
    refused("yolo", tmp_path, f"{path}: .*cannot be read without the size")


@pytest.mark.parametrize("tag", [1, 6])
def test_yolo_fractions_are_those_of_the_upright_image(tag, tmp_path):
    yolo_folder(tmp_path, "0 0.5 0.5 0.25 0.5\n")
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.new("RGB", (640, 480)).save(tmp_path / "images" / "train" / "1.jpg", exif=exif)
    (record,) = read_dataset("yolo", tmp_path)
    assert points(record)[0] == ([180, 160] if tag == 6 else [240, 120])
    (record,) = read_dataset("yolo", tmp_path, orientation="stored")
    assert np.ptp(record.polygons[0], axis=0).tolist() == ([240, 160] if tag == 6 else [160, 240])


@pytest.mark.parametrize(
    "line, reason",
    [
        ("0 0.5 0.5 0.25", "3 numbers behind the class"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.3", "7 numbers behind the class"),
        ("0 320 240 60 40", "320 is no fraction"),
        ("0 0.5 0.5 -0.25 0.5", "a negative width"),
        ("text 0.5 0.5 0.25 0.5", "the number of a class"),
        ("0 0.5 nan 0.25 0.5", "not finite"),
        ("7 0.5 0.5 0.25 0.5", "no class 7 among the 3 names"),
    ],
)
def test_yolo_bad_lines(line, reason, tmp_path):
    yolo_folder(tmp_path, f"0 0.5 0.5 0.25 0.5\n{line}\n")
    refused("yolo", tmp_path, rf"1\.txt, line 2: .*{reason}")


@pytest.mark.parametrize(
    "content, reason",
    [
        ("names: 5\n", "`names` must be a list of names"),
        ("names: {a: b}\n", "`names` must be"),
        ("names: [\n", "no valid YAML"),
        ("[" * 50_000, "no valid YAML"),
        ("names: !!python/object/apply:os.system ['touch hacked']\n", "there is no class 0 among the 1 names|`names`"),
        ("a: &a {k: v}\nb: &b {<<: [*a, *a]}\nnames: *b\n", "`names` must be"),
        ("#" * 2**21, "no list of classes"),
    ],
)
def test_yolo_yaml_of_others(content, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yolo_folder(tmp_path, "1 0.5 0.5 0.25 0.5\n", content)
    refused("yolo", tmp_path, rf"{reason}|no class 1 among the 1 names")
    assert not (tmp_path / "hacked").exists()


# CSV


def read_table(folder, text, **options):
    save_pictures(folder, ["1", "2"])
    (folder / "a.csv").write_text(text)
    return list(read_dataset("csv", folder, **options))


@pytest.mark.parametrize(
    "header, fields",
    [
        ("image,polygon", '1.jpg,"10 20 70 20 70 40 10 40"'),
        ("file_name;points", '1.jpg;"10,20,70,20,70,40,10,40"'),
        ("image\tpolygon", "1.jpg\t10,20;70,20;70,40;10,40"),
        ("Image,Polygon", '1.jpg,"[[10,20],[70,20],[70,40],[10,40]]"'),
        ("filename,x1,y1,x2,y2,x3,y3,x4,y4", "1.jpg,10,20,70,20,70,40,10,40"),
        ("path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5", "1.jpg,10,20,70,20,70,40,10,40,,"),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "1.jpg,640,480,text,10,20,70,40"),
        ("image,left,top,right,bottom,score", "1.jpg,10,20,70,40,0.5"),
        ("image,x1,y1,x2,y2", "1.jpg,10,20,70,40"),
        ("image,x,y,width,height", "1.jpg,10,20,60,20"),
    ],
)
def test_csv_columns(header, fields, tmp_path):
    (record,) = read_table(tmp_path, f"{header}\n{fields}\n")
    assert points(record) == box(10, 20) and record.texts == [None] and record.size is None


def test_csv_texts_flags_splits_and_lines_in_any_order(tmp_path):
    text = (
        "\ufeffsplit,image,xmin,ymin,xmax,ymax,transcription,difficult,label\r\n"
        'train,1.jpg,1,2,9,9,"a ""b"",\nc",0,word\r\nval,2.jpg,1,2,9,9,x,no,word\r\ntrain,1.jpg,3,2,9,9,###,,word\r\n'
        "train,1.jpg,4,2,9,9,d,true,word\r\ntrain,1.jpg,5,2,9,9,,,ignore\r\ntrain,1.jpg,6,2,9,9,,,cat\r\n,2.jpg,,,,,,,\r\n"
    )
    (one, two) = read_table(tmp_path, text, categories=["word"])
    assert one.texts == ['a "b",\nc', "###", "d", None] and one.ignore == [False, True, True, True]
    assert two.texts == ["x"]
    assert [len(r.polygons) for r in read_table(tmp_path, text, categories=["word"], split="train")] == [4, 0]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "an empty file"),
        ("image,text\n1.jpg,a\n", "line 1: no columns of an outline"),
        ("polygon,text\n1 2 3 4 5 6,a\n", "line 2: no image is named"),
        ("image,polygon\n1.jpg,1 2 3 4\n", "line 2: 4 numbers are no outline"),
        ("image,polygon\n1.jpg,1 2 3 4 5 x\n", "line 2: .*not a number"),
        ("image,polygon\n1.jpg,1 2 3 4 5 6,9\n", "line 2: 3 fields for 2 columns"),
        ("image,xmin,ymin,xmax,ymax\n1.jpg,9,9,1,1\n", "line 2: .* is no box"),
        ("image,xmin,ymin,xmax,ymax\n1.jpg,9,9,,\n", "line 2: .*not a number"),
        ('image,polygon\n1.jpg,"1 2\n', "line 2: no valid CSV"),
        ("image,image,polygon\n", "line 1: two columns have one name"),
        ("image,polygon,ignore\n1.jpg,1 2 3 4 5 6,maybe\n", "line 2: 'maybe' is neither true nor false"),
        ("image,polygon,image_width,image_height\n1.jpg,1 2 3 4 5 6,100,480\n", "annotated for an image of 100 x 480"),
        ("image,polygon,image_width,image_height\n1.jpg,1 2 3 4 5 6,0,480\n", "no size of an image"),
    ],
)
def test_csv_bad_tables(text, reason, tmp_path):
    with pytest.raises(AnnotationError, match=rf"a\.csv.*{reason}"):
        read_table(tmp_path, text)


# CVAT


def test_cvat_boxes_rotations_labels_and_subsets(tmp_path):
    save_pictures(tmp_path, ["images/1", "images/2"])
    shapes = (
        '<box label="text" xtl="10" ytl="20" xbr="70" ybr="40"><attribute name="Transcription">Caf&#233;</attribute></box>'
        '<box label="text" xtl="100" ytl="100" xbr="200" ybr="140" rotation="30.0"/>'
        '<polygon label="illegible" points="1,2;9,2;9,8"/><polyline label="road" points="1,2;9,2"/><tag label="x"/>'
        '<box label="text" xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="difficult">false</attribute></box>'
        '<box label="text" xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="difficult">True</attribute></box>'
    )
    (tmp_path / "annotations.xml").write_text(
        '<annotations><version>1.1</version><image id="0" name="1.jpg" subset="Train" width="640" height="480">'
        f'{shapes}</image><image id="1" name="2.jpg" subset="Validation" width="640" height="480"></image></annotations>'
    )
    one, two = read_dataset("cvat", tmp_path, categories=["text"])
    assert points(one) == box(10, 20) and one.texts == ["Café", None, None, None, None] and two.polygons == []
    # Clockwise on the screen, about the center, as OpenCV has it.
    assert corners(one.polygons[1]) == turned((150, 120), (100, 40), 30)
    assert one.ignore == [False, False, True, False, True]
    assert len(list(read_dataset("cvat", tmp_path, categories=["text"], split="val"))) == 1
    refused("cvat", tmp_path, "<polyline> 4: a polyline is no text region; .*--categories")


@pytest.mark.parametrize(
    "text, reason",
    [
        ("<annotation/>", "<annotation> instead of <annotations>"),
        (cvat_xml(QUADS[:1]).replace('points="10,20;', 'points="10;'), "<polygon> 1: 7 numbers are no outline"),
        (cvat_xml(QUADS[:1]).replace('height="480"', 'height="x"'), "not a number"),
        (cvat_xml(QUADS[:1]).replace('height="480"', 'height="100"'), "annotated for an image of 640 x 100"),
        (
            "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><annotations>&b;</annotations>",
            "a document type or entities",
        ),
        (cvat_xml(QUADS[:1])[:300], "no valid XML"),
    ],
)
def test_cvat_bad_files(text, reason, tmp_path):
    save_pictures(tmp_path, ["img_1"])
    (tmp_path / "annotations.xml").write_text(text)
    refused("cvat", tmp_path, rf"annotations\.xml.*{reason}")


# Label Studio


def rectangle_task(value, name="1.jpg", **more):
    entry = {
        "id": "a",
        "type": "rectanglelabels",
        "original_width": 640,
        "original_height": 480,
        "value": value,
        **more,
    }
    return {"data": {"image": name}, "annotations": [{"result": [entry]}]}


def read_tasks(folder, tasks, **options):
    save_pictures(folder, ["img/1"])
    (folder / "a.json").write_text(json.dumps(tasks))
    return list(read_dataset("labelstudio", folder, **options))


def test_label_studio_rectangles_turn_about_their_first_corner(tmp_path):
    value = {"x": 50, "y": 50, "width": 25, "height": 10, "rotation": 30, "rectanglelabels": ["Text"]}
    (record,) = read_tasks(tmp_path, [rectangle_task(value)])
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    expected = [[0, 0], [160 * cos, 160 * sin], [160 * cos - 48 * sin, 160 * sin + 48 * cos], [-48 * sin, 48 * cos]]
    np.testing.assert_allclose(record.polygons[0], np.array(expected) + (320, 240), atol=1e-3)
    (record,) = read_tasks(tmp_path, [rectangle_task({**value, "rotation": 0})])
    assert points(record) == [[320, 240], [480, 240], [480, 288], [320, 288]]


@pytest.mark.parametrize(
    "name",
    [
        "/data/upload/12/0a1b2c3d-1.jpg",
        "/data/local-files/?d=photos%2F1.jpg",
        "s3://bucket/dir/1.jpg",
        "https://example.com/dir/1.jpg?token=a",
        "1.jpg",
    ],
)
def test_label_studio_names_of_images(name, tmp_path):
    value = {"x": 50, "y": 50, "width": 25, "height": 10}
    (record,) = read_tasks(tmp_path, [rectangle_task(value, name)])
    assert record.image == tmp_path / "img" / "1.jpg"


def test_label_studio_results_texts_and_labels(tmp_path):
    value = {"x": 50, "y": 50, "width": 25, "height": 10}
    task = rectangle_task({**value, "rectanglelabels": ["Text"]})
    entry = task["annotations"][0]["result"][0]
    skipped = {"was_cancelled": True, "result": []}
    truth = {"ground_truth": True, "result": [{**entry, "meta": {"text": ["Cafe"]}}]}
    several = {**task, "annotations": [skipped, *task["annotations"], truth]}
    (record,) = read_tasks(tmp_path, [several])
    assert record.texts == ["Cafe"]
    text = {"id": "a", "type": "textarea", "value": {**value, "text": ["one", "two"]}}
    for choice, ignored in (("illegible", True), ("fine", False)):
        choices = {"id": "a", "type": "choices", "value": {"choices": [choice]}}
        whole = {"type": "choices", "value": {"choices": ["indoors"]}}
        annotated = {**task, "annotations": [{"result": [whole, text, entry, choices]}]}
        (record,) = read_tasks(tmp_path, [annotated])
        assert record.texts == ["one\ntwo"] and record.ignore == [ignored]
    logo = {**entry, "id": "b", "value": {**value, "rectanglelabels": ["Logo"]}}
    brush = {**entry, "id": "c", "type": "brushlabels", "value": {"rle": [], "brushlabels": ["Logo"]}}
    annotated = {**task, "annotations": [{"result": [entry, logo, brush]}]}
    (record,) = read_tasks(tmp_path, [annotated], categories=["text"])
    assert len(record.polygons) == 1
    with pytest.raises(AnnotationError, match=r"result\[2\]: brushlabels are no text region"):
        read_tasks(tmp_path, [annotated])


def test_label_studio_tasks_without_annotation_and_predictions(tmp_path):
    value = {"x": 50, "y": 50, "width": 25, "height": 10}
    task = rectangle_task(value)
    task["predictions"] = task.pop("annotations")
    save_pictures(tmp_path, ["1"])
    (tmp_path / "a.json").write_text(json.dumps([task]))
    records, messages = read_warned("labelstudio", tmp_path)
    assert records == [] and "1 of 1 tasks have no annotations" in messages[0] and "results=predictions" in messages[0]
    (record,) = read_dataset("labelstudio", tmp_path, results="predictions")
    assert len(record.polygons) == 1


@pytest.mark.parametrize(
    "task, reason",
    [
        (rectangle_task({"x": 1, "y": 1, "width": 5}), r"value: the field 'height' is missing"),
        (rectangle_task({"x": 1, "y": 1, "width": 5, "height": -1}), "a negative width or height"),
        (rectangle_task({"x": 1, "y": 1, "width": 5, "height": 5}, image_rotation=90), "the image was turned"),
        (rectangle_task({"x": 1, "y": 1, "width": 5, "height": 5}, original_width=None), "`original_width` and"),
        (
            rectangle_task({"x": 1, "y": 1, "width": 5, "height": 5}, original_width=100),
            "annotated for an image of 100 x 480",
        ),
        (rectangle_task({"points": [[1, 2], [3, 4]]}), "points: 4 numbers are no outline"),
        (
            {**rectangle_task({"x": 1, "y": 1, "width": 5, "height": 5}), "data": {"a": "1.jpg", "b": "2.jpg"}},
            "2 fields name",
        ),
        (
            {**rectangle_task({"x": 1, "y": 1, "width": 5, "height": 5}), "data": {"text": "a"}},
            "no fields name an image",
        ),
    ],
)
def test_label_studio_bad_tasks(task, reason, tmp_path):
    with pytest.raises(AnnotationError, match=rf"a\.json: \[0\].*{reason}"):
        read_tasks(tmp_path, [task])


# VIA


def test_via_versions_shapes_and_attributes(tmp_path):
    save_pictures(tmp_path, ["1"])
    rect = {"shape_attributes": {"name": "rect", "x": 10, "y": 20, "width": 60, "height": 20}}
    rect["region_attributes"] = {"Transcription": "Cafe", "type": "text", "illegible": "no"}
    ignored = {**rect, "region_attributes": {"type": "text", "illegible": "yes"}}
    circle = {"shape_attributes": {"name": "circle", "cx": 1, "cy": 2, "r": 3}, "region_attributes": {"type": "logo"}}
    for regions in ([rect, ignored, circle], {"0": rect, "1": ignored, "2": circle}):
        content = {"1.jpg99": {"filename": "1.jpg", "size": 99, "regions": regions, "file_attributes": {}}}
        (tmp_path / "via_region_data.json").write_text(json.dumps(content))
        (record,) = read_dataset("via", tmp_path, categories=["text"])
        assert points(record) == box(10, 20) and record.texts == ["Cafe", None] and record.ignore == [False, True]
        refused("via", tmp_path, r"'1\.jpg99'\.regions\['?2'?\]: a circle is no text region")


def test_via_bad_files(tmp_path):
    save_pictures(tmp_path, ["img_1"])
    path = tmp_path / "via.json"
    content = via_json(QUADS[:1])
    shape = next(iter(content["_via_img_metadata"].values()))["regions"][0]["shape_attributes"]
    shape["all_points_x"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    refused("via", tmp_path, r"via\.json: .*regions\[0\]: 3 x and 4 y are no outline")
    path.unlink()
    (tmp_path / "via.csv").write_text(
        'filename,region_shape_attributes,region_attributes\nimg_1.jpg,"{""name"": 5}",{}\n'
    )
    refused("via", tmp_path, r"via\.csv, line 2\.name: expected a text|via\.csv, line 2.*name.*expected a text")


# Pascal VOC


def voc(body, size="<size><width>640</width><height>480</height></size>", name="1.jpg"):
    return f"<annotation><filename>{name}</filename>{size}<object><name>text</name>{body}</object></annotation>"


@pytest.mark.parametrize(
    "body, expected",
    [
        ("<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>70</xmax><ymax>40</ymax></bndbox>", box(10, 20)),
        (
            "<bndbox><x0>10</x0><y0>20</y0><x1>70</x1><y1>20</y1><x2>70</x2><y2>40</y2><x3>10</x3><y3>40</y3></bndbox>",
            box(10, 20),
        ),
        (
            "<polygon><x1>10</x1><y1>20</y1><x2>70</x2><y2>20</y2><x10>70</x10><y10>40</y10></polygon>",
            [[10, 20], [70, 20], [70, 40]],
        ),
        (
            "<polygon><username>me</username><pt><x>10</x><y>20</y></pt><pt><x>70</x><y>20</y></pt><pt><x>70</x><y>40</y></pt>"
            "</polygon>",
            [[10, 20], [70, 20], [70, 40]],
        ),
        ("<quad>10,20,70,20,70,40,10,40</quad>", box(10, 20)),
    ],
)
def test_voc_outlines(body, expected, tmp_path):
    save_pictures(tmp_path, ["1"])
    (tmp_path / "1.xml").write_text(voc(body))
    (record,) = read_dataset("voc", tmp_path)
    assert points(record) == expected and record.ignore == [False] and record.texts == [None]


def test_voc_rotated_boxes_flags_and_texts(tmp_path):
    save_pictures(tmp_path, ["JPEGImages/1"])
    (tmp_path / "Annotations").mkdir()
    body = "<difficult>1</difficult><robndbox><cx>150</cx><cy>120</cy><w>100</w><h>40</h><angle>0.5</angle></robndbox>"
    body += "<attributes><attribute><name>text</name><value>Cafe</value></attribute></attributes>"
    # An image that was renamed, and a size that the tool did not know.
    size = "<size><width>0</width><height>0</height></size>"
    (tmp_path / "Annotations" / "1.xml").write_text(voc(body, size, "old name.png"))
    (record,) = read_dataset("voc", tmp_path)
    assert corners(record.polygons[0]) == turned((150, 120), (100, 40), math.degrees(0.5))
    assert record.ignore == [True] and record.texts == ["Cafe"] and record.image.stem == "1"
    (record,) = read_dataset("voc", tmp_path, categories=["logo"])
    assert record.polygons == []


@pytest.mark.parametrize(
    "text, reason",
    [
        (voc("<bndbox><xmin>10</xmin></bndbox>"), "object 1: bndbox: a coordinate is not a number"),
        (
            voc("<bndbox><xmin>9</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"),
            "object 1: bndbox: .* is no box",
        ),
        (voc(""), "object 1: neither a <bndbox> nor a <polygon>"),
        (voc("<polygon><x1>1</x1><y1>2</y1><x2>1</x2></polygon>"), "object 1: polygon: a coordinate is not a number"),
        (voc("<robndbox><cx>1</cx></robndbox>"), "object 1: robndbox"),
        (
            voc("<quad>1 2 3 4 5 6</quad>", "<size><width>5</width><height>480</height></size>"),
            "annotated for an image of 5 x 480",
        ),
        ("<annotations/>", "<annotations> instead of <annotation>"),
    ],
)
def test_voc_bad_files(text, reason, tmp_path):
    save_pictures(tmp_path, ["1"])
    (tmp_path / "1.xml").write_text(text)
    refused("voc", tmp_path, rf"1\.xml.*{reason}")


# Supervisely


def supervisely_file(folder, **entry):
    save_pictures(folder, ["ds/img/img_1"])
    content = supervisely_json(Picture("img_1", [Word(box(10, 20), "a")]))
    content["objects"][0].update(entry)
    path = folder / "ds" / "ann" / "img_1.jpg.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    (folder / "meta.json").write_text('{"classes": [], "tags": []}')
    return path


def test_supervisely_shapes_and_tags(tmp_path):
    path = supervisely_file(
        tmp_path,
        geometryType="rectangle",
        points={"exterior": [[70, 40], [10, 20]]},
        tags=["difficult"],
        description="Cafe",
    )
    for source in (tmp_path, tmp_path / "ds", path):
        (record,) = read_dataset("supervisely", source)
        assert points(record) == box(10, 20) and record.ignore == [True] and record.texts == ["Cafe"]
    supervisely_file(tmp_path, geometryType="oriented_bbox", points=[[100, 100], [200, 140]], angle=0.5)
    (record,) = read_dataset("supervisely", tmp_path)
    assert corners(record.polygons[0]) == turned((150, 120), (100, 40), math.degrees(0.5))


@pytest.mark.parametrize(
    "entry, reason",
    [
        ({"geometryType": "bitmap"}, r"objects\[0\]: a bitmap is no text region"),
        ({"geometryType": "rectangle"}, r"objects\[0\]\.points\.exterior: expected two corners"),
        ({"points": {"exterior": [[1, 2]]}}, r"exterior: 2 numbers are no outline"),
        ({"tags": [{"value": "a"}]}, r"tags\[0\]: the field 'name' is missing"),
        ({"points": None}, "the field 'points' is missing"),
    ],
)
def test_supervisely_bad_objects(entry, reason, tmp_path):
    supervisely_file(tmp_path, **entry)
    refused("supervisely", tmp_path, rf"img_1\.jpg\.json: .*{reason}")


# docTR


def test_doctr_forms_and_sizes(tmp_path):
    save_pictures(tmp_path, ["images/img_1"])
    for polygons in ([box(10, 20)], {"words": [box(10, 20)]}):
        for dimensions in ([480, 640], [640, 480], [480, 640, 3], None):
            entry = {"img_dimensions": dimensions, "img_hash": "a", "polygons": polygons}
            (tmp_path / "labels.json").write_text(json.dumps({"img_1.jpg": entry}))
            (record,) = read_dataset("doctr", tmp_path)
            assert points(record) == box(10, 20) and record.size is None and record.texts == [None]
    content = doctr_json(QUADS[:1])
    content["img_1.jpg"]["img_dimensions"] = [100, 640]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    refused("doctr", tmp_path, "annotated for an image of 640 x 100")


# Boxes of the Hub


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": [[10, 20, 60, 20], [5, 6, 7, 8]], "category": [0, 1], "text": ["Cafe", None]},
        [{"bbox": [10, 20, 60, 20], "category": 0, "text": "Cafe"}, {"bbox": [5, 6, 7, 8], "category": 1}],
    ],
)
def test_hub_boxes(objects, tmp_path):
    save_pictures(tmp_path, ["1", "2"])
    rows = [{"file_name": "1.jpg", "objects": objects}, {"file_name": "2.jpg", "objects": {"bbox": []}}]
    (tmp_path / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    one, two = read_dataset("hub", tmp_path)
    assert points(one) == box(10, 20) and points(one, 1) == box(5, 6, 7, 8) and two.polygons == []
    assert one.texts == ["Cafe", None] and one.ignore == [False, False]
    assert load_record(one).shape == (480, 640, 3)


def test_hub_boxes_in_parquet(tmp_path):
    datasets = pytest.importorskip("datasets")
    from tcm_hf.data.formats import records_from_dataset

    image = Image.new("RGB", (64, 48))
    rows = {"image": [image], "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "categories": [0]}]}
    for dataset in (datasets.Dataset.from_dict(rows), datasets.Dataset.from_dict(rows).to_iterable_dataset()):
        (record,) = records_from_dataset(dataset)
        assert points(record) == box(1, 2, 3, 4) and record.ignore == [False]


def test_hub_bad_boxes(tmp_path):
    save_pictures(tmp_path, ["1"])
    for objects, reason in (
        ({"bbox": [[1, 2, 3]]}, r"objects\.bbox\[0\]: a box needs 4 numbers"),
        ({"bbox": [[1, 2, -3, 4]]}, r"is no box \[x, y, width, height\]"),
        ({"bbox": [[1, 2, 3, 4]], "text": ["a", "b"]}, "2 entries for 1 outlines"),
        ({"category": []}, "the field 'bbox' is missing"),
        (5, "objects: expected"),
    ):
        (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "1.jpg", "objects": objects}))
        refused("hub", tmp_path, rf"metadata\.jsonl, line 1.*{reason}")


def test_images_of_one_name_in_two_splits(tmp_path):
    for split in ("train", "val"):
        save_pictures(tmp_path, [f"{split}/1"])
        (tmp_path / split / "1.xml").write_text(voc("<quad>1 2 9 2 9 9</quad>"))
    assert [r.image.parent.name for r in read_dataset("voc", tmp_path)] == ["train", "val"]


def test_label_studio_of_samples_has_pixels(tmp_path):
    write_sample("labelstudio", tmp_path)
    content = label_studio_json(QUADS)
    content[0]["annotations"][0]["result"][0]["value"]["points"][0] = [50, 50]
    (tmp_path / "project-1.json").write_text(json.dumps(content))
    assert points(next(read_dataset("labelstudio", tmp_path)))[0] == [320, 240]
