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
"""What `prepare`, `inspect` and `synthesize` leave when they are killed, run twice at a time, or find the disk full."""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from annotation_samples import box, numbers
from PIL import Image, ImageFont

from tcm_hf import cli
from tcm_hf.data import prepare
from tcm_hf.data.formats import read_dataset
from tcm_hf.data.parquet_shards import write_parquet
from tcm_hf.output_files import exclusive


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the signals of Unix")

# Imports everything once, and forks for every command: a kill loop would only meet imports otherwise.
SERVER = """
import json, os, sys
import cv2, datasets
from tcm_hf import cli
from tcm_hf.commands import prepare, synthesize
from tcm_hf.data.synthesis import generator

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        status = os.waitpid(request["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 99
        try:
            code = cli.main(request["argv"])
            sys.stdout.flush()
        except KeyboardInterrupt:  # before or after the command
            code = 130
        finally:
            os._exit(code)
    print(child, flush=True)
"""


class Commands:
    """Runs `tcm-hf` in processes that start at once."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", SERVER]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )

    def ask(self, **request):
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, *argv):
        self.count += 1
        log = self.folder / f"log-{self.count}"
        return self.ask(argv=list(map(str, argv)), log=str(log)), log

    def wait(self, started):
        code = self.ask(wait=started[0])
        return code, started[1].read_text()

    def run(self, *argv):
        return self.wait(self.start(*argv))


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    server = Commands(tmp_path_factory.mktemp("commands"))
    yield server
    server.server.stdin.close()
    assert server.server.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """60 images, each with its number as color and as word."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(60):
        color = np.full((40, 60, 3), number * 4, np.uint8)
        Image.fromarray(color).save(folder / f"img_{number:02d}.png")
        (folder / f"gt_img_{number:02d}.txt").write_text(f"{numbers(box(1, 1, 30, 20))},word{number}")
    return folder


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "letters.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    return folder


