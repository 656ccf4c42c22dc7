# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import json
import math
import zipfile

import numpy as np
import pytest

from tcm_hf.metrics.detection_files import image_key, read_detections


QUAD = [[10, 20], [30, 20], [30, 28], [10, 28]]


def test_names_of_images():
    names = ("res_img_1.txt", "gt_img_1.txt", "photos/img_1.jpg", "img_1.jpg.txt", "a\\b\\img_1.PNG", "img_1")
    assert {image_key(name) for name in names} == {"img_1"}
    assert image_key("photo.v2.jpg") == "photo.v2"


def test_folder_of_text_files(tmp_path):
    (tmp_path / "sub").mkdir()
    text = "\ufeff10,20,30,20,30,28,10,28\r\n\r\n1,1,9,1,9,9,5,12,1,9,word, with comma\n"
    (tmp_path / "res_img_1.txt").write_text(text, encoding="utf-8")
    (tmp_path / "res_img_2.txt").write_text("", encoding="utf-8")
    (tmp_path / "sub" / "res_img_3.txt").write_text("10 20 30 28 0.5\n", encoding="utf-16")
    (tmp_path / "res_img_4.txt").write_bytes(b"10,20,30,20,30,28,10,28,0.25,caf\xe9\n")
    found = read_detections(tmp_path)
    assert sorted(found) == ["img_1", "img_2", "img_3", "img_4"]
    assert [len(polygon) for polygon in found["img_1"].polygons] == [4, 5]
    assert found["img_1"].polygons[0].tolist() == QUAD and found["img_1"].scores is None
    assert found["img_2"].polygons == []
    # left, top, right, bottom, score
    assert found["img_3"].polygons[0].tolist() == QUAD and found["img_3"].scores == [0.5]
    assert found["img_4"].scores == [0.25]


def test_rotated_boxes(tmp_path):
    (tmp_path / "IMG_1.txt").write_text(f"10,20,50,30,{math.pi / 2},0.5\n")
    (detections,) = read_detections(tmp_path, rotated=True).values()
    assert detections.rotated_boxes == [(10, 20, 40, 10, math.pi / 2)] and detections.scores == [0.5]
    # A quarter turn about (30, 25): the left end of the line comes up.
    assert detections.polygons[0] == pytest.approx(np.array([[35, 5], [35, 45], [25, 45], [25, 5]]))
    (tmp_path / "IMG_1.txt").write_text("10,20,50,30,0.1\n1,1,9,1,9,9,1,9\n")
    with pytest.raises(ValueError, match="use one form"):
        read_detections(tmp_path, rotated=True)


def test_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "submit.zip", "w") as archive:
        archive.writestr("res_img_1.txt", "10,20,30,20,30,28,10,28,0.5\n")
        archive.writestr("__MACOSX/._res_img_1.txt", b"\x00\x05")
        archive.writestr("readme.md", "no result")
    found = read_detections(tmp_path / "submit.zip")
    assert list(found) == ["img_1"] and found["img_1"].polygons[0].tolist() == QUAD


def test_json_forms(tmp_path):
    path = tmp_path / "found.json"
    entry = {"image": "a/img_1.jpg", "width": 100, "height": 50, "detections": [{"polygon": QUAD, "score": 0.5}]}
    path.write_text(json.dumps([entry, {"image": "img_2.jpg", "detections": []}]))
    found = read_detections(path)
    assert found["img_1"].polygons[0].tolist() == QUAD
    assert (found["img_1"].scores, found["img_1"].size, found["img_2"].size) == ([0.5], (50, 100), None)
    path.write_text(json.dumps({"res_7": [{"points": QUAD, "confidence": 0.75}], "res_8": []}))
    found = read_detections(path)
    assert found["7"].scores == [0.75] and found["8"].polygons == []


@pytest.mark.parametrize(
    "content, message",
    [
        ("1,2,3\n", "res_img_1.txt, line 1: expected `x1,y1"),
        ("1,2,3,4,5,6\nword\n", "line 2: expected"),
        ("1,2,3,4,5,1e999\n", "line 1: expected"),
        ("1,2,3,4,5,6,0.5\n1,2,3,4,5,6\n", "some detections have a score"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    (tmp_path / "res_img_1.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_detections(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("not json", "neither a folder, a zip archive nor JSON"),
        ("3", "expected a list of images"),
        ("[3]", "entry 0: expected an object"),
        ('[{"image": "a.jpg", "error": "broken"}]', "could not be read \\(broken\\)"),
        ('[{"image": "a.jpg"}]', "expected a list of `detections`"),
        ('[{"image": "a.jpg", "detections": [{"score": 1}]}]', "entry 0 \\(a.jpg\\), detection 0: expected `polygon`"),
        ('[{"image": "a.jpg", "detections": [{"polygon": [[1, 2], [3, 4]]}]}]', "3 finite points"),
        ('[{"image": "a.jpg", "detections": [{"polygon": [[1, 2], [3, NaN], [5, 6]]}]}]', "3 finite points"),
        (
            '[{"image": "a.jpg", "detections": []}, {"image": "b/a.png", "detections": []}]',
            "two results for image 'a'",
        ),
    ],
)
def test_bad_json_is_named(tmp_path, content, message):
    path = tmp_path / "found.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_detections(path)


def test_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no detections at"):
        read_detections(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no .txt files"):
        read_detections(tmp_path)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a.jpg", "")
    with pytest.raises(ValueError, match="no .txt files"):
        read_detections(tmp_path / "empty.zip")
