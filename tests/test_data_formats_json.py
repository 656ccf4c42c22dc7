# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""JSON formats: ArT, LSVT, COCO-Text, TextOCR, COCO, mmocr, PaddleOCR, LabelMe."""

import base64
import copy
import io
import json

import numpy as np
import pytest
from annotation_samples import (
    QUADS,
    SIZE,
    box,
    coco_json,
    flat,
    labelme_json,
    paddle_line,
    save_pictures,
    write_sample,
)
from PIL import Image

from tcm_hf.data.formats import AnnotationError, load_image, load_record, read_dataset


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read_changed(format, folder, change):
    """Reads a sample after a change of its JSON."""
    write_sample(format, folder)
    path = next(folder.glob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)
    return list(read_dataset(format, folder))


@pytest.mark.parametrize(
    "format, change, reason",
    [
        ("art", lambda c: c["img_1"][1].pop("points"), r"'img_1'\[1\]: the field 'points' is missing"),
        ("art", lambda c: c["img_1"][0]["points"].__setitem__(2, [1]), r"\[0\].points\[2\]: a point has 1 numbers"),
        ("art", lambda c: c["img_1"][0].update(points=[[1, 2], [3, 4]]), r"points: 4 numbers are no outline"),
        ("art", lambda c: c["img_1"][0].update(transcription=5), r"transcription: expected a text, got 5"),
        ("lsvt", lambda c: c.update(img_1={}), r"'img_1': expected a list"),
        ("lsvt", lambda c: c["img_1"][0]["points"].__setitem__(0, [1e9, 0]), "no pixel coordinate"),
        ("cocotext", lambda c: c["anns"]["1000"].update(image_id=77), r"anns\['1000'\].image_id: no image 77"),
        (
            "cocotext",
            lambda c: c["anns"]["1000"].update(mask=[], bbox=[5, 5, -1, 3]),
            r"bbox: .* is no box \[x, y, width",
        ),
        ("cocotext", lambda c: c["imgs"]["1"].pop("file_name"), r"imgs\['1'\]: the field 'file_name' is missing"),
        ("cocotext", lambda c: c["imgs"]["1"].update(width=600), "annotated for an image of 600 x 480 pixels"),
        ("textocr", lambda c: c.pop("imgs"), "the field 'imgs' is missing"),
        ("coco", lambda c: c["annotations"][0].update(image_id=9), r"annotations\[0\].image_id: no image"),
        ("coco", lambda c: c["images"][1].update(id=1), r"images\[1\].id: 1 is the id of an earlier image"),
        ("coco", lambda c: c["annotations"][0].update(segmentation={"counts": "x"}), "run-length masks are not read"),
        ("coco", lambda c: c["annotations"][0].pop("segmentation"), "neither a `segmentation` nor a `bbox`"),
        (
            "coco",
            lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, True, 5, 6]]),
            "expected an integer|a number",
        ),
        ("mmocr", lambda c: c["data_list"][0]["instances"][0].pop("polygon"), r"instances\[0\]: the field 'bbox'"),
        ("mmocr", lambda c: c["data_list"][0].update(img_path="../"), "no name of an image file"),
    ],
)
def test_the_error_names_the_place(tmp_path, format, change, reason):
    with pytest.raises(AnnotationError, match=rf"\.json.*{reason}"):
        read_changed(format, tmp_path, change)


def test_a_broken_file_names_the_line(tmp_path):
    write_sample("coco", tmp_path)
    (tmp_path / "instances_train.json").write_text('{"images": [],\n "annotations": [,]}')
    with pytest.raises(AnnotationError, match=r"instances_train\.json, line 2: no valid JSON"):
        read_dataset("coco", tmp_path)


def test_fields_that_may_be_missing(tmp_path):
    def change(content):
        for entry in content["img_1"]:
            del entry["illegibility"], entry["transcription"]

    records = read_changed("lsvt", tmp_path, change)
    assert records[0].texts == [None] * 3 and records[0].ignore == [False] * 3 and records[0].languages is None


