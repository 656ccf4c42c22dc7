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
"""The prompts of TCM: the language and visual prompt generators.

Equation numbers are those of "Turning a CLIP Model into a Scene Text Detector" (CVPR 2023).
"""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .modeling_attention import multi_head_attention


class LanguagePromptGenerator(nn.Module):
    """
    Two-layer perceptron from the image's global embedding, or FastTCM's meta query, to the vector that is added to the
    prompt's tokens: `LN(act(LN(x) W1 + b1)) W2 + b2` (eq. 4).

    Args:
        config (`TCMConfig`): the model's configuration.
    """

    def __init__(self, config):
        super().__init__()
        channels = config.embedding_dim
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, channels)
        self.act = ACT2FN[config.prompt_generator_act]
        self.norm2 = nn.LayerNorm(channels)
        self.linear2 = nn.Linear(channels, config.text_config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) to (batch, text hidden size)."""
        return self.linear2(self.norm2(self.act(self.linear1(self.norm1(x)))))


class PromptAttention(nn.Module):
    """
    Attention of the two decoders, without biases on query, key and value.

    With a single key the softmax is 1 and the result is the projected value, whatever the query: `single_key=True`
    leaves query and key projections out, which changes no output and saves their parameters and their time.

    Args:
        config (`TCMConfig`): the model's configuration.
        single_key (`bool`): whether there is always just one key.
    """

    def __init__(self, config, single_key: bool):
        super().__init__()
        self.config = config
        channels = config.decoder_hidden_size
        self.num_heads = config.decoder_attention_heads
        self.single_key = single_key
        if not single_key:
            self.q_proj = nn.Linear(channels, channels, bias=False)
            self.k_proj = nn.Linear(channels, channels, bias=False)
        self.v_proj = nn.Linear(channels, channels, bias=False)
        self.out_proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(
        self, x: torch.Tensor | None, memory: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        tokens, weights = self.v_proj(memory), None
        if not self.single_key:
            tokens, weights = self.attend(self.q_proj(x), self.k_proj(memory), tokens, attention_mask)
        return self.dropout(self.out_proj(tokens)), weights

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The attention of the heads, see `multi_head_attention`."""
        return multi_head_attention(
            self, self.config._attn_implementation, query, key, value, self.num_heads, attention_mask
        )


class PromptDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm decoder layer: self-attention, cross-attention, feed-forward."""

    def __init__(self, config, single_query: bool, single_memory: bool):
        super().__init__()
        channels = config.decoder_hidden_size
        self.norm1 = nn.LayerNorm(channels)
        self.self_attention = PromptAttention(config, single_key=single_query)
        # With one memory token the query does not matter, and so its normalization is left out too.
        self.norm2 = nn.Identity() if single_memory else nn.LayerNorm(channels)
        self.cross_attention = PromptAttention(config, single_key=single_memory)
        self.norm3 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, config.decoder_ffn_dim)
        self.linear2 = nn.Linear(config.decoder_ffn_dim, channels)
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor,
        query_bias: torch.Tensor | None = None,
        memory_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        normed = self.norm1(x)
        tokens, weights = self.self_attention(normed, normed, query_bias)
        x = x + tokens
        x = x + self.cross_attention(self.norm2(x), memory, memory_bias)[0]
        tokens = self.linear2(self.dropout(nn.functional.gelu(self.linear1(self.norm3(x)))))
        return x + self.dropout(tokens), weights


class PromptDecoder(nn.Module):
    """
    Transformer decoder between embeddings: the visual prompt generator (queries = pixels, memory = text) and the
    context decoder (query = text, memory = global embedding and pixels) are both one of it.

    Args:
        config (`TCMConfig`): the model's configuration.
        single_query (`bool`): whether there is always just one query.
        single_memory (`bool`): whether there is always just one memory token.
    """

    def __init__(self, config, single_query: bool = False, single_memory: bool = False):
        super().__init__()
        channels, width = config.embedding_dim, config.decoder_hidden_size
        self.memory_norm1 = nn.LayerNorm(channels)
        self.memory_proj = nn.Linear(channels, width)
        self.memory_norm2 = nn.LayerNorm(width)
        self.query_norm = nn.LayerNorm(channels)
        self.query_proj = nn.Linear(channels, width)
        self.layers = nn.ModuleList(
            PromptDecoderLayer(config, single_query, single_memory) for _ in range(config.decoder_layers)
        )
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, channels)

    def forward(
        self,
        query: torch.Tensor,
        memory: torch.Tensor,
        query_bias: torch.Tensor | None = None,
        memory_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """
        Args:
            query (`torch.Tensor`): (batch, queries, embedding_dim).
            memory (`torch.Tensor`): (batch, memory tokens, embedding_dim).
            query_bias (`torch.Tensor`, *optional*): additive mask of the self-attention, hides padding pixels.
            memory_bias (`torch.Tensor`, *optional*): additive mask of the cross-attention.

        Returns:
            `tuple`: (batch, queries, embedding_dim), and the self-attention weights of every layer (`None` where the
            attention implementation does not give them).
        """
        memory = self.memory_norm2(self.memory_proj(self.memory_norm1(memory)))
        x = self.query_proj(self.query_norm(query))
        attentions = []
        for layer in self.layers:
            x, weights = layer(x, memory, query_bias, memory_bias)
            attentions.append(weights)
        return self.out_proj(self.out_norm(x)), tuple(attentions)
