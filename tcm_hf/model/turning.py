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
"""Images on their side: text that runs up or down in the maps tells of them, and a second look at them, turned, reads it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .detector_registry import Decoder


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("tcm_hf needs OpenCV to decode maps; `pip install opencv-python-headless`") from error


# Probability above which a pixel counts: detectors are unsure of much that they see on its side.
SURE = 0.6
# How many times as long as thick a region is, at least, for its direction to count.
ELONGATED = 1.5
# Pixels of the smallest region that counts.
MIN_PIXELS = 60


def can_turn(decoder: Decoder) -> bool:
    """Whether the maps of a detector, turned, are those of the turned image: it is so for a single one of all pixels."""
    return decoder.stride == 1 and decoder.activation == "sigmoid" and decoder.text_map is None


def count_directions(logits: np.ndarray) -> tuple[int, int]:
    """
    How many regions of a text map are wider than high, and how many higher than wide.

    Args:
        logits (`np.ndarray`): of shape `(height, width)`, before the sigmoid.

    Returns:
        `tuple[int, int]`: regions of at least 60 pixels with a probability above 0.6 that are at least one and a half times
        as wide as high, and those that are at least one and a half times as high as wide.
    """
    binary = (np.asarray(logits) > math.log(SURE / (1 - SURE))).view(np.uint8)
    _, _, regions, _ = cv2.connectedComponentsWithStats(binary)
    regions = regions[1:]  # the first is the background
    regions = regions[regions[:, cv2.CC_STAT_AREA] >= MIN_PIXELS]
    width, height = regions[:, cv2.CC_STAT_WIDTH], regions[:, cv2.CC_STAT_HEIGHT]
    return int((width >= ELONGATED * height).sum()), int((height >= ELONGATED * width).sum())


def look_again(logits: np.ndarray, detect_turned: Callable[[], Any]) -> np.ndarray | None:
    """
    The text map of an image on its side, from a second look at it.

    Words are wider than high, nearly all of them: where more regions are higher than wide, the image is turned by a quarter.
    Its map counts if at least as many regions lie along the lines there.

    Args:
        logits (`np.ndarray`): the image's text map, of shape `(height, width)`, before the sigmoid.
        detect_turned (`Callable`): gives the map, of shape `(width, height)`, of the image turned counterclockwise by a quarter.

    Returns:
        `np.ndarray`: the second map, turned back; `None` where the first one holds.
    """
    wide, tall = count_directions(logits)
    if tall <= wide:
        return None
    turned = np.asarray(detect_turned())
    return np.rot90(turned, -1) if count_directions(turned)[0] >= tall else None
