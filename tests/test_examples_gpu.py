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
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from example_runs import EXAMPLES, run_here
from PIL import Image
from tiny_model import tiny_config
from toy_photos import toy_quad, write_toy_photos

from tcm_hf import TCMForTextDetection, TCMImageProcessor, checkpoint_path
from tcm_hf.data.synthesis.fonts import find_fonts


CONFIG = {
    "train_sources": [{"path": "one", "format": "icdar2015", "weight": 2}, {"path": "two", "format": "icdar2015"}],
    "holdout_last_digit": 4,
    "freeze_text_tower": False,
    "resume_from_checkpoint": "last",
    **{"crop_size": 64, "synthetic_fraction": 0.5, "synthetic_settings": {"scripts": {"latin": 1}}},
    **{"lr_scheduler_type": "cosine", "eval_strategy": "no"},
}


@pytest.fixture
def pack(tmp_path, monkeypatch):
    for name in ("one", "two"):
        write_toy_photos(tmp_path / "data" / name, 5)
        shutil.rmtree(tmp_path / "data" / name / "hub")  # the same in another form
    sources = [{**CONFIG["train_sources"][0]}, {**CONFIG["train_sources"][1], "weight": 1}]
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "train_sources": sources}))
    arguments = ("--data_root", tmp_path / "data", "--longest_side", 80, "--fonts", 3)
    with pytest.raises(SystemExit) as end:
        run_here(
            monkeypatch, "pack_training_data.py", tmp_path / "config.json", tmp_path / "pack.tar", *map(str, arguments)
        )
    assert end.value.code == 0
    return tmp_path / "pack.tar"


def test_a_pack_has_reduced_images_their_outlines_and_fonts(pack, tmp_path):
    with tarfile.open(pack) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    rows = (tmp_path / "out/data/one/train/metadata.jsonl").read_text().splitlines()
    assert [json.loads(row)["file_name"] for row in rows] == [f"img_{number}.jpg" for number in range(1, 6)]
    for number, row in enumerate(map(json.loads, rows), 1):
        np.testing.assert_allclose(row["polygons"], [toy_quad(number) / 2])
        assert row["text"] == ["word"] and row["ignore"] == [False]
        assert Image.open(tmp_path / "out/data/one/train" / row["file_name"]).size == (80, 64)
    packed = {path.name.split("-", 1)[1] for path in (tmp_path / "out/fonts").iterdir()}
    assert packed <= {path.name for path in find_fonts()} and 1 <= len(packed) <= 3
    sources = json.loads((tmp_path / "out/sources.json").read_text())["train_sources"]
    assert [(source["path"], source["weight"]) for source in sources] == [("one", 2), ("two", 1)]


def test_what_cannot_be_packed_leaves_nothing(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(SystemExit, match="error: .*one"):
        run_here(
            monkeypatch,
            *(
                "pack_training_data.py",
                tmp_path / "config.json",
                tmp_path / "pack.tar",
                "--data_root",
                tmp_path / "none",
            ),
        )
    assert not list(tmp_path.glob("pack*"))


@pytest.mark.slow
def test_the_script_for_a_gpu_trains_and_leaves_a_checkpoint(pack, tmp_path):
    start = TCMForTextDetection(tiny_config())
    start.save_pretrained(tmp_path / "start")
    TCMImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(tmp_path / "start")
    (tmp_path / "home").mkdir()
    settings = {"START": tmp_path / "start", "CONFIG": tmp_path / "config.json", "STEPS": 2, "BATCH": 2, "WORKERS": 0}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path / "home")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(EXAMPLES.parent)

    def train(**more):
        environment.update({name: str(value) for name, value in {**settings, **more}.items()})
        command = ["sh", EXAMPLES / "train_on_gpu.sh", pack, tmp_path / "output", "--use_cpu"]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=900)

    result = train()
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == str(tmp_path / "output" / "checkpoint")
    output = tmp_path / "output"
    assert {"checkpoint-1", "checkpoint-2"} <= {path.name for path in (output / "run").iterdir()}
    figures = json.loads((output / "run" / "all_results.json").read_text())
    assert figures["eval_one_num_images"] == figures["eval_two_num_images"] == 1
    trained = TCMForTextDetection.from_pretrained(output / "checkpoint")
    name = "detector.probability_branch.0.weight"
    assert (trained.state_dict()[name] - start.state_dict()[name]).abs().max() > 1e-5
    assert list((tmp_path / "home/.local/share/fonts/tcm_hf_pack").iterdir())

    # Where the time ends before the run, the newest checkpoint is the result, and before that there is none.
    shutil.rmtree(output / "checkpoint")
    (output / "run" / "model.safetensors").unlink()
    result = train(MINUTES="0.002")
    assert result.returncode == 0 and "the result is" in result.stderr and "checkpoint-2" in result.stderr
    TCMForTextDetection.from_pretrained(output / "checkpoint")
    shutil.rmtree(output)
    result = train(MINUTES="0.002")
    assert result.returncode == 1 and "before its first checkpoint" in result.stderr
    assert checkpoint_path("tcm-small")  # what it starts from by default
