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
"""DINOv3's ViT as an image tower: it learned from images alone, so its embeddings have a new projection."""

from typing import Any

import torch
from torch import nn
from transformers import DINOv3ViTBackbone
from transformers.models.dinov3_vit.modeling_dinov3_vit import (
    DINOv3ViTRopePositionEmbedding,
    augment_patches_center_coordinates,
)

from .modeling_vit_tower import ViTTower


class PaddedRopePositionEmbedding(DINOv3ViTRopePositionEmbedding):
    """
    DINOv3's rotary positions of padded images: they run from -1 to 1 over an image's own patches, however much padding its batch
    adds.
    """

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None, patch_stride: int = 16
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, H, W) images of whole patches.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) height and width without padding, in pixels.
            patch_stride (`int`, *optional*, defaults to 16): of these pixels for each patch.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: cosine and sine, (batch, 1, patches, channels of a head) each, or without
            `image_sizes` as transformers gives them.
        """
        if image_sizes is None:
            return super().forward(pixel_values)
        patch_size: Any = self.config.patch_size
        height, width = (length // patch_size for length in pixel_values.shape[-2:])
        cells = ((image_sizes + patch_stride - 1) // patch_stride).float()[:, None, None]
        places = torch.stack(
            torch.meshgrid(
                *(torch.arange(n, device=pixel_values.device, dtype=torch.float32) for n in (height, width)),
                indexing="ij",
            ),
            dim=-1,
        )
        coordinates = (2 * (places + 0.5) / cells - 1).flatten(1, 2)
        if self.training:
            coordinates = augment_patches_center_coordinates(
                coordinates,
                shift=self.config.pos_embed_shift,
                jitter=self.config.pos_embed_jitter,
                rescale=self.config.pos_embed_rescale,
            )
        angles = 2 * torch.pi * coordinates[..., None] * self.inv_freq
        angles = angles.flatten(2).tile(2)[:, None]
        return angles.cos().to(pixel_values.dtype), angles.sin().to(pixel_values.dtype)


class DINOv3ViTTower(ViTTower):
    """
    DINOv3's ViT with a feature pyramid on its last map.

    Args:
        config (`DINOv3ViTConfig`): the configuration of the tower.
        pyramid_channels (`int`): channels of the four feature maps.
        embeds, initializes, patch_stride, embedding_dim: see [`ViTTower`].
    """

    config: Any
    _no_split_modules = ["DINOv3ViTEmbeddings", "DINOv3ViTLayer", "PaddedRopePositionEmbedding"]

    def make_encoder(self, config: Any, embedding_dim: int | None) -> None:
        self.prefix_tokens = 1 + config.num_register_tokens
        self.backbone = DINOv3ViTBackbone(config)
        self.backbone.rope_embeddings = PaddedRopePositionEmbedding(config)
        # Nothing is masked, so it would have no gradient, which stops plain distributed training.
        self.backbone.embeddings.mask_token.requires_grad_(False)
        if self.embeds:
            self.visual_projection = nn.Linear(config.hidden_size, embedding_dim or config.hidden_size, bias=False)

    @property
    def encoder(self) -> nn.Module:
        """transformers' model in it."""
        return self.backbone

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        return self.backbone.embeddings.patch_embeddings

    @property
    def layers(self) -> Any:
        """The layers of the encoder."""
        return self.backbone.model.layer

    def embed_patches(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None) -> torch.Tensor:
        """Images of whole patches to the first layer's tokens."""
        return self.backbone.embeddings(pixel_values)

    def layer_arguments(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None) -> dict[str, Any]:
        """The rotary positions."""
        positions = self.backbone.rope_embeddings(pixel_values, image_sizes, self.patch_stride)
        return {"position_embeddings": positions}

    def attend_and_feed(
        self, layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None, arguments: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What a layer does, which itself drops the attention weights."""
        attended, weights = layer.attention(layer.norm1(tokens), attention_mask=bias, **arguments)
        tokens = layer.drop_path(layer.layer_scale1(attended)) + tokens
        return layer.drop_path(layer.layer_scale2(layer.mlp(layer.norm2(tokens)))) + tokens, weights

    def finish(self, tokens: torch.Tensor) -> torch.Tensor:
        """The last layer's tokens, normalized as the backbone gives them."""
        return self.backbone.norm(tokens)

    def embed(self, tokens: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The class token is the image's embedding; those of the patches pass the same projection."""
        tokens = self.visual_projection(self.finish(tokens))
        return tokens[:, 0], tokens[:, self.prefix_tokens :]


__all__ = ["DINOv3ViTTower"]
