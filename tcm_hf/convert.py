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
"""Conversion of CLIP weights and of official TCM checkpoints to directories that `from_pretrained` takes.

The weights go tensor by tensor from the source, of which nothing but the tensor at hand has to be in memory, to the
new file. Nothing is guessed: what is absent or has another shape is an error.
"""

import contextlib
import hashlib
import json
import os
import pickle
import re
import shutil
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME, logging

from ._version import __version__
from .convert_card import CARD_NAME, model_card
from .convert_layouts import ConversionError, Weights, detect_layout, infer_config, make_plan, pull
from .image_processing_tcm import TCMImageProcessor
from .modeling_tcm import TCMForTextDetection
from .pipeline_text_detection import TextDetectionPipeline


REPORT_NAME = "conversion_report.json"
OPEN_CLIP_CONFIG_NAME = "open_clip_config.json"
# In the order of preference: safetensors are read without running any code.
WEIGHT_FILE_NAMES = (
    SAFE_WEIGHTS_NAME,
    "open_clip_model.safetensors",
    SAFE_WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    "open_clip_pytorch_model.bin",
)
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".zip", ".tar")

# Statistics of the pictures, RGB in 0..255, that the official detectors were trained with.
IMAGE_MEANS = {"db": (122.679, 116.669, 104.007)}
OTHER_IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)


def _db_preset(shortest_edge, longest_edge, **decoding) -> dict:
    names = ("mask_threshold", "threshold", "min_size", "unclip_ratio", "epsilon_ratio", "max_candidates", "shape")
    return {
        "size": {"shortest_edge": shortest_edge, "longest_edge": longest_edge},
        "decoding": {name: decoding[name] for name in names} | {"whole_pixels": True},
    }


# Test settings of the official models for each benchmark, by detector.
PRESETS: dict[str, dict[str, dict]] = {
    "db": {
        "ic15": _db_preset(
            1024,
            4068,
            mask_threshold=0.28,
            threshold=0.2,
            min_size=2.0,
            unclip_ratio=1.6,
            epsilon_ratio=0.001,
            max_candidates=3000,
            shape="quad",
        ),
        "td500": _db_preset(
            736,
            4068,
            mask_threshold=0.08,
            threshold=0.17,
            min_size=3.0,
            unclip_ratio=1.9,
            epsilon_ratio=0.0,
            max_candidates=1000,
            shape="quad",
        ),
        "ctw1500": _db_preset(
            1024,
            4068,
            mask_threshold=0.08,
            threshold=0.3,
            min_size=3.0,
            unclip_ratio=2.0,
            epsilon_ratio=0.0001,
            max_candidates=3000,
            shape="polygon",
        ),
        "totaltext": _db_preset(
            800,
            2944,
            mask_threshold=0.347,
            threshold=0.3,
            min_size=5.0,
            unclip_ratio=1.95,
            epsilon_ratio=0.004,
            max_candidates=3000,
            shape="polygon",
        ),
    },
    # The sizes for CTW1500 are those of MMOCR 0.4's configurations of PAN and FCE, on which the official code builds.
    "pan": {
        "ic15": {"size": {"shortest_edge": 736, "longest_edge": 1333}, "decoding": {"shape": "quad"}},
        "ctw1500": {"size": {"shortest_edge": 640, "longest_edge": 3000}, "decoding": {"shape": "polygon"}},
    },
    "fce": {
        "ic15": {"size": {"longest_edge": 2260}, "decoding": {"shape": "quad", "alpha": 1.2, "beta": 1.0}},
        "ctw1500": {
            "size": {"shortest_edge": 736, "longest_edge": 1080},
            "decoding": {"shape": "polygon", "alpha": 1.0, "beta": 2.0},
        },
    },
}


