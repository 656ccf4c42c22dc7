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

"""Checkpoints of both training scripts: whole or not there, verified, and read without running anything."""

import errno
import json
import logging
import os
import pickle
import random
import shutil
import subprocess
import sys
import time

import pytest
import torch
from accelerate import Accelerator
from example_runs import EXAMPLES, SMALL, logged_losses, photos, run, run_here
from safetensors.torch import load_file
from toy_photos import write_toy_photos
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tcm_hf.training import checkpoint as training_checkpoint
from tcm_hf.training.checkpoint import (
    MANIFEST_NAME,
    PROGRESS_NAME,
    STAGING_NAME,
    CheckpointError,
    check_checkpoint,
    find_damage,
    last_complete_checkpoint,
    recover,
    rotate_checkpoints,
    run_lock,
    staged_checkpoint,
    staged_files,
)


SCRIPTS = {
    "trainer": ("train_text_detection.py", "trainer_state.json", ("--max_steps", "--save_steps")),
    "loop": ("train_text_detection_no_trainer.py", PROGRESS_NAME, ("--max_train_steps", "--checkpointing_steps")),
}


def settings_of(kind, toy_data, steps=4, every=2, seed=42):
    names = SCRIPTS[kind][2]
    return (
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL, "--per_device_train_batch_size", 2),
        *(names[0], steps, names[1], every, "--seed", seed),
    )


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    return write_toy_photos(tmp_path_factory.mktemp("toy"), 5)


@pytest.fixture(scope="module", params=["trainer", "loop"])
def finished(request, toy_data, tmp_path_factory):
    """Kind, name of its state file, and directories of two finished runs with the checkpoints 2 and 4."""
    script, state_name, _ = SCRIPTS[request.param]
    folders = []
    for seed in (42, 7):
        folders.append(tmp_path_factory.mktemp(f"{request.param}-{seed}"))
        with pytest.MonkeyPatch.context() as patch:
            settings = settings_of(request.param, toy_data, seed=seed)
            run_here(patch, script, *settings, "--output_dir", folders[-1])
    return request.param, state_name, *folders


def copied(folder, tmp_path):
    """The checkpoints of a run."""
    for source in folder.glob("checkpoint-*"):
        shutil.copytree(source, tmp_path / source.name)
    return tmp_path


def state_files(checkpoint):
    return [path.relative_to(checkpoint) for path in sorted(checkpoint.rglob("*")) if path.is_file()]


def resume(monkeypatch, kind, toy_data, output_dir, which="last", steps=5):
    arguments = (*settings_of(kind, toy_data, steps), "--output_dir", output_dir, "--resume_from_checkpoint", which)
    return run_here(monkeypatch, SCRIPTS[kind][0], *arguments)


# ---------------------------------------------------------------------------------------- damage


def halve(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, other):
    path.write_bytes(b"")


def remove(path, other):
    path.unlink()


def flip_a_bit(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def swap(path, other):
    shutil.copyfile(other, path)


def make_a_directory(path, other):
    path.unlink()
    path.mkdir()


DAMAGES = (halve, empty, remove, flip_a_bit, swap, make_a_directory)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_leads_to_the_checkpoint_before(finished, tmp_path, caplog, damage):
    kind, state_name, folder, other_folder = finished
    run_dir = copied(folder, tmp_path)
    names = [name for name in state_files(run_dir / "checkpoint-4") if str(name) != MANIFEST_NAME]
    assert len(names) > 8 and last_complete_checkpoint(run_dir, state_name) == str(run_dir / "checkpoint-4")
    for name in names:
        path, other = run_dir / "checkpoint-4" / name, other_folder / "checkpoint-4" / name
        content = path.read_bytes()
        if damage is swap and other.read_bytes() == content:
            continue  # configurations are those of the other run
        damage(path, other)
        caplog.clear()
        assert last_complete_checkpoint(run_dir, state_name) == str(run_dir / "checkpoint-2"), name
        assert f"checkpoint-4 is damaged and is passed over: {name}" in caplog.text or name.name in caplog.text
        with pytest.raises(CheckpointError, match="checkpoint-4 cannot be resumed") as caught:
            check_checkpoint(run_dir / "checkpoint-4", state_name)
        assert name.name in str(caught.value) and "\n" not in str(caught.value)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert last_complete_checkpoint(run_dir, state_name) == str(run_dir / "checkpoint-4")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"files": 3}', b"[" * 100_000, b"\xff"])
