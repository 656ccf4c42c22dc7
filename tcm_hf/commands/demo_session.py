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
"""What the demo does, without its page: models, their settings, and the results for one image."""

import inspect
import json
import math
import numbers
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..explanation import ImageMaps, draw_heat_map, find_maps
from ..model.detectors import find_detector
from ..model.image_loading import load_rgb_image
from ..model.post_processing import rounded_detection
from ..visualization import draw_detections


# Of the drawings, in pixels: more are not seen on a screen, and have to be sent.
LONGEST_SIDE = 1600
# Kept in memory: models, and images with their maps (8 MB each at the bundled models' size), so that moving a slider takes
# no forward pass.
KEPT_MODELS, KEPT_IMAGES = 2, 8
# A slider ends at this many times the checkpoint's value, where the detector names no highest one.
SLIDER_REACH = 4


@dataclass(frozen=True)
class Control:
    """
    How one decoding argument of a detector is set.

    Args:
        name (`str`): of the argument.
        kind (`str`): `"slider"`, `"number"` (a whole one), `"switch"` or `"choice"`.
        value: what it shows at first.
        lowest, highest, step (`float`, *optional*): of a slider; of a number only the lowest.
        description (`str`): one sentence of the decoder's documentation, or nothing.
    """

    name: str
    kind: str
    value: Any
    lowest: float | None = None
    highest: float | None = None
    step: float | None = None
    description: str = ""

    @property
    def is_threshold(self) -> bool:
        """Whether it is a share of one, rather than a size or a count."""
        return self.kind == "slider" and self.highest == 1 and self.name.endswith(("threshold", "share"))


def decoding_controls(processor) -> list[Control]:
    """
    A control for every decoding argument that a checkpoint's detector knows, thresholds first.

    Args:
        processor ([`TCMImageProcessor`]): of the checkpoint.

    Returns:
        `list[Control]`: each with the value that the checkpoint has. A threshold that it does not set shows 1.
    """
    decoder = find_detector(processor.detector).part("decoder")
    descriptions = _argument_descriptions(decoder.function)
    values, controls = processor.decoding_arguments(), []
    for keyword, default in decoder.keywords.items():
        name = keyword if keyword in values else "threshold"  # `score_threshold` of the function
        control = _control(name, values[name], default, decoder.least.get(name), descriptions.get(keyword, ""))
        if control is not None:
            controls.append(control)
    return sorted(controls, key=lambda control: (not control.is_threshold, control.kind != "choice"))


def _control(name: str, value: Any, default: Any, least: float | None, description: str) -> Control | None:
    if name == "shape":
        return Control(name, "choice", value, description=description)
    if isinstance(default, bool):
        return Control(name, "switch", bool(value), description=description)
    if name.endswith(("threshold", "share")):
        return Control(name, "slider", 1.0 if value is None else float(value), 0.0, 1.0, 0.01, description)
    if not isinstance(value, numbers.Real):
        return None  # not set, and without a range
    if isinstance(default, int):
        return Control(name, "number", int(float(value)), least, description=description)
    lowest = 0.0 if least is None else float(least)
    highest = lowest + SLIDER_REACH * (abs(float(value)) or 1.0)
    # A power of ten, a hundred steps or more.
    step = 10.0 ** math.floor(math.log10((highest - lowest) / 100))
    return Control(name, "slider", float(value), lowest, math.ceil(highest / step) * step, step, description)


def _argument_descriptions(function: Callable) -> dict[str, str]:
    """The first sentence on each argument of a docstring of the form ``name (`type`): Sentence.``"""
    entries = re.findall(r"^    (\w+) \(.*?\):\s(.*?)(?=^    \w|^\S|\Z)", inspect.getdoc(function) or "", re.M | re.S)
    # A colon ends one, too: what follows explains it.
    return {
        name: re.split(r"(?<=[.:])\s", " ".join(text.split()))[0].rstrip(".:").replace("`", "")
        for name, text in entries
    }


