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
"""Settings of the image processor: wrong ones, the resize of the official code, limits and backends."""

import importlib.util
import json
import logging

import cv2
import numpy as np
import pytest
import torch
from conftest import shared_path
from PIL import Image
from tiny_model import black_picture, white_pipeline
from transformers import AutoImageProcessor

from tcm_hf import DEFAULT_CHECKPOINT, TCMImageProcessor
from tcm_hf.conversion.convert import PRESETS, preset_image_processor


PICTURE = np.random.default_rng(0).integers(0, 256, (370, 530, 3), dtype=np.uint8)

WRONG = {
    **dict.fromkeys(("do_convert_rgb", "do_resize", "do_upscale", "do_turn", "do_rescale", "do_normalize", "do_pad"), ["yes", 1, [], {}]),
    "size": ["big", 2.5, [1024, 2048], {"shortest_edge": "1024"}, {"shortest_edge": 10.5}, True],
    "pad_size": ["big", [1, 2], {"height": [3]}],
    "resample": ["bilinear", 6, -1, 2.5, [2], True],
    "rescale_factor": ["1/255", 0, -1, float("nan"), float("inf"), [1], True],
    "image_mean": ["0.5", [], ["0.5"] * 3, [0.1] * 5, [None] * 3, {"r": 1}, float("nan"), [0.1, float("inf"), 0.1]],
    "image_std": ["0.5", [], 0, [0.2, 0, 0.2], [0.2, -1, 0.2], [[0.2]] * 3, float("nan")],
    "size_divisor": ["32", 0, -32, 2.5, [32], True],
    "max_pixels": ["1e6", 0, -1, 2.5, [1], True],
    "resize_backend": ["pil", 3, ["opencv"], {}],
    "detector": [3, ["db"], {}, "magic"],
    "decoding": ["x", [1], 3],
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_wrong_settings_are_named_in_one_line(field, tmp_path):
    TCMImageProcessor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    saved = json.loads(path.read_text())
    for value in WRONG[field]:
        path.write_text(json.dumps({**saved, field: value}))
        for load in (
            lambda value=value: TCMImageProcessor(**{field: value}),
            lambda: TCMImageProcessor.from_pretrained(tmp_path),
            lambda: AutoImageProcessor.from_pretrained(tmp_path),
        ):
            with pytest.raises(ValueError, match=field) as caught:
                load()
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
        if field not in ("detector", "decoding"):
            with pytest.raises(ValueError, match=field):
                TCMImageProcessor()(PICTURE, **{field: value})


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": "high"},
        {"threshold": True},
        {"max_candidates": 2.5},
        {"min_size": [1]},
        {"shape": 3},
        {"unclip_ratio": {}},
    ],
)
def test_wrong_decoding_settings(values):
    with pytest.raises((ValueError, TypeError), match=next(iter(values))):
        TCMImageProcessor(decoding=values)


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", '"x"', "{", "", '{"preprocess": 3}', '{"_preprocess": 3}', '{"save_pretrained": ""}']
)
def test_files_that_are_no_settings(text, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises((ValueError, OSError)) as caught:
        TCMImageProcessor.from_pretrained(tmp_path)
    assert "preprocessor_config.json" in str(caught.value) or "no setting" in str(caught.value)


# ---------------------------------------------------------------------- resizing


@pytest.mark.parametrize("size", [(128, 256), (200, 300), (1024, 2048), (33, 47)])
def test_opencv_resizes_as_opencv_does(size):
    processor = TCMImageProcessor(
        size=dict(zip(("shortest_edge", "longest_edge"), size)), resize_backend="opencv", do_upscale=True, do_pad=False
    )
    height, width = processor.get_resized_size(*PICTURE.shape[:2])
    for source in (PICTURE, Image.fromarray(PICTURE), torch.tensor(PICTURE).permute(2, 0, 1)):
        (pixels,) = processor(source, do_normalize=False, do_rescale=False)["pixel_values"]
        expected = cv2.resize(PICTURE, (width, height), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(np.asarray(pixels).transpose(1, 2, 0), expected)
    (other,) = processor(PICTURE, do_normalize=False, do_rescale=False, resize_backend="pillow")["pixel_values"]
    if height < PICTURE.shape[0] / 1.5:  # averaging and picking differ on noise
        assert np.abs(np.asarray(other).transpose(1, 2, 0) - expected).mean() > 5


def test_opencv_filters():
    processor = TCMImageProcessor(
        size=100, resize_backend="opencv", do_normalize=False, do_rescale=False, do_pad=False
    )
    for resample, flag in ((0, cv2.INTER_NEAREST), (3, cv2.INTER_CUBIC), (1, cv2.INTER_LANCZOS4)):
        (pixels,) = processor(PICTURE, resample=resample)["pixel_values"]
        expected = cv2.resize(PICTURE, (143, 100), interpolation=flag)
        np.testing.assert_array_equal(np.asarray(pixels).transpose(1, 2, 0), expected)
    for resample in (4, 5):
        with pytest.raises(ValueError, match="resample .*opencv"):
            processor(PICTURE, resample=resample)
    (gray,) = processor(PICTURE[..., 0], do_convert_rgb=False)["pixel_values"]
    np.testing.assert_array_equal(np.asarray(gray)[0], cv2.resize(PICTURE[..., 0], (143, 100)))


def official_cases():
    folder = shared_path("parity/preprocess")
    spec = importlib.util.spec_from_file_location("fixture_inputs", folder.parent / "fixture_inputs.py")
    fixture_inputs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixture_inputs)
    for case in json.loads((folder / "preprocess.json").read_text())["cases"]:
        yield case, fixture_inputs.make_uint8_image(*case["input"])[..., ::-1]  # the fixture's arrays are BGR


def test_official_pixels():
    """Every case of the official test pipelines, with the settings that conversion writes."""
    presets = {
        "db_4068_1024(ic15,ctw)": ("db", "ic15"),
        "db_4068_736(td)": ("db", "td500"),
        "db_2944_800(tt)": ("db", "totaltext"),
    }
    seen = 0
    for case, picture in official_cases():
        if case["pipeline"] not in presets:
            continue
        detector, preset = presets[case["pipeline"]]
        assert preset in PRESETS[detector]
        processor = preset_image_processor(detector, preset)
        batch = processor(picture, return_tensors="np")
        values, mask = batch["pixel_values"][0], batch["pixel_mask"][0]
        assert list(values.shape) == case["tensor_shape"]
        assert [mask.any(1).sum(), mask.any(0).sum(), 3] == case["img_shape"]
        # Versions of OpenCV round a few pixels otherwise, by one of 255 levels.
        sampled = values.reshape(-1)[np.rint(np.linspace(0, values.size - 1, 256)).astype(int)]
        for given, expected in ((values.reshape(-1)[:64], case["first64"]), (sampled, case["strided256"])):
            np.testing.assert_allclose(given, expected, atol=1.01 / 57)
            assert (np.abs(given - expected) < 1e-5).mean() > 0.95
        assert values.mean() == pytest.approx(case["mean"], abs=1e-4)
        seen += 1
    assert seen >= 3


def test_presets_have_the_official_resize():
    for detector, presets in PRESETS.items():
        for preset in presets:
            assert preset_image_processor(detector, preset).resize_backend == "opencv"
    assert (
        TCMImageProcessor().resize_backend
        == TCMImageProcessor.from_pretrained(DEFAULT_CHECKPOINT).resize_backend
        == "pillow"
    )


def test_the_resize_is_saved(tmp_path):
    TCMImageProcessor(resize_backend="opencv", max_pixels=10**6).save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert loaded.resize_backend == "opencv" and loaded.max_pixels == 10**6


# ---------------------------------------------------------------------- limits


def test_max_pixels(monkeypatch):
    processor = TCMImageProcessor(max_pixels=370 * 530)
    assert processor(PICTURE)["pixel_values"]
    for call in (
        lambda: processor(PICTURE, max_pixels=370 * 530 - 1),
        lambda: TCMImageProcessor(max_pixels=370 * 530 - 1)([PICTURE[:9], PICTURE]),
    ):
        with pytest.raises(ValueError, match="530 x 370 pixels .*max_pixels=196099"):
            call()
    # What resizing would make of an image counts, too: a line of pixels with a shortest edge of 1024.
    line = np.zeros((1, 60_000, 3), np.uint8)
    with pytest.raises(
        ValueError, match="image 0 would be resized from 60000 x 1 to 61440000 x 1024 pixels.*longest_edge"
    ):
        processor(line, size=1024, do_upscale=True)
    pipe = white_pipeline(monkeypatch)
    with pytest.raises(ValueError, match="image 1 .*max_pixels=100"):
        pipe([PICTURE[:5, :5], PICTURE], max_pixels=100)
    pipe.image_processor.max_pixels = 99
    with pytest.raises(ValueError, match="max_pixels=99"):
        pipe(PICTURE)
    assert pipe(PICTURE, max_pixels=10**6) is not None


@pytest.mark.parametrize(
    "size, warned",
    [
        ((30000, 500), "text lower than 118 pixels"),
        ((500, 30000), "text lower than 118 pixels"),
        ((10000, 1000), "text lower than 40 pixels"),
        ((4000, 3000), "text lower than 24 pixels"),
        ((8192, 6144), "text lower than 49 pixels"),
        ((5000, 2000), "text lower than 20 pixels"),
        ((4096, 2048), None),
        ((2000, 100), None),
        ((1000, 5000), "text lower than 20 pixels"),
        ((1000, 4096), None),
        ((200, 1), None),
    ],
)
def test_images_that_are_reduced_much_get_a_warning(size, warned, caplog, monkeypatch, tmp_path):
    path = tmp_path / "long.png"
    black_picture(*size).save(path, compress_level=1)
    with caplog.at_level(logging.WARNING, logger="tcm_hf"):
        TCMImageProcessor()(path)
        messages = [record.getMessage() for record in caplog.records]
        white_pipeline(monkeypatch)(path)
    assert [record.getMessage() for record in caplog.records] == 2 * messages
    assert len(messages) == (warned is not None)
    for message in messages:
        assert (
            str(path) in message
            and warned in message
            and "longest_edge" in message
            and "--tile" in message
            and "\n" not in message
        )
        assert f"{size[0]} x {size[1]} pixels" in message
    caplog.clear()
    TCMImageProcessor()(path, size={"longest_edge": max(size)})
    assert not caplog.records


# ---------------------------------------------------------------------- backends


def test_another_backend_is_not_taken_in_silence():
    for call in (
        lambda: TCMImageProcessor(backend="torchvision"),
        lambda: TCMImageProcessor.from_pretrained(DEFAULT_CHECKPOINT, backend="torchvision"),
    ):
        with pytest.raises(ValueError, match="backend='torchvision'.*'pil' only"):
            call()
    assert TCMImageProcessor(backend="pil").backend == "pil"
    assert TCMImageProcessor.from_pretrained(DEFAULT_CHECKPOINT, backend="pil").backend == "pil"


@pytest.mark.parametrize(
    "asked", [{"backend": "torchvision"}, {"use_fast": True}, {"backend": None}, {"backend": "pil"}]
)
def test_auto_class_says_which_backend_it_takes(asked, monkeypatch):
    from transformers.models.auto import image_processing_auto

    said = []
    monkeypatch.setattr(image_processing_auto.logger, "warning_once", lambda message, *args: said.append(message))
    for installed in (True, False):
        said.clear()
        monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda installed=installed: installed)
        processor = AutoImageProcessor.from_pretrained(DEFAULT_CHECKPOINT, **asked)
        assert type(processor) is TCMImageProcessor and processor.backend == "pil"
        told = any("Requested torchvision backend is not available. Falling back to pil" in text for text in said)
        assert told == (asked not in ({"backend": None}, {"backend": "pil"}))