def test_a_damaged_manifest_leads_to_the_checkpoint_before(finished, tmp_path, caplog, content):
    kind, state_name, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    (run_dir / "checkpoint-4" / MANIFEST_NAME).write_bytes(content)
    assert last_complete_checkpoint(run_dir, state_name) == str(run_dir / "checkpoint-2")
    assert find_damage(run_dir / "checkpoint-4", state_name) == f"{MANIFEST_NAME} cannot be read"


def test_a_manifest_leads_nowhere_else(finished, tmp_path):
    kind, state_name, folder, _ = finished
    run_dir = copied(folder, tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text("secret", encoding="utf-8")
    manifest = json.loads((run_dir / "checkpoint-4" / MANIFEST_NAME).read_text(encoding="utf-8"))
    for name in ("../../secret", str(secret), "x/../../../secret"):
        changed = {**manifest, "files": {**manifest["files"], name: {"size": 6, "sha256": "0"}}}
        (run_dir / "checkpoint-4" / MANIFEST_NAME).write_text(json.dumps(changed), encoding="utf-8")
        assert find_damage(run_dir / "checkpoint-4", state_name) == f"{MANIFEST_NAME} cannot be read"


def test_what_was_not_written_with_it_is_not_read_and_notes_do_no_harm(finished, tmp_path):
    kind, state_name, folder, _ = finished
    checkpoint = copied(folder, tmp_path) / "checkpoint-4"
    for name in ("notes.txt", "results.json", "model_report.json", "curve.png"):
        (checkpoint / name).write_text("of mine", encoding="utf-8")
    assert find_damage(checkpoint, state_name) is None
    for name in ("scaler.pt", "pytorch_model.bin", "rng_state_1.pth", "custom_checkpoint_0.pkl"):
        (checkpoint / name).write_bytes(b"x")
        assert find_damage(checkpoint, state_name) == f"{name} was not written with it"
        (checkpoint / name).unlink()


def make_older(checkpoint):
    """What it was when checkpoints had no manifest, and the loop left its state to accelerate."""
    (checkpoint / MANIFEST_NAME).unlink()
    state = checkpoint / "state"
    if not state.is_dir():
        return
    torch.save(json.loads((state / "scheduler.json").read_text(encoding="utf-8")), state / "custom_checkpoint_0.pkl")
    values = load_file(state / "average.safetensors")
    torch.save({"decay": 0.999, "values": values}, state / "custom_checkpoint_1.pkl")
    (state / "scheduler.json").unlink()
    (state / "average.safetensors").unlink()


def test_damage_without_manifest_is_found_as_far_as_it_can_be(finished, tmp_path, caplog):
    kind, state_name, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    for step in (2, 4):
        make_older(run_dir / f"checkpoint-{step}")
    assert last_complete_checkpoint(run_dir, state_name) == str(run_dir / "checkpoint-4")
    assert f"has no {MANIFEST_NAME}" in caplog.text
    for name in state_files(run_dir / "checkpoint-4"):
        for damage in (halve, empty, remove, flip_a_bit):
            path = run_dir / "checkpoint-4" / name
            content = path.read_bytes()
            damage(path, None)
            # Only larger archives are mostly content, which has checksums.
            sure = {
                halve: name.suffix != ".py",
                empty: name.suffix != ".py",
                remove: name.name in ("model.safetensors", "config.json", state_name)
                or name.name.startswith(
                    ("optimizer", "scheduler", "rng_state", "random_states", "custom_checkpoint_0")
                ),
                flip_a_bit: name.name.startswith(("optimizer", "rng_state", "random_states")),
            }
            if sure[damage]:
                found = last_complete_checkpoint(run_dir, state_name)
                assert found == str(run_dir / "checkpoint-2"), (name, damage)
            path.write_bytes(content)


def test_an_older_checkpoint_is_resumed_with_the_same_losses(finished, toy_data, tmp_path, monkeypatch):
    kind, state_name, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    shutil.rmtree(run_dir / "checkpoint-4")
    make_older(run_dir / "checkpoint-2")
    resume(monkeypatch, kind, toy_data, run_dir, steps=4)
    assert logged_losses(run_dir) == logged_losses(folder)
    ours, theirs = (load_file(x / "model.safetensors") for x in (run_dir, folder))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_an_older_checkpoint_runs_no_code(toy_data, tmp_path, monkeypatch):
    """The state that accelerate unpickled."""
    settings = settings_of("loop", toy_data, steps=2)
    run_here(monkeypatch, SCRIPTS["loop"][0], *settings, "--output_dir", tmp_path)
    make_older(tmp_path / "checkpoint-2")
    for number in (0, 1):
        path = tmp_path / f"checkpoint-2/state/custom_checkpoint_{number}.pkl"
        content = path.read_bytes()
        torch.save(Bomb(tmp_path / "exploded"), path)
        with pytest.raises(SystemExit, match=f"^error: .*{path.name}: it holds more than tensors and numbers[^\n]*$"):
            resume(monkeypatch, "loop", toy_data, tmp_path, tmp_path / "checkpoint-2")
        assert not (tmp_path / "exploded").exists()
        path.write_bytes(content)


def test_nothing_intact_is_the_start_and_is_said(finished, toy_data, tmp_path, monkeypatch, caplog):
    kind, state_name, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    for step in (2, 4):
        halve(run_dir / f"checkpoint-{step}" / "model.safetensors", None)
    with caplog.at_level(logging.INFO):
        resume(monkeypatch, kind, toy_data, run_dir, steps=1)
    assert len(logged_losses(run_dir)) == 1
    assert "checkpoint-2 is damaged" in caplog.text and "checkpoint-4 is damaged" in caplog.text
    assert "there is no intact checkpoint" in caplog.text


@pytest.mark.parametrize(
    "which, message", [("damaged", "has .* bytes instead of"), ("missing", "there is no checkpoint")]
)
def test_a_named_checkpoint_that_cannot_be_resumed_is_one_line(
    finished, toy_data, tmp_path, monkeypatch, which, message
):
    kind, _, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    halve(run_dir / "checkpoint-4" / "model.safetensors", None)
    wanted = run_dir / ("checkpoint-4" if which == "damaged" else "checkpoint-9")
    with pytest.raises(SystemExit, match=f"^error: .*{message}[^\n]*$"):
        resume(monkeypatch, kind, toy_data, run_dir, wanted)


def test_a_checkpoint_of_the_other_script_is_named(finished, toy_data, tmp_path, monkeypatch):
    kind, state_name, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    other = {"trainer": "loop", "loop": "trainer"}[kind]
    with pytest.raises(SystemExit, match=f"^error: .*{SCRIPTS[other][1]} is missing[^\n]*$"):
        resume(monkeypatch, other, toy_data, run_dir, run_dir / "checkpoint-4")
    assert last_complete_checkpoint(run_dir, SCRIPTS[other][1]) is None


def test_a_run_goes_on_from_the_checkpoint_before_with_the_same_losses(finished, toy_data, tmp_path, monkeypatch):
    kind, _, folder, _ = finished
    run_dir = copied(folder, tmp_path)
    flip_a_bit(run_dir / "checkpoint-4" / "config.json", None)
    resume(monkeypatch, kind, toy_data, run_dir, steps=4)
    assert logged_losses(run_dir) == logged_losses(folder) and len(logged_losses(folder)) == 4
    ours, theirs = (load_file(x / "model.safetensors") for x in (run_dir, folder))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert find_damage(run_dir / "checkpoint-4", SCRIPTS[kind][1]) is None
    assert not (run_dir / STAGING_NAME).exists()


# ---------------------------------------------------------------------------------------- foreign code


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_file_of_a_checkpoint_runs_code(finished, toy_data, tmp_path, monkeypatch):
    kind, state_name, folder, _ = finished
    run_dir, exploded = copied(folder, tmp_path / "run"), tmp_path / "exploded"
    checkpoint = run_dir / "checkpoint-4"
    names = [name for name in state_files(checkpoint) if name.suffix in (".pt", ".pth", ".bin", ".pkl")]
    assert len(names) >= 2
    # Also what is not there, but read where it is.
    prefix = "state/" if kind == "loop" else ""
    names += [prefix + name for name in ("scaler.pt", "sampler.bin", "dl_state_dict.bin")]
    if kind == "loop":
        names += ["state/custom_checkpoint_0.pkl"]
    for name in names:
        path = checkpoint / name
        content = path.read_bytes() if path.exists() else None
        for form in ("archive", "pickle"):
            if form == "archive":
                torch.save(Bomb(exploded), path)
            else:
                path.write_bytes(pickle.dumps(Bomb(exploded)))
            # Whoever made it made a fitting manifest, too.
            training_checkpoint.write_manifest(str(checkpoint), 4, 9)
            assert find_damage(checkpoint, state_name) is None
            try:
                resume(monkeypatch, kind, toy_data, run_dir, checkpoint)
            except SystemExit as end:
                refusal = "does not fit" if path.name == "custom_checkpoint_0.pkl" else "more than tensors and numbers"
                assert "\n" not in str(end) and refusal in str(end)
            else:
                assert path.name in ("training_args.bin", "scaler.pt", "sampler.bin", "dl_state_dict.bin")
            assert not exploded.exists(), (name, form)
            shutil.rmtree(run_dir)
            copied(folder, run_dir)
        path.unlink(missing_ok=True) if content is None else path.write_bytes(content)


# ---------------------------------------------------------------------------------------- whole or not there


def write_checkpoint(run_dir, step, content="x"):
    with staged_checkpoint(Accelerator(cpu=True), str(run_dir), step) as directory:
        for name in ("model.safetensors", "trainer_state.json", "optimizer.pt"):
            with open(os.path.join(directory, name), "w") as file:
                file.write(content)


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


def ending(function, calls):
    """A function that ends the process when it has been called so often."""
    left = [calls]

    def ends(*arguments, **settings):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return function(*arguments, **settings)

    return ends


@pytest.mark.parametrize("call", ["rename", "replace", "fsync", "makedirs"])
def test_a_process_that_ends_while_it_replaces_a_checkpoint_leaves_one_of_the_two(tmp_path, monkeypatch, call):
    """At every call of the kind, one after the other; the code that would tidy up does not run either."""
    monkeypatch.setattr(training_checkpoint, "recover", lambda run_dir: None)
    outcomes = set()
    for number in range(30):
        run_dir = tmp_path / str(number)
        write_checkpoint(run_dir, 2, "older")
        write_checkpoint(run_dir, 4, "older")
        with monkeypatch.context() as inner:
            inner.setattr(os, call, ending(getattr(os, call), number))
            try:
                write_checkpoint(run_dir, 4, "newer!")
                finished = True
            except Killed:
                finished = False
        visible = [p for p in run_dir.iterdir() if p.name.startswith(PREFIX_CHECKPOINT_DIR)]
        assert all(find_damage(path) is None for path in visible)
        monkeypatch.undo()
        recover(run_dir)
        monkeypatch.setattr(training_checkpoint, "recover", lambda run_dir: None)
        assert find_damage(run_dir / "checkpoint-4") is None and find_damage(run_dir / "checkpoint-2") is None
        assert sorted(p.name for p in run_dir.iterdir()) == ["checkpoint-2", "checkpoint-4"]
        outcomes.add((run_dir / "checkpoint-4" / "model.safetensors").read_text())
        if finished:
            break
    assert finished and (call == "makedirs" or outcomes == {"older", "newer!"})


def test_the_newest_checkpoint_is_the_one_that_was_written_last(tmp_path):
    for step in (2, 4, 100):
        write_checkpoint(tmp_path, step)
    write_checkpoint(tmp_path, 2, "of a new run")
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    # One that got another's name is passed over, and a name that is none.
    write_checkpoint(tmp_path, 6)
    (tmp_path / "checkpoint-6").rename(tmp_path / "checkpoint-8")
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_the_checkpoints_written_first_are_removed_but_for_the_best(tmp_path):
    for step in (50, 100, 1, 2, 3):  # a run of 100 steps, and a new one
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / PROGRESS_NAME).write_text("{}", encoding="utf-8")  # of another kind
    rotate_checkpoints(str(tmp_path), 3, best_step=100)
    names = {path.name.removeprefix("checkpoint-") for path in tmp_path.iterdir()}
    assert names == {"100", "2", "3", "7"}
    rotate_checkpoints(str(tmp_path), None)
    assert {path.name.removeprefix("checkpoint-") for path in tmp_path.iterdir()} == names
    rotate_checkpoints(str(tmp_path), 1)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "checkpoint-7"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed\nat ...")]
)
def test_what_cannot_be_written_is_one_line_and_leaves_what_was_there(tmp_path, error):
    write_checkpoint(tmp_path, 2)
    for attempt in (2, 4):
        with pytest.raises(CheckpointError, match=f"cannot write .*checkpoint-{attempt} [^\n]*is kept$"):
            with staged_checkpoint(Accelerator(cpu=True), str(tmp_path), attempt) as directory:
                with open(os.path.join(directory, "half"), "w") as file:
                    file.write("x")
                raise error
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2"]
        assert find_damage(tmp_path / "checkpoint-2") is None
    (tmp_path / "model.safetensors").write_text("older")
    with pytest.raises(CheckpointError, match="is kept$"):
        with staged_files(str(tmp_path)) as folder:
            with open(os.path.join(folder, "model.safetensors"), "w") as file:
                file.write("half")
            raise error
    assert (tmp_path / "model.safetensors").read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "model.safetensors"]


