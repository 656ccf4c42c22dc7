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
"""Detects text with an exported network. Imports neither torch nor transformers: this file goes into the exported folder."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..cores import available_cores
from ..model.image_arrays import check_resized_pixels, normalize, resize, resized_size
from ..model.image_loading import DEFAULT_MAX_PIXELS, load_rgb_image
from ..model.image_processing_settings import check_settings
from ..model.post_processing import decode_outputs, decoding_arguments, describe_texts, rounded_detection
from ..model.turning import can_turn, look_again


#: What transformers' exporters write beside a network, and what the package itself does.
MANIFEST_NAME, CONFIG_NAME, PROCESSOR_NAME = "export.json", "config.json", "preprocessor_config.json"
#: The package that runs each format.
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
#: Detectors whose decoders are in the package and need no torch.
DETECTORS = ("db", "fce", "pan")

Network = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """
    A JSON object of an exported folder.

    Raises:
        ValueError: if the file is missing, or holds something else; the message names it.
    """
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; name a folder that `tcm-hf export` made") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); export the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} has to hold an object; export the model again")
    return content


def available_threads() -> int:
    """`OMP_NUM_THREADS` where it is set, as for PyTorch, or else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return available_cores()  # runtimes count those of the machine


def session_options(threads: int):
    """The options of an ONNX Runtime session on so many cores."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would write an id into the home directory
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return options


def openvino_options(threads: int) -> dict[str, Any]:
    """The options of an OpenVINO network on so many cores; in float32, since it would take bfloat16 where there is it."""
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}


def load_network(folder: Path, threads: int) -> Network:
    """
    The network of an exported folder.

    Args:
        folder (`Path`): the folder.
        threads (`int`): cores that it computes on.

    Returns:
        `Callable`: from arrays of the inputs `pixel_values` and `pixel_mask`, by name, to those of the outputs.

    Raises:
        ValueError: if the folder holds no network of a known format.
        ImportError: if its runtime is not installed.
    """
    manifest = read_object(folder, MANIFEST_NAME)
    kind, components = manifest.get("export_format"), manifest.get("components")
    try:
        name = components["model"]["file"]  # type: ignore[index]  # whatever else it is, is caught
    except (TypeError, KeyError):
        name = None
    # A file of the folder itself: nothing else is opened.
    if kind not in RUNTIMES or not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(
            f"{folder / MANIFEST_NAME} names no network of {' or '.join(RUNTIMES)}; export the model again"
        )
    file = folder / name
    if not file.is_file():
        raise ValueError(f"{file} is missing; export the model again")
    try:
        return _open_onnx(file, threads) if kind == "onnx" else _open_openvino(file, threads)
    except ImportError as error:
        raise ImportError(f"this network runs on {RUNTIMES[kind]}: pip install {RUNTIMES[kind]}") from error


def _open_onnx(file: Path, threads: int) -> Network:
    options = session_options(threads)
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if _is_logits(output.name)]
    return lambda inputs: dict(zip(names, session.run(names, inputs)))


def _open_openvino(file: Path, threads: int) -> Network:
    import openvino

    network = openvino.Core().compile_model(os.fspath(file), "CPU", openvino_options(threads))
    ports = {port.get_any_name(): port for port in network.outputs if _is_logits(port.get_any_name())}

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = network(inputs)
        return {name: outputs[port] for name, port in ports.items()}

    return run


def _is_logits(name: str) -> bool:
    return name == "logits" or name.startswith("logits.")


def network_inputs(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What a network takes for an image without padding, of shape (1, 3, height, width)."""
    return {"pixel_values": pixels, "pixel_mask": np.ones((1, *pixels.shape[2:]), dtype=np.int64)}


