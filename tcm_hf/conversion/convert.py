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
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, logging

from .._version import __version__
from ..model.configuration_towers import one_line
from ..model.detectors import detector_names, find_detector
from ..model.image_processing_settings import IMAGE_STD
from ..model.image_processing_tcm import TCMImageProcessor
from ..model.modeling_tcm import TCMForTextDetection
from ..model.pipeline_text_detection import TextDetectionPipeline
from ..output_folders import output_folder
from .card import CARD_NAME, model_card
from .configuration import infer_config
from .layouts import ConversionError, conversion_rules, find_layout, make_plan, pull
from .reading import read_weights


REPORT_NAME = "conversion_report.json"

# RGB mean in 0..255 of MMOCR's configurations, on which the official code builds; detectors may declare another one.
MMOCR_IMAGE_MEAN = (123.675, 116.28, 103.53)

# Test settings of the official models for each benchmark, by detector.
PRESETS = {name: dict(find_detector(name).part("conversion").presets) for name in detector_names("conversion")}


@dataclass
class ConversionReport:
    """
    What became of the weights.

    Args:
        source (`str`): name of the source file, directory or Hub id.
        layout (`str`):
            `"openai"`, `"openai-vit"` (open_clip's are the same), `"timm"`, `"oclip"`, `"open-clip-convnext"`, `"transformers"` or
            `"tcm"`.
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
    layout: str | None = None,
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
            - the image tower of oCLIP, or of open_clip's CLIP with a ConvNeXt, with `text_side=False`;
            - a `CLIPModel` of transformers, such as `"openai/clip-vit-base-patch16"`;
            - an official checkpoint (`.pth`) of TCM-DB, TCM-PAN, TCM-FCE, FastTCM, or of such a detector on CLIP's
              ResNet without text side, as the baseline DBNet is.
        output_dir (`str` or `os.PathLike`):
            The directory to make. It appears when it is complete, see [`output_folder`].
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
        layout (`str`, *optional*):
            The layout, where the names of the weights do not tell it: `"oclip"` for the first stage of oCLIP, whose weights are named
            as CLIP's are.
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
        BlockingIOError: if another run is writing to `output_dir`.
        ValueError: if a setting is wrong.
    """
    output = Path(os.path.realpath(output_dir))
    _check_output(output, source, overwrite)
    weights, files = read_weights(source, allow_pickle=allow_pickle, revision=revision)
    found = find_layout(weights, layout)
    config = infer_config(weights, found, config_fields)
    processor = preset_image_processor(config.detector, preset)
    try:
        with torch.device("meta"):
            model = TCMForTextDetection(config).eval()
        expected = model.state_dict()
        plan = make_plan(weights, found, config, expected)
        _initialize(model, plan.new)
    except ConversionError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        raise ConversionError(
            f"{weights.name}: no model can be built with these sizes ({one_line(error)})."
        ) from error
    initialized = model.state_dict()
    report = ConversionReport(
        source=weights.name,
        layout=found.name,
        layout_title=found.title,
        trained_detector=found.trained_detector,
        files={path.name: _sha256(path) for path in files},
        detector=config.detector,
        preset=preset,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        mapped={key: name for key, (name, _) in plan.pulls.items()},
        new=plan.new,
        left_over=plan.left_over,
        notes=_notes(weights, found, config, preset, config_fields),
    )

    def tensor(key: str) -> torch.Tensor:
        if key not in plan.pulls:
            return initialized[key]
        value = pull(weights, plan.pulls[key])
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ConversionError(f"{weights.name}: {plan.pulls[key][0]!r} has values that are NaN or infinite.")
        return value

    with output_folder(output) as directory:
        _check_output(output, source, overwrite)  # once more, now that no other run writes there
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


def preset_image_processor(detector: str, preset: str | None, **changes) -> TCMImageProcessor:
    """
    The image processor of a converted model.

    Args:
        detector (`str`): The model's detector.
        preset (`str`, *optional*): Whose test size and thresholds it has; by default this package's.
        changes: Settings that differ from the preset's.

    Returns:
        [`TCMImageProcessor`]

    Raises:
        ValueError: if there is no such preset.
    """
    rules = conversion_rules(detector)
    settings = {}
    if preset is not None:
        presets = rules.presets if rules is not None else {}
        if preset not in presets:
            raise ValueError(f"there is no preset {preset!r} for the detector {detector!r}; known: {sorted(presets)}")
        settings = {**presets[preset], "do_upscale": True, "resize_backend": "opencv"}
    mean = MMOCR_IMAGE_MEAN if rules is None or rules.image_mean is None else rules.image_mean
    statistics = {
        "image_mean": [value / 255 for value in mean],
        "image_std": [value / 255 for value in IMAGE_STD],
    }
    return TCMImageProcessor(detector=detector, **{**statistics, **settings, **changes})


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


# ---------------------------------------------------------------------- writing


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
            f"the detector does not initialize {forgotten[0]!r}; `_init_weights` only knows layers of torch.nn."
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
    # Not `save_file`, which holds all tensors at once: 640 MB for a file of 640 MB whose half-precision source is mapped,
    # against 160 MB here.
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
