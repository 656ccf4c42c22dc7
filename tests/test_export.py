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
"""Exported folders: their network and code beside the model, in a process without torch and in a pipeline."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import shared_path
from PIL import Image
from tiny_model import tiny_detector

from tcm_hf import TCMImageProcessor, TCMRuntimeModel, checkpoint_path
from tcm_hf.cli import main
from tcm_hf.export import folder as export_folder
from tcm_hf.export.folder import check_output, export_model, match
from tcm_hf.export.runtime import RuntimeDetector
from tcm_hf.model.pipeline_text_detection import TextDetectionPipeline


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would write an id into the home directory

# Maps of random weights are nearly flat: thresholds that lie among their values.
DECODING = {
    "db": {"mask_threshold": 0.5, "threshold": 0.3},
    "pan": {"mask_threshold": 0.53, "kernel_threshold": 0.54, "threshold": 0.4, "min_area": 4},
    "fce": {"threshold": 0.3},
}
# Heights and widths, none of them a multiple of 32.
SIZES = ((211, 301), (150, 97))

BLOCKED = """
import runpy, sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "tcm_hf", "huggingface_hub", "safetensors"):
            raise ImportError(name + " is imported")

sys.meta_path.insert(0, Refusing())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def blurred_noise(folder: Path) -> list[str]:
    """Images whose maps have hills and valleys."""
    generator, paths = np.random.default_rng(0), []
    for number, (height, width) in enumerate(SIZES):
        small = generator.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(small).resize((width, height)).save(paths[-1])
    return paths


def save_tiny(detector: str, folder: Path) -> Path:
    tiny_detector("resnet", detector).save_pretrained(folder)
    size = {"shortest_edge": 150, "longest_edge": 400}
    TCMImageProcessor(detector=detector, size=size, decoding=DECODING[detector]).save_pretrained(folder)
    return folder


