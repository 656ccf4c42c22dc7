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
"""Towers of every family: what they give is what transformers' own models give, alone and as parts of a detector."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_towers import BACKBONES, DUAL_ENCODERS, FIELDS, PROMPTS, detector_on, tiny_encoder
from torch.nn import functional as F
from transformers import DINOv3ViTModel, ResNetForImageClassification

from tcm_hf import TCMConfig, TCMForTextDetection
from tcm_hf.model.configuration_towers import IMAGE_TOWERS, TEXT_TOWERS
from tcm_hf.targets import build_db_targets


every_dual_encoder = pytest.mark.parametrize("family", DUAL_ENCODERS)
every_backbone = pytest.mark.parametrize("family", BACKBONES)
ALONE = [(family, None) for family in (*DUAL_ENCODERS, *BACKBONES)]
# Each image tower with the text tower of another family.
PAIRS = [
    ("clip", "siglip"),
    ("metaclip_2", "altclip"),
    ("siglip", "clip"),
    ("siglip2", "chinese_clip"),
    ("chinese_clip", "metaclip_2"),
    ("altclip", "siglip2"),
    ("resnet", "clip"),
    ("convnext", "siglip"),
    ("convnextv2", "altclip"),
    ("dinov3_convnext", "chinese_clip"),
    ("dinov3_vit", "metaclip_2"),
]
every_model = pytest.mark.parametrize("image, text", ALONE + PAIRS)


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def image_inputs(family: str, x: torch.Tensor) -> dict:
    """What transformers' model takes for images of any size."""
    if family != "siglip2":
        return {"pixel_values": x, "interpolate_pos_encoding": True}
    rows, columns = x.shape[2] // 16, x.shape[3] // 16
    patches = [
        x[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].permute(0, 2, 3, 1).flatten(1)
        for row in range(rows)
        for column in range(columns)
    ]
    return {
        "pixel_values": torch.stack(patches, dim=1),
        "pixel_attention_mask": torch.ones(len(x), rows * columns),
        "spatial_shapes": torch.tensor([[rows, columns]] * len(x)),
    }


# ---------------------------------------------------------------------- the same features


@every_dual_encoder
def test_image_tower_gives_what_transformers_gives(family):
    encoder, tower = tiny_encoder(family), detector_on(family).model.vision_tower
    x = torch.randn(2, 3, 64, 64)
    seen = F.interpolate(x, size=(56, 56), mode="bilinear") if family == "altclip" else x
    with torch.no_grad():
        theirs = encoder.get_image_features(**image_inputs(family, seen))
        hidden = encoder.vision_model(**image_inputs(family, seen), output_hidden_states=True).hidden_states
        ours = tower(x, output_hidden_states=True)
    close(ours.global_embedding, theirs.pooler_output)
    assert len(ours.hidden_states) == len(hidden) == 3
    for actual, expected in zip(ours.hidden_states, hidden):
        close(actual, expected)
    assert [tuple(each.shape) for each in ours.feature_maps] == [(2, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32)]


def test_naflex_of_any_shape():
    """Its positions are resampled with antialiasing: 2 rows of patches from 4, and 8 columns."""
    encoder, tower = tiny_encoder("siglip2"), detector_on("siglip2").model.vision_tower
    x = torch.randn(1, 3, 32, 128)
    with torch.no_grad():
        close(tower(x).global_embedding, encoder.get_image_features(**image_inputs("siglip2", x)).pooler_output)


