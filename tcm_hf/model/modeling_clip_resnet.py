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

"""CLIP's ModifiedResNet image tower: a pyramid of four maps, a global and dense embeddings, for pictures of any size.

The tower of "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al. 2021, section 2.4)
with the changes that TCM needs: all spatial tokens of the attention pooling are kept, the positional table is resampled
to the picture, and padding neither leaks into the maps nor into the pooling.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .modeling_attention import as_map, multi_head_attention, padding_bias
from .modeling_masks import Mask, StrideMasks, is_exporting, mask_tensor, masked, resample_positions


# Pixels for each cell of the stem's maps and of the four stages'.
STRIDES = (2, 4, 8, 16, 32)


@dataclass
class TowerOutput:
    """What every image tower gives.

    Args:
        feature_maps (`tuple[torch.Tensor, ...]`): four maps at strides 4, 8, 16 and 32, each (batch, channels, h, w).
        global_embedding (`torch.Tensor` or `None`): (batch, projection_dim); `None` without attention pooling.
        dense_embeddings (`torch.Tensor` or `None`): (batch, projection_dim, H/32, W/32).
        hidden_states (`tuple[torch.Tensor, ...]`): outputs of the stem and the stages, or of the ViT's layers.
        attentions (`tuple[torch.Tensor or None, ...]`):
            Attention weights of the attention pooling, or of the ViT's layers, where they are asked for.
    """

    feature_maps: tuple[torch.Tensor, ...]
    global_embedding: torch.Tensor | None
    dense_embeddings: torch.Tensor | None
    hidden_states: tuple[torch.Tensor, ...]
    attentions: tuple[torch.Tensor | None, ...] = ()


class MaskedConvNorm(nn.Module):
    """Convolution, batch normalisation, optionally ReLU, and zeros where there is padding."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        x = self.norm(self.conv(x))
        if self.relu:
            x = nn.functional.relu(x)
        return masked(x, mask)


class HalvingPool(nn.AvgPool2d):
    """Means of 2x2 cells."""

    def __init__(self):
        super().__init__(2)


class CLIPResNetBottleneck(GradientCheckpointingLayer):
    """
    CLIP's bottleneck: all convolutions have stride 1, an average pooling in front of the last one halves the map.

    Under activation checkpointing the forward pass runs twice, and so the batch statistics enter the running ones
    twice; gradients are the same.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = MaskedConvNorm(in_channels, channels, 1)
        self.conv2 = MaskedConvNorm(channels, channels, 3)
        self.pool = HalvingPool() if stride > 1 else nn.Identity()
        self.conv3 = MaskedConvNorm(channels, channels * 4, 1, relu=False)
        # A block starts as its shortcut, which CLIP does too.
        self.conv3.norm.zero_init = True
        self.shortcut = None
        if stride > 1 or in_channels != channels * 4:
            self.shortcut = MaskedConvNorm(in_channels, channels * 4, 1, relu=False)

    def forward(self, x: torch.Tensor, mask: Mask = None, pooled_mask: Mask = None) -> torch.Tensor:
        identity = self.pool(x)
        x = self.pool(self.conv2(self.conv1(x, mask), mask))
        return masked(self.add_shortcut(x, identity), pooled_mask)

    def add_shortcut(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """The last convolution of a map, and the block's input, which its shortcut brings to as many channels."""
        if self.shortcut is not None:
            identity = self.shortcut(identity)
        return nn.functional.relu(self.conv3(x) + identity)


class CLIPResNetStage(nn.Module):
    """Bottlenecks of one stride."""

    def __init__(self, in_channels: int, channels: int, depth: int, stride: int):
        super().__init__()
        blocks = [CLIPResNetBottleneck(in_channels, channels, stride)]
        blocks += [CLIPResNetBottleneck(channels * 4, channels, 1) for _ in range(depth - 1)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor, mask: Mask, pooled_mask: Mask) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, mask, pooled_mask)
            mask = pooled_mask
        return x