@pytest.mark.parametrize("kind", ["trainer", "loop"])
def test_a_full_disk_ends_a_run_with_one_line(toy_data, tmp_path, monkeypatch, kind):
    script, state_name, _ = SCRIPTS[kind]
    save, calls = torch.save, []

    def full(content, path, *arguments, **settings):
        calls.append(path)
        if "checkpoint-4" in str(path):
            raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0")
        return save(content, path, *arguments, **settings)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit, match="^error: cannot write [^\n]*checkpoint-4 [^\n]*$"):
        run_here(monkeypatch, script, *settings_of(kind, toy_data), "--output_dir", tmp_path)
    assert {path.name for path in tmp_path.iterdir() if "checkpoint" in path.name} == {"checkpoint-2"}
    assert find_damage(tmp_path / "checkpoint-2", state_name) is None and not (tmp_path / STAGING_NAME).exists()
    monkeypatch.setattr(torch, "save", save)
    resume(monkeypatch, kind, toy_data, tmp_path, steps=4)
    assert len(logged_losses(tmp_path)) == 4


def test_a_damaged_best_checkpoint_is_not_what_a_run_ends_with(finished, toy_data, tmp_path, monkeypatch, caplog):
    kind, state_name, _, _ = finished
    settings = (*settings_of(kind, toy_data, steps=3, every=1), "--output_dir", tmp_path)
    if kind == "trainer":
        settings += ("--eval_strategy", "steps", "--eval_steps", 1)
    hmeans = iter((0.9, 0.5, 0.4, 0.4, 0.4))

    def figures(model, processor, records, **options):
        hmean = next(hmeans)
        if hmean == 0.4:
            halve(tmp_path / "checkpoint-1" / "model.safetensors", None)
        return {"hmean": hmean, "precision": hmean, "recall": hmean, "num_images": len(records)}

    monkeypatch.setattr("tcm_hf.training.trainer.evaluate_records", figures)
    run_here(monkeypatch, SCRIPTS[kind][0], *settings)
    assert "the last weights are kept" in caplog.text
    final, last = (load_file(tmp_path / name / "model.safetensors") for name in ("", "checkpoint-3"))
    assert all(torch.equal(value, last[name]) for name, value in final.items())


