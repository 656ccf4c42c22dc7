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
import importlib.util
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import clip_layouts
import numpy as np
import pytest
import torch
from clip_layouts import SMALL, TINY, TOKENS, load, save, to_ours
from conftest import shared_path
from hub_server import HubServer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPModel, pipeline

import tcm_hf
from tcm_hf import TCMForTextDetection, TCMImageProcessor, cli
from tcm_hf.conversion.convert import PRESETS, ConversionError, convert_checkpoint
from tcm_hf.model.decoding_db import decode_db
from tcm_hf.model.decoding_fce import decode_fce
from tcm_hf.model.polygons import polygon_iou
from tcm_hf.output_files import exclusive


def assert_taken_over(state: dict, directory: Path, report, left_over: int = 0) -> TCMForTextDetection:
    """Every tensor of the source is where it belongs, or reported as left over."""
    model = load(directory)
    ours = model.state_dict()
    expected = {}
    for name, value in state.items():
        found = to_ours(name, value) if name not in report.left_over else {}
        assert bool(found) == (name not in report.left_over), name
        expected.update(found)
    for key, value in expected.items():
        assert torch.equal(ours[key], value), key
    assert set(ours) == set(expected) | set(report.new) and not set(expected) & set(report.new)
    assert set(report.mapped) == set(expected) and len(report.left_over) == left_over
    # What the report says is in the file too, and all files are there.
    assert json.loads((directory / "conversion_report.json").read_text())["mapped"] == report.mapped
    assert (directory / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")
    return model


# ---------------------------------------------------------------------- reference numbers of the official code


@pytest.mark.parametrize("variant", ["tcm_db_ic15", "tcm_db_v2_fixed", "tcm_pan_ctw", "tcm_fce_ic15", "dbnet_clipr50"])
def test_official_numbers(variant, tmp_path, monkeypatch):
    folder = shared_path(f"parity/{variant}")
    monkeypatch.syspath_prepend(str(folder.parent))
    from fixture_inputs import fill, make_batch, summary

    weights = fill(json.loads((folder / "manifest.json").read_text()))
    path = tmp_path / "official.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": {k: torch.from_numpy(v) for k, v in weights.items()}}, path)
    del weights
    report = convert_checkpoint(path, tmp_path / "converted")
    path.unlink()
    model = load(tmp_path / "converted")
    (tmp_path / "converted" / "model.safetensors").unlink()  # pytest keeps its directories
    assert not report.new
    assert {key.split(".")[-2] for key in report.left_over} <= {"q_proj", "k_proj", "norm2"}

    with torch.inference_mode():
        pixels = torch.from_numpy(make_batch(640, 640, [0]))
        outputs = model.model(pixels)
        vision = model.model.vision_tower(pixels)
        maps = model.detector(outputs.feature_maps, None, training_maps=True)
        text = model.model.embed_text(outputs.global_embedding) if model.config.text_side else None
        detector = model.config.detector
        first = 1 if detector == "fce" else 0  # FCE takes the maps from stride 8 on
        neck = model.detector.neck(outputs.feature_maps[first:], [None] * 4)
    ours = {f"stage{i}": x for i, x in enumerate(vision.feature_maps[first:])}
    if model.config.text_side:
        ours.update(
            global_feat=outputs.global_embedding,
            visual_embeddings=vision.dense_embeddings,  # without the visual prompt
            text_embeddings=outputs.text_embeddings,
            score_map=outputs.score_map,
        )
        if model.config.prompt_generator == "conditional":
            ours["text_encoder_out"] = text
    if detector == "db":
        probability, threshold = maps["logits"].sigmoid(), maps["threshold_logits"].sigmoid()
        ours["neck0"], heads = neck, {"head": [probability, threshold, (50 * (probability - threshold)).sigmoid()]}
    elif detector == "pan":
        size = neck[0].shape[-2:]
        ours.update({f"neck{i}": nn.functional.interpolate(x, size, mode="bilinear") for i, x in enumerate(neck)})
        heads = {"head": [maps["logits"]]}
    else:
        ours.update({f"neck{i}": x for i, x in enumerate(neck)})
        heads = {f"head_cls{i}": [x[:, :4]] for i, x in enumerate(maps["logits"])}
        heads |= {f"head_reg{i}": [x[:, 4:]] for i, x in enumerate(maps["logits"])}
    ours.update({name: torch.cat(x, dim=1) for name, x in heads.items()})

    official = np.load(folder / "forward_640x640.npz")
    for key in official.files:
        name, _, part = key.partition("__")
        match = re.fullmatch(r"(head\w*)_ds(\d)", name)
        value = ours.get(match[1] if match else name)
        if value is None or part in ("mean", "std", "absmax", "shape"):
            continue
        value = value.numpy()
        if match:
            value = value[:, :, :: int(match[2]), :: int(match[2])]
        if part:
            value = summary(value)[part]
        tolerance = 2e-6 if name == "score_map" else 1e-4 if detector == "db" and name.startswith("head") else 5e-5
        if detector == "pan" and name.startswith("neck"):
            tolerance = 1e-5 * official[f"{name}__absmax"]
        np.testing.assert_allclose(
            value.reshape(official[key].shape), official[key], rtol=0, atol=tolerance, err_msg=key
        )
    inner = {"visual_embeddings_every16ch", "prompt_generator_out", "text_diff", "vis_prompt_diff", "text_encoder_out"}
    assert {re.sub(r"__.*|_ds\d", "", name) for name in official.files} - set(ours) <= inner


