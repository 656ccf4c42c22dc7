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
"""The configuration that the shapes of a source's weights tell."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPTextConfig, CLIPVisionConfig, ConvNextConfig

from ..model.configuration_tcm import CLIPResNetConfig, TCMConfig
from ..model.configuration_towers import PROMPT_TOKEN_IDS, one_line, tower_config
from ..model.detectors import find_detector
from .layouts import ConfigurationError, ConversionError, Layout, Weights, found_detector, source_name


def infer_config(weights: Weights, layout: Layout, overrides: Mapping) -> TCMConfig:
    """
    The configuration that fits the shapes of the weights.

    Args:
        weights (`Weights`): the source.
        layout (`Layout`): its layout.
        overrides (`Mapping`): fields of `TCMConfig` that are given; dictionaries are merged into what is inferred.

    Returns:
        `TCMConfig`

    Raises:
        ConversionError: if a weight is absent that tells a size, or sizes contradict each other.
    """
    if overrides.get("fused_text"):
        raise ConversionError("fused_text: convert with the text tower, and fuse the text of the loaded model then.")
    unknown = sorted(set(overrides) - set(TCMConfig.__dataclass_fields__))
    if unknown:
        raise ConversionError(f"{', '.join(unknown)}: no such field of TCMConfig.")
    for key, classes in (
        ("text_config", [CLIPTextConfig]),
        ("vision_config", [CLIPResNetConfig, CLIPVisionConfig, ConvNextConfig]),
    ):
        known = {item.name for cls in classes for item in dataclasses.fields(cls)}
        if unknown := sorted(set(overrides.get(key) or ()) - known):
            raise ConversionError(f"{', '.join(unknown)}: no such field of {key}.")
    fields = {}
    if layout.trained_detector:
        fields.update(_detector_fields(weights))
        if overrides.get("detector", fields["detector"]) != fields["detector"]:
            raise ConversionError(
                f"{weights.name} holds the detector {fields['detector']!r}, not {overrides['detector']!r}."
            )
    text_side = overrides.get("text_side", fields.get("text_side", True))
    if layout.name == "oclip" and "text_side" not in overrides:
        fields["text_side"] = text_side = False
    if layout.image_only and text_side:
        raise ConversionError(_without_text_tower(weights, layout))
    token_ids = overrides.get("prompt_token_ids")
    if token_ids is None:
        prompt = overrides.get("prompt", TCMConfig.__dataclass_fields__["prompt"].default)
        token_ids = PROMPT_TOKEN_IDS.get(prompt)
    if layout.trained_detector and "prompt_token_ids" in overrides:
        overrides = {**overrides, "prompt_token_ids": (token_ids := _without_padding(token_ids))}
    prompt_given = bool({"prompt", "prompt_token_ids"} & set(overrides))
    if layout.trained_detector and text_side and not prompt_given and _has_vectors_only(weights):
        fields["prompt_token_ids"] = token_ids = []
    if layout.name == "transformers":
        fields.update(_transformers_fields(weights))
    else:
        if layout.name == "openai-vit":
            fields["vision_config"] = _vit_fields(weights)
        elif layout.name == "open-clip-convnext":
            fields["vision_config"] = _convnext_fields(weights)
        else:
            fields["vision_config"] = _resnet_fields(weights, layout, text_side)
        if text_side:
            prefix = "text_encoder." if layout.name == "tcm" else ""
            fields["text_config"] = _text_fields(weights, prefix, token_ids)
    if layout.trained_detector and text_side:
        fields.update(_prompt_fields(weights))
        # The rows of the positional table tell whether all tokens are there, but for a prompt that was padded.
        may_be_padded = prompt_given and ("contexts" in weights.tensors or overrides.get("num_context_vectors") == 0)
        _check_positions(weights, fields, token_ids, may_be_padded)
    for key, value in overrides.items():
        fields[key] = {**fields.get(key, {}), **value} if isinstance(value, Mapping) else value
    try:
        return TCMConfig(**fields)
    except (StrictDataclassError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = one_line(error)
        if layout.name == "transformers":
            raise ConfigurationError(f"{weights.name}, config.json or a given setting: {reason}") from None
        raise ConversionError(f"{weights.name}: {reason}") from None


def _without_text_tower(weights: Weights, layout: Layout) -> str:
    if layout.name == "timm":
        return (
            f"{weights.name} holds CLIP's image tower only, as timm keeps it, and so no text side. Pass text_side=False "
            "(--no-text-side) for a detector without text side, or convert the weights of OpenAI or open_clip."
        )
    reason = (
        "its text tower reads the characters of single words, and so no prompt"
        if layout.name == "oclip"
        else "its image tower has no embeddings of single pixels that would be compared with the text"
    )
    return (
        f"{weights.name} ({layout.title}) gives no text side: {reason}. Pass text_side=False (--no-text-side) for a detector "
        "without text side."
    )


def _convnext_fields(weights: Weights) -> dict:
    trunk = "visual.trunk."
    stages = range(4)
    return {
        "model_type": ConvNextConfig.model_type,
        "num_channels": weights.shape(f"{trunk}stem.0.weight", 4)[1],
        "patch_size": weights.shape(f"{trunk}stem.0.weight", 4)[-1],
        "hidden_sizes": [weights.shape(f"{trunk}stages.{stage}.blocks.0.conv_dw.weight", 4)[0] for stage in stages],
        "depths": [weights.count(rf"visual\.trunk\.stages\.{stage}\.blocks\.(\d+)\.") for stage in stages],
    }


def _resnet_fields(weights: Weights, layout: Layout, embeds: bool) -> dict:
    def shape(key, dimensions=2):
        found = source_name(f"model.vision_tower.{key}", layout, "")
        assert found is not None, f"{layout.name} has no rule for {key}"
        return weights.shape(found[0], dimensions)

    stages = {
        "openai": r"visual\.layer{}\.(\d+)\.",
        "oclip": r"visual\.layer{}\.(\d+)\.",
        "tcm": r"backbone\.layer{}\.(\d+)\.",
        "timm": r"stages\.{}\.(\d+)\.",
    }
    first = 0 if layout.name == "timm" else 1
    fields = {
        "model_type": CLIPResNetConfig.model_type,
        "width": shape("stem.2.conv.weight", 4)[0],
        "num_channels": shape("stem.0.conv.weight", 4)[1],
        "depths": [weights.count(stages[layout.name].format(stage + first)) for stage in range(4)],
    }
    if embeds:
        rows = shape("attention_pool.position_embedding")[0]
        fields.update(
            image_size=_table_side(weights, rows) * 32, projection_dim=shape("attention_pool.c_proj.weight")[0]
        )
    return fields


def _vit_fields(weights: Weights) -> dict:
    hidden_size, num_channels, patch_size, _ = weights.shape("visual.conv1.weight", 4)
    rows = weights.shape("visual.positional_embedding")[0]
    return {
        "model_type": CLIPVisionConfig.model_type,
        "hidden_size": hidden_size,
        "num_channels": num_channels,
        "patch_size": patch_size,
        "image_size": _table_side(weights, rows) * patch_size,
        "num_hidden_layers": weights.count(r"visual\.transformer\.resblocks\.(\d+)\."),
        "num_attention_heads": max(1, hidden_size // 64),
        "intermediate_size": weights.shape("visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
        "projection_dim": weights.shape("visual.proj")[1],
        "hidden_act": weights.activation or "quick_gelu",
    }


def _table_side(weights: Weights, rows: int) -> int:
    """Side of the square table of positions, of which one row more is for the first token."""
    side = math.isqrt(max(rows - 1, 0))
    if side < 1 or side * side != rows - 1:
        raise ConversionError(
            f"{weights.name}: the image tower's positional table has {rows} rows; expected 1 + a square number."
        )
    return side


def _text_fields(weights: Weights, prefix: str, token_ids: list[int] | None) -> dict:
    vocab_size, hidden_size = weights.shape(f"{prefix}token_embedding.weight")
    fields = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": weights.count(re.escape(prefix) + r"transformer\.resblocks\.(\d+)\."),
        "num_attention_heads": max(1, hidden_size // 64),
        "intermediate_size": weights.shape(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight")[0],
        "max_position_embeddings": weights.shape(f"{prefix}positional_embedding")[0],
        "projection_dim": weights.shape(f"{prefix}text_projection")[-1],
        "hidden_act": weights.activation or "quick_gelu",
    }
    if token_ids:
        fields.update(bos_token_id=token_ids[0], eos_token_id=token_ids[-1])
    return fields


def _transformers_fields(weights: Weights) -> dict:
    fields, layers = {}, {}
    for key, config_class in (("text_config", CLIPTextConfig), ("vision_config", CLIPVisionConfig)):
        given = (weights.clip_config or {}).get(key) or {}
        if not isinstance(given, dict):
            raise ConfigurationError(f"{weights.name}, config.json: `{key}` has to be an object.")
        # The projections' length stands in the joint configuration; the towers' own fields need not agree with it.
        length = weights.shape("visual_projection.weight")[0]
        fields[key] = {"model_type": config_class.model_type, **given, "projection_dim": length}
        try:
            layers[key] = getattr(tower_config(key, fields[key], (config_class,)), "num_hidden_layers", None)
        except ValueError as error:
            raise ConfigurationError(f"{weights.name}, config.json: {one_line(error)}") from None
    for key, number in layers.items():
        count = weights.count(rf"{key.removesuffix('_config')}_model\.encoder\.layers\.(\d+)\.")
        if number != count:
            raise ConfigurationError(
                f"{weights.name}, config.json: `num_hidden_layers` of `{key}` is {number}, but the weights have {count} layers."
            )
    return fields


def _detector_fields(weights: Weights) -> dict:
    detector = found_detector(weights)
    assert detector is not None, "its layout was found by it"
    settings = find_detector(detector).part("conversion").settings(weights)
    return {
        "detector": detector,
        "detector_config": settings,
        "text_side": weights.has("text_encoder.", "prompt_generator.", "context_decoder.", "visual_prompt_generator."),
    }


def _prompt_fields(weights: Weights) -> dict:
    has, shape = weights.has, weights.shape
    fields: dict[str, Any] = {
        "num_context_vectors": shape("contexts", 3)[1] if "contexts" in weights.tensors else 0,
        "prompt_generator": None,
        "visual_prompt": has("visual_prompt_generator."),
        "context_decoder": has("context_decoder."),
    }
    if has("meta_query", "pix_w"):
        fields["prompt_generator"] = "meta_query"
    elif has("prompt_generator."):
        fields["prompt_generator"] = "conditional"
    for decoder in ("visual_prompt_generator", "context_decoder"):
        if has(f"{decoder}."):
            fields.update(
                decoder_layers=weights.count(rf"{decoder}\.decoder\.(\d+)\."),
                decoder_hidden_size=shape(f"{decoder}.text_proj.1.weight")[0],
                decoder_ffn_dim=shape(f"{decoder}.decoder.0.mlp.0.weight")[0],
            )
    if "logit_scale" in weights.tensors:
        # A learned temperature. Where there is one, the official code also scales the map that the detector sees.
        scale = weights.tensors["logit_scale"]
        if scale.numel() != 1 or not abs(scale.item()) < 50:
            raise ConversionError(f"{weights.name}: 'logit_scale' has to be one number, the logarithm of a scale.")
        fields.update(temperature=math.exp(-scale.item()), scale_score_map=True)
    return fields


def _without_padding(token_ids):
    """The official text tower reads at the largest id, the end token; what follows is padding without influence."""
    if not isinstance(token_ids, (list, tuple)) or not token_ids or not all(type(token) is int for token in token_ids):
        return token_ids
    return list(token_ids[: token_ids.index(max(token_ids)) + 1])


def _has_vectors_only(weights: Weights) -> bool:
    """Whether the text tower reads context vectors without any prompt, start or end token."""
    return "contexts" in weights.tensors and (
        weights.shape("contexts", 3)[1] == weights.shape("text_encoder.positional_embedding")[0]
    )


def _check_positions(weights: Weights, fields: dict, token_ids: list[int] | None, may_be_padded: bool) -> None:
    """The official text tower has a position for each token: another number means that something is missing."""
    rows = fields["text_config"]["max_position_embeddings"]
    tokens, vectors = len(token_ids or ()), fields["num_context_vectors"]
    if not token_ids or rows == tokens + vectors or (rows > tokens + vectors and may_be_padded):
        return
    if "contexts" in weights.tensors or rows < tokens + vectors:
        remedy = "give its prompt_token_ids, without padding"
    else:
        remedy = "give its prompt_token_ids, without padding, and num_context_vectors=0"
    raise ConversionError(
        f"{weights.name}: 'text_encoder.positional_embedding' has {rows} rows, but the prompt's {tokens} tokens and "
        f"the {vectors} context vectors of 'contexts' make {tokens + vectors}. Either a weight is missing, or the "
        f"model was trained with another prompt, perhaps a padded one: then {remedy}."
    )
