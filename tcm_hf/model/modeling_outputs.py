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
"""What TCM's models return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class TCMModelOutput(ModelOutput):
    """
    Output of `TCMModel`.

    Args:
        last_hidden_state (`torch.FloatTensor`):
            (batch, channels, H/32, W/32) the last of the feature maps.
        score_map (`torch.FloatTensor`, *optional*):
            (batch, 1, H/32, W/32) instance-language matching map: cosine of pixel and text embeddings, in -1..1. Over
            the temperature it is the logit of eq. 9, which is what it holds with `config.scale_score_map`. `None` without
            text side.
        text_embeddings (`torch.FloatTensor`, *optional*):
            (batch, 1, projection_dim) text embedding before L2 normalization.
        visual_embeddings (`torch.FloatTensor`, *optional*):
            (batch, projection_dim, H/32, W/32) dense embeddings with the visual prompt added.
        global_embedding (`torch.FloatTensor`, *optional*):
            (batch, projection_dim) the image's global embedding.
        feature_maps (`tuple[torch.FloatTensor, ...]`):
            Four maps at strides 4, 8, 16 and 32; the score map is concatenated to the last one.
        image_sizes (`torch.LongTensor`, *optional*):
            (batch, 2) height and width of each image without padding, in pixels of `pixel_values`.
        hidden_states (`tuple[torch.FloatTensor, ...]`, *optional*):
            With `output_hidden_states=True`: the outputs of the image tower's stem and stages, or of a ViT's layers.
        attentions (`tuple[torch.FloatTensor, ...]`, *optional*):
            With `output_attentions=True` and `attn_implementation="eager"`: the attention weights of the same tower. A
            ViT has them in each layer, (batch, heads, tokens, tokens), one fewer than `hidden_states`; a ResNet in its
            attention pooling alone, (batch, heads, 1 + pixels, 1 + pixels or their means over squares).
        visual_prompt_attentions (`tuple[torch.FloatTensor, ...]`, *optional*):
            Likewise the pixels' self-attention weights in the layers of the visual prompt generator, (batch, heads,
            pixels, pixels) each.
    """

    last_hidden_state: torch.Tensor | None = None
    score_map: torch.Tensor | None = None
    text_embeddings: torch.Tensor | None = None
    visual_embeddings: torch.Tensor | None = None
    global_embedding: torch.Tensor | None = None
    feature_maps: tuple[torch.Tensor, ...] | None = None
    image_sizes: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    visual_prompt_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class TCMTextDetectionOutput(ModelOutput):
    """
    Output of `TCMForTextDetection`.

    Args:
        loss (`torch.FloatTensor`, *optional*):
            With `labels`: the sum of the detector's terms and of the weighted auxiliary loss.
        loss_dict (`dict[str, torch.FloatTensor]`, *optional*):
            With `labels`: every term of the loss, already weighted.
        logits (`torch.FloatTensor` or a tuple of them):
            The detector's maps before any activation. DB: (batch, 1, H, W), the probability map's logits.
            PAN: (batch, 6, H/4, W/4), see `PANDetector.forward`.
            FCE: three maps at strides 8, 16 and 32, see `FCEDetector.forward`.
        image_sizes (`torch.LongTensor`, *optional*):
            (batch, 2) height and width of each image without padding, in pixels of `pixel_values`; `None` where
            nothing is padded.
        score_map, text_embeddings, visual_embeddings, hidden_states, attentions, visual_prompt_attentions:
            As in `TCMModelOutput`.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | tuple[torch.Tensor, ...] | None = None
    image_sizes: torch.Tensor | None = None
    score_map: torch.Tensor | None = None
    text_embeddings: torch.Tensor | None = None
    visual_embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    visual_prompt_attentions: tuple[torch.Tensor, ...] | None = None


def selected_states(hidden_states: tuple[torch.Tensor, ...], selection: "bool | int | list[int]"):
    """The hidden states that `output_hidden_states` asks for; where it is indices, `None` stands for all others."""
    if not selection:
        return None
    if selection is True:
        return hidden_states
    indices = [selection] if isinstance(selection, int) else selection
    kept = {i % len(hidden_states) for i in indices if -len(hidden_states) <= i < len(hidden_states)}
    return tuple(x if i in kept else None for i, x in enumerate(hidden_states))


def given_weights(attentions: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor, ...]:
    """The attention weights; implementations other than eager attention give none."""
    return tuple(weights for weights in attentions if weights is not None)
