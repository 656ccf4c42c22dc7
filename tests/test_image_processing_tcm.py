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
import logging

import numpy as np
import pytest
import torch
from conftest import shared_path
from PIL import Image

from tcm_hf.model.detectors import register_decoder, unregister_detector
from tcm_hf.model.image_loading import load_rgb_image
from tcm_hf.model.image_processing_tcm import TCMImageProcessor


MEAN = np.array([122.679, 116.669, 104.007])
STD = np.array([58.395, 57.12, 57.375])
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)


def encoded(array, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(buffer, format, **options)
    return buffer.getvalue()


# ---------------------------------------------------------------------- sizes, values, padding


@pytest.mark.parametrize(
    ("before", "size", "do_upscale", "after"),
    [
        ((720, 1280), {"shortest_edge": 1024, "longest_edge": 2048}, False, (720, 1280)),
        ((3000, 4000), {"shortest_edge": 1024, "longest_edge": 2048}, False, (1024, 1365)),
        ((4000, 3000), {"shortest_edge": 1024, "longest_edge": 2048}, False, (1365, 1024)),
        ((500, 10000), {"shortest_edge": 1024, "longest_edge": 2048}, False, (102, 2048)),
        ((1, 5000), {"shortest_edge": 1024, "longest_edge": 2048}, False, (1, 2048)),
        ((1, 1), {"shortest_edge": 1024, "longest_edge": 2048}, False, (1, 1)),
        ((180, 320), {"shortest_edge": 1024, "longest_edge": 4068}, True, (1024, 1820)),
        ((100, 400), {"shortest_edge": 50}, False, (50, 200)),
        ((100, 400), {"longest_edge": 50}, False, (13, 50)),
        ((100, 400), {"max_height": 50, "max_width": 100}, False, (25, 100)),
        ((100, 400), {"max_height": 500, "max_width": 500}, False, (100, 400)),
        ((640, 960), {"height": 720, "width": 1280}, False, (720, 1280)),
    ],
)
def test_resized_size(before, size, do_upscale, after):
    processor = TCMImageProcessor(size=size, do_upscale=do_upscale)
    assert processor.get_resized_size(*before) == after
    if max(before) < 1000:
        mask = processor(np.zeros((*before, 3), np.uint8), return_tensors="np")["pixel_mask"][0]
        assert (mask.any(1).sum(), mask.any(0).sum()) == after


def test_enlarging_has_a_limit():
    processor = TCMImageProcessor(size={"shortest_edge": 1024, "longest_edge": 2048}, do_upscale=True, max_upscale=1.5)
    assert processor.get_resized_size(640, 960) == (960, 1440)
    assert processor.get_resized_size(720, 1280) == (1024, 1820)  # the shortest edge comes first
    assert processor.get_resized_size(3000, 4000) == (1024, 1365)
    assert processor.get_resized_size(640, 960, max_upscale=1) == processor.get_resized_size(
        640, 960, do_upscale=False
    )
    image = np.zeros((100, 160, 3), np.uint8)
    assert processor(image)["pixel_mask"][0].sum() == 150 * 240
    assert processor(image, max_upscale=2.0)["pixel_mask"][0].sum() == 200 * 320
    with pytest.raises(ValueError, match="max_upscale must be a finite number of at least 1"):
        TCMImageProcessor(max_upscale=0.5)


def test_int_size_is_the_shortest_edge():
    assert dict(TCMImageProcessor(size=64).size) == {"shortest_edge": 64}
    assert TCMImageProcessor()(np.zeros((100, 200, 3), np.uint8), size=32)["pixel_mask"][0].shape == (32, 64)


@pytest.mark.parametrize("size", [{"min_pixels": 10, "max_pixels": 20}, {"shortest_edge": 0}, {"longest_edge": -5}])
def test_wrong_size(size):
    with pytest.raises(ValueError, match="size"):
        TCMImageProcessor()(PICTURE, size=size)


def test_values_padding_and_mask():
    batch = TCMImageProcessor()([PICTURE, PICTURE[:10, :60]], return_tensors="pt")
    assert batch["pixel_values"].shape == (2, 3, 64, 64) and batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_mask"].shape == (2, 64, 64) and batch["pixel_mask"].dtype == torch.int64
    for index, picture in enumerate([PICTURE, PICTURE[:10, :60]]):
        height, width = picture.shape[:2]
        expected = np.zeros((64, 64, 3))
        expected[:height, :width] = (picture - MEAN) / STD
        np.testing.assert_allclose(batch["pixel_values"][index].permute(1, 2, 0).numpy(), expected, atol=2e-6)
        mask = torch.zeros(64, 64, dtype=torch.int64)
        mask[:height, :width] = 1
        assert torch.equal(batch["pixel_mask"][index], mask)


def test_switches():
    processor = TCMImageProcessor()
    plain = processor(PICTURE, do_normalize=False, do_rescale=False, do_pad=False, return_tensors="np")
    assert set(plain) == {"pixel_values"}
    np.testing.assert_array_equal(plain["pixel_values"][0], PICTURE.transpose(2, 0, 1).astype(np.float32))
    scaled = processor(PICTURE / np.float32(255), do_normalize=False, do_rescale=False, do_pad=False)
    np.testing.assert_allclose(scaled["pixel_values"][0], PICTURE.transpose(2, 0, 1) / 255, atol=1e-6)
    assert processor(PICTURE, size_divisor=10)["pixel_values"][0].shape == (3, 40, 60)
    assert processor(PICTURE, pad_size={"height": 70, "width": 90})["pixel_mask"][0].shape == (70, 90)
    assert processor(PICTURE, do_resize=False, size=8)["pixel_mask"][0].sum() == 37 * 53
    gray = processor(PICTURE[..., 0], do_convert_rgb=False, image_mean=0.5, image_std=0.5)["pixel_values"][0]
    assert gray.shape == (1, 64, 64)
    with pytest.raises(ValueError, match="pad_size"):
        processor(PICTURE, pad_size={"height": 10, "width": 90})
    with pytest.raises(ValueError, match="channels"):
        processor([PICTURE, PICTURE[..., 0]], do_convert_rgb=False)
    with pytest.raises(ValueError, match="image_mean has 2 values"):
        processor(PICTURE, image_mean=[0.1, 0.2])
    with pytest.raises(ValueError, match="do_center_crop"):
        processor(PICTURE, do_center_crop=True, crop_size=10)
    with pytest.raises(ValueError, match="size_divisor"):
        processor(PICTURE, size_divisor=0)
    with pytest.raises(TypeError, match="sharpness"):
        processor(PICTURE, sharpness=3)
    with pytest.raises(TypeError, match="decoding"):
        processor(PICTURE, decoding={})


def test_downscaling_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    values = TCMImageProcessor(do_normalize=False)(stripes, size=16, return_tensors="np")["pixel_values"]
    # Point sampling would give 0 or 1.
    assert np.abs(values[0, :, 4:12, 4:12] - 0.5).max() < 0.1


def test_official_preprocessing():
    folder = shared_path("parity/preprocess")
    import importlib.util

    spec = importlib.util.spec_from_file_location("fixture_inputs", folder.parent / "fixture_inputs.py")
    fixture_inputs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixture_inputs)
    cases = json.loads((folder / "preprocess.json").read_text())["cases"]
    cases = [
        case for case in cases if case["pipeline_name"] == "test_pipeline_4068_1024" and "db_" in case["pipeline"]
    ]
    assert cases
    processor = TCMImageProcessor(size={"shortest_edge": 1024, "longest_edge": 4068}, do_upscale=True)
    for case in cases[:2]:
        picture = fixture_inputs.make_uint8_image(*case["input"])[..., ::-1]  # the fixture's arrays are BGR
        batch = processor(picture, return_tensors="np")
        values, mask = batch["pixel_values"][0], batch["pixel_mask"][0]
        assert list(values.shape) == case["tensor_shape"]
        assert [mask.any(1).sum(), mask.any(0).sum(), 3] == case["img_shape"]
        # Two implementations of bilinear interpolation differ by a gray level or two of 8 bits.
        np.testing.assert_allclose(values.reshape(-1)[:64], case["first64"], atol=2 / 57)


