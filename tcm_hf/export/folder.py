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
"""Makes a folder that detects text without PyTorch: a network for another runtime, and the code around it."""

import ast
import contextlib
import importlib.util
import io
import json
import logging
import math
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._version import __version__
from ..checkpoints import checkpoint_path, find_checkpoint
from ..model.image_loading import load_rgb_image
from ..model.image_processing_tcm import TCMImageProcessor
from ..model.modeling_tcm import TCMForTextDetection
from ..model.polygons import polygon_iou
from ..output_files import LOCK_NAME
from ..output_folders import output_folder
from .quantization import quantize_openvino
from .runtime import CONFIG_NAME, DETECTORS, MANIFEST_NAME, PROCESSOR_NAME, RUNTIMES, RuntimeDetector


#: Packages that an export needs, by the extra of this package that has them.
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "int8": ("nncf",)}
#: What the package in the folder is called. It has the files of `tcm_hf` that run without torch, as they are.
CODE_FOLDER = "tcm_runtime"
CARD_NAME, REQUIREMENTS_NAME, SCRIPT_NAME = "README.md", "requirements.txt", "detect.py"

_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGE_FILE = "# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.\n"
_SCRIPT = (
    _PACKAGE_FILE
    + '''"""Finds text in images, without PyTorch and transformers: python detect.py photo.jpg"""

import sys
from pathlib import Path

from tcm_runtime.export.runtime import main


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
'''
)
# Maps of an export that differ more than this are those of another network; float rounding gives a hundredth of it.
MAX_DIFFERENCE = 0.02
# Heights and widths at which maps are compared: of no multiples of 32, and of a single cell.
_SIZES = ((96, 160), (211, 301), (29, 45))


@dataclass
class Parity:
    """
    How far an export is from its model.

    Args:
        probability (`float`): largest difference of a probability (of a value, where maps hold others).
        images (`int`): images on which regions were compared.
        regions (`int`): texts that the model found in them.
        found (`int`): texts that the export found.
        least_iou (`float`): the lowest IoU of texts that match, one to one; 1 where there are none.
    """

    probability: float = 0.0
    images: int = 0
    regions: int = 0
    found: int = 0
    least_iou: float = 1.0
    sizes: list[str] = field(default_factory=list)


def check_packages(extra: str) -> None:
    """
    Raises:
        ImportError: if a package that the export needs is not installed; the message has the command that does it.
    """
    missing = [name for name in PACKAGES[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"exporting to {extra} needs {', '.join(missing)}: pip install 'tcm_hf[{extra}]'")


def export_model(
    runtime: str,
    output: str | os.PathLike,
    *,
    model: str | os.PathLike = "tcm-tiny",
    images: list[str] | None = None,
    calibration: list[str] | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
) -> Parity:
    """
    Exports a model with transformers' exporters, and compares the result with it.

    The network takes batches of any number and images of any size. The folder runs by itself, see `detect.py` in it.

    Args:
        runtime (`str`): `"onnx"` for ONNX Runtime, `"openvino"` for OpenVINO.
        output (`str` or `os.PathLike`): the folder. It appears when it is complete and compared.
        model (`str` or `os.PathLike`, *optional*, defaults to `"tcm-tiny"`): directory, Hub id, or checkpoint of the package.
        images (`list[str]`, *optional*): images on which regions are compared; by default the picture of the package.
        calibration (`list[str]`, *optional*):
            photos like those that the network is going to see, some tens of them: it becomes int8, for OpenVINO only. It is
            compared with the model before, and what changes is measured after it, and told in the card.
        overwrite (`bool`, *optional*, defaults to `False`): whether to replace an export that is there.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether to run code that comes with the model.

    Returns:
        [`Parity`]

    Raises:
        FileExistsError: if the folder holds something else, or an export and `overwrite` is off.
        ImportError: if a package is missing.
        ValueError: if the model has a detector from outside of the package, or the export differs from the model.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"there is no runtime {runtime!r}; name one of {', '.join(RUNTIMES)}")
    check_packages(runtime)
    if calibration is not None:
        if runtime != "openvino" or not calibration:
            raise ValueError("int8 is for openvino, and needs images for its calibration")
        check_packages("int8")
    folder = Path(output)
    check_output(folder, overwrite)
    for path in (*(images or ()), *(calibration or ())):
        load_rgb_image(path)  # one that cannot be read is known before the export, which takes long
    source = find_checkpoint(model)
    network = TCMForTextDetection.from_pretrained(
        source, dtype=torch.float32, trust_remote_code=trust_remote_code
    ).eval()
    processor = TCMImageProcessor.from_pretrained(source)
    if network.missing_weights:
        raise ValueError(f"{source} lacks {len(network.missing_weights)} weights, so its answers would be random")
    if network.config.detector not in DETECTORS:
        raise ValueError(
            f"the detector {network.config.detector!r} is not of this package, so its decoder cannot be put beside the "
            "network; export the network alone, see docs/export.md"
        )
    exported = export_network(network, runtime)
    with output_folder(folder) as directory:
        check_output(folder, overwrite)  # once more, now that no other run writes there
        exported.config = None  # it would be saved with code that nothing here runs
        exported.save_pretrained(directory)
        _write_settings(directory / CONFIG_NAME, network.config.to_dict())
        _write_settings(directory / PROCESSOR_NAME, processor.to_dict())
        _write_code(directory, runtime, network.config.detector)
        parity = compare(network, processor, directory, images)
        precision = "float32"
        if calibration is not None:
            quantize_openvino(directory, calibration)
            parity, precision = compare(network, processor, directory, images, math.inf), "int8"
        (directory / CARD_NAME).write_text(
            card(str(model), runtime, network.config, parity, precision), encoding="utf-8"
        )
    return parity


def check_output(folder: Path, overwrite: bool) -> None:
    """Raises `FileExistsError` where a folder is not to be written to."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give a directory to write to")
    if not folder.is_dir() or all(path.name == LOCK_NAME for path in folder.iterdir()):
        return
    if not (folder / MANIFEST_NAME).is_file() or not (folder / CODE_FOLDER).is_dir():
        raise FileExistsError(
            f"{folder} is not empty and holds no export, so it is not overwritten; give another directory"
        )
    if not overwrite:
        raise FileExistsError(f"{folder} holds an export; give another directory, or overwrite=True (--overwrite)")


