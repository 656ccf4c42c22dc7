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

"""CLIP's ModifiedResNet image tower: a pyramid of four maps, a global and dense embeddings, for images of any size.

The tower of "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al. 2021, section 2.4)
with the changes that TCM needs: all spatial tokens of the attention pooling are kept, the positional table is resampled
to the image, and padding neither leaks into the maps nor into the pooling.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_tcm import CLIPResNetConfig
from .modeling_attention import as_map, multi_head_attention, padding_bias
from .modeling_clip_tower import CLIPTowerOutput, CLIPTowerPreTrainedModel, refuse_unknown
from .modeling_masks import Mask, StrideMasks, is_exporting, mask_tensor, masked, resample_positions
from .modeling_outputs import given_weights, selected_states


# Pixels for each cell of the stem's maps and of the four stages'.
STRIDES = (2, 4, 8, 16, 32)


class MaskedConvNorm(nn.Module):
    """Convolution, batch normalization, optionally ReLU, and zeros where there is padding."""

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
    CLIP's bottleneck: all convolutions have stride 1, an average pooling in front of the last one halves the map. Where the
    configuration says so, the 3x3 convolution does instead; the shortcut is pooled either way.

    Under activation checkpointing the forward pass runs twice, and so the batch statistics enter the running ones
    twice; gradients are the same.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, downsampling: str = "pooling"):
        super().__init__()
        self.strided = stride > 1 and downsampling == "convolution"
        self.conv1 = MaskedConvNorm(in_channels, channels, 1)
        self.conv2 = MaskedConvNorm(channels, channels, 3, stride=stride if self.strided else 1)
        self.pool = HalvingPool() if stride > 1 else nn.Identity()
        self.conv3 = MaskedConvNorm(channels, channels * 4, 1, relu=False)
        # A block starts as its shortcut, which CLIP does too.
        self.conv3.norm.zero_init = True  # type: ignore[assignment]  # a mark for `_init_weights`
        self.shortcut = None
        if stride > 1 or in_channels != channels * 4:
            self.shortcut = MaskedConvNorm(in_channels, channels * 4, 1, relu=False)

    def forward(self, x: torch.Tensor, mask: Mask = None, pooled_mask: Mask = None) -> torch.Tensor:
        identity = self.pool(x)
        x = self.conv1(x, mask)
        x = self.conv2(x, pooled_mask) if self.strided else self.pool(self.conv2(x, mask))
        return masked(self.add_shortcut(x, identity), pooled_mask)

    def add_shortcut(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """The last convolution of a map, and the block's input, which its shortcut brings to as many channels."""
        if self.shortcut is not None:
            identity = self.shortcut(identity)
        return nn.functional.relu(self.conv3(x) + identity)


