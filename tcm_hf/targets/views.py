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
"""Images of training targets, for people to look at."""

import numpy as np


# Color of what the loss skips.
MASK_COLOR = (110, 60, 60)


def gray_view(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    A gray image, reddish where nothing counts.

    Args:
        values (`np.ndarray` of shape `(height, width)`): 0..255; what is beyond is cut off.
        counts (`np.ndarray` of shape `(height, width)`): 0 where the loss skips a pixel.

    Returns:
        `np.ndarray`: RGB uint8 of shape (height, width, 3).
    """
    view = np.repeat(np.clip(values, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    view[counts == 0] = MASK_COLOR
    return view


def numbered_view(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    A color for each number, black for 0, and reddish where nothing counts.

    Args:
        numbers (`np.ndarray` of shape `(height, width)`): whole numbers.
        counts (`np.ndarray` of shape `(height, width)`): 0 where the loss skips a pixel.

    Returns:
        `np.ndarray`: RGB uint8 of shape (height, width, 3).
    """
    # Steps of the golden ratio give neighbors of a list colors that are far apart.
    hues = (np.arange(int(numbers.max(initial=0)) + 1) * 0.618034 % 1.0)[:, None]
    palette = (255 * (0.55 + 0.45 * np.cos(2 * np.pi * (hues + np.array([0, 1 / 3, 2 / 3]))))).astype(np.uint8)
    palette[0] = 0
    view = palette[np.clip(numbers, 0, None)]
    view[counts == 0] = MASK_COLOR
    return view


def map_views(maps: dict[str, np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """
    Each map of a detector that declares no images of its own, from its least value in black to its largest in white.

    Args:
        maps (`dict[str, np.ndarray]`): what its `targets` made: maps of any stride, of which the first channel is drawn.
        height, width (`int`): size of the image.

    Returns:
        `list[np.ndarray]`: RGB uint8 of shape (height, width, 3).
    """
    views = []
    for values in maps.values():
        if values.ndim < 2 or not values.size:
            continue
        values = values.reshape(-1, *values.shape[-2:])[0].astype(np.float64)
        low, high = values.min(), values.max()
        view = gray_view((values - low) / ((high - low) or 1) * 255, np.ones_like(values))
        rows = np.arange(height) * view.shape[0] // height
        columns = np.arange(width) * view.shape[1] // width
        views.append(view[rows][:, columns])
    return views