@dataclass
class ConversionReport:
    """
    What became of the weights.

    Args:
        source (`str`): name of the source file, directory or Hub id.
        layout (`str`): `"openai"`, `"openai-vit"` (open_clip's are the same), `"timm"`, `"transformers"` or `"tcm"`.
        layout_title (`str`): the layout in words.
        trained_detector (`bool`): whether the source holds a trained detector; `False` for a bare CLIP.
        files (`dict[str, str]`): SHA-256 of each file that weights were read from.
        detector (`str`): name of the detector.
        preset (`str`, *optional*): whose test size and thresholds the image processor has.
        num_parameters (`int`): of the model.
        mapped (`dict[str, str]`): for each weight of the model that was taken over, the tensor in the source.
        new (`dict[str, str]`): weights of the model that the source does not have, with the reason.
        left_over (`dict[str, str]`): tensors of the source that are not used, with the reason.
        notes (`list[str]`): what else is to be known.
        version (`str`): of tcm_hf.
    """

    source: str
    layout: str
    layout_title: str
    trained_detector: bool
    files: dict[str, str]
    detector: str
    preset: str | None
    num_parameters: int
    mapped: dict[str, str]
    new: dict[str, str]
    left_over: dict[str, str]
    notes: list[str] = field(default_factory=list)
    version: str = __version__

    def summary(self) -> str:
        """The report in a few lines, with one example for each reason."""
        lines = [
            f"source: {self.source} ({self.layout_title})",
            f"model: detector {self.detector}, {self.num_parameters / 1e6:.1f} M parameters",
            f"mapped: {len(self.mapped)} weights",
        ]
        for title, entries in (("new", self.new), ("left over", self.left_over)):
            lines.append(f"{title}: {len(entries)} weights")
            for reason, count in Counter(entries.values()).most_common():
                example = next(key for key, value in entries.items() if value == reason)
                lines.append(f"  {count}: {reason} ({example}{', ...' if count > 1 else ''})")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def convert_checkpoint(
    source: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    preset: str | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
    revision: str | None = None,
    **config_fields,
) -> ConversionReport:
    """
    Converts CLIP weights or an official TCM checkpoint to a directory for `from_pretrained`, the pipeline and the Hub.

    Args:
        source (`str` or `os.PathLike`):
            A file, a directory or a Hub id, with

            - CLIP, with a ResNet or a ViT image tower, in OpenAI's or open_clip's layout: TorchScript archive, `.pt`
              state dict or safetensors;
            - its image tower alone in timm's layout (`resnet50_clip`), with `text_side=False`;
            - a `CLIPModel` of transformers, such as `"openai/clip-vit-base-patch16"`;
            - an official checkpoint (`.pth`) of TCM-DB, TCM-PAN, TCM-FCE, FastTCM, or of such a detector on CLIP's
              ResNet without text side, as the baseline DBNet is.
        output_dir (`str` or `os.PathLike`):
            The directory to make. It appears when it is complete.
        preset (`str`, *optional*):
            `"ic15"`, `"td500"`, `"ctw1500"` or `"totaltext"`: the test size and thresholds of the official model for
            this benchmark; PAN and FCE have `"ic15"` and `"ctw1500"`. By default those of `TCMImageProcessor`.
        allow_pickle (`bool`, *optional*, defaults to `False`):
            Whether a pickle file may hold more than weights. Loading such a file can run any code: only for files from
            a trusted source.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether `output_dir` is replaced when there is a model in it.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        config_fields:
            Fields of `TCMConfig`. From a bare CLIP any model can be made, e.g. with `detector="db"`,
            `num_context_vectors=32`, `prompt_generator="meta_query"`. The shapes of an official checkpoint tell nearly
            all; it does not store the prompt, so another one than the released models have is to be given.
            Dictionaries such as `text_config={"hidden_act": "gelu"}` change single values.

    Returns:
        `ConversionReport`: also in `conversion_report.json` of the directory.

    Raises:
        ConversionError: if the source is none of these, is damaged, or a weight is missing or has another shape.
        FileNotFoundError: if there is no such source.
        FileExistsError: if `output_dir` is not empty.
        ValueError: if a setting is wrong.
    """
    output = Path(os.path.realpath(output_dir))
    _check_output(output, source, overwrite)
    weights, files = read_weights(source, allow_pickle=allow_pickle, revision=revision)
    layout = detect_layout(weights)
    config = infer_config(weights, layout, config_fields)
    processor = _image_processor(config.detector, preset)
    with torch.device("meta"):
        model = TCMForTextDetection(config).eval()
    expected = model.state_dict()
    plan = make_plan(weights, layout, config, expected)
    _initialize(model, plan.new)
    initialized = model.state_dict()
    report = ConversionReport(
        source=weights.name,
        layout=layout.name,
        layout_title=layout.title,
        trained_detector=layout.trained_detector,
        files={path.name: _sha256(path) for path in files},
        detector=config.detector,
        preset=preset,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        mapped={key: name for key, (name, _) in plan.pulls.items()},
        new=plan.new,
        left_over=plan.left_over,
        notes=_notes(weights, layout, config, preset, config_fields),
    )

    def tensor(key: str) -> torch.Tensor:
        if key not in plan.pulls:
            return initialized[key]
        value = pull(weights, plan.pulls[key])
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ConversionError(f"{weights.name}: {plan.pulls[key][0]!r} has values that are NaN or infinite.")
        return value

    with _new_directory(output) as directory:
        pipe = TextDetectionPipeline(
            model=model, image_processor=processor, task="text-detection", device=torch.device("meta")
        )
        with _quiet():
            pipe.save_pretrained(directory, state_dict={})  # all but the weights
        write_safetensors(directory / SAFE_WEIGHTS_NAME, expected, tensor)
        (directory / REPORT_NAME).write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
        (directory / CARD_NAME).write_text(model_card(report, config, processor), encoding="utf-8")
    return report


