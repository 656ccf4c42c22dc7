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
"""The image towers of SigLIP and SigLIP 2, fixed size and NaFlex: no class token, but an attention that pools the patches."""

from typing import Any

import torch
from torch import nn
from transformers import Siglip2VisionModel, SiglipVisionModel
from transformers.models.siglip.modeling_siglip import (
    SiglipMultiheadAttentionPoolingHead,
    SiglipVisionEmbeddings,
)
from transformers.models.siglip2.modeling_siglip2 import (
    Siglip2MultiheadAttentionPoolingHead,
    Siglip2VisionEmbeddings,
)

from .modeling_attention import multi_head_attention
from .modeling_masks import resample_positions
from .modeling_vit_tower import CLIPLikeViTTower


class SiglipViTEmbeddings(SiglipVisionEmbeddings):
    """SigLIP's patch and position embeddings for images of any size, see `AnySizeEmbeddings` of CLIP."""

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None, patch_stride: int = 16
    ) -> torch.Tensor:
        patches = self.patch_embedding(pixel_values)
        height, width = patches.shape[-2:]
        # Not `.weight`: where weights are offloaded, they are there in the forward of their own module only.
        positions = self.position_embedding(self.position_ids)[0]
        spatial = resample_positions(positions, image_sizes, height, width, patch_stride)
        return patches.flatten(2).transpose(1, 2) + spatial


class Siglip2ViTEmbeddings(Siglip2VisionEmbeddings):
    """The same of NaFlex, whose layer reads patches as vectors, and whose positions are resampled with antialiasing."""

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None, patch_stride: int = 16
    ) -> torch.Tensor:
        size = self.patch_size
        # (batch, channels, rows, y, columns, x) to one vector of (y, x, channel) for each patch.
        patches = pixel_values.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        height, width = patches.shape[2], patches.shape[4]
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        table = self.position_embedding(torch.arange(self.num_patches, device=pixel_values.device))
        spatial = resample_positions(table, image_sizes, height, width, patch_stride, antialias=True)
        return self.patch_embedding(patches) + spatial


class PoolingAttention(nn.MultiheadAttention):
    """The attention of one query to all patches, and what each patch would give to it if it were alone."""

    def forward(  # type: ignore[override]  # for one query
        self, query: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            query (`torch.Tensor`): (1, 1, hidden size).
            tokens (`torch.Tensor`): (batch, patches, hidden size).
            bias (`torch.Tensor`, *optional*): (batch, 1, 1, patches) additive mask.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: (batch, 1, hidden size), (batch, patches, hidden size).
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query = nn.functional.linear(query, weights[0], biases[0]).expand(tokens.shape[0], -1, -1)
        key, value = (nn.functional.linear(tokens, weights[i], biases[i]) for i in (1, 2))
        pooled, _ = multi_head_attention(self, None, query, key, value, self.num_heads, bias)
        return self.out_proj(pooled), self.out_proj(value)


class _PoolingHead(nn.Module):
    """
    SigLIP's pooling, which also gives an embedding for each patch: that of an image which has this patch alone. An attention
    with one key has the weight 1, so this is the value projection and what follows on it.
    """

    probe: Any
    attention: Any
    layernorm: Any
    mlp: Any

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        pooled, patches = self.attention(self.probe, tokens, bias)
        pooled, patches = (x + self.mlp(self.layernorm(x)) for x in (pooled, patches))
        return pooled[:, 0], patches


# Each family initializes its own class.
class SiglipPoolingHead(_PoolingHead, SiglipMultiheadAttentionPoolingHead):
    """SigLIP's."""

    def __init__(self, config):
        super().__init__(config)
        self.attention = PoolingAttention(config.hidden_size, config.num_attention_heads, batch_first=True)


class Siglip2PoolingHead(_PoolingHead, Siglip2MultiheadAttentionPoolingHead):  # type: ignore[misc]  # its forward's names
    """SigLIP 2 NaFlex's."""

    def __init__(self, config):
        super().__init__(config)
        self.attention = PoolingAttention(config.hidden_size, config.num_attention_heads, batch_first=True)


FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "siglip_vision_model": (SiglipVisionModel, SiglipViTEmbeddings, SiglipPoolingHead),
    "siglip2_vision_model": (Siglip2VisionModel, Siglip2ViTEmbeddings, Siglip2PoolingHead),
}


class SiglipViTModel(CLIPLikeViTTower):
    """
    The image tower of SigLIP or SigLIP 2 with a feature pyramid on its last map.

    Args:
        config (`SiglipVisionConfig` or `Siglip2VisionConfig`): the configuration of the tower.
        pyramid_channels (`int`): channels of the four feature maps.
        embeds, initializes, patch_stride, embedding_dim: see [`ViTTower`].

    Raises:
        ValueError: if there is no such stride, or the tower has no pooling and embeddings are asked for.
    """

    prefix_tokens = 0
    _no_split_modules = ["SiglipViTEmbeddings", "Siglip2ViTEmbeddings", "SiglipPoolingHead", "Siglip2PoolingHead"]

    def make_encoder(self, config: Any, embedding_dim: int | None) -> None:
        model_class, embeddings_class, head_class = FAMILIES[config.model_type]
        self.vision_model = model_class(config)
        self.vision_model.embeddings = embeddings_class(config)
        self.visual_projection = None
        if self.embeds:
            if not config.vision_use_head:
                raise ValueError(
                    "`vision_config.vision_use_head`=False: without its pooling the tower has no embedding of the image; choose "
                    "another one, or `text_side=False`."
                )
            self.vision_model.head = head_class(config)
            if embedding_dim not in (None, config.hidden_size):
                self.visual_projection = nn.Linear(config.hidden_size, embedding_dim, bias=False)
        else:
            # They would have no gradient, which stops plain distributed training.
            self.vision_model.post_layernorm = nn.Identity()
            self.vision_model.head = None

    def embed_patches(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None) -> torch.Tensor:
        """Images of whole patches to the first layer's tokens."""
        return self.vision_model.embeddings(pixel_values, image_sizes, self.patch_stride)

    def embed(self, tokens: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The pooled patches are the image's embedding; each patch's own is what it would be alone."""
        embeddings = self.vision_model.head(self.vision_model.post_layernorm(tokens), bias)
        if self.visual_projection is None:
            return embeddings
        return self.visual_projection(embeddings[0]), self.visual_projection(embeddings[1])


__all__ = ["SiglipViTModel"]
