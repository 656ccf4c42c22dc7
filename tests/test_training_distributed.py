"""Two processes on the CPU compute what one process computes with the joint batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


# Runs in both processes; the first one compares with the joint batch and writes the largest differences.
SCRIPT = """
import copy, functools, json, os, sys
import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from accelerate import Accelerator
from tiny_model import find_white, tiny_config
from tcm_hf import TCMForTextDetection, TCMImageProcessor
from tcm_hf.data.collate import text_detection_collate
from tcm_hf.data.formats import TextRecord
from tcm_hf.training.trainer import evaluate_records, freeze_batch_norm, synchronize_batch_norm, use_joint_loss
from tcm_hf.training.setup import target_builder

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
report = {}


def batch_of(config, numbers):
    items = []
    for number in numbers:
        rng = np.random.default_rng(number)
        left, top = rng.uniform(0, 30, 2)
        size = rng.uniform(16, 60)
        quads = [np.array([[left, top], [left + size, top], [left + size, top + 14], [left, top + 14]])]
        # The last picture has no text, so that the parts' numbers of text pixels differ.
        targets = target_builder(config)(quads if number < 3 else [], [False] * (number < 3), 64, 96)
        pixels = torch.from_numpy(rng.standard_normal((3, 64, 96)).astype(np.float32))
        items.append({"pixel_values": pixels, "labels": {k: torch.from_numpy(v) for k, v in targets.items()}})
    return text_detection_collate(items)


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def compare(name, detector="db", prepare=None, joint=True):
    torch.manual_seed(0)
    settings = {**tiny_config().to_dict(), "detector": detector, "decoder_dropout": 0.0}
    if detector != "db":
        settings["detector_config"] = {"neck_channels": 16}
    config = type(tiny_config())(**settings)
    alone = TCMForTextDetection(config)
    alone.freeze_text_tower()
    model = copy.deepcopy(alone)
    if joint:
        use_joint_loss(model)
    if prepare is not None:
        prepare(model)
    if prepare is freeze_batch_norm:
        freeze_batch_norm(alone)
    wrapped = DistributedDataParallel(model.train())
    outputs = wrapped(**batch_of(config, (0, 1) if rank == 0 else (2, 3)))
    outputs.loss.backward()
    expected = alone.train()(**batch_of(config, (0, 1, 2, 3)))
    expected.loss.backward()
    ours, theirs = gradients(model), gradients(alone)
    assert set(ours) == set(theirs) and len(ours) > 50
    largest = max(float(gradient.norm()) for gradient in theirs.values())
    gradient = max(float((ours[n] - theirs[n]).norm()) / (float(theirs[n].norm()) + 1e-4 * largest) for n in theirs)
    buffers = dict(alone.named_buffers())
    statistics = max(
        float((value - buffers[n]).abs().max() / (1 + buffers[n].abs().max()))
        for n, value in model.named_buffers() if value.is_floating_point()
    )
    report[name] = {"loss": abs(float(outputs.loss - expected.loss)), "gradient": gradient, "statistics": statistics}


synchronize = functools.partial(synchronize_batch_norm, device="cpu")
for detector in ("db", "pan", "fce"):
    compare(detector, detector, synchronize)
compare("frozen statistics", prepare=freeze_batch_norm)
compare("own statistics")
compare("own loss", prepare=synchronize, joint=False)


class FindsWhite(torch.nn.Linear):
    seen = 0

    def forward(self, **inputs):
        self.seen += 1
        return find_white(**inputs)


records = []
for number in range(5):
    image = np.zeros((64, 96, 3), np.uint8)
    image[16:48, 16 : 40 + 8 * number] = 255
    box = np.array([[16, 16], [40 + 8 * number, 16], [40 + 8 * number, 48], [16, 48]])
    records.append(TextRecord(image, [box] if number else [box, box + 8]))
model, processor = FindsWhite(1, 1), TCMImageProcessor()
figures = evaluate_records(model, processor, records, accelerator=Accelerator(cpu=True), unclip_ratio=0.0)
report["evaluation"] = {"figures": figures, "alone": evaluate_records(FindsWhite(1, 1), processor, records, unclip_ratio=0.0)}
report["evaluation"]["seen"] = model.seen

if rank == 0:
    with open(sys.argv[1], "w") as file:
        json.dump(report, file)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    tests = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = subprocess.run(
        [*command, str(folder / "script.py"), str(folder / "report.json")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["db", "pan", "fce", "frozen statistics"])
def test_two_processes_have_the_gradient_of_the_joint_batch(report, name):
    assert report[name]["loss"] < 1e-4, report[name]
    assert report[name]["gradient"] < 1e-3, report[name]
    assert report[name]["statistics"] < 1e-5, report[name]


def test_without_the_joint_statistics_or_loss_they_have_not(report):
    """What the two functions are for, and that the comparison can fail."""
    assert report["own statistics"]["gradient"] > 0.05
    assert report["own loss"]["gradient"] > 0.05 and report["own loss"]["loss"] > 1e-3


def test_evaluation_is_shared_and_gives_the_same_figures(report):
    assert report["evaluation"]["figures"] == report["evaluation"]["alone"]
    assert report["evaluation"]["seen"] == 3 and 0.8 < report["evaluation"]["figures"]["hmean"] < 1