class CLIPResNetAttentionPool(nn.Module):
    """
    CLIP's attention pooling over the mean token and all spatial tokens, all of which are kept: the first is the global
    embedding, the others are the dense ones.

    Args:
        config (`CLIPResNetConfig`): the tower's configuration.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        channels = config.width * 32
        self.num_heads = config.num_attention_heads
        self.position_embedding = nn.Parameter(torch.zeros((config.image_size // 32) ** 2 + 1, channels))
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, config.projection_dim)

    def positions(self, image_sizes: torch.Tensor | None, height: int, width: int) -> torch.Tensor:
        """(batch or 1, height * width, channels): the positional table at each image's own size."""
        return resample_positions(self.position_embedding[1:], image_sizes, height, width, 32)

    def _reduce(
        self, tokens: torch.Tensor, mask: torch.Tensor | None, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The mean token and the means over squares of the spatial ones, and which squares are not all padding."""
        pool = partial(nn.functional.avg_pool2d, kernel_size=self.config.attention_reduction, ceil_mode=True)
        grid = as_map(tokens[:, 1:], height, width)
        if mask is None:
            grid = pool(grid)
        else:
            if is_exporting():
                # One more square of padding, which nothing attends to: `torch.export` takes maps of one square for a
                # case of its own, and would refuse them.
                grow = [0, self.config.attention_reduction] * 2
                grid, mask = nn.functional.pad(grid, grow), nn.functional.pad(mask, grow)
            # Means of the picture's cells alone: padding must not change them.
            share = pool(mask)
            grid, mask = pool(grid * mask) / share.clamp(min=1e-6), (share > 0).to(mask.dtype)
        return torch.cat([tokens[:, :1], grid.flatten(2).transpose(1, 2)], dim=1), mask

    def attend(
        self, tokens: torch.Tensor, memory: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The tokens' attention to the memory, projected to (batch, tokens, projection_dim), and its weights."""
        query, key, value = self.q_proj(tokens), self.k_proj(memory), self.v_proj(memory)
        tokens, weights = multi_head_attention(
            self, self.config._attn_implementation, query, key, value, self.num_heads, bias
        )
        return self.c_proj(tokens), weights

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """
        Args:
            x (`torch.Tensor`): (batch, channels, h, w), zero where there is padding.
            mask (`torch.Tensor`, *optional*): (batch, 1, h, w), 1 = picture.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels.
            output_attentions (`bool`, *optional*, defaults to `False`): whether to return attention weights.

        Returns:
            `tuple`: global embedding (batch, projection_dim) and dense embeddings (batch, projection_dim, h, w); with
            `output_attentions` also the attention weights, or `None` where the implementation gives none.
        """
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        if mask is None:
            mean = tokens.mean(1, keepdim=True)
        else:
            mean = tokens.sum(1, keepdim=True) / mask.sum((2, 3)).clamp(min=1)[:, :, None]
        tokens = tokens + self.positions(image_sizes, height, width)
        tokens = torch.cat([mean + self.position_embedding[:1], tokens], dim=1)
        memory, memory_mask = tokens, mask
        if self.config.attention_reduction > 1:
            memory, memory_mask = self._reduce(tokens, mask, height, width)
        bias = padding_bias(memory_mask, tokens.dtype, leading=1)
        tokens, weights = self.attend(tokens, memory, bias)
        dense = as_map(tokens[:, 1:], height, width)
        outputs = tokens[:, 0], dense if mask is None else dense * mask
        return (*outputs, weights) if output_attentions else outputs


class CLIPResNetTower(nn.Module):
    """
    CLIP's image tower of the ResNet kind. Picture sides have to be multiples of 32.

    Args:
        config (`CLIPResNetConfig`): the tower's configuration.
        embeds (`bool`, *optional*, defaults to `True`):
            Whether there is an attention pooling. Without it the tower has feature maps but no embeddings.
    """

    def __init__(self, config, embeds: bool = True):
        super().__init__()
        width = config.width
        self.channels = list(config.channels)
        self.masks = StrideMasks(*STRIDES)
        self.stem = nn.ModuleList(
            [
                MaskedConvNorm(config.num_channels, width // 2, 3, stride=2),
                MaskedConvNorm(width // 2, width // 2, 3),
                MaskedConvNorm(width // 2, width, 3),
            ]
        )
        self.stem_pool = HalvingPool()
        in_channels = [width, *self.channels[:3]]
        self.stages = nn.ModuleList(
            CLIPResNetStage(in_channels[i], width * 2**i, config.depths[i], stride=1 if i == 0 else 2)
            for i in range(4)
        )
        self.attention_pool = CLIPResNetAttentionPool(config) if embeds else None

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the picture."""
        return self.stem[0].conv

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None, output_attentions: bool = False
    ) -> TowerOutput:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, H, W) normalised pictures, H and W multiples of 32.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) height and width without padding, in pixels.
            output_attentions (`bool`, *optional*, defaults to `False`): whether to return attention weights.

        Returns:
            `TowerOutput`
        """
        height, width = pixel_values.shape[-2:]
        map_sizes = [(height // stride, width // stride) for stride in STRIDES]
        masks = self.masks(image_sizes, map_sizes, pixel_values)
        x = pixel_values
        for layer in self.stem:
            x = layer(x, masks[0])
        x = self.stem_pool(x)
        hidden_states = [x]
        feature_maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x, masks[max(i, 1)], masks[i + 1])
            feature_maps.append(x)
        hidden_states += feature_maps
        global_embedding = dense_embeddings = None
        attentions = ()
        if self.attention_pool is not None:
            mask = mask_tensor(masks[4], x)
            sizes = None if mask is None else image_sizes
            global_embedding, dense_embeddings, *attentions = self.attention_pool(x, mask, sizes, output_attentions)
        return TowerOutput(
            tuple(feature_maps), global_embedding, dense_embeddings, tuple(hidden_states), tuple(attentions)
        )