@pytest.mark.parametrize("family", ["clip", "metaclip_2", "chinese_clip", "siglip", "siglip2"])
def test_dense_embeddings_are_those_of_the_patches(family):
    encoder, tower = tiny_encoder(family), detector_on(family).model.vision_tower
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = encoder.vision_model(**image_inputs(family, x), output_hidden_states=True).hidden_states[-1]
        if family.startswith("siglip"):
            # SigLIP's own pooling of images of one patch.
            tokens = encoder.vision_model.post_layernorm(tokens)
            alone = tokens.reshape(-1, 1, 32)
            patches = encoder.vision_model.head(alone).reshape(2, 4, 4, 32)
        else:
            tokens = encoder.visual_projection(encoder.vision_model.post_layernorm(tokens[:, 1:]))
            patches = tokens.reshape(2, 4, 4, 24)
        dense = tower(x).dense_embeddings
    for row in range(2):
        for column in range(2):
            cell = patches[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((1, 2))
            close(dense[:, :, row, column], cell)


@every_dual_encoder
def test_text_tower_gives_what_transformers_gives(family):
    encoder = tiny_encoder(family)
    prompt = PROMPTS.get(family, [0, 5, 6, 99])
    tower = detector_on(family, num_context_vectors=0).model.text_tower
    ids = torch.tensor([prompt])
    if family.startswith("siglip"):
        ids = F.pad(ids, (0, 16 - len(prompt)), value=2)
    with torch.no_grad():
        close(tower()[0], encoder.get_text_features(ids).pooler_output)
        others = torch.tensor([prompt, [*prompt[:-2], 7, 99]])
        several = tower(prompt_token_ids=others)
        assert several.shape[:2] == (1, 2) and not torch.equal(several[0, 0], several[0, 1])
        close(several[0, :1], tower()[0])


@every_dual_encoder
def test_context_vectors_stand_where_tokens_would(family):
    """Context vectors that are embeddings of tokens give the embedding of a prompt with these tokens."""
    tower = detector_on(family, num_context_vectors=2).model.text_tower
    plain = detector_on(family, num_context_vectors=0).model.text_tower
    prompt = PROMPTS.get(family, [0, 5, 6, 99])
    start = 0 if family.startswith("siglip") else 1
    with torch.no_grad():
        tower.context_vectors.copy_(tower.token_embedding(torch.tensor([40, 41])))
        expected = plain(prompt_token_ids=torch.tensor([[*prompt[:start], 40, 41, *prompt[start:]]]))
        close(tower(), expected)


@every_backbone
def test_backbone_gives_what_transformers_gives(family):
    encoder, tower = tiny_encoder(family), detector_on(family).model.vision_tower
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        if family == "dinov3_vit":
            grid = encoder(x).feature_maps[-1]
            ours = tower(x, output_hidden_states=True)
            theirs = encoder(x, output_hidden_states=True).hidden_states
            assert len(ours.hidden_states) == len(theirs) == 3
            for actual, expected in zip(ours.hidden_states, theirs):
                close(actual, expected)
            close(tower.finish(ours.hidden_states[-1])[:, 3:].transpose(1, 2).unflatten(2, (4, 6)), grid)
        else:
            maps = encoder(x).feature_maps
            ours = tower(x).feature_maps
            assert len(ours) == len(maps) == 4
            for actual, expected in zip(ours, maps):
                close(actual, expected)


# ---------------------------------------------------------------------- as parts of a detector


@every_model
def test_padding_has_no_influence(image, text):
    model = detector_on(image, text)
    sizes = [(40, 70), (96, 50), (33, 96)]
    images = [torch.randn(3, *size, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(sizes)]
    batch = torch.full((3, 3, 128, 160), 9.0)
    mask = torch.zeros(3, 128, 160, dtype=torch.long)
    for i, each in enumerate(images):
        batch[i, :, : each.shape[1], : each.shape[2]] = each
        mask[i, : each.shape[1], : each.shape[2]] = 1
    with torch.no_grad():
        together = model(batch, mask)
        for i, each in enumerate(images):
            alone = model(each[None])
            height, width = each.shape[1:]
            close(together.logits[i, :, :height, :width], alone.logits[0], 1e-4)
            if alone.score_map is not None:
                rows, columns = alone.score_map.shape[-2:]
                close(together.score_map[i, :, :rows, :columns], alone.score_map[0], 1e-4)


@every_model
def test_it_learns(image, text):
    model = detector_on(image, text).train()
    targets = [
        build_db_targets([[[8, 8], [56, 8], [56, 40], [8, 40]]], [False], 64, 64),
        build_db_targets([[[4, 24], [30, 24], [30, 60], [4, 60]]], [False], 64, 64),
    ]
    labels = {name: torch.stack([torch.as_tensor(each[name]) for each in targets]) for name in targets[0]}
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = model(x, labels=labels).loss
        loss.backward()
        losses.append(loss.item())
        if len(losses) == 1:
            without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not without, f"no gradient: {without[:5]}"
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0], losses
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert all(".text_tower." in n or n.endswith("mask_token") for n in frozen)
    assert bool(frozen) == (text is not None or image in DUAL_ENCODERS or image == "dinov3_vit")


@every_model
def test_saved_and_loaded(image, text, tmp_path):
    model, x = detector_on(image, text), torch.randn(1, 3, 50, 75)
    model.save_pretrained(tmp_path)
    loaded, info = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        close(loaded(x).logits, model(x).logits)  # the alignment of memory changes the last digits
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert loaded.config.prompt_token_ids == model.config.prompt_token_ids


def test_a_configuration_alone_gives_weights():
    """Every weight of every tower is initialized, the same from the same seed."""
    for image, text in ALONE:
        config = TCMConfig(**detector_on(image, text).config.to_dict())
        with torch.random.fork_rng():
            states = []
            for _ in range(2):
                torch.manual_seed(3)
                states.append(TCMForTextDetection(config).state_dict())
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        assert all(value.isfinite().all() for value in states[0].values()), (image, text)
        # Weights that nothing initialized would be left as memory has them: far out, or all equal where they are drawn.
        assert all(value.abs().max() < 10 for value in states[0].values()), (image, text)


@pytest.mark.parametrize("dtype", [torch.bfloat16])
@pytest.mark.parametrize("image, text", [("siglip", None), ("dinov3_vit", "metaclip_2"), ("convnextv2", "altclip")])
def test_half_precision(image, text, dtype):
    model, x = detector_on(image, text), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x).logits.sigmoid()
        close(model.to(dtype)(x.to(dtype)).logits.float().sigmoid(), expected, 0.1)