def _check_output(output: Path, source: str | os.PathLike, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; give a directory to write to.")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{output} is not empty; give another directory, or overwrite=True (--overwrite).")
    if not (output / CONFIG_NAME).is_file():
        raise FileExistsError(
            f"{output} holds no model, so it is not overwritten; remove it or give another directory."
        )
    if Path(os.path.realpath(source)).is_relative_to(output):
        raise FileExistsError(f"{output} holds the source, so it is not overwritten; give another directory.")


def _image_processor(detector: str, preset: str | None) -> TCMImageProcessor:
    settings = {}
    if preset is not None:
        presets = PRESETS.get(detector, {})
        if preset not in presets:
            raise ValueError(f"there is no preset {preset!r} for the detector {detector!r}; known: {sorted(presets)}")
        settings = {**presets[preset], "do_upscale": True}
    mean = IMAGE_MEANS.get(detector, OTHER_IMAGE_MEAN)
    return TCMImageProcessor(
        detector=detector,
        image_mean=[value / 255 for value in mean],
        image_std=[value / 255 for value in IMAGE_STD],
        **settings,
    )


def _notes(weights, layout, config, preset, config_fields) -> list[str]:
    notes = []
    if not layout.trained_detector:
        notes.append("the detector is new and untrained: train the model before use")
    if layout.name.startswith("openai") and weights.activation is None:
        towers = [("vision_config", config.vision_config)] if layout.name == "openai-vit" else []
        towers += [("text_config", config.text_config)] if config.text_side else []
        silent = [name for name, tower in towers if tower.hidden_act == "quick_gelu"]
        if silent:
            remedy = ", ".join(f'{name}={{"hidden_act": "gelu"}}' for name in silent)
            notes.append(
                "the weights do not tell the activation; it is QuickGELU, as in OpenAI's models. For a model that was "
                f"trained with GELU give {remedy}"
            )
    prompt_given = {"prompt", "prompt_token_ids"} & set(config_fields)
    if layout.trained_detector and config.text_side and config.prompt_token_ids and not prompt_given:
        notes.append(f"the checkpoint does not store its prompt; it is that of the released models, {config.prompt!r}")
    if layout.trained_detector and preset is None:
        notes.append("test size and thresholds are this package's defaults; a preset gives those of a benchmark")
    return notes


# ---------------------------------------------------------------------- reading


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
    model_type = config.get("model_type")
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
        shards = sorted(set(_read_json(weight_file).get("weight_map", {}).values()))
        files = [find(name) for name in shards]
        if not files or None in files:
            raise ConversionError(f"{source}: a file that {weight_file.name} names is missing. Get a complete copy.")
    tensors = {}
    for file in files:
        tensors.update(_strip_prefixes(_read_file(file, allow_pickle)))
    open_clip = _read_json(find(OPEN_CLIP_CONFIG_NAME)).get("model_cfg", {})
    activation = ("quick_gelu" if open_clip.get("quick_gelu") else "gelu") if open_clip else None
    name = Path(source).resolve().name if is_local else source
    return Weights(name, tensors, config if model_type == "clip" else None, activation), files


def _read_json(path: Path | None) -> dict:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds no JSON object.")
    return content


