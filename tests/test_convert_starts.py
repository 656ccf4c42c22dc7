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
"""Starts that were pre-trained for text: oCLIP, ODM, and open_clip's ConvNeXt. Small weights under the names of their code."""

import clip_layouts
import pytest
import torch
from clip_layouts import load, save
from transformers import ConvNextBackbone

from tcm_hf import TCMForTextDetection
from tcm_hf.conversion.convert import ConversionError, convert_checkpoint


SMALL = {"detector_config": {"neck_channels": 16, "head_channels": 8}}


@pytest.mark.parametrize("stage", ["first", "second", "odm"])
def test_oclip(stage, tmp_path):
    content = clip_layouts.oclip(second_stage=stage == "second")
    state = content["state_dict"]
    if stage == "odm":
        state["module.visual.fpn_head.weight"] = torch.zeros(1)
    source = save(content, tmp_path / "oclip.pt")
    # The first stage is named as CLIP is.
    report = convert_checkpoint(source, tmp_path / "out", layout="oclip" if stage == "first" else None, **SMALL)
    assert report.layout == "oclip" and not any("unknown" in reason for reason in report.left_over.values())
    # The same image tower as that of a CLIP with these weights.
    clip = {name.removeprefix("module."): value for name, value in state.items()}
    clip = {name: value for name, value in clip.items() if not name.startswith(("visual.fpn", "transformer_decoder"))}
    clip = {name: value for name, value in clip.items() if "decoder" not in name and "text_class" not in name}
    clip.pop("image_pos", None)
    convert_checkpoint(save(clip, tmp_path / "clip.pt"), tmp_path / "clip", text_side=False, **SMALL)
    ours, expected = load(tmp_path / "out"), load(tmp_path / "clip")
    assert not ours.config.text_side
    for name, value in expected.model.vision_tower.state_dict().items():
        assert torch.equal(ours.model.vision_tower.state_dict()[name], value)
    source_names = {name.removeprefix("module.") for name in state}
    assert set(report.left_over) | set(report.mapped.values()) == source_names


def test_oclip_has_no_text_side_and_is_not_guessed(tmp_path):
    source = save(clip_layouts.oclip(), tmp_path / "oclip.pt")
    with pytest.raises(ConversionError, match="no text side: its text tower reads the characters.*--no-text-side"):
        convert_checkpoint(source, tmp_path / "out", text_side=True)
    timm = save(clip_layouts.timm(), tmp_path / "timm.pt")
    with pytest.raises(ConversionError, match="is in the layout 'timm'.*not 'oclip'"):
        convert_checkpoint(timm, tmp_path / "out", layout="oclip")
    with pytest.raises(ConversionError, match="there is no 'oclipp'; known are openai"):
        convert_checkpoint(source, tmp_path / "out", layout="oclipp")
    assert not (tmp_path / "out").exists()


def test_open_clip_convnext(tmp_path):
    state = clip_layouts.open_clip_convnext()
    source = save(state, tmp_path / "open_clip.pt")
    with pytest.raises(ConversionError, match="ConvNeXt.*gives no text side.*--no-text-side"):
        convert_checkpoint(source, tmp_path / "out")
    report = convert_checkpoint(source, tmp_path / "out", text_side=False, **SMALL)
    assert not any("unknown" in reason for reason in report.left_over.values())
    model = TCMForTextDetection.from_pretrained(tmp_path / "out").eval()
    assert model.config.vision_config.depths == [1, 2, 1, 1]
    assert set(report.mapped.values()) == {n for n in state if "trunk.st" in n}
    # A block by the formula of ConvNeXt, from the source's own tensors.
    x = torch.randn(1, 8, 6, 6)
    p = {name.removeprefix("visual.trunk.stages.0.blocks.0."): value for name, value in state.items()}
    y = torch.nn.functional.conv2d(x, p["conv_dw.weight"], p["conv_dw.bias"], padding=3, groups=8).permute(0, 2, 3, 1)
    y = torch.nn.functional.layer_norm(y, (8,), p["norm.weight"], p["norm.bias"], 1e-6)
    y = torch.nn.functional.gelu(y @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"])
    y = (y @ p["mlp.fc2.weight"].T + p["mlp.fc2.bias"]) * p["gamma"]
    backbone = model.model.vision_tower.backbone
    assert isinstance(backbone, ConvNextBackbone)
    with torch.no_grad():
        actual = backbone.encoder.stages[0].layers[0](x)
    torch.testing.assert_close(actual, x + y.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