def test_cocotext_versions_and_splits(tmp_path):
    def change(content):
        first, second, third = content["anns"].values()
        first["mask"] = []
        second["polygon"] = second.pop("mask")
        content["imgs"]["2"]["set"] = "val"

    records = read_changed("cocotext", tmp_path, change)
    assert records[0].polygons[0].tolist() == box(10, 20) and records[0].ignore == [False, True]
    assert records[0].languages == ["Latin", "Arabic"]
    (record,) = read_dataset("cocotext", tmp_path, split="validation")
    assert record.image.stem == "img_2"


def test_pictures_are_found_in_other_folders(tmp_path):
    write_sample("textocr", tmp_path)
    # The file says train/, the archive has train_images/.
    (record,) = read_dataset("textocr", tmp_path / "TextOCR_0.1_train.json")
    assert record.image == tmp_path / "train_images" / "a.jpg"
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    record.image.rename(other / "sub" / "A.JPG")
    (record,) = read_dataset("textocr", tmp_path, images=[other])
    assert record.image.name == "A.JPG"
    with pytest.raises(FileNotFoundError, match=r"Image not found: 'train/a\.jpg' in .*named in .*imgs"):
        list(read_dataset("textocr", tmp_path, images=tmp_path / "train_images"))
    assert list(read_dataset("textocr", tmp_path, images=tmp_path / "train_images", missing="skip")) == []
    for folder in ("x", "y"):
        (other / folder).mkdir()
        Image.new("RGB", SIZE).save(other / folder / "b.jpg")
    write_json(tmp_path / "TextOCR_0.1_train.json", {"imgs": {"1": {"file_name": "b.jpg"}}, "anns": {}})
    with pytest.raises(AnnotationError, match=r"several images are called 'b\.jpg'"):
        list(read_dataset("textocr", tmp_path, images=other))


def test_coco_boxes_parts_and_categories(tmp_path):
    content = coco_json(QUADS[:1])
    content["annotations"] = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]},
        {"image_id": 1, "category_id": 1, "segmentation": [flat(box(1, 1)), flat(box(99, 1))], "utf8_string": "ab"},
        {"image_id": 1, "category_id": 1, "segmentation": flat(box(7, 7)), "ignore": True},
        {"image_id": 1, "category_id": 1, "segmentation": {"counts": "?"}, "iscrowd": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2]},
    ]
    write_json(tmp_path / "a.json", content)
    save_pictures(tmp_path, ["img_1"])
    (record,) = read_dataset("coco", tmp_path, categories=["text"])
    assert [p[0].tolist() for p in record.polygons] == [[10, 20], [1, 1], [99, 1], [7, 7], [0, 0]]
    assert record.polygons[0].tolist() == [[10, 20], [40, 20], [40, 60], [10, 60]]
    assert record.texts == [None, "ab", "ab", None, None] and record.ignore == [False, False, False, True, True]
    with pytest.raises(ValueError, match="no category 'dog', but 'text', 'cat'"):
        read_dataset("coco", tmp_path, categories=["dog"])


def test_the_annotated_size_tells_resized_copies_and_turned_pictures(tmp_path):
    write_json(tmp_path / "a.json", coco_json(QUADS[:1]))
    save_pictures(tmp_path, ["img_1"], size=(320, 240))
    (record,) = read_dataset("coco", tmp_path)
    assert record.size == (480, 640) and load_record(record).shape == (480, 640, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 480)).save(tmp_path / "img_1.jpg", exif=exif)
    (record,) = read_dataset("coco", tmp_path)
    assert record.size is None and load_image(record.image).shape == (640, 480, 3)
    assert record.polygons[0][0].tolist() == [480 - 20, 10]
    # Annotated as shown: nothing to turn.
    content = coco_json(QUADS[:1])
    content["images"][0].update(width=480, height=640)
    write_json(tmp_path / "a.json", content)
    (record,) = read_dataset("coco", tmp_path)
    assert record.polygons[0][0].tolist() == [10, 20]


def test_several_files_need_a_split_or_a_name(tmp_path):
    write_sample("coco", tmp_path)
    write_json(tmp_path / "instances_val.json", coco_json(QUADS[:1]))
    with pytest.raises(ValueError, match="several files could be COCO file: instances_train.json, instances_val.json"):
        read_dataset("coco", tmp_path)
    assert len(list(read_dataset("coco", tmp_path, split="val"))) == 1
    assert len(list(read_dataset("coco", tmp_path / "instances_train.json"))) == 3
    with pytest.raises(FileNotFoundError, match="no COCO file"):
        read_dataset("coco", tmp_path, split="test")