@pytest.mark.parametrize("variant", ["tcm_db_v2_fixed", "tcm_pan_ctw", "tcm_fce_ic15", "dbnet_clipr50"])
def test_small_weights_have_the_official_names(variant):
    manifest = json.loads(shared_path(f"parity/{variant}/manifest.json").read_text())
    detector = next((name for name in ("pan", "fce") if name in variant), "db")
    state = clip_layouts.tcm(detector, meta_query="v2" in variant, text_side="clipr50" not in variant)
    strip = [
        {re.sub(r"(layer\d|decoder|resblocks)\.\d+", r"\1.N", name) for name in names} for names in (manifest, state)
    ]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("preset, name", [("ic15", "ic15"), ("td500", "td"), ("ctw1500", "ctw"), ("totaltext", "tt")])
def test_presets_give_the_official_polygons(preset, name):
    reference = json.loads(shared_path("parity/postprocess/boundaries_cv5.0.0.json").read_text())["db"][name]
    with np.load(shared_path("parity/postprocess/inputs_db.npz")) as file:
        probabilities = file["prob_uint8"].astype(np.float32) / 255
    settings = dict(PRESETS["db"][preset]["decoding"])
    polygons, scores = decode_db(probabilities, score_threshold=settings.pop("threshold"), **settings)
    expected = [(np.array(flat).reshape(-1, 2), score) for *flat, score in reference["boundaries"]]
    ious = np.array([[polygon_iou(polygon, boundary) for boundary, _ in expected] for polygon in polygons])
    assert ious.shape == (len(expected), len(expected))
    assert sorted(ious.argmax(0)) == list(range(len(expected))) and ious.max(0).min() > 0.98
    assert np.allclose([scores[i] for i in ious.argmax(0)], [score for _, score in expected], atol=1e-6)


@pytest.mark.parametrize("preset, setting", [("ic15", "quad__ic15"), ("ctw1500", "poly__mmocr_default")])
@pytest.mark.parametrize("name", ["quads_rot", "curved14"])
def test_presets_give_the_official_contours(name, preset, setting):
    boundaries = json.loads(shared_path("parity/postprocess/boundaries_cv5.0.0.json").read_text())
    reference = boundaries["fce"][f"{name}__{setting}"]["boundaries"]
    with np.load(shared_path("parity/postprocess/inputs_fce.npz")) as file:
        maps = [np.concatenate([file[f"{name}_cls{i}"], file[f"{name}_reg{i}"]]).astype(np.float32) for i in range(3)]
    polygons, scores = decode_fce(maps, **PRESETS["fce"][preset]["decoding"])
    assert len(polygons) == len(reference)
    for *flat, expected_score in reference:
        expected = np.array(flat).reshape(-1, 2)
        ious = [polygon_iou(polygon, expected) for polygon in polygons]
        best = int(np.argmax(ious))
        assert len(polygons[best]) == len(expected) == 50 and ious[best] > 0.999
        assert scores[best] == pytest.approx(expected_score, abs=1e-6)


