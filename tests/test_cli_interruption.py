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
"""Runs of `tcm-hf detect` that end early: by signals, full disks and readers that go; and two runs at once."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from tiny_model import black_picture, tiny_pipeline

from tcm_hf import cli
from tcm_hf.commands.interruption import Interrupted, interruptible, uninterrupted
from tcm_hf.commands.result_writer import ResultWriteError, ResultWriter


ROOT = os.path.dirname(os.path.dirname(cli.__file__))
PICTURES = 60


@pytest.fixture(autouse=True)
def signals_count():
    """A shell starts what runs in its background with Ctrl-C ignored, and children inherit that."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny checkpoint and images that take a while."""
    folder = tmp_path_factory.mktemp("interrupted")
    tiny_pipeline(shortest_edge=256).save_pretrained(folder / "checkpoint")
    (folder / "pictures").mkdir()
    for index in range(PICTURES):
        black_picture(300, 260, (40, 30 + index, 200, 60 + index)).save(folder / "pictures" / f"{index:03}.png")
    return folder


def start(place, *arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "tcm_hf.cli", "detect", "pictures", "--model", "checkpoint", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True, **options)


def read_results(path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        assert text.endswith("\n") or not text
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def wait_for(condition, process, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.02)


def last_line(process) -> str:
    lines = process.stderr.read().replace("\r", "\n").splitlines()
    assert not any("Traceback" in line for line in lines)
    return [line for line in lines if line.startswith("tcm-hf")][-1]


def check_entries(entries) -> None:
    assert [entry["image"] for entry in entries] == [f"pictures/{index:03}.png" for index in range(len(entries))]
    assert all("detections" in entry and entry["width"] == 300 for entry in entries)


@pytest.mark.parametrize(
    "number, name",
    [(signal.SIGINT, "out.json"), (signal.SIGTERM, "out.jsonl"), (signal.SIGHUP, None)],
)
def test_signals_leave_what_was_found(place, tmp_path, number, name):
    output = tmp_path / (name or "stdout.json")
    options = ["--draw", tmp_path / "drawn"] + (["--output", output] if name else [])
    with open(output, "w") if name is None else open(os.devnull, "w") as stdout:
        if name:
            output.write_text("older result")
        process = start(place, *options, stdout=stdout)
        wait_for(lambda: output.exists() and output.read_text().count('"image"') >= 3, process)
        process.send_signal(number)
        assert process.wait(120) == 128 + number
    entries = read_results(output)
    assert 3 <= len(entries) < PICTURES
    check_entries(entries)
    line = last_line(process)
    assert line.startswith(f"tcm-hf detect: interrupted; the first {len(entries)} of {PICTURES} results are in ")
    assert sorted(os.listdir(tmp_path)) == sorted(["drawn", output.name])
    assert 0 <= len(os.listdir(tmp_path / "drawn")) - len(entries) <= 1


def test_a_pipe_gets_a_whole_list(place):
    process = start(place, stdout=subprocess.PIPE)
    start_of_list = [process.stdout.readline() for _ in range(3)]
    process.terminate()
    entries = json.loads("".join(start_of_list) + process.stdout.read())
    assert process.wait(120) == 143 and 2 <= len(entries) < PICTURES
    check_entries(entries)


def test_a_signal_before_the_first_result(place, tmp_path):
    output = tmp_path / "out.json"
    output.write_text("older result")
    process = start(place, "--output", output)
    wait_for(lambda: (tmp_path / ".out.json.lock").exists(), process)
    process.terminate()
    assert process.wait(120) == 143 and last_line(process) == "tcm-hf detect: interrupted"
    assert output.read_text() == "older result" and os.listdir(tmp_path) == ["out.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_full_stdout(place):
    with open("/dev/full", "w") as full:
        process = start(place, stdout=full)
        assert process.wait(120) == 1
    text = process.stderr.read().replace("\r", "\n")
    (line,) = [line for line in text.splitlines() if line.startswith("tcm-hf")]
    assert line.startswith("tcm-hf detect: error: cannot write to ") and "No space left" in line
    assert "Traceback" not in text and "Exception ignored" not in text


def test_a_reader_that_goes_ends_the_run_without_noise(place):
    process = start(place, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 1
    assert "Error" not in process.stderr.read()


# ---------------------------------------------------------------------- the writer itself


@contextmanager
def small_disk():
    """
    Files may have 1,000 bytes; what goes beyond is written in part and then fails, as on a full disk.

    It ends before the test does: pytest's own output may be a longer file, and the limit is that of the whole process.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
@pytest.mark.parametrize("size", [1, 200, 330, 2000])
def test_full_disk(tmp_path, name, size):
    output = tmp_path / name
    output.write_text("older result")
    entry = {"image": "ä" * (size // 2)}
    refused = pytest.raises(ResultWriteError, match="cannot write to .*out")
    with refused, small_disk(), ResultWriter(output) as writer:
        while True:
            writer.write(entry)
            assert read_results(output) == [entry] * writer.count
    if size == 2000:
        assert writer.count == 0 and output.read_text() == "older result"
    else:
        assert writer.count >= 1 and read_results(output) == [entry] * writer.count
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_full_disk_of_a_redirected_stdout(tmp_path, monkeypatch, mode):
    path = tmp_path / "stdout.json"
    path.write_text("" if mode == "w" else "before ")
    with open(path, mode) as file:
        if mode == "r+":
            file.seek(7)
        monkeypatch.setattr(sys, "stdout", file)
        entry = {"image": "x" * 300}
        refused = pytest.raises(ResultWriteError, match="cannot write to stdout")
        with refused, small_disk(), ResultWriter(None) as writer:
            while True:
                writer.write(entry)
    text = path.read_text()
    if mode != "w":
        assert text.startswith("before ")
        text = text[7:]
    if mode == "a":  # nothing can be written over there; the entries before are whole lines
        text = "\n".join(text.splitlines()[: 1 + writer.count]).rstrip(",") + "]"
    assert json.loads(text) == [entry] * writer.count and writer.count >= 2


def test_signals_wait_for_the_end_of_a_write(tmp_path, monkeypatch):
    write, numbers = os.write, []

    def interrupted(descriptor, data):
        os.kill(os.getpid(), signal.SIGTERM)
        numbers.append(len(data))
        return write(descriptor, data[: max(1, len(data) // 2)])

    for output in (tmp_path / "a.json", tmp_path / "a.jsonl"):
        with monkeypatch.context() as patch, interruptible():
            with pytest.raises(Interrupted), ResultWriter(output) as writer:
                writer.write({"image": "1"})
                patch.setattr(os, "write", interrupted)
                writer.write({"image": "2"})
            assert writer.count == 2
        assert len(numbers) > 1 and [entry["image"] for entry in read_results(output)] == ["1", "2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_is_lost_comes_again():
    class Ending:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    with interruptible():
        ending = Ending()
        del ending  # Python only prints what is raised here
        with pytest.raises(Interrupted) as caught, uninterrupted():
            pass
        assert caught.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_write_errors_have_their_names(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(ResultWriteError, match="cannot write to .*a.json.*Input/output"):
        with ResultWriter(tmp_path / "a.json") as writer:
            monkeypatch.setattr(os, "write", fail)
            writer.write({})
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_kill_loop(place, tmp_path, name):
    """Killed at any moment, also without a chance to say so, and with a second run that wants the same file."""
    random.seed(0)
    output = tmp_path / name
    for trial in range(12):
        number = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        runs = [start(place, "--output", output, stdout=subprocess.DEVNULL) for _ in range(2)]
        time.sleep(random.uniform(3.0, 25.0))
        for process in runs:
            process.send_signal(number)
        codes = {process.wait(120) for process in runs}
        assert codes <= {0, 1, -number, 128 + number}, codes
        if output.exists():
            entries = read_results(output)
            assert 1 <= len(entries) <= PICTURES, trial
            check_entries(entries)
        assert [file for file in os.listdir(tmp_path) if file not in (name, f".{name}.lock")] == []
    process = start(place, "--output", output, stdout=subprocess.DEVNULL)
    assert process.wait(120) == 0 and len(read_results(output)) == PICTURES and os.listdir(tmp_path) == [name]
