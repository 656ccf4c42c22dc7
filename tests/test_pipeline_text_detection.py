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
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import black_picture, tiny_pipeline, white_pipeline
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import tcm_hf  # noqa: F401 - registers the task
from tcm_hf import TCMForTextDetection
from tcm_hf.model import image_loading, pipeline_text_detection
from tcm_hf.model.pipeline_text_detection import TextDetectionPipeline


BOX = (40, 30, 99, 49)  # first and last white pixel: left, top, right, bottom
PICTURE = black_picture(200, 100, BOX)


@pytest.fixture
def pipe(monkeypatch):
    return white_pipeline(monkeypatch)


@pytest.fixture(scope="module")
def random_pipe():
    return tiny_pipeline(threshold=0.1, mask_threshold=0.5)


@pytest.fixture(scope="module")
def checkpoint(random_pipe, tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    random_pipe.save_pretrained(directory)
    return str(directory)


def noisy_pictures():
    rng = np.random.default_rng(1)
    sizes = [(60, 100), (130, 90), (300, 400), (97, 33), (96, 96)]
    patches = [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(patch).resize(size[::-1], Image.NEAREST) for patch, size in zip(patches, sizes)]


def check_known(texts, box=BOX, size=(200, 100)):
    (text,) = texts
    assert set(text) == {"score", "label", "box", "polygon"}
    assert text["label"] == "text" and text["score"] == pytest.approx(0.9, abs=1e-3)
    assert text["box"] == dict(zip(("xmin", "ymin", "xmax", "ymax"), box))
    assert sorted(map(tuple, text["polygon"])) == sorted({(x, y) for x in box[::2] for y in box[1::2]})
    assert json.loads(json.dumps(texts)) == texts
    assert all(type(value) is int for value in text["box"].values()) and type(text["score"]) is float


def test_every_kind_of_picture(pipe, tmp_path):
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    array = np.asarray(PICTURE)
    sources = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), PICTURE, PICTURE.convert("RGBA")]
    sources += [array, array.transpose(2, 0, 1), array / 255, torch.tensor(array).permute(2, 0, 1)]
    for source in sources:
        check_known(pipe(source))
    for texts in pipe([path, array, PICTURE, path.read_bytes()]):
        check_known(texts)


def test_timeout(monkeypatch):
    seen = []

    def load(source, **kwargs):
        seen.append(kwargs["timeout"])
        return source

    monkeypatch.setattr(pipeline_text_detection, "load_rgb_image", load)
    pipe, patient = white_pipeline(monkeypatch), white_pipeline(monkeypatch, timeout=None)
    for call in (pipe, patient):
        call(PICTURE)
        call(PICTURE, timeout=None)
        call(PICTURE, timeout=5)
    assert seen == [60.0, None, 5, None, None, 5]


def test_slow_download(pipe):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:  # the client has gone
                pass

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(OSError, match="longer than 0.3 seconds"):
                pipe(f"http://127.0.0.1:{server.server_address[1]}/slow.png", timeout=0.3)
        finally:
            server.shutdown()


def test_url(pipe, monkeypatch):
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/picture.png"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(buffer.getvalue() if found else b"")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            check_known(pipe(address + "/picture.png", timeout=10))
            with pytest.raises(OSError, match="absent.png.*404"):
                pipe(address + "/absent.png")
            monkeypatch.setattr(image_loading, "MAX_DOWNLOAD_BYTES", len(buffer.getvalue()))
            check_known(pipe(address + "/picture.png"))
            monkeypatch.setattr(image_loading, "MAX_DOWNLOAD_BYTES", len(buffer.getvalue()) - 1)
            with pytest.raises(OSError, match="picture.png.* has more than .* MiB"):
                pipe(address + "/picture.png")
        finally:
            server.shutdown()


def test_many_pictures(pipe):
    for many in ([PICTURE, PICTURE], (PICTURE, PICTURE), np.stack([np.asarray(PICTURE)] * 2)):
        answers = pipe(many)
        assert isinstance(answers, list) and len(answers) == 2
        for texts in answers:
            check_known(texts)
    assert pipe([]) == [] and pipe(()) == [] and list(pipe(iter([]))) == []
    assert pipe([black_picture(30, 30)]) == [[]]
    columns = [{"image": PICTURE}, {"image": black_picture(80, 60)}]
    for texts, expected in zip(pipe(KeyDataset(columns, "image")), (1, 0)):
        assert len(texts) == expected


def test_dataset_column(pipe):
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"picture": [PICTURE, black_picture(80, 60)]})
    dataset = dataset.cast_column("picture", datasets.Image())
    assert [len(texts) for texts in pipe(dataset["picture"])] == [1, 0]
    assert [len(texts) for texts in pipe(KeyDataset(dataset, "picture"), batch_size=2)] == [1, 0]


def test_generators_are_streamed(pipe):
    read = []

    def pictures():
        for index in range(20):
            read.append(index)
            yield PICTURE

    for source in (pictures(), iter(map(Image.Image.copy, pictures()))):
        read.clear()
        answers = iter(pipe(source, batch_size=2))
        check_known(next(answers))
        assert len(read) <= 4
        assert len(list(answers)) == 19


def test_pixels_of_the_original(monkeypatch):
    pipe = white_pipeline(monkeypatch, shortest_edge=64)
    big = black_picture(1000, 400, (400, 100, 799, 199))
    (text,) = pipe(big)
    # Within two pixels of the small image.
    np.testing.assert_allclose(list(text["box"].values()), [400, 100, 800, 200], atol=16)
    (text,) = pipe(big, size={"longest_edge": 1000})
    assert text["box"] == {"xmin": 400, "ymin": 100, "xmax": 799, "ymax": 199}
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG", exif=exif)
    (text,) = pipe(buffer.getvalue(), size=1000)
    assert text["box"] == {"xmin": 99 - 49, "ymin": 40, "xmax": 99 - 30, "ymax": 99}