def need(runtime: str) -> None:
    for package in export_folder.PACKAGES[runtime]:
        pytest.importorskip(package, reason=f"exporting to {runtime} needs {package}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model with the detector PAN, what was exported of it, and images."""
    need("onnx")
    root = tmp_path_factory.mktemp("export")
    model, images = save_tiny("pan", root / "model"), blurred_noise(root)
    parity = export_model("onnx", root / "exported", model=model, images=images)
    return model, root / "exported", images, parity


def run_blocked(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED, str(folder / "detect.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)


def pipeline_of(model: Path, **options) -> TextDetectionPipeline:
    from transformers import pipeline

    return pipeline("text-detection", model=str(model), device="cpu", **options)


def assert_same_texts(found: list[dict], wanted: list[dict]) -> None:
    assert len(found) == len(wanted)
    polygons = [[np.asarray(text["polygon"]) for text in texts] for texts in (found, wanted)]
    overlaps = match(*polygons)
    assert len(overlaps) == len(wanted) and min(overlaps, default=1) > 0.98
    scores = [sorted(text["score"] for text in texts) for texts in (found, wanted)]
    np.testing.assert_allclose(*scores, atol=2e-4)


# ---------------------------------------------------------------------- what the folder does


def test_detect_script_needs_no_torch(exported):
    model, folder, images, _ = exported
    missing = str(folder / "missing.png")
    outcome = run_blocked(folder, *images, missing, "--reading-order")
    assert outcome.returncode == 1, outcome.stderr
    entries = json.loads(outcome.stdout)
    pipe = pipeline_of(model)
    for path, entry in zip(images, entries):
        wanted = pipe(path, reading_order=True)
        assert wanted, "nothing to compare"
        assert_same_texts(entry["detections"], wanted)
        assert entry["image"] == path and (entry["height"], entry["width"]) in SIZES
        assert entry["detections"][0]["label"] == "text" and entry["detections"][0].keys() == wanted[0].keys()
    assert "no such file" in entries[-1]["error"] and outcome.stderr.count("\n") == 1


def test_detect_script_prints_what_the_command_prints(exported, capfd):
    model, folder, images, _ = exported
    assert main(["detect", *images, "--model", str(model), "--device", "cpu", "--shape", "quad"]) == 0
    wanted = json.loads(capfd.readouterr().out)
    found = json.loads(run_blocked(folder, *images, "--shape", "quad").stdout)
    for mine, theirs in zip(found, wanted):
        assert_same_texts(mine.pop("detections"), theirs.pop("detections"))
        assert mine == theirs


def test_the_code_in_the_folder_is_the_package_s_own(exported):
    _, folder, _, _ = exported
    package = Path(export_folder.__file__).parents[1]
    for name in export_folder.code_files("pan"):
        assert (folder / "tcm_runtime" / name).read_bytes() == (package / name).read_bytes()


def test_card_has_the_measured_figures(exported):
    _, folder, _, parity = exported
    text = (folder / "README.md").read_text()
    assert parity.regions == parity.found > 0 and parity.least_iou > 0.98 and parity.probability < 1e-4
    assert f"{parity.probability:.1e}" in text and f"{parity.regions}, {parity.found}" in text


@pytest.mark.parametrize(
    "size, do_upscale, max_upscale, backend",
    [
        ({"shortest_edge": 96, "longest_edge": 130}, False, None, "pillow"),
        ({"shortest_edge": 400, "longest_edge": 900}, True, 1.5, "opencv"),
        ({"max_height": 100, "max_width": 333}, True, None, "pillow"),
        ({"height": 77, "width": 131}, False, None, "opencv"),
    ],
)
def test_pixels_are_those_of_the_image_processor(exported, size, do_upscale, max_upscale, backend):
    model, folder, images, _ = exported
    settings = {"size": size, "do_upscale": do_upscale, "max_upscale": max_upscale, "resize_backend": backend}
    processor = TCMImageProcessor.from_pretrained(model, **settings)
    detector = RuntimeDetector(folder, threads=1, **settings)
    for path in images:
        wanted = processor(path, return_tensors="np", do_pad=False)["pixel_values"][0]
        np.testing.assert_array_equal(detector.prepare(Image.open(path))[0], wanted)


def test_pipeline_takes_the_folder(exported):
    model, folder, images, _ = exported
    pipe = pipeline_of(model)
    runtime = TextDetectionPipeline(
        TCMRuntimeModel.from_pretrained(folder, threads=1),
        image_processor=TCMImageProcessor.from_pretrained(folder),
        device="cpu",
    )
    # One by one, and padded to a common size in a batch.
    for batch_size in (1, 2):
        for mine, theirs in zip(runtime(images, batch_size=batch_size), pipe(images, batch_size=batch_size)):
            assert_same_texts(mine, theirs)


def test_command_detects_with_the_folder(exported, capfd):
    model, folder, images, _ = exported
    outputs = []
    for name in (model, folder):
        assert main(["detect", images[0], "--model", str(name), "--device", "cpu"]) == 0
        outputs.append(json.loads(capfd.readouterr().out)[0]["detections"])
    assert_same_texts(*reversed(outputs))


def test_runtime_model_stays_on_the_cpu(exported):
    model = TCMRuntimeModel.from_pretrained(exported[1], threads=1)
    assert model.to("cpu") is model
    with pytest.raises(ValueError, match="runs on the CPU, not on cuda"):
        model.to(torch.device("cuda"))
    with pytest.raises(ValueError, match="float32"):
        model.to(torch.float16)


# ---------------------------------------------------------------------- what is refused


class Copied:
    """An export that was made before: what follows it is tried without waiting."""

    def __init__(self, source: Path):
        self.source = source

    def save_pretrained(self, directory: Path) -> None:
        for file in self.source.glob("*"):
            if file.name.startswith("model.onnx") or file.name == "export.json":
                shutil.copy(file, directory / file.name)


@pytest.fixture
def quick(exported, monkeypatch):
    model, folder, images, _ = exported
    monkeypatch.setattr(export_folder, "export_network", lambda model, runtime: Copied(folder))
    return lambda output, **options: export_model("onnx", output, model=model, images=images[:1], **options)


def test_foreign_folders_are_kept(quick, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="holds no export"):
            quick(tmp_path, overwrite=overwrite)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileExistsError, match="is a file"):
        check_output(tmp_path / "mine.txt", True)


def test_an_export_is_replaced_when_asked_to(quick, tmp_path):
    output = tmp_path / "exported"
    quick(output)
    (output / "old.txt").write_text("old")
    with pytest.raises(FileExistsError, match="--overwrite"):
        quick(output)
    quick(output, overwrite=True)
    assert not (output / "old.txt").exists() and (output / "detect.py").is_file()
    assert [file.name for file in tmp_path.iterdir()] == ["exported"]


def test_an_export_that_differs_is_not_written(quick, tmp_path, monkeypatch):
    save = Copied.save_pretrained

    def save_another(self, directory):
        import onnx

        save(self, directory)
        network = onnx.load(directory / "model.onnx")
        for weight in network.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            if values.dtype == np.float32 and values.ndim == 4:
                weight.CopyFrom(onnx.numpy_helper.from_array(-values, weight.name))
        onnx.save(network, directory / "model.onnx")

    monkeypatch.setattr(Copied, "save_pretrained", save_another)
    with pytest.raises(ValueError, match="differs from the model by"):
        quick(tmp_path / "exported")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime, package", [("onnx", "onnxscript"), ("openvino", "openvino")])
def test_missing_packages_are_named(runtime, package, tmp_path, monkeypatch, capsys):
    find = export_folder.importlib.util.find_spec
    monkeypatch.setattr(
        export_folder.importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    assert main(["export", runtime, str(tmp_path / "exported")]) == 2
    error = capsys.readouterr().err
    assert package in error and f"pip install 'tcm_hf[{runtime}]'" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("onnx", "--int8", "--calibration", "a.jpg"), "--int8 is for openvino"),
        (("openvino", "--int8"), "--int8 and --calibration"),
        (("openvino", "--calibration", "a.jpg"), "--int8 and --calibration"),
        (("openvino", "--int8", "--calibration", "a.jpg"), "pip install 'tcm_hf[int8]'"),
    ],
)
def test_what_int8_needs(arguments, message, tmp_path, monkeypatch, capsys):
    find = export_folder.importlib.util.find_spec
    found = {"openvino": sys.__spec__, "nncf": None}
    monkeypatch.setattr(export_folder.importlib.util, "find_spec", lambda name: found.get(name, find("json")))
    runtime, *options = arguments
    assert main(["export", runtime, str(tmp_path / "exported"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_int8_is_for_openvino_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(export_folder, "check_packages", lambda extra: None)
    for runtime, calibration in (("onnx", ["a.jpg"]), ("openvino", [])):
        with pytest.raises(ValueError, match="int8 is for openvino"):
            export_model(runtime, tmp_path / "exported", calibration=calibration)
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
        export_model("openvino", tmp_path / "exported", calibration=[str(tmp_path / "missing.jpg")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "..", "", None, 7])
def test_nothing_outside_of_the_folder_is_opened(exported, tmp_path, name):
    folder = tmp_path / "exported"
    shutil.copytree(exported[1], folder)
    manifest = json.loads((folder / "export.json").read_text())
    manifest["components"]["model"]["file"] = name
    (folder / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="export.json names no network"):
        RuntimeDetector(folder)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("export.json", "{", "export.json is no JSON"),
        ("export.json", "[]", "has to hold an object"),
        ("preprocessor_config.json", '{"detector": "toy"}', "detector must be one of"),
        ("model.onnx", None, "model.onnx is missing"),
        ("config.json", None, "config.json is missing"),
    ],
)
def test_wrong_files_are_named(exported, tmp_path, file, content, message):
    folder = tmp_path / "exported"
    shutil.copytree(exported[1], folder)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        RuntimeDetector(folder)
    outcome = run_blocked(folder, "photo.jpg")
    assert (
        outcome.returncode == 2 and outcome.stderr.count("\n") == 1 and outcome.stderr.startswith("detect.py: error: ")
    )


def test_images_are_read_before_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr(export_folder, "check_packages", lambda runtime: None)
    monkeypatch.setattr(export_folder, "export_network", lambda *arguments: pytest.fail("exported first"))
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
        export_model("onnx", tmp_path / "exported", images=[str(tmp_path / "missing.jpg")])


# ---------------------------------------------------------------------- every detector and runtime


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["db", "pan", "fce", "tcm-tiny", "tcm-small"])
def test_same_regions(name, runtime, tmp_path):
    need(runtime)
    model = save_tiny(name, tmp_path / "model") if name in DECODING else Path(checkpoint_path(name))
    images = blurred_noise(tmp_path)
    if name not in DECODING:
        photos = sorted(shared_path("data/icdar2015/images").glob("*1.jpg"))[:20]
        images = []
        for number, photo in enumerate(photos):
            image = Image.open(photo).convert("RGB")
            images.append(str(tmp_path / f"{number}.png"))
            image.crop((0, 0, image.width - 5 * number - 1, image.height - 3 * number - 1)).save(images[-1])
    export_model(runtime, tmp_path / "exported", model=model, images=images[:1])
    entries = json.loads(run_blocked(tmp_path / "exported", *images).stdout)
    pipe = pipeline_of(model)
    for path, entry in zip(images, entries):
        assert_same_texts(entry["detections"], pipe(path))


