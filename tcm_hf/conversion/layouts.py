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
"""Names, shapes and settings of the weight layouts that `tcm_hf.conversion.convert` reads.

A layout is described from our side: for each of our weights, `source_name` says which tensor of the file it is. So a
tensor that is absent is noticed, and what remains in the file is left over.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..model.configuration_tcm import TCMConfig
from ..model.detectors import ConversionRules, detector_names, find_detector, knows_detector


class ConversionError(ValueError):
    """A source that cannot be converted; the message names the file and the remedy."""


class ConfigurationError(ConversionError):
    """A source whose configuration is wrong."""


@dataclass(frozen=True)
class Layout:
    """
    A way to name weights.

    Args:
        name (`str`): short name, as in the report.
        title (`str`): for people.
        trained_detector (`bool`): whether such files hold a whole detector, and not only CLIP's towers.
        image_only (`bool`): whether there is no text tower, or none that could read a prompt.
    """

    name: str
    title: str
    trained_detector: bool = False
    image_only: bool = False


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("openai", "CLIP with a ResNet image tower, in the layout of OpenAI and open_clip"),
        Layout("openai-vit", "CLIP with a ViT image tower, in the layout of OpenAI and open_clip"),
        Layout("timm", "CLIP's ResNet image tower, in the layout of timm (resnet50_clip and others)", image_only=True),
        Layout(
            "oclip",
            "oCLIP or ODM with a ResNet image tower, which is taken, and a text tower of characters",
            image_only=True,
        ),
        Layout("open-clip-convnext", "open_clip's CLIP with a ConvNeXt image tower, which is taken", image_only=True),
        Layout("transformers", "CLIP with a ViT image tower, in the layout of transformers (CLIPModel)"),
        Layout("tcm", "official TCM, FastTCM or DBNet checkpoint, in the layout of MMCV", trained_detector=True),
    )
}


def _level_part(level: int, x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(1, (4, -1))[:, level] if x.ndim == 4 and x.shape[1] % 4 == 0 else x


# How a tensor of the file becomes ours. Each gives a view: nothing is copied or even read.
_OPERATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "same": lambda x: x,
    "transpose": lambda x: x.T if x.ndim == 2 else x,
    "query": lambda x: x[: len(x) // 3],
    "key": lambda x: x[len(x) // 3 : 2 * (len(x) // 3)],
    "value": lambda x: x[2 * (len(x) // 3) :],
    "only class": lambda x: x[0] if x.ndim == 3 and len(x) == 1 else x,
    # PAN's last convolution reads four levels side by side; here each level has its own part.
    **{f"level {level}": partial(_level_part, level) for level in range(4)},
}

_OPENAI_KIND = {"conv": ("conv", "0"), "norm": ("bn", "1")}
_TIMM_KIND = {"conv": "conv", "norm": "bn"}

# Each rule: pattern of our name, the file's name (template or function of the match), operation.
_Rule = tuple[str, str | Callable[[re.Match[str]], str], str]
_OPENAI_RESNET: list[_Rule] = [
    (r"stem\.(\d)\.(conv|norm)\.(.+)", lambda m: f"{_OPENAI_KIND[m[2]][0]}{int(m[1]) + 1}.{m[3]}", "same"),
    (
        r"stages\.(\d)\.blocks\.(\d+)\.conv(\d)\.(conv|norm)\.(.+)",
        lambda m: f"layer{int(m[1]) + 1}.{m[2]}.{_OPENAI_KIND[m[4]][0]}{m[3]}.{m[5]}",
        "same",
    ),
    (
        r"stages\.(\d)\.blocks\.(\d+)\.shortcut\.(conv|norm)\.(.+)",
        lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.{_OPENAI_KIND[m[3]][1]}.{m[4]}",
        "same",
    ),
    (r"attention_pool\.position_embedding", "attnpool.positional_embedding", "same"),
    (r"attention_pool\.(.+)", r"attnpool.\1", "same"),
]
_TIMM_RESNET: list[_Rule] = [
    (r"stem\.(\d)\.(conv|norm)\.(.+)", lambda m: f"stem.conv{int(m[1]) + 1}.{_TIMM_KIND[m[2]]}.{m[3]}", "same"),
    (
        r"stages\.(\d)\.blocks\.(\d+)\.conv(\d)\.(conv|norm)\.(.+)",
        lambda m: f"stages.{m[1]}.{m[2]}.conv{m[3]}_{'kxk' if m[3] == '2' else '1x1'}.{_TIMM_KIND[m[4]]}.{m[5]}",
        "same",
    ),
    (
        r"stages\.(\d)\.blocks\.(\d+)\.shortcut\.(conv|norm)\.(.+)",
        lambda m: f"stages.{m[1]}.{m[2]}.shortcut.conv.{_TIMM_KIND[m[3]]}.{m[4]}",
        "same",
    ),
    (r"attention_pool\.position_embedding", "head.pos_embed", "same"),
    (r"attention_pool\.([qkv])_proj\.(.+)", r"head.\1.\2", "same"),
    (r"attention_pool\.c_proj\.(.+)", r"head.proj.\1", "same"),
]
# timm's ConvNeXt, which open_clip calls its trunk; the norms of the backbone's outputs are new.
_CONVNEXT: list[_Rule] = [
    (r"embeddings\.patch_embeddings\.(.+)", r"stem.0.\1", "same"),
    (r"embeddings\.layernorm\.(.+)", r"stem.1.\1", "same"),
    (r"encoder\.stages\.(\d)\.downsampling_layer\.(\d)\.(.+)", r"stages.\1.downsample.\2.\3", "same"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.blocks.\2.gamma", "same"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.dwconv\.(.+)", r"stages.\1.blocks.\2.conv_dw.\3", "same"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layernorm\.(.+)", r"stages.\1.blocks.\2.norm.\3", "same"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.pwconv(\d)\.(.+)", r"stages.\1.blocks.\2.mlp.fc\3.\4", "same"),
]
_OPENAI_BLOCKS = [
    *(
        (
            rf"encoder\.layers\.(\d+)\.self_attn\.{name[0]}_proj\.(.+)",
            r"transformer.resblocks.\1.attn.in_proj_\2",
            name,
        )
        for name in ("query", "key", "value")
    ),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.+)", r"transformer.resblocks.\1.attn.out_proj.\2", "same"),
    (r"encoder\.layers\.(\d+)\.layer_norm(\d)\.(.+)", r"transformer.resblocks.\1.ln_\2.\3", "same"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.(.+)", r"transformer.resblocks.\1.mlp.c_fc.\2", "same"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.(.+)", r"transformer.resblocks.\1.mlp.c_proj.\2", "same"),
]
_OPENAI_VIT: list[_Rule] = [
    (r"vision_model\.embeddings\.class_embedding", "class_embedding", "same"),
    (r"vision_model\.embeddings\.patch_embedding\.(.+)", r"conv1.\1", "same"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "positional_embedding", "same"),
    (r"vision_model\.pre_layrnorm\.(.+)", r"ln_pre.\1", "same"),
    *((r"vision_model\." + pattern, template, operation) for pattern, template, operation in _OPENAI_BLOCKS),
    (r"vision_model\.post_layernorm\.(.+)", r"ln_post.\1", "same"),
    (r"visual_projection\.weight", "proj", "transpose"),
]
_OPENAI_TEXT: list[_Rule] = [
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding", "same"),
    (r"text_model\.embeddings\.token_embedding\.(.+)", r"token_embedding.\1", "same"),
    *((r"text_model\." + pattern, template, operation) for pattern, template, operation in _OPENAI_BLOCKS),
    (r"text_model\.final_layer_norm\.(.+)", r"ln_final.\1", "same"),
    (r"text_projection\.weight", "text_projection", "transpose"),
]
_DECODER = r"(context_decoder|visual_prompt_generator)"
_TCM_PROMPTS: list[_Rule] = [
    (r"text_tower\.context_vectors", "contexts", "only class"),
    (r"context_scale", "gamma", "same"),
    (r"visual_prompt_scale", "vis_gamma", "same"),
    (r"meta_query", "meta_query", "same"),
    (r"bimodal_projection\.weight", "pix_w", "transpose"),
    (r"prompt_generator\.norm1\.(.+)", r"prompt_generator.prompt_proj.0.\1", "same"),
    (r"prompt_generator\.linear1\.(.+)", r"prompt_generator.prompt_proj.1.\1", "same"),
    (r"prompt_generator\.norm2\.(.+)", r"prompt_generator.prompt_proj.3.\1", "same"),
    (r"prompt_generator\.linear2\.(.+)", r"prompt_generator.prompt_proj.4.\1", "same"),
    (_DECODER + r"\.memory_norm1\.(.+)", r"\1.memory_proj.0.\2", "same"),
    (_DECODER + r"\.memory_proj\.(.+)", r"\1.memory_proj.1.\2", "same"),
    (_DECODER + r"\.memory_norm2\.(.+)", r"\1.memory_proj.2.\2", "same"),
    (_DECODER + r"\.query_norm\.(.+)", r"\1.text_proj.0.\2", "same"),
    (_DECODER + r"\.query_proj\.(.+)", r"\1.text_proj.1.\2", "same"),
    (_DECODER + r"\.out_norm\.(.+)", r"\1.out_proj.0.\2", "same"),
    (_DECODER + r"\.out_proj\.(.+)", r"\1.out_proj.1.\2", "same"),
    (_DECODER + r"\.layers\.(\d+)\.(self|cross)_attention\.out_proj\.(.+)", r"\1.decoder.\2.\3_attn.proj.\4", "same"),
    (_DECODER + r"\.layers\.(\d+)\.(self|cross)_attention\.(.+)", r"\1.decoder.\2.\3_attn.\4", "same"),
    (_DECODER + r"\.layers\.(\d+)\.linear1\.(.+)", r"\1.decoder.\2.mlp.0.\3", "same"),
    (_DECODER + r"\.layers\.(\d+)\.linear2\.(.+)", r"\1.decoder.\2.mlp.3.\3", "same"),
    (_DECODER + r"\.layers\.(\d+)\.(norm\d)\.(.+)", r"\1.decoder.\2.\3.\4", "same"),
]
# What a detector may tell in its model card: it is one of several whose loss is another here.
MASKED_BY_BATCH = (
    "The official auxiliary loss masks every image of a batch with all others' text; that of `tcm_hf` is computed for each "
    "image, so values of the two differ for batches."
)

# Parts of our model, with the prefix that they have in the file and their rules; the first that fits counts.
_PARTS: dict[str, list[tuple[str, str, list[_Rule] | None]]] = {
    "openai": [("model.vision_tower.", "visual.", _OPENAI_RESNET), ("model.text_tower.", "", _OPENAI_TEXT)],
    "openai-vit": [("model.vision_tower.", "visual.", _OPENAI_VIT), ("model.text_tower.", "", _OPENAI_TEXT)],
    "timm": [("model.vision_tower.", "", _TIMM_RESNET)],
    "oclip": [("model.vision_tower.", "visual.", _OPENAI_RESNET)],
    "open-clip-convnext": [("model.vision_tower.backbone.", "visual.trunk.", _CONVNEXT)],
    "transformers": [
        ("model.vision_tower.vision_model.", "vision_model.", None),
        ("model.vision_tower.visual_projection.", "visual_projection.", None),
        ("model.text_tower.text_model.", "text_model.", None),
        ("model.text_tower.text_projection.", "text_projection.", None),
    ],
    "tcm": [
        ("model.vision_tower.", "backbone.", _OPENAI_RESNET),
        ("model.text_tower.", "text_encoder.", _OPENAI_TEXT),
        ("model.", "", _TCM_PROMPTS),
    ],
}

_LEFT_OVER_REASONS = [
    (r"(.*\.)?logit_(scale|bias)", "temperature of CLIP's contrastive training; TCM has its own in the configuration"),
    (r"input_resolution|context_length|vocab_size", "a size, which the other weights' shapes give too"),
    (r"(.*\.)?(attn_mask|position_ids)", "a constant, which the model makes itself"),
    (
        r"(context_decoder\.decoder\.\d+\.self_attn|visual_prompt_generator\.decoder\.\d+\.cross_attn)\.[qk]_proj\..+",
        "exact simplification: this attention has a single key, so its weight is 1 whatever query and key are",
    ),
    (
        r"visual_prompt_generator\.decoder\.\d+\.norm2\..+",
        "exact simplification: normalizes the query of an attention with a single key, where the query has no influence",
    ),
    (
        r"(transformer_decoder|text_class|ln_final_decoder)\..+|image_pos",
        "belongs to oCLIP's pre-training: reading masked characters from the image",
    ),
    (r"visual\.fpn_head\..+", "belongs to ODM's pre-training: drawing the texts of the image"),
    (
        r"visual\.(trunk\.)?head\..+",
        "the projection of open_clip's image embedding, which a model without text side does not have",
    ),
    (r"ema_.+", "moving average of the weights kept by the training"),
]
_TEXT_SIDE_KEYS = (
    r"(visual|backbone)\.attnpool\..+|visual\.(proj|ln_post\..+)|head\..+|(text_model|text_projection|visual_projection|text_encoder)\..+|"
    r"vision_model\.post_layernorm\..+|transformer\..+|token_embedding\..+|positional_embedding|ln_final\..+|"
    r"text_projection|contexts|gamma|vis_gamma|meta_query|pix_w|"
    r"(prompt_generator|context_decoder|visual_prompt_generator)\..+"
)


@dataclass
class Weights:
    """
    The tensors of a source.

    Args:
        name (`str`): of the source, for messages.
        tensors (`dict[str, torch.Tensor]`): by their names in the file.
        clip_config (`dict`, *optional*): `config.json` of a CLIP model of transformers.
        activation (`str`, *optional*): of the transformers' feed-forward layers, where a file beside the weights tells it.
    """

    name: str
    tensors: dict[str, torch.Tensor]
    clip_config: dict | None = None
    activation: str | None = None

    def shape(self, key: str, dimensions: int = 2) -> tuple[int, ...]:
        """Shape of a tensor; a `ConversionError` that names it when it is absent, empty or has other dimensions."""
        if key not in self.tensors:
            raise ConversionError(f"{self.name} lacks the weight {key!r}. Get a complete copy of the checkpoint.")
        shape = tuple(self.tensors[key].shape)
        if len(shape) != dimensions:
            raise ConversionError(f"{self.name}: {key!r} has the shape {shape}, expected {dimensions} dimensions.")
        if 0 in shape:
            raise ConversionError(f"{self.name}: {key!r} is empty, its shape is {shape}.")
        return shape

    def has(self, *prefixes: str) -> bool:
        """Whether any tensor's name starts with one of the prefixes."""
        return any(key.startswith(prefixes) for key in self.tensors)

    def count(self, pattern: str) -> int:
        """1 + the highest number that the pattern's group takes among the names."""
        numbers = {int(m[1]) for key in self.tensors if (m := re.match(pattern, key))}
        count = max(numbers, default=-1) + 1
        if count > len(self.tensors):  # no model is built of what is not there
            missing = next(number for number in range(count) if number not in numbers)
            raise ConversionError(f"{self.name} has a weight of number {count - 1}, but none of number {missing}.")
        return count


