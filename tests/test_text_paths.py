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
"""The text side of converted official weights against CLIP's text tower written once more, in NumPy."""

import math

import clip_layouts
import numpy as np
import pytest
import torch
from clip_layouts import HIDDEN, LENGTH, TOKENS

from tcm_hf import TCMForTextDetection
from tcm_hf.conversion.convert import ConversionError, convert_checkpoint


def layer_norm(x, state, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def reference_text_embedding(state, token_ids, prompt_offset=None):
    """
    [start, context vectors, the other ids], `prompt_offset` added to every position, also to padding; the feature is
    that of the end token, which has the largest id, or of the last position where there are context vectors alone.
    """
    tokens = state["text_encoder.token_embedding.weight"][np.array(token_ids, dtype=int)]
    end = int(np.argmax(token_ids)) if len(token_ids) else -1
    if "contexts" in state:
        context = state["contexts"][0]
        tokens = np.concatenate([tokens[:1], context, tokens[1:]])
        end = end + len(context) if len(token_ids) else len(context) - 1
    if prompt_offset is not None:
        tokens = tokens + prompt_offset
    x = tokens + state["text_encoder.positional_embedding"][: len(tokens)]
    hidden = np.triu(np.full((len(x), len(x)), -np.inf), 1)
    layer = 0
    while (name := f"text_encoder.transformer.resblocks.{layer}.") + "ln_1.weight" in state:
        y = layer_norm(x, state, name + "ln_1")
        packed = y @ state[name + "attn.in_proj_weight"].T + state[name + "attn.in_proj_bias"]
        query, key, value = np.split(packed, 3, axis=-1)
        weights = softmax(query @ key.T / math.sqrt(HIDDEN) + hidden)  # one head of 64 channels
        x = x + linear(weights @ value, state, name + "attn.out_proj")
        y = linear(layer_norm(x, state, name + "ln_2"), state, name + "mlp.c_fc")
        x = x + linear(y / (1 + np.exp(-1.702 * y)), state, name + "mlp.c_proj")  # QuickGELU
        layer += 1
    return layer_norm(x, state, "text_encoder.ln_final")[end] @ state["text_encoder.text_projection"]


def reference_prompt_offset(state, global_embedding):
    name = "prompt_generator.prompt_proj."
    x = linear(layer_norm(global_embedding, state, name + "0"), state, name + "1")
    return linear(layer_norm(np.maximum(x, 0), state, name + "3"), state, name + "4")


def converted(state, tmp_path, **fields):
    torch.save(dict(state), tmp_path / "official.pth")
    convert_checkpoint(tmp_path / "official.pth", tmp_path / "model", **fields)
    model = TCMForTextDetection.from_pretrained(tmp_path / "model").model
    return model, {key: value.double().numpy() for key, value in state.items()}


def without_prompt_generator(state):
    for key in [key for key in state if key.startswith("prompt_generator.")]:
        del state[key]


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize(
    "contexts, token_ids",
    [(4, TOKENS), (32, TOKENS), (0, TOKENS), (4, []), (18, []), (32, []), (4, [0, 6, 99, 0, 0])],
    ids=["4", "32", "none", "4 alone", "18 alone", "32 alone", "padded"],
)
def test_prompts(contexts, token_ids, conditional, tmp_path):
    state = clip_layouts.tcm(contexts=contexts)
    positions = len(token_ids) + contexts
    state.add("text_encoder.positional_embedding", positions, HIDDEN)
    if not conditional:
        without_prompt_generator(state)
    # Positions after the end token have no influence: the prompt is given without them.
    ids = token_ids[: token_ids.index(99) + 1] if token_ids else []
    model, weights = converted(state, tmp_path, prompt_token_ids=ids)
    assert model.config.num_context_vectors == contexts and list(model.config.prompt_token_ids) == ids
    assert model.config.prompt_generator == ("conditional" if conditional else None)
    image = torch.randn(3, LENGTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = model.embed_text(image).numpy()
    assert ours.shape == (3, 1, LENGTH)
    for embedding, row in zip(image.double().numpy(), ours[:, 0]):
        offset = reference_prompt_offset(weights, embedding) if conditional else None
        expected = reference_text_embedding(weights, token_ids, offset)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(row, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("conditional", [True, False])
def test_two_classes(conditional, tmp_path):
    state = clip_layouts.tcm()
    model, weights = converted(state, tmp_path, prompt_token_ids=TOKENS)
    classes = [TOKENS, [0, 17, 41, 99]]
    image = torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        offset = model.prompt_generator(image) if conditional else None
        ours = model.text_tower(offset, torch.tensor(classes)).numpy()
    assert ours.shape == (2 if conditional else 1, 2, LENGTH)
    for embedding, rows in zip(image.double().numpy(), ours):
        for token_ids, row in zip(classes, rows):
            expected = reference_text_embedding(
                weights, token_ids, reference_prompt_offset(weights, embedding) if conditional else None
            )
            np.testing.assert_allclose(row, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("token_ids", [[0, 6, 99], [0, 6, 99, 0, 0], [0, 6, 99, 99, 99]])
@pytest.mark.parametrize("contexts", [0, 4])
def test_padded_prompt(contexts, token_ids, tmp_path):
    """The text tower has a position for each token, padding included, which has no influence."""
    state = clip_layouts.tcm(contexts=contexts)
    state.add("text_encoder.positional_embedding", 5 + contexts, HIDDEN)
    fields = {"prompt_token_ids": token_ids}
    if not contexts:
        # Without them there might as well be a weight missing; the error names what else is to be said.
        if len(token_ids) == 3:
            with pytest.raises(
                ConversionError, match="5 rows.*prompt_token_ids, without padding, and num_context_vectors=0"
            ):
                converted(state, tmp_path, **fields)
        fields["num_context_vectors"] = 0
    model, weights = converted(state, tmp_path, **fields)
    assert list(model.config.prompt_token_ids) == [0, 6, 99] and model.config.num_context_vectors == contexts
    image = torch.randn(1, LENGTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = model.embed_text(image)[0, 0].numpy()
    offset = reference_prompt_offset(weights, image[0].double().numpy())
    np.testing.assert_allclose(ours, reference_text_embedding(weights, [0, 6, 99, 0, 0], offset), rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [None, math.log(1 / 0.07), 3.0])
def test_learned_scale_of_the_matching_map(scale, tmp_path):
    """Where there is a learned scale, the detector sees exp(scale) times the cosine, as the matching loss does."""
    state = clip_layouts.tcm()
    if scale is not None:
        state["logit_scale"] = torch.tensor(scale)
    torch.save(dict(state), tmp_path / "official.pth")
    report = convert_checkpoint(tmp_path / "official.pth", tmp_path / "model", prompt_token_ids=TOKENS)
    model = TCMForTextDetection.from_pretrained(tmp_path / "model")
    assert model.config.temperature == pytest.approx(0.07 if scale is None else math.exp(-scale))
    assert "unknown" not in "".join(report.left_over.values()) and ("logit_scale" in report.left_over) == bool(scale)
    seen = []
    model.detector.auxiliary_loss = lambda logits, labels: seen.append(logits) or logits.sum()
    maps = {name: torch.zeros(1, 64, 64) for name in ("shrink_map", "threshold_map")}
    maps |= {name: torch.ones(1, 64, 64) for name in ("shrink_mask", "threshold_mask")}
    with torch.inference_mode():
        outputs = model.model(torch.ones(1, 3, 64, 64))
        model(torch.ones(1, 3, 64, 64), labels=maps)
    pixels, text = outputs.visual_embeddings[0].double(), outputs.text_embeddings[0, 0].double()
    cosine = torch.einsum("chw,c->hw", pixels, text) / (pixels.norm(dim=0) * text.norm())
    factor = 1 if scale is None else math.exp(scale)
    for map_ in (outputs.score_map[0, 0], outputs.feature_maps[-1][0, -1]):
        torch.testing.assert_close(map_.double(), cosine * factor, rtol=1e-5, atol=1e-6)
    logits = cosine / 0.07 if scale is None else cosine * factor
    torch.testing.assert_close(seen[0][0, 0].double(), logits, rtol=1e-5, atol=1e-5)
