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
"""The configurations in examples/configs and the ablations that their README names, with tiny sizes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tcm_hf import TCMConfig, TCMForTextDetection, checkpoint_path
from tcm_hf.model.detectors import find_detector


FOLDER = Path(__file__).resolve().parents[1] / "examples" / "configs"
RUNS = sorted(path.name for path in FOLDER.glob("*-phase?.json"))  # the options of training runs
FILES = sorted({path.name for path in FOLDER.glob("*.json")} - {*RUNS})
# The same architecture in small: what tells variants apart stays as the file has it.
SIZES = {
    "vision_config": {"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "image_size": 64},
    "text_config": {
        "vocab_size": 49408,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 32,
        "max_position_embeddings": 77,
    },
    "decoder_layers": 1,
    "decoder_hidden_size": 16,
    "decoder_ffn_dim": 32,
    "detector_config": {"neck_channels": 16},
}


def fields_of(name):
    return json.loads((FOLDER / name).read_text())


def small(fields):
    fields = {**fields, **{key: value for key, value in SIZES.items() if not isinstance(value, dict)}}
    for key in ("vision_config", "text_config", "detector_config"):
        fields[key] = {**(fields.get(key) or {}), **SIZES[key]}
    return TCMForTextDetection(TCMConfig(**fields))


def ablations():
    """Each `"field": value` of the README's table, with every value that its row lists."""
    table = (FOLDER / "README.md").read_text().split("## Ablations")[1]
    for cell in re.findall(r"\| (`\".*) \|$", table, re.M):
        first, *others = re.findall(r"`([^`]*)`", cell)
        name = first.split(":")[0]
        yield from (first, *(f"{name}: {value}" for value in others))


def train_step(model):
    quad = np.array([[12.0, 20.0], [84.0, 20.0], [84.0, 52.0], [12.0, 52.0]])
    maps = find_detector(model.config.detector).part("targets")([quad], [False], 64, 96)
    labels = {name: torch.from_numpy(np.stack([value] * 2)) for name, value in maps.items()}
    torch.manual_seed(0)
    model.train()
    outputs = model(torch.randn(2, 3, 64, 96), labels=labels)
    outputs.loss.backward()
    assert torch.isfinite(outputs.loss)
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    return outputs


def test_the_readme_names_all_files():
    assert {"tcm-db-rn50.json", "dbnet-rn50.json", "fasttcm-db-rn50.json"} <= set(FILES)
    assert {f"tcm-{name}.json" for name in ("small-phase1", "small-phase2", "small-phase3", "tiny-phase2")} <= set(
        RUNS
    )
    assert all(f"`{name}`" in (FOLDER / "README.md").read_text() for name in (*FILES, *RUNS))


@pytest.mark.parametrize("name", ["tcm-tiny", "tcm-small"])
def test_the_small_ones_are_the_bundled_checkpoints(name):
    config, bundled = (
        TCMConfig(**fields_of(f"{name}.json"), fused_text=True),
        TCMConfig.from_pretrained(checkpoint_path(name)),
    )
    with torch.device("meta"):
        shapes, expected = (
            {k: v.shape for k, v in TCMForTextDetection(c).state_dict().items()} for c in (config, bundled)
        )
    assert shapes == expected
    for ours, theirs in ((config, bundled), (config.vision_config, bundled.vision_config)):
        ours, theirs = ours.to_dict(), theirs.to_dict()
        nested = {"vision_config", "text_config", "dtype", "architectures", "transformers_version"}
        assert {k: v for k, v in ours.items() if k not in nested} == {
            k: theirs.get(k) for k in ours if k not in nested
        }


@pytest.mark.parametrize("name", FILES)
def test_files_build_what_they_say(name):
    fields = fields_of(name)
    TCMConfig(**fields)  # in its own size
    outputs = train_step(small(fields))
    assert ("auxiliary" in outputs.loss_dict) == fields.get("text_side", True)
    with torch.device("meta"):
        size = sum(p.numel() for p in TCMForTextDetection(TCMConfig(**fields)).parameters())
    # Published: 113 to 114 M with the text tower, 25.4 M without text side. The text tower of a CLIP that was not cut
    # to the prompt has 77 positions, and what a single key leaves without influence is not there.
    expected = {"tcm-db-rn50.json": 113.5e6, "fasttcm-db-rn50.json": 114.5e6, "dbnet-rn50.json": 25.4e6}
    if name in expected:
        assert abs(size - expected[name]) < 1e6


@pytest.mark.parametrize("change", ablations())
def test_ablations(change):
    field, value = next(iter(json.loads("{" + change + "}").items()))
    assert field in TCMConfig.__dataclass_fields__
    fields = {**fields_of("tcm-db-rn50.json"), field: value}
    model = small(fields)
    assert getattr(model.config, field) == value
    outputs = train_step(model)
    text_side = model.config.text_side
    assert (outputs.score_map is not None) == text_side
    assert ("auxiliary" in outputs.loss_dict) == (text_side and model.config.auxiliary_loss_weight > 0)
    parts = {
        "text_side": "text_tower",
        "prompt_generator": "prompt_generator",
        "visual_prompt": "visual_prompt_generator",
        "context_decoder": "context_decoder",
    }
    if field in parts:
        assert (getattr(model.model, parts[field]) is not None) == bool(value)
    if field == "num_context_vectors":
        vectors = model.model.text_tower.context_vectors
        assert (0 if vectors is None else len(vectors)) == value


def test_the_table_of_ablations_is_read():
    changes = list(ablations())
    fields = {change.split('"')[1] for change in changes}
    assert {"text_side", "num_context_vectors", "prompt_generator", "visual_prompt", "auxiliary_loss_weight"} <= fields
    assert {'"num_context_vectors": 0', '"num_context_vectors": 18', '"num_context_vectors": 32'} <= set(changes)
