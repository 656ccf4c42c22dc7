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
"""The last layer of SCLIP and NACLIP against a computation of their formulas, token by token."""

import math

import pytest
import torch
from test_towers import close
from tiny_towers import detector_on, tiny_encoder

from tcm_hf import TCMConfig
from tcm_hf.model.configuration_tcm import DENSE_ATTENTIONS
from tcm_hf.model.modeling_dense_attention import ATTENDING


OPTIONS = {
    "query_query": ("q_proj",),
    "key_key": ("k_proj",),
    "self_self": ("q_proj", "k_proj"),
}


def last_layer(layer, tokens, projections, std, feed_forward, grid, prefix):
    """The formulas for one image, in loops: tokens (tokens, hidden size)."""
    heads, columns = layer.self_attn.num_heads, grid[1]
    normed = layer.layer_norm1(tokens)
    size = normed.shape[1] // heads
    values = layer.self_attn.v_proj(normed)
    result = torch.zeros_like(tokens)
    for name in projections:
        x = getattr(layer.self_attn, name)(normed)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(tokens)):
                logits = []
                for j in range(len(tokens)):
                    logit = float(x[i, part] @ x[j, part]) / math.sqrt(size)
                    if std is not None and i >= prefix and j >= prefix:
                        (y1, x1), (y2, x2) = divmod(i - prefix, columns), divmod(j - prefix, columns)
                        logit += math.exp(-((y1 - y2) ** 2 + (x1 - x2) ** 2) / (2 * std**2))
                    logits.append(logit)
                weights = [math.exp(each) for each in logits]
                for j, weight in enumerate(weights):
                    result[i, part] += weight / sum(weights) * values[j, part]
    attended = layer.self_attn.out_proj(result)
    if not feed_forward:
        return attended
    tokens = tokens + attended
    return tokens + layer.mlp(layer.layer_norm2(tokens))


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("attention", OPTIONS)
@pytest.mark.parametrize("std, feed_forward", [(None, True), (1.5, True), (5, False)])
def test_dense_embeddings_by_the_formulas(family, attention, std, feed_forward):
    encoder = tiny_encoder(family)
    options = {
        "dense_attention": attention,
        "dense_neighborhood_std": std,
        "dense_feed_forward": feed_forward,
    }
    tower, plain = detector_on(family, **options).model.vision_tower, detector_on(family).model.vision_tower
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        before = plain(x, output_hidden_states=True).hidden_states[-2][0]
        prefix = 1 if family == "clip" else 0
        layer = encoder.vision_model.encoder.layers[-1]
        tokens = last_layer(layer, before, OPTIONS[attention], std, feed_forward, (2, 4), prefix)
        tokens = encoder.vision_model.post_layernorm(tokens)[prefix:]
        patches = encoder.visual_projection(tokens) if prefix else encoder.vision_model.head(tokens[:, None])
        cells = patches.reshape(2, 2, 2, -1).mean((0, 2)).T  # 2 x 2 patches each
        ours, theirs = tower(x), plain(x)
        close(ours.dense_embeddings[0, :, 0], cells, 1e-4)
        assert not torch.allclose(ours.dense_embeddings, theirs.dense_embeddings, atol=1e-3)
        # All else is the trained layer's.
        assert torch.equal(ours.global_embedding, theirs.global_embedding)
        assert all(torch.equal(a, b) for a, b in zip(ours.feature_maps, theirs.feature_maps))


@pytest.mark.parametrize("family", ["clip", "siglip2", "altclip"])
def test_padding_has_no_influence(family):
    model = detector_on(family, dense_attention="key_key", dense_neighborhood_std=2.0, dense_feed_forward=False)
    image = torch.randn(1, 3, 40, 70)
    batch, mask = torch.full((1, 3, 96, 128), 9.0), torch.zeros(1, 96, 128, dtype=torch.long)
    batch[:, :, :40, :70], mask[:, :40, :70] = image, 1
    with torch.no_grad():
        close(model(batch, mask).score_map[..., :2, :3], model(image).score_map, 1e-4)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"dense_attention": "value_value"}, "`dense_attention` is one of 'query_key'.*'value_value'"),
        ({"dense_neighborhood_std": 0}, "`dense_neighborhood_std` has to be a positive"),
        ({"dense_feed_forward": False}, "`dense_feed_forward`.*CLIP's ResNet has none"),
        ({"dense_attention": "key_key", "vision_config": {"model_type": "dinov3_vit"}}, "`dense_attention`.*DINOv3"),
    ],
)
def test_wrong_options_are_named(fields, message):
    with pytest.raises(Exception, match=message):
        TCMConfig(**{"text_side": False, **fields})


def test_the_configuration_takes_what_is_computed():
    """Configurations are read without torch, so that they have the names once more."""
    assert tuple(ATTENDING) == DENSE_ATTENTIONS
