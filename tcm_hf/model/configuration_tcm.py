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
import re
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict, type_validator
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPTextConfig, CLIPVisionConfig
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import CONFIG_NAME, TRANSFORMERS_DYNAMIC_MODULE_NAME

from .detector_sharing import AUTO_MAP_ENTRY, AUTO_MAP_KEY, own_file, save_own_detector
from .detectors import REMEDY, DetectorSettings, detector_names, find_detector, knows_detector
from .sharing import SharingMixin, saved_pipelines


# CLIP's byte-pair ids of the prompts that TCM's paper and its released models use. CLIP's tokenizer gives the same
# ids; they are spelled out so that a model can be built without any tokenizer file.
PROMPT_TOKEN_IDS = {
    "the pixels of many arbitrary-shape text instances.": (
        [49406, 518, 34099, 539, 1346, 22702, 856, 268, 6448, 4160, 1264, 3515, 269, 49407]
    ),
    "Text": [49406, 4160, 49407],
}

CLIP_VOCABULARY_SIZE = 49408
CLIP_END_TOKEN = 49407


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
        _check_least(self, ("num_attention_heads", "projection_dim", "num_channels"))
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


_COMMON_TYPES = {
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
_MOST_LAYERS = 1000
_LARGEST = 2**24


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
        text_config (`dict` or `CLIPTextConfig`, *optional*):
            CLIP's text tower.
        vision_config (`dict`, `CLIPResNetConfig` or `CLIPVisionConfig`, *optional*):
            CLIP's image tower: a ResNet (`model_type` `"clip_resnet"`, the default) or a ViT (`"clip_vision_model"`).
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
        self.vision_config = tower_config("vision_config", self.vision_config, (CLIPResNetConfig, CLIPVisionConfig))
        self.text_config = tower_config("text_config", self.text_config, (CLIPTextConfig,))
        if self.text_config is None:
            # CLIP RN50's text tower is that of ViT-B/32, projected to RN50's 1024-d space.
            self.text_config = CLIPTextConfig(projection_dim=getattr(self.vision_config, "projection_dim", 1024))
        if self.prompt_token_ids is None and self.text_config.vocab_size == CLIP_VOCABULARY_SIZE:
            self.prompt_token_ids = PROMPT_TOKEN_IDS.get(self.prompt)
        self.complete_detector_config()
        if self.vision_config is None:
            self.vision_config = CLIPResNetConfig()
        if self.id2label is None:
            self.id2label = {0: "text"}
            self.label2id = {"text": 0}
        super().__post_init__(**kwargs)

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
            for name, expected in _COMMON_TYPES.items():
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
                    if isinstance(number, int) and abs(number) > _LARGEST:
                        raise ValueError(f"`{prefix}{field.name}` is beyond all measure: {number}.")
        layers = {
            "decoder_layers": self.decoder_layers,
            "text_config.num_hidden_layers": text.num_hidden_layers,
        }
        if isinstance(vision, CLIPVisionConfig):
            layers["vision_config.num_hidden_layers"] = vision.num_hidden_layers
        else:
            layers["vision_config.depths"] = max(vision.depths)
        for name, number in layers.items():
            if number > _MOST_LAYERS:
                raise ValueError(f"`{name}` has to be at most {_MOST_LAYERS}, got {number}.")

    def validate_labels(self):
        """Part of `@strict`-powered validation."""
        _check_labels(self.num_labels)

    def validate_pyramid(self):
        """Part of `@strict`-powered validation."""
        _check_least(self, ("pyramid_channels",))

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
                "tokens: give them as `prompt_token_ids`, from the tokenizer of the text tower. CLIP's, of "
                f"{CLIP_VOCABULARY_SIZE} tokens, is "
                '`CLIPTokenizer.from_pretrained("openai/clip-vit-base-patch32")(prompt).input_ids`.'
            )
        _check_least(self, ("num_context_vectors",), 0)
        _check_least(self, ("decoder_layers", "decoder_hidden_size", "decoder_attention_heads", "decoder_ffn_dim"))
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
        if not known or (len(self.prompt_token_ids) < 2 and not context_only):
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
        if length > text.max_position_embeddings:
            raise ValueError(
                f"The prompt has {len(self.prompt_token_ids)} tokens and `num_context_vectors`="
                f"{self.num_context_vectors}, together {length}: more than the "
                f"`text_config.max_position_embeddings`={text.max_position_embeddings} of the text tower."
            )
        if text.projection_dim != vision.projection_dim:
            raise ValueError(
                "Image and text embeddings are compared and so need one length, but `text_config.projection_dim`="
                f"{text.projection_dim} and `vision_config.projection_dim`="
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


def _check_least(config: PreTrainedConfig, names: tuple[str, ...], least: int = 1) -> None:
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


__all__ = ["CLIPResNetConfig", "TCMConfig"]
