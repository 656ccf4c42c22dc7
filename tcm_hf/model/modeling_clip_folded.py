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
"""Folded versions of what the towers and the prompts are made of, see modeling_folded.py."""

from collections.abc import Sequence

import torch
from torch import nn

from .modeling_attention import multi_head_attention
from .modeling_clip_resnet import CLIPResNetAttentionPool, CLIPResNetBottleneck, HalvingPool, MaskedConvNorm
from .modeling_folded import DerivedWeights, FoldedConvolution, FoldedModule, FoldedVersions, is_plain
from .modeling_fused_convolution import has_fused_convolution
from .modeling_masks import CellMask, ImagePadding, Mask, StrideMasks, cell_mask, masked, round_up
from .modeling_tcm_prompts import PromptAttention


# Queries of one head whose attention weights `plain_attention` holds.
QUERIES_AT_A_TIME = 1024


class FoldedImagePadding(FoldedModule, ImagePadding):
    """Sets the padding to zero in one copy, in the channels-last format; no copy where nothing is to be padded."""

    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        image_sizes: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        if not self.is_fast(pixel_values):
            return super().forward(pixel_values, pixel_mask, image_sizes, dtype)
        batch, channels, height, width = pixel_values.shape
        if image_sizes is None and pixel_values.dtype == dtype:
            return pixel_values.contiguous(memory_format=torch.channels_last)
        shape = (batch, channels, round_up(height), round_up(width))
        padded = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        padded[..., :height, :width] = pixel_values
        if image_sizes is not None:
            CellMask(image_sizes.tolist(), *shape[2:]).zero_(padded)
        return padded


class FoldedStrideMasks(FoldedModule, StrideMasks):
    """Masks in numbers, by which padding is set to zero instead of being multiplied; none where no cell is padding."""

    def forward(
        self, image_sizes: torch.Tensor | None, map_sizes: Sequence[Sequence[int]], like: torch.Tensor
    ) -> list[Mask]:
        if image_sizes is None or not self.is_fast(like):
            return super().forward(image_sizes, map_sizes, like)
        sizes = image_sizes.tolist()
        return [cell_mask(sizes, rows, columns, stride) for stride, (rows, columns) in zip(self.strides, map_sizes)]


class FoldedConvNorm(FoldedModule, MaskedConvNorm):
    """Normalization and ReLU are part of the convolution."""

    def derive(self) -> FoldedConvolution:
        return FoldedConvolution()

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        if not (self.is_fast(x) and is_plain(conv, norm)):
            return super().forward(x, mask)
        return masked(self.folded(x, conv, norm, relu=self.relu), mask)


