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
"""Checks of what users and files set: one clear line for every wrong value."""

import logging
import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np


logger = logging.getLogger(__name__)


def check_number(name: str, value, least: float | None) -> None:
    """Raises a `ValueError` for a decoding argument that is no finite number, or is out of range."""
    whole = isinstance(least, int)
    if not (is_int(value) if whole else is_number(value)):
        raise ValueError(f"{name} must be a {'whole' if whole else 'finite'} number, got {value!r}")
    if name.endswith(("threshold", "share")) and not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least:g}, got {value}")


def check_backend(backend: str | None, use_fast: bool | None) -> None:
    """Raises a `ValueError` for a backend that there is not; the older `use_fast` gets a warning, as in transformers."""
    if backend not in (None, "pil"):
        raise ValueError(
            f"backend={backend!r}: TCMImageProcessor has the backend 'pil' only, which needs no torchvision; leave it out"
        )
    if use_fast:
        logger.warning("use_fast=True: TCMImageProcessor has the backend 'pil' only; leave use_fast out")


def is_int(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_edges(value) -> bool:
    # Those of transformers' `SizeDict` are attributes; it is told by them, since this file does without transformers.
    if not (isinstance(value, dict) or hasattr(value, "shortest_edge")):
        return False
    return all(isinstance(key, str) and (edge is None or is_int(edge)) for key, edge in dict(value).items())


def _are_numbers(value) -> bool:
    return is_number(value) or (
        isinstance(value, list | tuple | np.ndarray) and 0 < len(value) <= 4 and all(is_number(item) for item in value)
    )


# RGB statistics in 0..255 of the images that TCM's released models with DB were trained on.
IMAGE_MEAN = (122.679, 116.669, 104.007)
IMAGE_STD = (58.395, 57.12, 57.375)

# What each setting may be, and the words for it.
_SETTINGS: dict[tuple[str, ...], tuple[Callable[[Any], bool], str]] = {
    (
        "do_convert_rgb",
        "do_resize",
        "do_upscale",
        "do_turn",
        "do_rescale",
        "do_normalize",
        "do_pad",
        "do_center_crop",
    ): (
        lambda value: isinstance(value, bool | np.bool_),
        "true or false",
    ),
    ("size", "pad_size"): (
        lambda value: is_int(value) or _are_edges(value),
        "a whole number of pixels or an object of them, such as {'shortest_edge': 1024, 'longest_edge': 2048}",
    ),
    ("resample",): (lambda value: is_int(value) and value in range(6), "a number of PIL.Image.Resampling, 0 to 5"),
    ("max_upscale",): (lambda value: is_number(value) and value >= 1, "a finite number of at least 1"),
    ("rescale_factor",): (lambda value: is_number(value) and value > 0, "a finite number above 0"),
    ("image_mean",): (_are_numbers, "a finite number or a list of one for each channel"),
    ("image_std",): (
        lambda value: _are_numbers(value) and np.min(value) > 0,
        "a finite number above 0 or a list of one for each channel",
    ),
    ("size_divisor", "max_pixels"): (lambda value: is_int(value) and value >= 1, "a whole number of at least 1"),
    ("resize_backend",): (lambda value: value in ("pillow", "opencv"), "'pillow' or 'opencv'"),
    ("detector",): (lambda value: isinstance(value, str), "the name of a detector"),
    ("decoding",): (lambda value: isinstance(value, dict), "an object of arguments of post-processing"),
    ("target_settings",): (lambda value: isinstance(value, dict), "an object of arguments of the detector's targets"),
}
_CHECKS = {name: check for names, check in _SETTINGS.items() for name in names}


def check_settings(settings: dict[str, Any]) -> None:
    """Raises a `ValueError` of one line for a setting of a wrong type; `None` stands for the default."""
    for name, value in settings.items():
        if name in _CHECKS and value is not None:
            is_right, words = _CHECKS[name]
            if not is_right(value):
                shown = repr(value)
                raise ValueError(f"{name} must be {words}, got {shown if len(shown) <= 80 else shown[:77] + '...'}")
