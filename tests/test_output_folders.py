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
"""A folder is the former one or the new one, whole, whenever its writer dies; and only one writes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tcm_hf
from tcm_hf import output_folders
from tcm_hf.output_folders import output_folder, recover_folder


def fill(folder: Path, content: str) -> None:
    for name in "abc":
        (folder / name).write_text(content)


def content_of(folder: Path) -> str:
    """What is in a folder, which has to be whole."""
    assert sorted(os.listdir(folder)) == ["a", "b", "c"]
    (content,) = {(folder / name).read_text() for name in "abc"}
    return content


@pytest.fixture(params=["exchange", "rename"])
def way(request, monkeypatch):
    if request.param == "rename":
        monkeypatch.setattr(output_folders, "_exchange", lambda *folders: False)
    return request.param


def test_new_replaced_and_failed(way, tmp_path):
    out = tmp_path / "deep" / "out"
    for content in ("first", "second"):
        with output_folder(out) as folder:
            fill(folder, content)
        assert content_of(out) == content and os.listdir(out.parent) == ["out"]
    with pytest.raises(ZeroDivisionError), output_folder(out) as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert content_of(out) == "second" and os.listdir(out.parent) == ["out"]
    link = tmp_path / "link"
    link.symlink_to(out)
    with output_folder(link) as folder:
        fill(folder, "third")
    assert link.is_symlink() and content_of(out) == "third"
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_folders_are_exchanged_in_one_step(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        fill(tmp_path / name, name)
    assert output_folders._exchange(tmp_path / "x", tmp_path / "y")
    assert (content_of(tmp_path / "x"), content_of(tmp_path / "y")) == ("y", "x")
    assert not output_folders._exchange(tmp_path / "x", tmp_path / "absent")


def test_killed_between_two_renames(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with output_folder(out) as folder:
        fill(folder, "first")
    monkeypatch.setattr(output_folders, "_exchange", lambda *folders: False)
    # As a kill would leave it: the former folder beside, and none in its place.
    os.rename(out, tmp_path / ".out.tcm-hf-old")
    (tmp_path / ".out.tcm-hf-new").mkdir()
    recover_folder(out)
    assert content_of(out) == "first" and os.listdir(tmp_path) == ["out"]
    # An error in that moment puts it back at once.
    rename = os.rename

    def fails(source, target):
        if str(source).endswith("new"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(output_folders.os, "rename", fails)
    with pytest.raises(OSError, match="no"), output_folder(out) as folder:
        fill(folder, "second")
    assert content_of(out) == "first" and os.listdir(tmp_path) == ["out"]


def test_one_writer(tmp_path):
    with output_folder(tmp_path / "out") as folder:
        fill(folder, "first")
        with pytest.raises(BlockingIOError, match="another run is writing to"), output_folder(tmp_path / "out"):
            pass
        with output_folder(tmp_path / "out.b") as other:  # its neighbor
            fill(other, "other")
    assert content_of(tmp_path / "out") == "first" and content_of(tmp_path / "out.b") == "other"


WRITER = """
import itertools, sys
from pathlib import Path
from tcm_hf import output_folders
if sys.argv[2] == "rename":
    output_folders._exchange = lambda *folders: False
for number in itertools.count():
    with output_folders.output_folder(sys.argv[1]) as folder:
        for name in "abc":
            (folder / name).write_text(str(number))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exchange", "rename"])
def test_kills_lose_nothing(kind, tmp_path):
    out, generator = tmp_path / "out", random.Random(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(tcm_hf.__file__).parents[1])}
    for _ in range(40):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(out), kind], env=environment)
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.2) + 0.5)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        if kind == "exchange":
            content_of(out)
        recover_folder(out)
        assert int(content_of(out)) >= 0
    assert set(os.listdir(tmp_path)) <= {"out", ".out.lock"}