@pytest.mark.slow
def test_an_environment_without_torch(exported, tmp_path):
    _, folder, images, _ = exported
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-r", folder / "requirements.txt"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("packages cannot be installed here")
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode
    outcome = subprocess.run([python, folder / "detect.py", *images], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    wanted = json.loads(run_blocked(folder, *images).stdout)
    for mine, theirs in zip(json.loads(outcome.stdout), wanted):
        assert_same_texts(mine["detections"], theirs["detections"])


@pytest.mark.slow
def test_int8(tmp_path, capfd):
    for extra in ("openvino", "int8"):
        need(extra)
    photos = shared_path("data/icdar2015/images")
    calibration, images = ([str(path) for path in sorted(photos.glob(f"*{digit}.jpg"))[:16]] for digit in (3, 1))
    command = ["export", "openvino", str(tmp_path / "int8"), "--model", "tcm-tiny", "--int8", "--calibration"]
    assert main([*command, *calibration]) == 0
    parity = json.loads(capfd.readouterr().out)  # and nothing else
    assert parity["found"] > 0 and "on a CPU, in int8, beside" in (tmp_path / "int8" / "README.md").read_text()
    assert {file.suffix for file in (tmp_path / "int8").iterdir()} == {
        "",
        ".bin",
        ".json",
        ".md",
        ".py",
        ".txt",
        ".xml",
    }
    assert sum(file.stat().st_size for file in (tmp_path / "int8").glob("*.bin")) < 3e6  # of 2 million weights

    entries = json.loads(run_blocked(tmp_path / "int8", *images).stdout)
    pipe, matched, count = pipeline_of(Path(checkpoint_path("tcm-tiny"))), 0, 0
    for path, entry in zip(images, entries):
        found, wanted = (
            [np.asarray(text["polygon"]) for text in texts] for texts in (entry["detections"], pipe(path))
        )
        matched += 2 * sum(overlap > 0.5 for overlap in match(found, wanted))
        count += len(found) + len(wanted)
    assert count > 100 and matched / count > 0.9
