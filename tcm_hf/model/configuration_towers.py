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
"""The towers that a model can be built on, each declared once, by the type of its configuration.

An image tower and a text tower are independent of each other: every pair goes together, and an image tower also goes alone. What
is declared here is what configurations need; the modules are named, and loaded when a model has them.
"""

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AltCLIPTextConfig,
    AltCLIPVisionConfig,
    ChineseCLIPTextConfig,
    ChineseCLIPVisionConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextV2Config,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    MetaClip2TextConfig,
    MetaClip2VisionConfig,
    ResNetConfig,
    Siglip2TextConfig,
    Siglip2VisionConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
)
from transformers.configuration_utils import PreTrainedConfig


# CLIP's byte-pair ids of the prompts that TCM's paper and its released models use. CLIP's tokenizer gives the same
# ids; they are spelled out so that a model can be built without any tokenizer file.
PROMPT_TOKEN_IDS = {
    "the pixels of many arbitrary-shape text instances.": (
        [49406, 518, 34099, 539, 1346, 22702, 856, 268, 6448, 4160, 1264, 3515, 269, 49407]
    ),
    "Text": [49406, 4160, 49407],
}

# Strides of the four feature maps, in pixels of the image; patches of these sizes fit them.
PYRAMID_STRIDES = (4, 8, 16, 32)

CLIP_VOCABULARY_SIZE = 49408
CLIP_END_TOKEN = 49407

# BERT's word pieces of the same prompts in the vocabulary that Chinese-CLIP comes with.
CHINESE_CLIP_VOCABULARY_SIZE = 21128
CHINESE_CLIP_PROMPT_TOKEN_IDS = {
    "the pixels of many arbitrary-shape text instances.": (
        [101, 8174, 11688, 8118, 8205, 8791, 8179, 8673, 9407, 8332, 8449, 118, 11167, 11706, 10539, 12323, 10105]
        + [11463, 119, 102]
    ),
    "Text": [101, 10539, 102],
}


@dataclass(frozen=True)
class ImageTower:
    """
    What a kind of image tower declares.

    Args:
        family (`str`): what people call it.
        config_class (`type`): its configuration, of whose `model_type` there is one declaration.
        module (`str`): reference `".file:Class"` to the module, a [`CLIPTowerPreTrainedModel`].
        encoder (`str`, *optional*): name of transformers' class for the weights; by default there is none.
        length (`str`, *optional*):
            Field of the configuration that tells the length of its global and dense embeddings; by default it has none,
            and a new projection gives it those of the text tower's length.
        projects (`bool`, *optional*, defaults to `False`):
            Whether that field is the length of a projection, so that it has to be the text tower's. Otherwise it is the width
            of the tower, and another length gets a new projection.
        stages (`tuple[int, ...]`, *optional*): places of the backbone's outputs that make the feature pyramid.
        dense_options (`bool`, *optional*, defaults to `False`): whether `dense_attention` and its like have an effect.
    """

    family: str
    config_class: type
    module: str
    encoder: str | None = None
    length: str | None = None
    projects: bool = False
    stages: tuple[int, ...] = ()
    dense_options: bool = False

    def prepare(self, config: PreTrainedConfig) -> None:
        """Makes a backbone's configuration name the outputs of the feature pyramid."""
        backbone: Any = config
        # Of a backbone of another depth the tower says what is wrong.
        fits = bool(self.stages) and len(backbone.stage_names) == len(self.stages) + 1
        if fits and list(backbone.out_indices) != list(self.stages):
            backbone.set_output_features_output_indices(out_features=None, out_indices=list(self.stages))


@dataclass(frozen=True)
class TextTower:
    """
    What a kind of text tower declares.

    Args:
        family (`str`): what people call it.
        config_class (`type`): its configuration, of whose `model_type` there is one declaration.
        module (`str`): reference `".file:Class"` to the module, a `TCMTextTower`.
        encoder (`str`): name of transformers' class.
        tokenizer (`str`): Hub id of a model with its tokenizer.
        length (`str`, *optional*, defaults to `"projection_dim"`): field of the configuration with the embedding's length.
        start_tokens (`int`, *optional*, defaults to 1): tokens of a prompt before the learned context vectors.
        fills (`bool`, *optional*, defaults to `False`):
            Whether it reads as many tokens as it has positions, those after the prompt being `pad_token_id`, as it was trained.
        pad_token_ids (`dict[int, int]`, *optional*): the padding of known vocabularies, by their size.
        offset_positions (`bool`, *optional*, defaults to `False`): whether positions begin after the padding's id.
        prompts (`dict[int, dict[str, list[int]]]`, *optional*): token ids of prompts, by the size of the vocabulary.
    """

    family: str
    config_class: type
    module: str
    encoder: str
    tokenizer: str
    length: str = "projection_dim"
    start_tokens: int = 1
    fills: bool = False
    pad_token_ids: dict[int, int] = field(default_factory=dict)
    offset_positions: bool = False
    prompts: dict[int, dict[str, list[int]]] = field(default_factory=dict)

    def embedding_dim(self, config: Any) -> int:
        """Length of the text embedding."""
        return getattr(config, self.length)

    def positions(self, config: Any) -> int:
        """How many tokens it can read."""
        return config.max_position_embeddings - (config.pad_token_id + 1 if self.offset_positions else 0)


