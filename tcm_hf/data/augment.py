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
"""Random geometry and color for training: one affine warp from the source image to the training crop.

Scale, rotation, flip, aspect and crop are composed into a single matrix, so an image is resampled once: sharper text
than a chain of resizes, and the cost is that of the crop, not of the image.
"""

from __future__ import annotations

import math

import numpy as np

from ..model.polygons import clip_polygon, order_clockwise, polygon_area, repair_polygon


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Augmentation needs OpenCV: pip install opencv-python-headless") from error


# Mean color of the DB input statistics: after normalization a border of this color is (nearly) zero, like padding.
MEAN_COLOR = (123, 117, 104)
# Below this scale a bilinear warp skips source pixels, and thin strokes break up.
_ANTIALIAS_SCALE = 0.6
_LUMA = np.array([0.299, 0.587, 0.114])


def pixel_matrix(matrix: np.ndarray) -> np.ndarray:
    """
    Turns an affine map of continuous coordinates into the one OpenCV wants, whose integer points are pixel centers.

    Args:
        matrix (`np.ndarray` of shape (2, 3) or (3, 3)): map of points with the image spanning 0..width, 0..height.

    Returns:
        `np.ndarray`: of shape (2, 3), for `cv2.warpAffine`.
    """
    matrix = np.asarray(matrix, dtype=np.float64)[:2].copy()
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return matrix


