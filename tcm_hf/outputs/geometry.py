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
"""What formats make of an outline."""

from typing import Any

import numpy as np

from ..model.polygons import minimum_area_quad, order_clockwise


def outline_of(detection: dict[str, Any]) -> np.ndarray:
    """The polygon of a detection, float64 of shape `(n, 2)` in pixels; the corners of its box where it has none."""
    if detection.get("polygon") is not None:
        return np.asarray(detection["polygon"], dtype=np.float64)
    xmin, ymin, xmax, ymax = (float(detection["box"][key]) for key in ("xmin", "ymin", "xmax", "ymax"))
    return np.array([[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax]])


def quad_of(detection: dict[str, Any]) -> np.ndarray:
    """Four corners, float64 of shape `(4, 2)`, clockwise: the polygon's own, or those of the smallest rectangle around it."""
    polygon = outline_of(detection)
    return order_clockwise(polygon) if len(polygon) == 4 else minimum_area_quad(polygon)


def box_of(detection: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in pixels."""
    polygon = outline_of(detection)
    (xmin, ymin), (xmax, ymax) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
    return xmin, ymin, xmax, ymax


def number(value: float) -> str:
    """A coordinate as text, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