@dataclass(frozen=True)
class DualEncoder:
    """
    A model of transformers with both towers.

    Args:
        model_type (`str`): of its configuration.
        model (`str`): name of its class.
    """

    model_type: str
    model: str


IMAGE_TOWERS: dict[str, ImageTower] = {}
TEXT_TOWERS: dict[str, TextTower] = {}
DUAL_ENCODERS = {
    each.model_type: each
    for each in (
        DualEncoder("clip", "CLIPModel"),
        DualEncoder("metaclip_2", "MetaClip2Model"),
        DualEncoder("siglip", "SiglipModel"),
        DualEncoder("siglip2", "Siglip2Model"),
        DualEncoder("chinese_clip", "ChineseCLIPModel"),
        DualEncoder("altclip", "AltCLIPModel"),
    )
}


def declare_image_towers(*towers: ImageTower) -> None:
    """Makes image towers known by the type of their configuration."""
    IMAGE_TOWERS.update({tower.config_class.model_type: tower for tower in towers})  # type: ignore[attr-defined]


def declare_text_towers(*towers: TextTower) -> None:
    """Makes text towers known by the type of their configuration."""
    TEXT_TOWERS.update({tower.config_class.model_type: tower for tower in towers})  # type: ignore[attr-defined]


_CLIP_VIT: dict[str, Any] = {
    "module": ".modeling_clip_vit:CLIPViTModel",
    "length": "projection_dim",
    "projects": True,
    "dense_options": True,
}
_SIGLIP_VIT: dict[str, Any] = {
    "module": ".modeling_siglip_vit:SiglipViTModel",
    "length": "hidden_size",
    "dense_options": True,
}
declare_image_towers(
    ImageTower("CLIP", CLIPVisionConfig, encoder="CLIPVisionModel", **_CLIP_VIT),
    ImageTower("MetaCLIP 2", MetaClip2VisionConfig, encoder="MetaClip2VisionModel", **_CLIP_VIT),
    ImageTower("Chinese-CLIP", ChineseCLIPVisionConfig, encoder="ChineseCLIPVisionModel", **_CLIP_VIT),
    ImageTower("AltCLIP", AltCLIPVisionConfig, encoder="AltCLIPVisionModel", **_CLIP_VIT),
    ImageTower("SigLIP and SigLIP 2", SiglipVisionConfig, encoder="SiglipVisionModel", **_SIGLIP_VIT),
    ImageTower("SigLIP 2 NaFlex", Siglip2VisionConfig, encoder="Siglip2VisionModel", **_SIGLIP_VIT),
    ImageTower("DINOv3 ViT", DINOv3ViTConfig, ".modeling_dinov3_vit:DINOv3ViTTower", "DINOv3ViTBackbone"),
    *(
        ImageTower(family, config_class, f".modeling_cnn_towers:{tower}", encoder, stages=(1, 2, 3, 4))
        for family, config_class, tower, encoder in (
            ("ResNet", ResNetConfig, "ResNetTower", "ResNetBackbone"),
            ("ConvNeXt", ConvNextConfig, "ConvNextTower", "ConvNextBackbone"),
            ("ConvNeXt V2", ConvNextV2Config, "ConvNextV2Tower", "ConvNextV2Backbone"),
            ("DINOv3 ConvNeXt", DINOv3ConvNextConfig, "DINOv3ConvNextTower", "DINOv3ConvNextBackbone"),
        )
    ),
)
_CLIP_PROMPTS: dict[str, Any] = {
    "module": ".modeling_text_towers:CLIPTextTower",
    "prompts": {CLIP_VOCABULARY_SIZE: PROMPT_TOKEN_IDS},
}
_SIGLIP_TEXT: dict[str, Any] = {
    "module": ".modeling_text_towers:SiglipTextTower",
    "tokenizer": "google/siglip2-base-patch16-224",
    "length": "projection_size",
    "start_tokens": 0,
    "fills": True,
    # T5's vocabulary of SigLIP, where the padding is the end token, and Gemma's of SigLIP 2.
    "pad_token_ids": {32000: 1, 256000: 0},
}
declare_text_towers(
    TextTower(
        "CLIP", CLIPTextConfig, encoder="CLIPTextModel", tokenizer="openai/clip-vit-base-patch32", **_CLIP_PROMPTS
    ),
    TextTower(
        "MetaCLIP 2",
        MetaClip2TextConfig,
        encoder="MetaClip2TextModel",
        tokenizer="facebook/metaclip-2-worldwide-huge-quickgelu",
        **_CLIP_PROMPTS,
    ),
    TextTower("SigLIP and SigLIP 2", SiglipTextConfig, encoder="SiglipTextModel", **_SIGLIP_TEXT),
    TextTower("SigLIP 2 NaFlex", Siglip2TextConfig, encoder="Siglip2TextModel", **_SIGLIP_TEXT),
    TextTower(
        "Chinese-CLIP",
        ChineseCLIPTextConfig,
        ".modeling_text_towers:ChineseCLIPTextTower",
        "ChineseCLIPTextModel",
        "OFA-Sys/chinese-clip-vit-base-patch16",
        prompts={CHINESE_CLIP_VOCABULARY_SIZE: CHINESE_CLIP_PROMPT_TOKEN_IDS},
    ),
    TextTower(
        "AltCLIP",
        AltCLIPTextConfig,
        ".modeling_text_towers:AltCLIPTextTower",
        "AltCLIPTextModel",
        "BAAI/AltCLIP",
        offset_positions=True,
    ),
)


