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
"""Draws the maps of an image over it."""

import cv2
import numpy as np
from PIL import Image


def draw_heat_map(image: Image.Image, values: np.ndarray, *, opacity: float = 0.65) -> Image.Image:
    """
    Lays a map over its image, which is gray below it.

    Args:
        image (`PIL.Image.Image`): The image; it is not changed.
        values (`np.ndarray` of shape `(rows, columns)`):
            In 0..1, over the whole image at any resolution. 0 is black, then come purple and red, and 1 is pale yellow.
        opacity (`float`, *optional*, defaults to 0.65): Of the map, from 0 (not seen) to 1 (hides the image).

    Returns:
        `PIL.Image.Image`: a new RGB image of the same size.

    Raises:
        ValueError: if the opacity is not in 0..1, or the map has another shape or values that are not finite.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, got {opacity}")
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"the map must have the shape (rows, columns) and finite values, got shape {values.shape}")
    levels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    levels = cv2.resize(levels, image.size, interpolation=cv2.INTER_LINEAR)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colors), opacity)