def test_size_is_logged_once(caplog):
    processor = TCMImageProcessor(size={"shortest_edge": 17, "longest_edge": 23})
    with caplog.at_level(logging.INFO, logger="tcm_hf.model.image_processing_tcm"):
        processor([PICTURE[:5, :5], PICTURE, PICTURE])
        processor(PICTURE)
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert "from 53 x 37 to 23 x 16" in message


# ---------------------------------------------------------------------- kinds of input


def test_all_sources_agree(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(PICTURE))
    expected = TCMImageProcessor()(PICTURE, return_tensors="np")["pixel_values"]
    sources = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "file": io.BytesIO(path.read_bytes()),
        "PIL": Image.fromarray(PICTURE),
        "lazy PIL": Image.open(path),
        "numpy CHW": PICTURE.transpose(2, 0, 1),
        "torch CHW": torch.from_numpy(PICTURE.transpose(2, 0, 1).copy()),
        "torch HWC": torch.from_numpy(PICTURE),
        "float64 0..1": PICTURE / 255,
        "torch float 0..1": torch.from_numpy(PICTURE) / 255,
        "float32 0..255": PICTURE.astype(np.float32),
        "int64": PICTURE.astype(np.int64),
        "uint16": PICTURE.astype(np.uint16) * 257,
    }
    for name, source in sources.items():
        np.testing.assert_array_equal(TCMImageProcessor()(source, return_tensors="np")["pixel_values"], expected, name)
    mixed = TCMImageProcessor()([path, PICTURE[:20], torch.from_numpy(PICTURE)], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(mixed[0], expected[0])
    np.testing.assert_array_equal(mixed[1, :, :20], expected[0, :, :20])
    for batch in (np.stack([PICTURE] * 2), torch.from_numpy(np.stack([PICTURE] * 2)), ([PICTURE], [PICTURE])):
        assert len(TCMImageProcessor()(batch)["pixel_values"]) == 2


def test_ambiguous_layouts():
    # One row of RGB pixels, the usual layout of each library.
    row = RNG.integers(0, 256, (1, 50, 3), dtype=np.uint8)
    assert load_rgb_image(row).size == (50, 1)
    assert load_rgb_image(torch.from_numpy(row.transpose(2, 0, 1).copy())).size == (50, 1)
    assert load_rgb_image(row, input_data_format="channels_first").size == (3, 50)
    with pytest.raises(ValueError, match="neither its first nor its last"):
        load_rgb_image(np.zeros((9, 9, 9), np.uint8))
    with pytest.raises(ValueError, match="channels_first"):
        load_rgb_image(PICTURE, input_data_format="channels_first")


def test_modes(tmp_path):
    gray = PICTURE[..., 0]
    alpha = np.where(np.arange(53) < 20, 255, 0).astype(np.uint8) * np.ones((37, 1), np.uint8)
    on_white = np.where(alpha[..., None] > 0, PICTURE, 255)
    gray_on_white = np.where(alpha > 0, gray, 255)
    palette = Image.fromarray(gray).convert("P")
    palette.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    frames = [Image.new("RGB", (53, 37), color) for color in ("red", "lime")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    inks = [*(255 - PICTURE).transpose(2, 0, 1), np.zeros_like(gray)]
    inverted = Image.merge("CMYK", [Image.fromarray(ink) for ink in inks])

    def gray_rgb(array):
        return np.repeat(np.asarray(array)[..., None], 3, axis=-1)

    cases = {
        "L": (encoded(gray), gray_rgb(gray)),
        "1": (encoded(Image.fromarray(gray > 127)), gray_rgb((gray > 127) * 255)),
        "P": (encoded(palette), np.dstack([gray, 255 - gray, np.full_like(gray, 7)])),
        "LA": (encoded(Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])), gray_rgb(gray_on_white)),
        "RGBA": (encoded(np.dstack([PICTURE, alpha])), on_white),
        "I;16": (encoded(gray.astype(np.uint16) * 257), gray_rgb(gray)),
        "I": (encoded(Image.fromarray(gray.astype(np.int32) * 257), "TIFF"), gray_rgb(gray)),
        "F": (encoded(Image.fromarray(gray.astype(np.float32) / 255), "TIFF"), gray_rgb(gray)),
        "GIF": (buffer.getvalue(), np.broadcast_to([255, 0, 0], PICTURE.shape)),
        "CMYK": (encoded(inverted, "TIFF"), PICTURE),
        "array LA": (np.dstack([gray, alpha]), gray_rgb(gray_on_white)),
        "array RGBA": (np.dstack([PICTURE, alpha]), on_white),
        "array bool": (gray > 127, gray_rgb((gray > 127) * 255)),
    }
    for name, (source, expected) in cases.items():
        image = load_rgb_image(source)
        assert image.mode == "RGB", name
        np.testing.assert_allclose(np.asarray(image).astype(int), expected, atol=1, err_msg=name)
        assert TCMImageProcessor()(source, return_tensors="pt")["pixel_values"].shape == (1, 3, 64, 64), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    # What a viewer must do for each value of the EXIF tag (EXIF 2.3, section 4.6.4).
    turns = [lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1], lambda a: a.swapaxes(0, 1)]
    turns += [lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].swapaxes(0, 1), lambda a: np.rot90(a)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, exif=exif)
    path = tmp_path / "turned.png"
    path.write_bytes(data)
    for source in (data, path, Image.open(path)):
        np.testing.assert_array_equal(np.asarray(load_rgb_image(source)), turns[orientation - 1](PICTURE))


