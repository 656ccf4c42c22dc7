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
"""Configurations of TCM and of CLIP's ResNet tower."""

import math
import os
from dataclasses import fields
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict, type_validator
from transformers import CLIPTextConfig
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import CONFIG_NAME, TRANSFORMERS_DYNAMIC_MODULE_NAME

from .configuration_towers import (
    CLIP_END_TOKEN,
    CLIP_VOCABULARY_SIZE,
    COMMON_TYPES,
    IMAGE_TOWERS,
    LARGEST,
    MOST_LAYERS,
    PYRAMID_STRIDES,
    TEXT_TOWERS,
    ImageTower,
    TextTower,
    check_least,
    declare_image_towers,
    naming_file,
    tower_config,
)
from .detector_sharing import AUTO_MAP_ENTRY, AUTO_MAP_KEY, own_file, save_own_detector
from .detectors import REMEDY, DetectorSettings, detector_names, find_detector, knows_detector
from .sharing import SharingMixin, saved_pipelines


@strict
class CLIPResNetConfig(BackboneConfigMixin, PreTrainedConfig):
    r"""
    Configuration of CLIP's ModifiedResNet image tower with attention pooling. The defaults are those of CLIP RN50.

    Args:
        width (`int`, *optional*, defaults to 64):
            Channels of the stem. Stage i (from 0) has `width * 4 * 2**i` channels at stride `4 * 2**i`.
        depths (`list[int]`, *optional*, defaults to `(3, 4, 6, 3)`):
            Number of bottleneck blocks of the four stages.
        num_attention_heads (`int`, *optional*):
            Heads of the attention pooling. `None` gives CLIP's choice, one head for 64 channels of the last stage.
        attention_reduction (`int`, *optional*, defaults to 1):
            Cells along each axis whose mean is one key and value of the attention pooling; every cell stays a query. 1 is
            CLIP. More is the pooled attention of PVT v2 (Wang et al., 2022, section 3.2), for models that are trained
            with it: its cost falls with the square.
        downsampling (`str`, *optional*, defaults to `"pooling"`):
            How the first block of a stage halves its map: `"pooling"` after its 3x3 convolution, as CLIP does, or by the
            stride of this `"convolution"`, which takes a quarter of the operations.
        projection_dim (`int`, *optional*, defaults to 1024):
            Length of the global and of the dense embeddings.
        image_size (`int`, *optional*, defaults to 224):
            Input side in pixels that the positional table is made for: it has `(image_size // 32)**2 + 1` rows.
            Inputs of any other size are fine, the table is resampled to them.
        num_channels (`int`, *optional*, defaults to 3):
            Channels of the input image.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of normally initialized weights.
        out_features (`list[str]`, *optional*, defaults to `["stage4"]`):
            Which of `stem` and `stage1` to `stage4` the tower gives as a backbone of another model.
        out_indices (`list[int]`, *optional*, defaults to `[4]`):
            The same by their places, 0 for the stem.
    """

    model_type = "clip_resnet"
    base_config_key = "vision_config"

    width: int = 64
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    num_attention_heads: int | None = None
    attention_reduction: int = 1
    downsampling: str = "pooling"
    projection_dim: int = 1024
    image_size: int = 224
    num_channels: int = 3
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs):
        if self.num_attention_heads is None:
            self.num_attention_heads = max(1, self.width * 32 // 64)
        self.stage_names = ["stem", "stage1", "stage2", "stage3", "stage4"]
        self.set_output_features_output_indices(kwargs.pop("out_features", None), kwargs.pop("out_indices", None))
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict:
        """The fields, as they are saved; the outputs of a backbone are among them where they are not the default ones."""
        values = super().to_dict()
        del values["stage_names"]
        if values["out_indices"] == [4]:
            del values["out_features"], values["out_indices"]
        return values

    @property
    def channels(self) -> list[int]:
        """Channels of the four feature maps, from stride 4 to stride 32."""
        return [self.width * 4 * 2**stage for stage in range(4)]

    def validate_architecture(self):
        """Part of `@strict`-powered validation."""
        if len(self.depths) != 4 or min(self.depths) < 1:
            raise ValueError(f"`depths` needs four positive numbers of blocks, got {self.depths}.")
        if self.width < 2 or self.width % 2:
            raise ValueError(f"`width` has to be an even number of channels, got {self.width}.")
        check_least(self, ("num_attention_heads", "projection_dim", "num_channels"))
        if (self.width * 32) % (self.num_attention_heads or 1):
            raise ValueError(
                f"The last stage's {self.width * 32} channels (`width` * 32) are not a multiple of "
                f"`num_attention_heads`={self.num_attention_heads}."
            )
        if self.attention_reduction < 1:
            raise ValueError(f"`attention_reduction` has to be at least 1 cell, got {self.attention_reduction}.")
        if self.downsampling not in ("pooling", "convolution"):
            raise ValueError(f"`downsampling` has to be 'pooling' or 'convolution', got {self.downsampling!r}.")
        if self.image_size < 32:
            raise ValueError(f"`image_size` has to be at least 32 pixels, got {self.image_size}.")


DENSE_ATTENTIONS = ("query_key", "query_query", "key_key", "self_self")

# The first one is what a configuration without `model_type` is.
declare_image_towers(
    ImageTower(
        "CLIP's ResNet",
        CLIPResNetConfig,
        ".modeling_clip_resnet:CLIPResNetModel",
        length="projection_dim",
        projects=True,
    )
)


class _TowerClasses:
    """Classes of the towers' configurations: the default ones of the class, and those that an instance has."""

    def __get__(self, config, owner):
        classes = {name: spec.config_class for name, spec in owner.sub_configs_defaults.items()}
        towers = {name: getattr(config, name, None) for name in classes}
        return {
            name: type(tower) if isinstance(tower, PreTrainedConfig) else classes[name]
            for name, tower in towers.items()
        }


@strict
class TCMConfig(SharingMixin, PreTrainedConfig):
    r"""
    Configuration of TCM and FastTCM ("Turning a CLIP Model into a Scene Text Detector", CVPR 2023; "... into a Scene
    Text Spotter", TPAMI 2024). Every choice and every ablation of the papers is a field. The defaults are TCM-DB on
    CLIP RN50 as released.

    Args:
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            The text tower: CLIP's (`model_type` `"clip_text_model"`, the default), or that of MetaCLIP 2
            (`"metaclip_2_text_model"`), SigLIP (`"siglip_text_model"`, `"siglip2_text_model"`), Chinese-CLIP
            (`"chinese_clip_text_model"`) or AltCLIP (`"altclip_text_model"`).
        vision_config (`dict` or `PreTrainedConfig`, *optional*):
            The image tower: CLIP's ResNet (`model_type` `"clip_resnet"`, the default) or its ViT (`"clip_vision_model"`), the
            ViT of MetaCLIP 2, SigLIP, Chinese-CLIP or AltCLIP, or a backbone without any text: `"dinov3_vit"`,
            `"dinov3_convnext"`, `"resnet"`, `"convnext"` or `"convnextv2"`. Every one goes with every text tower, and alone.
        detector (`str`, *optional*, defaults to `"db"`):
            Name of the text detector that reads the feature maps.
        detector_config (`dict`, *optional*):
            Settings of the detector, see [`DBSettings`], [`PANSettings`] and [`FCESettings`]; what is left out takes its
            default. `detector_settings` has them in their typed form.
        text_side (`bool`, *optional*, defaults to `True`):
            Whether there is a text side at all. `False` is the plain detector on CLIP's image tower, the baseline of
            the paper's tables: no prompts, no attention pooling, no matching map.
        prompt (`str`, *optional*, defaults to `"the pixels of many arbitrary-shape text instances."`):
            The predefined prompt. The paper's formula has `"Text"`, the released models have the default.
        prompt_token_ids (`list[int]`, *optional*):
            The prompt's token ids with start and end token. Needed for a prompt other than the two above:
            `CLIPTokenizer.from_pretrained("openai/clip-vit-base-patch32")(prompt).input_ids`. The ids index the
            text tower's vocabulary; where that is not CLIP's, of 49408 tokens, they are needed in any case. An empty list leaves the context vectors alone,
            without start and end token.
        num_context_vectors (`int`, *optional*, defaults to 4):
            Learned context vectors between the start token and the prompt (paper, eq. 3). Released: 4, 18 and 32.
        prompt_generator (`str`, *optional*, defaults to `"conditional"`):
            What conditions the prompt: `"conditional"` (TCM, the image's global embedding), `"meta_query"` (FastTCM, a
            learned query, followed by bimodal similarity matching) or `None`.
        prompt_generator_act (`str`, *optional*, defaults to `"relu"`):
            Activation inside of the language prompt generator.
        fused_text (`bool`, *optional*, defaults to `False`):
            Whether the text embedding is stored as a constant and there is no text tower; set by `fuse_text()` of the
            models, and possible where the prompt generator is not `"conditional"`.
        visual_prompt (`bool`, *optional*, defaults to `True`):
            Whether the pixels attend to the text embedding (visual prompt generator).
        context_decoder (`bool`, *optional*, defaults to `True`):
            Whether the text embedding attends to the pixels; on in every released model.
        decoder_layers (`int`, *optional*, defaults to 3):
            Layers of the visual prompt generator and of the context decoder.
        decoder_hidden_size (`int`, *optional*, defaults to 256):
            Width of the two decoders.
        decoder_attention_heads (`int`, *optional*, defaults to 4):
            Attention heads of the two decoders.
        decoder_ffn_dim (`int`, *optional*, defaults to 1024):
            Width of the feed-forward layers in the two decoders.
        decoder_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the two decoders.
        visual_prompt_scale_init (`float`, *optional*, defaults to 1e-3):
            Initial value of the scalar that scales the visual prompt.
        context_init_std (`float`, *optional*):
            Standard deviation of the first context vectors, by default `initializer_range`; they are cut off at twice of it. The
            papers' models have 1.
        context_scale_init (`float`, *optional*, defaults to 1e-3):
            Initial value of the per-channel scale of the context decoder's output.
        temperature (`float`, *optional*, defaults to 0.07):
            Temperature of the instance-language matching (paper, eq. 9).
        scale_score_map (`bool`, *optional*, defaults to `False`):
            Whether the matching map that is concatenated to the last feature map is the cosine over the temperature,
            instead of the cosine; so it is in official checkpoints that have a `logit_scale`.
        auxiliary_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the matching map's loss (lambda in the paper); 0 leaves it out.
        auxiliary_negative_ratio (`float`, *optional*, defaults to 3.0):
            Hard negative pixels for every positive pixel in the auxiliary loss, counted for each image.
        pyramid_channels (`int`, *optional*, defaults to 256):
            Channels of each level of the simple feature pyramid on top of a ViT; a ResNet has its own pyramid.
        patch_stride (`int`, *optional*):
            Pixels of the image for each patch of a ViT: 4, 8, 16 or 32. By default the patch size. A ViT with patches of 14
            pixels needs 16 here; it sees the image at 14/16 of its size.
        dense_attention (`str`, *optional*, defaults to `"query_key"`):
            What attends to what in the last layer of a ViT of CLIP's or SigLIP's kind, for the dense embeddings alone:
            `"query_key"` as it was trained, `"query_query"`, `"key_key"` (NACLIP) or `"self_self"`, the sum of both (SCLIP).
        dense_neighborhood_std (`float`, *optional*):
            Standard deviation, in patches, of the Gaussian around each patch that is added to the logits of that attention
            (NACLIP, there 5); by default there is none.
        dense_feed_forward (`bool`, *optional*, defaults to `True`):
            Whether that layer adds its input and has its feed-forward layer; `False` leaves its attention alone (NACLIP).
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of normally initialized weights.

    Example:

    >>> from tcm_hf import TCMConfig

    >>> config = TCMConfig(detector="pan", num_context_vectors=18)
    >>> config.detector_config["neck_channels"]
    128
    """

    model_type = "tcm"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {"vision_config": CLIPResNetConfig, "text_config": CLIPTextConfig}
    sub_configs = _TowerClasses()
    keys_to_ignore_at_inference = [
        "loss_dict",
        "score_map",
        "text_embeddings",
        "visual_embeddings",
        "hidden_states",
        "attentions",
        "visual_prompt_attentions",
    ]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    detector: str = "db"
    detector_config: dict | None = None
    text_side: bool = True
    prompt: str = "the pixels of many arbitrary-shape text instances."
    prompt_token_ids: list[int] | tuple[int, ...] | None = None
    num_context_vectors: int = 4
    prompt_generator: str | None = "conditional"
    prompt_generator_act: str = "relu"
    fused_text: bool = False
    visual_prompt: bool = True
    context_decoder: bool = True
    decoder_layers: int = 3
    decoder_hidden_size: int = 256
    decoder_attention_heads: int = 4
    decoder_ffn_dim: int = 1024
    decoder_dropout: float | int = 0.1
    visual_prompt_scale_init: float | int = 1e-3
    context_init_std: float | int | None = None
    context_scale_init: float | int = 1e-3
    temperature: float | int = 0.07
    scale_score_map: bool = False
    auxiliary_loss_weight: float | int = 1.0
    auxiliary_negative_ratio: float | int = 3.0
    pyramid_channels: int = 256
    patch_stride: int | None = None
    dense_attention: str = "query_key"
    dense_neighborhood_std: float | int | None = None
    dense_feed_forward: bool = True
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs):
        if not __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            # The installed pipeline serves every checkpoint. With this entry `pipeline()` would ask for permission to
            # run the copy that came with the checkpoint instead.
            kwargs.pop("custom_pipelines", None)
        model_type = kwargs.pop("model_type", type(self).model_type)
        if model_type != type(self).model_type:
            raise ValueError(f"`model_type` has to be {type(self).model_type!r}, got {model_type!r}.")
        if isinstance(self.dtype, str):
            self.dtype = getattr(torch, self.dtype, self.dtype)
        if self.dtype is not None and not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise ValueError(
                f"`dtype` has to be a floating-point type of PyTorch, such as 'float32', got {self.dtype!r}."
            )
        # Here, where it is a plain ValueError, as a wrong argument of `from_pretrained` should be.
        for labels in (kwargs.get("num_labels"), None if self.id2label is None else len(self.id2label)):
            _check_labels(labels)
        self._complete_towers()
        self.complete_detector_config()
        if self.id2label is None:
            self.id2label = {0: "text"}
            self.label2id = {"text": 0}
        super().__post_init__(**kwargs)

    def _complete_towers(self) -> None:
        """Builds the towers' configurations, and gives what they leave open its default."""
        image_classes = (CLIPResNetConfig, *(tower.config_class for tower in IMAGE_TOWERS.values()))
        text_classes = (CLIPTextConfig, *(tower.config_class for tower in TEXT_TOWERS.values()))
        self.vision_config = tower_config("vision_config", self.vision_config, image_classes)
        text: Any = tower_config("text_config", self.text_config, text_classes)
        length = getattr(self.vision_config, "projection_dim", 1024)
        if text is None:
            # CLIP RN50's text tower is that of ViT-B/32, projected to RN50's 1024-d space.
            text = CLIPTextConfig(projection_dim=length)
        tower = TEXT_TOWERS[text.model_type]
        if getattr(text, tower.length, None) is None:
            # Of some families it stands in the joint configuration of their two towers alone.
            setattr(text, tower.length, length)
        if tower.fills and text.vocab_size in tower.pad_token_ids:
            # Published configurations leave it to the tokenizer.
            text.pad_token_id = tower.pad_token_ids[text.vocab_size]
        self.text_config = text
        if self.prompt_token_ids is None:
            self.prompt_token_ids = tower.prompts.get(text.vocab_size, {}).get(self.prompt)
        if self.vision_config is None:
            self.vision_config = CLIPResNetConfig()
        self.image_tower.prepare(self.vision_config)

    def save_pretrained(self, save_directory, **kwargs):  # type: ignore[override]  # all else by name
        """
        Saves the configuration, see [`~transformers.PreTrainedConfig.save_pretrained`]. It names the pipelines whose code
        is in the directory, also those that the configuration in its place named.

        Args:
            save_directory (`str` or `os.PathLike`): the directory; it is made when it does not exist.
        """
        own = getattr(self, "custom_pipelines", None)
        kept = saved_pipelines(save_directory, own)
        auto_map = {
            key: value for key, value in (getattr(self, "auto_map", None) or {}).items() if key != AUTO_MAP_KEY
        }
        if self._auto_class is not None and own_file(self.detector) is not None:
            auto_map[AUTO_MAP_KEY] = AUTO_MAP_ENTRY
        if auto_map:
            self.auto_map = auto_map
        if kept:
            self.custom_pipelines = kept
        elif own is not None:
            del self.custom_pipelines
        try:
            super().save_pretrained(save_directory, **kwargs)
            save_own_detector(save_directory, self.detector)
        finally:
            if own is None and kept:
                del self.custom_pipelines

    @classmethod
    def from_pretrained(  # type: ignore[override]  # all else by name
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs
    ):
        """
        Loads a saved configuration, see [`~transformers.PreTrainedConfig.from_pretrained`].

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
            kwargs: fields that replace the saved ones, and what transformers takes.

        Returns:
            `TCMConfig`

        Raises:
            ValueError: if a field is wrong; the message names the file and the field.
            OSError: if there is no such file, or it is no JSON.
        """
        with naming_file(pretrained_model_name_or_path, CONFIG_NAME):
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """
        Builds the configuration from a saved one, see [`~transformers.PreTrainedConfig.from_dict`].

        Fields among the keyword arguments replace the saved ones as if they had been saved, checks included. With
        another `detector` the settings of the saved one are left behind, and so are the token ids with another `prompt`.
        """
        # transformers sets them on the finished configuration, past what is derived from them and past the checks.
        own = {field.name for field in fields(cls)} - {field.name for field in fields(PreTrainedConfig)} | {"id2label"}
        changes = {name: kwargs.pop(name) for name in own - set(cls.sub_configs_defaults) if name in kwargs}
        config_dict = dict(config_dict)
        for name, dependent in (("detector", "detector_config"), ("prompt", "prompt_token_ids")):
            saved = config_dict.get(name, getattr(cls, name))
            if changes.get(name, saved) != saved:
                config_dict.pop(dependent, None)
        if isinstance(changes.get("detector_config"), dict):
            changes["detector_config"] = {**(config_dict.get("detector_config") or {}), **changes["detector_config"]}
        config_dict = {**config_dict, **changes}
        if "name_or_path" not in kwargs:
            return super().from_dict(config_dict, **kwargs)
        with naming_file(kwargs["name_or_path"], CONFIG_NAME):  # the Auto classes tell where it is from
            return super().from_dict(config_dict, **kwargs)

    @property
    def image_tower(self) -> ImageTower:
        """What is declared for the kind of its image tower."""
        vision: Any = self.vision_config
        return IMAGE_TOWERS[vision.model_type]

    @property
    def text_tower(self) -> TextTower:
        """What is declared for the kind of its text tower."""
        text: Any = self.text_config
        return TEXT_TOWERS[text.model_type]

    @property
    def embedding_dim(self) -> int:
        """Length of the image and text embeddings that are compared: the text tower's."""
        return self.text_tower.embedding_dim(self.text_config)

    @property
    def detector_settings(self) -> DetectorSettings:
        """`detector_config` in its typed form, such as [`DBSettings`]."""
        return find_detector(self.detector).make_settings(self.detector_config)

    def complete_detector_config(self) -> None:
        """Gives settings that are left out their defaults; without effect as long as the detector is unknown."""
        if knows_detector(self.detector, "settings"):
            # Unknown settings stay in, so that `validate_detector` can name them.
            defaults = find_detector(self.detector).part("settings").defaults()
            self.detector_config = {**defaults, **(self.detector_config or {})}

    def validate_detector(self):
        """Part of `@strict`-powered validation."""
        if AUTO_MAP_KEY in (getattr(self, "auto_map", None) or {}) and not knows_detector(self.detector, "settings"):
            return  # the checkpoint brings it along; whether its code is trusted is known when the model is built
        if not knows_detector(self.detector, "settings"):
            known = detector_names("settings")
            raise ValueError(f"Unknown `detector` {self.detector!r}; known detectors: {known}; {REMEDY}.")
        find_detector(self.detector).make_settings(self.detector_config)

    def validate_values(self):
        """Part of `@strict`-powered validation: what transformers leaves unchecked in all configurations."""
        text: Any = self.text_config
        vision: Any = self.vision_config
        config: Any
        for config in (self, text, vision):
            prefix = "" if config is self else f"{config.base_config_key}."
            for name, expected in COMMON_TYPES.items():
                value = getattr(config, name, None)
                try:
                    type_validator(name, value, expected)
                except TypeError:
                    raise ValueError(f"`{prefix}{name}` has a wrong type, got {value!r}.") from None
            for name in ("layer_norm_eps", "attention_dropout", "initializer_factor"):
                if getattr(config, name, 0.0) is None:
                    raise ValueError(f"`{prefix}{name}` has to be a number, got None.")
            if getattr(config, "hidden_act", "relu") not in ACT2FN:
                raise ValueError(
                    f"Unknown `{prefix}hidden_act` {config.hidden_act!r}; known activations: {sorted(ACT2FN)}."
                )
            for field in fields(config):
                value = getattr(config, field.name, None)
                value = list(value.values()) if field.name == "detector_config" and value else value
                for number in value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(number, float) and not math.isfinite(number):
                        raise ValueError(f"`{prefix}{field.name}` has to be a finite number, got {number}.")
                    if isinstance(number, int) and abs(number) > LARGEST:
                        raise ValueError(f"`{prefix}{field.name}` is beyond all measure: {number}.")
        layers = {
            "decoder_layers": self.decoder_layers,
            "text_config.num_hidden_layers": text.num_hidden_layers,
        }
        if hasattr(vision, "depths"):
            layers["vision_config.depths"] = max(vision.depths)
        else:
            layers["vision_config.num_hidden_layers"] = vision.num_hidden_layers
        for name, number in layers.items():
            if number > MOST_LAYERS:
                raise ValueError(f"`{name}` has to be at most {MOST_LAYERS}, got {number}.")

    def validate_labels(self):
        """Part of `@strict`-powered validation."""
        _check_labels(self.num_labels)

    def validate_pyramid(self):
        """Part of `@strict`-powered validation."""
        check_least(self, ("pyramid_channels",))
        if self.patch_stride not in (None, *PYRAMID_STRIDES):
            raise ValueError(f"`patch_stride` has to be 4, 8, 16 or 32 pixels, got {self.patch_stride}.")
        if self.dense_attention not in DENSE_ATTENTIONS:
            raise ValueError(
                f"`dense_attention` is one of {', '.join(map(repr, DENSE_ATTENTIONS))}, got {self.dense_attention!r}."
            )
        if self.dense_neighborhood_std is not None and self.dense_neighborhood_std <= 0:
            raise ValueError(
                f"`dense_neighborhood_std` has to be a positive number of patches, got {self.dense_neighborhood_std}."
            )
        changed = [
            name
            for name in ("dense_attention", "dense_neighborhood_std", "dense_feed_forward")
            if getattr(self, name) != getattr(type(self), name)
        ]
        if changed and not self.image_tower.dense_options:
            raise ValueError(
                f"`{changed[0]}` changes the last layer of a ViT of CLIP's or SigLIP's kind; an image tower of "
                f"{self.image_tower.family} has none."
            )

    def validate_text_side(self):
        """Part of `@strict`-powered validation."""
        if self.prompt_generator not in ("conditional", "meta_query", None):
            raise ValueError(
                f'`prompt_generator` is "conditional", "meta_query" or None, got {self.prompt_generator!r}.'
            )
        if not self.text_side:
            return
        text: Any = self.text_config
        vision: Any = self.vision_config
        if self.fused_text and self.prompt_generator == "conditional":
            raise ValueError(
                "`fused_text` needs a text embedding that does not depend on the image; with `prompt_generator="
                '"conditional"` it does.'
            )
        if self.prompt_token_ids is None:
            raise ValueError(
                f"No token ids are known for the `prompt` {self.prompt!r} in a vocabulary of {text.vocab_size} "
                "tokens: give them as `prompt_token_ids`, from the tokenizer of the text tower. That of "
                f"{self.text_tower.family} is "
                f'`AutoTokenizer.from_pretrained("{self.text_tower.tokenizer}")(prompt).input_ids`.'
            )
        check_least(self, ("num_context_vectors",), 0)
        check_least(self, ("decoder_layers", "decoder_hidden_size", "decoder_attention_heads", "decoder_ffn_dim"))
        if not 0 <= self.decoder_dropout < 1:
            raise ValueError(
                f"`decoder_dropout` has to be a share of at least 0 and below 1, got {self.decoder_dropout}."
            )
        if self.context_init_std is not None and not 0 < self.context_init_std < float("inf"):
            raise ValueError(f"`context_init_std` has to be a positive number, got {self.context_init_std}.")
        if self.prompt_generator_act not in ACT2FN:
            raise ValueError(
                f"Unknown `prompt_generator_act` {self.prompt_generator_act!r}; known activations: {sorted(ACT2FN)}."
            )
        context_only = len(self.prompt_token_ids) == 0 and self.num_context_vectors > 0
        known = all(0 <= token < text.vocab_size for token in self.prompt_token_ids)
        if not known or (len(self.prompt_token_ids) <= self.text_tower.start_tokens and not context_only):
            raise ValueError(
                "`prompt_token_ids` needs a start and an end token, or none at all beside learned context vectors, all of "
                f"them below `text_config.vocab_size`={text.vocab_size}; got {list(self.prompt_token_ids)}."
            )
        ends = {
            *self.prompt_token_ids[-1:],
            *([CLIP_END_TOKEN] if text.vocab_size == CLIP_VOCABULARY_SIZE else []),
        }
        if ends & set(self.prompt_token_ids[:-1]):
            raise ValueError(
                f"`prompt_token_ids` {list(self.prompt_token_ids)} go on after their end token, as padded ones do; the "
                "text embedding is read at the last one. Give them without padding."
            )
        length = len(self.prompt_token_ids) + self.num_context_vectors
        if length > self.text_tower.positions(text):
            raise ValueError(
                f"The prompt has {len(self.prompt_token_ids)} tokens and `num_context_vectors`="
                f"{self.num_context_vectors}, together {length}: more than the "
                f"`text_config.max_position_embeddings`={text.max_position_embeddings} of the text tower."
            )
        if self.image_tower.projects and self.embedding_dim != vision.projection_dim:
            raise ValueError(
                f"Image and text embeddings are compared and so need one length, but `text_config.{self.text_tower.length}`="
                f"{self.embedding_dim} and `vision_config.projection_dim`="
                f"{vision.projection_dim}."
            )
        if self.decoder_hidden_size % self.decoder_attention_heads:
            raise ValueError(
                f"`decoder_hidden_size`={self.decoder_hidden_size} is not a multiple of `decoder_attention_heads`="
                f"{self.decoder_attention_heads}."
            )
        if self.temperature <= 0:
            raise ValueError(f"`temperature` has to be positive, got {self.temperature}.")


def _check_labels(number: int | None) -> None:
    if number not in (None, 1):
        raise ValueError(
            f"The detectors know one class, text: `num_labels` has to be 1, got {number!r}. Leave it out, and give the class "
            'another name by `id2label={0: "name"}`.'
        )


__all__ = ["CLIPResNetConfig", "TCMConfig"]
