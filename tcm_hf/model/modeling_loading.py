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
"""Loading of checkpoints that never runs code from a pickle file unasked."""

import os
from typing import Any

import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME, has_file

from .configuration_tcm import TCMConfig
from .configuration_towers import DUAL_ENCODERS, IMAGE_TOWERS, PYRAMID_STRIDES, TEXT_TOWERS


def load_safetensors(load, source, *args, use_safetensors: bool | None = None, **kwargs):
    """
    Calls a `from_pretrained` so that no pickle is ever loaded unasked.

    Args:
        load (`Callable`): a bound `from_pretrained`.
        source (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
        use_safetensors (`bool`, *optional*, defaults to `True`): `False` allows weights in a pickle file.
        args, kwargs: passed on.

    Returns:
        `tuple`: the model and the loading information.

    Raises:
        OSError: if there is no such checkpoint, or its weights are damaged or in a pickle file only.
        RuntimeError: if the weights have other sizes than the configuration.
    """
    name = str(source)
    try:
        return load(source, *args, use_safetensors=use_safetensors is not False, output_loading_info=True, **kwargs)
    except SafetensorError as error:
        raise OSError(f"The weights of {name} are damaged ({error}). Get a complete copy of them.") from error
    except RuntimeError as error:
        if "overflow" in str(error):
            raise ValueError(f"The sizes in {CONFIG_NAME} of {name} are beyond all measure.") from error
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise RuntimeError(
            f"The weights of {name} have other sizes than its {CONFIG_NAME}, or the arguments given beside it, say; the log has "
            "them. `ignore_mismatched_sizes=True` gives those weights random values, to be trained."
        ) from error
    except OSError as error:
        if use_safetensors is False or "safetensors" not in str(error):
            raise
        pickle_file = _find_pickle(name, kwargs)
        if pickle_file is None:
            raise OSError(f"{name} holds no weights: it has no {SAFE_WEIGHTS_NAME}.") from error
        raise OSError(
            f"{name} has its weights in {pickle_file} only. A pickle file can run any code when it is loaded, so it is not. "
            f"If you trust its source, convert it once: `{load.__self__.__name__}.from_pretrained({name!r}, "
            f"use_safetensors=False).save_pretrained(directory)` writes {SAFE_WEIGHTS_NAME}."
        ) from None


def load_encoder(source: "str | os.PathLike | PreTrainedModel") -> Any:
    """
    Loads a model of transformers that towers are taken from; nothing that is merely like one is taken for it.

    Args:
        source (`str`, `os.PathLike` or `PreTrainedModel`):
            A CLIP model or one of its kin with both towers, or a backbone; or its directory or Hub id.

    Returns:
        `PreTrainedModel`

    Raises:
        ValueError: if it is another model, or weights are missing.
        OSError: if there is no such checkpoint, or its weights are damaged or in a pickle file only.
    """
    if isinstance(source, nn.Module):
        known = {*(each.model for each in DUAL_ENCODERS.values()), *_backbones().values()}
        if type(source).__name__ not in known:
            raise ValueError(
                f"`from_clip` takes one of {', '.join(sorted(known - {'CLIPModel'}))} or `CLIPModel` of transformers, got a "
                f"{type(source).__name__}."
            )
        return source
    model_type = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    fields: dict[str, Any] = {}
    if model_type in DUAL_ENCODERS:
        name = DUAL_ENCODERS[model_type].model
    elif model_type in _backbones():
        name, fields = _backbones()[model_type], {"out_indices": list(IMAGE_TOWERS[model_type].stages) or None}
    else:
        # transformers would load it with a warning: with another tokenizer's vocabulary, or another architecture.
        raise ValueError(
            f"{source} holds a model of type {model_type!r}; `from_clip` takes CLIP models of transformers and their kin (types "
            f"{', '.join(map(repr, sorted(DUAL_ENCODERS)))}) and backbones ({', '.join(map(repr, sorted(_backbones())))}) only. "
            "CLIP in the layouts of OpenAI, open_clip and timm is converted by `tcm-hf convert`."
        )
    encoder, loading = load_safetensors(getattr(transformers, name).from_pretrained, source, **fields)
    # The normalization of a backbone's outputs is none of the classifier that it is taken from.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("hidden_states_norms."))
    if missing:
        kind = "a CLIP model" if model_type == CLIPConfig.model_type else f"a {name}"
        raise ValueError(
            f"The checkpoint lacks weights of {kind}: {missing[:5]} and others. "
            "`from_clip` needs a model in transformers' layout."
        )
    return encoder


