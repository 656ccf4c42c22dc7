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
"""
Small random weights in the layouts of other projects: names and shapes as those projects write them; to and from files.
"""

import re
from pathlib import Path

import torch

from tcm_hf import TCMForTextDetection


WIDTH, DEPTHS, LENGTH, HIDDEN = 8, (1, 2, 1, 1), 32, 64
TOKENS = [0, 5, 6, 99]
# What the conversion of these weights needs to be told.
TINY = {"prompt_token_ids": TOKENS}
# A small model around a tiny CLIP.
SMALL = {
    "prompt_token_ids": TOKENS,
    "decoder_layers": 1,
    "decoder_hidden_size": 16,
    "decoder_ffn_dim": 16,
    "detector_config": {"neck_channels": 16, "head_channels": 8},
}

DECODER_PARTS = {
    "memory_proj.0": "memory_norm1",
    "memory_proj.1": "memory_proj",
    "memory_proj.2": "memory_norm2",
    "text_proj.0": "query_norm",
    "text_proj.1": "query_proj",
    "out_proj.0": "out_norm",
    "out_proj.1": "out_proj",
}


def load(directory) -> TCMForTextDetection:
    model, info = TCMForTextDetection.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values()), info
    return model


def save(state: dict, path: Path) -> Path:
    torch.save(dict(state), path)
    return path


