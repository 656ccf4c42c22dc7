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
import numpy as np
import pytest
from PIL import Image

from tcm_hf.visualization import draw_detections


SQUARE = {"score": 0.87, "label": "text", "box": {}, "polygon": [[20, 20], [60, 20], [60, 50], [20, 50]]}


def test_polygon_is_filled_and_outlined():
    image = Image.new("RGB", (100, 80), (100, 100, 100))
    drawn = draw_detections(image, [SQUARE], color=(200, 0, 0), fill_opacity=0.5, line_width=1)
    pixels = np.asarray(drawn).astype(int)
    assert drawn.mode == "RGB" and drawn.size == image.size
    np.testing.assert_allclose(pixels[25:45, 25:55], np.broadcast_to([150, 50, 50], (20, 30, 3)), atol=1)
    np.testing.assert_array_equal(pixels[20, 25:55], np.broadcast_to([200, 0, 0], (30, 3)))
    outside = np.ones((80, 100), bool)
    outside[18:53, 18:63] = False
    assert (pixels[outside] == 100).all()
    assert image.getextrema() == ((100, 100),) * 3


def test_overlaps_are_not_darker():
    image = Image.new("RGB", (100, 80), (100, 100, 100))
    once = draw_detections(image, [SQUARE], line_width=0)
    assert np.array_equal(np.asarray(once), np.asarray(draw_detections(image, [SQUARE, SQUARE], line_width=0)))


def test_scores_boxes_and_sources(tmp_path):
    image = Image.new("L", (100, 80), 30)
    image.save(tmp_path / "gray.png")
    plain = draw_detections(tmp_path / "gray.png", [SQUARE])
    scored = np.asarray(draw_detections(np.asarray(image), [SQUARE], show_scores=True))
    changed = np.argwhere((np.asarray(plain) != scored).any(-1))
    assert len(changed) > 20 and (scored[..., 1] > 200).any()
    # The score stands above the first point.
    assert changed[:, 0].max() <= 22 and changed[:, 1].min() >= 15
    box = {"score": 0.5, "box": {"xmin": 20, "ymin": 20, "xmax": 60, "ymax": 50}}
    assert np.array_equal(np.asarray(draw_detections(image, [box])), np.asarray(plain))


def test_scores_stay_on_the_picture():
    corner = {"score": 1.0, "polygon": [[95, 0], [100, 0], [100, 5], [95, 5]]}
    drawn = np.asarray(draw_detections(Image.new("RGB", (100, 80)), [corner], show_scores=True))
    assert (drawn[:, 70:, 1] > 200).sum() > 10


def test_nothing_to_draw_and_bad_input(tmp_path):
    image = Image.new("RGB", (10, 10), (1, 2, 3))
    drawn = draw_detections(image, [])
    assert drawn is not image and np.array_equal(np.asarray(drawn), np.asarray(image))
    with pytest.raises(ValueError, match="detection 1 has neither"):
        draw_detections(image, [SQUARE, {"score": 1.0}])
    with pytest.raises(ValueError, match="detection 0.*shape"):
        draw_detections(image, [{"polygon": [[1, 2], [3, 4]]}])
    with pytest.raises(ValueError, match="fill_opacity"):
        draw_detections(image, [], fill_opacity=2)
    with pytest.raises(FileNotFoundError, match="absent"):
        draw_detections(tmp_path / "absent.png", [])
