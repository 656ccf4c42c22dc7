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
"""What cannot be converted: the error names it, and nothing is left behind."""

import json
import os
import re
import shutil

import clip_layouts
import numpy as np
import pytest
import torch
from clip_layouts import SMALL, TINY, load, save
from conftest import shared_path
from safetensors.torch import load_file, save_file

from tcm_hf import TCMForTextDetection
from tcm_hf.conversion.convert import ConversionError, convert_checkpoint


@pytest.mark.parametrize(
    "key",
    [
        "backbone.conv3.weight",
        "backbone.layer2.0.bn2.running_var",
        "backbone.layer2.1.conv1.weight",
        "backbone.attnpool.positional_embedding",
        "text_encoder.transformer.resblocks.1.attn.in_proj_bias",
        "text_encoder.text_projection",
        "contexts",
        "gamma",
        "vis_gamma",
        "meta_query",
        "pix_w",
        "prompt_generator.prompt_proj.3.bias",
        "context_decoder.decoder.1.norm2.weight",
        "visual_prompt_generator.text_proj.1.weight",
        "neck.lateral_convs.3.conv.weight",
        "bbox_head.binarize.0.weight",
        "bbox_head.threshold.6.bias",
    ],
)
def test_missing_or_wrong_weight(key, tmp_path):
    state = clip_layouts.tcm(meta_query=True)
    value = state.pop(key)
    with pytest.raises(ConversionError, match=rf"x\.pth.*{re.escape(key)}") as error:
        convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)
    assert len(str(error.value)) < 600
    state[key] = torch.zeros(*value.shape, 3)
    with pytest.raises(ConversionError, match=rf"x\.pth.*{re.escape(key)}.*{re.escape(str(tuple(state[key].shape)))}"):
        convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)
    state[key] = value
    state[key].view(-1)[0] = float("nan")
    with pytest.raises(ConversionError, match=rf"x\.pth.*{re.escape(key)}.*NaN"):
        convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)
    assert os.listdir(tmp_path) == ["x.pth"]


def test_missing_weight_of_clip(tmp_path, clip_directory):
    for make, key in (
        (clip_layouts.resnet, "visual.attnpool.q_proj.bias"),
        (clip_layouts.vit, "visual.ln_post.weight"),
    ):
        state = clip_layouts.openai(make)
        del state[key]
        with pytest.raises(ConversionError, match=re.escape(key)):
            convert_checkpoint(save(state, tmp_path / "x.pt"), tmp_path / "out", **SMALL)
    weights = load_file(clip_directory / "model.safetensors")
    del weights["text_model.final_layer_norm.bias"]
    save_file(weights, clip_directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConversionError, match=r"text_model\.final_layer_norm\.bias"):
        convert_checkpoint(clip_directory, tmp_path / "out", **SMALL)