@dataclass(frozen=True)
class DemoResult:
    """
    What the demo shows of one image.

    Args:
        drawing (`PIL.Image.Image`): the texts on the image.
        probability, matching (`PIL.Image.Image`, *optional*): the heat maps; `None` where the model has no such map.
        record (`dict`): the image's entry as `tcm-hf detect` writes it.
    """

    drawing: Image.Image
    probability: Image.Image | None
    matching: Image.Image | None
    record: dict[str, Any]

    @property
    def summary(self) -> str:
        """One line on the result."""
        found, width, height = len(self.record["detections"]), self.record["width"], self.record["height"]
        return f"{found} {'text' if found == 1 else 'texts'} in {width} × {height} pixels"

    def as_json(self) -> str:
        """The content of the file to download."""
        return json.dumps([self.record], indent=2) + "\n"


class DemoSession:
    """
    The models and images of a running demo.

    Args:
        load (`Callable[[str], TextDetectionPipeline]`): gives the pipeline of a model's name.
        models (`Sequence[str]`): names that are offered; the first one is chosen at first.
        max_pixels (`int`): largest width times height of an image.
        hub (`bool`, *optional*, defaults to `True`): whether Hub ids beside `models` are loaded, too.
    """

    def __init__(self, load: Callable[[str], Any], models: Sequence[str], max_pixels: int, hub: bool = True):
        self.load, self.models, self.max_pixels, self.hub = load, list(models), max_pixels, hub
        self._pipelines: OrderedDict[str, Any] = OrderedDict()
        self._maps: OrderedDict[tuple[str, str], ImageMaps] = OrderedDict()
        self._lock = threading.RLock()

    def pipeline(self, model: str):
        """
        The pipeline of a model; the last few stay in memory.

        Raises:
            ValueError: if the name is neither offered nor the id of a model on the Hub.
        """
        # What a visitor types must not open the machine's folders, of which an id may be the name.
        if model not in self.models and not (self.hub and _is_hub_id(model)):
            raise ValueError(
                f"unknown model {model!r}: choose {' or '.join(self.models)}"
                + (", or a Hub id of the form OWNER/NAME" if self.hub else "")
            )
        with self._lock:
            return _remember(self._pipelines, model, lambda: self.load(model), KEPT_MODELS)

    def controls(self, model: str) -> list[Control]:
        """The controls of a model, see [`decoding_controls`]."""
        return decoding_controls(self.pipeline(model).image_processor)

    def detect(
        self, model: str, path: str, values: Mapping[str, Any] | None = None, opacity: float = 0.65
    ) -> DemoResult:
        """
        Finds the texts of an image.

        Args:
            model (`str`): name of the model.
            path (`str`): a file whose content never changes.
            values (`dict`, *optional*): what the controls show; those that were not moved have no effect.
            opacity (`float`, *optional*, defaults to 0.65): of the heat maps.

        Returns:
            [`DemoResult`]

        Raises:
            ValueError, OSError: if the model cannot be loaded or the image not be read.
        """
        # Opened here: what a visitor sends is never taken as an address, and no message tells where it lies.
        with open(path, "rb") as file:
            image = load_rgb_image(file, max_pixels=self.max_pixels)
        with self._lock:
            pipeline = self.pipeline(model)
            maps = _remember(self._maps, (model, path), lambda: find_maps(pipeline, image), KEPT_IMAGES)
        moved = {
            control.name: int(values[control.name]) if control.kind == "number" else values[control.name]
            for control in self.controls(model)
            if values is not None and values.get(control.name) not in (None, control.value)
        }
        detections = maps.detections(**moved, reading_order=True)
        record = {"image": os.path.basename(path), "width": image.width, "height": image.height}
        record["detections"] = [rounded_detection(detection) for detection in detections]
        small = image.copy()
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        scale = np.array(small.size) / image.size
        scaled = [{**each, "polygon": (np.array(each["polygon"]) * scale).tolist()} for each in detections]
        probability, matching = maps.text_probability(), maps.matching_on_image()
        return DemoResult(
            draw_detections(small, scaled),
            None if probability is None else draw_heat_map(small, probability, opacity=opacity),
            None if matching is None else draw_heat_map(small, matching, opacity=opacity),
            record,
        )


def _remember(store: OrderedDict, key: Any, make: Callable[[], Any], most: int) -> Any:
    """The value of a key, made where there is none; beyond `most` the one that was not used for longest goes."""
    if key not in store:
        store[key] = make()
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)
    return store[key]


def _is_hub_id(text: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return text.count("/") == 1 and not os.path.exists(text)