def content(folder):
    """Every file below a folder by its name, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def check_whole(root, source=None):
    """A folder that looks complete must be complete, and every image that of its row."""
    metadata = root / "metadata.jsonl"
    if not metadata.is_file():
        return None
    rows = [json.loads(line) for line in metadata.read_text(encoding="utf-8").splitlines()]
    assert len({row["file_name"] for row in rows}) == len(rows)
    for row in rows:
        data = (root / row["file_name"]).read_bytes()
        if source is not None:
            name = Path(row["file_name"]).name
            assert data == (source / name).read_bytes()
            assert row["text"] == [f"word{int(name[4:6])}"]
    return len(rows)


def check_shards(folder):
    """Shards that can be seen are whole, and no row is there twice."""
    from pyarrow import parquet

    words = []
    for path in sorted(Path(folder).glob("data/*.parquet")):
        for row in parquet.read_table(path).to_pylist():
            (word,) = row["text"]
            with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                assert image.getpixel((0, 0)) == (int(word[4:]) * 4,) * 3
            words.append(word)
    assert len(set(words)) == len(words)
    return len(words)


# Two at a time ------------------------------------------------------------------------------------------------------


def in_one_line(log, command):
    lines = [line for line in log.replace("\r", "\n").splitlines() if "error" in line or "Traceback" in line]
    assert len(lines) == 1 and lines[0].startswith(f"tcm-hf {command}: error: "), log
    return lines[0]


@pytest.mark.parametrize("command", ["prepare", "synthesize"])
def test_the_second_of_two_runs_is_refused(commands, source, fonts, tmp_path, command):
    out = tmp_path / "out"
    if command == "prepare":
        argv, root = ("prepare", "icdar2015", source, out), out / "train"
    else:
        options = ("--size", 64, 64, "--fonts", fonts, "--workers", 1, "--text-height", 8, 20, "--quiet")
        argv, root = ("synthesize", out, "--count", 20, *options), out
    codes = set()
    for _ in range(4):
        results = [commands.wait(started) for started in [commands.start(*argv), commands.start(*argv)]]
        for code, log in results:
            codes.add(code)
            if code:
                assert code == 1 and "another run is writing to" in in_one_line(log, command)
        assert sorted(code for code, _ in results) in ([0, 0], [0, 1])
        assert check_whole(root, source if command == "prepare" else None) == (60 if command == "prepare" else 20)
        assert not [name for name in content(tmp_path) if "/." in f"/{name}"]
        shutil.rmtree(out)
    with exclusive(root):
        code, log = commands.run(*argv)
        assert code == 1 and str(root) in in_one_line(log, command) and not root.exists()


def test_other_shards_may_be_written_at_the_same_time(source, tmp_path):
    prepare.prepare_dataset(read_dataset("icdar2015", source), tmp_path / "out", source=source)
    with exclusive(tmp_path / "hub" / "data" / "test"):
        write_parquet(tmp_path / "out", tmp_path / "hub", "train")
        with pytest.raises(BlockingIOError, match="another run is writing to"):
            write_parquet(tmp_path / "out", tmp_path / "hub", "test")
    assert list(content(tmp_path / "hub")) == ["data/train-00000-of-00001.parquet"]


# Kills --------------------------------------------------------------------------------------------------------------


def kill_loop(commands, argv, rounds, seed, check):
    """Two writers at a time, killed by any signal at any time; returns how many kills came in time."""
    rng = random.Random(seed)
    began = time.monotonic()
    assert commands.run(*argv)[0] == 0
    whole = time.monotonic() - began
    check()
    kills = 0
    for _ in range(rounds):
        extra = ["--overwrite"] if argv[0] == "prepare" and rng.random() < 0.5 else []
        started = [commands.start(*argv, *extra) for _ in range(2)]
        for process, _ in started:
            if rng.random() < 0.8:
                time.sleep(rng.random() * whole * 0.8)
                how = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
                try:
                    os.killpg(process, how)
                except ProcessLookupError:
                    os.kill(process, 0)  # it is waited for below
        for code, log in map(commands.wait, started):
            assert code in (0, 1, 130, -signal.SIGKILL, -signal.SIGTERM, 143), log
            kills += code not in (0, 1)
            if code == 1:
                assert "another run is writing to" in in_one_line(log, argv[0])
            assert "Traceback" not in log
        check()
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kills_of_prepare(commands, source, tmp_path, seed):
    argv = ("prepare", "icdar2015", source)
    options = ("--verify", "--shard-size", 0.002)
    assert commands.run(*argv, tmp_path / "whole", *options, "--parquet", tmp_path / "whole-hub")[0] == 0
    assert check_shards(tmp_path / "whole-hub") == 60

    def check():
        assert check_whole(tmp_path / "out" / "train", source) in (None, 60)
        check_shards(tmp_path / "hub")

    argv = (*argv, tmp_path / "out", *options, "--parquet", tmp_path / "hub")
    kills = kill_loop(commands, argv, 40, seed, check)
    assert kills > 15
    code, log = commands.run(*argv)
    assert code == 0, log
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert content(tmp_path / "hub") == content(tmp_path / "whole-hub")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "out", "whole", "whole-hub"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kills_of_synthesize(commands, fonts, tmp_path, workers):
    options = ("--size", 64, 64, "--fonts", fonts, "--text-height", 8, 20, "--quiet", "--workers", workers)
    assert commands.run("synthesize", tmp_path / "whole", "--count", 90, *options)[0] == 0
    kills = 0
    # A finished folder is left alone, so every round grows it.
    for count in range(30, 91, 15):
        argv = ("synthesize", tmp_path / "out", "--count", count, *options)
        for seed in range(4 if workers == 1 else 2):
            rng = random.Random(f"{count}-{seed}")
            started = [commands.start(*argv) for _ in range(2)]
            for process, _ in started:
                time.sleep(rng.random() * (0.4 if workers == 1 else 6))
                os.killpg(process, rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            for code, log in map(commands.wait, started):
                kills += code not in (0, 1)
                assert "Traceback" not in log, log
                if code == 1:
                    assert "another run is writing to" in in_one_line(log, "synthesize")
            check_whole(tmp_path / "out")
        code, log = commands.run(*argv)
        assert code == 0 and check_whole(tmp_path / "out") == count, log
    assert kills > 10
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def stop(*arguments, **options):
    raise KeyboardInterrupt


def prepared(source, out, **options):
    return prepare.prepare_dataset(read_dataset("icdar2015", source), out, source=source, **options)


@pytest.mark.parametrize("broken", ["rmtree", "place", "_summarize"])
def test_a_stopped_overwriting_run_never_looks_whole(source, tmp_path, monkeypatch, broken):
    prepared(source, tmp_path / "new", repair=False)
    prepared(source, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr({"rmtree": shutil, "place": prepare.PictureStore}.get(broken, prepare), broken, stop)
        with pytest.raises(KeyboardInterrupt):
            prepared(source, tmp_path / "out", repair=False, overwrite=True)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()
    if broken == "rmtree":
        # Whatever was left is of the old run: the next one does not take its images for done.
        (tmp_path / "out" / "images" / "img_00.png").unlink()
    prepared(source, tmp_path / "out", repair=False)
    assert content(tmp_path / "out") == content(tmp_path / "new")


def test_overwriting_waits_until_the_source_can_be_read(source, tmp_path):
    prepared(source, tmp_path / "out")
    before = content(tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cli.main(["prepare", "icdar2015", str(empty), str(tmp_path / "out"), "--overwrite"]) == 1
    with pytest.raises(ValueError, match="was left as it is"):
        prepare.prepare_dataset([], tmp_path / "out", overwrite=True)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("function", ["replace", "unlink"])
def test_old_and_new_shards_are_never_there_together(source, tmp_path, monkeypatch, function):
    from tcm_hf.data import parquet_shards

    prepared(source, tmp_path / "out")
    write_parquet(tmp_path / "out", tmp_path / "hub", "train", 0.003)
    many = content(tmp_path / "hub")
    write_parquet(tmp_path / "out", tmp_path / "one", "train")
    for allowed in range(1, 12):
        calls = []
        real = getattr(os, function)

        def stop_later(*arguments, calls=calls, allowed=allowed, real=real, **options):
            calls.append(arguments)
            if len(calls) > allowed:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(parquet_shards.os, function, stop_later)
            try:
                write_parquet(tmp_path / "out", tmp_path / "hub", "train", overwrite=True)
            except KeyboardInterrupt:
                pass
            else:
                assert len(calls) <= allowed
        check_shards(tmp_path / "hub")
        write_parquet(tmp_path / "out", tmp_path / "hub", "train", 0.003, overwrite=True)
        assert content(tmp_path / "hub") == many
    write_parquet(tmp_path / "out", tmp_path / "hub", "train", overwrite=True)
    assert content(tmp_path / "hub") == content(tmp_path / "one")


# What is damaged ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, damaged, remedy",
    [
        (".prepare.jsonl", "\0\0\0\n{}\n", "--overwrite"),
        (".prepare.jsonl", "[]\n", "--overwrite"),
        (".prepare.jsonl", '{"settings": 1}\n', "other settings"),
        (".prepare.jsonl", "HEAD\n{}\n", "line 2.*--overwrite"),
        (".prepare.jsonl", "HEAD\n\0\0\n", "line 2.*--overwrite"),
        ("report.json", "", "--overwrite"),
        ("report.json", "[1]", "--overwrite"),
    ],
)
def test_damaged_notes_of_prepare_are_one_line(source, tmp_path, capsys, name, damaged, remedy):
    argv = ["prepare", "icdar2015", str(source), str(tmp_path / "out")]
    assert cli.main(argv) == 0
    root = tmp_path / "out" / "train"
    settings = json.loads((root / "report.json").read_text())["settings"]
    (root / name).write_text(damaged.replace("HEAD", json.dumps({"settings": settings})))
    capsys.readouterr()
    assert cli.main(argv) == 1
    error = in_one_line(capsys.readouterr().err, "prepare")
    assert re.search(remedy, error) and str(root) in error
    assert cli.main([*argv, "--overwrite"]) == 0
    assert check_whole(root, source) == 60


@pytest.mark.parametrize(
    "name, damaged",
    [
        (".synthesize.jsonl", "{}\n{}\n"),
        (".synthesize.jsonl", "HEAD\n\0\n"),
        (".synthesize.jsonl", "HEAD\n[]\n"),
        ("synthesize.json", "\0"),
        ("synthesize.json", "[]"),
    ],
)
def test_damaged_notes_of_synthesize_are_one_line(fonts, tmp_path, capsys, name, damaged):
    options = ["--size", "64", "64", "--fonts", str(fonts), "--workers", "1", "--text-height", "8", "20", "--quiet"]
    argv = ["synthesize", str(tmp_path / "out"), "--count", "1", *options]
    assert cli.main(argv) == 0
    settings = json.loads((tmp_path / "out" / "synthesize.json").read_text())["settings"]
    (tmp_path / "out" / name).write_text(damaged.replace("HEAD", json.dumps({"settings": settings})))
    capsys.readouterr()
    assert cli.main(argv) == 1
    assert name in in_one_line(capsys.readouterr().err, "synthesize")


# A full disk --------------------------------------------------------------------------------------------------------

FULL_DISK = """
import contextlib, io, json, os, subprocess, sys
disk, done, small, *argv = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={small}", "tmpfs", disk], check=True)
from tcm_hf import cli

