# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The maps behind detections: their values against the definitions, and their place over the image."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import tiny_config

from tcm_hf import TCMForTextDetection, TCMImageProcessor, TextDetectionPipeline, checkpoint_path
from tcm_hf.cli import main
from tcm_hf.explanation import draw_heat_map, embed_words, find_maps, similar_words
from tcm_hf.model.decoding_fce import fce_text_map
from tcm_hf.model.decoding_pan import pan_text_map


IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 150, 3), dtype=np.uint8))


def make_pipeline(detector="db", **fields):
    torch.manual_seed(0)
    config = tiny_config().to_dict() | {"detector": detector, **fields}
    if detector != "db":
        config.pop("detector_config")
    model = TCMForTextDetection(tiny_config().__class__(**config)).eval()
    return TextDetectionPipeline(model=model, image_processor=TCMImageProcessor(detector=detector), device="cpu")


@pytest.mark.parametrize("detector", ["db", "pan", "fce"])
def test_detections_are_those_of_the_pipeline(detector):
    pipeline = make_pipeline(detector)
    maps = find_maps(pipeline, IMAGE)
    name = "mask_threshold" if detector != "fce" else "nms_threshold"
    for arguments in ({"threshold": 0.0}, {"threshold": 0.4, "shape": "box"}, {name: 0.5, "threshold": 0.0}):
        assert maps.detections(**arguments) == pipeline(IMAGE, **arguments)
    with pytest.raises(TypeError, match="no argument wrong"):
        maps.detections(wrong=1)