# ---------------------------------------------------------------------- open_clip


@pytest.fixture
def open_clip_model(monkeypatch):
    """open_clip's model code, without its image transforms: only those need torchvision."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        pytest.skip("open_clip is not installed: pip install --no-deps open_clip_torch")
    for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc", "open_clip"):
        module = types.ModuleType(name)
        module.__path__ = list(spec.submodule_search_locations) if name == "open_clip" else []
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        monkeypatch.setitem(sys.modules, name, module)
    # A class that open_clip only mentions for freezing, which is not done here.
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = nn.Module
    before = set(sys.modules)
    import open_clip.model

    def build(name):
        config = json.loads((Path(spec.origin).parent / "model_configs" / f"{name}.json").read_text())
        return open_clip.model.CLIP(**config)

    yield build
    for name in set(sys.modules) - before:
        if name.startswith(("open_clip", "torchvision")):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["RN50-quickgelu", "ViT-B-32"])
def test_open_clip(name, open_clip_model, tmp_path):
    torch.manual_seed(0)
    reference = open_clip_model(name).eval()
    for key, module in reference.named_modules():
        # As after training: no normalization is the identity, and what is in the image reaches the embedding.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            if key.endswith("bn3"):
                nn.init.uniform_(module.weight, 0.2, 0.4)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    path = save(reference.state_dict(), tmp_path / "open_clip.pt")
    fields = (
        {} if "quickgelu" in name else {"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}}
    )
    report = convert_checkpoint(path, tmp_path / "converted", num_context_vectors=0, prompt_generator=None, **fields)
    path.unlink()
    model = load(tmp_path / "converted").model
    (tmp_path / "converted" / "model.safetensors").unlink()
    assert set(report.left_over) == {"logit_scale"}
    assert any("activation" in note for note in report.notes) == (not fields)

    prompts = [[49406, 320, 1125, 49407], [49406, 4160, 49407], list(model.config.prompt_token_ids)]
    tokens = torch.zeros(3, 77, dtype=torch.long)
    pixels = nn.functional.interpolate(torch.randn(2, 3, 8, 8), size=224, mode="bicubic")
    with torch.inference_mode():
        mine = model.vision_tower(pixels).global_embedding
        theirs = reference.encode_image(pixels)
        assert (theirs[0] - theirs[1]).abs().max() > 0.1
        assert (mine - theirs).abs().max() < 1e-5
        for row, prompt in zip(tokens, prompts):
            row[: len(prompt)] = torch.tensor(prompt)
        theirs = reference.encode_text(tokens)
        assert (theirs[0] - theirs[1]).abs().max() > 0.1
        for prompt, expected in zip(prompts, theirs):
            model.text_tower.prompt_token_ids = torch.tensor([prompt])
            assert (model.text_tower()[0, 0] - expected).abs().max() < 1e-5


# ---------------------------------------------------------------------- CLIP


class Modules(nn.Module):
    """Parameters and buffers under any names, for TorchScript."""

    def __init__(self, state: dict):
        super().__init__()
        for name, value in state.items():
            owner_name, _, leaf = name.rpartition(".")
            module = self
            for part in owner_name.split(".") if owner_name else ():
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            if value.is_floating_point():
                module.register_parameter(leaf, nn.Parameter(value))
            else:
                module.register_buffer(leaf, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def as_half(state: dict) -> dict:
    return {key: value.half().float() if value.is_floating_point() else value for key, value in state.items()}


def save_torchscript(state: dict, path: Path) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    state["input_resolution"] = torch.tensor(64)
    torch.jit.save(torch.jit.script(Modules(state)), path)


@pytest.mark.parametrize("kind", ["pt", "safetensors", "old", "training", "custom_text", "torchscript", "vit"])
@pytest.mark.filterwarnings("ignore")  # TorchScript is announced to end
def test_clip(kind, tmp_path):
    state = clip_layouts.openai(clip_layouts.vit if kind == "vit" else clip_layouts.resnet)
    path = tmp_path / "clip.pt"
    if kind == "safetensors":
        path = tmp_path / "no_suffix"
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    elif kind == "old":
        torch.save(dict(state), path, _use_new_zipfile_serialization=False)
    elif kind == "training":
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": {"state": {0: torch.ones(3)}}}, path)
    elif kind == "custom_text":
        text = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
        save({f"text.{key}" if key.startswith(text) else key: value for key, value in state.items()}, path)
    elif kind == "torchscript":
        save_torchscript(state, path)
        state = as_half(state) | {"input_resolution": torch.tensor(64)}
    else:
        save(state, path)
    report = convert_checkpoint(path, tmp_path / "out", num_context_vectors=2, **SMALL)
    assert report.layout == ("openai-vit" if kind == "vit" else "openai") and not report.trained_detector
    left_over = 2 if kind == "torchscript" else 1
    if kind == "vit":
        model = load(tmp_path / "out")
        assert torch.equal(model.model.vision_tower.visual_projection.weight, state["visual.proj"].T)
        assert len(report.left_over) == left_over
    else:
        model = assert_taken_over(state, tmp_path / "out", report, left_over)
        assert model.config.vision_config.depths == [1, 2, 1, 1] and model.config.vision_config.image_size == 64
    assert model.config.text_config.max_position_embeddings == 77
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: mit" in card and "untrained" in card and "untrained" in report.summary()
    model(torch.zeros(1, 3, 64, 96))


def test_new_weights_start_as_in_a_new_model(tmp_path):
    path = save(clip_layouts.openai(), tmp_path / "clip.pt")
    fields = {**SMALL, "prompt_generator": "meta_query"}
    report = convert_checkpoint(path, tmp_path / "out", **fields)
    converted = load(tmp_path / "out")
    ours, fresh = converted.state_dict(), TCMForTextDetection(converted.config).state_dict()
    assert {key.split(".")[0] for key in report.new} == {"model", "detector"}
    for key in report.new:
        a, b = ours[key].float(), fresh[key].float()
        if b.numel() < 64 or b.std() == 0:  # constants
            assert b.std(correction=0) > 0 or torch.equal(a, b), key
        else:
            assert abs(a.mean() - b.mean()) < 0.4 * b.std() and 0.6 < a.std() / b.std() < 1.6, key
    # Always the same ones.
    convert_checkpoint(path, tmp_path / "again", **fields)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert weights[0] == weights[1]


def test_text_side_may_be_left_out(tmp_path):
    state = clip_layouts.openai()
    report = convert_checkpoint(save(state, tmp_path / "clip.pt"), tmp_path / "out", text_side=False)
    assert not load(tmp_path / "out").config.text_side
    assert {key for key in state if not key.startswith("visual.") or "attnpool" in key} == set(report.left_over)
    assert not [reason for reason in report.left_over.values() if "unknown" in reason]


def test_timm(tmp_path):
    state, names = clip_layouts.timm(), clip_layouts.resnet(clip_layouts.Names(), "visual.")
    save_file(dict(state), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50_clip", "num_classes": 1024}))
    with pytest.raises(ConversionError, match="image tower only.*text_side=False"):
        convert_checkpoint(tmp_path, tmp_path / "out")
    report = convert_checkpoint(tmp_path, tmp_path / "out", text_side=False)
    ours = load(tmp_path / "out").state_dict()
    for (name, value), source in zip(names.items(), state):
        ((key, expected),) = to_ours(name, value).items()
        if "attnpool" in name:
            assert "text side" in report.left_over[source]
        else:
            assert torch.equal(ours[key], expected) and report.mapped[key] == source
    assert set(report.files) == {"model.safetensors"}


@pytest.mark.parametrize("kind", ["safetensors", "shards", "bin"])
def test_transformers_clip(kind, clip_directory, tmp_path):
    fields = {**SMALL, "pyramid_channels": 16}
    expected = TCMForTextDetection.from_clip(clip_directory, **fields)
    weights = load_file(clip_directory / "model.safetensors")
    if kind == "shards":
        CLIPModel.from_pretrained(clip_directory).save_pretrained(clip_directory, max_shard_size="10KB")
        (clip_directory / "model.safetensors").unlink(missing_ok=True)
        assert len(list(clip_directory.glob("model-*.safetensors"))) > 1
    elif kind == "bin":
        (clip_directory / "model.safetensors").unlink()
        save({**weights, "text_model.embeddings.position_ids": torch.arange(24)}, clip_directory / "pytorch_model.bin")
    report = convert_checkpoint(clip_directory, tmp_path / "out", **fields)
    model = load(tmp_path / "out")
    assert model.config.vision_config.hidden_act == "gelu" and model.config.text_config.hidden_act == "quick_gelu"
    ours = model.state_dict()
    from_clip = {key: value for key, value in expected.state_dict().items() if key not in report.new}
    assert set(from_clip) == set(report.mapped) and set(report.mapped.values()) == set(weights) - {"logit_scale"}
    assert all(torch.equal(value, ours[key]) for key, value in from_clip.items())
    assert len(report.left_over) == (2 if kind == "bin" else 1)
    model(torch.zeros(1, 3, 64, 96))


def test_open_clip_directory_tells_the_activation(tmp_path):
    (tmp_path / "clip").mkdir()
    save(clip_layouts.openai(), tmp_path / "clip" / "open_clip_pytorch_model.bin")
    for quick, expected in ((True, "quick_gelu"), (False, "gelu")):
        settings = {"model_cfg": {"embed_dim": 32, **({"quick_gelu": True} if quick else {})}}
        (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps(settings))
        report = convert_checkpoint(tmp_path / "clip", tmp_path / expected, **SMALL)
        assert load(tmp_path / expected).config.text_config.hidden_act == expected
        assert not [note for note in report.notes if "activation" in note]


HUB = """
from tcm_hf.conversion.convert import convert_checkpoint
report = convert_checkpoint("tester/clip", "out", text_side=False)
assert report.source == "tester/clip"
try:
    convert_checkpoint("tester/absent", "absent")