def find_layout(weights: Weights, name: str | None) -> Layout:
    """
    The layout that is given, or that the names of the tensors tell.

    Args:
        weights (`Weights`): the source.
        name (`str`, *optional*): `"oclip"` for a first stage of oCLIP, whose names are those of CLIP.

    Raises:
        ConversionError: if it is none that can be converted, or another one than is given.
    """
    if name is not None and name not in LAYOUTS:
        raise ConfigurationError(f"layout: there is no {name!r}; known are {', '.join(LAYOUTS)}.")
    found = detect_layout(weights)
    if name is None or found.name == name or (found.name, name) == ("openai", "oclip"):
        return found if name is None else LAYOUTS[name]
    raise ConversionError(f"{weights.name} is in the layout {found.name!r} ({found.title}), not {name!r}.")


def detect_layout(weights: Weights) -> Layout:
    """
    Recognizes the layout by the names of the tensors.

    Raises:
        ConversionError: if it is none that can be converted.
    """
    has, name = weights.has, weights.name
    if has("model.vision_tower.", "vision_tower."):
        raise ConversionError(f"{name} already is in this package's layout; load it with `from_pretrained`.")
    if weights.clip_config is not None:
        return LAYOUTS["transformers"]
    if found_detector(weights) is not None and has("backbone."):
        if not has("backbone.layer1.0.conv3.", "backbone.layer1.0.bn3.") or not has(
            "backbone.conv3.", "backbone.bn3."
        ):
            raise ConversionError(f"{name}: the backbone is not CLIP's ResNet; only detectors on it can be converted.")
        return LAYOUTS["tcm"]
    if has("visual.layer1.") and has("visual.conv1.", "visual.conv2.", "visual.conv3."):
        return LAYOUTS[
            "oclip" if has("transformer_decoder.", "text_class.", "image_pos", "visual.fpn_head.") else "openai"
        ]
    if has("visual.trunk.stages.") and has("visual.trunk.stem.0."):
        return LAYOUTS["open-clip-convnext"]
    if has("stages.0.0.conv1_1x1.") and has("stem.conv1.", "stem.conv2.", "stem.conv3."):
        return LAYOUTS["timm"]
    if has("visual.transformer.resblocks.") and has("visual.conv1.", "visual.ln_pre."):
        return LAYOUTS["openai-vit"]
    if has("vision_model."):
        raise ConversionError(
            f"{name} holds weights of transformers' `CLIPModel`, but not its settings: give the directory with its "
            "config.json, or the Hub id."
        )
    raise ConversionError(
        f"{name}: unknown layout, its first weights are {list(weights.tensors)[:4]}. Known are "
        + "; ".join(layout.title for layout in LAYOUTS.values())
        + "."
    )


