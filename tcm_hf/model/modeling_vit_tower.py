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
"""What the image towers of the ViT kind share: images of any size, and a feature pyramid on the last map."""

import math
from typing import Any

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_towers import PYRAMID_STRIDES
from .modeling_attention import as_map, padding_bias
from .modeling_clip_resnet import MaskedConvNorm
from .modeling_clip_tower import CLIPTowerOutput, CLIPTowerPreTrainedModel, refuse_unknown
from .modeling_dense_attention import DenseOptions
from .modeling_masks import stride_mask
from .modeling_outputs import given_weights, selected_states


class ViTTower(CLIPTowerPreTrainedModel):
    """
    An image tower of the ViT kind, with a simple feature pyramid (Li et al., ECCV 2022) on its last map. Each family says how
    patches become tokens, what its layers take beside them, and what its embeddings are.

    Args:
        config (`PreTrainedConfig`): transformers' configuration of the tower.
        pyramid_channels (`int`): channels of the four feature maps.
        embeds (`bool`, *optional*, defaults to `True`): whether there are embeddings beside the feature maps.
        initializes (`bool`, *optional*, defaults to `True`): whether it gives itself weights; a model that it is part of does.
        patch_stride (`int`, *optional*):
            Pixels of the image for each patch, 4, 8, 16 or 32; by default the patch size. Where it is another number, the tower
            sees the image resampled by their ratio, so that patches of 14 pixels fit a pyramid of powers of 2.
        embedding_dim (`int`, *optional*):
            Length of the embeddings, for a tower whose own width is another; by default its own.
        dense_options ([`DenseOptions`], *optional*):
            How the last layer gives the dense embeddings; by default as it was trained. Feature maps and global embedding are
            those of the trained layer in any case.

    Raises:
        ValueError: if there is no such stride.
    """

    # Tokens before those of the patches.
    prefix_tokens = 1

    def __init__(
        self,
        config: PreTrainedConfig,
        pyramid_channels: int,
        embeds: bool = True,
        initializes: bool = True,
        patch_stride: int | None = None,
        embedding_dim: int | None = None,
        dense_options: DenseOptions | None = None,
    ):
        super().__init__(config, initializes)
        self.dense_options = DenseOptions() if dense_options is None else dense_options
        patch_size: Any = config.patch_size
        self.patch_size: int = patch_size
        self.patch_stride: int = patch_size if patch_stride is None else patch_stride
        if self.patch_stride not in PYRAMID_STRIDES:
            raise ValueError(
                f"`vision_config.patch_size`={self.patch_size}: the feature pyramid needs patches of 4, 8, 16 or 32 "
                "pixels; choose a CLIP such as ViT-B/32 or ViT-B/16, or give `patch_stride=16`, with which the tower sees the "
                "image resampled so that such patches fit."
            )
        self.embeds = embeds
        self.make_encoder(config, embedding_dim)
        hidden_size: Any = config.hidden_size
        self.channels = [pyramid_channels] * 4
        self.rescale = nn.ModuleList(self._rescaling(hidden_size, stride) for stride in PYRAMID_STRIDES)
        self.reduce = nn.ModuleList(MaskedConvNorm(hidden_size, pyramid_channels, 1) for _ in range(4))
        self.smooth = nn.ModuleList(MaskedConvNorm(pyramid_channels, pyramid_channels, 3) for _ in range(4))
        self.post_init()

    @classmethod
    def of_model(cls, config: Any) -> "ViTTower":
        """The tower as a part of a detector, see [`CLIPTowerPreTrainedModel.of_model`]."""
        return cls(
            config.vision_config,
            config.pyramid_channels,
            embeds=config.text_side,
            initializes=False,
            patch_stride=config.patch_stride,
            embedding_dim=config.embedding_dim,
            dense_options=DenseOptions(
                config.dense_attention, config.dense_neighborhood_std, config.dense_feed_forward
            ),
        )

    def make_encoder(self, config: Any, embedding_dim: int | None) -> None:
        """Makes transformers' model, and the projection to the embeddings where there is one."""
        raise NotImplementedError

    def embed_patches(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None) -> torch.Tensor:
        """Images of whole patches to the first layer's tokens, (batch, prefix tokens + patches, hidden size)."""
        raise NotImplementedError

    @property
    def layers(self) -> Any:
        """The layers of the encoder."""
        raise NotImplementedError

    def layer_arguments(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None) -> dict[str, Any]:
        """What every layer takes beside tokens and mask."""
        return {}

    def attend_and_feed(
        self, layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None, arguments: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What a layer does, which itself drops the attention weights."""
        attended, weights = layer.self_attn(hidden_states=layer.layer_norm1(tokens), attention_mask=bias)
        tokens = tokens + attended
        return tokens + layer.mlp(layer.layer_norm2(tokens)), weights

    def finish(self, tokens: torch.Tensor) -> torch.Tensor:
        """The last layer's tokens as the feature pyramid takes them."""
        return tokens

    def embed(self, tokens: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The embeddings of the last layer's tokens.

        Args:
            tokens (`torch.Tensor`): (batch, prefix tokens + patches, hidden size).
            bias (`torch.Tensor`, *optional*): (batch, 1, 1, prefix tokens + patches) additive mask that hides the padding.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: (batch, embedding_dim) of the image, (batch, patches, embedding_dim).
        """
        raise NotImplementedError

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
        height, width = (length // self.patch_stride for length in pixel_values.shape[-2:])
        mask = None
        if image_sizes is not None:
            mask = stride_mask(image_sizes, height, width, self.patch_stride, pixel_values.dtype)
        images: torch.Tensor = pixel_values
        if self.patch_stride != self.patch_size:
            # Each patch is resampled from its own pixels alone, so nothing of the padding enters.
            size = (height * self.patch_size, width * self.patch_size)
            images = nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        hidden_states, attentions = self._encode(images, image_sizes, mask, bool(output_attentions))
        tokens = hidden_states[-1]
        grid = as_map(self.finish(tokens)[:, self.prefix_tokens :], height, width)
        feature_maps = self._pyramid(grid if mask is None else grid * mask, image_sizes)
        global_embedding = dense = None
        if self.embeds:
            bias = padding_bias(mask, tokens.dtype, leading=self.prefix_tokens)
            global_embedding, patches = self.embed(tokens, bias)
            if self.dense_options.changes:
                tokens = self.dense_options.run(self.layers[-1], hidden_states[-2], bias, height, width)
                patches = self.embed(tokens, bias)[1]
            dense = as_map(patches, height, width)
            if mask is not None:
                dense = dense * mask
            dense = nn.functional.avg_pool2d(dense, 32 // self.patch_stride)
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
        images: torch.Tensor,
        image_sizes: torch.Tensor | None,
        mask: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor | None, ...]]:
        """The token sequences before the first layer and after each, and the layers' attention weights if asked for."""
        tokens = self.embed_patches(images, image_sizes)
        arguments = self.layer_arguments(images, image_sizes)
        bias = padding_bias(mask, tokens.dtype, leading=self.prefix_tokens)
        hidden_states, attentions = [tokens], []
        for layer in self.layers:
            if output_attentions:
                tokens, weights = self.attend_and_feed(layer, tokens, bias, arguments)
                attentions.append(weights)
            else:
                tokens = layer(tokens, bias, **arguments)
            hidden_states.append(tokens)
        return tuple(hidden_states), tuple(attentions)

    def _rescaling(self, channels: int, stride: int) -> nn.Sequential:
        """Brings the map of the patches to a stride."""
        if stride > self.patch_stride:
            return nn.Sequential(nn.AvgPool2d(stride // self.patch_stride))
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(self.patch_stride // stride))):
            layers += [nn.ConvTranspose2d(channels, channels, 2, 2), nn.GELU()]
        return nn.Sequential(*layers)

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


class CLIPLikeViTTower(ViTTower):
    """A tower around a vision model with the layers of CLIP's or SigLIP's, its `vision_model`."""

    vision_model: Any

    @property
    def encoder(self) -> nn.Module:
        """transformers' model in it."""
        return self.vision_model

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        return self.vision_model.embeddings.patch_embedding

    @property
    def layers(self) -> Any:
        """The layers of the encoder."""
        return self.vision_model.encoder.layers


__all__ = ["CLIPLikeViTTower", "ViTTower"]
