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
