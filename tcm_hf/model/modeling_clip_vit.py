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
"""CLIP's image tower of the ViT kind, with a feature pyramid on its last map, for images of any size."""

import math
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .modeling_attention import as_map, padding_bias
from .modeling_clip_resnet import MaskedConvNorm
from .modeling_clip_tower import CLIPTowerOutput, CLIPTowerPreTrainedModel, refuse_unknown
from .modeling_masks import resample_positions, stride_mask
from .modeling_outputs import given_weights, selected_states


class CLIPViTEmbeddings(CLIPVisionEmbeddings):
    """
    CLIP's patch, class and position embeddings for images of any size: each image has the positional table resampled
    to its own patches, without padding.
    """

    def forward(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, H, W) normalized images.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) height and width without padding, in pixels.

        Returns:
            `torch.Tensor`: (batch, 1 + patches, hidden size).
        """
        patches = self.patch_embedding(pixel_values)
        height, width = patches.shape[-2:]
        # Not `.weight`: where weights are offloaded, they are there in the forward of their own module only.
        positions = self.position_embedding(self.position_ids)[0]
        patch_size: Any = self.patch_size
        spatial = resample_positions(positions[1:], image_sizes, height, width, patch_size)
        first = (self.class_embedding + positions[0]).expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches.flatten(2).transpose(1, 2) + spatial], dim=1)


class CLIPViTModel(CLIPTowerPreTrainedModel):
    """
    CLIP's image tower of the ViT kind, with a simple feature pyramid (Li et al., ECCV 2022) on its last map.

    Args:
        config (`CLIPVisionConfig`): CLIP's configuration of the tower.
        pyramid_channels (`int`): channels of the four feature maps.
        embeds (`bool`, *optional*, defaults to `True`): whether there are embeddings beside the feature maps.
        initializes (`bool`, *optional*, defaults to `True`): whether it gives itself weights; a model that it is part of does.

    Raises:
        ValueError: if the patches have another size than 4, 8, 16 or 32 pixels.
    """

    config: CLIPVisionConfig
    _no_split_modules = ["CLIPViTEmbeddings", "CLIPEncoderLayer"]

    def __init__(self, config: CLIPVisionConfig, pyramid_channels: int, embeds: bool = True, initializes: bool = True):
        super().__init__(config, initializes)
        patch_size: Any = config.patch_size  # of CLIP, one number
        self.patch_size: int = patch_size
        if self.patch_size not in (4, 8, 16, 32):
            raise ValueError(
                f"`vision_config.patch_size`={self.patch_size}: the feature pyramid needs patches of 4, 8, 16 or 32 "
                "pixels; choose a CLIP such as ViT-B/32 or ViT-B/16."
            )
        self.vision_model = CLIPVisionModel(config)
        self.vision_model.embeddings = CLIPViTEmbeddings(config)
        self.embeds = embeds
        if self.embeds:
            self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        else:
            # It would have no gradient, which stops plain distributed training.
            self.vision_model.post_layernorm = nn.Identity()  # type: ignore[assignment]  # in the place of a LayerNorm
        self.channels = [pyramid_channels] * 4
        self.rescale = nn.ModuleList(self._rescaling(config.hidden_size, stride) for stride in (4, 8, 16, 32))
        self.reduce = nn.ModuleList(MaskedConvNorm(config.hidden_size, pyramid_channels, 1) for _ in range(4))
        self.smooth = nn.ModuleList(MaskedConvNorm(pyramid_channels, pyramid_channels, 3) for _ in range(4))
        self.post_init()

    def _rescaling(self, channels: int, stride: int) -> nn.Sequential:
        """Brings the map of the patches to a stride."""
        if stride > self.patch_size:
            return nn.Sequential(nn.AvgPool2d(stride // self.patch_size))
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(self.patch_size // stride))):
            layers += [nn.ConvTranspose2d(channels, channels, 2, 2), nn.GELU()]
        return nn.Sequential(*layers)

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        return self.vision_model.embeddings.patch_embedding

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
                (batch, 3, H, W) normalized images, H and W multiples of 32.
            image_sizes (`torch.LongTensor`, *optional*):
                (batch, 2) height and width of each image without padding, in pixels. The padding is zero, and has no
                influence on any result.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                Whether to return the token sequences of the ViT's layers; defaults to the configuration's.
            output_attentions (`bool`, *optional*):
                Whether to return the attention weights of these layers; needs `attn_implementation="eager"`. Defaults to the
                configuration's.
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
        height, width = (length // self.patch_size for length in pixel_values.shape[-2:])
        mask = None
        if image_sizes is not None:
            mask = stride_mask(image_sizes, height, width, self.patch_size, pixel_values.dtype)
        hidden_states, attentions = self._encode(pixel_values, image_sizes, mask, bool(output_attentions))
        tokens = hidden_states[-1]
        grid = as_map(tokens[:, 1:], height, width)
        feature_maps = self._pyramid(grid if mask is None else grid * mask, image_sizes)
        global_embedding = dense = None
        if self.embeds:
            tokens = self.visual_projection(self.vision_model.post_layernorm(tokens))
            global_embedding = tokens[:, 0]
            dense = as_map(tokens[:, 1:], height, width)
            if mask is not None:
                dense = dense * mask
            dense = nn.functional.avg_pool2d(dense, 32 // self.patch_size)
        return CLIPTowerOutput(
            last_hidden_state=feature_maps[-1],
            feature_maps=feature_maps,
            global_embedding=global_embedding,
            dense_embeddings=dense,
            hidden_states=selected_states(hidden_states, output_hidden_states or False),
            attentions=given_weights(attentions) if output_attentions else None,
        )

    def _encode(
        self,
        pixel_values: torch.Tensor,
        image_sizes: torch.Tensor | None,
        mask: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor | None, ...]]:
        """The token sequences before the first layer and after each, and the layers' attention weights if asked for."""
        tokens = self.vision_model.pre_layrnorm(self.vision_model.embeddings(pixel_values, image_sizes))
        bias = padding_bias(mask, tokens.dtype, leading=1)
        hidden_states, attentions = [tokens], []
        layers: Any = self.vision_model.encoder.layers
        for layer in layers:
            if output_attentions:
                # What the layer does, which itself drops the weights.
                attended, weights = layer.self_attn(hidden_states=layer.layer_norm1(tokens), attention_mask=bias)
                tokens = tokens + attended
                tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
                attentions.append(weights)
            else:
                tokens = layer(tokens, bias)
            hidden_states.append(tokens)
        return tuple(hidden_states), tuple(attentions)

    def _pyramid(self, grid: torch.Tensor, image_sizes: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """The four feature maps of the last map, in which padding is zero."""
        feature_maps = []
        for i, (rescale, reduce, smooth) in enumerate(zip(self.rescale, self.reduce, self.smooth)):
            x = rescale(grid)
            mask = None
            if image_sizes is not None:
                mask = stride_mask(image_sizes, x.shape[-2], x.shape[-1], 4 * 2**i, x.dtype)
            feature_maps.append(smooth(reduce(x, mask), mask))
        return tuple(feature_maps)


__all__ = ["CLIPViTModel"]