class Names(dict):
    """Random tensors by name."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def add(self, name: str, *shape: int) -> None:
        self[name] = 0.1 * torch.randn(shape, generator=self.generator)

    def linear(self, name: str, out: int, into: int, bias: bool = True) -> None:
        self.add(f"{name}.weight", out, into)
        if bias:
            self.add(f"{name}.bias", out)

    def norm(self, name: str, channels: int, batch: bool = False) -> None:
        self.add(f"{name}.weight", channels)
        self.add(f"{name}.bias", channels)
        if batch:
            self.add(f"{name}.running_mean", channels)
            self[f"{name}.running_var"] = 1 + torch.rand(channels, generator=self.generator)
            self[f"{name}.num_batches_tracked"] = torch.tensor(7)


def resnet(state: Names, prefix: str, attention_pool: bool = True) -> Names:
    """CLIP's ResNet image tower as OpenAI names it."""
    for i, (into, out) in enumerate([(3, WIDTH // 2), (WIDTH // 2, WIDTH // 2), (WIDTH // 2, WIDTH)], start=1):
        state.add(f"{prefix}conv{i}.weight", out, into, 3, 3)
        state.norm(f"{prefix}bn{i}", out, batch=True)
    into = WIDTH
    for stage, depth in enumerate(DEPTHS):
        channels = WIDTH * 2**stage
        for block in range(depth):
            name = f"{prefix}layer{stage + 1}.{block}."
            sizes = [(channels, into, 1), (channels, channels, 3), (4 * channels, channels, 1)]
            for i, (a, b, kernel) in enumerate(sizes, start=1):
                state.add(f"{name}conv{i}.weight", a, b, kernel, kernel)
                state.norm(f"{name}bn{i}", a, batch=True)
            if block == 0:
                state.add(f"{name}downsample.0.weight", 4 * channels, into, 1, 1)
                state.norm(f"{name}downsample.1", 4 * channels, batch=True)
            into = 4 * channels
    if attention_pool:
        state.add(f"{prefix}attnpool.positional_embedding", 5, into)  # for 64 x 64 pixels
        for name in "qkv":
            state.linear(f"{prefix}attnpool.{name}_proj", into, into)
        state.linear(f"{prefix}attnpool.c_proj", LENGTH, into)
    return state


def blocks(state: Names, prefix: str, width: int, layers: int) -> None:
    for i in range(layers):
        name = f"{prefix}transformer.resblocks.{i}."
        state.add(f"{name}attn.in_proj_weight", 3 * width, width)
        state.add(f"{name}attn.in_proj_bias", 3 * width)
        state.linear(f"{name}attn.out_proj", width, width)
        state.norm(f"{name}ln_1", width)
        state.linear(f"{name}mlp.c_fc", 2 * width, width)
        state.linear(f"{name}mlp.c_proj", width, 2 * width)
        state.norm(f"{name}ln_2", width)


def vit(state: Names, prefix: str) -> Names:
    """CLIP's ViT image tower as OpenAI names it."""
    state.add(f"{prefix}class_embedding", HIDDEN)
    state.add(f"{prefix}conv1.weight", HIDDEN, 3, 16, 16)
    state.add(f"{prefix}positional_embedding", 17, HIDDEN)
    state.norm(f"{prefix}ln_pre", HIDDEN)
    blocks(state, prefix, HIDDEN, 2)
    state.norm(f"{prefix}ln_post", HIDDEN)
    state.add(f"{prefix}proj", HIDDEN, LENGTH)
    return state


def text(state: Names, prefix: str, positions: int, vocabulary=100, width=HIDDEN, layers=2) -> Names:
    """CLIP's text tower as OpenAI names it."""
    state.add(f"{prefix}token_embedding.weight", vocabulary, width)
    state.add(f"{prefix}positional_embedding", positions, width)
    blocks(state, prefix, width, layers)
    state.norm(f"{prefix}ln_final", width)
    state.add(f"{prefix}text_projection", width, LENGTH)
    return state


def openai(tower=resnet, **text_sizes) -> Names:
    state = text(tower(Names(), "visual."), "", 77, **text_sizes)
    state["logit_scale"] = torch.tensor(4.6)
    return state


def oclip(second_stage: bool = True) -> dict:
    """What the published code of oCLIP saves, in small; its first stage has no decoder."""
    state = openai(vocabulary=97, width=16)
    if second_stage:
        state.update({f"transformer_decoder.{k[12:]}": v for k, v in state.items() if k.startswith("transformer.")})
        state.norm("ln_final_decoder", LENGTH)
        state.linear("text_class", 97, LENGTH)
        state.add("image_pos", 4, LENGTH)
    return as_training_saves(state)


def as_training_saves(state: dict) -> dict:
    """As distributed training saves them."""
    return {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}


def open_clip_convnext() -> Names:
    """What open_clip names so, with timm's ConvNeXt as its trunk."""
    state, channels = text(Names(), "", 77), (8, 12, 16, 24)
    state.add("visual.trunk.stem.0.weight", 8, 3, 4, 4)
    state.add("visual.trunk.stem.0.bias", 8)
    state.norm("visual.trunk.stem.1", 8)
    for stage, depth in enumerate((1, 2, 1, 1)):
        here = f"visual.trunk.stages.{stage}"
        if stage:
            state.norm(f"{here}.downsample.0", channels[stage - 1])
            state.add(f"{here}.downsample.1.weight", channels[stage], channels[stage - 1], 2, 2)
            state.add(f"{here}.downsample.1.bias", channels[stage])
        for block in range(depth):
            width, name = channels[stage], f"{here}.blocks.{block}"
            state.add(f"{name}.gamma", width)
            state.add(f"{name}.conv_dw.weight", width, 1, 7, 7)
            state.add(f"{name}.conv_dw.bias", width)
            state.norm(f"{name}.norm", width)
            state.linear(f"{name}.mlp.fc1", 4 * width, width)
            state.linear(f"{name}.mlp.fc2", width, 4 * width)
    state.norm("visual.trunk.head.norm", 24)
    state.linear("visual.head.proj", LENGTH, 24, bias=False)
    state["logit_scale"] = torch.tensor(4.6)
    return state


def timm() -> Names:
    """What `timm.create_model("resnet50_clip").state_dict()` names so, in small."""
    state = Names()
    for key, value in resnet(Names(), "").items():
        key = re.sub(r"^conv(\d)", r"stem.conv\1.conv", key)
        key = re.sub(r"^bn(\d)", r"stem.conv\1.bn", key)
        for number, suffix in (("1", "1x1"), ("2", "kxk"), ("3", "1x1")):
            key = re.sub(rf"\.(conv|bn){number}\.", rf".conv{number}_{suffix}.\1.", key) if key[0] == "l" else key
        key = key.replace("downsample.0", "shortcut.conv.conv").replace("downsample.1", "shortcut.conv.bn")
        key = re.sub(r"^layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", key)
        key = re.sub(r"^attnpool\.(\w)_proj", r"head.\1", key).replace("head.c.", "head.proj.")
        state[key.replace("attnpool.positional_embedding", "head.pos_embed")] = value
    return state


def tcm(detector: str = "db", contexts: int = 4, meta_query: bool = False, text_side: bool = True) -> Names:
    """An official detector, with 2 decoder layers of width 16."""
    state = resnet(Names(), "backbone.", attention_pool=text_side)
    if text_side:
        text(state, "text_encoder.", len(TOKENS) + contexts)
        if contexts:
            state.add("contexts", 1, contexts, HIDDEN)
        state.add("gamma", LENGTH)
        state.add("vis_gamma")
        if meta_query:
            state.add("meta_query", LENGTH)
            state.add("pix_w", LENGTH, LENGTH)
        for i, (name, out) in enumerate(
            [("norm", LENGTH), ("linear", LENGTH), (None, 0), ("norm", 0), ("linear", HIDDEN)]
        ):
            if name == "norm":
                state.norm(f"prompt_generator.prompt_proj.{i}", LENGTH)
            elif name == "linear":
                state.linear(f"prompt_generator.prompt_proj.{i}", out, LENGTH)
        for decoder in ("context_decoder", "visual_prompt_generator"):
            _decoder(state, decoder)
    channels = [WIDTH * 4, WIDTH * 8, WIDTH * 16, WIDTH * 32 + text_side]
    {"db": _db, "pan": _pan, "fce": _fce}[detector](state, channels)
    return state


def _decoder(state: Names, name: str) -> None:
    width = 16
    state.norm(f"{name}.memory_proj.0", LENGTH)
    state.linear(f"{name}.memory_proj.1", width, LENGTH)
    state.norm(f"{name}.memory_proj.2", width)
    state.norm(f"{name}.text_proj.0", LENGTH)
    state.linear(f"{name}.text_proj.1", width, LENGTH)
    for i in range(2):
        layer = f"{name}.decoder.{i}."
        for attention in ("self_attn", "cross_attn"):
            for projection in ("q_proj", "k_proj", "v_proj"):
                state.linear(f"{layer}{attention}.{projection}", width, width, bias=False)
            state.linear(f"{layer}{attention}.proj", width, width)
        for norm in ("norm1", "norm2", "norm3"):
            state.norm(f"{layer}{norm}", width)
        state.linear(f"{layer}mlp.0", 24, width)
        state.linear(f"{layer}mlp.3", width, 24)
    state.norm(f"{name}.out_proj.0", width)
    state.linear(f"{name}.out_proj.1", LENGTH, width)


def _db(state: Names, channels: list[int]) -> None:
    for i, n in enumerate(channels):
        state.add(f"neck.lateral_convs.{i}.conv.weight", 16, n, 1, 1)
        state.add(f"neck.smooth_convs.{i}.conv.weight", 4, 16, 3, 3)
    for branch in ("binarize", "threshold"):
        name = f"bbox_head.{branch}."
        state.add(f"{name}0.weight", 8, 16, 3, 3)
        state.norm(f"{name}1", 8, batch=True)
        state.add(f"{name}3.weight", 8, 8, 2, 2)
        state.add(f"{name}3.bias", 8)
        state.norm(f"{name}4", 8, batch=True)
        state.add(f"{name}6.weight", 8, 1, 2, 2)
        state.add(f"{name}6.bias", 1)


def _pan(state: Names, channels: list[int]) -> None:
    for i, n in enumerate(channels, start=2):
        state.add(f"neck.reduce_conv_c{i}.0.weight", 12, n, 1, 1)
        state.add(f"neck.reduce_conv_c{i}.0.bias", 12)
        state.norm(f"neck.reduce_conv_c{i}.1", 12, batch=True)
    for i in range(2):
        for step in ("up_add1", "up_add2", "up_add3", "down_add1", "down_add2", "down_add3"):
            name = f"neck.fpems.{i}.{step}."
            state.add(f"{name}depthwise_conv.weight", 12, 1, 3, 3)
            state.add(f"{name}depthwise_conv.bias", 12)
            state.add(f"{name}pointwise_conv.weight", 12, 12, 1, 1)
            state.add(f"{name}pointwise_conv.bias", 12)
            state.norm(f"{name}bn", 12, batch=True)
    state.add("bbox_head.out_conv.weight", 6, 48, 1, 1)
    state.add("bbox_head.out_conv.bias", 6)


def _fce(state: Names, channels: list[int]) -> None:
    for i, n in enumerate(channels[1:]):
        state.add(f"neck.lateral_convs.{i}.conv.weight", 12, n, 1, 1)
        state.add(f"neck.lateral_convs.{i}.conv.bias", 12)
        state.add(f"neck.fpn_convs.{i}.conv.weight", 12, 12, 3, 3)
        state.add(f"neck.fpn_convs.{i}.conv.bias", 12)
    for name, out in (("cls", 4), ("reg", 14)):  # degree 3
        state.add(f"bbox_head.out_conv_{name}.weight", out, 12, 3, 3)
        state.add(f"bbox_head.out_conv_{name}.bias", out)


def to_ours(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    Where a tensor of OpenAI's or of the official layout belongs in our model, and how. It is written from that side, and
    from the converter independently.
    """
    name = re.sub(r"^(visual|backbone)\.", "model.vision_tower.", name)
    if name.startswith("model.vision_tower."):
        name = re.sub(r"\.downsample\.0\.", ".shortcut.conv.", name)
        name = re.sub(r"\.downsample\.1\.", ".shortcut.norm.", name)
        name = re.sub(r"(layer\d\.\d+)\.conv(\d)\.", r"\1.conv\2.conv.", name)
        name = re.sub(r"(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm.", name)
        name = re.sub(r"layer(\d)\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}.", name)
        name = re.sub(r"tower\.conv(\d)\.", lambda m: f"tower.stem.{int(m[1]) - 1}.conv.", name)
        name = re.sub(r"tower\.bn(\d)\.", lambda m: f"tower.stem.{int(m[1]) - 1}.norm.", name)
        name = name.replace("attnpool.positional_embedding", "attention_pool.position_embedding")
        return {name.replace("attnpool.", "attention_pool."): value}
    match = re.match(r"(?:text_encoder\.)?(transformer|token_embedding|positional_embedding|ln_final|text_proj)", name)
    if match and not name.startswith(("context_decoder", "visual_prompt")):
        name = "model.text_tower.text_model." + name.removeprefix("text_encoder.")
        if name.endswith("text_projection"):
            return {"model.text_tower.text_projection.weight": value.T}
        name = name.replace("model.positional_embedding", "model.embeddings.position_embedding.weight")
        name = name.replace("token_embedding", "embeddings.token_embedding").replace("ln_final", "final_layer_norm")
        name = name.replace("transformer.resblocks", "encoder.layers").replace("ln_1", "layer_norm1")
        name = name.replace("ln_2", "layer_norm2").replace("c_fc", "fc1").replace("mlp.c_proj", "mlp.fc2")
        name = name.replace(".attn.", ".self_attn.")
        if "in_proj_" in name:
            return {name.replace("in_proj_", f"{part}_proj."): x for part, x in zip("qkv", value.chunk(3))}
        return {name: value}
    if re.search(r"context_decoder.*self_attn\.[qk]_|prompt_generator.*(cross_attn\.[qk]_|norm2)", name):
        return {}
    scalars = {"gamma": "context_scale", "vis_gamma": "visual_prompt_scale", "meta_query": "meta_query"}
    if name in scalars:
        return {f"model.{scalars[name]}": value}
    if name == "contexts":
        return {"model.text_tower.context_vectors": value[0]}
    if name == "pix_w":
        return {"model.bimodal_projection.weight": value.T}
    if name.startswith("prompt_generator."):
        layers = {"0": "norm1", "1": "linear1", "3": "norm2", "4": "linear2"}
        return {re.sub(r"prompt_proj\.(\d)", lambda m: layers[m[1]], f"model.{name}"): value}
    if name.startswith(("context_decoder.", "visual_prompt_generator.")):
        decoder, rest = name.split(".", 1)
        if rest.startswith("decoder."):
            rest = rest.replace("decoder.", "layers.").replace("mlp.0", "linear1").replace("mlp.3", "linear2")
            rest = rest.replace("_attn.proj", "_attention.out_proj").replace("_attn.", "_attention.")
        else:
            part = rest[: rest.index(".") + 2]
            rest = DECODER_PARTS[part] + rest[len(part) :]
        return {f"model.{decoder}.{rest}": value}
    if name.startswith("neck.reduce_conv_c"):
        return {re.sub(r"conv_c(\d)", lambda m: f"convs.{int(m[1]) - 2}", f"detector.{name}"): value}
    if name.startswith("neck.fpems."):
        name = re.sub(r"(up|down)_add(\d)", lambda m: f"{m[1]}_convs.{int(m[2]) - 1}", name)
        name = name.replace("fpems", "enhancements").replace("wise_conv", "wise").replace(".bn.", ".norm.")
        return {f"detector.{name}": value}
    if name == "bbox_head.out_conv.weight":
        return {f"detector.head.level_convs.{i}.weight": x for i, x in enumerate(value.chunk(4, dim=1))}
    for theirs, ours in (
        ("bbox_head.out_conv.bias", "head.level_convs.0.bias"),
        ("bbox_head.out_conv_cls.", "head.classifier."),
        ("bbox_head.out_conv_reg.", "head.regressor."),
        ("bbox_head.binarize.", "probability_branch."),
        ("bbox_head.threshold.", "threshold_branch."),
        (".fpn_convs.", ".smooth_convs."),
        (".conv.", "."),
    ):
        name = name.replace(theirs, ours)
    return {f"detector.{name}": value}