def test_boxes_hold_their_polygons(random_pipe):
    for picture in noisy_pictures():
        for text in random_pipe(picture, unclip_ratio=0.7):
            x, y = np.array(text["polygon"]).T
            box = text["box"]
            assert 0 <= box["xmin"] <= x.min() < box["xmin"] + 1 and 0 <= box["ymin"] <= y.min() < box["ymin"] + 1
            assert box["xmax"] - 1 < x.max() <= box["xmax"] <= picture.width
            assert box["ymax"] - 1 < y.max() <= box["ymax"] <= picture.height


def test_batches_agree_with_single_pictures(random_pipe):
    pictures = noisy_pictures()
    single = [random_pipe(picture) for picture in pictures]
    assert sum(len(texts) for texts in single) >= 3
    for batch_size in (2, 3, 5):
        for batched, alone in zip(random_pipe(pictures, batch_size=batch_size), single, strict=True):
            assert len(batched) == len(alone)
            for a, b in zip(batched, alone):
                assert a["score"] == pytest.approx(b["score"], abs=1e-4)
                np.testing.assert_allclose(a["polygon"], b["polygon"], atol=1e-2)


def test_arguments(monkeypatch):
    boxes = [(110, 60, 180, 80), (10, 62, 80, 82), (60, 10, 150, 30)]
    picture = black_picture(200, 100, *boxes)
    pipe = white_pipeline(monkeypatch)
    assert len(pipe(picture)) == 3 and pipe(picture, threshold=0.95) == []
    ordered = [tuple(text["box"].values()) for text in pipe(picture, reading_order=True)]
    assert ordered == [boxes[2], boxes[1], boxes[0]]
    assert all(len(text["polygon"]) == 4 for text in pipe(picture, shape="quad", unclip_ratio=1.0))
    assert any(len(text["polygon"]) > 4 for text in pipe(picture, shape="polygon", unclip_ratio=1.0))
    assert all(len(text["polygon"]) == 4 for text in pipe(picture, unclip_ratio=1.0))
    strict = white_pipeline(monkeypatch, threshold=0.95)
    assert strict(picture) == [] and len(strict(picture, threshold=0.5)) == 3
    for wrong, kind in (
        ({"sharpness": 1}, TypeError),
        ({"shape": "star"}, ValueError),
        ({"threshold": 7}, ValueError),
        ({"unclip_ratio": -1}, ValueError),
    ):
        with pytest.raises(kind, match=next(iter(wrong))):
            pipe(picture, **wrong)
        with pytest.raises(kind, match=next(iter(wrong))):
            white_pipeline(monkeypatch, **wrong)
    with pytest.raises(ValueError, match="image_processor"):
        TextDetectionPipeline(model=pipe.model, device="cpu")


def test_bad_pictures(pipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.png"):
        pipe(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="NaN"):
        pipe(np.full((20, 20, 3), np.nan))
    array, broken = np.asarray(PICTURE), np.full((20, 20, 3), np.nan)
    for bad in (broken, Image.new("RGB", (0, 5)), b"no image"):
        for many in ([PICTURE, array, bad], (PICTURE, array, bad)):
            for batch_size in (1, 3):
                with pytest.raises((ValueError, OSError), match="^image 2 "):
                    pipe(many, batch_size=batch_size)
    with pytest.raises(ValueError, match="^image 1 "):
        list(pipe(iter([PICTURE, broken])))
    with pytest.raises(FileNotFoundError, match="absent.png"):
        pipe([PICTURE, tmp_path / "absent.png"])
    assert pipe(Image.new("RGB", (1, 1))) == [] and pipe(Image.new("RGB", (1, 5000))) == []


def test_task_loads_a_checkpoint(checkpoint, random_pipe):
    loaded = pipeline("text-detection", model=checkpoint, threshold=0.1, mask_threshold=0.5)
    assert isinstance(loaded, TextDetectionPipeline)
    pictures = noisy_pictures()
    for a, b in zip(loaded(pictures), random_pipe(pictures)):
        assert [text["box"] for text in a] == [text["box"] for text in b]
    boxes = pipeline("object-detection", model=checkpoint)(pictures[0])
    assert boxes and set(boxes[0]) == {"score", "label", "box"}


def test_weights_of_another_size(checkpoint):
    model = TCMForTextDetection.from_pretrained(
        checkpoint, detector_config={"head_channels": 8}, ignore_mismatched_sizes=True
    )
    with pytest.raises(ValueError, match=r"weights of TCMForTextDetection \(detector\..*in another size.*random"):
        pipeline("text-detection", model=model, image_processor=checkpoint)


def test_statistics_that_float16_cannot_hold(checkpoint, tmp_path):
    pipe = pipeline("text-detection", model=checkpoint)
    pipe.model.detector.probability_branch[1].running_var[0] = 7e7
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="running_var.*float32 or bfloat16"):
        pipeline("text-detection", model=str(tmp_path), dtype="float16")


def test_half_precision(checkpoint):
    for dtype in (torch.bfloat16, torch.float16):
        half = pipeline(
            "text-detection",
            model=checkpoint,
            pipeline_class=TextDetectionPipeline,
            dtype=dtype,
            mask_threshold=0.5,
            threshold=0.1,
        )
        assert half.model.dtype == dtype
        answers = half(noisy_pictures()[:2], batch_size=2)
        assert sum(map(len, answers)) > 0
