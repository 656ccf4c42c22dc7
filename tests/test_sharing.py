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
from huggingface_hub import ModelCard
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

PUSH_ONTO = """
import shutil
from huggingface_hub import HfApi, ModelCard, ModelCardData
from tcm_hf import TCMForTextDetection, TCMImageProcessor, TextDetectionPipeline
from tcm_hf.model.model_card import write_model_card
from transformers import pipeline
import tcm_hf
checkpoint, trained = arguments["checkpoint"], Path(arguments["directory"])
pipe = pipeline("text-detection", model=checkpoint)
api = HfApi()

def put(repository, name, text):
    api.create_repo(repository, exist_ok=True)
    api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, repo_id=repository)

pipe.push_to_hub("tester/whole_again")
put("tester/whole_again", "README.md", "---\\r\\nlicense: mit\\r\\n---\\r\\nMine.\\r\\n")
pipe.model.push_to_hub("tester/whole_again")
pipe.image_processor.push_to_hub("tester/whole_again")
pipe.push_to_hub("tester/whole_again")
pipe.model.push_to_hub("tester/whole_again")
pipe.model.push_to_hub("tester/whole_again", revision="next", tags=["asked"])
pipe.push_to_hub("tester/whole_config")
pipe.model.config.push_to_hub("tester/whole_config")
pipe.push_to_hub("tester/saved")
pipe.model.save_pretrained("saved", push_to_hub=True, repo_id="tester/saved")
put("tester/no_code", "config.json", Path(checkpoint, "config.json").read_text())
pipe.model.push_to_hub("tester/no_code")

# What training leaves.
shutil.copytree(checkpoint, trained)
write_model_card(
    trained, pipe.model.config, training={"steps": 7}, license="mit", dataset="me/words",
    metrics={"eval_hmean": 0.5, "eval_precision": 0.6, "eval_recall": 0.4},
)
report["card"] = (trained / "README.md").read_text() + "![Words](shown.png) ![](../config.json)\\n"
(trained / "README.md").write_text(report["card"])
(trained / "shown.png").write_text("an image")
model = TCMForTextDetection.from_pretrained(trained)
processor = TCMImageProcessor.from_pretrained(trained)
model.push_to_hub("tester/trained_model")
processor.push_to_hub("tester/trained_processor")
pipeline("text-detection", model=str(trained)).push_to_hub("tester/trained_pipeline")
description = (
    "This is the model card of a \\N{HUGGING FACE} transformers model that has been pushed on the Hub. This model card has "
    "been automatically generated."
)
template = ModelCard.from_template(ModelCardData(library_name="transformers", tags=[]), model_description=description)
put("tester/template", "README.md", str(template))
model.push_to_hub("tester/template")
TCMImageProcessor().push_to_hub("tester/processor_first")
model.push_to_hub("tester/processor_first")
TCMImageProcessor().push_to_hub("tester/processor_first")
# A checkpoint on the way has no card.
state = {"log_history": [{"step": 1, "eval_hmean": 0.1}, {"step": 2, "eval_hmean": 0.71234, "eval_precision": 0.8, "eval_recall": 0.6}, {"step": 2, "loss": 1.0}]}
shutil.copytree(checkpoint, "checkpoint-2")
Path("checkpoint-2", "trainer_state.json").write_text(json.dumps(state))
TCMForTextDetection.from_pretrained("checkpoint-2").push_to_hub("tester/checkpoint")
TCMForTextDetection.from_pretrained("checkpoint-2").train().push_to_hub("tester/trained_on")
# Trained and published twice; a processor from elsewhere in between.
shutil.copytree(checkpoint, "twice")
report["twice"] = []
for steps in (10, 20):
    write_model_card("twice", pipe.model.config, training={"steps": steps})
    report["twice"].append(Path("twice", "README.md").read_text())
    processor.push_to_hub("tester/twice" if steps == 20 else "tester/once")
    model = TCMForTextDetection.from_pretrained("twice")
    model.push_to_hub("tester/twice")
    if steps == 10:
        model.push_to_hub("tester/processor_last")
        processor.push_to_hub("tester/processor_last")
# A card that push_to_hub made up, and somebody edited.
TCMForTextDetection(pipe.model.config).push_to_hub("tester/edited")
report["edited"] = Path(api.hf_hub_download("tester/edited", "README.md")).read_text().replace("Nothing was", "Much was")
put("tester/edited", "README.md", report["edited"])
model.push_to_hub("tester/edited")
other = TCMForTextDetection.from_pretrained(trained, detector="pan", ignore_mismatched_sizes=True)
other.push_to_hub("tester/other_detector")
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
        # A random model has nearly the same probability everywhere. Now about half of the image is text, and no pixel
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
    report["directory"] = str(checkpoint)
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
        assert file.read_bytes() == (Path(tcm_hf.__file__).parent / "model" / file.name).read_bytes()
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


@pytest.mark.parametrize("save", ["model", "configuration", "processor"])
def test_saving_over_a_whole_checkpoint_keeps_its_pipeline(save, checkpoint, pipe, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(checkpoint, whole)
    (whole / "README.md").write_text("My card.")
    saved = {"model": pipe.model, "configuration": pipe.model.config, "processor": pipe.image_processor}[save]
    saved.save_pretrained(whole)
    assert (
        read_json(whole / "config.json")["custom_pipelines"]
        == read_json(checkpoint / "config.json")["custom_pipelines"]
    )
    assert (whole / "README.md").read_text() == "My card."
    assert not hasattr(pipe.model.config, "custom_pipelines")
    # Without its code a pipeline is not named, nor is that of another kind of model, or one outside of the directory.
    (whole / "pipeline_text_detection.py").rename(whole / "other.py")
    saved.save_pretrained(whole)
    assert ("custom_pipelines" in read_json(whole / "config.json")) == (save == "processor")
    for changes in (
        {"model_type": "bert"},
        {"custom_pipelines": {"x": {"impl": "../other.X"}, "y": {"impl": 3}, "z": 3}},
    ):
        config = {"model_type": "tcm", "custom_pipelines": {"text-detection": {"impl": "other.X"}}, **changes}
        (whole / "config.json").write_text(json.dumps(config))
        pipe.model.config.save_pretrained(whole)
        assert "custom_pipelines" not in read_json(whole / "config.json")


def test_processor_does_not_save_where_it_came_from(checkpoint, tmp_path):
    processor = TCMImageProcessor.from_pretrained(checkpoint)
    processor.save_pretrained(tmp_path)
    assert processor.card_source == str(checkpoint)
    assert (tmp_path / "preprocessor_config.json").read_bytes() == (
        checkpoint / "preprocessor_config.json"
    ).read_bytes()


# ---------------------------------------------------------------------- the Hub, and other processes


def test_published_files(published, hub, checkpoint):
    names = {path.name for path in checkpoint.iterdir()}
    whole, parts = hub.files("tester/whole"), hub.files("tester/parts")
    assert set(whole) == names | {"README.md", ".gitattributes"}
    assert set(parts) == set(whole) - {"pipeline_text_detection.py", "tiling.py", "turning.py"}
    for name in names - {"config.json"}:
        assert whole[name] == (checkpoint / name).read_bytes(), name
    assert parts["model.safetensors"] == whole["model.safetensors"]
    config, parts_config = json.loads(whole["config.json"]), json.loads(parts["config.json"])
    assert config.pop("custom_pipelines") == read_json(checkpoint / "config.json")["custom_pipelines"]
    assert config == parts_config
    assert hub.branches["tester/parts"]["next"] == published["parts_revision"]
    # A card that tells what it is, although nothing but the weights is known.
    for name, files in (("whole", whole), ("parts", parts)):
        card = ModelCard(files["README.md"].decode())
        assert card.data.pipeline_tag == "object-detection" and card.data.library_name == "transformers"
        assert {"text-detection", "scene-text-detection", "tcm"} <= set(card.data.tags)
        assert "TCM with the DB detector" in card.text and f'model="tester/{name}"' in card.text
        assert "Nothing was measured" in card.text and "More Information Needed" not in card.text


def test_pushing_keeps_what_a_repository_has(published, hub, tmp_path):
    whole = json.loads(hub.files("tester/whole")["config.json"])
    report = run(
        PRELUDE + PUSH_ONTO, tmp_path, hub, directory=str(tmp_path / "trained"), checkpoint=published["directory"]
    )
    for name in ("tester/whole_again", "tester/whole_config", "tester/saved"):
        assert json.loads(hub.files(name)["config.json"])["custom_pipelines"] == whole["custom_pipelines"], name
    branch = hub.files("tester/whole_again", "next")
    assert json.loads(branch["config.json"])["custom_pipelines"] == whole["custom_pipelines"]
    # A pipeline whose code is not there is not named.
    assert "custom_pipelines" not in json.loads(hub.files("tester/no_code")["config.json"])
    # A card that somebody wrote stays as it is, to the byte, but for the tags that are asked for.
    assert hub.files("tester/whole_again")["README.md"] == b"---\r\nlicense: mit\r\n---\r\nMine.\r\n"
    assert ModelCard(branch["README.md"].decode()).data.tags == ["asked"] and b"Mine." in branch["README.md"]
    # That of training goes with what it is about.
    for name in ("model", "processor", "pipeline"):
        assert hub.files(f"tester/trained_{name}")["README.md"] == report["card"].encode(), name
        assert hub.files(f"tester/trained_{name}")["shown.png"] == b"an image", name
    # Also where transformers had put its empty one, or the processor was first, which knows no model.
    for name in ("tester/template", "tester/processor_first"):
        assert hub.files(name)["README.md"] == report["card"].encode(), name
    assert hub.files("tester/twice")["README.md"].decode() == report["twice"][1]
    assert hub.files("tester/processor_last")["README.md"].decode() == report["twice"][0]
    assert hub.files("tester/edited")["README.md"].decode() == report["edited"]
    # Figures that training left are told, and cards of other weights are not.
    card = ModelCard(hub.files("tester/checkpoint")["README.md"].decode())
    assert [(result.metric_name, result.metric_value) for result in card.data.eval_results][0] == ("hmean", 0.7123)
    for name in ("tester/trained_on", "tester/other_detector"):
        assert "Nothing was measured" in hub.files(name)["README.md"].decode(), name


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