def conversion_rules(detector: str) -> ConversionRules | None:
    """What a detector declares for its conversion; `None` where it declares nothing, or there is no such detector."""
    return find_detector(detector).part("conversion") if knows_detector(detector, "conversion") else None


def found_detector(weights: Weights) -> str | None:
    """Name of the trained detector that a file holds, as its conversion rules tell it."""
    for name in detector_names("conversion"):
        if weights.has(*find_detector(name).part("conversion").prefixes):
            return name
    return None


def source_name(key: str, layout: Layout, detector: str) -> tuple[str, str] | None:
    """
    Which tensor of a file one of our weights is.

    Args:
        key (`str`): name of our weight.
        layout (`Layout`): of the file.
        detector (`str`): name of the detector.

    Returns:
        `tuple[str, str]` or `None`: name in the file and operation; `None` when the layout has no such weight.
    """
    parts = list(_PARTS[layout.name])
    if layout.trained_detector:
        of_detector = conversion_rules(detector)
        parts.append(("detector.", "", of_detector.weights if of_detector is not None else []))
    for prefix, source_prefix, rules in parts:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if rules is None:
            return source_prefix + rest, "same"
        for pattern, template, operation in rules:
            if match := re.fullmatch(pattern, rest):
                name = template(match) if callable(template) else match.expand(template)
                return source_prefix + name, operation
    return None