def export_network(model: TCMForTextDetection, runtime: str) -> Any:
    """
    The network by transformers' exporter, for batches of any number and images of any size.

    Args:
        model ([`TCMForTextDetection`]): in evaluation mode.
        runtime (`str`): `"onnx"` or `"openvino"`.

    Returns:
        `transformers.exporters.ExportedModel`
    """
    from transformers import exporters

    free = torch.export.Dim.DYNAMIC
    # Two images, of which one has padding: what is 1, PyTorch takes for a case of its own.
    inputs: dict[str, Any] = {
        "pixel_values": torch.zeros(2, 3, 96, 160),
        "pixel_mask": torch.ones(2, 96, 160, dtype=torch.long),
    }
    inputs["pixel_mask"][1, 70:] = 0
    shapes = {"pixel_values": {0: free, 2: free, 3: free}, "pixel_mask": {0: free, 1: free, 2: free}}
    exporter, config = {
        "onnx": (exporters.OnnxExporter, exporters.OnnxConfig),
        "openvino": (exporters.OpenVINOExporter, exporters.OpenVINOConfig),
    }[runtime]
    # They tell at length what they do, and of versions that they were not tried with; the comparison tells what matters.
    log = logging.getLogger("torch.onnx")
    level = log.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            return exporter().export(model, inputs, config(dynamic_shapes=shapes))
        finally:
            log.setLevel(level)


def _write_settings(path: Path, settings: dict[str, Any]) -> None:
    # What names code of the checkpoint: there is none in the folder.
    settings = {key: value for key, value in settings.items() if key not in ("auto_map", "custom_pipelines")}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")


