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
"""What cameras and storage do to a rendered scene: light, exposure, defocus, motion, low resolution, noise, JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..augment import add_noise, jpeg_artifacts, motion_kernel


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Degradations need OpenCV: pip install opencv-python-headless") from error


@dataclass
class Degradation:
    """
    What was done to an image, as far as it decides whether a word can still be read.

    Args:
        gain (`float`): the factor by which differences of brightness shrank (or grew), about.
        blur (`float`): standard deviation of the blur in pixels, about.
        noise (`float`): standard deviation of the noise in levels of 0..255.
    """

    gain: float = 1.0
    blur: float = 0.0
    noise: float = 0.0


def degrade(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> tuple[np.ndarray, Degradation]:
    """
    Takes a rendered scene through a random bad camera, in the order in which light, lens, sensor and file do it.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
        rng (`np.random.Generator`): the source of randomness.
        strength (`float`, *optional*, defaults to 1.0): factor on the chance of every fault; 0: the image as it is.

    Returns:
        `tuple[np.ndarray, Degradation]`: RGB uint8 of the same shape, and what was done.
    """
    done = Degradation()
    if rng.random() < 0.5 * strength:
        image = uneven_light(image, rng)
    if rng.random() < 0.6 * strength:
        image, done.gain = expose(image, rng)
    kind = rng.random() / max(strength, 1e-6)
    if kind < 0.22:
        done.blur = math.exp(rng.uniform(math.log(0.4), math.log(2.0)))
        image = cv2.GaussianBlur(image, (0, 0), done.blur)
    elif kind < 0.29:
        radius = rng.uniform(1.0, 3.2)
        image, done.blur = cv2.filter2D(image, -1, disc_kernel(radius)), 0.5 * radius
    elif kind < 0.39:
        length = math.exp(rng.uniform(math.log(2.5), math.log(13)))
        # Along the motion a stroke smears by its length / sqrt(12).
        image = cv2.filter2D(image, -1, motion_kernel(length, rng.uniform(0, math.pi)))
        done.blur = 0.29 * length
    elif kind < 0.49:
        factor = rng.uniform(0.4, 0.85)
        image = _low_resolution(image, factor, rng)
        done.blur = 0.4 / factor
    if rng.random() < 0.55 * strength:
        done.noise = math.exp(rng.uniform(math.log(1.0), math.log(14.0)))
        image = add_noise(image, done.noise, rng)
        if rng.random() < 0.3:
            # Cameras smooth their noise, which leaves blotches.
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
            done.blur = math.hypot(done.blur, 0.6)
    if rng.random() < 0.1 * strength:
        sharp = rng.uniform(0.3, 1.2)
        image = cv2.addWeighted(image, 1 + sharp, cv2.GaussianBlur(image, (0, 0), 1.2), -sharp, 0)
    if rng.random() < 0.5 * strength:
        quality = int(rng.integers(15, 96))
        image = jpeg_artifacts(image, quality)
    return image, done


def uneven_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Shadows, a vignette or glare over the whole image.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `np.ndarray`: RGB uint8 of the same shape.
    """
    height, width = image.shape[:2]
    cells = int(rng.integers(2, 6))
    levels = np.clip(128 * np.exp(rng.normal(0, rng.uniform(0.05, 0.45), size=(cells, cells))), 16, 255)
    light = cv2.resize(levels.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.25:
        # The edge of a cast shadow.
        points = rng.random(2) * (width, height) + rng.normal(0, 0.5 * width, size=(int(rng.integers(3, 6)), 2))
        shade: np.ndarray = np.full((height, width), 255, np.uint8)
        cv2.fillPoly(shade, [points.astype(np.int32)], int(rng.integers(90, 200)))
        shade = cv2.blur(shade, (2 * int(rng.integers(0, 8)) + 1,) * 2)
        light = cv2.multiply(light, shade, scale=1 / 255)
    image = cv2.multiply(image, cv2.merge([light, light, light]), scale=1 / 128)
    if rng.random() < 0.12:
        glare = np.zeros((height // 8 + 1, width // 8 + 1), np.uint8)
        center = (int(rng.integers(glare.shape[1])), int(rng.integers(glare.shape[0])))
        cv2.circle(glare, center, int(rng.integers(2, 9)), int(rng.integers(80, 256)), -1)
        glare = cv2.GaussianBlur(glare, (0, 0), rng.uniform(2, 6))
        glare = cv2.resize(glare, (width, height), interpolation=cv2.INTER_LINEAR)
        image = cv2.add(image, cv2.merge([glare, glare, glare]))
    return image


def expose(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """
    Brightness, contrast, gamma and color of the light, up to night and over-exposure, as one table a channel.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `tuple[np.ndarray, float]`: RGB uint8 of the same shape, and the change of contrast.
    """
    kind = rng.random()
    if kind < 0.28:  # too dark
        gain, offset, gamma = rng.uniform(0.15, 0.7), rng.uniform(0, 12), rng.uniform(0.8, 1.3)
    elif kind < 0.42:  # too bright
        gain, offset, gamma = rng.uniform(1.2, 2.0), rng.uniform(0, 40), 1.0
    elif kind < 0.56:  # haze, or a dirty pane in front
        gain, offset, gamma = rng.uniform(0.3, 0.7), rng.uniform(30, 130), 1.0
    else:
        gain, offset, gamma = rng.uniform(0.75, 1.25), rng.uniform(-20, 20), math.exp(rng.normal(0, 0.25))
    tint = np.exp(rng.normal(0, rng.choice((0.02, 0.12)), size=3))
    levels = np.arange(256) / 255
    table = 255 * gain * levels[:, None] ** gamma * tint + offset
    table = np.clip(table, 0, 255).astype(np.uint8)
    # What the middle half of all levels is spread over, afterwards.
    change = float(np.ptp(table[[64, 192]].astype(float).mean(axis=1))) / 128
    return cv2.LUT(image, table.reshape(1, 256, 3)), change


def disc_kernel(radius: float) -> np.ndarray:
    """The kernel of a lens out of focus: a disc, float32, of sum 1."""
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / kernel.sum()


def _low_resolution(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    small = (max(1, round(factor * width)), max(1, round(factor * height)))
    image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.4:
        image = jpeg_artifacts(image, int(rng.integers(25, 90)))
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    )
