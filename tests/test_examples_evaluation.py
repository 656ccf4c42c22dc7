# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The evaluation example and the benchmark of the metrics run on toy data."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from toy_photos import write_toy_photos


ROOT = Path(__file__).resolve().parents[1]


def run(monkeypatch, script, *arguments):
    path = ROOT / script
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    monkeypatch.syspath_prepend(str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def test_the_bundled_model_is_measured(tmp_path, monkeypatch, capsys):
    data = write_toy_photos(tmp_path, 2)
    source = ("--dataset", data / "hub", "--protocol", "totaltext")
    run(monkeypatch, "examples/evaluate_text_detection.py", *source, "--shape", "polygon", "--sweep")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["score_threshold"] for row in rows] == [step / 20 for step in range(2, 19)]
    assert all(row["images"] == 2 and 0 <= row["hmean"] <= 1 for row in rows)


def test_the_benchmark_agrees_with_its_peer(monkeypatch, capsys):
    arguments = ("--images", 8, "--words", 12, "--protocols", "icdar2015", "db_iou", "--repeats", 1)
    run(monkeypatch, "benchmarks/evaluation.py", *arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 images, 96 regions, 96 detections")
    hmeans = {line.rsplit("hmean ", 1)[1] for line in lines if "hmean" in line}
    assert len(hmeans) == 1 and 0.5 < float(hmeans.pop()) < 1
    if "no peer" in lines[-1]:
        pytest.skip("Polygon3 is not installed; only our own figures were compared")
    assert lines[-1].startswith("ratio")
