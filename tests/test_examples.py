"""The example scripts run on toy data, from a fresh process as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from tiny_model import tiny_config

from tcm_hf import TCMForTextDetection, TCMImageProcessor


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    """Four pictures in ICDAR 2015's layout with a dark bar as their only word, and a configuration to train."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "images").mkdir()
    (folder / "gt").mkdir()
    for number in (1, 2, 3, 4):
        image = Image.new("RGB", (160, 128), "white")
        left, top = 10 + 10 * number, 20 + 8 * number
        ImageDraw.Draw(image).rectangle([left, top, left + 80, top + 24], fill="black")
        image.save(folder / "images" / f"img_{number}.jpg")
        quad = (left, top, left + 80, top, left + 80, top + 24, left, top + 24)
        line = ",".join(map(str, quad)) + ",word\n"
        (folder / "gt" / f"gt_img_{number}.txt").write_text(line, encoding="utf-8")
    config = tiny_config().to_dict()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def run(script, *arguments):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(toy_data):
    """Output directory of a training run of four steps."""
    result = run(
        "train_text_detection.py",
        *("--config_name", toy_data / "config.json", "--output_dir", toy_data / "run"),
        *("--image_dir", toy_data / "images", "--gt_dir", toy_data / "gt", "--holdout_last_digit", 4),
        *("--crop_size", 64, "--max_steps", 4, "--per_device_train_batch_size", 2, "--save_steps", 2),
        *("--synthetic_fraction", 0.5, "--paste_probability", 0.5, "--logging_steps", 1, "--use_cpu"),
        *("--report_to", "none", "--learning_rate", 1e-3),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "3 photos with 3 words" in result.stderr
    return toy_data / "run"


def test_training_writes_a_checkpoint_that_differs_from_its_start(trained):
    first = TCMForTextDetection.from_pretrained(trained / "checkpoint-2")
    last = TCMForTextDetection.from_pretrained(trained)
    assert (trained / "preprocessor_config.json").is_file()
    name = "detector.probability_branch.0.weight"
    assert not torch.equal(first.state_dict()[name], last.state_dict()[name])
    log = json.loads((trained / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    terms = [{k for k in entry if k.startswith("loss_")} for entry in log if "loss" in entry]
    assert terms == [{"loss_probability", "loss_threshold", "loss_binary", "loss_auxiliary"}] * 4


def test_training_refuses_two_sources(toy_data):
    result = run(
        "train_text_detection.py",
        *("--config_name", toy_data / "config.json", "--model_name_or_path", "somewhere"),
        *("--image_dir", toy_data / "images", "--gt_dir", toy_data / "gt", "--output_dir", toy_data / "none"),
    )
    assert result.returncode != 0
    assert "exactly one of --model_name_or_path" in result.stderr


def test_evaluation_prints_the_protocols_figures(toy_data, trained):
    result = run(
        "evaluate_icdar2015.py",
        *("--model", trained, "--image_dir", toy_data / "images", "--gt_dir", toy_data / "gt"),
        *("--frame_size", 128, 160, "--threshold", 0.9),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    figures = json.loads(result.stdout)
    assert figures["images"] == 4 and figures["score_threshold"] == 0.9
    assert 0 <= figures["hmean"] <= 1


def test_exported_checkpoint_is_half_the_size_and_gives_the_same_maps(trained, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("# A card\n", encoding="utf-8")
    # Statistics that fp16 cannot hold, as trained detectors have them.
    model = TCMForTextDetection.from_pretrained(trained)
    norm = model.detector.probability_branch[1]
    norm.running_var.copy_(torch.logspace(-2, 6, norm.running_var.numel()))
    model.save_pretrained(tmp_path / "source")
    TCMImageProcessor.from_pretrained(trained).save_pretrained(tmp_path / "source")
    target = tmp_path / "out" / "target"
    result = run("export_checkpoint.py", tmp_path / "source", target, "--card", card, "--threshold", 0.7)
    assert result.returncode == 0, result.stderr[-3000:]
    assert {file.name for file in target.parent.iterdir()} == {"target"}
    assert {file.name for file in target.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "README.md",
    }
    exported = TCMForTextDetection.from_pretrained(target)
    assert exported.dtype == torch.float32
    assert TCMImageProcessor.from_pretrained(target).decoding["threshold"] == 0.7
    full_size = (trained / "model.safetensors").stat().st_size
    assert (target / "model.safetensors").stat().st_size < 0.7 * full_size
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, logits = model.eval()(pixel_values).logits, exported(pixel_values).logits
    assert torch.allclose(logits, expected, atol=0.02 * expected.std().item())
