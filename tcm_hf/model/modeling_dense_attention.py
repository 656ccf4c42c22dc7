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
"""The last layer of a ViT as training-free segmentation with CLIP takes it, for embeddings that tell where something is.

CLIP's last layer gathers what describes the image, wherever it is. SCLIP ("Rethinking Self-Attention for Dense Vision-Language
Inference", Wang et al., ECCV 2024) lets tokens attend to tokens like themselves, and NACLIP ("Pay Attention to Your Neighbours",
Hajimiri et al., WACV 2025) to their neighborhood, without the feed-forward layer.
"""

from dataclasses import dataclass
from typing import Any

import torch

from .modeling_attention import multi_head_attention


# What attends to what: pairs of the layer's projections, whose attention weights are added up.
ATTENDING = {
    "query_key": (("q_proj", "k_proj"),),
    "query_query": (("q_proj", "q_proj"),),
    "key_key": (("k_proj", "k_proj"),),
    "self_self": (("q_proj", "q_proj"), ("k_proj", "k_proj")),
}


@dataclass(frozen=True)
class DenseOptions:
    """
    How the last layer gives dense embeddings, see the fields of `TCMConfig`.

    Args:
        attention (`str`, *optional*, defaults to `"query_key"`): one of `ATTENDING`.
        neighborhood_std (`float`, *optional*): standard deviation of the neighborhood in patches; by default there is none.
        feed_forward (`bool`, *optional*, defaults to `True`):
            Whether the layer adds its input and has its feed-forward layer. `False` is the attention alone.
    """

    attention: str = "query_key"
    neighborhood_std: float | None = None
    feed_forward: bool = True

    @property
    def changes(self) -> bool:
        """Whether this is another layer than the one that was trained."""
        return self != DenseOptions()

    def run(
        self, layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None, height: int, width: int
    ) -> torch.Tensor:
        """
        Runs a layer of CLIP's or SigLIP's encoder.

        Args:
            layer (`nn.Module`): the encoder's last layer.
            tokens (`torch.Tensor`): (batch, prefix tokens + height * width, hidden size), its input.
            bias (`torch.Tensor`, *optional*): (batch, 1, 1, tokens) additive mask that hides the padding.
            height (`int`): rows of patches.
            width (`int`): columns of patches.

        Returns:
            `torch.Tensor`: of the shape of `tokens`.
        """
        attention, normed = layer.self_attn, layer.layer_norm1(tokens)
        if self.neighborhood_std is not None:
            near = neighborhood_bias(height, width, self.neighborhood_std, tokens)
            bias = near if bias is None else bias + near
        value, attended = attention.v_proj(normed), torch.zeros_like(tokens)
        for query, key in ATTENDING[self.attention]:
            attended = (
                attended
                + multi_head_attention(
                    attention,
                    attention.config._attn_implementation,
                    getattr(attention, query)(normed),
                    getattr(attention, key)(normed),
                    value,
                    attention.num_heads,
                    bias,
                )[0]
            )
        attended = attention.out_proj(attended)
        if not self.feed_forward:
            return attended
        tokens = tokens + attended
        return tokens + layer.mlp(layer.layer_norm2(tokens))


def neighborhood_bias(height: int, width: int, std: float, like: torch.Tensor) -> torch.Tensor:
    """
    What NACLIP adds to the attention's logits: a Gaussian of the distance between two patches, 1 for the same one. Tokens before
    those of the patches get 0.

    Args:
        height (`int`): rows of patches.
        width (`int`): columns of patches.
        std (`float`): standard deviation in patches.
        like (`torch.Tensor`): (batch, tokens, channels), has the number of tokens and the dtype.

    Returns:
        `torch.Tensor`: (1, 1, tokens, tokens).
    """

    def squares(length: int) -> torch.Tensor:
        places = torch.arange(length, device=like.device, dtype=torch.float32)
        return (places[:, None] - places[None]) ** 2

    distance = squares(height)[:, None, :, None] + squares(width)[None, :, None, :]
    near = torch.exp(-distance / (2 * std**2)).flatten(2).flatten(0, 1)
    leading = like.shape[1] - height * width
    return torch.nn.functional.pad(near, (leading, 0, leading, 0))[None, None].to(like.dtype)