# ---------------------------------------------------------------------------------------- one writer


HOLDER = """
import sys
from tcm_hf.output_files import exclusive
with exclusive(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_same_directory_is_one_line(toy_data, tmp_path, monkeypatch):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        for kind, (script, _, _) in SCRIPTS.items():
            with pytest.raises(SystemExit, match="^error: another run is writing to [^\n]*$"):
                run_here(monkeypatch, script, *settings_of(kind, toy_data), "--output_dir", tmp_path)
        assert list(tmp_path.iterdir()) == []
        other.kill()
    with run_lock(tmp_path), run_lock(tmp_path):  # it ended with its process, and may be taken twice by one
        pass


# ---------------------------------------------------------------------------------------- killed again and again


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_run_that_is_killed_again_and_again_is_the_unbroken_one(toy_data, tmp_path, kind):
    """Also while it saves, and with a second run in the same directory at a time."""
    script, state_name, _ = SCRIPTS[kind]
    settings = (
        *settings_of(kind, toy_data, steps=16, every=1),
        *("--dataloader_num_workers", 1, "--gradient_accumulation_steps", 2, "--samples_per_epoch", 12),
    )
    unbroken = run(script, *settings, "--output_dir", tmp_path / "unbroken")
    assert unbroken.returncode == 0, unbroken.stderr[-3000:]
    rng, run_dir, refused, kills = random.Random(5), tmp_path / "killed", 0, 0
    arguments = (*settings, "--output_dir", run_dir, "--resume_from_checkpoint", "last")
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    while True:
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            before = {path.name: path.stat().st_mtime_ns for path in run_dir.glob("checkpoint-*")}
            second = None
            while process.poll() is None and kills < 8:
                now = {path.name: path.stat().st_mtime_ns for path in run_dir.glob("checkpoint-*")}
                if now != before or (run_dir / STAGING_NAME).exists():
                    if kills % 4 == 1 and second is None:
                        second = run(script, *arguments)
                        if process.poll() is None:
                            assert second.returncode == 1, second.stderr[-3000:]
                            assert "error: another run is writing to" in second.stderr.splitlines()[-1]
                            refused += 1
                    time.sleep(rng.uniform(0, 0.4))
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.002)
            code = process.wait()
        for checkpoint in run_dir.glob("checkpoint-*"):
            assert find_damage(checkpoint, state_name) is None, checkpoint
        if code == 0:
            break
        assert code == -9, (tmp_path / "log").read_text()[-3000:]
    assert kills >= 3 and len(logged_losses(run_dir)) == 16
    assert logged_losses(run_dir) == logged_losses(tmp_path / "unbroken")
    weights = [load_file(folder / "model.safetensors") for folder in (run_dir, tmp_path / "unbroken")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not (run_dir / STAGING_NAME).exists()
