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
"""The weights of a file, of a directory or of a repository on the Hub."""

import json
import os
import re
import reprlib
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from .archive import (
    MAX_NAME_LENGTH,
    ArchiveError,
    ForeignCode,
    NotACheckpoint,
    StoredTensor,
    TorchFile,
    named_tensors,
)
from .layouts import ConversionError, Weights


OPEN_CLIP_CONFIG_NAME = "open_clip_config.json"
# In the order of preference: safetensors first.
WEIGHT_FILE_NAMES = (
    SAFE_WEIGHTS_NAME,
    "open_clip_model.safetensors",
    SAFE_WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    "open_clip_pytorch_model.bin",
)
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".zip", ".tar")
MAX_JSON_BYTES = 64 * 2**20


def read_weights(
    source: str | os.PathLike, *, allow_pickle: bool = False, revision: str | None = None
) -> tuple[Weights, list[Path]]:
    """
    Opens the weights of a source. Tensors of safetensors and of current `.pth` files are read when they are used.

    Args:
        source, allow_pickle, revision: see [`convert_checkpoint`].

    Returns:
        `tuple[Weights, list[Path]]`: the weights, and the files that they are in.

    Raises:
        ConversionError, FileNotFoundError: see [`convert_checkpoint`].
    """
    path = Path(source)
    if path.is_file():
        tensors = _strip_prefixes(_read_file(path, allow_pickle))
        return Weights(path.name, tensors), [path]
    if not path.is_dir() and not _may_be_hub_id(str(source)):
        raise FileNotFoundError(f"{source}: there is no such file or directory.")
    return _read_repository(str(source), allow_pickle, revision)


def _may_be_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not name.lower().endswith(CHECKPOINT_SUFFIXES)


def _read_repository(source: str, allow_pickle: bool, revision: str | None) -> tuple[Weights, list[Path]]:
    """Reads a local directory or a repository on the Hub."""
    is_local = os.path.isdir(source)

    def find(name: str) -> Path | None:
        if is_local:
            return Path(source, name) if os.path.isfile(os.path.join(source, name)) else None
        try:
            return Path(hf_hub_download(source, name, revision=revision))
        except RemoteEntryNotFoundError:
            return None
        except LocalEntryNotFoundError:  # without connection: not in the cache
            return None
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{source}: there is no such file or directory, and no such model on the Hub ({_first_line(error)})"
            ) from None

    config = _read_json(find(CONFIG_NAME))
    model_type = _json_field(config, "model_type", str, source, CONFIG_NAME)
    if model_type == "tcm":
        raise ConversionError(f"{source} already is in this package's layout; load it with `from_pretrained`.")
    if model_type not in (None, "clip"):
        raise ConversionError(
            f"{source} holds a model of type {model_type!r}; of transformers' models only `CLIPModel` (type 'clip', with both "
            "towers) can be converted."
        )
    weight_file = next((found for name in WEIGHT_FILE_NAMES if (found := find(name))), None)
    if weight_file is None and is_local:
        candidates = sorted(p for p in Path(source).iterdir() if p.suffix in CHECKPOINT_SUFFIXES and p.is_file())
        if len(candidates) > 1:
            raise ConversionError(f"{source} holds several checkpoints ({candidates[0].name}, ...): give one of them.")
        weight_file = candidates[0] if candidates else None
    if weight_file is None and not is_local and not config:
        raise FileNotFoundError(f"{source}: there is no such file or directory, and the Hub cannot be reached for it.")
    if weight_file is None:
        raise ConversionError(f"{source} holds no weights: none of {', '.join(WEIGHT_FILE_NAMES)} is there.")
    files = [weight_file]
    if weight_file.name.endswith(".index.json"):
        names = _shard_names(weight_file)
        files = [file for file in map(find, names) if file is not None]
        if len(files) < len(names):
            raise ConversionError(f"{source}: a file that {weight_file.name} names is missing. Get a complete copy.")
    tensors = {}
    for file in files:
        tensors.update(_strip_prefixes(_read_file(file, allow_pickle)))
    open_clip = _json_field(_read_json(find(OPEN_CLIP_CONFIG_NAME)), "model_cfg", dict, source, OPEN_CLIP_CONFIG_NAME)
    activation = ("quick_gelu" if open_clip.get("quick_gelu") else "gelu") if open_clip else None
    name = Path(source).resolve().name if is_local else source
    return Weights(name, tensors, config if model_type == "clip" else None, activation), files


def _read_json(path: Path | None) -> dict:
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"larger than {MAX_JSON_BYTES >> 20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} cannot be read as JSON ({_first_line(error)}).") from None
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds no JSON object.")
    return content


def _json_field(content: dict, name: str, kind: type, source: str, file: str):
    """A field that may be absent or null."""
    value = content.get(name)
    if value is not None and not isinstance(value, kind):
        raise ConversionError(
            f"{os.path.join(source, file)}: {name!r} has to be {_JSON_NAMES[kind]}, got {reprlib.repr(value)}."
        )
    return value


