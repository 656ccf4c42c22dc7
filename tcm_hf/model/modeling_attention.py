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
"""Multi-head attention by transformers' attention functions, and what goes in and comes out: masks and maps."""

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Plain attention, (batch, heads, tokens, channels) each; used where `attn_implementation="eager"` is asked for."""
    weights = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2), weights


def multi_head_attention(
    module: nn.Module,
    implementation: str | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    num_heads: int,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Multi-head attention on projected tokens.

    Args:
        module (`nn.Module`): the calling module.
        implementation (`str`): name of transformers' attention function, e.g. `"sdpa"` or `"eager"`.
        query (`torch.Tensor`): (batch, queries, channels).
        key (`torch.Tensor`): (batch, keys, channels).
        value (`torch.Tensor`): (batch, keys, channels).
        num_heads (`int`): attention heads.
        attention_mask (`torch.Tensor`, *optional*): additive, broadcast to (batch, heads, queries, keys).

    Returns:
        `tuple`: tokens (batch, queries, channels), and the weights (batch, heads, queries, keys) where the
        implementation gives them.
    """
    head_dim = query.shape[-1] // num_heads
    query, key, value = (x.unflatten(-1, (num_heads, head_dim)).transpose(1, 2) for x in (query, key, value))
    function = ALL_ATTENTION_FUNCTIONS.get_interface(implementation or "sdpa", eager_attention)
    tokens, weights = function(
        module, query, key, value, attention_mask, dropout=0.0, scaling=head_dim**-0.5, is_causal=False
    )
    return tokens.flatten(2), weights


def as_map(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """
    Tokens (batch, height * width, channels) as a map (batch, channels, height, width), a view that PyTorch takes for
    one with the channels last. After `transpose` and `unflatten` it does not when the batch is 1, whose stride then says
    otherwise, and operations copy the map.
    """
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def padding_bias(mask: torch.Tensor | None, dtype: torch.dtype, leading: int = 0) -> torch.Tensor | None:
    """
    Additive attention mask that hides the padding.

    Args:
        mask (`torch.Tensor`, *optional*): (batch, 1, h, w), 1 = image.
        dtype (`torch.dtype`): of the attention.
        leading (`int`, *optional*, defaults to 0): keys before the spatial ones, never hidden.

    Returns:
        `torch.Tensor` or `None`: (batch, 1, 1, leading + h * w).
    """
    if mask is None:
        return None
    bias = (1 - mask.flatten(2)[:, :, None].to(dtype)) * torch.finfo(dtype).min
    return nn.functional.pad(bias, (leading, 0))
