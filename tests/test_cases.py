# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Small inputs that people reported, and what has to become of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import shared_path
from PIL import Image, ImageDraw, ImageFont

from tcm_hf.cli import main
from tcm_hf.data.formats import parse_ctw1500


def with_pictures(folder, *files, pictures=("a.jpg",)):
    """A folder of images of 640 x 480 and of files of the shared cases: (name there, name here)."""
    folder.mkdir()
    for name in pictures:
        Image.new("RGB", (640, 480), (90, 120, 150)).save(folder / name)
    for name, here in files:
        shutil.copyfile(shared_path(f"cases/{name}"), folder / here)
    return folder


def prepared(folder):
    return [json.loads(line) for line in (folder / "train" / "metadata.jsonl").read_text().splitlines()]


def test_05_seven_point_line(tmp_path, capsys):
    source = with_pictures(tmp_path / "src", ("05_seven_point_line/gt_a.txt", "gt_a.txt"))
    assert main(["prepare", "icdar2015", str(source), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "gt_a.txt, line 1: more than 8 numbers" in error and "Traceback" not in error
    assert not (tmp_path / "out" / "train" / "metadata.jsonl").exists()
    # The format that the message names reads the polygon.
    assert main(["prepare", "totaltext", str(source), str(tmp_path / "out2")]) == 0
    (row,) = prepared(tmp_path / "out2")
    assert len(row["polygons"][0]) == 7 and row["text"] == ["shop"]


@pytest.mark.parametrize("format, name", [("icdar2015", "gt_a.txt"), ("coco", "i.json")])
def test_06_normalised_coordinates(format, name, tmp_path, capsys):
    source = with_pictures(tmp_path / "src", (f"06_normalised_coordinates/{name}", name))
    assert main(["prepare", format, str(source), str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "all outlines are smaller than a pixel" in shown.out and "--normalized" in shown.out
    report = json.loads((tmp_path / "out" / "train" / "report.json").read_text())
    assert any("--normalized" in warning for warning in report["warnings"])
    assert main(["prepare", format, str(source), str(tmp_path / "pixels"), "--normalized"]) == 0
    assert "smaller than a pixel" not in capsys.readouterr().out
    (row,) = prepared(tmp_path / "pixels")
    expected = {"icdar2015": [[57.6, 57.6], [249.6, 110.4]], "coco": [[64, 48], [256, 96]]}[format]
    np.testing.assert_allclose([row["polygons"][0][0], row["polygons"][0][2]], expected, atol=1e-3)


def test_08_eight_numbers_only(tmp_path):
    source = with_pictures(tmp_path / "src", ("08_eight_numbers_only_gt_a.txt", "gt_a.txt"))
    assert main(["prepare", "icdar2015", str(source), str(tmp_path / "out")]) == 0
    (row,) = prepared(tmp_path / "out")
    assert row["polygons"] == [[[60, 60], [255, 60], [255, 112], [60, 112]]]
    assert row["text"] == [""] and row["ignore"] == [False]


def test_09_onnx_non_multiple_of_32(tmp_path):
    pytest.importorskip("onnxscript", reason="the exporter to ONNX needs onnxscript")
    pytest.importorskip("onnxruntime", reason="running ONNX files needs onnxruntime")
    script = shared_path("cases/09_onnx_non_multiple_of_32.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ORT_DISABLE_TELEMETRY": "1"}
    result = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # Each size, and how far its largest logit is off.
    lines = [line for line in result.stdout.splitlines() if line.startswith("(1, 3, ")]
    assert len(lines) == 2
    assert all(float(line.rpartition(" ")[2]) < 1e-3 for line in lines), lines


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_14_full_disk(tmp_path):
    """The commands for data sets; what was written before stays usable."""
    source = with_pictures(tmp_path / "src", ("08_eight_numbers_only_gt_a.txt", "gt_a.txt"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = "import sys; from tcm_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", program, "prepare", "icdar2015", source, tmp_path / "out"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    errors = [line for line in result.stderr.splitlines() if "error" in line or "Traceback" in line]
    assert result.returncode == 1 and len(errors) == 1, result.stderr
    assert "cannot write to " in errors[0] and "No space left on device" in errors[0]
    assert len(prepared(tmp_path / "out")) == 1


def test_16_avif_dropped_by_prepare(tmp_path, capsys):
    """The image of the case is the user's: a JPEG under a name that only some commands read."""
    shared_path("cases/16_avif_dropped_by_prepare.sh")
    source = tmp_path / "case16"
    source.mkdir()
    Image.new("RGB", (64, 48)).save(source / "a.jfif", "JPEG")
    (source / "gt_a.txt").write_text("1,1,50,1,50,20,1,20,a\n")
    assert main(["prepare", "icdar2015", str(source), str(tmp_path / "out")]) == 0
    assert [row["file_name"] for row in prepared(tmp_path / "out")] == ["images/a.jfif"]
    (source / "b.heic").write_bytes(b"")
    assert main(["prepare", "icdar2015", str(source), str(tmp_path / "out"), "--overwrite"]) == 0
    assert "warning: 1 file was passed over" in (out := capsys.readouterr().out) and ".heic: 1" in out


def test_avif_named_jpg_kills_prepare(tmp_path, capsys):
    source = with_pictures(tmp_path / "src", ("avif_named_jpg_kills_prepare.jpg", "bad.jpg"))
    for name in ("a", "bad"):
        (source / f"gt_{name}.txt").write_text("1,1,50,1,50,20,1,20,a\n")
    for options in (["--verify", "--skip-bad"], ["--verify"], []):
        out = tmp_path / f"out{len(options)}"
        assert main(["prepare", "icdar2015", str(source), str(out), *options]) == 1
        shown = capsys.readouterr()
        (line,) = [line for line in shown.out.splitlines() if "bad.jpg" in line]
        assert "cannot be read" in line and "Traceback" not in shown.err
        assert [row["file_name"] for row in prepared(out)] == ["images/a.jpg"]
    assert main(["inspect", "icdar2015", str(source), "--output", str(tmp_path / "drawn")]) == 1
    assert "images that cannot be read: 1" in capsys.readouterr().out


def test_hub_path_traversal(tmp_path, capsys):
    private = tmp_path / "priv" / "secret.png"
    private.parent.mkdir()
    Image.new("RGB", (64, 48)).save(private)
    source = with_pictures(tmp_path / "src", ("hub_path_traversal_metadata.jsonl", "metadata.jsonl"))
    for command in (["prepare", "hub"], ["inspect", "hub"]):
        options = [str(tmp_path / "out")] if command[0] == "prepare" else ["--output", str(tmp_path / "drawn")]
        main([*command, str(source), *options])
        shown = capsys.readouterr()
        assert "secret.png' leads outside of the data set, and is not opened" in shown.out + shown.err
    assert not list((tmp_path / "out").rglob("*.png"))
    assert main(["prepare", "hub", str(source), str(tmp_path / "out2"), "--skip-bad"]) == 1
    assert "nothing to write" in capsys.readouterr().err
    # The second name is no file anywhere.
    lines = (source / "metadata.jsonl").read_text().splitlines()
    (source / "metadata.jsonl").write_text(lines[0] + "\n")
    assert main(["prepare", "hub", str(source), str(tmp_path / "out3"), "--allow-outside"]) == 0
    assert len(prepared(tmp_path / "out3")) == 1


def test_hub_keyerror(tmp_path):
    source = with_pictures(tmp_path / "src", ("hub_keyerror_metadata.jsonl", "metadata.jsonl"), pictures=("a.png",))
    assert main(["prepare", "hub", str(source), str(tmp_path / "out")]) == 0
    (row,) = prepared(tmp_path / "out")
    assert row["ignore"] == [False] and row["text"] == ["x"]


def test_ctw1500_utf16be_ampersand(tmp_path):
    instances = parse_ctw1500(shared_path("cases/ctw1500_utf16be_ampersand.xml"))
    assert len(instances.polygons) == 1 and instances.polygons[0].shape == (14, 2) and "&" in instances.texts[0]


@pytest.fixture(scope="module")
def detector():
    from transformers import pipeline

    return pipeline("text-detection")


def test_01_file_names_that_are_no_utf8(tmp_path, capsys):
    shared_path("cases/01_gbk_file_name.sh")  # makes the same file
    folder = os.fsencode(tmp_path / "case01")
    os.mkdir(folder)
    try:
        Image.new("RGB", (64, 48)).save(tmp_path / "plain.png")
        shutil.copyfile(os.fsencode(tmp_path / "plain.png"), folder + b"/x\xb3\xb5.png")
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    for name in ("case01.json", "case01.jsonl"):
        assert main(["detect", str(tmp_path / "case01"), "--output", str(tmp_path / name)]) == 0
        entries = json.loads((tmp_path / name).read_text(encoding="utf-8").replace("\n", ""))
        (entry,) = entries if isinstance(entries, list) else [entries]
        assert os.fsencode(entry["image"]).endswith(b"x\xb3\xb5.png") and entry["detections"] == []
        assert "\\udcb3\\udcb5" in (tmp_path / name).read_text()


def test_02_float_overshoot(detector):
    shared_path("cases/02_float_overshoot.py")
    picture = Path(__file__).parents[1] / "examples" / "sample.jpg"
    values = np.asarray(Image.open(picture).convert("RGB")).astype("float32")
    values /= values.max()
    expected = len(detector(values))
    assert expected > 3
    for factor in (1.00001, 1.001):
        assert len(detector(values * np.float32(factor))) == expected


@pytest.mark.parametrize("color", [0, 255])
def test_04_letters_on_transparency(detector, color):
    shared_path("cases/04_white_on_transparent.py")
    image = Image.new("RGBA", (640, 480), (color,) * 3 + (0,))
    pen = ImageDraw.Draw(image)
    pen.text((60, 60), "HARBOR", fill=(color,) * 3 + (255,), font=ImageFont.load_default(size=60))
    assert len(detector(image)) == 1


def test_13_panorama(detector, caplog):
    shared_path("cases/13_panorama.py")
    image = Image.new("RGB", (30000, 500), "white")
    pen = ImageDraw.Draw(image)
    for index in range(30):
        pen.text((index * 1000 + 100, 200), f"GATE {index}", fill=0, font=ImageFont.load_default(size=80))
    detector(image)
    (record,) = [record for record in caplog.records if record.name.startswith("tcm_hf")]
    message = record.getMessage()
    assert record.levelname == "WARNING" and "30000 x 500" in message and "2048 x 34" in message
    assert "longest_edge" in message


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_14_full_disk_of_detect(tmp_path, capsys):
    shared_path("cases/14_full_disk.sh")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    assert main(["detect", str(tmp_path / "a.png"), "--output", "/dev/full"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tcm-hf detect: error: cannot write to ") and "No space left on device" in line


def test_png_178000000x1(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copyfile(shared_path("cases/png_178000000x1_memoryerror.png"), folder / "b.png")
    for name in ("a.png", "c.png"):
        Image.new("RGB", (64, 48)).save(folder / name)
    assert main(["detect", str(folder), "--output", str(tmp_path / "out.json")]) == 1
    entries = json.loads((tmp_path / "out.json").read_text())
    assert ["error" in entry for entry in entries] == [False, True, False]
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.png" in line and "178000000 x 1 pixels" in line and entries[1]["error"] in line


def test_11_trainer_api(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    Image.new("RGB", (96, 64), (90, 120, 150)).save(source / "img_1.jpg")
    (source / "gt_img_1.txt").write_text("20,20,70,20,70,40,20,40,word\n")
    assert main(["prepare", "icdar2015", str(source), str(tmp_path / "prepared")]) == 0
    run = subprocess.run(
        [sys.executable, str(shared_path("cases/11_trainer_api.py")), str(tmp_path / "prepared")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [
        line for line in run.stdout.splitlines() if line == "ok" or line.startswith(("ValueError", "TypeError"))
    ]
    assert len(answers) == 7, run.stdout
    # What does not work says what to pass.
    assert all(line == "ok" or line.startswith("ValueError") for line in answers), answers
    assert answers.count("ok") >= 5


def test_convert_badzipfile(tmp_path, capsys):
    assert main(["convert", str(shared_path("cases/convert_badzipfile.pt")), str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "convert_badzipfile.pt" in message
    assert not (tmp_path / "out").exists()
