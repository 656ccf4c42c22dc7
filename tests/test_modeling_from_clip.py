# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`TCMForTextDetection.from_clip`: CLIP models as a start."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import VIT, tiny_config
from transformers import AutoModel, CLIPConfig, CLIPModel, CLIPSegConfig, XCLIPConfig

from tcm_hf import TCMForTextDetection


@pytest.fixture
def clip():
    torch.manual_seed(0)
    text = {**tiny_config().text_config.to_dict(), "projection_dim": 512}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config={**VIT, "projection_dim": 512}, projection_dim=24)
    ).eval()


def test_from_clip(clip, tmp_path):
    fields = {"prompt_token_ids": [0, 5, 6, 99], "decoder_hidden_size": 32, "pyramid_channels": 16}
    clip.save_pretrained(tmp_path)
    for source in (clip, str(tmp_path)):
        model = TCMForTextDetection.from_clip(source, num_context_vectors=0, **fields).eval()
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            image = clip.get_image_features(x).pooler_output
            text = clip.get_text_features(torch.tensor([[0, 5, 6, 99]])).pooler_output
            torch.testing.assert_close(model.model(x).global_embedding, image)
            torch.testing.assert_close(model.model.text_tower()[0], text)
        assert not any(weight.requires_grad for weight in model.model.text_tower.parameters())
    model = TCMForTextDetection.from_clip(clip, text_side=False, **fields)
    table = clip.vision_model.embeddings.position_embedding.weight
    assert torch.equal(model.model.vision_tower.vision_model.embeddings.position_embedding.weight, table)


def test_from_clip_wants_a_clip_model(clip, tmp_path):
    clip.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = [name for name in weights if name.startswith("text_model.final")]
    save_file({name: x for name, x in weights.items() if name not in lost}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"lacks weights of a CLIP model.*{lost[0]}.*transformers' layout"):
        TCMForTextDetection.from_clip(tmp_path)


@pytest.mark.parametrize("kind", ["clipseg", "xclip", "none"])
def test_from_clip_takes_nothing_that_is_like_a_clip_model(kind, clip, tmp_path):
    fields = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    other = {
        "vision_config": {**fields, "image_size": 32, "patch_size": 16},
        "text_config": {**fields, "vocab_size": 50000},
    }
    if kind == "none":
        clip.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text("{}")
    else:
        config = CLIPSegConfig(**other) if kind == "clipseg" else XCLIPConfig(**other)
        other = AutoModel.from_config(config)
        other.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=f"`CLIPModel` of transformers, got a {type(other).__name__}"):
            TCMForTextDetection.from_clip(other)
    with pytest.raises(
        ValueError, match=f"type {'None' if kind == 'none' else repr(kind)}; `from_clip` takes CLIP models"
    ):
        TCMForTextDetection.from_clip(tmp_path)


def test_from_clip_with_another_vocabulary(clip):
    with pytest.raises(Exception, match="No token ids are known.*vocabulary of 100 tokens.*`prompt_token_ids`"):
        TCMForTextDetection.from_clip(clip)
