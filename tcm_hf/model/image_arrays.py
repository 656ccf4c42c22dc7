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
"""8-bit images to arrays of another size and of normalized values."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("tcm_hf needs OpenCV to read images; `pip install opencv-python-headless`") from error


OPENCV_FILTERS = {
    Image.Resampling.NEAREST: cv2.INTER_NEAREST,
    Image.Resampling.BILINEAR: cv2.INTER_LINEAR,
    Image.Resampling.BICUBIC: cv2.INTER_CUBIC,
    Image.Resampling.LANCZOS: cv2.INTER_LANCZOS4,
}


def resized_size(
    height: int, width: int, size: Mapping[str, int], do_upscale: bool, max_upscale: float | None
) -> tuple[int, int]:
    """Height and width that an image gets before padding, see [`TCMImageProcessor.get_resized_size`]."""
    if any(limit < 1 for limit in size.values()):
        raise ValueError(f"size: every limit must be at least 1 pixel, got {size}")
    if set(size) == {"height", "width"}:
        return size["height"], size["width"]
    if set(size) == {"max_height", "max_width"}:
        limits = [size["max_height"] / height, size["max_width"] / width]
    elif size and set(size) <= {"shortest_edge", "longest_edge"}:
        sides = {"shortest_edge": min(height, width), "longest_edge": max(height, width)}
        limits = [limit / sides[key] for key, limit in size.items()]
    else:
        raise ValueError(
            "size needs the keys 'shortest_edge' and/or 'longest_edge', 'max_height' and 'max_width', or 'height' "
            f"and 'width', got {sorted(size)}"
        )
    largest = 1.0 if not do_upscale else math.inf if max_upscale is None else max_upscale
    scale = min(*limits, largest)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def check_resized_pixels(before: tuple[int, int], after: tuple[int, int], max_pixels: int | None, name: str) -> None:
    """Raises a `ValueError` where an image would have too many pixels; sizes are (width, height)."""
    if max_pixels is not None and after[0] * after[1] > max_pixels:
        raise ValueError(
            f"{name} would be resized from {before[0]} x {before[1]} to {after[0]} x {after[1]} pixels (width x "
            f"height), more than max_pixels={max_pixels}; give size a longest_edge, or raise max_pixels"
        )


def resize(image: Image.Image, size: tuple[int, int], resample: int | None, backend: str | None):
    """The image in another size (width, height), as a PIL image or, from OpenCV, as an array."""
    resample = Image.Resampling.BILINEAR if resample is None else Image.Resampling(resample)
    if backend != "opencv":
        return image.resize(size, resample)
    if resample not in OPENCV_FILTERS:
        raise ValueError(
            f"resample {resample.name} does not go with resize_backend='opencv'; pass resample=2 (bilinear)"
        )
    return cv2.resize(np.asarray(image), size, interpolation=OPENCV_FILTERS[resample])


def value_table(factor: float, mean, std, channels: int) -> np.ndarray:
    """float32 table of shape `(1, 256, channels)`: the normalized value of every 8-bit value."""
    statistics = []
    for name, value in (("image_mean", mean), ("image_std", std)):
        value = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if len(value) not in (1, channels):
            raise ValueError(f"{name} has {len(value)} values for images of {channels} channels")
        statistics.append(np.broadcast_to(value, (channels,)))
    values = (np.arange(256)[:, None] * factor - statistics[0]) / statistics[1]
    return values.astype(np.float32)[None]


def look_up(array: np.ndarray, table: np.ndarray, output: np.ndarray) -> None:
    """Writes each channel's table entries for an 8-bit image (height, width, channels) to `output`."""
    if array.shape[-1] == 1:  # OpenCV has no axis for a single channel
        array, table, output = array[..., 0], table[..., 0], output[..., 0]
    result = cv2.LUT(np.ascontiguousarray(array), table, output)
    if result is not output and not np.shares_memory(result, output):
        output[...] = result


def normalize(array: np.ndarray, settings: Mapping[str, Any], output: np.ndarray, unit_range: bool = False) -> None:
    """
    Rescales and normalizes an 8-bit image.

    Args:
        array (`np.ndarray`): (height, width, channels), uint8.
        settings (`dict[str, Any]`): `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean` and `image_std` of
            [`TCMImageProcessor`].
        output (`np.ndarray`): (height, width, channels), float32; takes the result.
        unit_range (`bool`, *optional*, defaults to `False`): whether the image came as floats in 0..1.
    """
    factor = 1 / 255 if unit_range else settings["rescale_factor"] if settings["do_rescale"] else 1.0
    mean, std = (settings["image_mean"], settings["image_std"]) if settings["do_normalize"] else (0.0, 1.0)
    # The images have 8 bits, so rescaling and normalization are one exact table look-up: no float copy.
    look_up(array, value_table(factor, mean, std, array.shape[-1]), output)
