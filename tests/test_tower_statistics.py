# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Images are normalized as their tower was trained: by the file beside its weights, and CLIP's as in the papers."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_towers import tiny_encoder

from tcm_hf import TCMImageProcessor
from tcm_hf.training.options import DataArguments, ModelArguments
from tcm_hf.training.setup import load_model, load_processor


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
# Of the papers' configurations of DB, on 0..255.
PAPERS = [122.679, 116.669, 104.007], [58.395, 57.12, 57.375]


def save_tower(folder, family, settings):
    tiny_encoder(family).save_pretrained(folder)
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps({"do_resize": True, "size": 224, **settings}))
    return folder


@pytest.mark.parametrize(
    "family, settings", [("siglip", HALF), ("dinov3_vit", IMAGENET), ("resnet", IMAGENET), ("chinese_clip", CLIP)]
)
def test_pixels_are_normalized_as_the_tower_was_trained(family, settings, tmp_path):
    processor = TCMImageProcessor.from_clip(save_tower(tmp_path, family, settings), detector="pan")
    assert processor.detector == "pan" and list(processor.image_mean) == settings["image_mean"]
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    seen = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("image_mean", "image_std"))
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(seen[:, :64, :96], expected, rtol=1e-5, atol=1e-5)


def test_clip_has_the_papers_statistics(tmp_path):
    processor = TCMImageProcessor.from_clip(save_tower(tmp_path, "clip", CLIP))
    for own, published in zip((processor.image_mean, processor.image_std), PAPERS):
        np.testing.assert_allclose(np.array(own) * 255, published, rtol=1e-6)
    assert processor.to_dict() == TCMImageProcessor().to_dict()


def test_what_is_given_wins(tmp_path):
    processor = TCMImageProcessor.from_clip(save_tower(tmp_path, "siglip", HALF), image_mean=[0.1, 0.2, 0.3])
    assert list(processor.image_mean) == [0.1, 0.2, 0.3] and list(processor.image_std) == [0.5] * 3


def test_a_tower_that_saw_plain_pixels(tmp_path):
    processor = TCMImageProcessor.from_clip(save_tower(tmp_path, "convnext", {"do_normalize": False}))
    assert processor.do_normalize is False


@pytest.mark.parametrize("settings", [None, {"image_mean": [0.5] * 3}])
def test_without_a_file_it_says_so(settings, tmp_path, caplog):
    save_tower(tmp_path, "siglip", settings)
    with caplog.at_level(logging.WARNING, "tcm_hf"):
        processor = TCMImageProcessor.from_clip(tmp_path)
    assert processor.to_dict() == TCMImageProcessor().to_dict()
    assert f"{tmp_path} has no preprocessor_config.json with a mean" in caplog.text


def test_a_model_knows_where_it_is_from(tmp_path, caplog):
    save_tower(tmp_path, "siglip", HALF)
    model = type(tiny_encoder("siglip")).from_pretrained(tmp_path)
    assert list(TCMImageProcessor.from_clip(model).image_std) == [0.5] * 3
    with caplog.at_level(logging.WARNING, "tcm_hf"):
        assert TCMImageProcessor.from_clip(tiny_encoder("siglip")).to_dict() == TCMImageProcessor().to_dict()
    assert "the model has no preprocessor_config.json" in caplog.text


def test_wrong_statistics_and_sources_are_refused(tmp_path):
    save_tower(tmp_path / "a", "siglip", {"image_mean": "half", "image_std": [0.5] * 3})
    with pytest.raises(ValueError, match="image_mean"):
        TCMImageProcessor.from_clip(tmp_path / "a")
    with pytest.raises(OSError, match="nowhere"):
        TCMImageProcessor.from_clip(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("preset", [None, "ic15"])
def test_training_normalizes_for_the_tower(preset, tmp_path):
    source = str(save_tower(tmp_path, "resnet", IMAGENET))
    arguments = ModelArguments(clip_name_or_path=source, text_side=False, preset=preset)
    processor = load_processor(arguments, DataArguments(), load_model(arguments).config)
    assert {name: list(getattr(processor, name)) for name in IMAGENET} == IMAGENET
    assert dict(processor.size) == dict((TCMImageProcessor() if preset is None else _of(preset)).size)


def _of(preset):
    from tcm_hf.conversion.convert import preset_image_processor

    return preset_image_processor("db", preset)
