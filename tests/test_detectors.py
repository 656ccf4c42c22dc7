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
"""One declaration makes a detector: one of one's own is trained, used, inspected, converted and shared from one file."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from annotation_samples import box, numbers, save_pictures
from clip_layouts import openai, save, tcm
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tiny_model import tiny_config, tiny_detector
from transformers import Trainer, TrainingArguments, pipeline

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor, TextDetectionPipeline, register_detector
from tcm_hf.commands import inspect
from tcm_hf.conversion.convert import ConversionError, convert_checkpoint
from tcm_hf.data import inspect_data
from tcm_hf.model.detectors import (
    DBSettings,
    Decoder,
    Detector,
    DetectorSettings,
    FCESettings,
    PANSettings,
    detector_names,
    detector_of,
    find_detector,
    register_decoder,
    setting,
    unregister_detector,
)
from tcm_hf.training.setup import target_builder


TOY = '''
"""The toy detector: a map of filled texts at stride 4."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from tcm_hf import (
    ConversionRules,
    Decoder,
    Detector,
    DetectorSettings,
    register_detector,
    setting,
)
from tcm_hf.model.losses import dice_loss
from tcm_hf.model.polygons import order_clockwise

STRIDE = 4


@dataclass
class ToySettings(DetectorSettings):
    """channels (`int`, *optional*, defaults to 8): of the hidden layer; margin: of the texts, in pixels."""

    channels: int = setting(8, least=1)
    margin: float = 0.0


