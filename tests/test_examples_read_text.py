# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Reading: crops, recognizers, hOCR, and PDFs whose text can be searched in any script."""

import importlib.util
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = ["Grüße & <Co>", "日本語テキスト", "Привет, мир", "नमस्ते", "한국어", "a🙂b", "ไทย", "Ωmega"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("read_text_example", EXAMPLES / "read_text.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def detection(points, **more):
    points = np.asarray(points, dtype=float)
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), [*map(int, points.min(0)), *map(int, points.max(0))]))
    return {"score": 0.9, "label": "text", "box": box, "polygon": points.tolist(), **more}


def rotated(center, size, degrees):
    """Corners of a rectangle, clockwise from its own top-left, turned clockwise on the screen."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(size) / 2
    return corners @ np.array([[cos, sin], [-sin, cos]]) + center


# Crops


@pytest.mark.parametrize("degrees", [0, 20, -35])
def test_a_crop_is_upright(example, degrees):
    quad = rotated((150, 120), (120, 40), degrees)
    image = np.zeros((240, 300, 3), np.uint8)
    # The left half is red, the right one green.
    for part, color in (([0, 0.5], (255, 0, 0)), ([0.5, 1], (0, 255, 0))):
        top = [quad[0] + (quad[1] - quad[0]) * share for share in part]
        bottom = [quad[3] + (quad[2] - quad[3]) * share for share in part]
        cv2.fillPoly(image, [np.array([*top, *bottom[::-1]]).round().astype(np.int32)], color)
    picture = example.crop(image, quad.tolist())
    assert abs(picture.shape[0] - 40) <= 1 and abs(picture.shape[1] - 120) <= 1
    assert picture[10:30, 10:50].mean((0, 1)).argmax() == 0 and picture[10:30, 70:110].mean((0, 1)).argmax() == 1


def test_text_from_top_to_bottom_is_turned(example):
    image = np.zeros((200, 100, 3), np.uint8)
    image[20:100, 40:70] = (255, 0, 0)  # the upper half
    image[100:180, 40:70] = (0, 255, 0)
    picture = example.crop(image, [[40, 20], [70, 20], [70, 180], [40, 180]])
    assert picture.shape == (30, 160, 3)
    # By a quarter against the clock: what was at the top is at the left.
    assert picture[15, 20].tolist() == [255, 0, 0] and picture[15, 140].tolist() == [0, 255, 0]


def test_results_go_to_their_regions(example):
    image = np.zeros((100, 100, 3), np.uint8)
    found = [detection([[0, 0], [40, 0], [40, 20], [0, 20]]), detection([[0, 50], [60, 50], [60, 70], [0, 70]])]

    def recognize(crops):
        return [(str(crop.shape[1]), 0.5) for crop in crops]

    words = example.read(image, found, recognize)
    assert [word["text"] for word in words] == ["40", "60"] and words[0]["text_score"] == 0.5
    assert example.read(image, [], None) == []
    with pytest.raises(ValueError):
        example.read(image, found, lambda crops: [])


# PDF


def written_pdf(example, folder, words, size=(600, 400), dpi=72):
    pytest.importorskip("pikepdf")
    image = Image.new("RGB", size, (200, 210, 220))
    image.save(folder / "page.jpg")
    pdf = example.SearchablePdf(dpi)
    pdf.add(str(folder / "page.jpg"), image, words)
    pdf.save(folder / "out.pdf")
    return folder / "out.pdf"


def test_the_text_of_a_pdf_is_found_where_it_is_seen(example, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    words = [
        detection(
            [[20, 20 + 45 * k], [320, 20 + 45 * k], [320, 50 + 45 * k], [20, 50 + 45 * k]], text=text, text_score=1
        )
        for k, text in enumerate(SCRIPTS)
    ]
    document = pdfium.PdfDocument(written_pdf(example, tmp_path, words))
    page = document[0]
    assert page.get_size() == (600, 400)
    text = page.get_textpage()
    assert [line.strip() for line in text.get_text_range().splitlines() if line.strip()] == SCRIPTS
    for k, word in enumerate(SCRIPTS):
        if max(word) > "\uffff":
            continue  # which PDFium extracts, but does not search for
        index, count = text.search(word, match_case=True).get_next()
        boxes = np.array([text.get_charbox(i) for i in range(index, index + count)])
        # Left and right edge of the word, and its height; PDF counts from the bottom.
        assert abs(boxes[:, 0].min() - 20) < 2 and abs(boxes[:, 2].max() - 320) < 2
        assert 400 - 52 - 45 * k <= boxes[:, 1].min() <= boxes[:, 3].max() <= 400 - 18 - 45 * k
    document.close()


@pytest.mark.parametrize("degrees", [30, -60, 90])
def test_turned_text_lies_over_its_region(example, degrees, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    quad = rotated((300, 200), (200, 40), degrees)
    document = pdfium.PdfDocument(
        written_pdf(example, tmp_path, [detection(quad, text="straight", text_score=1)], dpi=144)
    )
    text = document[0].get_textpage()
    assert text.get_text_range().strip() == "straight"
    boxes = np.array([text.get_charbox(i) for i in range(8)])
    centers = np.stack([boxes[:, [0, 2]].mean(1), 200 - boxes[:, [1, 3]].mean(1)], axis=1) * 2  # in pixels
    assert all(
        cv2.pointPolygonTest(quad.astype(np.float32), tuple(map(float, center)), True) > -3 for center in centers
    )
    document.close()


def test_the_pdf_shows_the_image_and_nothing_else(example, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    word = detection([[20, 20], [320, 20], [320, 90], [20, 90]], text="invisible", text_score=1)
    document = pdfium.PdfDocument(written_pdf(example, tmp_path, [word]))
    shown = np.asarray(document[0].render(scale=1).to_pil().convert("RGB"), dtype=int)
    assert shown.shape == (400, 600, 3) and np.abs(shown - (200, 210, 220)).max() <= 3
    document.close()
    # The file of the image is inside as it was.
    assert (tmp_path / "page.jpg").read_bytes() in (tmp_path / "out.pdf").read_bytes()


def test_many_characters_and_none_that_pdf_cannot_hold(example, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    signs = "".join(map(chr, range(0x4E00, 0x4E00 + 600)))
    words = [
        detection([[0, y], [590, y], [590, y + 10], [0, y + 10]], text=text, text_score=1)
        for y, text in ((10, signs), (50, "a\ud800\x01b"))
    ]
    document = pdfium.PdfDocument(written_pdf(example, tmp_path, words))
    text = document[0].get_textpage().get_text_range()
    assert signs in text.replace("\r\n", "") and "a\ufffd\ufffdb" in text
    document.close()


def test_words_that_touch_stay_words(example, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    words = [
        detection([[x, 20], [x + 100, 20], [x + 100, 50], [x, 50]], text=f"word{x}", text_score=1) for x in (0, 100)
    ]
    document = pdfium.PdfDocument(written_pdf(example, tmp_path, words))
    assert document[0].get_textpage().get_text_range().split() == ["word0", "word100"]
    document.close()


# hOCR


def test_hocr_has_the_confidence_of_reading(example, tmp_path):
    words = [detection([[1, 2], [30, 2], [30, 12]], text=text, text_score=0.876) for text in ("<b>&amp;", "Grüße")]
    entry = {"image": '"><script>.jpg', "width": 40, "height": 30, "detections": words}
    root = ElementTree.fromstring(example.pages_of_hocr([entry, {**entry, "detections": []}], tmp_path))
    spans = [element for element in root.iter() if element.get("class") == "ocrx_word"]
    assert [span.text for span in spans] == ["<b>&amp;", "Grüße"]
    assert all(span.get("title").endswith("x_wconf 88") for span in spans)
    assert sum(element.get("class") == "ocr_page" for element in root.iter()) == 2


# Recognizers and the command


def test_a_model_of_transformers(example, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    import torch
    from transformers import (
        PreTrainedTokenizerFast,
        TrOCRConfig,
        TrOCRForCausalLM,
        TrOCRProcessor,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTModel,
    )

    try:
        from transformers import ViTImageProcessorPil as ViTImageProcessor
    except ImportError:
        from transformers import ViTImageProcessor

    torch.manual_seed(0)
    vocabulary = {name: number for number, name in enumerate(["<s>", "<pad>", "</s>", *"abcdefg"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>")),
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
    )
    encoder = ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    )
    decoder = TrOCRForCausalLM(
        TrOCRConfig(vocab_size=10, d_model=16, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16)
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 0, 1, 2
    model.generation_config.max_length = 6
    model.save_pretrained(tmp_path)
    TrOCRProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(tmp_path)
    recognize = example.transformers_recognizer(str(tmp_path), batch_size=2)
    results = recognize([np.full((20, 60, 3), value, np.uint8) for value in (0, 100, 255)])
    assert len(results) == 3
    assert all(isinstance(text, str) and 0 < score <= 1 for text, score in results)


def test_missing_packages_are_named(example, monkeypatch):
    for module, name in (("rapidocr", "rapidocr"), ("pytesseract", "tesseract")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"{name} needs `pip install {module}"):
            example.find_recognizer(name, "eng")
    monkeypatch.setitem(sys.modules, "pikepdf", None)
    with pytest.raises(ImportError, match="pip install pikepdf"):
        example.SearchablePdf()


def test_results_overwrite_no_image(example, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"image")
    for options in (["--pdf", str(tmp_path / "a.jpg")], ["--hocr", "words", "--output", "words"]):
        with pytest.raises(SystemExit):
            example.main([str(tmp_path / "a.jpg"), *options])
    assert "--pdf" in (err := capsys.readouterr().err) and "--output and --hocr name the same file" in err


def test_the_command(example, monkeypatch, tmp_path, capsys):
    pytest.importorskip("pikepdf")
    monkeypatch.setattr(example, "find_recognizer", lambda *_: lambda crops: [("word", 0.5)] * len(crops))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    places = {name: tmp_path / "out" / f"words.{name}" for name in ("json", "pdf", "hocr")}
    arguments = [str(EXAMPLES / "sample.jpg"), str(tmp_path / "broken.jpg"), "--model", "tcm-tiny"]
    arguments += ["--output", str(places["json"]), "--pdf", str(places["pdf"]), "--hocr", str(places["hocr"])]
    assert example.main(arguments) == 1
    assert "broken.jpg" in capsys.readouterr().err
    sample, broken = json.loads(places["json"].read_text())
    assert broken["error"] and {word["text"] for word in sample["detections"]} == {"word"}
    assert places["hocr"].read_text().count('class="ocrx_word"') == len(sample["detections"])
    assert places["pdf"].read_bytes().startswith(b"%PDF") and not list(tmp_path.rglob(".*"))


def test_rapidocr_reads_what_was_written(example):
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    recognize = example.find_recognizer("rapidocr", "eng")
    image = Image.new("RGB", (640, 480), (255, 255, 255))
    layer = Image.new("RGB", (300, 60), (255, 255, 255))
    ImageDraw.Draw(layer).text((10, 5), "Station 42", fill=(0, 0, 0), font=ImageFont.load_default(44))
    image.paste(layer, (20, 20))
    found = [detection([[20, 20], [320, 20], [320, 80], [20, 80]])]
    # The same, turned by 25 degrees clockwise.
    quad = rotated((400, 300), (300, 60), 25)
    corners = np.array([[0, 0], [300, 0], [300, 60], [0, 60]], np.float32)
    turn = cv2.getPerspectiveTransform(corners, quad.astype(np.float32))
    pixels = np.array(image)
    cv2.warpPerspective(np.array(layer), turn, (640, 480), pixels, borderMode=cv2.BORDER_TRANSPARENT)
    found.append(detection(quad))
    words = example.read(pixels, found, recognize)
    assert [word["text"].replace(" ", "") for word in words] == ["Station42"] * 2
    assert all(word["text_score"] > 0.8 for word in words)
    assert recognize([np.full((30, 80, 3), 255, np.uint8)])[0][0] == ""