def test_frozen_encoder_has_no_noise():
    model = detector_on("chinese_clip").train()
    with torch.no_grad():
        assert torch.equal(model.model.text_tower(), model.model.text_tower())


@pytest.mark.slow
def test_without_the_package(tmp_path):
    """A checkpoint of every family loads by the code that it carries."""
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    expected = {}
    for image, text in ALONE + PAIRS:
        model = detector_on(image, text)
        model.save_pretrained(tmp_path / f"{image}-{text}")
        with torch.no_grad():
            expected[f"{image}-{text}"] = model(x).logits.sum().item()
    script = """
import json, sys
sys.modules["tcm_hf"] = None
import torch
from transformers import AutoModelForObjectDetection
x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
sums = {}
for name in json.loads(sys.argv[1]):
    model = AutoModelForObjectDetection.from_pretrained(name, trust_remote_code=True).eval()
    with torch.no_grad():
        sums[name] = model(x).logits.sum().item()
print(json.dumps(sums))
"""
    process = subprocess.run(
        [sys.executable, "-c", script, json.dumps(list(expected))],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    sums = json.loads(process.stdout.splitlines()[-1])
    assert sums == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------------- where they are taken from


@pytest.mark.parametrize("family", [*DUAL_ENCODERS, *BACKBONES])
def test_from_a_directory(family, tmp_path):
    encoder = tiny_encoder(family)
    encoder.save_pretrained(tmp_path)
    fields = {**FIELDS, "prompt_token_ids": PROMPTS.get(family, [0, 5, 6, 99])}
    if family in BACKBONES:
        fields["text_side"] = False
    model = TCMForTextDetection.from_clip(tmp_path, **fields)
    own, theirs = model.model.vision_tower.encoder.state_dict(), getattr(encoder, "vision_model", encoder).state_dict()
    assert set(own) == set(theirs)
    assert all(torch.equal(own[name], value) for name, value in theirs.items())


def test_from_a_classifier_or_a_plain_model(tmp_path):
    """The checkpoints that are published: an ImageNet classifier, and DINOv3 as a plain model."""
    torch.manual_seed(0)
    classifier = ResNetForImageClassification(tiny_encoder("resnet").config).eval()
    classifier.save_pretrained(tmp_path / "resnet")
    plain = DINOv3ViTModel(tiny_encoder("dinov3_vit").config).eval()
    plain.save_pretrained(tmp_path / "dinov3")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model = TCMForTextDetection.from_clip(tmp_path / "resnet", text_side=False, **FIELDS).eval()
        close(model.model.vision_tower(x).last_hidden_state, classifier.resnet(x).last_hidden_state)
        model = TCMForTextDetection.from_clip(tmp_path / "dinov3", text_side=False, **FIELDS).eval()
        tokens = model.model.vision_tower(x, output_hidden_states=True).hidden_states[-1]
        close(model.model.vision_tower.finish(tokens), plain(x).last_hidden_state)


def test_image_tower_alone_needs_a_text_or_none():
    with pytest.raises(ValueError, match="ResNetBackbone has no text tower.*`text`.*`text_side=False`"):
        TCMForTextDetection.from_clip(tiny_encoder("resnet"))


def test_patches_of_14_pixels():
    model = detector_on("altclip")
    assert model.config.patch_stride == 16 and model.config.vision_config.patch_size == 14
    with pytest.raises(Exception, match="`patch_stride` has to be 4, 8, 16 or 32 pixels, got 14"):
        detector_on("altclip", patch_stride=14)


def test_positions_are_counted():
    """AltCLIP's begin after its padding's id: 16 - 2 tokens."""
    assert detector_on("altclip", num_context_vectors=10).config.num_context_vectors == 10
    with pytest.raises(Exception, match="together 15: more than"):
        detector_on("altclip", num_context_vectors=11)


def test_prompt_of_the_tokenizer_beside_the_weights(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = "the pixels of many arbitrary - shape text instances .".split()
    vocabulary = {"<pad>": 0, "<eos>": 1, **{word: 10 + i for i, word in enumerate(words)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(tmp_path)
    tiny_encoder("siglip").save_pretrained(tmp_path)
    config = TCMForTextDetection.from_clip(tmp_path, **FIELDS).config
    assert config.prompt_token_ids == [*range(10, 20), 1]
    # Which tells the padding, too, up to the last position.
    assert config.text_config.pad_token_id == 0


def test_known_vocabularies():
    chinese = TCMConfig(
        vision_config={"model_type": "chinese_clip_vision_model"},
        text_config={"model_type": "chinese_clip_text_model", "vocab_size": 21128},
        prompt="Text",
    )
    # Counted by hand in the vocabulary's file: [CLS], text, [SEP].
    assert chinese.prompt_token_ids == [101, 10539, 102] and chinese.embedding_dim == 512
    for vocab_size, padding in ((256000, 0), (32000, 1)):
        siglip = TCMConfig(
            vision_config={"model_type": "siglip_vision_model"},
            text_config={"model_type": "siglip_text_model", "vocab_size": vocab_size},
            prompt_token_ids=[7, 1],
        )
        assert siglip.text_config.pad_token_id == padding


def test_unknown_towers_are_named():
    with pytest.raises(
        ValueError, match=r"`vision_config.model_type` 'swin'; known types: .*'clip_resnet'.*'resnet'.*"
    ):
        TCMConfig(vision_config={"model_type": "swin"})
    with pytest.raises(ValueError, match=r"`text_config.model_type` 'bert'; known types: .*'siglip_text_model'"):
        TCMConfig(text_config={"model_type": "bert"})


def test_every_declared_tower_is_tested():
    built = [tiny_encoder(family).config for family, _ in ALONE]
    images = {getattr(config, "vision_config", config).model_type for config in built}
    assert images == set(IMAGE_TOWERS) - {"clip_resnet"}  # which has tests of its own
    assert {config.text_config.model_type for config in built if hasattr(config, "text_config")} == set(TEXT_TOWERS)


@pytest.mark.parametrize(
    "fields", [{"hidden_sizes": [8, 12, 16], "depths": [1, 1, 1]}, {"downsample_in_first_stage": True}]
)
def test_backbones_of_other_strides_are_refused(fields):
    vision = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}
    with pytest.raises(ValueError, match=f"`vision_config.{list(fields)[0]}`"):
        TCMForTextDetection(TCMConfig(vision_config={**vision, **fields}, text_side=False, **FIELDS))