except FileNotFoundError as error:
    print(error)
"""


def test_hub(clip_directory, tmp_path):
    files = {file.name: file.read_bytes() for file in clip_directory.iterdir()}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    with HubServer() as server:
        server.commit("tester/clip", {name: files[name] for name in ("config.json", "model.safetensors")})
        environment.update(HF_ENDPOINT=server.url, HF_HOME=str(tmp_path / "cache"), HF_HUB_DISABLE_XET="1")
        environment.update(NO_PROXY="127.0.0.1", OMP_NUM_THREADS="1", PYTHONPATH=str(Path(tcm_hf.__file__).parents[1]))

        process = subprocess.run(
            [sys.executable, "-c", HUB], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1].startswith(
        "tester/absent: there is no such file or directory, and no such model"
    )
    assert set(json.loads((tmp_path / "out" / "conversion_report.json").read_text())["files"]) == {"model.safetensors"}
    weights = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_file(clip_directory / "model.safetensors")["vision_model.embeddings.class_embedding"]
    assert torch.equal(weights["model.vision_tower.vision_model.embeddings.class_embedding"], expected)


# ---------------------------------------------------------------------- official detectors


@pytest.mark.parametrize("contexts", [0, 4, 18, 32])
@pytest.mark.parametrize("wrapper", ["plain", "mmcv", "module"])
def test_tcm_db(contexts, wrapper, tmp_path):
    state = clip_layouts.tcm(contexts=contexts)
    content = dict(state)
    if wrapper == "mmcv":
        optimizer = {
            "state": {0: {"step": 1, "exp_avg": torch.ones(3)}},
            "param_groups": [{"lr": 1e-4, "params": [0]}],
        }
        content = {
            "meta": {"epoch": 3, "CLASSES": None, "config": "x = 1"},
            "state_dict": content,
            "optimizer": optimizer,
        }
    elif wrapper == "module":
        content = {"state_dict": {f"module.{key}": value for key, value in content.items()}}
    path = tmp_path / "epoch_3.pth"
    torch.save(content, path)
    report = convert_checkpoint(path, tmp_path / "out", **TINY)
    model = assert_taken_over(state, tmp_path / "out", report, left_over=12)
    config = model.config
    assert report.trained_detector and not report.new
    assert (config.num_context_vectors, config.prompt_generator, config.detector) == (contexts, "conditional", "db")
    assert (config.decoder_layers, config.decoder_hidden_size, config.decoder_ffn_dim) == (2, 16, 24)
    assert (config.detector_config["neck_channels"], config.detector_config["head_channels"]) == (16, 8)
    assert all("exact simplification" in reason for reason in report.left_over.values())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card and "CC-BY-NC 4.0" in card and f"{contexts} learned vectors" in card
    assert str(tmp_path) not in card + (tmp_path / "out" / "conversion_report.json").read_text()


@pytest.mark.parametrize("detector", ["pan", "fce"])
@pytest.mark.parametrize("text_side", [True, False])
def test_other_detectors(detector, text_side, tmp_path):
    state = clip_layouts.tcm(detector, text_side=text_side)
    report = convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", preset="ic15", **TINY)
    model = assert_taken_over(state, tmp_path / "out", report, left_over=12 if text_side else 0)
    assert model.config.detector_config["neck_channels"] == 12
    if detector == "fce":
        assert model.config.detector_config["fourier_degree"] == 3
    processor = TCMImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.detector == detector and processor.do_upscale
    # FCE's official result keeps the contour, whatever shape its settings name.
    assert processor.decoding["shape"] == {"pan": "quad", "fce": "polygon"}[detector]
    # As the official pipelines do.
    assert processor.get_resized_size(97, 640) == {"pan": (202, 1333), "fce": (343, 2260)}[detector]
    assert [round(255 * value, 3) for value in processor.image_mean] == [123.675, 116.28, 103.53]


def test_dbnet(tmp_path):
    state = clip_layouts.tcm(text_side=False)
    report = convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out")
    model = assert_taken_over(state, tmp_path / "out", report)
    assert not model.config.text_side and report.num_parameters == sum(p.numel() for p in model.parameters())
    assert "DBNet" in (tmp_path / "out" / "README.md").read_text()


def test_fast_tcm(tmp_path):
    state = clip_layouts.tcm(meta_query=True)
    report = convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)
    model = assert_taken_over(state, tmp_path / "out", report, left_over=12)
    assert model.config.prompt_generator == "meta_query"
    # The projection as released, which nothing can be multiplied with.
    state["pix_w"] = torch.ones(clip_layouts.LENGTH, clip_layouts.HIDDEN)
    report = convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "released", **TINY)
    model = assert_taken_over(state, tmp_path / "released", report, left_over=13)
    assert torch.equal(model.model.bimodal_projection.weight, torch.eye(clip_layouts.LENGTH))
    assert list(report.new) == ["model.bimodal_projection.weight"] and "identity" in report.left_over["pix_w"]
    assert "cannot multiply" in (tmp_path / "released" / "README.md").read_text()
    assert "pix_w" in report.summary()


def test_parts_that_may_be_absent(tmp_path):
    state = {
        k: v for k, v in clip_layouts.tcm().items() if not k.startswith(("visual_prompt", "vis_gamma", "prompt_gen"))
    }
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    state["logit_scale"] = torch.tensor(3.0)
    state["ema_backbone_conv1_weight"] = torch.zeros(4, 3, 3, 3)
    state["backbone.extra.weight"] = torch.zeros(2)
    report = convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out", **TINY)
    config = load(tmp_path / "out").config
    assert (config.prompt_generator, config.visual_prompt, config.context_decoder) == (None, False, True)
    assert config.temperature == pytest.approx(np.exp(-3.0))
    assert all(key.endswith("num_batches_tracked") for key in report.new)
    assert (
        "average" in report.left_over["ema_backbone_conv1_weight"]
        and "unknown" in report.left_over["backbone.extra.weight"]
    )


def test_pipeline_and_presets(tmp_path):
    path = save(clip_layouts.tcm(), tmp_path / "x.pth")
    Image.effect_noise((80, 60), 90).convert("RGB").save(tmp_path / "photo.png")
    for preset, settings in PRESETS["db"].items():
        convert_checkpoint(path, tmp_path / preset, preset=preset, **TINY)
        processor = TCMImageProcessor.from_pretrained(tmp_path / preset)
        # The released models know no seeds.
        expected = {"seed_threshold": None, "seed_share": 0.15, "seed_gap": 0.6, **settings["decoding"]}
        assert processor.decoding == expected and dict(processor.size) == settings["size"]
        assert processor.do_upscale and [round(255 * v, 3) for v in processor.image_mean] == [
            122.679,
            116.669,
            104.007,
        ]
    assert processor.get_resized_size(180, 320) == (800, 1422)  # as the official pipeline does
    detector = pipeline("text-detection", model=str(tmp_path / "td500"))
    assert isinstance(detector(str(tmp_path / "photo.png"), size=64), list)
    # Nothing else is needed to load it where the package is not installed.
    files = {file.name for file in (tmp_path / "td500").iterdir()}
    assert {"modeling_tcm.py", "pipeline_text_detection.py", "config.json", "preprocessor_config.json"} <= files
    assert not any(name.startswith("convert") and name.endswith(".py") for name in files)
    with pytest.raises(ValueError, match=r"no preset 'mlt'.*ctw1500"):
        convert_checkpoint(path, tmp_path / "other", preset="mlt", **TINY)


# ---------------------------------------------------------------------- command line and memory


def test_command(tmp_path, capsys):
    def run(*arguments):
        capsys.readouterr()
        code = cli.main(["convert", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    source, ids = save(clip_layouts.tcm(), tmp_path / "x.pth"), f"prompt_token_ids={json.dumps(TOKENS)}"
    code, out, err = run(source, tmp_path / "out", "--preset", "td500", "--set", ids)
    assert code == 0 and err == "" and "left over: 12" in out and "exact simplification" in out
    assert TCMImageProcessor.from_pretrained(tmp_path / "out").decoding["unclip_ratio"] == 1.9
    clip = save(clip_layouts.openai(), tmp_path / "clip.pt")
    small = ["--set", "decoder_hidden_size=16", "--set", 'text_config={"hidden_act": "gelu"}', "--detector", "pan"]
    code, out, err = run(clip, tmp_path / "clip", "--set", ids, *small)
    assert code == 0 and "untrained" in out
    config = load(tmp_path / "clip").config
    assert (config.detector, config.decoder_hidden_size, config.text_config.hidden_act) == ("pan", 16, "gelu")
    assert run(clip, tmp_path / "plain", "--no-text-side")[0] == 0
    assert not load(tmp_path / "plain").config.text_side
    text = tmp_path / "notes.pth"
    text.write_text("no weights")
    for arguments, message in (
        ([source, tmp_path / "out", "--set", ids], "--overwrite"),
        ([text, tmp_path / "no"], "notes.pth is a text file"),
        ([tmp_path / "absent.pth", tmp_path / "no"], "absent.pth: there is no such file"),
        ([source, tmp_path / "no", "--set", ids, "--preset", "mlt"], "mlt"),
        ([source, tmp_path / "no", "--set", ids, "--set", "num_context_vectors=many"], "num_context_vectors"),
        ([source, tmp_path / "no", "--set", ids, "--set", "contexts=4"], "contexts"),
    ):
        code, out, err = run(*arguments)
        assert code == 1 and out == "" and len(err.splitlines()) == 1, err
        assert err.startswith("tcm-hf convert: error: ") and message in err
    with exclusive(tmp_path / "out"):
        code, out, err = run(source, tmp_path / "out", "--set", ids, "--overwrite")
    assert code == 1 and err.count("\n") == 1 and "another run is writing to" in err
    assert run(source, tmp_path / "no", "--set", "5")[0] == 2
    assert not (tmp_path / "no").exists()


MEMORY = """
import resource, sys
from tcm_hf.conversion.convert import convert_checkpoint
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
convert_checkpoint(sys.argv[1], sys.argv[2], prompt_token_ids=[0, 5, 99], decoder_layers=1)
print(peak() - before)
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["fp32", "torchscript"])
def test_memory(kind, tmp_path):
    pytest.importorskip("resource")
    # Few big weights and many middling ones, as in real files.
    state = clip_layouts.openai(vocabulary=16000, width=512, layers=8)
    path = tmp_path / "clip.pt"
    if kind == "torchscript":
        save_torchscript(state, path)
    else:
        save(state, path)
    del state
    environment = {**os.environ, "PYTHONPATH": str(Path(tcm_hf.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "out")]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    size = path.stat().st_size
    for file in (path, tmp_path / "out" / "model.safetensors"):
        file.unlink()
    assert size > 5e7 and int(process.stdout.splitlines()[-1]) < 2 * size