def test_base64():
    import base64

    text = base64.b64encode(encoded(PICTURE)).decode()
    for source in (text, "data:image/png;base64," + text):
        np.testing.assert_array_equal(np.asarray(load_rgb_image(source)), PICTURE)


def test_bad_input(tmp_path, monkeypatch):
    processor = TCMImageProcessor()
    nan = PICTURE.astype(np.float32)
    nan[3, 4, 1] = np.nan
    truncated, text, empty = tmp_path / "truncated.jpg", tmp_path / "text.jpg", tmp_path / "empty.png"
    truncated.write_bytes(encoded(np.asarray(Image.fromarray(PICTURE).resize((800, 600))), "JPEG")[:9000])
    text.write_text("this is no image")
    empty.write_bytes(b"")
    cases = [
        ([], ValueError, "empty"),
        ([PICTURE, nan], ValueError, "image 1 .*NaN"),
        ([PICTURE, torch.from_numpy(nan)], ValueError, "image 1 .*NaN"),
        ([np.full((4, 4), np.inf)], ValueError, "image 0 .*infinite"),
        ([PICTURE - 300.0], ValueError, "image 0 .*before normalization"),
        ([np.full((4, 4), -1)], ValueError, "image 0"),
        ([np.zeros((0, 5, 3), np.uint8)], ValueError, "image 0 has no pixels"),
        ([Image.new("RGB", (0, 5))], ValueError, "image 0 has no pixels"),
        ([np.zeros((4, 4), complex)], ValueError, "image 0"),
        ([PICTURE, str(truncated)], OSError, "truncated.jpg"),
        ([truncated.read_bytes()], OSError, "image 0 is truncated"),
        ([text], OSError, "text.jpg.* is not an image"),
        ([empty], OSError, "empty.png.* is not an image"),
        ([b"no image"], OSError, "image 0"),
        ([str(tmp_path / "absent.jpg")], FileNotFoundError, "absent.jpg.*no such file"),
        ([tmp_path], OSError, "is a directory"),
        ([3], TypeError, "image 0.*int"),
        ([{"image": PICTURE}], TypeError, "image 0.*dict"),
        (["data:image/png;base64,!!"], OSError, "base64"),
        (["http://127.0.0.1:9/a.png"], OSError, "127.0.0.1:9.*cannot be downloaded"),
    ]
    for source, kind, message in cases:
        with pytest.raises(kind, match=message):
            processor(source)
    with pytest.raises(OSError, match="is truncated"):
        processor(Image.open(truncated))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(encoded(PICTURE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(ValueError, match="bomb.png.*MAX_IMAGE_PIXELS"):
        processor(bomb)


# ---------------------------------------------------------------------- post-processing


def outputs_with(*boxes, shape=(64, 96), image_sizes=None, dtype=torch.float32, logit=2.1972246):
    """Hand-made outputs of one image: inside of the boxes (first and last pixel) the probability is 0.9."""
    logits = torch.full((1, 1, *shape), -8.0)
    for left, top, right, bottom in boxes:
        logits[0, 0, top : bottom + 1, left : right + 1] = logit
    return {"logits": logits.to(dtype), "image_sizes": None if image_sizes is None else torch.tensor(image_sizes)}


def expanded(box, ratio=1.5):
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    distance = width * height * ratio / (2 * (width + height))
    return np.array([left - distance, top - distance, right + distance, bottom + distance])


def neat(box, ratio=1.5):
    """The rectangle with the area of the expanded box, whose corners are round, and as much less on each side."""
    left, top, right, bottom = expanded(box, ratio)
    radius = box[0] - left
    width, height = right - left, bottom - top
    # (width - 2 x) (height - 2 x) = width height - (4 - pi) radius**2
    half = (width + height) / 2
    less = (half - np.sqrt(half**2 - (4 - np.pi) * radius**2)) / 2
    return np.array([left + less, top + less, right - less, bottom - less])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", ["auto", "polygon", "quad", "box"])
def test_known_text(shape, dtype):
    box = (20, 24, 50, 34)
    outputs = outputs_with(box, shape=(64, 128), image_sizes=[[50, 100]], dtype=dtype)
    for target_sizes in ([(200, 300)], torch.tensor([[200, 300]])):
        (result,) = TCMImageProcessor().post_process_text_detection(outputs, target_sizes, shape=shape)
        (polygon,) = result["polygons"]
        assert polygon.dtype == np.float32 and polygon.ndim == 2 and polygon.shape[1] == 2
        assert len(polygon) == 4 or shape == "polygon"
        around = neat(box) if shape == "auto" else expanded(box)
        expected = around * [3, 4, 3, 4]
        np.testing.assert_allclose([*polygon.min(0), *polygon.max(0)], expected, atol=0.05)
        np.testing.assert_allclose(result["boxes"].numpy(), [expected], atol=0.05)
        assert result["boxes"].dtype == result["scores"].dtype == torch.float32
        assert result["scores"].tolist() == pytest.approx([0.9], abs=2e-3)
        assert torch.equal(result["labels"], torch.tensor([0]))
    (result,) = TCMImageProcessor().post_process_text_detection(outputs, shape=shape)
    np.testing.assert_allclose(result["boxes"].numpy(), [around], atol=0.05)


def test_results_are_inside_and_clockwise():
    boxes = [(0, 0, 30, 10), (60, 0, 95, 20), (5, 50, 40, 63), (70, 40, 95, 63)]
    for shape in ("polygon", "quad", "box"):
        (result,) = TCMImageProcessor().post_process_text_detection(
            outputs_with(*boxes), [(333, 777)], shape=shape, unclip_ratio=3.0
        )
        assert len(result["polygons"]) == 4
        for polygon in result["polygons"]:
            assert polygon.min() >= 0 and polygon[:, 0].max() <= 777 and polygon[:, 1].max() <= 333
            x, y = polygon.astype(float).T
            assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0
            assert polygon[0].sum() <= polygon.min(0).sum() + 0.35 * np.ptp(polygon, axis=0).sum()
            if shape != "polygon":
                assert polygon.shape == (4, 2)


def test_padding_is_not_decoded():
    outputs = outputs_with((10, 10, 40, 20), (60, 40, 90, 60), shape=(64, 96), image_sizes=[[32, 50]])
    (result,) = TCMImageProcessor().post_process_text_detection(outputs)
    assert len(result["polygons"]) == 1
    outputs["image_sizes"] = None
    assert len(TCMImageProcessor().post_process_text_detection(outputs)[0]["polygons"]) == 2


def test_arguments_reach_the_decoder():
    weak, strong = (5, 5, 35, 15), (5, 35, 45, 50)
    outputs = outputs_with(weak, strong)
    outputs["logits"][0, 0, 5:16, 5:36] = 0.4  # probability 0.6
    processor = TCMImageProcessor()

    def count(**kwargs):
        return len(processor.post_process_text_detection(outputs, **kwargs)[0]["polygons"])

    assert count() == 2
    assert count(threshold=0.7) == 1 and count(mask_threshold=0.7) == 1
    assert count(max_candidates=1) == 1 and count(min_size=22.0) == 1
    tight, wide = (processor.post_process_text_detection(outputs, unclip_ratio=r)[0]["boxes"] for r in (0.0, 1.0))
    assert (tight[:, :2] > wide[:, :2]).all() and (tight[:, 2:] < wide[:, 2:]).all()
    rough, fine = (processor.post_process_text_detection(outputs, epsilon_ratio=r) for r in (0.3, 0.0))
    assert [p.tolist() for p in rough[0]["polygons"]] != [p.tolist() for p in fine[0]["polygons"]]
    saved = TCMImageProcessor(decoding={"threshold": 0.7})
    assert len(saved.post_process_text_detection(outputs)[0]["polygons"]) == 1
    assert len(saved.post_process_text_detection(outputs, threshold=0.1)[0]["polygons"]) == 2


def test_reading_order():
    boxes = [(50, 40, 90, 50), (50, 4, 90, 14), (5, 40, 40, 50), (5, 5, 40, 15)]
    (result,) = TCMImageProcessor().post_process_text_detection(outputs_with(*boxes), reading_order=True)
    starts = result["boxes"][:, :2].numpy()
    assert (starts[:2, 1] < 20).all() and (starts[2:, 1] > 20).all()
    assert starts[0, 0] < starts[1, 0] and starts[2, 0] < starts[3, 0]
    for polygon, box in zip(result["polygons"], result["boxes"].numpy()):
        np.testing.assert_allclose([*polygon.min(0), *polygon.max(0)], box)


def test_no_text():
    for results in (
        TCMImageProcessor().post_process_text_detection(outputs_with(), [(10, 20)], reading_order=True),
        TCMImageProcessor().post_process_object_detection(outputs_with(), 0.5, [(10, 20)]),
    ):
        (result,) = results
        assert result["boxes"].shape == (0, 4) and result["scores"].shape == (0,)
        assert result["labels"].shape == (0,) and result["labels"].dtype == torch.int64
        assert result.get("polygons", []) == []


def test_object_detection_form():
    box = (20, 24, 50, 34)
    processor = TCMImageProcessor()
    (result,) = processor.post_process_object_detection(outputs_with(box), 0.5, torch.tensor([[128, 192]]))
    assert set(result) == {"scores", "labels", "boxes"}
    np.testing.assert_allclose(result["boxes"].numpy(), [neat(box) * 2], atol=0.05)
    assert len(processor.post_process_object_detection(outputs_with(box), 0.95)[0]["boxes"]) == 0


def test_bad_post_processing():
    processor = TCMImageProcessor()
    outputs = outputs_with((5, 5, 30, 15))
    for kwargs in ({"threshold": 1.5}, {"mask_threshold": -0.1}, {"shape": "circle"}, {"target_sizes": [(1, 2)] * 2}):
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            processor.post_process_text_detection(outputs, **kwargs)
    with pytest.raises(ValueError, match="target_sizes"):
        processor.post_process_text_detection(outputs, [(0, 5)])
    with pytest.raises(TypeError, match="no argument sharpness; known are .*unclip_ratio"):
        processor.post_process_text_detection(outputs, sharpness=1)
    with pytest.raises(ValueError, match="logits"):
        processor.post_process_text_detection({"logits": torch.zeros(3, 4)})
    outputs["logits"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="the logits are NaN"):
        processor.post_process_text_detection(outputs)
    two = torch.cat([torch.zeros_like(outputs["logits"]), outputs["logits"]])
    with pytest.raises(ValueError, match="image 1 are NaN"):
        processor.post_process_text_detection({"logits": two})


@pytest.mark.parametrize(
    ("detector", "name", "values"),
    [
        ("db", "threshold", [-0.1, 1.1, "high"]),
        ("db", "unclip_ratio", [-1, "wide"]),
        ("db", "min_size", [-3.0]),
        ("db", "max_candidates", [0, 2.5]),
        ("db", "epsilon_ratio", [-0.1]),
        ("db", "seed_threshold", ["x", 3]),
        ("db", "seed_share", [2]),
        ("db", "whole_pixels", ["no", 1]),
        ("fce", "nms_threshold", [2]),
        ("fce", "alpha", [-1.0]),
        ("fce", "num_points", [2]),
        ("pan", "max_distance", [-1]),
        ("pan", "min_area", [-1]),
        ("pan", "kernel_threshold", [-0.5]),
    ],
)
def test_decoding_arguments_are_checked(detector, name, values):
    processor = TCMImageProcessor(detector=detector)
    for value in (*values, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            processor.decoding_arguments(**{name: value})
        with pytest.raises(ValueError, match=f"^{name} must be"):
            TCMImageProcessor(detector=detector, decoding={name: value})
    default = processor.decoding[name]
    assert processor.decoding_arguments(**{name: None})[name] == default
    given = 0.5 if default is None else default
    assert processor.decoding_arguments(**{name: np.asarray(given)[()]})[name] == given


def test_decoder_without_score_threshold():
    def decode(probabilities, *, level):
        box = np.array([[0, 0], [4, 0], [4, 2], [0, 2]], np.float32)
        return [box], np.array([level])

    register_decoder("plain", decode, {"level": 0.25})
    try:
        processor = TCMImageProcessor(detector="plain")
        (result,) = processor.post_process_text_detection({"logits": torch.zeros(1, 1, 8, 8)}, threshold=None)
        assert result["scores"].tolist() == [0.25]
        with pytest.raises(TypeError, match="no argument threshold"):
            processor.post_process_text_detection({"logits": torch.zeros(1, 1, 8, 8)}, threshold=0.5)
        with pytest.raises(ValueError, match="level must be"):
            processor.decoding_arguments(level=float("nan"))
    finally:
        unregister_detector("plain")


def test_detector_of_ones_own():
    def decode(maps, *, score_threshold, grid):
        assert maps.shape == (2, 4, 6) and maps.dtype == np.float32
        return [np.array([[0, 0], [4, 0], [4, 2], [0, 2]], np.float32)], np.array([grid])

    with pytest.raises(ValueError, match="unknown detector 'mine'.*'db'"):
        TCMImageProcessor(detector="mine")
    register_decoder("mine", decode, {"score_threshold": 0.5, "grid": 0.25}, activation="none", stride=4)
    try:
        processor = TCMImageProcessor(detector="mine")
        outputs = {"logits": torch.randn(1, 2, 8, 8), "image_sizes": torch.tensor([[16, 24]])}
        (result,) = processor.post_process_text_detection(outputs, [(32, 24)], grid=0.75)
        # Four map pixels are 16 input pixels: 16 original ones in x, and 2 * 4 * 2 in y.
        np.testing.assert_allclose(result["boxes"].numpy(), [[0, 0, 16, 16]])
        assert result["scores"].tolist() == [0.75]
        with pytest.raises(TypeError, match="unclip_ratio"):
            processor.post_process_text_detection(outputs, unclip_ratio=2.0)
    finally:
        unregister_detector("mine")
    with pytest.raises(ValueError, match="stride"):
        register_decoder("other", decode, {}, stride=0)
    with pytest.raises(ValueError, match="activation"):
        register_decoder("other", decode, {}, activation="softmax")


# ---------------------------------------------------------------------- saving and loading


def test_save_and_load(tmp_path):
    processor = TCMImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, decoding={"unclip_ratio": 1.9})
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "TCMImageProcessor" and saved["detector"] == "db"
    assert saved["decoding"]["unclip_ratio"] == 1.9 and saved["decoding"]["mask_threshold"] == 0.3
    assert saved["do_upscale"] is False and saved["size_divisor"] == 32
    loaded = TCMImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    changed = TCMImageProcessor.from_pretrained(tmp_path, decoding={"threshold": 0.2}, do_upscale=True)
    assert changed.decoding["threshold"] == 0.2 and changed.do_upscale is True
    with pytest.raises(TypeError, match="decoding.*sharpness"):
        TCMImageProcessor(decoding={"sharpness": 1})


def test_instances_do_not_share_settings():
    first, second = TCMImageProcessor(), TCMImageProcessor()
    first.decoding["threshold"] = 0.1
    first.size["shortest_edge"] = 5
    assert second.decoding["threshold"] == 0.5 and second.size["shortest_edge"] == 1024
    assert TCMImageProcessor().decoding["threshold"] == 0.5