def run():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(argv)
    return code, err.getvalue(), [os.path.relpath(os.path.join(d, f), disk) for d, _, fs in os.walk(disk) for f in fs]

results = [run()]
subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
results.append(run())
subprocess.run(["cp", "-r", disk + "/.", done], check=True)
json.dump(results, sys.stdout)
"""


def on_full_disk(tmp_path, size, *argv):
    """Runs a command on a small disk, then once more on a large one; exit code, stderr and files of both."""
    namespace = ["unshare", "-rm"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode
    ):
        pytest.skip("needs to mount a small disk of its own (unshare -rm)")
    disk, done = tmp_path / "disk", tmp_path / "done"
    disk.mkdir()
    done.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [str(argument) for argument in argv]
    command = [*namespace, sys.executable, "-c", FULL_DISK, str(disk), str(done), size, *argv]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), done


@pytest.mark.parametrize("size", ["32k", "100k", "200k", "252k"])
def test_prepare_on_a_full_disk(source, tmp_path, size):
    prepared(source, tmp_path / "whole")
    results, done = on_full_disk(tmp_path, size, "prepare", "icdar2015", source, tmp_path / "disk" / "out")
    (code, err, files), (code_after, err_after, _) = results
    assert code == 1 and "No space left" in in_one_line(err, "prepare")
    assert not [name for name in files if name.endswith((".tmp", ".lock", "metadata.jsonl"))]
    assert code_after == 0, err_after
    assert check_whole(done / "out" / "train", source) == 60
    ours, theirs = content(done / "out" / "train"), content(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and ours["metadata.jsonl"] == theirs["metadata.jsonl"]


def test_parquet_on_a_full_disk(source, tmp_path):
    argv = ("prepare", "icdar2015", source, tmp_path / "out", "--parquet", tmp_path / "disk", "--shard-size", 0.002)
    ((code, err, files), (code_after, err_after, _)), done = on_full_disk(tmp_path, "24k", *argv)
    assert code == 1 and "No space left" in in_one_line(err, "prepare") and ".parquet" in err
    assert not [name for name in files if name.endswith((".tmp", ".parquet"))]
    assert code_after == 0, err_after
    assert check_shards(done) == 60 and not [name for name in content(done) if "/." in name]


def test_synthesize_on_a_full_disk(fonts, tmp_path):
    options = ["--size", "64", "64", "--fonts", str(fonts), "--workers", "1", "--text-height", "8", "20", "--quiet"]
    assert cli.main(["synthesize", str(tmp_path / "whole"), "--count", "30", *options]) == 0
    argv = ("synthesize", tmp_path / "disk" / "out", "--count", 30, *options)
    ((code, err, files), (code_after, err_after, _)), done = on_full_disk(tmp_path, "64k", *argv)
    assert code == 1 and "No space left" in in_one_line(err, "synthesize")
    assert not [name for name in files if name.endswith((".tmp", ".lock", "metadata.jsonl"))]
    assert code_after == 0 and content(done / "out") == content(tmp_path / "whole"), err_after


def test_inspect_on_a_full_disk(source, tmp_path):
    argv = ("inspect", "icdar2015", source, "--files", "--shots", 60, "--output", tmp_path / "disk" / "out")
    ((code, err, files), (code_after, err_after, _)), done = on_full_disk(tmp_path, "100k", *argv)
    assert code == 1 and re.search(r"out/\d+_img_\d+.jpg", in_one_line(err, "inspect"))
    assert 5 < len(files) < 60 and all(name.endswith(".jpg") for name in files)
    assert code_after == 0 and len(content(done / "out")) == 60, err_after


@pytest.mark.parametrize("size", ["8k", "200k", "7m", "14m"])
def test_convert_on_a_full_disk(clip_directory, tmp_path, size):
    argv = ("convert", clip_directory, tmp_path / "disk" / "model", "--no-text-side")
    ((code, err, files), (code_after, err_after, _)), done = on_full_disk(tmp_path, size, *argv)
    assert code == 1 and files == []
    assert f"cannot write to '{tmp_path / 'disk' / 'model'}' (No space left on device)" in in_one_line(err, "convert")
    assert code_after == 0 and (done / "model" / "model.safetensors").is_file(), err_after
    assert os.listdir(done) == ["model"]


@pytest.mark.parametrize("option, name", [("--output", "report.json"), ("--gallery", "index.html")])
def test_evaluate_on_a_full_disk(source, tmp_path, option, name):
    results = tmp_path / "results"
    results.mkdir()
    for number in range(60):
        (results / f"res_img_{number:02d}.txt").write_text("0,0,9,0,9,9,0,9\n")
    place = tmp_path / "disk" / ("report.json" if option == "--output" else "gallery")
    argv = ("evaluate", results, "--ground-truth", source, option, place)
    ((code, err, files), (code_after, err_after, _)), done = on_full_disk(tmp_path, "4k", *argv)
    assert code == 1 and name in in_one_line(err, "evaluate") and "No space left" in err and files == []
    assert code_after == 0 and [path.name for path in done.rglob(name)] == [name], err_after