@pytest.mark.parametrize("detector, stride", [("db", 1), ("pan", 4), ("fce", 8)])
def test_text_probability_has_no_padding_and_is_that_of_the_logits(detector, stride):
    maps = find_maps(make_pipeline(detector), IMAGE)
    probability = maps.text_probability()
    rows, columns = -(-70 // stride), -(-150 // stride)
    assert probability.shape == (rows, columns) and 0 <= probability.min() <= probability.max() <= 1
    if detector != "fce":
        expected = maps.outputs.logits[0, 0].double().sigmoid()[:rows, :columns]
        np.testing.assert_allclose(probability, expected, atol=1e-6)


def test_text_maps_of_the_detectors_by_hand():
    maps = np.zeros((6, 2, 3), dtype=np.float32)
    maps[0, 1, 2] = np.log(3)
    np.testing.assert_allclose(pan_text_map(maps), [[0.5, 0.5, 0.5], [0.5, 0.5, 0.75]], atol=1e-6)
    # 5 x 5 cells of 8 pixels lie below 3 x 3 of 16 and 2 x 2 of 32.
    levels = [np.zeros((4 + 6, side, side), dtype=np.float32) for side in (5, 3, 2)]
    for level in levels:
        level[1] = -5  # no text
    levels[0][1, 0, 0] = np.log(4)
    levels[1][1, 2, 2] = np.log(9)
    levels[2][1, 0, 1] = np.log(99)
    expected = np.full((5, 5), 1 / (1 + np.exp(5)))
    expected[0, 0], expected[4, 4], expected[:4, 4] = 0.8, 0.9, 0.99
    np.testing.assert_allclose(fce_text_map(levels), expected, atol=1e-6)


def test_matching_map_is_the_cosine_over_the_temperature():
    pipeline = make_pipeline()
    maps = find_maps(pipeline, IMAGE)
    pixels = torch.nn.functional.normalize(maps.outputs.visual_embeddings[0].double(), dim=0)
    text = torch.nn.functional.normalize(maps.outputs.text_embeddings[0, 0].double(), dim=0)
    cosines = torch.einsum("chw,c->hw", pixels, text)
    assert maps.matching().shape == (3, 5) == cosines.shape
    np.testing.assert_allclose(maps.matching(), (cosines / pipeline.model.config.temperature).sigmoid(), atol=1e-5)
    scaled = find_maps(make_pipeline(scale_score_map=True), IMAGE)
    np.testing.assert_allclose(scaled.matching(), maps.matching(), atol=1e-5)


def test_matching_map_lies_over_the_image():
    maps = find_maps(make_pipeline(), IMAGE)
    whole = maps.matching_on_image()
    assert whole.shape == (70, 150)
    # The centers of the cells keep their values: 16 pixels from the border, and 32 from each other.
    between = whole[15:17, 15:17].mean(), whole[47:49, 79:81].mean()
    np.testing.assert_allclose(between, (maps.matching()[0, 0], maps.matching()[1, 2]), atol=2e-2)


def test_a_model_without_text_side_has_no_matching_map():
    maps = find_maps(make_pipeline(text_side=False), IMAGE)
    assert maps.matching() is None and maps.matching_on_image() is None and maps.text_probability() is not None


def test_heat_map_is_laid_over_the_gray_image():
    image = Image.new("RGB", (40, 20), (200, 100, 50))
    values = np.zeros((1, 2))
    values[0, 1] = 1
    drawn = np.asarray(draw_heat_map(image, values, opacity=1.0)).astype(int)
    assert drawn.shape == (20, 40, 3) and drawn[:, :5].max() <= 20 and drawn[:, -5:].min() >= 150
    half = np.asarray(draw_heat_map(image, values, opacity=0.0))
    assert (half == half[..., :1]).all() and len(np.unique(half)) == 1
    assert image.getpixel((0, 0)) == (200, 100, 50)
    for wrong in (np.zeros(3), np.full((2, 2), np.nan), np.zeros((0, 3))):
        with pytest.raises(ValueError, match="the map must have the shape"):
            draw_heat_map(image, wrong)
    with pytest.raises(ValueError, match="opacity"):
        draw_heat_map(image, values, opacity=2)


# --------------------------------------------------------------------------------------- words


def word_tokenizer(words, end=99):
    """A tokenizer of whole words, from number 10 on, between the start and the end token of the tiny model."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<start>": 0, "<end>": end, "<unknown>": 1} | {word: 10 + i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("<start>", 0), ("<end>", end)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_words_are_embedded_as_the_text_tower_of_clip_does():
    from transformers import CLIPTextModelWithProjection

    pipeline = make_pipeline(num_context_vectors=0, prompt_generator=None)
    tower = pipeline.model.model.text_tower
    clip = CLIPTextModelWithProjection(tower.text_config).eval()
    weights = {f"text_model.{key}": value for key, value in tower.text_model.state_dict().items()}
    weights |= {f"text_projection.{key}": value for key, value in tower.text_projection.state_dict().items()}
    clip.load_state_dict(weights)
    words = ["sign", "brick wall", "sky"]
    tokenizer = word_tokenizer(["sign", "brick", "wall", "sky"])
    embeddings = embed_words(pipeline.model, tokenizer, words)
    for word, embedding in zip(words, embeddings):
        with torch.no_grad():
            expected = clip(torch.tensor([tokenizer(word)["input_ids"]])).text_embeds[0]
        torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=1e-4)


def test_the_prompt_itself_has_the_matching_map_of_the_model():
    """Where the text embedding is that of the prompt alone, its cosine with a cell is the cell of the matching map."""
    pipeline = make_pipeline(prompt_generator=None, context_decoder=False)
    maps = find_maps(pipeline, IMAGE)
    # The tiny model's prompt is 0, 5, 6, 99.
    tokenizer = word_tokenizer(["a", "b", "c"])
    ids = {"prompt": [0, 5, 6, 99], "a": tokenizer("a")["input_ids"], "b c": tokenizer("b c")["input_ids"]}
    words = list(ids)
    embeddings = embed_words(pipeline.model, lambda words: {"input_ids": [ids[word] for word in words]}, words)
    cells = np.zeros(maps.matching().shape, dtype=bool)
    cells[1, 2] = True
    found = dict(similar_words(maps, words, embeddings, cells, top=3))
    logit = float(torch.logit(torch.tensor(float(maps.matching()[1, 2]))))
    assert found["prompt"] == pytest.approx(logit * pipeline.model.config.temperature, abs=1e-4)
    assert list(found.values()) == sorted(found.values(), reverse=True) and len(found) == 3
    assert len(similar_words(maps, words, embeddings, top=2)) == 2
    assert similar_words(maps, words, embeddings, np.zeros_like(cells)) == []


def test_words_that_cannot_be_embedded():
    tokenizer = word_tokenizer(["a", "b"])
    with pytest.raises(ValueError, match="no text side"):
        embed_words(make_pipeline(text_side=False).model, tokenizer, ["a"])
    pipeline = make_pipeline()
    with pytest.raises(ValueError, match="its own tokenizer"):
        embed_words(pipeline.model, word_tokenizer(["a"], end=100), ["a"])
    with pytest.raises(ValueError, match="shorter words"):
        embed_words(pipeline.model, tokenizer, ["a " * 20])
    pipeline.model.config.prompt_generator = None
    pipeline.model.fuse_text()
    with pytest.raises(ValueError, match="keeps one text embedding"):
        embed_words(pipeline.model, tokenizer, ["a"])


def test_cells_of_texts():
    maps = find_maps(make_pipeline(), IMAGE)
    # The input is the image; cells are 32 pixels wide.
    cells = maps.text_cells([{"polygon": [[33, 33], [70, 33], [70, 60], [33, 60]]}])
    expected = np.zeros((3, 5), dtype=bool)
    expected[1, 1:3] = True
    assert (cells == expected).all() and not maps.text_cells([]).any()


# --------------------------------------------------------------------------------------- command


def test_explain(tmp_path, capsys):
    make_pipeline().save_pretrained(tmp_path / "model")
    IMAGE.save(tmp_path / "a.png")
    output = tmp_path / "out.png"
    words = ["explain", str(tmp_path / "a.png"), "--model", str(tmp_path / "model"), "--device", "cpu"]
    words += ["--output", str(output), "--threshold", "0"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "image: 150 x 70 pixels, seen as 150 x 70" in text and "no tokenizer: name that of its CLIP" in text
    assert Image.open(output).size == (150, 3 * 98 + 2 * 12)
    word_tokenizer(["sign", "wall"]).save_pretrained(tmp_path / "model")
    assert main([*words, "--words", "wall", "sign"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("words most like the ") for line in lines) == 3
    assert {word.split()[0] for word in lines[-4].split(": ")[1].split(", ")} == {"wall", "sign"}
    # What was asked for and cannot be had is an error, and leaves the earlier drawing alone.
    before = output.read_bytes()
    words[3] = checkpoint_path()
    assert main([*words, "--words", "sign"]) == 1
    assert "keeps one text embedding" in capsys.readouterr().err and output.read_bytes() == before
    photo = (tmp_path / "a.png").read_bytes()
    assert main(["explain", str(tmp_path / "a.png"), "--output", str(tmp_path / "a.png")]) == 2
    assert "a.png' is one of the inputs" in capsys.readouterr().err and (tmp_path / "a.png").read_bytes() == photo
    assert main(["explain", str(tmp_path / "absent.png"), "--output", str(output)]) == 1
    assert "absent.png" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "model", "out.png"]