# ---------------------------------------------------------------------- matching


@dataclass
class Plan:
    """
    Where each weight comes from.

    Args:
        pulls (`dict[str, tuple[str, str]]`): for each of our weights the name in the file and the operation.
        new (`dict[str, str]`): our weights that the file does not have, with the reason.
        left_over (`dict[str, str]`): tensors of the file that are not used, with the reason.
    """

    pulls: dict[str, tuple[str, str]]
    new: dict[str, str]
    left_over: dict[str, str]


def make_plan(weights: Weights, layout: Layout, config: TCMConfig, expected: Mapping[str, torch.Tensor]) -> Plan:
    """
    Finds the tensor of the file for each weight of the model.

    Args:
        weights (`Weights`): the source.
        layout (`Layout`): its layout.
        config (`TCMConfig`): the model's configuration.
        expected (`Mapping[str, torch.Tensor]`): the model's weights; only their shapes are used.

    Returns:
        `Plan`

    Raises:
        ConversionError: if a weight that the layout has is absent, or has another shape.
    """
    plan = Plan({}, {}, {})
    problems = []
    for key, target in expected.items():
        found = source_name(key, layout, config.detector)
        if found is None:
            if layout.trained_detector:
                problems.append(f"nothing is known to become {key!r}")
            else:
                plan.new[key] = "not a part of CLIP: initialized, to be trained"
            continue
        name, _ = found
        if name not in weights.tensors:
            if name.endswith("num_batches_tracked"):
                plan.new[key] = "a counter without influence on results: 0"
            else:
                problems.append(f"{name!r} is missing")
            continue
        if key == "model.bimodal_projection.weight" and _is_unusable(weights.shape(name), config):
            plan.new[key] = "the identity, see the left-over pix_w"
            continue
        view = pull(weights, found)
        if view.shape != target.shape:
            problems.append(
                f"{name!r} has the shape {tuple(weights.tensors[name].shape)}, which gives {tuple(view.shape)} for {key!r} instead of {tuple(target.shape)}"
            )
            continue
        if view.is_complex() or (target.is_floating_point() and not view.is_floating_point()):
            problems.append(f"{name!r} holds numbers of the type {str(view.dtype).removeprefix('torch.')}")
            continue
        plan.pulls[key] = found
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ConversionError(
            f"{weights.name} does not fit ({layout.title}): {'; '.join(problems[:5])}{more}. Get a complete copy of the "
            "checkpoint, or correct the settings that were given."
        )
    used = {name for name, _ in plan.pulls.values()}
    plan.left_over = {key: _left_over_reason(key, weights, config) for key in weights.tensors if key not in used}
    return plan


def pull(weights: Weights, found: tuple[str, str]) -> torch.Tensor:
    """A view of the file's tensor in our shape."""
    name, operation = found
    return _OPERATIONS[operation](weights.tensors[name])


def _is_unusable(projection_shape: tuple[int, ...], config: TCMConfig) -> bool:
    """Whether FastTCM's projection has the shape it was released with: to the text tower's width."""
    text: Any = config.text_config
    length, width = text.projection_dim, text.hidden_size
    return length != width and projection_shape == (length, width)


def _left_over_reason(key: str, weights: Weights, config: TCMConfig) -> str:
    text: Any = config.text_config
    if key == "logit_scale" and config.scale_score_map:
        return "the learned temperature of the matching, which the configuration has"
    if key == "pix_w" and config.text_side:
        return (
            f"its shape {weights.shape(key)} does not fit the text embedding's length {text.projection_dim}, so "
            "that the code it was released with cannot use it either; bimodal matching projects with the identity"
        )
    for pattern, reason in _LEFT_OVER_REASONS:
        if re.fullmatch(pattern, key):
            return reason
    if not config.text_side and re.fullmatch(_TEXT_SIDE_KEYS, key):
        return "belongs to the text side, which this model does not have"
    return "unknown: the model has no such weight"
