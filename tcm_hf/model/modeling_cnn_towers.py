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
"""transformers' convolutional backbones as image towers: ResNet, ConvNeXt, ConvNeXt V2 and DINOv3's ConvNeXt.

The backbones have weights and layers; what stands here is the way through them with zeros where there is padding, after every
layer that would leave something else there, so that an image gives the same maps alone and in a batch.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoBackbone
from transformers.configuration_utils import PreTrainedConfig
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .modeling_clip_resnet import STRIDES
from .modeling_clip_tower import CLIPTowerOutput, CLIPTowerPreTrainedModel, refuse_unknown
from .modeling_masks import Mask, StrideMasks, mask_tensor, masked
from .modeling_outputs import selected_states


class CNNTower(CLIPTowerPreTrainedModel):
    """
    A convolutional backbone of transformers, whose stages are the feature pyramid. Its embeddings, which it never learned, are a
    new projection of the last map and of its mean.

    Args:
        config (`PreTrainedConfig`): transformers' configuration of the backbone, with its four stages as outputs.
        embedding_dim (`int`, *optional*): length of the embeddings; by default there are none.
        initializes (`bool`, *optional*, defaults to `True`): whether it gives itself weights; a model that it is part of does.

    Raises:
        ValueError: if the stages have other strides than 4, 8, 16 and 32.
    """

    config: Any
    _supports_sdpa = False
    _no_split_modules = ["ResNetStage", "ConvNextStage", "ConvNextV2Stage", "DINOv3ConvNextStage"]

    def __init__(self, config: PreTrainedConfig, embedding_dim: int | None = None, initializes: bool = True):
        # There is no attention; but what was chosen for the whole model reaches every part, and the backbone would refuse it.
        config._attn_implementation = "eager"
        super().__init__(config, initializes)
        self.check_strides()
        self.masks = StrideMasks(*STRIDES)
        self.backbone = AutoBackbone.from_config(config)
        self.channels = list(self.backbone.channels)
        self.visual_projection = None
        if embedding_dim is not None:
            self.visual_projection = nn.Linear(self.channels[-1], embedding_dim, bias=False)
        self.post_init()

    @classmethod
    def of_model(cls, config: Any) -> "CNNTower":
        """The tower as a part of a detector, see [`CLIPTowerPreTrainedModel.of_model`]."""
        return cls(config.vision_config, config.embedding_dim if config.text_side else None, initializes=False)

    def check_strides(self) -> None:
        """Raises a `ValueError` for a backbone of another shape."""
        stages = len(self.config.hidden_sizes)
        if stages != 4:
            raise ValueError(f"`vision_config.hidden_sizes`: the feature pyramid needs four stages, got {stages}.")

    @property
    def encoder(self) -> nn.Module:
        """transformers' model in it."""
        return self.backbone

    def stages(self, x: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """The stages' maps as the backbone gives them, at strides 4, 8, 16 and 32; `masks` are those of `STRIDES`."""
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
                Whether to return the stages' outputs as hidden states too; defaults to the configuration's.
            output_attentions (`bool`, *optional*):
                No effect: there are no attentions.
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
        height, width = pixel_values.shape[-2:]
        masks = self.masks(image_sizes, [(height // stride, width // stride) for stride in STRIDES], pixel_values)
        maps = self.stages(pixel_values, masks)
        global_embedding = dense = None
        if self.visual_projection is not None:
            last = maps[-1]
            mask = mask_tensor(masks[-1], last)
            if mask is None:
                mean = last.mean((2, 3))
            else:
                mean = (last * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1)
            global_embedding = self.visual_projection(mean)
            dense = self.visual_projection(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return CLIPTowerOutput(
            last_hidden_state=maps[-1],
            feature_maps=tuple(maps),
            global_embedding=global_embedding,
            dense_embeddings=dense,
            hidden_states=selected_states(tuple(maps), output_hidden_states or False),
            attentions=() if output_attentions else None,
        )


class ResNetTower(CNNTower):
    """ResNet (He et al., 2016), such as that of ImageNet."""

    def check_strides(self) -> None:
        """Raises a `ValueError` for a backbone of another shape."""
        super().check_strides()
        if self.config.downsample_in_first_stage:
            raise ValueError("`vision_config.downsample_in_first_stage`: the feature pyramid begins at stride 4.")

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        return self.backbone.embedder.embedder.convolution

    def stages(self, x: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """The stages' maps."""
        stem = self.backbone.embedder
        # Zeros are the smallest values after ReLU, so the maximum of 3x3 cells is that of the image's cells.
        x = masked(stem.pooler(masked(stem.embedder(x), masks[0])), masks[1])
        maps = []
        for stage, mask, halved in zip(self.backbone.encoder.stages, masks, masks[1:]):
            before = halved if stage is self.backbone.encoder.stages[0] else mask
            for layer in stage.layers:
                x = self._block(layer, x, before, halved)
                before = halved
            maps.append(x)
        return maps

    def _block(self, layer: Any, x: torch.Tensor, mask: Mask, halved: Mask) -> torch.Tensor:
        """A residual block, whose first convolution with a stride leads from one mask to the other."""
        identity = layer.shortcut(x)
        for each in layer.layer:
            if each.convolution.stride[0] > 1:
                mask = halved
            x = masked(each(x), mask)
        return masked(layer.activation(x + identity), halved)


class ConvNextTower(CNNTower):
    """ConvNeXt (Liu et al., CVPR 2022)."""

    def check_strides(self) -> None:
        """Raises a `ValueError` for a backbone of another shape."""
        super().check_strides()
        if self.config.patch_size != 4:
            raise ValueError(
                f"`vision_config.patch_size`={self.config.patch_size}: the feature pyramid begins at stride 4."
            )

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        return self.backbone.embeddings.patch_embeddings

    def stages(self, x: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """The stages' maps, each with the normalization that the backbone has for its outputs."""
        stages = self.backbone.encoder.stages
        x = masked(self.backbone.embeddings(x), masks[1])
        maps = self._run(stages, [stage.downsampling_layer for stage in stages], x, masks[1:])
        norms = self.backbone.hidden_states_norms.values()
        return [masked(norm(x), mask) for norm, x, mask in zip(norms, maps, masks[1:])]

    def _run(self, stages: Any, steps: list[Any], x: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """The maps of stages, each behind the layers of its step to half of the resolution."""
        maps = []
        for stage, step, mask in zip(stages, steps, masks):
            for layer in step:
                x = layer(x)
            x = self._blocks(stage, masked(x, mask), mask)
            maps.append(x)
        return maps

    def _blocks(self, stage: Any, x: torch.Tensor, mask: Mask) -> torch.Tensor:
        """The blocks of a stage: only their first layer looks at other cells."""
        for layer in stage.layers:
            x = masked(layer(x), mask)
        return x


class ConvNextV2Tower(ConvNextTower):
    """ConvNeXt V2 (Woo et al., CVPR 2023), whose blocks normalize by the norm of the whole map."""

    def _blocks(self, stage: Any, x: torch.Tensor, mask: Mask) -> torch.Tensor:
        for layer in stage.layers:
            y = layer.dwconv(x).permute(0, 2, 3, 1)
            y = layer.act(layer.pwconv1(layer.layernorm(y)))
            # Padding must not count in the map's norm.
            y = masked(y.permute(0, 3, 1, 2), mask).permute(0, 2, 3, 1)
            y = layer.pwconv2(layer.grn(y)).permute(0, 3, 1, 2)
            x = masked(x + layer.drop_path(y), mask)
        return x


class DINOv3ConvNextTower(ConvNextTower):
    """ConvNeXt as DINOv3 taught it."""

    def check_strides(self) -> None:
        """Raises a `ValueError` for a backbone of another shape."""
        CNNTower.check_strides(self)

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        return self.backbone.model.stages[0].downsample_layers[0]

    def stages(self, x: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """The stages' maps."""
        stages = self.backbone.model.stages
        return self._run(stages, [stage.downsample_layers for stage in stages], x, masks[1:])


__all__ = ["ConvNextTower", "ConvNextV2Tower", "DINOv3ConvNextTower", "ResNetTower"]
