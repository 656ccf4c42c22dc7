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
"""Draws detected texts on their image."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .model.image_loading import DEFAULT_MAX_PIXELS, load_rgb_image


def draw_detections(
    image,
    detections: list[dict[str, Any]],
    *,
    color: tuple[int, int, int] = (255, 0, 96),
    fill_opacity: float = 0.25,
    line_width: int | None = None,
    show_scores: bool = False,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> Image.Image:
    """
    Draws texts as outlined, semi-transparent polygons.

    Args:
        image (path, `PIL.Image.Image`, `np.ndarray` or any other source of [`~image_loading.load_rgb_image`]):
            The image that was given to the pipeline. It is not changed.
        detections (`list[dict]`):
            Output of the `text-detection` pipeline for it: `polygon` (list of `[x, y]` in pixels of the upright
            image), or `box` where there is no polygon, and `score`.
        color (`tuple[int, int, int]`, *optional*, defaults to `(255, 0, 96)`):
            RGB color in 0..255.
        fill_opacity (`float`, *optional*, defaults to 0.25):
            From 0 (no fill) to 1 (opaque).
        line_width (`int`, *optional*):
            Width of the outline in pixels, 0 for none; by default it grows with the image.
        show_scores (`bool`, *optional*, defaults to `False`):
            Whether to write the score, in percent, at the start of each text.
        max_pixels (`int`, *optional*, defaults to 50331648):
            Largest width times height of the image, `None` for no limit; see [`~image_loading.load_rgb_image`].

    Returns:
        `PIL.Image.Image`: a new RGB image of the same size as the upright image.

    Raises:
        ValueError: if the opacity is not in 0..1 or a detection has neither a polygon nor a box.
        OSError: if the image cannot be read.
    """
    if not 0 <= fill_opacity <= 1:
        raise ValueError(f"fill_opacity must be between 0 and 1, got {fill_opacity}")
    source, image = image, load_rgb_image(image, max_pixels=max_pixels)
    # Reading gives the very same object when nothing had to be converted.
    image = image.copy() if image is source else image
    polygons = [_points(detection, index) for index, detection in enumerate(detections)]
    unit = max(image.size) / 800
    line_width = max(1, round(unit)) if line_width is None else line_width

    # One mask for all: overlapping texts stay as transparent as single ones.
    mask = Image.new("L", image.size, 0)
    pen = ImageDraw.Draw(mask)
    for polygon in polygons:
        pen.polygon(polygon, fill=round(255 * fill_opacity))
    image.paste(color, mask=mask)

    pen = ImageDraw.Draw(image)
    for polygon in polygons:
        if line_width > 0:
            pen.line([*polygon, *polygon[:2]], fill=color, width=line_width, joint="curve")
    if show_scores:
        font = ImageFont.load_default(size=max(9.0, 9.0 * unit))
        for polygon, detection in zip(polygons, detections):
            text = f"{100 * detection['score']:.0f}"
            left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
            x = min(max(polygon[0][0], 0), max(image.width - right, 0))
            y = min(max(polygon[0][1] - bottom, 0), max(image.height - bottom, 0))
            pen.rectangle((x + left - 1, y + top - 1, x + right + 1, y + bottom + 1), fill=color)
            pen.text((x, y), text, fill=(255, 255, 255), font=font)
    return image


def _points(detection: dict[str, Any], index: int) -> list[tuple[float, float]]:
    if detection.get("polygon") is not None:
        points = np.asarray(detection["polygon"], dtype=np.float64)
        if points.ndim == 2 and points.shape[1] == 2 and len(points) >= 3:
            return [(float(x), float(y)) for x, y in points]
        raise ValueError(
            f"detection {index}: its polygon must be a list of at least 3 [x, y], got shape {points.shape}"
        )
    if detection.get("box") is not None:
        xmin, ymin, xmax, ymax = (detection["box"][key] for key in ("xmin", "ymin", "xmax", "ymax"))
        return [(xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax)]
    raise ValueError(f"detection {index} has neither a 'polygon' nor a 'box'")