def test_settings_must_fit(tmp_path):
    path = save(clip_layouts.tcm(), tmp_path / "x.pth")
    for fields, message in (
        ({"detector": "pan"}, "detector 'db', not 'pan'"),
        ({"num_contexts": 4}, "num_contexts"),
        ({"fused_text": True}, "fused_text"),
        ({"text_config": {"activation": "gelu"}}, "activation"),
        ({"num_context_vectors": 3}, "contexts"),
        ({"decoder_hidden_size": 32}, "visual_prompt_generator|context_decoder"),
        ({"num_context_vectors": "many"}, "num_context_vectors"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_checkpoint(path, tmp_path / "out", **{**TINY, **fields})
    # With the released models' prompt of 14 tokens there would have to be 18 positions.
    with pytest.raises(ConversionError, match=r"8 rows.*14 tokens.*4 context vectors"):
        convert_checkpoint(path, tmp_path / "out")


class Payload:
    """Leaves a trace when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    for zipped in (True, False):
        content = {"state_dict": dict(clip_layouts.tcm()), "hook": Payload(tmp_path / "trace")}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ConversionError, match=r"x\.pth holds more than weights \(posix\.mkdir\).*--allow-pickle"):
            convert_checkpoint(path, tmp_path / "out", **TINY)
        assert os.listdir(tmp_path) == ["x.pth"]
    convert_checkpoint(path, tmp_path / "out", allow_pickle=True, **TINY)
    assert (tmp_path / "trace").is_dir() and load(tmp_path / "out")


def test_files_that_are_no_checkpoint(tmp_path):
    good = save(clip_layouts.tcm(), tmp_path / "good.pth").read_bytes()
    save_file(dict(clip_layouts.openai()), tmp_path / "good.safetensors")
    safe = (tmp_path / "good.safetensors").read_bytes()
    cases = {
        "empty.pth": (b"", "is empty"),
        "page.pth": (b"<!doctype html><html>404</html>", "text file"),
        "notes.txt": ("Grüße".encode() * 100, "text file"),
        "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "half.pth": (good[: len(good) // 2], "damaged or incomplete"),
        "half.safetensors": (safe[: len(safe) // 2], "damaged or incomplete"),
        "noise.pth": (np.random.default_rng(0).bytes(999), "no checkpoint"),
        "picture.pth": (b"\x89PNG\r\n\x1a\n" + bytes(99), "no checkpoint"),
        "old.pth": (b"\x80\x02}q\x00.", "old.pth"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConversionError, match=message) as error:
            convert_checkpoint(tmp_path / name, tmp_path / "out", **TINY)
        assert name in str(error.value) and "\n" not in str(error.value)
    for content, message in (
        ({"epoch": 3}, r"no weights but a dict with \['epoch'\]"),
        ([torch.ones(3)], "no weights but a list"),
        ({"fc.weight": torch.ones(3, 3)}, r"unknown layout.*fc\.weight"),
        (
            {"backbone.layer1.0.conv1.weight": torch.ones(1), "bbox_head.binarize.0.weight": torch.ones(1)},
            "not CLIP's ResNet",
        ),
        (TCMForTextDetection(tiny()).state_dict(), "already is in this package's layout"),
    ):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(tmp_path / "x.pth", tmp_path / "out", **TINY)
    for name in ("absent.pth", "absent/model", str(tmp_path / "absent")):
        with pytest.raises(FileNotFoundError, match=rf"{name}.*no such file"):
            convert_checkpoint(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def tiny():
    from tiny_model import tiny_config

    return tiny_config()


def test_directories_that_hold_no_clip(tmp_path, clip_directory):
    def attempt(message, directory=clip_directory):
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(directory, tmp_path / "out", **SMALL)

    (tmp_path / "empty").mkdir()
    attempt("empty holds no weights", tmp_path / "empty")
    for name in ("a.pth", "b.pth"):
        save(clip_layouts.tcm(), tmp_path / "empty" / name)
    attempt("several checkpoints", tmp_path / "empty")
    TCMForTextDetection(tiny()).save_pretrained(tmp_path / "tcm")
    attempt("already is in this package's layout", tmp_path / "tcm")
    config = clip_directory / "config.json"
    config.write_text(json.dumps({"model_type": "siglip"}))
    attempt("type 'siglip'.*CLIPModel")
    config.write_text("{")
    attempt("cannot be read as JSON")
    config.unlink()
    attempt("config.json")


def test_reported_archive(tmp_path):
    with pytest.raises(
        ConversionError, match=r"convert_badzipfile\.pt is damaged or incomplete \(its table of contents"
    ):
        convert_checkpoint(shared_path("cases/convert_badzipfile.pt"), tmp_path / "out")


@pytest.mark.parametrize(
    "weight_map, message",
    [
        (["a.safetensors"], "'weight_map' has to be an object"),
        ("a.safetensors", "'weight_map' has to be an object"),
        (None, "'weight_map' is missing or empty"),
        ({}, "'weight_map' is missing or empty"),
        ({"w": None}, "names of files in its folder, got None"),
        ({"w": ["a.safetensors"]}, "names of files in its folder"),
        ({"w": "../secret.safetensors"}, r"names of files in its folder, got '\.\./secret"),
        ({"w": "sub/../../secret.safetensors"}, "names of files in its folder"),
        ({"w": "..\\secret.safetensors"}, "names of files in its folder"),
        ({"w": "/etc/passwd"}, "names of files in its folder, got '/etc/passwd'"),
        ({"w": "C:secret"}, "names of files in its folder"),
        ({"w": ""}, "names of files in its folder"),
        ({"w": "."}, "names of files in its folder"),
        ({"w": "a\0b"}, "names of files in its folder"),
        ({"w": "absent.safetensors"}, "a file that .* names is missing"),
    ],
)
def test_index_files(weight_map, message, clip_directory, tmp_path):
    shutil.copy(clip_directory / "model.safetensors", tmp_path / "secret.safetensors")
    (clip_directory / "model.safetensors").unlink()
    index = clip_directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ConversionError, match=message) as error:
        convert_checkpoint(clip_directory, tmp_path / "out", **SMALL)
    assert index.name in str(error.value) and str(error.value).isprintable()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ({"model_type": ["clip"]}, r"config\.json: 'model_type' has to be a text, got \['clip'\]"),
        ({"model_type": "clip", "text_config": [1]}, r"config\.json: `text_config` has to be an object"),
        ({"model_type": "clip", "vision_config": {"patch_size": 0}}, "`vision_config`: `patch_size`.*at least 1"),
        ({"model_type": "clip", "vision_config": {"num_hidden_layers": 10**9}}, "`num_hidden_layers`.*1000000000"),
        ({"model_type": "clip", "text_config": {"hidden_size": "wide"}}, "`text_config`: `hidden_size`"),
        (
            {"model_type": "clip", "text_config": {"model_type": "siglip_text_model"}},
            "`text_config.model_type` 'siglip",
        ),
        ({"model_type": "metaclip_2"}, "type 'metaclip_2'.*CLIPModel"),
        ([], "no JSON object"),
    ],
)
def test_configurations_of_clip(content, message, clip_directory, tmp_path):
    config = clip_directory / "config.json"
    if isinstance(content, dict):  # all else as it was
        good = json.loads(config.read_text())
        for key in ("text_config", "vision_config"):
            if isinstance(content.get(key, {}), dict):
                content = {**content, key: {**good[key], **content.get(key, {})}}
    config.write_text(json.dumps(content))
    with pytest.raises(ConversionError, match=message) as error:
        convert_checkpoint(clip_directory, tmp_path / "out", **SMALL)
    assert "clip" in str(error.value) and str(error.value).isprintable() and not (tmp_path / "out").exists()


def test_open_clip_settings_of_a_wrong_type(tmp_path):
    (tmp_path / "clip").mkdir()
    save(clip_layouts.openai(), tmp_path / "clip" / "open_clip_pytorch_model.bin")
    (tmp_path / "clip" / "open_clip_config.json").write_text('{"model_cfg": ["quick_gelu"]}')
    with pytest.raises(ConversionError, match=r"open_clip_config\.json: 'model_cfg' has to be an object"):
        convert_checkpoint(tmp_path / "clip", tmp_path / "out", **SMALL)


def test_sizes_that_only_names_and_shapes_claim(tmp_path):
    state = clip_layouts.tcm()
    state["text_encoder.transformer.resblocks.999999999.ln_1.weight"] = torch.ones(64)
    with pytest.raises(ConversionError, match="number 999999999, but none of number 2"):
        convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)
    for key, value, message in (
        ("contexts", torch.empty(1, 10**9, 0), r"'contexts' is empty"),
        ("text_encoder.text_projection", torch.empty(0, 10**6), "'text_encoder.text_projection' is empty"),
        ("gamma", torch.ones(clip_layouts.LENGTH, dtype=torch.int64), "'gamma' holds numbers of the type int64"),
        ("logit_scale", torch.ones(3), "'logit_scale' has to be one number"),
        ("logit_scale", torch.tensor(float("nan")), "'logit_scale' has to be one number"),
    ):
        state = clip_layouts.tcm()
        state[key] = value
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)


def test_output_directory(tmp_path, monkeypatch):
    source = save(clip_layouts.tcm(), tmp_path / "x.pth")
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    convert_checkpoint(source, out, **TINY)
    before = (out / "model.safetensors").read_bytes()
    (out / "old.txt").touch()
    with pytest.raises(FileExistsError, match="not empty.*--overwrite"):
        convert_checkpoint(source, out, **TINY)
    # A conversion that fails leaves everything as it was.
    monkeypatch.setattr("tcm_hf.conversion.convert.model_card", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert_checkpoint(source, out, overwrite=True, **TINY)
    monkeypatch.undo()
    assert (out / "old.txt").exists() and (out / "model.safetensors").read_bytes() == before
    convert_checkpoint(source, out, overwrite=True, **TINY)
    assert not (out / "old.txt").exists() and load(out) and os.listdir(out.parent) == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask
    # What is no model, or holds the source, stays.
    inside = save(clip_layouts.tcm(), out / "x.pth")
    with pytest.raises(FileExistsError, match="holds the source"):
        convert_checkpoint(inside, out, overwrite=True, **TINY)
    with pytest.raises(FileExistsError, match="holds no model"):
        convert_checkpoint(source, tmp_path, overwrite=True, **TINY)
    with pytest.raises(FileExistsError, match="is a file"):
        convert_checkpoint(source, source, overwrite=True, **TINY)
    assert inside.exists() and source.exists()