COMMON_TYPES = {
    "architectures": list[str] | None,
    "output_hidden_states": bool | int | list[int] | None,
    "output_attentions": bool | None,
    "return_dict": bool | None,
    "chunk_size_feed_forward": int,
    "is_encoder_decoder": bool,
    "id2label": dict[int, str] | None,
    "label2id": dict[str, int] | dict[str, str] | None,
    "problem_type": str | None,
    "dtype": torch.dtype | str | None,
}
_TOWER_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "projection_dim", "image_size"),
    *("patch_size", "num_channels", "vocab_size", "max_position_embeddings"),
)
# What wrong values in a file make transformers and the checks raise.
_WRONG_VALUES = (
    StrictDataclassError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
# Beyond what any network has; it would only take time and memory.
MOST_LAYERS = 1000
LARGEST = 2**24


@contextmanager
def naming_file(source, file: str):
    """
    Makes what is wrong in a file of a checkpoint one line that names it.

    Args:
        source (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
        file (`str`): name of the file.

    Raises:
        ValueError: for what is wrong.
    """
    try:
        yield
    except _WRONG_VALUES as error:
        text = one_line(error)
        raise ValueError(text if file in text else f"{os.path.join(str(source), file)}: {text}") from error


def one_line(error: Exception) -> str:
    """The reason alone: `@strict` puts the field or the validator before it, in a line of its own."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"\S{120,}", lambda match: f"{match[0][:60]}...", text)
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    text = re.sub(r"^Class validation error for validator '\w+': \w+: ", "", text)
    return re.sub(r"^Validation error for field '(\w+)': \w+: ", r"`\1`: ", text)


def check_least(config: PreTrainedConfig, names: tuple[str, ...], least: int = 1) -> None:
    """Raises a `ValueError` for the first of the fields that is smaller."""
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"`{name}` has to be at least {least}, got {getattr(config, name)}.")


def tower_config(name: str, values, classes: tuple) -> PreTrainedConfig | None:
    """Builds a tower's configuration of the type that its `model_type` names, by default the first one."""
    if values is None:
        return None
    values = dict(values) if isinstance(values, dict) else values
    by_type = {cls.model_type: cls for cls in classes}
    is_built = isinstance(values, PreTrainedConfig)
    if not is_built and not isinstance(values, dict):
        raise ValueError(f"`{name}` has to be a `dict` or a configuration, got {values!r}.")
    model_type = values.model_type if is_built else values.pop("model_type", classes[0].model_type)
    if not isinstance(model_type, str) or model_type not in by_type:
        raise ValueError(f"Unknown `{name}.model_type` {model_type!r}; known types: {sorted(by_type)}.")
    if is_built:
        return values
    try:
        for key in _TOWER_SIZES:
            # transformers would divide by it, before its own checks.
            if isinstance(values.get(key), int) and values[key] < 1:
                raise ValueError(f"`{key}` has to be at least 1, got {values[key]}.")
        return by_type[model_type](**values)
    except _WRONG_VALUES as error:
        raise ValueError(f"`{name}`: {one_line(error)}") from error
