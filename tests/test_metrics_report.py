# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tcm_hf.metrics import evaluate_detections
from tcm_hf.metrics.report import json_ready, worst_images, write_gallery, write_report


def box(x, y=0, width=50, height=20):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


NASTY = '<script>alert("x")</script>&.jpg'
TRUTHS = {
    "good": {"polygons": [box(0)]},
    "bad": {"polygons": [box(0), box(100)]},
    NASTY: {"polygons": [box(0), box(100), box(200)], "ignore": [False, False, True]},
    "empty": {"polygons": []},
}
FOUND = {
    "good": {"polygons": [box(0)], "scores": [0.9]},
    "bad": {"polygons": [box(0)], "scores": [0.9]},
    NASTY: {"polygons": [box(300), box(0, 50)], "scores": [0.5, 0.25]},
    "empty": {"polygons": [], "scores": []},
}


def result_of(protocol="icdar2015"):
    return evaluate_detections(list(FOUND.values()), list(TRUTHS.values()), protocol, image_ids=list(TRUTHS))


def load(name):
    truth, found = TRUTHS[name], FOUND[name]
    ignore = truth.get("ignore", [False] * len(truth["polygons"]))
    picture = Image.new("RGB", (640, 160), (40, 80, 120)) if name != "bad" else None
    return picture, truth["polygons"], ignore, found["polygons"], found["scores"]


def test_worst_images_first():
    assert worst_images(result_of(), 10) == [NASTY, "bad"]
    assert worst_images(result_of(), 1) == [NASTY]


def test_report_holds_every_image(tmp_path):
    path = tmp_path / "new" / "report.json"
    write_report(path, result_of(), settings={"model": None, "path": np.float32(0.5)})
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [image["image"] for image in report["images"]] == list(TRUTHS)
    assert report["hmean"] == pytest.approx(result_of()["hmean"])
    assert report["images"][1]["missed"] == [1] and report["settings"] == {"model": None, "path": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]
    # What is undefined becomes null: NaN is no JSON.
    write_report(path, evaluate_detections([[]], [{"polygons": [box(0)]}], "tt_pascal"))
    assert json.loads(path.read_text())["hmean"] is None
    write_report(path, result_of("mmocr"))
    assert "per_image" not in path.read_text() and len(json.loads(path.read_text())["sweep"]) == 7
    with pytest.raises(IsADirectoryError, match="name a file"):
        write_report(tmp_path, result_of())
    link = tmp_path / "link.json"
    link.symlink_to(path)
    path.write_text("older report")
    write_report(link, result_of())
    assert link.is_symlink() and len(json.loads(path.read_text())["images"]) == len(TRUTHS)


def test_json_ready():
    assert json_ready({1: np.array([1.0, np.nan]), "a": (float("inf"), True, None)}) == {
        "1": [1.0, None],
        "a": [None, True, None],
    }


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_gallery_is_one_page_with_escaped_names(tmp_path):
    page_path = write_gallery(tmp_path / "gallery", result_of(), load, title="A & B", max_edge=320)
    assert [file.name for file in page_path.parent.iterdir()] == ["index.html"]
    text = page_path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open and "script" not in {tag for tag, _ in page.tags}
    assert NASTY in page.text and "A & B" in page.text and "good" not in re.findall(r"<h2>(.*?)</h2>", text)
    kinds = [attributes["class"] for tag, attributes in page.tags if tag == "polygon"]
    assert kinds == ["missed", "missed", "ignored", "wrong", "wrong", "truth", "missed", "found"]
    # Outlines are in the pixels of the whole image, the image itself is small and inside the page.
    (view,) = {attributes["viewbox"] for tag, attributes in page.tags if tag == "svg"} - {"0 0 150 20"}
    assert view == "0 0 640 160"
    sources = [attributes.get("src", "") for tag, attributes in page.tags if tag == "img"]
    assert sources[0].startswith("data:image/jpeg;base64,") and sources[1] == ""
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\(", text)


def test_gallery_without_errors(tmp_path):
    result = evaluate_detections([FOUND["good"]], [TRUTHS["good"]], image_ids=["good"])
    assert "No image has an error" in write_gallery(tmp_path, result, load).read_text()


def test_detections_below_the_threshold_are_not_drawn(tmp_path):
    found = {"polygons": [box(0), box(300), box(100)], "scores": [0.9, 0.5, 0.25]}
    truth = {"polygons": [box(0), box(200), box(90)], "ignore": [False, False, True]}
    for threshold, drawn in ((0.2, [0, 1, 2]), (0.4, [0, 1]), (0.8, [0])):
        result = evaluate_detections([found], [truth], image_ids=["a"], score_threshold=threshold)
        load = (None, truth["polygons"], truth["ignore"], found["polygons"], found["scores"])
        page = write_gallery(tmp_path, result, lambda name: load).read_text()  # noqa: B023
        assert [index for index in range(3) if f"detection {index}," in page] == drawn