class RuntimeDetector:
    """
    Finds text in images with an exported network, as the pipeline does with a model.

    Args:
        folder (`str` or `os.PathLike`): the exported folder.
        threads (`int`, *optional*): cores to compute on; by default `OMP_NUM_THREADS`, or all that the process may use.
        settings: those of `preprocessor_config.json` to replace, such as `size` or `do_upscale`.

    Raises:
        ValueError: if a file of the folder is missing or wrong; the message names it.
        ImportError: if the runtime is not installed.
    """

    def __init__(self, folder: str | os.PathLike, *, threads: int | None = None, **settings):
        self.folder = Path(folder)
        config = read_object(self.folder, CONFIG_NAME)
        self.labels = {int(key): value for key, value in config.get("id2label", {"0": "text"}).items()}
        # A file that was saved without a limit has the image processor's default.
        self.settings = {"max_pixels": DEFAULT_MAX_PIXELS, **read_object(self.folder, PROCESSOR_NAME), **settings}
        self.detector = self.settings.get("detector", "db")
        if self.detector not in DETECTORS:
            raise ValueError(
                f"{self.folder / PROCESSOR_NAME}: detector must be one of {DETECTORS}, got {self.detector!r}"
            )
        check_settings(self.settings)
        self.decoder = import_module(f"..model.decoding_{self.detector}", __package__).DECODER
        self.network = load_network(self.folder, threads or available_threads())

    def prepare(self, image: Image.Image, name: str = "image") -> np.ndarray:
        """
        The network's `pixel_values` for an image.

        Args:
            image (`PIL.Image.Image`): upright, RGB.
            name (`str`, *optional*, defaults to `"image"`): for messages.

        Returns:
            `np.ndarray`: (1, 3, height, width), float32.

        Raises:
            ValueError: if the image would have more than `max_pixels`.
        """
        settings, array = self.settings, None
        if settings["do_resize"]:
            size, upscale = settings["size"], settings.get("do_upscale", False)
            height, width = resized_size(image.height, image.width, size, upscale, settings.get("max_upscale"))
            check_resized_pixels(image.size, (width, height), settings["max_pixels"], name)
            if (width, height) != image.size:
                backend = settings.get("resize_backend")
                array = np.asarray(resize(image, (width, height), settings.get("resample"), backend))
        array = np.asarray(image) if array is None else array
        output = np.empty(array.shape, dtype=np.float32)
        normalize(array, settings, output)
        return np.ascontiguousarray(output.transpose(2, 0, 1))[None]

    def __call__(self, image: Image.Image, *, reading_order: bool = False, **decoding) -> list[dict[str, Any]]:
        """
        Args:
            image (`PIL.Image.Image`): upright, RGB, as [`~image_loading.load_rgb_image`] reads it.
            reading_order (`bool`, *optional*, defaults to `False`): whether to sort the texts as they are read.
            decoding: arguments of [`TCMImageProcessor.post_process_text_detection`] that differ from the folder's.

        Returns:
            `list[dict]`: `score`, `label`, `box` and `polygon` of each text, in pixels of the image.

        Raises:
            ValueError, TypeError: if an argument is wrong, or the image is too large.
        """
        changes = {PROCESSOR_NAME: self.settings.get("decoding") or {}, "arguments": decoding}
        arguments = decoding_arguments(self.detector, self.decoder, changes)
        pixels = self.prepare(image)
        levels = self._logits(pixels)
        if self.settings.get("do_turn") and can_turn(self.decoder):
            levels = self._look_again(levels[0], pixels)
        outputs = {
            "logits": levels if isinstance(self.decoder.stride, tuple) else levels[0],
            "image_sizes": [pixels.shape[2:]],
        }
        size = (image.height, image.width)
        result = decode_outputs(self.decoder, outputs, [size], arguments, reading_order)[0]
        return describe_texts(result, size, self.labels)

    def _logits(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """The maps of every level."""
        return tuple(self.network(network_inputs(pixels)).values())

    def _look_again(self, logits: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """The map of an image, for one on its side that of a second look at it."""
        height, width = pixels.shape[2:]

        def detect_turned() -> np.ndarray:
            turned = np.ascontiguousarray(np.rot90(pixels, axes=(2, 3)))
            return self._logits(turned)[0][0, 0, :width, :height]

        found = look_again(logits[0, 0, :height, :width], detect_turned)
        return (logits if found is None else found[None, None],)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detect.py",
        description="Finds text in images and prints JSON, as `tcm-hf detect` does: a list with one entry for each image.",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, or addresses (http, https)")
    parser.add_argument("--shape", help="shape of the texts, such as polygon, quad or box (default: the model's)")
    parser.add_argument("--threshold", type=float, help="lowest score, 0 to 1 (default: the model's)")
    parser.add_argument("--reading-order", action="store_true", help="sort the texts as they are read")
    parser.add_argument("--threads", type=int, help="cores to compute on (default: OMP_NUM_THREADS, or all)")
    return parser


def main(folder: str | os.PathLike, argv: list[str] | None = None) -> int:
    """
    Runs `detect.py`.

    Args:
        folder (`str` or `os.PathLike`): the exported folder.
        argv (`list[str]`, *optional*): arguments; those of the process by default.

    Returns:
        `int`: 0, 1 where an image could not be read, or 2 where the folder or an option cannot be used.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.threads is not None and arguments.threads < 1:
        parser.error(f"--threads must be at least 1, got {arguments.threads}")
    decoding = {"shape": arguments.shape, "threshold": arguments.threshold}
    try:
        detector = RuntimeDetector(folder, threads=arguments.threads)
        changes = {PROCESSOR_NAME: detector.settings.get("decoding") or {}, "arguments": decoding}
        decoding_arguments(detector.detector, detector.decoder, changes)  # what is wrong is so for every image
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        print(f"detect.py: error: {_one_line(error)}", file=sys.stderr)
        return 2
    failures = 0
    for number, path in enumerate(arguments.images):
        try:
            image = load_rgb_image(path, max_pixels=detector.settings["max_pixels"])
            texts = detector(image, reading_order=arguments.reading_order, **decoding)
            entry = {
                "image": path,
                "width": image.width,
                "height": image.height,
                "detections": [*map(rounded_detection, texts)],
            }
        except (OSError, ValueError, RuntimeError) as error:
            failures += 1
            entry = {"image": path, "error": _one_line(error)}
            print(f"detect.py: error: {_one_line(error)}", file=sys.stderr)
        print(",\n" if number else "[\n", json.dumps(entry), sep="", end="", flush=True)
    print("\n]")
    return 1 if failures else 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