class ToyDetector(nn.Module):
    def __init__(self, config, in_channels):
        super().__init__()
        self.settings = config.detector_settings
        self.conv = nn.Conv2d(in_channels[0], self.settings.channels, 3, padding=1)
        self.out = nn.Conv2d(self.settings.channels, 1, 1)

    def forward(self, feature_maps, image_sizes=None, training_maps=False):
        return {"logits": self.out(self.conv(feature_maps[0]).relu())}

    def loss(self, maps, labels):
        logits = maps["logits"][:, 0].float()
        return {"toy": dice_loss(logits.sigmoid(), labels["text"], labels["counts"])}

    def auxiliary_loss(self, matching_logits, labels):
        logits = nn.functional.interpolate(matching_logits.float(), size=labels["text"].shape[-2:], mode="bilinear")
        return dice_loss(logits[:, 0].sigmoid(), labels["text"], labels["counts"])

    def prepare_labels(self, labels, pixel_mask, height, width):
        rows, columns = -(-height // 32) * 8, -(-width // 32) * 8
        padding = (0, columns - labels["text"].shape[-1], 0, rows - labels["text"].shape[-2])
        return {name: nn.functional.pad(maps, padding) for name, maps in labels.items()}

    def crop(self, logits, height, width):
        return logits[..., : -(-height // STRIDE), : -(-width // STRIDE)]


def build_toy_targets(polygons, ignore, height, width, margin=0.0):
    text = np.zeros((-(-height // STRIDE), -(-width // STRIDE)), np.uint8)
    counts = np.ones_like(text)
    for polygon, ignored in zip(polygons, ignore):
        points = np.rint((np.asarray(polygon) - margin) / STRIDE).astype(np.int32)
        cv2.fillPoly(counts if ignored else text, [points], 0 if ignored else 1)
    return {"text": text, "counts": counts}


def draw_toy_targets(maps, height, width):
    view = np.zeros((height, width, 3), np.uint8)
    view[..., 1] = cv2.resize(maps["text"] * 255, (width, height), interpolation=cv2.INTER_NEAREST)
    return [view]


def decode_toy(probabilities, *, score_threshold=0.5, grow=0):
    contours, _ = cv2.findContours((probabilities > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons, scores = [], []
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        score = float(probabilities[top : top + height, left : left + width].max())
        if score >= score_threshold:
            corners = [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]
            polygons.append(order_clockwise(np.array(corners, np.float32)))
            scores.append(score)
    return polygons, np.array(scores, np.float32)


register_detector(
    Detector(
        "toy",
        settings=ToySettings,
        module=ToyDetector,
        decoder=Decoder(decode_toy, stride=STRIDE, least={"grow": 0}),
        targets=build_toy_targets,
        target_settings=("margin",),
        target_views=draw_toy_targets,
        conversion=ConversionRules(
            prefixes=("bbox_head.toy.",),
            weights=[(r"(conv|out)\\.(.+)", r"bbox_head.toy.\\1.\\2", "same")],
            settings=lambda weights: {"channels": weights.shape("bbox_head.toy.conv.weight", 4)[0]},
        ),
    )
)
'''


# Of the tiny vocabulary.
PROMPT = [0, 5, 6, 99]


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory):
    """The file of the toy detector, registered by way of the command line's name for it."""
    path = tmp_path_factory.mktemp("own") / "toy_detector.py"
    path.write_text(TOY)
    assert detector_of(str(path)).name == detector_of(str(path)).name == "toy"
    yield path
    unregister_detector("toy")
    sys.modules.pop("toy_detector", None)


@pytest.fixture(scope="module")
def checkpoint(toy_file, tmp_path_factory):
    """A published toy model: what `save_pretrained` of its pipeline leaves."""
    directory = tmp_path_factory.mktemp("published") / "toy_checkpoint"
    processor = TCMImageProcessor(detector="toy", size={"shortest_edge": 64, "longest_edge": 96})
    TextDetectionPipeline(
        model=toy_model(margin=1.0), image_processor=processor, task="text-detection", device="cpu"
    ).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    image = Image.effect_noise((90, 60), 90).convert("RGB")
    ImageDraw.Draw(image).rectangle((20, 10, 60, 30), fill="white")
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    image.save(path)
    return path


def toy_model(**settings) -> TCMForTextDetection:
    torch.manual_seed(0)
    values = {**tiny_config().to_dict(), "detector": "toy", "detector_config": settings}
    return TCMForTextDetection(TCMConfig(**values)).eval()


def test_settings_are_typed_and_checked(toy_file):
    model = toy_model(channels=4)
    assert model.config.detector_config == {"channels": 4, "margin": 0.0}
    assert model.config.detector_settings.channels == model.detector.settings.channels == 4
    for wrong, message in (
        ({"channels": 0}, "`channels` of `detector_config` has to be a whole number of at least 1, got 0"),
        ({"channels": 2.5}, "`channels`.*2.5"),
        ({"margin": "wide"}, "`margin` of `detector_config` has to be a number, got 'wide'"),
        ({"depth": 1}, r"Unknown settings \['depth'\].*'toy'.*'channels', 'margin'"),
    ):
        with pytest.raises(Exception, match=f"(?s){message}"):
            toy_model(**wrong)


@pytest.mark.parametrize("settings", [DBSettings, PANSettings, FCESettings])
def test_settings_of_the_package_are_documented(settings):
    for field in fields(settings):
        default = "" if field.default is None else f", defaults to {field.default}"
        assert f"        {field.name} (`" in settings.__doc__
        line = next(line for line in settings.__doc__.splitlines() if line.startswith(f"        {field.name} (`"))
        assert line.endswith(f"*optional*{default}):"), line


def test_it_trains_with_plain_transformers(toy_file, picture, tmp_path):
    model = toy_model()
    processor = TCMImageProcessor(detector="toy", size={"shortest_edge": 64, "longest_edge": 96})
    rows = [{"image": Image.open(picture), "annotations": [{"bbox": [20, 10, 40, 20], "iscrowd": 0}]}] * 4

    def collate(rows):
        images = [row["image"] for row in rows]
        annotations = [{"image_id": i, "annotations": row["annotations"]} for i, row in enumerate(rows)]
        return processor(images, annotations=annotations, return_tensors="pt")

    arguments = TrainingArguments(
        tmp_path, max_steps=2, per_device_train_batch_size=2, remove_unused_columns=False, report_to=[], use_cpu=True
    )
    before = model.detector.out.weight.clone()
    result = Trainer(model, arguments, train_dataset=rows, data_collator=collate).train()
    assert 0 < result.training_loss < 10 and not torch.equal(before, model.detector.out.weight)
    maps = target_builder(toy_model(margin=4.0).config)([np.array(box(8, 8, 40, 20))], [False], 64, 96)
    assert maps["text"].shape == (16, 24) and maps["text"][1, 1] == 1 and maps["text"][8, 12] == 0


def test_it_is_inspected(toy_file, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    save_pictures(folder, ["img_1"])
    (folder / "gt_img_1.txt").write_text(f"{numbers(box(100, 100, 200, 60))},word")
    parser = argparse.ArgumentParser()
    inspect.add_arguments(parser)
    given = ["icdar2015", str(folder), "--output", str(tmp_path / "o"), "--files", "--targets", str(toy_file)]
    assert inspect.run(parser.parse_args(given)) == 0
    (drawn,) = (tmp_path / "o").iterdir()
    with Image.open(drawn) as image:
        pixels = np.asarray(image)
    view = pixels[:, pixels.shape[1] // 2 :]
    # Texts in green, as the toy draws them.
    assert (view[..., 1] > 200).mean() > 0.02 and (view[..., 0] > 128).mean() < 0.001
    # Without drawing of its own each map is shown.
    plain = find_detector("toy")
    views = inspect_data.target_views([np.array(box(8, 8, 40, 20))], [False], 64, 96, "toy")
    assert len(views) == 1 and plain.has("target_views")


def test_it_is_converted(toy_file, tmp_path):
    source = save(openai(), tmp_path / "clip.safetensors")
    report = convert_checkpoint(source, tmp_path / "from_clip", detector="toy", prompt_token_ids=PROMPT)
    assert report.detector == "toy" and not report.trained_detector
    assert "detector.conv.weight" in report.new
    official = {name: value for name, value in tcm("db").items() if not name.startswith(("bbox_head.", "neck."))}
    state = toy_model(channels=5).detector.state_dict()
    channels = official["backbone.layer1.0.conv3.weight"].shape[0]
    state["conv.weight"] = torch.randn(5, channels, 3, 3)
    official.update({f"bbox_head.toy.{name}": value for name, value in state.items()})
    save_file({name: value.contiguous() for name, value in official.items()}, tmp_path / "official.safetensors")
    report = convert_checkpoint(tmp_path / "official.safetensors", tmp_path / "converted", prompt_token_ids=PROMPT)
    assert report.detector == "toy" and report.trained_detector
    model = TCMForTextDetection.from_pretrained(tmp_path / "converted")
    assert torch.equal(model.detector.conv.weight, state["conv.weight"])
    with pytest.raises(ValueError, match="no preset 'ic15' for the detector 'toy'"):
        convert_checkpoint(source, tmp_path / "again", detector="toy", preset="ic15", prompt_token_ids=PROMPT)
    unregister_detector("toy")
    try:
        with pytest.raises(ConversionError, match="unknown layout, its first weights are"):
            convert_checkpoint(tmp_path / "official.safetensors", tmp_path / "again")
    finally:
        del sys.modules["toy_detector"]
        detector_of(str(toy_file))


REMOTE = """
import json, sys
arguments = json.loads(sys.argv[1])
if arguments["package"]:
    import tcm_hf
    from tcm_hf.model.detectors import detector_names
    from transformers import AutoModelForObjectDetection
    assert "toy" not in detector_names()
    try:
        AutoModelForObjectDetection.from_pretrained(arguments["directory"])
    except ValueError as error:
        assert "unknown detector 'toy'" in str(error) and "trust_remote_code=True" in str(error), error
    else:
        raise AssertionError("loaded without trust")
else:
    sys.modules["tcm_hf"] = None
from transformers import pipeline
pipe = pipeline("text-detection", model=arguments["directory"], trust_remote_code=True)
report = [type(pipe.model).__module__.split(".")[0], pipe(arguments["picture"], threshold=0.0)]
pipe.save_pretrained(arguments["again"])
print(json.dumps(report))
"""


@pytest.mark.parametrize("package", [True, False])
def test_it_is_shared(package, checkpoint, picture, tmp_path):
    saved = {path.name for path in checkpoint.iterdir()}
    assert {"toy_detector.py", "own_detectors.py", "detectors.py", "losses.py", "polygons.py"} <= saved
    assert "tcm_hf" not in (checkpoint / "toy_detector.py").read_text()
    expected = pipeline("text-detection", model=str(checkpoint))(str(picture), threshold=0.0)
    again = checkpoint.parent / f"again_{package}"
    arguments = {"directory": str(checkpoint), "picture": str(picture), "package": package, "again": str(again)}
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    answers = []
    for directory in (checkpoint, again):
        arguments["directory"] = str(directory)
        process = subprocess.run(
            [sys.executable, "-c", REMOTE, json.dumps(arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert process.returncode == 0, process.stderr
        answers.append(json.loads(process.stdout.splitlines()[-1]))
        arguments["again"] = str(again) + "_2"
    assert [answer[0] for answer in answers] == ["tcm_hf" if package else "transformers_modules"] * 2
    assert len(expected) > 0
    for _, found in answers:
        assert [text["polygon"] for text in found] == [text["polygon"] for text in expected]


def test_it_is_reloaded_where_it_is_registered(checkpoint):
    model = TCMForTextDetection.from_pretrained(checkpoint)
    assert type(model.detector).__module__ == "toy_detector" and model.config.detector_settings.margin == 1.0
    # Labels are made as the model's configuration says, which stands beside the image processor.
    builder = TCMImageProcessor.from_pretrained(checkpoint).target_builder()
    assert builder.keywords == {"margin": 1.0}
    assert json.loads((checkpoint / "config.json").read_text())["detector_config"] == {"channels": 8, "margin": 1.0}


def test_what_belongs_to_the_package_is_not_copied(tmp_path):
    tiny_detector().save_pretrained(tmp_path)
    assert "TCMDetector" not in json.loads((tmp_path / "config.json").read_text())["auto_map"]


# Errors -------------------------------------------------------------------------------------------------------------


class Parts(torch.nn.Module):
    forward = loss = auxiliary_loss = prepare_labels = crop = lambda self: None


class OtherParts(Parts):
    pass


def declaration(**changes) -> Detector:
    def decode(maps, *, score_threshold=0.5):
        return [], np.zeros(0)

    parts = {"settings": {"width": 1}, "module": Parts, "decoder": Decoder(decode), "targets": len}
    return Detector("mine", **{**parts, **changes})


@pytest.fixture
def mine():
    yield
    unregister_detector("mine")


def test_names_are_taken_once(mine):
    register_detector(declaration())
    register_detector(declaration())  # the same once more, as when a notebook's cell runs again
    for other in (declaration(module=OtherParts), declaration(targets=sum)):
        with pytest.raises(ValueError, match="'mine' is registered already.*another name.*exist_ok=True"):
            register_detector(other)
    register_detector(declaration(module=OtherParts), exist_ok=True)
    assert find_detector("mine").part("module") is OtherParts
    with pytest.raises(ValueError, match="'db' is registered already"):
        register_detector("db", Parts)
    with pytest.raises(ValueError, match="'db' has a decoder already.*another name.*exist_ok=True"):
        register_decoder("db", len, {})
    assert set(detector_names("targets")) >= {"db", "fce", "mine", "pan"}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"targets": None, "decoder": None},
            "the detector 'mine' lacks decoder, targets: give.*decoder=..., targets=...",
        ),
        ({"settings": None}, "lacks settings"),
        ({"settings": int}, "`settings`.*DetectorSettings"),
        ({"module": torch.nn.Linear}, "has no method loss, auxiliary_loss, prepare_labels, crop"),
        ({"decoder": len}, "`decoder`.*has to be a Decoder"),
        ({"targets": 3}, "`targets`.*has to be a function, got 3"),
        ({"target_views": 3}, "`target_views`.*has to be a function"),
        ({"conversion": {}}, "`conversion`.*ConversionRules"),
        ({"target_settings": ("depth",)}, r"`target_settings`.*\['depth'\]"),
    ],
)
def test_wrong_declarations_are_told(changes, message, mine):
    with pytest.raises(ValueError, match=message):
        register_detector(declaration(**changes))
    assert "mine" not in detector_names()


def test_parts_that_are_declared_piece_by_piece(mine):
    register_decoder("mine", lambda maps, score_threshold: ([], []), {"score_threshold": 0.5})
    with pytest.raises(ValueError, match="the detector 'mine' declares no module: register it with"):
        find_detector("mine").part("module")
    with pytest.raises(Exception, match="Unknown `detector` 'mine'"):
        TCMConfig(detector="mine")
    register_detector("mine", Parts, {"width": 3})
    assert TCMConfig(detector="mine").detector_config == {"width": 3}
    assert TCMImageProcessor(detector="mine").decoding == {"threshold": 0.5}
    with pytest.raises(ValueError, match="declares no targets.*targets="):
        target_builder(TCMConfig(detector="mine"))


def test_references_that_lead_nowhere(mine):
    register_detector(declaration(targets="no_such_package.targets:build", target_views="json:no_such_function"))
    with pytest.raises(ImportError, match="targets of the detector 'mine' are in no_such_package.targets.*install"):
        find_detector("mine").part("targets")
    with pytest.raises(ImportError, match="no_such_function"):
        find_detector("mine").part("target_views")


def test_files_that_register_nothing(tmp_path):
    (tmp_path / "nothing_here.py").write_text("x = 1")
    with pytest.raises(ValueError, match="nothing_here.py registers 0 detectors"):
        detector_of(str(tmp_path / "nothing_here.py"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        detector_of(str(tmp_path / "absent.py"))
    (tmp_path / "json.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match="module 'json' already"):
        detector_of(str(tmp_path / "json.py"))


def test_settings_of_other_types():
    class Settings(DetectorSettings):
        pass

    assert Settings.defaults() == {}
    assert setting(3, least=1).metadata["least"] == 1