def _backbones() -> dict[str, str]:
    """Names of transformers' classes for image towers without a text tower of their own, by the types of their configurations."""
    return {
        model_type: tower.encoder
        for model_type, tower in IMAGE_TOWERS.items()
        if tower.length is None and tower.encoder is not None
    }


def tower_fields(image: Any, text: Any, text_source: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """
    The fields of `TCMConfig` for a model on towers that are taken over.

    Args:
        image (`PreTrainedModel`): what [`load_encoder`] gave for the image tower.
        text (`PreTrainedModel`): the same for the text tower.
        text_source (`str`, `os.PathLike` or `PreTrainedModel`): where that is from, for its tokenizer.
        fields (`dict`): what is given; it wins.

    Returns:
        `dict[str, Any]`

    Raises:
        ValueError: if a text side is wanted, and the model for it has none.
    """
    text_side = fields.get("text_side", True)
    vision_config = getattr(image.config, "vision_config", image.config).to_dict()
    image_tower = IMAGE_TOWERS[vision_config["model_type"]]
    if image_tower.projects:
        # The projections' length stands in the joint configuration; the towers' own fields need not agree with it.
        vision_config["projection_dim"] = image.config.projection_dim
    result: dict[str, Any] = {"vision_config": vision_config}
    patch_size = vision_config.get("patch_size")
    if not image_tower.stages and patch_size not in PYRAMID_STRIDES:
        result["patch_stride"] = min(PYRAMID_STRIDES, key=lambda stride: abs(stride - patch_size))
    text_config: Any = getattr(text.config, "text_config", None)
    if text_config is None:
        if text_side:
            raise ValueError(
                f"A {type(text).__name__} has no text tower: name a model that has one by `text`, such as "
                '`text="openai/clip-vit-base-patch32"`, or leave the text side out by `text_side=False`.'
            )
        return {**result, **fields}
    text_tower = TEXT_TOWERS[text_config.model_type]
    # The frozen encoder is to give one embedding for one prompt.
    text_config = {**text_config.to_dict(), **_without_dropout(text_config)}
    if text_tower.length == "projection_dim":
        text_config["projection_dim"] = text.config.projection_dim
    if image_tower.projects and text_side:
        vision_config["projection_dim"] = text_config[text_tower.length]
    if text_side and "prompt_token_ids" not in fields:
        prompt = fields.get("prompt", TCMConfig.prompt)
        if prompt not in text_tower.prompts.get(text_config["vocab_size"], {}):
            tokenizer = _load_tokenizer(text_source)
            if tokenizer is not None:
                result["prompt_token_ids"] = list(tokenizer(prompt)["input_ids"])
                if tokenizer.pad_token_id is not None:
                    text_config["pad_token_id"] = tokenizer.pad_token_id
    return {**result, "text_config": text_config, **fields}


def _without_dropout(text_config: PreTrainedConfig) -> dict[str, float]:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return {name: 0.0 for name in names if hasattr(text_config, name)}


def _load_tokenizer(source: Any) -> Any:
    """The tokenizer beside a model, or `None` where there is none."""
    if isinstance(source, nn.Module):
        return None
    try:
        return transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        return None  # the configuration says what is missing


def copy_towers(model: Any, image: Any, text: Any) -> None:
    """
    Takes over the weights of towers.

    Args:
        model (`TCMForTextDetection`): made with [`tower_fields`].
        image (`PreTrainedModel`): what has those of the image tower.
        text (`PreTrainedModel`): the same of the text tower.
    """
    tower, text_tower = model.model.vision_tower, model.model.text_tower
    tower.copy_encoder(getattr(image, "vision_model", image))
    projection = getattr(image, "visual_projection", None)
    # One to the length of another model's text embeddings is new.
    if text_tower is not None and projection is not None:
        if projection.weight.shape == tower.visual_projection.weight.shape:
            tower.visual_projection.load_state_dict(projection.state_dict())
    if text_tower is not None:
        text_tower.text_model.load_state_dict(text.text_model.state_dict())
        if isinstance(text_tower.text_projection, nn.Linear):
            text_tower.text_projection.load_state_dict(text.text_projection.state_dict())


def _find_pickle(name: str, load_kwargs: dict) -> str | None:
    """Name of the pickle file with weights that a checkpoint holds, if any."""
    arguments = ("revision", "proxies", "token", "local_files_only", "cache_dir")
    hub_kwargs = {key: load_kwargs[key] for key in arguments if key in load_kwargs}
    subfolder = load_kwargs.get("subfolder") or ""
    for file in (WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
        path = os.path.join(subfolder, file)
        try:
            if has_file(name, path, **hub_kwargs):
                return path
        except OSError:
            return None
    return None