def _read_file(path: Path, allow_pickle: bool) -> dict[str, torch.Tensor]:
    """The tensors of one file, whatever its name."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read ({error.strerror}).") from None
    damaged = f"{path} is damaged or incomplete ({{}}). Get a complete copy."
    if not start:
        raise ConversionError(f"{path} is empty. Get a complete copy.")
    if start.startswith(b"version https://git-lfs"):
        raise ConversionError(f"{path} is a pointer of Git LFS, not the weights. Run `git lfs pull`.")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ConversionError(damaged.format(error)) from None
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise ConversionError(damaged.format("its table of contents is missing"))
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
        if "data.pkl" not in names:
            raise ConversionError(
                f"{path} is a ZIP file, but no PyTorch checkpoint. Unpack it, and give what is in it."
            )
        if "constants.pkl" in names:
            return _read_torchscript(path, damaged)
        return _read_pickle(path, allow_pickle, damaged, mmap=True)
    if start.startswith(b"\x80"):
        return _read_pickle(path, allow_pickle, damaged, mmap=False)
    kind = "a text file, perhaps a web page saved in its place" if _is_text(start) else "no checkpoint"
    raise ConversionError(
        f"{path} is {kind}. Give a PyTorch checkpoint (.pt, .pth), safetensors or a model directory."
    )


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8", errors="strict" if len(start) < 256 else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _read_torchscript(path: Path, damaged: str) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of TorchScript; OpenAI's files are what they are
            return torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError as error:
        raise ConversionError(damaged.format(_first_line(error))) from None


def _read_pickle(path: Path, allow_pickle: bool, damaged: str, mmap: bool) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=not allow_pickle, mmap=mmap)
    except pickle.UnpicklingError as error:
        match = re.search(r"(?:GLOBAL|function|class)\s+(\S+)", str(error))
        if match is None or allow_pickle:
            raise ConversionError(damaged.format(_first_line(error))) from None
        raise ConversionError(
            f"{path} holds more than weights ({match[1]}). Loading it could run any code, so it is refused. If you trust "
            "its source, pass allow_pickle=True (--allow-pickle)."
        ) from None
    except (ImportError, AttributeError) as error:
        raise ConversionError(f"{path} needs code that is not installed here ({_first_line(error)}).") from None
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError) as error:
        raise ConversionError(damaged.format(_first_line(error))) from None
    return _find_state_dict(content, path)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _find_state_dict(content, path: Path) -> dict[str, torch.Tensor]:
    """The state dict in what a training saved."""
    for _ in range(3):
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            break
        if any(isinstance(value, torch.Tensor) for value in content.values()):
            return {str(key): value.detach() for key, value in content.items() if isinstance(value, torch.Tensor)}
        inner = next((content[key] for key in ("state_dict", "model_state_dict", "model") if key in content), None)
        if inner is None:
            break
        content = inner
    keys = f" with {list(content)[:5]}" if isinstance(content, Mapping) else ""
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------- writing


def _initialize(model: TCMForTextDetection, names: Mapping[str, str]) -> None:
    """Gives the named weights of a model without data their initial values, always the same ones."""
    modules = {}
    for name in names:
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        modules[owner_name] = owner
        meta = getattr(owner, leaf)
        fill = float("nan") if meta.is_floating_point() else 0
        value = torch.full(meta.shape, fill, dtype=meta.dtype)
        setattr(owner, leaf, nn.Parameter(value) if isinstance(meta, nn.Parameter) else value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in modules.values():
            model._init_weights(module)
    state = model.state_dict()
    forgotten = [name for name in names if state[name].is_floating_point() and state[name].isnan().any()]
    if forgotten:
        raise ValueError(
            f"the detector does not initialise {forgotten[0]!r}; `_init_weights` only knows layers of torch.nn."
        )


def write_safetensors(path: Path, shapes: Mapping[str, torch.Tensor], tensor) -> None:
    """
    Writes a safetensors file with one tensor in memory at a time.

    Args:
        path (`Path`): the file.
        shapes (`Mapping[str, torch.Tensor]`): the names with tensors, of which only shape and dtype are used; floating
            dtypes become fp32, all others int64.
        tensor (`Callable[[str], torch.Tensor]`): gives the values of a name.
    """
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    # The format asks for alignment, so wide numbers go first.
    names = sorted(shapes, key=lambda name: (shapes[name].is_floating_point(), name))
    end = 0
    for name in names:
        is_float = shapes[name].is_floating_point()
        begin, end = end, end + shapes[name].numel() * (4 if is_float else 8)
        header[name] = {
            "dtype": "F32" if is_float else "I64",
            "shape": list(shapes[name].shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in names:
            dtype = torch.float32 if shapes[name].is_floating_point() else torch.int64
            values = tensor(name).detach().to(dtype).contiguous().reshape(-1).numpy()
            file.write(values.astype(values.dtype.newbyteorder("<"), copy=False).data)


@contextlib.contextmanager
def _new_directory(output: Path):
    """Yields a temporary directory beside the output, which takes its place when all went well."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=".tmp"))
    try:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # temporary directories are private, results are not
        yield temporary
        if not output.exists():
            os.replace(temporary, output)
            return
        former = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=".old"))
        os.replace(output, former / output.name)
        try:
            os.replace(temporary, output)
        except OSError:
            os.replace(former / output.name, output)
            raise
        finally:
            if output.exists():
                shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _quiet():
    """Without transformers' progress bar, which would count no weights here."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


__all__ = ["PRESETS", "ConversionError", "ConversionReport", "convert_checkpoint", "read_weights"]
