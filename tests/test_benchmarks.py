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
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw


BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def load(name):
    specification = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path):
    for folder in ("images", "gt"):
        (tmp_path / folder).mkdir()
    image = Image.new("RGB", (160, 96), "white")
    ImageDraw.Draw(image).rectangle([40, 30, 120, 50], fill="black")
    image.save(tmp_path / "images" / "img_1.jpg")
    (tmp_path / "gt" / "gt_img_1.txt").write_text("40,30,120,30,120,50,40,50,word\n")
    return tmp_path


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_rotation_moves_polygons_with_the_pixels(quarters):
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    image[10:20, 30:70] = 255
    box = np.array([[30, 10], [70, 10], [70, 20], [30, 20]], dtype=np.float64)
    rotated, (polygon,) = load("robustness").rotate(image, [box], quarters)
    (left, top), (right, bottom) = polygon.min(0).astype(int), polygon.max(0).astype(int)
    assert rotated.shape[:2] == ((60, 100) if quarters % 2 == 0 else (100, 60))
    assert rotated[top:bottom, left:right].all() and rotated.sum() == image.sum()


def test_motion_blur_spreads_a_point_along_its_direction():
    image = np.zeros((41, 41, 3), dtype=np.float32)
    image[20, 20] = 1
    blurred = load("robustness").motion_blur(image, 9, 0)
    assert blurred.sum() == pytest.approx(image.sum(), rel=1e-5)
    assert np.count_nonzero(blurred[20, :, 0]) == 9 and np.count_nonzero(blurred[:, 20, 0]) == 1


def test_robustness_writes_every_condition(photos, monkeypatch, capsys):
    module = load("robustness")
    arguments = ["robustness.py", "--image_dir", photos / "images", "--gt_dir", photos / "gt"]
    monkeypatch.setattr(sys, "argv", [*map(str, arguments), "--output", str(photos / "out.json")])
    module.main()
    assert set(json.loads((photos / "out.json").read_text())) == set(module.CONDITIONS)
    assert capsys.readouterr().out.count("\n") == 2 + len(module.CONDITIONS)


