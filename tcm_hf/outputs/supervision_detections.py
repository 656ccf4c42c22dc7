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
"""Detections for the library supervision (https://supervision.roboflow.com): tracking, counting, annotators."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .geometry import box_of, outline_of


def to_supervision(detections: Sequence[dict[str, Any]], size: tuple[int, int] | None = None) -> Any:
    """
    The texts of an image as `supervision.Detections`.

    Args:
        detections (`list[dict]`): output of the `text-detection` pipeline for one image.
        size (`tuple[int, int]`, *optional*):
            Height and width of the image in pixels, for masks of the polygons, which take a byte for each pixel of the image
            and text. Without it there are none.

    Returns:
        `supervision.Detections`: `xyxy` (float32, of the polygons), `mask` (bool of shape `(n, height, width)`), `confidence`, `class_id`
        (all 0), and in `data` `class_name` and `text`, where there are any.

    Raises:
        ImportError: if supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("to_supervision needs the library supervision: pip install 'tcm_hf[supervision]'") from error
    count = len(detections)
    masks = None
    if size is not None:
        import cv2

        masks = np.zeros((count, *size), dtype=bool)
        for mask, detection in zip(masks, detections):
            # Points lie at the corners of pixels, and OpenCV's at their centers.
            points = np.floor(outline_of(detection)).astype(np.int32)
            cv2.fillPoly(mask.view(np.uint8), [points], 1)
    data: dict[str, Any] = {"class_name": np.array([str(each.get("label", "text")) for each in detections])}
    if any("text" in each for each in detections):
        data["text"] = np.array([str(each.get("text") or "") for each in detections])
    return supervision.Detections(
        xyxy=np.array([box_of(each) for each in detections], dtype=np.float32).reshape(count, 4),
        mask=masks,
        confidence=np.array([float(each.get("score") or 0) for each in detections], dtype=np.float32),
        class_id=np.zeros(count, dtype=int),
        data=data,
    )