def code_files(detector: str) -> list[str]:
    """The files of the package that run a network: what `runtime.py` and the detector's decoder import, and so on."""
    found, waiting = set(), ["export/runtime.py", f"model/decoding_{detector}.py"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((_PACKAGE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = Path(name).parents[node.level - 1]
                waiting.append((folder / f"{str(node.module).replace('.', '/')}.py").as_posix())
    return sorted(found)


def _write_code(directory: Path, runtime: str, detector: str) -> None:
    for name in code_files(detector):
        target = directory / CODE_FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((_PACKAGE / name).read_bytes())
    for part in (".", "export", "model"):
        (directory / CODE_FOLDER / part / "__init__.py").write_text(_PACKAGE_FILE, encoding="utf-8")
    (directory / SCRIPT_NAME).write_text(_SCRIPT, encoding="utf-8")
    needed = ("numpy", "opencv-python-headless", "pillow", "pyclipper", "shapely", PACKAGES[runtime][-1])
    (directory / REQUIREMENTS_NAME).write_text("".join(f"{name}\n" for name in needed), encoding="utf-8")


# ---------------------------------------------------------------------- parity


def compare(
    model, processor, directory: Path, images: list[str] | None = None, largest: float = MAX_DIFFERENCE
) -> Parity:
    """
    Compares the maps and the texts of an exported folder with those of its model.

    Args:
        model ([`TCMForTextDetection`]): the model.
        processor ([`TCMImageProcessor`]): its image processor.
        directory (`Path`): the exported folder.
        images (`list[str]`, *optional*): images on which texts are compared; by default the picture of the package.
        largest (`float`, *optional*, defaults to 0.02): the largest difference of a map that is accepted.

    Raises:
        ValueError: if the maps differ by more, by default by more than rounding.
    """
    detector, parity = RuntimeDetector(directory), Parity()
    generator = torch.Generator().manual_seed(0)
    for height, width in _SIZES:
        pixels = torch.randn(2, 3, height, width, generator=generator)
        mask = torch.ones(2, height, width, dtype=torch.long)
        mask[1, :, width * 2 // 3 :] = 0
        with torch.inference_mode():
            levels = model(pixel_values=pixels, pixel_mask=mask).logits
        found = detector.network({"pixel_values": pixels.numpy(), "pixel_mask": mask.numpy()})
        wanted = levels if isinstance(levels, tuple) else (levels,)
        if len(found) != len(wanted):
            raise ValueError(f"the export has {len(found)} maps instead of {len(wanted)}")
        for ours, theirs in zip(found.values(), wanted):
            parity.probability = max(parity.probability, _difference(torch.from_numpy(ours), theirs, detector.decoder))
        parity.sizes.append(f"{height}x{width}")
    if not parity.probability <= largest:  # NaN is not either
        raise ValueError(
            f"the export differs from the model by {parity.probability:.3g} in a map, more than {largest}; try the "
            "versions of the packages that transformers names for its exporter"
        )
    _compare_texts(model, processor, detector, images or [_bundled_picture()], parity)
    return parity


def _difference(ours: torch.Tensor, theirs: torch.Tensor, decoder) -> float:
    if decoder.activation == "sigmoid":
        ours, theirs = ours.sigmoid(), theirs.sigmoid()
    return float((ours - theirs).abs().max())


def _bundled_picture() -> str:
    return os.path.join(checkpoint_path("tcm-tiny"), "tcm-tiny.jpg")


def _compare_texts(model, processor, detector: RuntimeDetector, images: list[str], parity: Parity) -> None:
    for path in images:
        image = load_rgb_image(path)
        inputs = processor(image, return_tensors="pt", do_pad=False)
        pixels = inputs["pixel_values"][0]
        with torch.inference_mode():
            outputs = model(pixel_values=torch.as_tensor(np.asarray(pixels))[None])
        size = (image.height, image.width)
        shown = {"logits": outputs.logits, "image_sizes": [tuple(pixels.shape[-2:])]}
        wanted = processor.post_process_text_detection(shown, [size])[0]["polygons"]
        found = [np.asarray(text["polygon"]) for text in detector(image)]
        parity.images += 1
        parity.regions += len(wanted)
        parity.found += len(found)
        parity.least_iou = min(parity.least_iou, *match(found, wanted), 1.0)


def match(found: list[np.ndarray], wanted: list[np.ndarray]) -> list[float]:
    """
    The IoU of texts that belong together, one to one, highest first.

    Args:
        found, wanted (`list[np.ndarray]`): polygons of shape (n, 2).
    """
    if not found or not wanted:
        return []
    overlaps = np.array([[polygon_iou(first, second) for second in wanted] for first in found])
    matched = []
    while overlaps.size and overlaps.max() > 0:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        matched.append(float(overlaps[row, column]))
        overlaps = np.delete(np.delete(overlaps, row, 0), column, 1)
    return matched


def card(name: str, runtime: str, config, parity: Parity, precision: str = "float32") -> str:
    """The text of the folder's `README.md`."""
    package = PACKAGES[runtime][-1]
    compared = "" if precision == "float32" else ", beside the model in float32"
    kept = "is kept" if parity.regions == parity.found else "is not kept everywhere"
    return f"""---
library_name: {package}
pipeline_tag: object-detection
tags:
- text-detection
- scene-text-detection
- tcm
---

# {Path(name).name} for {package}

A detector of scene text (TCM, detector {config.detector.upper()}), exported from `{Path(name).name}` by `tcm_hf` {__version__}. It gives
polygons of texts and does not read them. It needs neither PyTorch nor transformers:

```bash
pip install -r {REQUIREMENTS_NAME}
python {SCRIPT_NAME} photo.jpg
```

The network takes `pixel_values`, float32 of shape (batch, 3, height, width), and `pixel_mask`, int64 of shape (batch, height, width) with 1
for image and 0 for padding; batch, height and width are free. `{PROCESSOR_NAME}` has the settings of resizing, normalization and decoding.

## Parity with the model

Measured when it was exported, on a CPU, in {precision}{compared}.

| | |
|---|---|
| largest difference of a map, batches of 2 at {", ".join(parity.sizes)}, one image with padding | {parity.probability:.1e} |
| texts of {parity.images} image{"s" if parity.images != 1 else ""}: model, export | {parity.regions}, {parity.found} (the number {kept}) |
| lowest IoU of a text with its counterpart | {parity.least_iou:.4f} |

License and training data are those of the model that it was exported from.
"""
