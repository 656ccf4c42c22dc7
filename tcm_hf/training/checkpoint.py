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

"""
Checkpoints of training runs: written so that each is visible as a whole or not at all, verified before they are resumed, and
read without running anything that they hold.
"""

import contextlib
import fnmatch
import hashlib
import json
import logging
import os
import pickle
import random
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..output_files import exclusive


logger = logging.getLogger(__name__)

# Written last into a checkpoint: the names, sizes and digests of its other files.
MANIFEST_NAME = "checkpoint_manifest.json"
# Written by the loop of one's own in the place of the Trainer's `trainer_state.json`.
PROGRESS_NAME = "progress.json"
# Where checkpoints are while they are written, inside of the run's directory. Uploads of that directory leave out `_*`.
STAGING_NAME = "_incomplete"

SCHEDULER_NAME, AVERAGE_NAME = "scheduler.json", "average.safetensors"
_REPLACED = ".replaced"
# What a resumed run reads where it finds it, so that none of it may stand in a checkpoint beside what was written.
_STATE_FILE = re.compile(
    r"(state/)?((model|training_weights|average|pytorch_model)[^/]*\.(safetensors|bin|index\.json)|scheduler\.json"
    r"|(optimizer|scheduler|scaler|sampler|dl_state_dict|rng_state|random_states|custom_checkpoint)[^/]*"
    r"\.(pt|pth|bin|pkl))"
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, or not be resumed; the message is one line."""


# ---------------------------------------------------------------------------------------- one writer


_held: dict[str, int] = {}


@contextlib.contextmanager
def run_lock(output_dir: str | os.PathLike) -> Iterator[None]:
    """
    Keeps other processes from training into a directory while the `with` block runs; it may be taken again inside.

    Args:
        output_dir (`str` or `os.PathLike`): the run's directory.

    Raises:
        BlockingIOError: if another process trains into it.
    """
    path = os.path.realpath(output_dir)
    with contextlib.ExitStack() as stack:
        if not _held.get(path):
            stack.enter_context(exclusive(path))
        _held[path] = _held.get(path, 0) + 1
        try:
            yield
        finally:
            _held[path] -= 1


# ---------------------------------------------------------------------------------------- writing


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


@contextlib.contextmanager
def saving(path: str) -> Iterator[None]:
    """Failures to write become a [`CheckpointError`] of one line."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        folder = os.path.dirname(os.path.abspath(path))
        # PyTorch tells of a full disk only that a write failed.
        full = os.path.isdir(folder) and shutil.disk_usage(folder).free < 2**16
        reason = "the disk is full" if full else getattr(error, "strerror", None) or _first_line(error)
        raise CheckpointError(f"cannot write {path} ({reason}); what was saved before is kept") from error


def _remove(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


def _synchronize(path: str) -> None:
    """Sees to it that a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some file systems have no fsync of directories
        if not os.path.isdir(path):
            raise
    finally:
        os.close(handle)


def write_json(path: str, content) -> None:
    """Writes a JSON file that appears as a whole."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    os.replace(path + ".part", path)


def _files_of(directory: str) -> list[str]:
    """Relative names, with `/`, of all files of a checkpoint but its manifest."""
    names = []
    for folder, _, files in os.walk(directory):
        for name in files:
            names.append(os.path.relpath(os.path.join(folder, name), directory).replace(os.sep, "/"))
    return sorted(name for name in names if name != MANIFEST_NAME)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def write_manifest(directory: str, step: int, sequence: int) -> None:
    """
    Completes a checkpoint.

    Args:
        directory (`str`): the checkpoint, with all its files.
        step (`int`): optimizer steps made.
        sequence (`int`): its number among the checkpoints of the run's directory, in the order in which they were written.
    """
    files = {}
    for name in _files_of(directory):
        path = os.path.join(directory, name)
        files[name] = {"size": os.path.getsize(path), "sha256": _digest(path)}
        _synchronize(path)
    path = os.path.join(directory, MANIFEST_NAME)
    write_json(path, {"version": 1, "step": step, "sequence": sequence, "files": files})
    _synchronize(path)
    for folder, _, _ in os.walk(directory):
        _synchronize(folder)


@contextlib.contextmanager
def staged_checkpoint(accelerator, run_dir: str, step: int, writes: bool | None = None) -> Iterator[str]:
    """
    A directory to write a checkpoint into, which appears as `checkpoint-{step}` when the `with` block has ended.

    All processes go through it together. One of the same name is replaced; it is kept until the new one is complete.

    Args:
        accelerator (`accelerate.Accelerator`): waits for the other processes.
        run_dir (`str`): the run's directory.
        step (`int`): optimizer steps made.
        writes (`bool`, *optional*, defaults to whether this is the main process): whether this process completes it.

    Yields:
        `str`: the directory; its name is that of the checkpoint.

    Raises:
        CheckpointError: if it cannot be written.
    """
    writes = accelerator.is_main_process if writes is None else writes
    name = f"{PREFIX_CHECKPOINT_DIR}-{step}"
    directory, final = os.path.join(run_dir, STAGING_NAME, name), os.path.join(run_dir, name)
    try:
        with saving(final):
            if writes:
                _remove(directory)
                os.makedirs(directory)
            accelerator.wait_for_everyone()
            yield directory
            accelerator.wait_for_everyone()
            if writes:
                write_manifest(directory, step, 1 + max((s for s, _, _ in _listed(run_dir)), default=0))
                replaced = os.path.join(run_dir, STAGING_NAME, name + _REPLACED)
                _remove(replaced)
                if os.path.lexists(final):
                    os.rename(final, replaced)
                os.rename(directory, final)
                _synchronize(run_dir)
            accelerator.wait_for_everyone()
    finally:
        if writes:
            recover(run_dir)


def recover(run_dir: str) -> None:
    """
    Removes what is left of checkpoints that were never completed. One that was about to be replaced, and is not yet, is put
    back. Only for the process that has the run's lock.
    """
    staging = os.path.join(run_dir, STAGING_NAME)
    if not os.path.isdir(staging):
        return
    for name in os.listdir(staging):
        path, final = os.path.join(staging, name), os.path.join(run_dir, name.removesuffix(_REPLACED))
        with contextlib.suppress(OSError):  # the next run tries again
            if name.endswith(_REPLACED) and not os.path.lexists(final):
                os.rename(path, final)
            else:
                _remove(path)
    with contextlib.suppress(OSError):
        os.rmdir(staging)


@contextlib.contextmanager
def staged_files(directory: str) -> Iterator[str]:
    """A directory whose files are moved into another one, each as a whole, when the `with` block has ended."""
    staging = os.path.join(directory, STAGING_NAME, "files")
    with saving(directory):
        try:
            _remove(staging)
            os.makedirs(staging)
            yield staging
            names = _files_of(staging)
            for name in names:
                _synchronize(os.path.join(staging, name))
            for name in names:
                os.makedirs(os.path.dirname(os.path.join(directory, name)), exist_ok=True)
                os.replace(os.path.join(staging, name), os.path.join(directory, name))
        finally:
            with contextlib.suppress(OSError):
                _remove(staging)
                os.rmdir(os.path.dirname(staging))


def rotate_checkpoints(
    run_dir: str, limit: int | None, best_step: int | None = None, state_name: str = TRAINER_STATE_NAME
) -> None:
    """
    Removes the checkpoints that were written first.

    Args:
        run_dir (`str`): the run's directory.
        limit (`int`, *optional*): number of checkpoints to keep; all by default.
        best_step (`int`, *optional*): step of a checkpoint that is kept.
        state_name (`str`, *optional*, defaults to `"trainer_state.json"`): file by which those of the run's kind are known.
    """
    if not limit or limit < 0:
        return
    found = [entry for entry in _listed(run_dir) if os.path.isfile(os.path.join(entry[2], state_name))]
    removable = [directory for _, step, directory in found[:-1] if step != best_step]
    staging = os.path.join(run_dir, STAGING_NAME)
    for directory in removable[: max(0, len(found) - limit)]:
        # Moved first, so that no half of it is ever visible.
        moved = os.path.join(staging, os.path.basename(directory))
        try:
            os.makedirs(staging, exist_ok=True)
            _remove(moved)
            os.rename(directory, moved)
            _remove(moved)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", directory, _first_line(error))
    with contextlib.suppress(OSError):
        os.rmdir(staging)


# ---------------------------------------------------------------------------------------- verification


def _read_manifest(directory: str) -> dict | None:
    """The manifest, `None` where there is none."""
    path = os.path.join(directory, MANIFEST_NAME)
    if not os.path.lexists(path):
        return None
    try:
        if not os.path.isfile(path):
            raise ValueError("is no file")
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        step, sequence, files = manifest["step"], manifest["sequence"], manifest["files"]
        sound = isinstance(step, int) and isinstance(sequence, int) and len(files) > 0
        for name, facts in files.items():
            parts = PurePosixPath(name).parts
            inside = bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts
            sound = sound and inside and isinstance(facts["size"], int) and isinstance(facts["sha256"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{MANIFEST_NAME} cannot be read") from error
    if not sound:
        raise CheckpointError(f"{MANIFEST_NAME} cannot be read")
    return manifest


def _listed(run_dir: str | os.PathLike) -> list[tuple[int, int, str]]:
    """
    Sequence, step and directory of all checkpoints, in the order in which they were written. Those whose manifest does not
    tell it come first, by their steps: they are of an older version, or damaged.
    """
    found = []
    for name in os.listdir(run_dir) if os.path.isdir(run_dir) else []:
        match = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", name, re.ASCII)
        directory = os.path.join(run_dir, name)
        if match is None or not os.path.isdir(directory):
            continue
        try:
            manifest = _read_manifest(directory)
        except CheckpointError:
            manifest = None
        found.append((manifest["sequence"] if manifest else 0, int(match[1]), directory))
    return sorted(found)


def find_damage(directory: str | os.PathLike, state_name: str = TRAINER_STATE_NAME) -> str | None:
    """
    Compares a checkpoint with its manifest: names, sizes and SHA-256 digests.

    Args:
        directory (`str` or `os.PathLike`): the checkpoint.
        state_name (`str`, *optional*, defaults to `"trainer_state.json"`): the file that must be there.

    Returns:
        `str` or `None`: what is wrong with it. A checkpoint without manifest, which an older version wrote, is looked at as
        far as is possible: archives have checksums, safetensors files a length, JSON files must parse.
    """
    directory = os.fspath(directory)
    try:
        manifest = _read_manifest(directory)
        present = _files_of(directory)
        if state_name not in present:
            return f"{state_name} is missing"
        if manifest is None:
            return _damage_without_manifest(directory, present)
        files = manifest["files"]
        for name, facts in files.items():
            path = os.path.join(directory, name)
            if not os.path.isfile(path):
                return f"{name} is missing"
            if os.path.getsize(path) != facts["size"]:
                return f"{name} has {os.path.getsize(path)} bytes instead of {facts['size']}"
        for name, facts in files.items():
            if _digest(os.path.join(directory, name)) != facts["sha256"]:
                return f"the content of {name} is not what was written"
        for name in present:
            if name not in files and _STATE_FILE.fullmatch(name):
                return f"{name} was not written with it"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{os.path.basename(error.filename or directory)} cannot be read ({error.strerror or error})"
    return None


def _damage_without_manifest(directory: str, present: list[str]) -> str | None:
    for name in present:
        path = os.path.join(directory, name)
        kind = os.path.splitext(name)[1]
        try:
            if not os.path.isfile(path):
                raise ValueError("is no file")
            if kind == ".json":
                with open(path, encoding="utf-8") as file:
                    json.load(file)
            elif kind == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
            elif kind in (".pt", ".pth", ".bin", ".pkl"):
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:
                        raise ValueError("checksum")
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            logger.debug("%s: %s", path, error)
            return f"{name} is damaged"
    for pattern in _needed_without_manifest(present):
        if not fnmatch.filter(present, pattern):
            return f"{pattern} is missing"
    return None


def _needed_without_manifest(present: list[str]) -> list[str]:
    needed = ["config.json", "model*.safetensors"]
    if PROGRESS_NAME in present:
        state = ("model*.safetensors", "optimizer*.bin", "random_states*.pkl", "custom_checkpoint_0.pkl")
        needed += [f"state/{name}" for name in state]
    elif any(name.startswith(("optimizer", "scheduler", "rng_state")) for name in present):  # not the model only
        needed += ["optimizer*.pt", "scheduler*.pt", "rng_state*.pth"]
    return needed


def last_complete_checkpoint(output_dir: str | os.PathLike, state_name: str = TRAINER_STATE_NAME) -> str | None:
    """
    The newest checkpoint that is intact. A warning names those that are not, and what is wrong with them.

    Args:
        output_dir (`str` or `os.PathLike`): the run's directory.
        state_name (`str`, *optional*, defaults to `"trainer_state.json"`):
            File by which checkpoints of the run's kind are known.

    Returns:
        `str` or `None`: the checkpoint's directory. The newest is the one that was written last, whatever its step: a new run
        may have begun where there are checkpoints of an older one.
    """
    other = PROGRESS_NAME if state_name == TRAINER_STATE_NAME else TRAINER_STATE_NAME
    for _, step, directory in reversed(_listed(output_dir)):
        if os.path.isfile(os.path.join(directory, other)) and not os.path.isfile(os.path.join(directory, state_name)):
            continue  # the other script's
        damage = find_damage(directory, state_name)
        if damage is None:
            manifest = _read_manifest(directory)
            if manifest is not None and manifest["step"] != step:
                damage = f"it is that of step {manifest['step']}"
        if damage is None:
            _tell_of_missing_manifest(directory)
            return directory
        logger.warning("%s is damaged and is passed over: %s", directory, damage)
    return None


def _tell_of_missing_manifest(directory: str) -> None:
    if _read_manifest(directory) is None:
        logger.warning(
            "%s has no %s: it is of an older version, or lost it. Its files can be read, but whether they are those that "
            "were written cannot be told.",
            directory,
            MANIFEST_NAME,
        )


def check_checkpoint(directory: str | os.PathLike, state_name: str = TRAINER_STATE_NAME) -> None:
    """
    Looks at a checkpoint that is to be resumed.

    Raises:
        CheckpointError: if it is damaged, or of another kind.
    """
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        raise CheckpointError(f"there is no checkpoint {directory}")
    damage = find_damage(directory, state_name)
    if damage is not None:
        raise CheckpointError(f"{directory} cannot be resumed: {damage}; take another checkpoint, or `last`")
    _tell_of_missing_manifest(directory)


# ---------------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def resuming(directory: str, what: str) -> Iterator[None]:
    """Whatever goes wrong while a checkpoint is read becomes a [`CheckpointError`] of one line."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than tensors and numbers, which is not loaded, since it could run code"
        else:
            reason = f"it does not fit this run ({_first_line(error)})"
        raise CheckpointError(f"{directory} cannot be resumed: {what}: {reason}") from error


def load_safely(path: str, map_location="cpu"):
    """`torch.load` that runs nothing: tensors, numbers, NumPy arrays and containers of them."""
    from accelerate.utils import load

    return load(path, map_location=map_location, weights_only=True)


def read_progress(directory: str) -> dict:
    """
    What the loop of one's own noted: `step`, `best` and `log`.

    Raises:
        CheckpointError: if it is none.
    """
    with resuming(directory, PROGRESS_NAME):
        with open(os.path.join(directory, PROGRESS_NAME), encoding="utf-8") as file:
            progress = json.load(file)
        best, log = progress.get("best"), progress.get("log", [])
        sound = isinstance(progress["step"], int) and isinstance(log, list) and progress["step"] >= 0
        if not sound or not (best is None or (isinstance(best["step"], int) and "eval_hmean" in best)):
            raise ValueError("its fields have the wrong types")
    return {"step": progress["step"], "best": best, "log": log}


def save_loop_state(accelerator, directory: str, scheduler, average=None) -> None:
    """
    Stores all that a loop on accelerate goes on with; called by all processes.

    Args:
        accelerator (`accelerate.Accelerator`): has the prepared model and optimizer.
        directory (`str`): where to.
        scheduler (`LRScheduler`): not prepared.
        average ([`ExponentialMovingAverage`], *optional*): the averaged weights.
    """
    accelerator.save_state(directory)
    if accelerator.is_main_process:
        write_json(os.path.join(directory, SCHEDULER_NAME), scheduler.state_dict())
        if average is not None:
            tensors = {name: tensor.contiguous() for name, tensor in average.values.items()}
            metadata = {"format": "pt", "decay": repr(average.decay)}
            save_file(tensors, os.path.join(directory, AVERAGE_NAME), metadata=metadata)


def load_loop_state(accelerator, checkpoint: str, scheduler, average=None) -> None:
    """
    Reads what `save_loop_state` stored in the folder `state` of a checkpoint, or what older versions did, as far as that is
    possible without running anything of it; see there for the arguments.

    Raises:
        CheckpointError: if it cannot be read, does not fit, or holds code.
    """
    from accelerate.checkpointing import load_accelerator_state

    directory = os.path.join(checkpoint, "state")
    name = f"random_states_{accelerator.process_index}.pkl"
    states = None
    if os.path.isfile(os.path.join(directory, name)):
        with resuming(checkpoint, name):
            states = load_safely(os.path.join(directory, name))
            random.Random().setstate(states["random_state"])
    else:
        logger.warning("%s was written by another number of processes: random numbers will be others", checkpoint)
    older = not os.path.lexists(os.path.join(directory, SCHEDULER_NAME))
    custom = sorted(file for file in os.listdir(directory) if older and file.startswith("custom_checkpoint_"))
    with resuming(checkpoint, "model and optimizer"):
        if custom:
            # `load_state` would unpickle them.
            overrides = load_accelerator_state(
                directory,
                accelerator._models,
                accelerator._optimizers,
                accelerator._schedulers,
                accelerator._dataloaders,
                accelerator.process_index,
                accelerator.scaler,
            )
            accelerator.step = overrides.get("step", accelerator.step)
        else:
            accelerator.load_state(directory)
    if states is not None and not torch.equal(torch.get_rng_state(), states["torch_manual_seed"]):
        raise CheckpointError(f"{checkpoint} cannot be resumed: {name}: its random state is none of this version")
    if custom:
        objects = [scheduler] if average is None else [scheduler, average]
        if len(custom) != len(objects):
            raise CheckpointError(f"{checkpoint} cannot be resumed: it was saved with another choice of --ema_decay")
        for number, target in enumerate(objects):
            name = f"custom_checkpoint_{number}.pkl"
            with resuming(checkpoint, name):
                target.load_state_dict(load_safely(os.path.join(directory, name)))
        return
    with resuming(checkpoint, SCHEDULER_NAME):
        with open(os.path.join(directory, SCHEDULER_NAME), encoding="utf-8") as file:
            scheduler.load_state_dict(json.load(file))
    if average is not None:
        path = os.path.join(directory, AVERAGE_NAME)
        if not os.path.isfile(path):
            raise CheckpointError(f"{checkpoint} cannot be resumed: it has no averaged weights; pass --ema_decay 0")
        with resuming(checkpoint, AVERAGE_NAME):
            with safe_open(path, framework="pt") as file:
                decay = float((file.metadata() or {}).get("decay", average.decay))
            average.load_state_dict({"decay": decay, "values": load_file(path)})