# PaddleOCR


def test_paddleocr_marks_and_errors(tmp_path):
    save_pictures(tmp_path, ["img_1"])
    entries = [
        {"transcription": text, "points": box(1, 2), **extra}
        for text, extra in (
            ("a\tb", {}),
            ("*", {}),
            ("###", {}),
            ("c", {"difficult": True}),
            ("d", {"difficult": False}),
        )
    ]
    label = tmp_path / "Label.txt"
    label.write_text(f"\ufeffimg_1.jpg\t{json.dumps(entries)}\r\n\r\n", encoding="utf-8", newline="")
    (record,) = read_dataset("paddleocr", tmp_path)
    assert record.texts == ["a\tb", "*", "###", "c", "d"] and record.ignore == [False, True, True, True, False]
    for line, reason in (
        ("img_1.jpg []", "a tab"),
        ("img_1.jpg\t[{]", "no valid JSON"),
        ("img_1.jpg\t[{}]", r"\[0\]: the field 'points'"),
    ):
        label.write_text(paddle_line(QUADS[0]) + line + "\n", encoding="utf-8")
        errors = []
        assert len(list(read_dataset("paddleocr", label, on_error=errors.append))) == 1
        assert len(errors) == 1
        with pytest.raises(AnnotationError, match=rf"Label\.txt, line 2.*{reason}"):
            list(read_dataset("paddleocr", label))


# LabelMe


def test_labelme_shapes_labels_and_flags(tmp_path):
    save_pictures(tmp_path, ["img_1"])
    content = labelme_json(QUADS[0])
    content["shapes"] = [
        {"label": "text", "points": [[50, 60], [10, 20]], "shape_type": "rectangle"},
        {"label": "text", "description": "shop", "points": box(1, 1), "shape_type": "rotation"},
        {"label": "Sale", "points": [[1, 1], [9.5, 1], [5, 9]], "shape_type": "polygon", "flags": {"Illegible": True}},
        {"label": "IGNORE", "points": box(2, 2)},
        {"label": "x", "points": box(2, 2), "flags": {"ignore": False}},
    ]
    content["imagePath"] = "..\\" + tmp_path.name + "\\img_1.jpg"
    write_json(tmp_path / "img_1.json", content)
    (record,) = read_dataset("labelme", tmp_path)
    assert record.polygons[0].tolist() == [[10, 20], [50, 20], [50, 60], [10, 60]]
    assert record.texts == [None, "shop", "Sale", "IGNORE", "x"]
    assert record.ignore == [False, False, True, True, False]
    (record,) = read_dataset("labelme", tmp_path, ignore_labels=["x"], class_labels=["Sale"])
    assert record.ignore == [False, False, False, False, True] and record.texts[2] is None
    broken = copy.deepcopy(content)
    broken["shapes"][0] = {"label": "a", "points": [[1, 2], [3, 4]], "shape_type": "line"}
    write_json(tmp_path / "img_1.json", broken)
    with pytest.raises(AnnotationError, match=r"img_1\.json: shapes\[0\]: a line is no text region"):
        list(read_dataset("labelme", tmp_path))


def test_labelme_pictures_inside_of_the_file(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (9, 8, 7)).save(buffer, "PNG")
    content = {**labelme_json(QUADS[0]), "imageData": base64.b64encode(buffer.getvalue()).decode()}
    write_json(tmp_path / "img_1.json", content)
    (record,) = read_dataset("labelme", tmp_path)
    assert record.name == "img_1.jpg" and np.array_equal(load_image(record.image), load_record(record))
    assert load_image(record.image)[0, 0].tolist() == [9, 8, 7]
    write_json(tmp_path / "img_1.json", {**content, "imageData": "?"})
    with pytest.raises(AnnotationError, match="imageData: no base64 text"):
        list(read_dataset("labelme", tmp_path))
    write_json(tmp_path / "img_1.json", {**content, "imageData": None})
    with pytest.raises(FileNotFoundError, match="Image not found"):
        list(read_dataset("labelme", tmp_path))
    with pytest.raises(AnnotationError, match="no LabelMe file"):
        read_dataset("labelme", empty_folder(tmp_path))


def empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"