def test_robustness_of_chosen_conditions_keeps_the_reference(photos, monkeypatch):
    module = load("robustness")
    arguments = ["robustness.py", "--image_dir", photos / "images", "--gt_dir", photos / "gt"]
    arguments += ["--conditions", "half brightness", "--output", photos / "out.json"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    module.main()
    assert list(json.loads((photos / "out.json").read_text())) == ["as they are", "half brightness"]


def test_pipeline_benchmark_times_both_precisions(photos, monkeypatch, capsys):
    module = load("pipeline")
    monkeypatch.setattr(module, "load_rapidocr", lambda threads: lambda picture: picture.mean())
    arguments = ["pipeline.py", "--image_dir", str(photos / "images"), "--size", "96", "160", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    module.main()
    detectors = json.loads(capsys.readouterr().out)["detectors"]
    assert set(detectors) == {"tcm_hf fp32", "tcm_hf bf16", "rapidocr"}
    assert all(row["seconds"] >= 0 and "ratio_to_rapidocr" in row for row in detectors.values())


def test_peers_are_measured_by_one_rule(photos, monkeypatch, capsys, tmp_path):
    # A second word beside the first, and a detector that takes both for one.
    (photos / "gt" / "gt_img_1.txt").write_text(
        "40,30,80,30,80,50,40,50,a\n84,30,120,30,120,50,84,50,b\n0,0,9,0,9,9,0,9,###\n"
    )
    box = "[[{}, 30], [{}, 30], [{}, 50], [{}, 50]]"
    both, apart = box.format(40, 120, 120, 40), f"{box.format(40, 80, 80, 40)}, {box.format(84, 120, 120, 84)}"
    for name, boxes in (("lines", both), ("words", apart)):
        (tmp_path / f"{name}.py").write_text(f"def load():\n    return lambda image: [{boxes}]\n")
    arguments = ["--set", "toy", str(photos / "images"), str(photos / "gt"), "96x160", "--rest", "0"]
    for name in ("lines", "words"):
        arguments += ["--detector", f"{name}={tmp_path / name}.py"]
    monkeypatch.setattr(sys, "argv", ["peers.py", *arguments, "--model", "--output", str(tmp_path / "out.json")])
    load("peers").main()
    rows = json.loads((tmp_path / "out.json").read_text())["sets"]["toy"]
    assert "toy (1 images) lines" in capsys.readouterr().out
    assert (rows["words"]["hmean"], rows["words"]["covered"], rows["words"]["merged"]) == (1, 1, 0)
    assert (rows["lines"]["covered"], rows["lines"]["merged"]) == (1, 1)
    # The line overlaps neither word by more than half (40 and 36 of its 80 pixels).
    assert rows["lines"]["recall"] == 0
    assert rows["words"]["recall_by_height"] == {"16-32": [1.0, 2]}


def test_rendered_counts_found_words_and_false_regions(monkeypatch, tmp_path, capsys):
    module = load("rendered")
    region = {"score": 0.9, "polygon": [[0, 0], [4, 0], [4, 4], [0, 4]]}
    monkeypatch.setattr(module, "pipeline", lambda task, model: lambda image, **settings: [region, region])
    arguments = ["rendered.py", "--kinds", "documents", "bent words", "--images", "2", "--text_free", "3"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--size", "160", "240", "--output", str(tmp_path / "out.json")])
    module.main()
    kinds = json.loads((tmp_path / "out.json").read_text())["kinds"]
    assert set(kinds) == {"documents", "bent words", "without text"}
    assert kinds["documents"]["tcm-small"]["words"] > 0 and kinds["documents"]["tcm-small"]["recall"] == 0
    assert kinds["without text"]["tcm-small"] == {"regions an image": 2}
    assert "documents | tcm-small" in capsys.readouterr().out


def test_time_of_post_processing(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", "post_processing.py --words 30 --size 240 200 --batch 2 --rounds 1 --threads 2".split()
    )
    load("post_processing").main()
    result = json.loads(capsys.readouterr().out)
    assert result["time of 2 threads"] > 0
    rows = result["rows"]
    assert [rows[name]["words"] for name in ("auto", "polygon", "quad", "box", "batch", "without text")] == [
        *[30] * 4,
        60,
        0,
    ]
    assert rows["auto"]["ms_per_word"] > 0 and "ms_per_word" not in rows["without text"]


@pytest.fixture
def gpu():
    from accelerate.state import AcceleratorState

    yield load("gpu")
    AcceleratorState._reset_state(reset_partial_state=True)  # what its training set for the whole process


def test_every_line_for_a_gpu_runs_on_the_cpu(gpu, tmp_path):
    assert gpu.main(["--output", str(tmp_path), "--dry_run", "--seconds", "3000"]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    sections, table = result["sections"], (tmp_path / "gpu.md").read_text()
    rows = [row for section in sections.values() for row in section]
    assert list(sections) == ["maps", "speed", "training"] and result["dry run"] is True
    assert not [row for row in rows if "error" in row]
    assert table.count("\n| ") == len(rows) + len(sections)
    maps = {(row["model"], row["way"]): row for row in sections["maps"]}
    assert {model for model, _ in maps} == {"tcm-tiny", *gpu.RANDOM}
    # On the CPU the first way is the reference itself, and lower precision shows.
    assert all(row["relative difference"] < 1e-5 for (_, way), row in maps.items() if way == "float32")
    assert all(row["relative difference"] > 1e-5 for (_, way), row in maps.items() if way == "bfloat16")
    files = [row for row in sections["speed"] if "files" in row["size"]]
    assert [row["way"] for row in files] == ["bfloat16, 0 threads decode", "bfloat16, 1 threads decode"]
    assert all(0 < row["share of waiting"] < 1 for row in files) and all(
        row["images/s"] > 0 for row in sections["speed"]
    )
    runs = {(row["way"], row["compiled"]): row for row in sections["training"]}
    assert set(runs) == {("loop", False), ("Trainer", False), ("loop", True)}
    for way in ("loop", "Trainer"):
        assert runs[way, False]["steps"] == 4 and runs[way, False]["resumed losses differ by"] == 0


def test_a_row_that_fails_and_a_section_without_time_are_said(gpu, tmp_path, monkeypatch):
    def fails(row):
        row["images/s"] = 3.0
        raise RuntimeError("no memory\nand more")

    def sections(report, scale):
        report.row("speed", {"way": "a|b"}, fails)
        report.row("speed", {"way": "endless"}, lambda row: time.sleep(60))
        raise AssertionError("the time was over")

    monkeypatch.setattr(gpu, "measure_speed", sections)
    assert gpu.main(["--output", str(tmp_path), "--dry_run", "--sections", "speed", "--seconds", "1"]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["sections"]["speed"]
    assert rows[0] == {"way": "a|b", "images/s": 3.0, "error": "RuntimeError: no memory"}
    assert rows[1] == {"way": "endless", "error": "out of time"} and "over" in rows[2]["error"]
    assert "| a/b | 3 | RuntimeError: no memory |" in (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_there_is_the_dry_run(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(["--output", str(tmp_path)])
    assert "--dry_run tries every line on the CPU" in capsys.readouterr().err