class CLIPResNetStage(nn.Module):
    """Bottlenecks of one stride."""

    def __init__(self, in_channels: int, channels: int, depth: int, stride: int, downsampling: str = "pooling"):
        super().__init__()
        blocks = [CLIPResNetBottleneck(in_channels, channels, stride, downsampling)]
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
            # Means of the image's cells alone: padding must not change them.
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
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """
        Args:
            x (`torch.Tensor`): (batch, channels, h, w), zero where there is padding.
            mask (`torch.Tensor`, *optional*): (batch, 1, h, w), 1 = image.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels.

        Returns:
            `tuple`: global embedding (batch, projection_dim), dense embeddings (batch, projection_dim, h, w), and the
            attention weights, or `None` where the implementation gives none.
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
        return tokens[:, 0], dense if mask is None else dense * mask, weights


class CLIPResNetModel(CLIPTowerPreTrainedModel):
    """
    CLIP's image tower of the ResNet kind.

    Args:
        config (`CLIPResNetConfig`): the tower's configuration.
        embeds (`bool`, *optional*, defaults to `True`):
            Whether there is an attention pooling. Without it the tower has feature maps but no embeddings.
        initializes (`bool`, *optional*, defaults to `True`):
            Whether it gives itself weights; a model that it is part of does.

    Example:

    >>> import torch
    >>> import tcm_hf
    >>> from transformers import AutoModel

    >>> config = tcm_hf.CLIPResNetConfig(width=16, depths=(1, 1, 1, 1), projection_dim=64)
    >>> outputs = AutoModel.from_config(config).eval()(torch.zeros(1, 3, 224, 224))
    >>> [tuple(feature_map.shape) for feature_map in outputs.feature_maps]
    [(1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7)]
    >>> tuple(outputs.global_embedding.shape), tuple(outputs.dense_embeddings.shape)
    ((1, 64), (1, 64, 7, 7))
    """

    config: CLIPResNetConfig
    _no_split_modules = ["CLIPResNetStage"]

    def __init__(self, config: CLIPResNetConfig, embeds: bool = True, initializes: bool = True):
        super().__init__(config, initializes)
        width, channels = config.width, config.channels
        self.masks = StrideMasks(*STRIDES)
        self.stem = nn.ModuleList(
            [
                MaskedConvNorm(config.num_channels, width // 2, 3, stride=2),
                MaskedConvNorm(width // 2, width // 2, 3),
                MaskedConvNorm(width // 2, width, 3),
            ]
        )
        self.stem_pool = HalvingPool()
        in_channels = [width, *channels[:3]]
        self.stages = nn.ModuleList(
            CLIPResNetStage(in_channels[i], width * 2**i, config.depths[i], 1 if i == 0 else 2, config.downsampling)
            for i in range(4)
        )
        self.attention_pool = CLIPResNetAttentionPool(config) if embeds else None
        self.post_init()

    @classmethod
    def of_model(cls, config: Any) -> "CLIPResNetModel":
        """The tower as a part of a detector, see [`CLIPTowerPreTrainedModel.of_model`]."""
        return cls(config.vision_config, embeds=config.text_side, initializes=False)

    @property
    def channels(self) -> list[int]:
        """Channels of the four feature maps."""
        return list(self.config.channels)

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        first: Any = self.stem[0]
        return first.conv

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, CLIPResNetAttentionPool):
            init.normal_(module.position_embedding, std=module.position_embedding.shape[1] ** -0.5)

    def pyramid(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> tuple[list[torch.Tensor], list[Mask]]:
        """The outputs of the stem and of the four stages, and the masks of `STRIDES`."""
        height, width = pixel_values.shape[-2:]
        masks = self.masks(image_sizes, [(height // stride, width // stride) for stride in STRIDES], pixel_values)
        x = pixel_values
        for layer in self.stem:
            x = layer(x, masks[0])
        maps = [self.stem_pool(x)]
        del x  # the largest map there is; nothing reads it once it is pooled
        for i, stage in enumerate(self.stages):
            maps.append(stage(maps[-1], masks[max(i, 1)], masks[i + 1]))
        return maps, masks

    @can_return_tuple
    def forward(  # type: ignore[misc]  # names of TransformersKwargs, as in transformers
        self,
        pixel_values: torch.FloatTensor,
        image_sizes: torch.LongTensor | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CLIPTowerOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor`):
                (batch, 3, H, W) normalized images of at least 32 pixels a side; with `image_sizes`, H and W are multiples of
                32.
            image_sizes (`torch.LongTensor`, *optional*):
                (batch, 2) height and width of each image without padding, in pixels. The padding is zero, and has no
                influence on any result.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                Whether to return the outputs of the stem and of the stages; defaults to the configuration's.
            output_attentions (`bool`, *optional*):
                Whether to return the attention weights of the attention pooling; needs `attn_implementation="eager"`.
                Defaults to the configuration's.
            kwargs:
                What transformers passes to every model has no effect.

        Returns:
            `CLIPTowerOutput`

        Raises:
            TypeError: if there is an unknown argument.
        """
        refuse_unknown(self, kwargs)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        maps, masks = self.pyramid(pixel_values, image_sizes)
        global_embedding = dense_embeddings = weights = None
        if self.attention_pool is not None:
            mask = mask_tensor(masks[-1], maps[-1])
            sizes = None if mask is None else image_sizes
            global_embedding, dense_embeddings, weights = self.attention_pool(maps[-1], mask, sizes)
        return CLIPTowerOutput(
            last_hidden_state=maps[-1],
            feature_maps=tuple(maps[1:]),
            global_embedding=global_embedding,
            dense_embeddings=dense_embeddings,
            hidden_states=selected_states(tuple(maps), output_hidden_states or False),
            attentions=given_weights((weights,)) if output_attentions else None,
        )


class CLIPResNetBackbone(BackboneMixin, CLIPResNetModel):
    """
    The feature maps of CLIP's ResNet for models of transformers that take a backbone: `stem`, at stride 4, and `stage1` to
    `stage4`, at strides 4, 8, 16 and 32. It has no attention pooling; where a checkpoint has one, its weights are left out.

    Args:
        config (`CLIPResNetConfig`): the tower's configuration, whose `out_features` or `out_indices` choose the maps.

    Example:

    >>> import torch
    >>> import tcm_hf
    >>> from transformers import AutoBackbone

    >>> config = tcm_hf.CLIPResNetConfig(width=16, depths=(1, 1, 1, 1), out_features=["stage2", "stage4"])
    >>> backbone = AutoBackbone.from_config(config).eval()
    >>> backbone.channels
    [128, 512]
    >>> [tuple(feature_map.shape) for feature_map in backbone(torch.zeros(1, 3, 224, 224)).feature_maps]
    [(1, 128, 28, 28), (1, 512, 7, 7)]
    """

    has_attentions = False
    _keys_to_ignore_on_load_unexpected = [r"^attention_pool\."]

    def __init__(self, config: CLIPResNetConfig):
        super().__init__(config, embeds=False)
        self.num_features = [config.width, *config.channels]

    @can_return_tuple
    @filter_output_hidden_states
    def forward(  # type: ignore[misc]  # names of TransformersKwargs, as in transformers
        self,
        pixel_values: torch.FloatTensor,
        image_sizes: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BackboneOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor`):
                (batch, 3, H, W) normalized images, see `CLIPResNetModel.forward`.
            image_sizes (`torch.LongTensor`, *optional*):
                (batch, 2) height and width of each image without padding, in pixels.
            output_hidden_states (`bool`, *optional*):
                Whether to return the outputs of the stem and of all stages too; defaults to the configuration's.
            output_attentions (`bool`, *optional*):
                No effect: there are no attentions.
            kwargs:
                What transformers passes to every model has no effect.

        Returns:
            `BackboneOutput`

        Raises:
            TypeError: if there is an unknown argument.
        """
        refuse_unknown(self, kwargs)
        maps, _ = self.pyramid(pixel_values, image_sizes)
        return BackboneOutput(
            feature_maps=tuple(  # type: ignore[arg-type]  # transformers declares one map
                x for name, x in zip(self.stage_names, maps) if name in self.out_features
            ),
            hidden_states=tuple(maps) if output_hidden_states else None,
            attentions=None,
        )


__all__ = ["CLIPResNetBackbone", "CLIPResNetModel"]
