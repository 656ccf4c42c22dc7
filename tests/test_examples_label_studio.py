# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The ML backend of Label Studio, without its server: predictions are read back by the reader of the format."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tcm_hf.data.formats import read_dataset


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LABELS = """<View><Image name="img" value="$photo"/><PolygonLabels name="poly" toName="img"><Label value="Logo"/>
<Label value="Word"/></PolygonLabels></View>"""
TEMPLATE = """<View><Image name="image" value="$ocr"/><Labels name="label" toName="image"><Label value="Text"/></Labels>
<Rectangle name="bbox" toName="image"/><Polygon name="poly" toName="image"/></View>"""


@pytest.fixture(scope="module")
def backend():
    # A name of its own: `model.py` is what Label Studio expects.
    spec = importlib.util.spec_from_file_location("label_studio_backend", EXAMPLES / "label_studio" / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    shutil.copy(EXAMPLES / "sample.jpg", tmp_path / "photos" / "1.jpg")
    monkeypatch.setenv("IMAGE_ROOT", str(tmp_path / "photos"))
    monkeypatch.setenv("MODEL", "tcm-tiny")
    return tmp_path / "photos"


@pytest.mark.parametrize("config, key, kinds", [(LABELS, "photo", 1), (TEMPLATE, "ocr", 2)])
def test_predictions_are_the_regions_of_the_pipeline(backend, photos, tmp_path, config, key, kinds):
    tasks = [{"id": 7, "data": {key: "/data/upload/3/0a1b2c3d-1.jpg"}}]
    (prediction,) = backend.TextDetector(label_config=config).predict(tasks)
    expected = backend.load_detector("tcm-tiny")(str(photos / "1.jpg"))
    assert len(prediction["result"]) == kinds * len(expected) and len(expected) > 2
    assert prediction["score"] == min(each["score"] for each in expected) and prediction["model_version"] == "tcm-tiny"
    assert {each["to_name"] for each in prediction["result"]} == {"img" if key == "photo" else "image"}
    (tmp_path / "tasks.json").write_text(json.dumps([{**tasks[0], "predictions": [prediction]}]))
    label = "Word" if key == "photo" else "Text"
    (record,) = read_dataset(
        "auto", tmp_path / "tasks.json", images=photos, results="predictions", categories=[label.lower()]
    )
    assert record.image == photos / "1.jpg" and len(record.polygons) == len(expected)
    for polygon, detection in zip(record.polygons, expected):
        np.testing.assert_allclose(polygon, detection["polygon"], atol=1e-2)


@pytest.mark.parametrize("shape, points", [("quad", 4), ("box", 4)])
def test_shapes_and_thresholds(backend, photos, monkeypatch, shape, points):
    monkeypatch.setenv("SHAPE", shape)
    monkeypatch.setenv("THRESHOLD", "0.999")
    (prediction,) = backend.TextDetector(label_config=LABELS).predict([{"data": {"photo": "1.jpg"}}])
    assert all(len(each["value"]["points"]) == points and each["score"] >= 0.999 for each in prediction["result"])


@pytest.mark.parametrize("address", ["/etc/passwd", "../secret.jpg", "file:///etc/passwd", "", None])
def test_files_of_this_machine_are_not_opened(backend, photos, address):
    (photos.parent / "secret.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="task 1.*(no address of an image|no name of an image|missing)"):
        backend.TextDetector(label_config=LABELS).predict([{"id": 1, "data": {"photo": address}}])


def test_images_come_from_the_server(backend, photos, monkeypatch):
    asked = []

    class Served(backend.TextDetector):
        def get_local_path(self, url, task_id=None):
            asked.append((url, task_id))
            return str(photos / "1.jpg")

    task = {"id": 5, "data": {"photo": "/data/upload/3/other.jpg"}}
    (prediction,) = Served(label_config=LABELS).predict([task])
    assert prediction["result"] and asked == [("/data/upload/3/other.jpg", 5)]
    Served.get_local_path = lambda self, url, project_dir=None: str(photos / "1.jpg")
    assert Served(label_config=LABELS).predict([task])[0]["result"]
    if not hasattr(backend.LabelStudioMLBase, "get_local_path"):
        with pytest.raises(FileNotFoundError, match="task 5: .*not in IMAGE_ROOT, and there is no server"):
            backend.TextDetector(label_config=LABELS).predict([task])


def test_a_configuration_without_polygons(backend, photos):
    with pytest.raises(ValueError, match="no <PolygonLabels>"):
        backend.TextDetector(label_config='<View><Image name="a" value="$b"/></View>').predict([])
    control = backend.find_control('<View><Image name="a" value="$b"/><Polygon name="c" toName="a"/></View>')
    results = backend.as_results([{"polygon": [[0, 0], [5, 0], [5, 10]], "score": 1}], 10, 20, control)
    assert [each["type"] for each in results] == ["polygon"] and results[0]["value"]["points"][2] == [50, 50]