class FoldedHalvingPool(FoldedModule, HalvingPool):
    """
    The same means by oneDNN's convolution of each channel by itself: of the stem's large map PyTorch's pooling takes up to
    five times as long (measured on an AMD EPYC, Zen 4).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.is_fast(x) and has_fused_convolution(x.dtype)):
            return super().forward(x)
        channels = x.shape[1]
        return nn.functional.conv2d(x, x.new_full((channels, 1, 2, 2), 0.25), stride=2, groups=channels)


class FoldedBottleneck(FoldedModule, CLIPResNetBottleneck):
    """
    The shortcut is added, and ReLU done, inside of the last convolution. A shortcut with weights and the last convolution are
    one, of the joint channels: the shortcut's result, the largest map there is, is neither written nor read again.
    """

    def add_shortcut(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        conv3, shortcut = self.conv3, self.shortcut
        if not (self.is_fast(x) and isinstance(conv3, FoldedConvNorm) and is_plain(conv3.conv, conv3.norm)):
            return super().add_shortcut(x, identity)
        if shortcut is None:
            return conv3.folded(x, conv3.conv, conv3.norm, relu=True, residual=identity)
        if not (isinstance(shortcut, FoldedConvNorm) and is_plain(shortcut.conv, shortcut.norm)):
            return super().add_shortcut(x, identity)
        both = torch.cat([x, identity], dim=1)
        return conv3.folded(both, conv3.conv, conv3.norm, (shortcut.conv, shortcut.norm), relu=True)


class FoldedAttentionPool(FoldedModule, CLIPResNetAttentionPool):
    """Projections are convolutions of a map one cell wide, and resampled positions are kept until another size comes."""

    def derive(self) -> dict[str, FoldedConvolution | DerivedWeights]:
        projections = {name: FoldedConvolution() for name in ("q_proj", "k_proj", "v_proj", "c_proj")}
        return {**projections, "positions": DerivedWeights()}

    def positions(self, image_sizes: torch.Tensor | None, height: int, width: int) -> torch.Tensor:
        if not self.is_fast(self.position_embedding):
            return super().positions(image_sizes, height, width)
        sizes = None if image_sizes is None else image_sizes.tolist()
        return self.folded["positions"].get(
            (self.position_embedding, height, width, sizes),
            lambda: CLIPResNetAttentionPool.positions(self, image_sizes, height, width),
        )

    def attend(
        self, tokens: torch.Tensor, memory: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not self.is_fast(tokens):
            return super().attend(tokens, memory, bias)
        query, key, value = (
            self._project("q_proj", tokens),
            self._project("k_proj", memory),
            self._project("v_proj", memory),
        )
        tokens, weights = fast_attention(
            self, self.config._attn_implementation, query, key, value, self.num_heads, bias
        )
        return self._project("c_proj", tokens), weights

    def _project(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        """A projection of (batch, tokens, channels)."""
        layer = getattr(self, name)
        if not is_plain(layer):
            return layer(tokens)
        x = tokens.transpose(1, 2)[..., None]
        return self.folded[name](x, layer)[..., 0].transpose(1, 2)


class FoldedPromptAttention(FoldedModule, PromptAttention):
    """In bfloat16 the attention weights are of this precision too."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not self.is_fast(query):
            return super().attend(query, key, value, attention_mask)
        return fast_attention(
            self, self.config._attn_implementation, query, key, value, self.num_heads, attention_mask
        )


def fast_attention(
    module: nn.Module,
    implementation: str | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    num_heads: int,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What `multi_head_attention` gives, in bfloat16 by `plain_attention` where no other implementation is asked for."""
    if query.dtype == torch.bfloat16 and implementation in (None, "sdpa"):
        return plain_attention(query, key, value, num_heads, attention_mask), None
    return multi_head_attention(module, implementation, query, key, value, num_heads, attention_mask)


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    num_heads: int,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    The tokens of `multi_head_attention`, by products in the inputs' own precision and without gradients: PyTorch's fused
    attention is slower for bfloat16 on CPUs. The mask is one for all heads, (batch, 1, 1, keys).
    """
    tokens = torch.empty_like(query)
    query = query * (query.shape[-1] // num_heads) ** -0.5
    for image in range(query.shape[0]):
        heads = zip(*(x[image].chunk(num_heads, dim=-1) for x in (query, key, value, tokens)))
        # One head and a number of its queries at a time: their weights stay in the cache, and fit into memory.
        for all_queries, k, v, results in heads:
            for q, result in zip(all_queries.split(QUERIES_AT_A_TIME), results.split(QUERIES_AT_A_TIME)):
                weights = q @ k.T
                if attention_mask is not None:
                    weights += attention_mask[image, 0]
                result.copy_(torch.softmax(weights, dim=-1, out=weights) @ v)
    return tokens


FOLDED_CLIP_MODULES: FoldedVersions = {
    ImagePadding: FoldedImagePadding,
    StrideMasks: FoldedStrideMasks,
    MaskedConvNorm: FoldedConvNorm,
    HalvingPool: FoldedHalvingPool,
    CLIPResNetBottleneck: FoldedBottleneck,
    CLIPResNetAttentionPool: FoldedAttentionPool,
    PromptAttention: FoldedPromptAttention,
}
