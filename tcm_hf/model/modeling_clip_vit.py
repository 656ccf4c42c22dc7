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
"""CLIP's image tower of the ViT kind, and those of MetaCLIP 2, Chinese-CLIP and AltCLIP, which are built like it."""

from typing import Any

import torch
from torch import nn
from transformers import AltCLIPVisionModel, ChineseCLIPVisionModel, CLIPVisionModel, MetaClip2VisionModel
from transformers.models.altclip.modeling_altclip import AltCLIPVisionEmbeddings
from transformers.models.chinese_clip.modeling_chinese_clip import ChineseCLIPVisionEmbeddings
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings
from transformers.models.metaclip_2.modeling_metaclip_2 import MetaClip2VisionEmbeddings

from .modeling_masks import resample_positions
from .modeling_vit_tower import CLIPLikeViTTower


class AnySizeEmbeddings(nn.Module):
    """
    CLIP's patch, class and position embeddings for images of any size: each image has the positional table resampled
    to its own patches, without padding.
    """

    # Of the families' own embeddings, which this is mixed into.
    patch_embedding: Any
    position_embedding: Any
    position_ids: Any
    class_embedding: Any

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None, patch_stride: int = 16
    ) -> torch.Tensor:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, H, W) normalized images.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) height and width without padding, in pixels.
            patch_stride (`int`, *optional*, defaults to 16): of these pixels for each patch.

        Returns:
            `torch.Tensor`: (batch, 1 + patches, hidden size).
        """
        patches = self.patch_embedding(pixel_values)
        height, width = patches.shape[-2:]
        # Not `.weight`: where weights are offloaded, they are there in the forward of their own module only.
        positions = self.position_embedding(self.position_ids)[0]
        spatial = resample_positions(positions[1:], image_sizes, height, width, patch_stride)
        first = (self.class_embedding + positions[0]).expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches.flatten(2).transpose(1, 2) + spatial], dim=1)


# Each family initializes its own class.
class CLIPViTEmbeddings(AnySizeEmbeddings, CLIPVisionEmbeddings):
    """CLIP's."""


class MetaClip2ViTEmbeddings(AnySizeEmbeddings, MetaClip2VisionEmbeddings):
    """MetaCLIP 2's."""


class ChineseCLIPViTEmbeddings(AnySizeEmbeddings, ChineseCLIPVisionEmbeddings):
    """Chinese-CLIP's."""


class AltCLIPViTEmbeddings(AnySizeEmbeddings, AltCLIPVisionEmbeddings):
    """AltCLIP's."""


FAMILIES: dict[str, tuple[Any, Any]] = {
    "clip_vision_model": (CLIPVisionModel, CLIPViTEmbeddings),
    "metaclip_2_vision_model": (MetaClip2VisionModel, MetaClip2ViTEmbeddings),
    "chinese_clip_vision_model": (ChineseCLIPVisionModel, ChineseCLIPViTEmbeddings),
    "altclip_vision_model": (AltCLIPVisionModel, AltCLIPViTEmbeddings),
}


class CLIPViTModel(CLIPLikeViTTower):
    """
    CLIP's image tower of the ViT kind, or one that is built like it, with a feature pyramid on its last map.

    Args:
        config (`CLIPVisionConfig` or that of another family): the configuration of the tower.
        pyramid_channels (`int`): channels of the four feature maps.
        embeds (`bool`, *optional*, defaults to `True`): whether there are embeddings beside the feature maps.
        initializes (`bool`, *optional*, defaults to `True`): whether it gives itself weights; a model that it is part of does.
        patch_stride (`int`, *optional*): pixels of the image for each patch, see [`ViTTower`].
        embedding_dim (`int`, *optional*): not used; the length of embeddings is the configuration's.
        dense_options (`DenseOptions`, *optional*): how the last layer gives the dense embeddings, see [`ViTTower`].

    Raises:
        ValueError: if the patches have another size than 4, 8, 16 or 32 pixels, and there is no `patch_stride`.
    """

    _no_split_modules = [embeddings.__name__ for _, embeddings in FAMILIES.values()] + ["CLIPEncoderLayer"]

    def make_encoder(self, config: Any, embedding_dim: int | None) -> None:
        model_class, embeddings_class = FAMILIES[config.model_type]
        self.vision_model = model_class(config)
        self.vision_model.embeddings = embeddings_class(config)
        if self.embeds:
            self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        else:
            # It would have no gradient, which stops plain distributed training.
            self.vision_model.post_layernorm = nn.Identity()

    def embed_patches(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None) -> torch.Tensor:
        """Images of whole patches to the first layer's tokens."""
        return self.vision_model.pre_layrnorm(
            self.vision_model.embeddings(pixel_values, image_sizes, self.patch_stride)
        )

    def embed(self, tokens: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The class token is the image's embedding; those of the patches pass the same projection."""
        tokens = self.visual_projection(self.vision_model.post_layernorm(tokens))
        return tokens[:, 0], tokens[:, 1:]


__all__ = ["CLIPViTModel"]