_JSON_NAMES: dict[type, str] = {str: "a text", dict: "an object"}


def _shard_names(index: Path) -> list[str]:
    """The files that an index names, which are beside it or below."""
    weight_map = _json_field(_read_json(index), "weight_map", dict, str(index.parent), index.name)
    if not weight_map:
        raise ConversionError(f"{index} names no files: its 'weight_map' is missing or empty. Get a complete copy.")
    names = list(weight_map.values())
    for name in names:
        # Whatever the system's separators are: "..", "/", and drives lead out.
        parts = re.split(r"[/\\]", name) if isinstance(name, str) else [""]
        if not all(parts) or {".", ".."} & set(parts) or ":" in name or not name.isprintable():
            raise ConversionError(
                f"{index}: 'weight_map' has to give the names of files in its folder, got {reprlib.repr(name)}."
            )
    return sorted(set(names))


def _read_file(path: Path, allow_pickle: bool) -> dict[str, torch.Tensor]:
    """The tensors of one file, whatever its name."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read ({error.strerror}).") from None
    if not start:
        raise ConversionError(f"{path} is empty. Get a complete copy.")
    if start.startswith(b"version https://git-lfs"):
        raise ConversionError(f"{path} is a pointer of Git LFS, not the weights. Run `git lfs pull`.")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        tensors = _read_safetensors(path)
    elif start.startswith((b"PK", b"\x80")):
        tensors = _read_torch(path, allow_pickle)
    else:
        kind = "a text file, perhaps a web page saved in its place" if _is_text(start) else "no checkpoint"
        raise ConversionError(
            f"{path} is {kind}. Give a PyTorch checkpoint (.pt, .pth), safetensors or a model directory."
        )
    for name in tensors:
        if not name.isprintable() or len(name) > MAX_NAME_LENGTH:
            raise ConversionError(f"{path} holds a weight whose name is no readable text: {reprlib.repr(name)}.")
    return tensors


def _damaged(path: Path, reason) -> ConversionError:
    return ConversionError(f"{path} is damaged or incomplete ({reason}). Get a complete copy.")


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8", errors="strict" if len(start) < 256 else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, error) from None
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        # What the library leaves to PyTorch, such as sizes beyond all measure and numbers that it does not have.
        raise _damaged(path, _first_line(error)) from None


def _read_torch(path: Path, allow_pickle: bool) -> dict[str, torch.Tensor]:
    """The tensors of what `torch.save` or `torch.jit.save` wrote. None of it is run unless that is allowed and needed."""
    try:
        file = TorchFile(path)
        if file.is_torchscript:
            stored = named_tensors(file.content)
            if not stored:
                raise ConversionError(f"{path} holds a TorchScript module without weights.")
        else:
            stored = _find_state_dict(file.content, path)
        return {name: file.tensor(value) for name, value in stored.items()}
    except NotACheckpoint:
        if zipfile.is_zipfile(path):
            raise ConversionError(
                f"{path} is a ZIP file, but no PyTorch checkpoint. Unpack it, and give what is in it."
            ) from None
        raise ConversionError(
            f"{path} is a pickle file, but no PyTorch checkpoint. Save the weights with `torch.save`."
        ) from None
    except ArchiveError as error:
        raise _damaged(path, error) from None
    except ForeignCode as error:
        if allow_pickle:
            return _run_pickle(path)
        raise ConversionError(
            f"{path} holds more than weights ({error}). Loading it could run any code, so it is refused. If you trust "
            "its source, pass allow_pickle=True (--allow-pickle)."
        ) from None


def _run_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Loads a file of which everything may be run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ConversionError(f"{path} needs code that is not installed here ({_first_line(error)}).") from None
    except Exception as error:  # it is the file's code that raises it
        raise _damaged(path, _first_line(error)) from None
    return {name: value.detach() for name, value in _find_state_dict(content, path).items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _find_state_dict(content, path: Path) -> dict:
    """The state dict in what a training saved; its tensors may be read already or not."""
    kinds = (torch.Tensor, StoredTensor)
    for _ in range(3):
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            break
        found = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, kinds)}
        if found:
            return found
        inner = next((content[key] for key in ("state_dict", "model_state_dict", "model") if key in content), None)
        if inner is None:
            break
        content = inner
    keys = f" with {reprlib.repr(list(content))}" if isinstance(content, Mapping) else ""
    raise ConversionError(
        f"{path} holds no weights but a {type(content).__name__}{keys}. Give a checkpoint with a state dict."
    )


def _strip_prefixes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Removes what wrappers put in front of all names: distributed training, and open_clip around its text tower."""
    while tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    if any(key.startswith("visual.") for key in tensors):
        tensors = {key.removeprefix("text."): value for key, value in tensors.items()}
    return tensors


__all__ = ["read_weights"]
