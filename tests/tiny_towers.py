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
"""Tiny random models of transformers, of every family that towers are taken from."""

import functools

import torch
import transformers

from tcm_hf import TCMForTextDetection


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SIZES, "image_size": 64, "patch_size": 16}
CAUSAL = {
    **SIZES,
    "vocab_size": 100,
    "max_position_embeddings": 16,
    "bos_token_id": 0,
    "eos_token_id": 99,
    "pad_token_id": 1,
}
SIGLIP_TEXT = {**CAUSAL, "bos_token_id": None, "eos_token_id": 99, "pad_token_id": 2}
BERT_TEXT = {**CAUSAL, "hidden_dropout_prob": 0.1}

# Family: its configuration, and what it is made of.
DUAL_ENCODERS = {
    "clip": ("CLIP", {"vision_config": VISION, "text_config": CAUSAL, "projection_dim": 24}),
    "metaclip_2": ("MetaClip2", {"vision_config": VISION, "text_config": CAUSAL, "projection_dim": 24}),
    "siglip": ("Siglip", {"vision_config": VISION, "text_config": SIGLIP_TEXT}),
    "siglip2": (
        "Siglip2",
        {"vision_config": {**SIZES, "patch_size": 16, "num_patches": 16}, "text_config": SIGLIP_TEXT},
    ),
    "chinese_clip": ("ChineseCLIP", {"vision_config": VISION, "text_config": BERT_TEXT, "projection_dim": 24}),
    # Its only published model has patches of 14 pixels.
    "altclip": (
        "AltCLIP",
        {
            "vision_config": {**VISION, "image_size": 56, "patch_size": 14},
            "text_config": {**BERT_TEXT, "project_dim": 20},
            "projection_dim": 24,
        },
    ),
}
STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 2, 1, 1], "out_indices": [1, 2, 3, 4]}
BACKBONES = {
    "resnet": ("ResNet", {**STAGES, "embedding_size": 8}),
    "resnet_basic": ("ResNet", {**STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "convnext": ("ConvNext", STAGES),
    "convnextv2": ("ConvNextV2", STAGES),
    "dinov3_convnext": ("DINOv3ConvNext", STAGES),
    "dinov3_vit": ("DINOv3ViT", {**VISION, "num_register_tokens": 2}),
}
PROMPTS = {"siglip": [5, 6, 99], "siglip2": [5, 6, 99]}
FIELDS = {
    "pyramid_channels": 16,
    "decoder_layers": 1,
    "decoder_hidden_size": 32,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "detector_config": {"neck_channels": 16, "head_channels": 8},
}


def randomized(model):
    """With biases, scales and running statistics that all matter."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and (tensor.dim() == 1 or "grn" in name or "pos" in name):
                tensor.add_(0.2 * torch.rand_like(tensor))
    return model.eval()


@functools.cache
def tiny_encoder(family: str):
    """A model of transformers with random weights, to be left as it is: both towers of a family, or a backbone."""
    torch.manual_seed(0)
    name, fields = (DUAL_ENCODERS | BACKBONES)[family]
    config = getattr(transformers, f"{name}Config")(**fields)
    model = getattr(transformers, f"{name}Model" if family in DUAL_ENCODERS else f"{name}Backbone")
    return randomized(model(config))


def detector_on(image: str, text: str | None = None, **fields) -> TCMForTextDetection:
    """A detector on towers of these families; of one family where there is no other, and without text side for a backbone."""
    if text is None and image in BACKBONES:
        fields = {"text_side": False, **fields}
    fields.setdefault("prompt_token_ids", PROMPTS.get(text or image, [0, 5, 6, 99]))
    torch.manual_seed(1)
    words = None if text is None else tiny_encoder(text)
    return TCMForTextDetection.from_clip(tiny_encoder(image), text=words, **{**FIELDS, **fields}).eval()