def transform_polygons(polygons: list[np.ndarray], matrix: np.ndarray) -> list[np.ndarray]:
    """
    Applies an affine map to polygons; a mirroring map also re-orders the points, so that they stay clockwise from
    the reading start.

    Args:
        polygons (`list[np.ndarray]`): polygons of shape (n, 2).
        matrix (`np.ndarray` of shape (2, 3) or (3, 3)): the map, in continuous coordinates.

    Returns:
        `list[np.ndarray]`: float32 polygons of shape (n, 2).
    """
    linear, offset = np.asarray(matrix)[:2, :2], np.asarray(matrix)[:2, 2]
    mirrors = np.linalg.det(linear) < 0
    result = []
    for polygon in polygons:
        points = (polygon @ linear.T + offset).astype(np.float32)
        if mirrors:
            # Top and bottom side have n/2 points each: reversed, the old top-right point becomes the new start.
            points = np.roll(points[::-1], len(points) // 2, axis=0)
        result.append(np.ascontiguousarray(points))
    return result


def crop_polygons(
    polygons: list[np.ndarray],
    ignore: list[bool],
    width: float,
    height: float,
    *,
    min_visible: float = 0.5,
    min_side: float = 6.0,
) -> tuple[list[np.ndarray], list[bool]]:
    """
    Cuts polygons at the border of a crop that spans 0..width, 0..height.

    Args:
        polygons (`list[np.ndarray]`): polygons of shape (n, 2), in pixels of the crop.
        ignore (`list[bool]`): one flag a polygon.
        width (`float`): width of the crop in pixels.
        height (`float`): height of the crop in pixels.
        min_visible (`float`, *optional*, defaults to 0.5):
            Share of the area that must stay inside; an instance with less becomes ignored, cut to its visible part.
        min_side (`float`, *optional*, defaults to 6.0):
            Instances whose visible part's minimum-area rectangle is thinner than this (pixels) become ignored.

    Returns:
        `tuple[list[np.ndarray], list[bool]]`: float32 polygons inside the crop, and their flags. Instances outside the
        crop are dropped; an invalid outline can fall into several pieces, each of which is returned.
    """
    kept_polygons, kept_ignore = [], []
    for polygon, ignored in zip(polygons, ignore, strict=True):
        polygon = np.asarray(polygon, dtype=np.float32)
        (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            continue
        if left >= 0 and top >= 0 and right <= width and bottom <= height:
            pieces = [polygon]
        else:
            pieces = [order_clockwise(piece).astype(np.float32) for piece in clip_polygon(polygon, width, height)]
            whole = sum(polygon_area(part) for part in repair_polygon(polygon))
            ignored = ignored or sum(polygon_area(piece) for piece in pieces) < min_visible * whole
        for piece in pieces:
            side = min(cv2.minAreaRect(piece)[1])
            if side < 0.5:  # a sliver: no pixel to ignore
                continue
            kept_polygons.append(piece)
            kept_ignore.append(bool(ignored or side < min_side))
    return kept_polygons, kept_ignore


class TextAugmentation:
    """
    Random scale, rotation, flip, aspect, text-aware crop and color, as a function of a random generator only.

    Args:
        crop_size (`int`, *optional*, defaults to 640): side of the square result in pixels.
        scale (`tuple[float, float]`, *optional*, defaults to `(0.5, 3.0)`):
            Range of the magnification relative to the annotation frame; drawn log-uniformly.
        rotation (`float`, *optional*, defaults to 10.0): largest angle, in degrees, to either side.
        quarter_turns (`float`, *optional*, defaults to 0.0):
            Chance of a turn by 90, 180 or 270 degrees, for photos taken or scanned on their side.
        flip (`float`, *optional*, defaults to 0.5): chance of a horizontal mirror; 0 turns it off.
        aspect (`float`, *optional*, defaults to 0.1):
            Aspect jitter a: width/height is multiplied by a factor between 1/(1+a) and 1+a, at constant area.
        brightness (`float`, *optional*, defaults to 32.0): largest shift of all channels, in levels of 0..255.
        contrast (`float`, *optional*, defaults to 0.2): contrast factor in 1 - c .. 1 + c.
        saturation (`float`, *optional*, defaults to 0.5): saturation factor in 1 - s .. 1 + s.
        color_cast (`float`, *optional*, defaults to 0.05): factor of each channel by itself in 1 - c .. 1 + c.
        blur (`float`, *optional*, defaults to 0.1): chance of a light blur (Gaussian, sigma 0.4 to 1.2 pixels).
        motion_blur (`float`, *optional*, defaults to 0.05): chance of a camera in motion, any way.
        motion_length (`tuple[float, float]`, *optional*, defaults to `(3.0, 13.0)`):
            Range of that motion in pixels of the crop; drawn log-uniformly.
        noise (`float`, *optional*, defaults to 0.1): chance of sensor-like noise (sigma 2 to 10 levels).
        jpeg (`float`, *optional*, defaults to 0.0): chance of JPEG artifacts (quality 30 to 90).
        anchor_probability (`float`, *optional*, defaults to 0.9):
            Chance that the crop is placed to hold one randomly chosen readable word as a whole; the scale is
            lowered if that word would not fit. Otherwise the crop lies anywhere in the image.
        crop_attempts (`int`, *optional*, defaults to 5): placements tried; the one that cuts the fewest words is used.
        min_visible (`float`, *optional*, defaults to 0.5): see [`crop_polygons`].
        min_side (`float`, *optional*, defaults to 6.0): see [`crop_polygons`].
        border_color (`tuple[int, int, int]`, *optional*, defaults to `(123, 117, 104)`): RGB outside of the image.

    Defaults of scale, rotation, flip, brightness, saturation and crop size are those of DBNet's published training.

    Raises:
        ValueError: if a range or a probability makes no sense.
    """

    def __init__(
        self,
        crop_size: int = 640,
        scale: tuple[float, float] = (0.5, 3.0),
        rotation: float = 10.0,
        flip: float = 0.5,
        aspect: float = 0.1,
        brightness: float = 32.0,
        contrast: float = 0.2,
        saturation: float = 0.5,
        color_cast: float = 0.05,
        blur: float = 0.1,
        motion_blur: float = 0.05,
        noise: float = 0.1,
        jpeg: float = 0.0,
        anchor_probability: float = 0.9,
        crop_attempts: int = 5,
        min_visible: float = 0.5,
        min_side: float = 6.0,
        border_color: tuple[int, int, int] = MEAN_COLOR,
        quarter_turns: float = 0.0,
        motion_length: tuple[float, float] = (3.0, 13.0),
    ):
        if crop_size < 1:
            raise ValueError(f"`crop_size` must be a positive number of pixels, got {crop_size}")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"`scale` must be (low, high) with 0 < low <= high, got {scale}")
        if not 1 <= motion_length[0] <= motion_length[1]:
            raise ValueError(f"`motion_length` must be (low, high) with 1 <= low <= high, got {motion_length}")
        for name, value in (("rotation", rotation), ("aspect", aspect), ("brightness", brightness)):
            if value < 0:
                raise ValueError(f"`{name}` must not be negative, got {value}")
        chances = {"flip": flip, "blur": blur, "motion_blur": motion_blur, "noise": noise, "jpeg": jpeg}
        chances["quarter_turns"] = quarter_turns
        chances["anchor_probability"] = anchor_probability
        for name, value in (
            chances | {"contrast": contrast, "saturation": saturation, "color_cast": color_cast}
        ).items():
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1, got {value}")
        self.crop_size = int(crop_size)
        self.scale = (float(scale[0]), float(scale[1]))
        self.rotation = rotation
        self.flip = flip
        self.quarter_turns = quarter_turns
        self.aspect = aspect
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.color_cast = color_cast
        self.blur = blur
        self.motion_blur = motion_blur
        self.motion_length = (float(motion_length[0]), float(motion_length[1]))
        self.noise = noise
        self.jpeg = jpeg
        self.anchor_probability = anchor_probability
        self.crop_attempts = max(1, int(crop_attempts))
        self.min_visible = min_visible
        self.min_side = min_side
        self.border_color = tuple(int(value) for value in border_color)

    def __call__(
        self,
        image: np.ndarray,
        polygons: list[np.ndarray],
        ignore: list[bool],
        rng: np.random.Generator,
        frame_size: tuple[int, int] | None = None,
    ) -> tuple[np.ndarray, list[np.ndarray], list[bool]]:
        """
        Augments one image.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
            polygons (`list[np.ndarray]`): polygons of shape (n, 2), in pixels of the annotation frame.
            ignore (`list[bool]`): one flag a polygon.
            rng (`np.random.Generator`): the only source of randomness.
            frame_size (`tuple[int, int]`, *optional*, defaults to the image's size):
                (height, width) of the annotation frame: the image is treated as if resized to it first.

        Returns:
            `tuple[np.ndarray, list[np.ndarray], list[bool]]`: RGB uint8 of shape (crop_size, crop_size, 3), polygons
            inside it, and their ignore flags.
        """
        frame_height, frame_width = frame_size or image.shape[:2]
        matrix = self.sample_matrix(polygons, ignore, (frame_height, frame_width), rng)
        polygons = transform_polygons(polygons, matrix)
        polygons, ignore = crop_polygons(
            polygons, ignore, self.crop_size, self.crop_size, min_visible=self.min_visible, min_side=self.min_side
        )
        stretch = np.diag([frame_width / image.shape[1], frame_height / image.shape[0], 1.0])
        crop = self.photometric(self.warp(image, matrix @ stretch), rng)
        self._fill_border(crop, matrix, frame_width, frame_height)
        return crop, polygons, ignore

    def sample_matrix(
        self, polygons: list[np.ndarray], ignore: list[bool], frame_size: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """
        Draws the map from the annotation frame to the crop.

        Args:
            polygons (`list[np.ndarray]`): polygons of shape (n, 2), in pixels of the frame.
            ignore (`list[bool]`): one flag a polygon.
            frame_size (`tuple[int, int]`): (height, width) of the frame.
            rng (`np.random.Generator`): the source of randomness.

        Returns:
            `np.ndarray`: float64 of shape (3, 3), for continuous coordinates.
        """
        scale = math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        if self.quarter_turns and rng.random() < self.quarter_turns:
            angle += math.pi / 2 * rng.integers(1, 4)
        stretch = math.exp(0.5 * rng.uniform(-1, 1) * math.log1p(self.aspect))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        cosine, sine = math.cos(angle), math.sin(angle)
        linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([mirror * stretch, 1 / stretch])

        readable = [index for index, ignored in enumerate(ignore) if not ignored]
        anchor = None
        if readable and rng.random() < self.anchor_probability:
            anchor = readable[rng.integers(len(readable))]
            extent = np.ptp(polygons[anchor] @ linear.T, axis=0).max()
            scale = min(scale, 0.95 * self.crop_size / max(extent, 1e-6))
        linear *= scale

        height, width = frame_size
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ linear.T
        # Where the crop's top-left corner may lie so that the crop stays in the image, or the image in the crop.
        low, high = corners.min(axis=0), corners.max(axis=0) - self.crop_size
        low, high = np.minimum(low, high), np.maximum(low, high)
        boxes = np.array([[(q := p @ linear.T).min(axis=0), q.max(axis=0)] for p in polygons]).reshape(-1, 2, 2)
        if anchor is not None:
            # The whole anchor word is more important than a crop without border.
            inside_low, inside_high = boxes[anchor, 1] - self.crop_size, boxes[anchor, 0]
            low, high = np.clip(low, inside_low, inside_high), np.clip(high, inside_low, inside_high)
        origins = rng.uniform(low, high, size=(self.crop_attempts, 2))
        if len(boxes) > 1:
            starts = boxes[None, :, 0] - origins[:, None]
            ends = boxes[None, :, 1] - origins[:, None]
            touches = ((ends > 0) & (starts < self.crop_size)).all(axis=2)
            whole = ((starts >= 0) & (ends <= self.crop_size)).all(axis=2)
            origin = origins[np.argmin((touches & ~whole).sum(axis=1))]
        else:
            origin = origins[0]
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = -origin
        return matrix

    def warp(self, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """
        Resamples an image into the crop.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
            matrix (`np.ndarray` of shape (3, 3)): map from the image to the crop, in continuous coordinates.

        Returns:
            `np.ndarray`: RGB uint8 of shape (crop_size, crop_size, 3).
        """
        scale = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        if scale < _ANTIALIAS_SCALE:
            height, width = image.shape[:2]
            shrink = max(2, round(0.9 / scale))
            small = (max(1, round(width / shrink)), max(1, round(height / shrink)))
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            matrix = matrix @ np.diag([width / small[0], height / small[1], 1.0])
        return cv2.warpAffine(
            image,
            pixel_matrix(matrix),
            (self.crop_size, self.crop_size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.border_color,
        )

    def _fill_border(self, crop: np.ndarray, matrix: np.ndarray, width: int, height: int) -> None:
        """Restores the border's color, in place, after the color jitter: a model is to see one padding, not many."""
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ matrix[:2, :2].T + matrix[:2, 2]
        side = self.crop_size
        frame = np.array([[0, 0], [side, 0], [side, side], [0, side]]) - matrix[:2, 2]
        frame = frame @ np.linalg.inv(matrix[:2, :2]).T
        if (frame >= 0).all() and (frame <= (width, height)).all():
            return
        outside = np.ones(crop.shape[:2], dtype=np.uint8)
        cv2.fillConvexPoly(outside, np.rint((corners - 0.5) * 16).astype(np.int32), 0, cv2.LINE_8, 4)
        # OpenCV's masked copy takes a fifth of the time of a boolean index.
        cv2.copyTo(np.full_like(crop, self.border_color), outside, crop)

    def photometric(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        Jitters color and, by chance, adds blur, noise and compression artifacts.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
            rng (`np.random.Generator`): the source of randomness.

        Returns:
            `np.ndarray`: RGB uint8 of the same shape.
        """
        shift = rng.uniform(-self.brightness, self.brightness)
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        saturation = 1 + rng.uniform(-self.saturation, self.saturation)
        cast = 1 + rng.uniform(-self.color_cast, self.color_cast, size=3)
        # All four are affine in the color, so one 3x4 matrix does them in one pass over the pixels.
        matrix = contrast * cast[:, None] * (saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :])
        offset = shift + 128.0 * (1 - contrast)
        image = cv2.transform(image, np.column_stack([matrix, np.full(3, offset)]))
        if rng.random() < self.blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
        if rng.random() < self.motion_blur:
            length = math.exp(rng.uniform(*np.log(self.motion_length)))
            image = cv2.filter2D(image, -1, motion_kernel(length, rng.uniform(0, math.pi)))
        if rng.random() < self.noise:
            image = add_noise(image, rng.uniform(2, 10), rng)
        if rng.random() < self.jpeg:
            image = jpeg_artifacts(image, int(rng.integers(30, 91)))
        return image


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """The kernel of a camera in motion: a line of `length` pixels at `angle` radians, float32, of sum 1."""
    reach = math.ceil(length / 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    step = np.linspace(-length / 2, length / 2, 8 * reach + 1)
    x, y = reach + step * math.cos(angle), reach + step * math.sin(angle)
    # Each sample is shared out among the four pixels around it.
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = np.floor(x).astype(int) + dx, np.floor(y).astype(int) + dy
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row))
            np.add.at(kernel, (row.clip(0, 2 * reach), column.clip(0, 2 * reach)), weight)
    return kernel / kernel.sum()


_NOISE_TILE: np.ndarray | None = None


def add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """
    Adds Gaussian noise, cut at a random place from one fixed tile: drawing a million normals would cost more than the
    rest of the augmentation.

    Args:
        image (`np.ndarray`): uint8 of shape (height, width, 3).
        sigma (`float`): standard deviation in levels of 0..255.
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `np.ndarray`: uint8 of the same shape.
    """
    global _NOISE_TILE
    if _NOISE_TILE is None:
        tile = np.random.default_rng(0).standard_normal(1 << 20)
        _NOISE_TILE = np.clip(np.rint(tile * 32), -127, 127).astype(np.int8)
    start = int(rng.integers(_NOISE_TILE.size))
    repeats = 1 + (start + image.size) // _NOISE_TILE.size
    noise = np.concatenate([_NOISE_TILE[start:]] + [_NOISE_TILE] * repeats)[: image.size].reshape(image.shape)
    return cv2.addWeighted(image, 1.0, noise, sigma / 32.0, 0.0, dtype=cv2.CV_8U)


def jpeg_artifacts(image: np.ndarray, quality: int) -> np.ndarray:
    """
    Compresses and decodes an image.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
        quality (`int`): JPEG quality, 1 to 100.

    Returns:
        `np.ndarray`: RGB uint8 of the same shape.
    """
    # Channel order hardly matters to the artifacts, so the two color conversions are saved.
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "it was encoded just before"
    return decoded
