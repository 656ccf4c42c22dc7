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
"""`tcm-hf detect --resume`, and the loop that decodes and reads out beside the model."""

import json
import random
import signal
import subprocess
import threading
import time

import pytest
import torch
from PIL import Image
from test_cli_interruption import start
from tiny_model import black_picture, tiny_pipeline, white_pipeline

from tcm_hf import cli
from tcm_hf.commands import detect, detection_loop
from tcm_hf.commands.detection_loop import LoopOptions, detect_images, passes_at_a_time
from tcm_hf.commands.result_writer import ResultWriteError, ResultWriter
from tcm_hf.inputs import InputImage, iterate_images


BOX = (40, 30, 99, 49)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on a folder of 12 images of several sizes, one of them damaged."""
    (tmp_path / "in").mkdir()
    for index in range(12):
        black_picture(120 + 40 * (index % 3), 100, (40, 30, 60 + index, 49)).save(tmp_path / "in" / f"{index:02}.png")
    (tmp_path / "in" / "05.png").write_bytes(b"no image")
    monkeypatch.setattr(detect, "load_pipeline", lambda arguments: white_pipeline(monkeypatch))
    return lambda *arguments: cli.main(["detect", str(tmp_path / "in"), *map(str, arguments)])


@pytest.mark.parametrize("options", [("--workers", 0), ("--workers", 2), ("--batch-size", 3), ("--batch-size", 50)])
def test_all_ways_give_the_same_in_the_same_order(run, tmp_path, options):
    assert run("--output", tmp_path / "one.jsonl") == 1
    assert run("--output", tmp_path / "other.jsonl", *options) == 1
    text = (tmp_path / "one.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["image"][-6:-4] for row in rows] == [f"{index:02}" for index in range(12)]
    assert [len(row.get("detections", [])) for row in rows] == [1] * 5 + [0] + [1] * 6
    assert (tmp_path / "other.jsonl").read_text() == text


def test_batches_are_of_similar_sizes(monkeypatch):
    pipe = white_pipeline(monkeypatch)
    shapes, forward = [], pipe.model.forward

    def watched(pixel_values, pixel_mask=None, **kwargs):
        shapes.append((len(pixel_values), pixel_mask is not None))
        return forward(pixel_values=pixel_values, pixel_mask=pixel_mask, **kwargs)

    monkeypatch.setattr(pipe.model, "forward", watched)
    images = [black_picture(120 if index % 2 else 320, 100, BOX) for index in range(16)]
    rows = list(detect_images(pipe, iterate_images(images), LoopOptions(batch_size=4)))
    assert [len(entry["detections"]) for _, entry, _ in rows] == [1] * 16
    assert shapes == [(4, False)] * 4


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def watched_pipeline(monkeypatch, watch):
    """A pipeline whose forward passes call `watch` first."""
    pipe = white_pipeline(monkeypatch)
    forward = pipe.model.forward

    def watched(**kwargs):
        watch()
        return forward(**kwargs)

    monkeypatch.setattr(pipe.model, "forward", watched)
    return pipe


def test_passes_side_by_side_give_the_same_in_the_same_order(monkeypatch, four_threads):
    threads, both = [], threading.Barrier(2, timeout=60)

    def watch():
        threads.append(torch.get_num_threads())
        both.wait()  # for the other one, which one after the other would not come

    images = [black_picture(120, 100, (40, 30, 60 + index, 49)) for index in range(12)]
    pipe = watched_pipeline(monkeypatch, watch)
    rows = [entry for _, entry, _ in detect_images(pipe, iterate_images(images), LoopOptions(passes=2))]
    assert [row["detections"][0]["box"]["xmax"] for row in rows] == list(range(60, 72))
    assert threads == [2] * 12


def test_a_single_image_has_all_cores(monkeypatch, four_threads):
    threads = []
    pipe = watched_pipeline(monkeypatch, lambda: threads.append(torch.get_num_threads()))

    def inputs():
        yield from iterate_images([black_picture(60, 40)])

    list(detect_images(pipe, inputs(), LoopOptions(passes=2)))
    assert threads == [4]


def test_errors_of_passes_side_by_side(monkeypatch):
    def fail(error):
        raise error

    for workers in (0, 1):
        options = LoopOptions(workers=workers, passes=3)
        pipe = watched_pipeline(monkeypatch, lambda: fail(RuntimeError("out of memory")))
        images = [black_picture(60, 40)] * 5
        rows = [entry for _, entry, _ in detect_images(pipe, iterate_images(images), options)]
        assert ["out of memory" in row["error"] for row in rows] == [True] * 5
        pipe = watched_pipeline(monkeypatch, lambda: fail(NameError("a mistake")))
        with pytest.raises(NameError, match="a mistake"):
            list(detect_images(pipe, iterate_images(images), options))


def test_passes_at_a_time(monkeypatch, four_threads):
    pipe = tiny_pipeline()
    assert [passes_at_a_time(pipe, size) for size in (1, 2)] == [4, 1]
    torch.set_num_threads(2)
    assert passes_at_a_time(pipe) == 2
    torch.set_num_threads(64)
    assert passes_at_a_time(pipe) == 4
    monkeypatch.setattr(pipe, "device", torch.device("meta"))
    assert passes_at_a_time(pipe) == 1
    pipe = tiny_pipeline()
    monkeypatch.setattr(pipe, "model", torch.nn.Identity())  # such as an exported network
    assert passes_at_a_time(pipe) == 1


def test_resuming(run, tmp_path, monkeypatch):
    whole, output, drawn = tmp_path / "whole.jsonl", tmp_path / "out.jsonl", tmp_path / "drawn"
    assert run("--output", whole, "--draw", drawn) == 1
    content = whole.read_bytes()
    loaded, load = [], InputImage.load
    monkeypatch.setattr(InputImage, "load", lambda item: (loaded.append(item.name), load(item))[1])
    lines = content.splitlines(keepends=True)
    # Whole lines, half a line, a line that lacks nothing but its end, nothing at all.
    for kept, done in (
        (b"".join(lines[:7]), 7),
        (content[: len(b"".join(lines[:7])) + 20], 7),
        (content[:-1], 12),
        (b"", 0),
    ):
        output.write_bytes(kept)
        loaded.clear()
        assert run("--output", output, "--resume", "--draw", drawn) == 1  # for the image that could not be read
        assert output.read_bytes() == content and len(loaded) == 12 - done
    output.unlink()
    assert run("--output", output, "--resume") == 1 and output.read_bytes() == content
    assert len(list(drawn.iterdir())) == 11


def test_resuming_with_other_files(run, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    for text in ('{"image": "a"}\nno result\n{"image": "b"}\n', '[]\n{"image": "a"}\n', '{"text": "a"}\n'):
        output.write_text(text)
        assert run("--output", output, "--resume") == 1
        assert "no result of tcm-hf detect" in capsys.readouterr().err and output.read_text() == text
    with pytest.raises(ResultWriteError), ResultWriter(output, resume=True):
        pass
    for arguments in (["--resume"], ["--resume", "--output", tmp_path / "out.json"]):
        assert run(*arguments) == 2 and "--output FILE.jsonl" in capsys.readouterr().err


def test_an_error_of_the_inputs_ends_the_loop(monkeypatch):
    def inputs():
        yield from iterate_images([black_picture(60, 40)])
        raise ZeroDivisionError

    for workers in (0, 1):
        with pytest.raises(ZeroDivisionError):
            list(detect_images(white_pipeline(monkeypatch), inputs(), LoopOptions(workers=workers)))


def test_stopping_early_closes_the_inputs(monkeypatch):
    closed = []

    def inputs():
        try:
            while True:
                yield from iterate_images([black_picture(60, 40)])
        finally:
            closed.append(True)

    for workers in (0, 2):
        loop = detect_images(white_pipeline(monkeypatch), inputs(), LoopOptions(workers=workers))
        assert [next(loop)[1]["width"] for _ in range(5)] == [60] * 5
        loop.close()
    assert closed == [True, True]


def test_the_pipeline_takes_the_inputs(monkeypatch, tmp_path):
    for index in range(3):
        black_picture(120, 100, BOX).save(tmp_path / f"{index}.png")
    frames = [black_picture(120, 100, (40, 30, 80 + index, 49)) for index in range(3)]
    frames[0].save(tmp_path / "3.gif", save_all=True, append_images=frames[1:])
    pipe = white_pipeline(monkeypatch)
    found = list(pipe(iterate_images(tmp_path, all_frames=True), batch_size=2))
    assert [words[0]["box"]["xmax"] for words in found] == [99, 99, 99, 80, 81, 82]
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(OSError, match="1.png"):
        list(pipe(iterate_images(tmp_path)))


def test_the_reader_waits_for_memory(monkeypatch):
    monkeypatch.setattr(detection_loop, "WAITING_BYTES", 1)
    alive, most = [0], []

    class Counted(InputImage):
        def load(self):
            alive[0] += 1
            most.append(alive[0])
            return Image.new("RGB", (60, 40))

    def inputs():
        for index in range(30):
            yield Counted(str(index), "x")

    for _, entry, _ in detect_images(white_pipeline(monkeypatch), inputs(), LoopOptions(batch_size=4, workers=2)):
        assert entry["detections"] == []
        alive[0] -= 1
    assert len(most) == 30 and max(most) <= 6


@pytest.mark.slow
def test_kills_and_resuming(tmp_path):
    """Killed at 10 random moments: every image is there exactly once, and as in a run that was left alone."""
    tiny_pipeline(shortest_edge=96).save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "pictures").mkdir()
    for index in range(300):
        black_picture(300, 260, (40, 30, 60 + index % 200, 60)).save(tmp_path / "pictures" / f"{index:03}.png")
    assert start(tmp_path, "--output", "whole.jsonl", stdout=subprocess.DEVNULL).wait(900) == 0
    rng, output, counts = random.Random(0), tmp_path / "out.jsonl", []
    for _ in range(10):
        before = output.stat().st_size if output.exists() else -1
        process = start(tmp_path, "--output", output, "--resume", "--batch-size", 2, stdout=subprocess.DEVNULL)
        # From the moment on at which it writes: before, a kill meets nothing.
        while process.poll() is None and (output.stat().st_size if output.exists() else -1) <= before:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        counts.append(output.read_bytes().count(b"\n"))
        with open(output, "ab") as file:  # as a kill in the midst of a write
            file.write(b'{"image": "pictures/'[: rng.randrange(20)])
    assert counts == sorted(counts) and counts[0] > 0
    process = start(tmp_path, "--output", output, "--resume", stdout=subprocess.DEVNULL)
    assert process.wait(900) == 0, process.stderr.read()
    assert output.read_text() == (tmp_path / "whole.jsonl").read_text()
