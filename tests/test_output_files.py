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
"""Locks on places that a command writes to."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tcm_hf import output_files
from tcm_hf.output_files import exclusive


# The file by itself: a process that imports all of transformers takes seconds to start.
HOLD = """
import sys, os, time
sys.path.insert(0, sys.argv[1])
from output_files import exclusive
with exclusive(sys.argv[2]):
    if sys.argv[3] != "fork":
        print("held", flush=True)
    elif os.fork() == 0:
        os.setsid()
        print("held", flush=True)  # the child says so: until it runs, it has its parent's lock
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


def hold(path, how="plain"):
    """A process that holds the lock."""
    folder = os.path.dirname(output_files.__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, str(path), how], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_in_one_line_and_nothing_stays_behind(tmp_path):
    out = tmp_path / "new" / "out"
    process = hold(out)
    try:
        with pytest.raises(BlockingIOError, match="another run is writing to .*out.*wait") as caught:
            with exclusive(out):
                pass
        assert "\n" not in str(caught.value)
        with exclusive(tmp_path / "new" / "other"):
            pass
        link = tmp_path / "link"
        link.symlink_to(out.parent, target_is_directory=True)
        with pytest.raises(BlockingIOError), exclusive(link / "out"):
            pass
    finally:
        process.kill()
        process.wait()
    with exclusive(out):
        with pytest.raises(BlockingIOError), exclusive(out):
            pass
    with pytest.raises(ZeroDivisionError), exclusive(out):
        raise ZeroDivisionError
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_the_lock_ends_with_the_process(tmp_path, how):
    """Also where a worker that it forked lives on."""
    process = hold(tmp_path / "out", how)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with exclusive(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_file_removed_while_it_was_waited_for_is_no_lock(tmp_path, monkeypatch):
    """The holder ends between opening and locking: what is locked then has no name any more."""
    import filelock

    acquire, files = filelock.FileLock.acquire, []

    def acquire_late(self, *arguments, **options):
        if not files:
            files.append(self.lock_file)
            os.unlink(self.lock_file)
            open(self.lock_file, "w").close()
        return acquire(self, *arguments, **options)

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire_late)
    with exclusive(tmp_path / "out"):
        assert files
        with pytest.raises(BlockingIOError), exclusive(tmp_path / "out"):
            pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_file_systems_without_locks_are_told(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments):
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="no locks on the file system"), exclusive(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


def refuse_parent(parent, monkeypatch):
    """Nothing can be made in a folder, as root and as others."""
    real = os.open

    def refusing(path, flags, *arguments, **options):
        if os.path.dirname(os.fspath(path)) == str(parent) and flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)


def test_a_folder_in_a_place_that_cannot_be_written_to(tmp_path, monkeypatch):
    """Such as the mount point of a container."""
    from PIL import ImageFont

    from tcm_hf import cli

    (tmp_path / "out").mkdir()
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "letters.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    refuse_parent(tmp_path, monkeypatch)
    with exclusive(tmp_path / "out"):
        assert os.listdir(tmp_path / "out") == [".lock"]
        with pytest.raises(BlockingIOError), exclusive(tmp_path / "out"):
            pass
    assert os.listdir(tmp_path / "out") == []
    with pytest.raises(PermissionError, match="cannot write to .*absent"), exclusive(tmp_path / "absent"):
        pass
    options = ["--count", "1", "--size", "64", "64", "--workers", "1", "--quiet", "--fonts", str(tmp_path / "fonts")]
    for _ in range(2):
        assert cli.main(["synthesize", str(tmp_path / "out"), *options]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["images", "metadata.jsonl", "synthesize.json"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to .*file/out"), exclusive(tmp_path / "file" / "out"):
        pass


def test_many_writers_are_never_two_at_a_time(tmp_path):
    """Each one makes and removes the lock's file all the time."""
    script = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from output_files import exclusive\n"
        "end, entered = time.monotonic() + 2, 0\n"
        "while time.monotonic() < end or not entered:\n"
        "    try:\n"
        "        with exclusive(sys.argv[2] + '/out'):\n"
        "            os.close(os.open(sys.argv[2] + '/inside', os.O_CREAT | os.O_EXCL))\n"
        "            os.unlink(sys.argv[2] + '/inside'); entered += 1\n"
        "    except BlockingIOError: time.sleep(0.001)\n"
    )
    folder = os.path.dirname(output_files.__file__)
    processes = [subprocess.Popen([sys.executable, "-c", script, folder, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert os.listdir(tmp_path) == []
