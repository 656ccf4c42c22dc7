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
import re
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_model import black_picture, find_white, tiny_pipeline, white_pipeline

from tcm_hf import TextDetectionPipeline, cli
from tcm_hf.checkpoints import DEFAULT
from tcm_hf.commands import detect, detection_loop
from tcm_hf.commands.result_writer import ResultWriter
from tcm_hf.inputs import InputImage, sources
from tcm_hf.output_files import exclusive


BOX = (40, 30, 99, 49)


@pytest.fixture
def photos(tmp_path):
    """Two directories with images, among them equal names and files that cannot be read."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        black_picture(200, 100, BOX).save(tmp_path / name / "photo.png")
    black_picture(120, 90).save(tmp_path / "a" / "blank.JPG")
    black_picture(200, 100, BOX).save(tmp_path / "b" / "photo.webp", lossless=True)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command with a detector of white areas; returns exit code, JSON from stdout and stderr."""
    loaded = []

    def load(arguments):
        options = {"threshold": arguments.threshold, "shape": arguments.shape, "size": arguments.size}
        options = {key: value for key, value in options.items() if value is not None}
        loaded.append(white_pipeline(monkeypatch, reading_order=arguments.reading_order, **options))
        return loaded[-1]

    monkeypatch.setattr(detect, "load_pipeline", load)

    def call(*arguments):
        code = cli.main(["detect", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return call


def test_stdout(run, photos):
    code, entries, err = run(photos / "a", photos / "b" / "photo.png", photos / "a" / "photo.png")
    assert code == 0 and err == ""
    assert [entry["image"] for entry in entries] == [
        str(photos / "a" / "blank.JPG"),
        str(photos / "a" / "photo.png"),
        str(photos / "b" / "photo.png"),
    ]
    assert [(entry["width"], entry["height"], len(entry["detections"])) for entry in entries] == [
        (120, 90, 0),
        (200, 100, 1),
        (200, 100, 1),
    ]
    (text,) = entries[1]["detections"]
    assert text["box"] == dict(zip(("xmin", "ymin", "xmax", "ymax"), BOX)) and text["score"] == 0.9
    assert len(text["polygon"]) == 4 and text["label"] == "text"


def test_unreadable_files_do_not_stop_the_rest(run, photos):
    bad = photos / "b" / "bad.png"
    bad.write_text("no image")
    truncated = photos / "a" / "zz.jpg"
    data = (photos / "a" / "blank.JPG").read_bytes()
    truncated.write_bytes(data[: len(data) // 2])
    inputs = [bad, photos / "a" / "photo.png", truncated, photos / "absent.jpg", photos / "b" / "photo.png"]
    for batch_size in (1, 2, 4):
        code, entries, err = run(*inputs, "--batch-size", batch_size)
        assert code == 1
        assert [entry["image"] for entry in entries] == [str(path) for path in inputs]
        assert ["error" in entry for entry in entries] == [True, False, True, True, False]
        lines = [line.strip() for line in err.replace("\r", "\n").splitlines() if line.strip().startswith("tcm-hf")]
        assert len(lines) == 3
        for line, path in zip(lines, (bad, truncated, photos / "absent.jpg")):
            assert str(path) in line
    code, entries, _ = run(bad, photos / "absent.jpg")
    assert code == 1 and all("error" in entry for entry in entries)


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_output_file_is_complete_at_any_time(run, photos, monkeypatch, name):
    target = photos / "deep" / name
    code, entries, _ = run(photos / "a", "--output", target)
    assert code == 0 and entries is None
    assert len(read_results(target)) == 2
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    target.write_text("older result")
    write, seen = ResultWriter.write, []

    def watched(writer, entry, image=None):
        # What is there before each result: the older ones, or all that is done.
        seen.append(target.read_text() if len(seen) == 0 else len(read_results(target)))
        if len(seen) == 4:
            raise BrokenPipeError
        write(writer, entry, image)

    monkeypatch.setattr(ResultWriter, "write", watched)
    photo = photos / "a" / "photo.png"
    assert run(photo, photos / "a" / "blank.JPG", photos / "b", "--output", target)[0] == 1
    assert seen == ["older result", 1, 2, 3]
    assert len(read_results(target)) == 3 and os.listdir(target.parent) == [name]
    # Nothing was found yet: what was there stays.
    target.write_text("older result")
    monkeypatch.setattr(detection_loop, "detect_images", broken)
    with pytest.raises(ZeroDivisionError):
        run(photos / "a", "--output", target)
    assert target.read_text() == "older result" and os.listdir(target.parent) == [name]


def broken(*args, **kwargs):
    raise ZeroDivisionError


def read_results(path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def test_one_bad_picture_is_one_entry(run, photos, monkeypatch):
    """Whatever reading an image or the model on it raises, also with others in the batch."""
    for name, color in (("1", 10), ("2", 20), ("3", 30), ("4", 40)):
        Image.new("RGB", (64, 48), (color,) * 3).save(photos / f"{name}.png")
    paths = [photos / f"{name}.png" for name in "1234"]
    for error in (
        RuntimeError("not enough memory"),
        MemoryError(),
        KeyError("x"),
        ValueError("a\nb"),
        OSError(5, "I/O"),
    ):
        load, places = detect.load_pipeline, []

        def load_failing(arguments, load=load, error=error, places=places):
            pipe = load(arguments)
            forward = pipe.model.forward

            def fail(pixel_values, pixel_mask=None, **kwargs):
                level = ((pixel_values[:, 0, 0, 0] * 0.229 + 0.48109) * 255).round().tolist()
                places.append(level)
                if 20 in level:
                    raise error
                return forward(pixel_values=pixel_values, pixel_mask=pixel_mask, **kwargs)

            monkeypatch.setattr(pipe.model, "forward", fail)
            return pipe

        for batch_size in (1, 2, 4):
            with monkeypatch.context() as patch:
                patch.setattr(detect, "load_pipeline", load_failing)
                code, entries, err = run(*paths, "--batch-size", batch_size)
            assert code == 1 and [entry["image"] for entry in entries] == list(map(str, paths))
            assert ["error" in entry for entry in entries] == [False, True, False, False]
            assert str(paths[1]) in entries[1]["error"] and "Traceback" not in err


def test_one_run_at_a_time(run, photos):
    output, drawings = photos / "out.json", photos / "drawings"
    output.write_text("older result")
    for place, option in ((output, "--output"), (drawings, "--draw")):
        with exclusive(place):
            code, entries, err = run(photos / "a", option, place)
        assert code == 1 and entries is None and "another run is writing to" in err and len(err.splitlines()) == 1
        assert run(photos / "a", option, place)[0] == 0
    assert not [name for name in os.listdir(photos) if "lock" in name or "tmp" in name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_full_disk(run, photos):
    code, _, err = run(photos / "a", "--output", "/dev/full")
    assert code == 1 and len(err.splitlines()) == 1
    assert err.startswith("tcm-hf detect: error: cannot write to '/dev/full' (No space left on device)")


def test_limits(run, photos):
    photo = photos / "a" / "photo.png"
    code, entries, err = run(photo, photos / "a" / "blank.JPG", "--max-pixels", 120 * 90)
    assert code == 1 and "200 x 100 pixels" in entries[0]["error"] and "max_pixels=10800" in err
    assert entries[1]["detections"] == []
    code, entries, err = run(photo, "--max-pixels", 200 * 100, "--draw", photos / "drawn")
    assert code == 0 and len(entries[0]["detections"]) == 1
    assert run(photo, "--timeout", 0)[0] == 2


def test_long_pictures_get_a_warning(run, photos):
    path = photos / "long.png"
    black_picture(9000, 60).save(path)
    code, entries, err = run(path)
    assert code == 0 and entries[0]["detections"] == []
    (line,) = err.splitlines()
    assert line.startswith(f"tcm-hf detect: warning: '{path}': 9000 x 60 pixels") and "--size" in line
    assert run(path, "--size", "60,9000")[2] == ""


def test_file_names_that_are_no_utf8(run, photos):
    name = os.fsencode(photos / "a") + b"/x\xb3\xb5.png"
    try:
        with open(name, "wb") as file:
            file.write((photos / "a" / "photo.png").read_bytes())
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    for output in (photos / "out.json", photos / "out.jsonl"):
        assert run(photos / "a", photos / "b", "--output", output, "--draw", photos / "drawn")[0] == 0
        assert "\\udcb3\\udcb5.png" in output.read_text(encoding="utf-8")
        entries = read_results(output)
        assert os.fsencode(entries[-3]["image"]) == name and len(entries[-3]["detections"]) == 1 and len(entries) == 5
    with open(name, "wb") as file:
        file.write(b"no image")
    code, entries, err = run(photos / "a")
    assert code == 1 and "error" in entries[-1] and "udcb3" in err


def test_output_goes_through_links_and_into_pipes(run, photos):
    target, link = photos / "results" / "out.json", photos / "link.json"
    link.symlink_to(target)
    for _ in range(2):
        assert run(photos / "a", "--output", link)[0] == 0
        assert link.is_symlink() and len(json.loads(target.read_text())) == 2
        target.write_text("older result")
    pipe = photos / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run(photos / "a", "--output", pipe)[0] == 0
    reader.join(10)
    assert pipe.is_fifo() and len(json.loads(received[0])) == 2


def test_output_to_stdout_keeps_what_a_redirected_stdout_has(tmp_path):
    code = (
        "from tcm_hf.output_files import check_output_file, output_file\nprint('before')\n"
        "check_output_file('/dev/stdout')\nwith output_file('/dev/stdout') as file: file.write('result\\n')\nprint('after')"
    )
    with open(tmp_path / "all.txt", "w", encoding="utf-8") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "all.txt").read_text(encoding="utf-8") == "before\nresult\nafter\n"
    assert os.listdir(tmp_path) == ["all.txt"]


def test_drawings_never_overwrite(run, photos):
    drawings = photos / "drawings"
    code, _, _ = run(photos / "a", photos / "b", "--draw", drawings, "--batch-size", 3)
    assert code == 0
    assert sorted(os.listdir(drawings)) == ["blank.jpg", "photo.jpg", "photo_2.jpg", "photo_3.jpg"]
    drawn = np.asarray(Image.open(drawings / "photo.jpg")).astype(int)
    assert drawn.shape == (100, 200, 3) and drawn[:28].max() < 30
    assert (drawn[..., 0] - drawn[..., 1]).max() > 100  # the outline's color
    # Into the directory of the images themselves.
    before = (photos / "a" / "blank.JPG").read_bytes()
    run(photos / "a", "--draw", photos / "a")
    assert (photos / "a" / "blank.JPG").read_bytes() == before
    assert (photos / "a" / "blank_2.jpg").exists()


def test_results_overwrite_no_image_and_not_one_another(run, photos):
    photo, table = photos / "a" / "photo.png", photos / "crops" / "crops.csv"
    (photos / "list.txt").write_text(str(photo))
    before = photo.read_bytes()
    for inputs, options, message in (
        (photos / "a", ["--html", photo], "--html .*photo.png' is one of the inputs"),
        (photos / "list.txt", ["--html", photo], "--html .*photo.png' is a file of images"),
        (photos / "list.txt", ["--output", photo], "--output .*photo.png' is a file of images"),
        (photos / "list.txt", ["--output", photos / "list.txt"], "--output .*list.txt' is one of the inputs"),
        (photos / "a", ["--output", photos / "x", "--html", photos / "b" / ".." / "x"], "--output and --html name"),
        (photos / "a", ["--output", table, "--crops", table.parent], "--output and --crops name the same file"),
    ):
        code, entries, err = run(inputs, *options)
        assert code == 2 and entries is None and re.search(message, err) and len(err.splitlines()) == 1, err
    assert photo.read_bytes() == before and sorted(os.listdir(photos)) == ["a", "b", "list.txt"]


def test_options_reach_the_detector(run, photos):
    photo = photos / "a" / "photo.png"
    assert run(photo, "--threshold", 0.95)[1][0]["detections"] == []
    assert run(photo, "--shape", "box")[1][0]["detections"][0]["box"]["xmin"] == 40
    boxes = [run(photo, "--size", size)[1][0]["detections"][0]["box"] for size in ("50", "50,100", "50,60")]
    assert boxes[0] == boxes[1] != boxes[2]


def test_loading_options(photos, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint"
    tiny_pipeline().save_pretrained(checkpoint)
    parse = cli.build_parser().parse_args
    options = ["--shape", "quad", "--threshold", "0.1", "--mask-threshold", "0.4", "--unclip-ratio", "1", "--upscale"]
    options += ["--size", "64,100", "--reading-order", "--device", "cpu"]
    pipe = detect.load_pipeline(parse(["detect", "x", "--model", str(checkpoint), *options]))
    assert pipe._postprocess_params == {
        "shape": "quad",
        "threshold": 0.1,
        "mask_threshold": 0.4,
        "unclip_ratio": 1.0,
        "reading_order": True,
    }
    assert pipe._preprocess_params == {"size": {"shortest_edge": 64, "longest_edge": 100}, "do_upscale": True}
    capsys.readouterr()
    os.unlink(checkpoint / "model.safetensors")
    (checkpoint / "pytorch_model.bin").write_bytes(b"a pickle")
    assert cli.main(["detect", str(photos / "a" / "photo.png"), "--model", str(checkpoint)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and "cannot load model" in err
    assert "safetensors" in err and "Traceback" not in err


@pytest.mark.parametrize("dtype", [None, "auto", "float32", "bfloat16", "float16"])
def test_dtype_of_the_model(photos, tmp_path, dtype):
    """What is named, or else what the checkpoint is saved in; the texts stay where they are."""
    checkpoint = tmp_path / "checkpoint"
    pipe = tiny_pipeline()
    pipe.save_pretrained(checkpoint)
    pipe.model.to(torch.bfloat16).save_pretrained(checkpoint)
    words = [] if dtype is None else ["--dtype", dtype]
    loaded = detect.load_pipeline(cli.build_parser().parse_args(["detect", "x", "--model", str(checkpoint), *words]))
    saved = dtype in (None, "auto")
    assert loaded.model.dtype == (torch.bfloat16 if saved else getattr(torch, dtype))
    assert {value.dtype for value in loaded.model.parameters()} == {loaded.model.dtype}
    arguments = ["detect", str(photos / "a" / "photo.png"), "--model", str(checkpoint), *words]
    assert cli.main([*arguments, "--output", str(tmp_path / "out.json")]) == 0
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    assert "error" not in entry and entry["width"] == 200


def test_dtype_of_an_exported_model(tmp_path, monkeypatch, capsys):
    from tcm_hf.export.model import TCMRuntimeModel

    tiny_pipeline().save_pretrained(tmp_path)
    monkeypatch.setattr(TCMRuntimeModel, "is_exported", lambda folder: True)
    monkeypatch.setattr(TCMRuntimeModel, "from_pretrained", lambda folder: None)
    assert cli.main(["detect", "x", "--model", str(tmp_path), "--dtype", "bfloat16"]) == 2
    assert "is exported, and runs in float32; name the checkpoint" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_device_that_this_torch_lacks(photos, capsys):
    assert cli.main(["detect", str(photos / "a"), "--device", "cuda"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and f"error: cannot load model '{DEFAULT}': " in err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--tile", "100"], "--tile must be at least 128 pixels"),
        (["--tile=300,60"], "--tile must be at least 128 pixels"),
        (["--device", "gpu"], "--device 'gpu' is no device; it is cpu, cuda"),
        (["--device", "cuda:99"], "so --device cuda:99 is not there"),
        (["--every", "0"], "--every must be a number of frames"),
    ],
)
def test_options_are_checked_before_anything_is_opened(photos, tmp_path, monkeypatch, capsys, words, message):
    for name in ("load_pipeline", "find_images", "build_result_writer"):
        monkeypatch.setattr(detect, name, lambda *arguments, name=name, **keywords: pytest.fail(f"{name} was called"))
    assert cli.main(["detect", str(photos / "a"), "--output", str(tmp_path / "out.json"), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err
    assert sorted(os.listdir(photos)) == ["a", "b"]


def test_settings_that_the_detector_lacks_are_refused_before_the_weights_are_read(photos, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint"
    tiny_pipeline().save_pretrained(checkpoint)
    settings = json.loads((checkpoint / "preprocessor_config.json").read_text())
    settings.pop("decoding", None)
    (checkpoint / "preprocessor_config.json").write_text(json.dumps({**settings, "detector": "fce"}))
    (checkpoint / "model.safetensors").write_bytes(b"not read")
    capsys.readouterr()
    for words in (["--mask-threshold", "0.5"], ["--unclip-ratio", "2"]):
        assert cli.main(["detect", str(photos / "a"), "--model", str(checkpoint), *words]) == 2
        out, err = capsys.readouterr()
        assert (
            out == "" and len(err.splitlines()) == 1 and f"{words[0]}: the model's detector 'fce' has no such" in err
        )


def test_mistakes_in_a_program_are_raised(run, photos, monkeypatch):
    """They are never taken for a property of an image, with and without threads."""

    def wrong(*arguments, **keywords):
        return None.missing

    for place, name in (
        (InputImage, "load"),
        (TextDetectionPipeline, "preprocess"),
        (TextDetectionPipeline, "postprocess"),
        (TextDetectionPipeline, "_forward"),
        (sources, "_read_image"),
        (ResultWriter, "encode"),
    ):
        for workers in (0, 2):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, wrong)
                with pytest.raises(AttributeError, match="missing"):
                    run(photos / "a", "--workers", workers)


@pytest.mark.parametrize("command", ["detect", "evaluate"])
@pytest.mark.parametrize(
    "option, text, message",
    [
        ("--threshold", "much", "much is not a number"),
        ("--mask-threshold", "1.5", "1.5 is not between 0 and 1"),
        ("--unclip-ratio", "-1", "-1 is not at least 0 and finite"),
        ("--unclip-ratio", "inf", "inf is not at least 0 and finite"),
        ("--batch-size", "0", "0 is not a whole number of at least 1"),
        ("--batch-size", "1.5", "1.5 is not a whole number of at least 1"),
        ("--size", "1,x", "1,x is neither N nor SHORTEST,LONGEST"),
        ("--size", "9,8", "9,8 is neither N nor SHORTEST,LONGEST"),
    ],
)
def test_both_commands_explain_wrong_numbers(command, option, text, message, capsys):
    given = ["x"] if command == "detect" else ["x", "--ground-truth", "y"]
    assert cli.main([command, *given, f"{option}={text}"]) == 2
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_usage_errors(run, photos, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments in (
        [],
        [tmp_path / "empty"],
        [tmp_path / "*.tiff"],
        [photos / "a", "--threshold", "1.5"],
        [photos / "a", "--threshold", "much"],
        [photos / "a", "--batch-size", "0"],
        [photos / "a", "--size", "100,50"],
        [photos / "a", "--size", "1,2,3"],
        [photos / "a", "--shape", "circle"],
        [photos / "a", "--unclip-ratio", "-1"],
        [photos / "a", "--unclip-ratio", "nan"],
        [photos / "a", "--output", tmp_path],
        [photos / "a", "--output", photos / "b" / ".." / "a" / "photo.png"],
        [photos / "a", "--draw", photos / "b" / "notes.txt"],
    ):
        code, entries, err = run(*arguments)
        assert code == 2 and entries is None and "error: " in err, arguments
    assert cli.main([]) == 2 and cli.main(["--help"]) == 0 and cli.main(["detect", "--help"]) == 0
    assert "--threshold" in capsys.readouterr().out


def test_find_images(photos):
    assert list(detect.find_images([str(photos / "**" / "*.png")])) == [str(photos / n / "photo.png") for n in "ab"]
    assert [os.path.basename(path) for path in detect.find_images([str(photos / "b")])] == ["photo.png", "photo.webp"]
    assert detect.find_images(["http://host/x*.jpg", "absent.png"]) == {"http://host/x*.jpg": None, "absent.png": None}
    strange = photos / "[1].png"
    strange.touch()
    assert detect.find_images([str(strange)]) == {str(strange): None}


def test_inputs_without_pictures_do_not_stop_the_rest(run, photos, monkeypatch):
    empty, locked, pattern = photos / "empty", photos / "locked", photos / "*.tiff"
    empty.mkdir()
    locked.mkdir()
    listdir = os.listdir

    def guarded(path):
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", guarded)
    photo = photos / "a" / "photo.png"
    code, entries, err = run(empty, photo, pattern, locked, photo)
    assert code == 1
    assert [entry["image"] for entry in entries] == [str(path) for path in (empty, photo, pattern, locked)]
    assert ["error" in entry for entry in entries] == [True, False, True, True]
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.startswith("tcm-hf detect: error: ")]
    assert len(lines) == 3
    for line, path, reason in zip(lines, (empty, pattern, locked), ("no images", "no file", "Permission denied")):
        assert str(path) in line and reason in line
    code, entries, err = run(empty, locked)
    assert code == 2 and entries is None and len(err.splitlines()) == 1 and str(empty) in err and str(locked) in err


def test_output_places_are_checked_before_the_model_is_loaded(photos, monkeypatch, capsys):
    monkeypatch.setattr(detect, "load_pipeline", lambda arguments: pytest.fail("the model was loaded"))
    note = photos / "b" / "notes.txt"
    for option, place in (
        ("--output", note / "out.json"),
        ("--output", photos / ("x" * 300)),
        ("--output", photos),
        ("--draw", note),
        ("--draw", note / "drawings"),
    ):
        assert cli.main(["detect", str(photos / "a"), option, str(place)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1
        assert err.startswith("tcm-hf detect: error: cannot write") and str(place) in err
    assert note.read_text() == "no image" and sorted(os.listdir(photos)) == ["a", "b"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_logits_that_are_not_finite(photos, monkeypatch, capsys, batch_size):
    def broken_on_blank(pixel_values, pixel_mask=None, **kwargs):
        outputs = find_white(pixel_values, pixel_mask)
        outputs.logits[~(outputs.logits > 0).flatten(1).any(1)] = float("nan")
        return outputs

    def load(arguments):
        pipe = white_pipeline(monkeypatch)
        monkeypatch.setattr(pipe.model, "forward", broken_on_blank)
        return pipe

    monkeypatch.setattr(detect, "load_pipeline", load)
    blank, photo = str(photos / "a" / "blank.JPG"), str(photos / "a" / "photo.png")
    other = str(photos / "b" / "photo.png")
    assert cli.main(["detect", photo, blank, other, "--batch-size", str(batch_size)]) == 1
    out, err = capsys.readouterr()
    entries = json.loads(out)
    assert [entry["image"] for entry in entries] == [photo, blank, other]
    assert ["error" in entry for entry in entries] == [False, True, False]
    assert [len(entry["detections"]) for entry in entries[::2]] == [1, 1]
    (line,) = err.splitlines()
    assert line.startswith("tcm-hf detect: error: ") and blank in line and "NaN" in line


def test_models_that_cannot_be_loaded(photos, tmp_path, capsys):
    def run(*arguments):
        code = cli.main([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 2 and out == "" and len(err.splitlines()) == 1, err
        assert err.startswith(f"tcm-hf {arguments[0]}: error: ")
        return err

    photo = photos / "a" / "photo.png"
    for missing in ("./missing", str(tmp_path / "missing" / "too")):
        err = run("detect", photo, "--model", missing)
        assert missing in err and "no such directory" in err
    checkpoint = tmp_path / "checkpoint"
    tiny_pipeline().save_pretrained(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    del config["detector_config"]
    (checkpoint / "config.json").write_text(json.dumps({**config, "detector": "magic"}))
    capsys.readouterr()
    assert "'magic'" in run("detect", photo, "--model", checkpoint)
    assert "'magic'" in run("convert", tmp_path / "clip.pt", tmp_path / "out", "--detector", "magic")
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "config.json").write_text('{"model_type": "clip", "vision_config": {"hidden_size": "wide"}}')
    save_file({"visual_projection.weight": torch.zeros(4, 4)}, clip / "model.safetensors")
    err = run("convert", clip, tmp_path / "out")
    assert "config.json" in err and "hidden_size" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ["[]", "3", "null", "{", "", '{"model_type": 3, "image_processor_type": 3}'])
def test_checkpoints_with_damaged_files(photos, tmp_path, capsys, name, text):
    checkpoint = tmp_path / "checkpoint"
    tiny_pipeline().save_pretrained(checkpoint)
    (checkpoint / name).write_text(text)
    capsys.readouterr()
    assert cli.main(["detect", str(photos / "a"), "--model", str(checkpoint)]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("tcm-hf")]
    assert out == "" and len(lines) == 1 and "Traceback" not in err
    assert lines[0].startswith(f"tcm-hf detect: error: cannot load model {str(checkpoint)!r}: ") and name in lines[0]


def test_progress_bar_on_terminals_only(run, photos, monkeypatch):
    assert run(photos / "a", photos / "b")[2] == ""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True, raising=False)
    assert run(photos / "a")[2] == ""  # too short for one
    monkeypatch.setattr(detect, "SECONDS_BEFORE_PROGRESS", 0)
    assert "4/4" in run(photos / "a", photos / "b")[2]


def test_pictures_are_not_kept(run, photos, monkeypatch):
    paths = []
    for index in range(30):
        paths.append(photos / f"{index}.png")
        black_picture(50, 40).save(paths[-1])
    references, most, load = [], [], InputImage.load

    def counted(item):
        image = load(item)
        references.append(weakref.ref(image))
        most.append(sum(reference() is not None for reference in references))
        return image

    monkeypatch.setattr(InputImage, "load", counted)
    # Those of four batches may wait; with little memory, one in each thread.
    for limit, expected in ((detection_loop.WAITING_BYTES, 16), (1, 4)):
        monkeypatch.setattr(detection_loop, "WAITING_BYTES", limit)
        assert run(*paths, "--batch-size", 3, "--draw", photos / "drawings")[0] == 0
        assert len(most) == 30 and max(most) <= expected
        references.clear()
        most.clear()


def test_large_photo_needs_little_memory(tmp_path):
    Image.effect_noise((4000, 3000), 90).convert("RGB").save(tmp_path / "large.jpg")
    tiny_pipeline(shortest_edge=1024).save_pretrained(tmp_path / "checkpoint")
    command = [sys.executable, "-m", "tcm_hf.cli", "detect", "large.jpg", "--model", "checkpoint", "--draw", "out"]
    root = os.path.dirname(os.path.dirname(cli.__file__))
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as process:
        entries = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 and entries[0]["width"] == 4000
    assert usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) < 2e9
