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
"""Checkpoints travel: by directory and through the Hub, with this package and, by remote code, without it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_model import tiny_config
from transformers import AutoImageProcessor, AutoModel, AutoModelForObjectDetection, pipeline

import tcm_hf
from tcm_hf import TCMForTextDetection, TCMImageProcessor, TCMModel, TextDetectionPipeline


# What every script below starts with. `answers` is what the test compares.
PRELUDE = """
import json, sys
from pathlib import Path
arguments = json.loads(sys.argv[1])
report = {}

def message(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

"""
# Stands in for an environment in which the package is not installed.
WITHOUT_PACKAGE = "import sys\nsys.modules['tcm_hf'] = None\n"

PUBLISH = """
import tcm_hf
from transformers import pipeline
pipe = pipeline("text-detection", model=arguments["directory"])
pipe.push_to_hub("tester/whole")
pipe.model.push_to_hub("tester/parts")
pipe.image_processor.push_to_hub("parts")
report["parts_revision"] = pipe.model.push_to_hub("tester/parts", revision="next").oid
"""

USE_WITH_PACKAGE = """
import tcm_hf
from transformers import AutoImageProcessor, AutoModelForObjectDetection, pipeline
for name in ("whole", "parts"):
    pipe = pipeline("text-detection", model=f"tester/{name}")
    assert type(pipe.model) is tcm_hf.TCMForTextDetection and type(pipe) is tcm_hf.TextDetectionPipeline
    report[name] = pipe(arguments["picture"])
model = AutoModelForObjectDetection.from_pretrained("tester/parts", revision="next")
report["revision"] = pipeline("text-detection", model=model, image_processor=pipe.image_processor)(arguments["picture"])
load = tcm_hf.TCMForTextDetection.from_pretrained
report["absent"] = message(lambda: load("tester/absent"))
report["absent_pipeline"] = message(lambda: pipeline("text-detection", model="tester/absent"))
report["absent_revision"] = message(lambda: load("tester/whole", revision="absent"))
report["pickle"] = message(lambda: load("tester/pickle"))
report["pickle_pipeline"] = message(lambda: pipeline("text-detection", model="tester/pickle"))
report["empty"] = message(lambda: load("tester/empty"))
"""

USE_WITHOUT_PACKAGE = """
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForObjectDetection, pipeline
directory, again = arguments["directory"], arguments["again"]

def detect(model, **kwargs):
    pipe = pipeline("text-detection", model=model, trust_remote_code=True, **kwargs)
    assert type(pipe).__module__.startswith("transformers_modules."), type(pipe)
    return pipe(arguments["picture"])

# A directory.
report["no_trust"] = message(lambda: pipeline("text-detection", model=directory, trust_remote_code=False))
pipe = pipeline("text-detection", model=directory, trust_remote_code=True)
report["directory"] = pipe(arguments["picture"])
report["task_from_config"] = pipeline(model=directory, trust_remote_code=True).task

# Its parts, without the pipeline.
model = AutoModelForObjectDetection.from_pretrained(directory, trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(directory, trust_remote_code=True)
report["processors"] = [
    type(AutoImageProcessor.from_pretrained(directory, trust_remote_code=True, backend=backend)).__name__
    for backend in ("pil", "torchvision")
]
image = Image.open(arguments["picture"])
inputs = processor(image, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
    base = AutoModel.from_pretrained(directory, trust_remote_code=True)
    report["base"] = [type(base).__name__, torch.equal(base(**inputs).score_map, outputs.score_map)]
texts = processor.post_process_text_detection(outputs, target_sizes=[(image.height, image.width)])[0]
report["parts"] = [polygon.tolist() for polygon in texts["polygons"]]

# Saved once more, from here.
pipe.save_pretrained(again)
report["again"] = detect(again)
pipe.model.save_pretrained(again + "_model")
pipe.image_processor.save_pretrained(again + "_model")
report["model_config"] = json.loads(Path(again + "_model", "config.json").read_text())
report["again_parts"] = len(AutoModelForObjectDetection.from_pretrained(again + "_model", trust_remote_code=True).state_dict())

# The Hub.
report["whole"] = detect("tester/whole")
model = AutoModelForObjectDetection.from_pretrained("tester/parts", trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained("tester/parts", trust_remote_code=True)
report["hub_parts"] = type(pipe)(model=model, image_processor=processor)(arguments["picture"])
pipe.push_to_hub("tester/again")
report["hub_again"] = detect("tester/again")
"""


@pytest.fixture(scope="module")
def pipe(picture):
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_config()).eval()
    decoding = {"threshold": 0.1, "mask_threshold": 0.5, "unclip_ratio": 0.3, "min_size": 1.0}
    processor = TCMImageProcessor(size={"shortest_edge": 96, "longest_edge": 192}, decoding=decoding)
    with torch.no_grad():
        # A random model has nearly the same probability everywhere. Now about half of the picture is text, and no pixel
        # so close to the threshold that rounding could change an answer.
        last = model.detector.probability_branch[-1]
        last.weight.mul_(50.0)
        logits = model(**processor(picture, return_tensors="pt")).logits.flatten().sort().values
        middle = logits[len(logits) * 2 // 5 : len(logits) * 3 // 5]
        gap = middle.diff().argmax()
        last.bias.sub_((middle[gap] + middle[gap + 1]) / 2)
    return TextDetectionPipeline(model=model, image_processor=processor, task="text-detection", device="cpu")


@pytest.fixture(scope="module")
def checkpoint(pipe, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    pipe.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    patches = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(patches).resize((200, 150), Image.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def expected(pipe, picture):
    texts = pipe(str(picture))
    assert len(texts) > 2
    return texts


@pytest.fixture(scope="module")
def hub(checkpoint):
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def published(hub, checkpoint, tmp_path_factory) -> dict:
    report = run(PRELUDE + PUBLISH, tmp_path_factory.mktemp("publish"), hub, directory=str(checkpoint))
    config = (checkpoint / "config.json").read_bytes()
    hub.commit("tester/pickle", {"config.json": config, "pytorch_model.bin": b"not to be read"})
    hub.commit("tester/empty", {"config.json": config})
    return report


def run(script: str, home: Path, hub: HubServer, **arguments: str) -> dict:
    """Runs a script in a fresh process that has an empty cache and knows only the hub; returns its `report`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    environment.update(
        HF_ENDPOINT=hub.url,
        HF_HOME=str(home / "cache"),
        HF_HUB_DISABLE_XET="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_TOKEN="hf_test",
        NO_PROXY="127.0.0.1",
        OMP_NUM_THREADS="1",
        PYTHONPATH=str(Path(tcm_hf.__file__).parents[1]),
    )
    process = subprocess.run(
        [sys.executable, "-c", script + "\nprint(json.dumps(report))", json.dumps(arguments)],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,  # a question would fail
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def assert_same(texts: list[dict], expected: list[dict]) -> None:
    """Same answers; scores are free in what the alignment of memory changes."""
    strip = [[{key: text[key] for key in ("label", "box", "polygon")} for text in many] for many in (texts, expected)]
    assert strip[0] == strip[1]
    assert [text["score"] for text in texts] == pytest.approx([text["score"] for text in expected], abs=1e-4)


@pytest.fixture
def no_questions(monkeypatch):
    def ask(prompt=""):
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", ask)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def copy_without_weights(checkpoint: Path, directory: Path) -> Path:
    shutil.copytree(checkpoint, directory)
    (directory / "model.safetensors").unlink()
    return directory


# ---------------------------------------------------------------------- directories


def test_saved_pipeline_is_complete(checkpoint):
    config = read_json(checkpoint / "config.json")
    assert config["auto_map"] == {
        "AutoConfig": "configuration_tcm.TCMConfig",
        "AutoModel": "modeling_tcm.TCMModel",
        "AutoModelForObjectDetection": "modeling_tcm.TCMForTextDetection",
    }
    assert config["custom_pipelines"] == {
        "text-detection": {
            "impl": "pipeline_text_detection.TextDetectionPipeline",
            "pt": ["AutoModelForObjectDetection"],
            "type": "image",
        }
    }
    preprocessor = read_json(checkpoint / "preprocessor_config.json")
    assert preprocessor["auto_map"] == {"AutoImageProcessor": "image_processing_tcm.TCMImageProcessor"}
    for file in checkpoint.glob("*.py"):
        assert file.read_bytes() == (Path(tcm_hf.__file__).parent / file.name).read_bytes()
        for name in re.findall(r"^\s*from \.(\S*) import", file.read_text(), re.MULTILINE):
            assert (checkpoint / f"{name}.py").is_file(), f"{file.name} needs {name}.py"
    # Nothing of the machine that it was saved on.
    assert not [f.name for f in checkpoint.glob("*.json") if str(Path(tcm_hf.__file__).parent) in f.read_text()]


@pytest.mark.parametrize("model_class", [TCMModel, TCMForTextDetection])
def test_saved_model_names_all_classes(model_class, tmp_path):
    model_class(tiny_config()).save_pretrained(tmp_path)
    config = read_json(tmp_path / "config.json")
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForObjectDetection"}
    assert "custom_pipelines" not in config


def test_directory_with_package(checkpoint, pipe, picture, expected, tmp_path, no_questions):
    pipe.model.save_pretrained(tmp_path)
    pipe.image_processor.save_pretrained(tmp_path)
    for directory in (checkpoint, tmp_path):
        for options in ({}, {"trust_remote_code": True}):
            loaded = pipeline("text-detection", model=str(directory), **options)
            assert type(loaded) is TextDetectionPipeline and type(loaded.model) is TCMForTextDetection
            assert type(loaded.image_processor) is TCMImageProcessor
            assert_same(loaded(str(picture)), expected)
        assert type(AutoModel.from_pretrained(directory)) is TCMModel
        assert type(AutoModelForObjectDetection.from_pretrained(directory)) is TCMForTextDetection
        assert type(AutoImageProcessor.from_pretrained(directory)) is TCMImageProcessor
    # A model that came from a whole checkpoint does not name the pipeline's file, which it does not save.
    AutoModelForObjectDetection.from_pretrained(checkpoint).save_pretrained(tmp_path / "again")
    assert "custom_pipelines" not in read_json(tmp_path / "again" / "config.json")


def test_pickle_is_refused(checkpoint, pipe, tmp_path):
    directory = copy_without_weights(checkpoint, tmp_path / "pickle")
    torch.save(pipe.model.state_dict(), directory / "pytorch_model.bin")
    for load in (TCMForTextDetection.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(OSError, match=r"pickle has its weights in pytorch_model\.bin.*use_safetensors=False"):
            load(directory)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
        pipeline("text-detection", model=str(directory))
    # The remedy that the message gives.
    TCMForTextDetection.from_pretrained(directory, use_safetensors=False).save_pretrained(tmp_path / "converted")
    converted = TCMForTextDetection.from_pretrained(tmp_path / "converted").state_dict()
    assert all(torch.equal(value, converted[key]) for key, value in pipe.model.state_dict().items())


def test_no_weights_or_damaged_ones(checkpoint, tmp_path):
    directory = copy_without_weights(checkpoint, tmp_path / "broken")
    with pytest.raises(OSError, match=r"broken holds no weights: it has no model\.safetensors"):
        TCMForTextDetection.from_pretrained(directory)
    weights = (checkpoint / "model.safetensors").read_bytes()
    for size in (0, 1000, len(weights) - 10):
        (directory / "model.safetensors").write_bytes(weights[:size])
        with pytest.raises(OSError, match="The weights of .*broken are damaged"):
            TCMForTextDetection.from_pretrained(directory)


def test_checkpoint_lacks_weights(checkpoint, tmp_path):
    weights = load_file(checkpoint / "model.safetensors")
    missing = sorted(key for key in weights if key.startswith("detector.neck."))
    directory = copy_without_weights(checkpoint, tmp_path / "incomplete")
    kept = {key: value for key, value in weights.items() if key not in missing}
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"incomplete' lacks {len(missing)} weights.*{re.escape(missing[0])}"):
        pipeline("text-detection", model=str(directory))
    # It can be loaded to be trained, and then it is complete.
    model, info = TCMForTextDetection.from_pretrained(directory, output_loading_info=True)
    assert sorted(info["missing_keys"]) == missing == list(model.missing_weights)
    model.train()
    model.save_pretrained(directory)
    assert type(pipeline("text-detection", model=str(directory))) is TextDetectionPipeline
    assert type(pipeline("text-detection", model=model, image_processor=str(directory))) is TextDetectionPipeline


def test_detector_on_a_base_model(pipe, tmp_path):
    pipe.model.model.save_pretrained(tmp_path)
    model, info = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] and all(key.startswith("detector.") for key in info["missing_keys"])
    assert not info["unexpected_keys"]
    for key, value in pipe.model.model.state_dict().items():
        assert torch.equal(model.model.state_dict()[key], value), key


# ---------------------------------------------------------------------- the Hub, and other processes


def test_published_files(published, hub, checkpoint):
    names = {path.name for path in checkpoint.iterdir()}
    whole, parts = hub.files("tester/whole"), hub.files("tester/parts")
    assert set(whole) == names | {"README.md", ".gitattributes"}
    assert set(parts) == set(whole) - {"pipeline_text_detection.py"}
    for name in names - {"config.json"}:
        assert whole[name] == (checkpoint / name).read_bytes(), name
    assert parts["model.safetensors"] == whole["model.safetensors"]
    config, parts_config = json.loads(whole["config.json"]), json.loads(parts["config.json"])
    assert config.pop("custom_pipelines") == read_json(checkpoint / "config.json")["custom_pipelines"]
    assert config == parts_config
    assert hub.branches["tester/parts"]["next"] == published["parts_revision"]


def test_hub_with_package(published, hub, picture, expected, tmp_path):
    report = run(PRELUDE + USE_WITH_PACKAGE, tmp_path, hub, picture=str(picture))
    for name in ("whole", "parts", "revision"):
        assert_same(report[name], expected)
    assert re.search("tester/absent is not a local folder and is not a valid model identifier", report["absent"])
    assert "tester/absent is not a local folder" in report["absent_pipeline"]
    assert "absent is not a valid git identifier" in report["absent_revision"]
    assert re.search(r"^OSError: tester/pickle has its weights in pytorch_model\.bin only", report["pickle"])
    assert "tester/pickle has its weights in pytorch_model.bin only" in report["pickle_pipeline"]
    assert report["empty"] == "OSError: tester/empty holds no weights: it has no model.safetensors."
    assert not [path for method, path in hub.requests if method == "GET" and path.endswith(".bin")]


def test_without_package(published, hub, checkpoint, picture, expected, tmp_path):
    report = run(
        WITHOUT_PACKAGE + PRELUDE + USE_WITHOUT_PACKAGE,
        tmp_path,
        hub,
        directory=str(checkpoint),
        again=str(tmp_path / "again"),
        picture=str(picture),
    )
    assert "trust_remote_code=True" in report["no_trust"]
    assert report["task_from_config"] == "text-detection"
    for name in ("directory", "again", "whole", "hub_parts", "hub_again"):
        assert_same(report[name], expected)
    assert report["parts"] == [text["polygon"] for text in expected]
    assert report["processors"] == ["TCMImageProcessor", "TCMImageProcessor"]
    assert report["base"] == ["TCMModel", True]
    # What is saved without the package is what is saved with it.
    assert {path.name for path in (tmp_path / "again").iterdir()} == {path.name for path in checkpoint.iterdir()}
    configs = [read_json(directory / "config.json") for directory in (tmp_path / "again", checkpoint)]
    for key in ("auto_map", "custom_pipelines", "architectures", "model_type"):
        assert configs[0][key] == configs[1][key]
    assert "custom_pipelines" not in report["model_config"]
    assert set(report["model_config"]["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForObjectDetection"}
    assert report["again_parts"] == len(load_file(checkpoint / "model.safetensors"))
