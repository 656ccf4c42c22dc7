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
"""Model outputs to text polygons in the image's own pixels."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from .detector_registry import Decoder
from .image_processing_settings import check_number
from .outlines import check_shape, order_outline, outline_in_image
from .polygons import (
    clip_polygon,
    measure_polygons,
    order_all_clockwise,
    order_clockwise,
    polygon_area,
    quads_at_top_left,
)
from .polygons import reading_order as sort_in_reading_order


def decoding_arguments(detector: str, decoder: Decoder, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """
    All arguments that a decoder knows.

    Args:
        detector (`str`): its name, for messages.
        decoder ([`Decoder`]): has the defaults.
        changes (`dict[str, dict]`): arguments that differ, by where they come from; later ones win, `None` stays as it is.

    Returns:
        `dict[str, Any]`: by their public names.

    Raises:
        ValueError: if a value is out of range.
        TypeError: if the decoder does not know an argument.
    """
    defaults = {_public_name(key): value for key, value in decoder.keywords.items()}
    arguments = dict(defaults)
    for source, given in changes.items():
        given = {key: value for key, value in given.items() if value is not None}
        unknown = sorted(set(given) - set(arguments))
        if unknown:
            raise TypeError(
                f"{source}: detector {detector!r} has no argument {', '.join(unknown)}; known are "
                f"{', '.join(sorted(arguments))}"
            )
        arguments.update(given)
    for key, default in defaults.items():
        value = arguments[key]
        if isinstance(default, bool):
            if not isinstance(value, bool | np.bool_):
                raise ValueError(f"{key} must be True or False, got {value!r}")
        elif isinstance(default, numbers.Real) or (key in decoder.least and value is not None):
            check_number(key, value, decoder.least.get(key))
    check_shape(arguments.get("shape", "polygon"))
    return arguments


def decode_outputs(
    decoder: Decoder, outputs, target_sizes, arguments: Mapping[str, Any], reading_order: bool
) -> list[dict[str, Any]]:
    """
    Decodes the maps of a batch, see [`TCMImageProcessor.post_process_text_detection`].

    Args:
        decoder ([`Decoder`]): the detector's.
        outputs ([`TCMTextDetectionOutput`] or `dict`): what the model gave, in tensors or in arrays.
        target_sizes (`torch.Tensor`, `np.ndarray` or `list`, *optional*): heights and widths of the original images.
        arguments (`dict[str, Any]`): of [`decoding_arguments`].
        reading_order (`bool`): whether to sort the texts as they are read.

    Returns:
        `list[dict]`: `polygons`, `scores`, `labels` and `boxes` of each image, in arrays.
    """
    levels, strides = as_levels(outputs, decoder)
    batch_size = len(levels[0])
    input_sizes = _as_sizes(_output_field(outputs, "image_sizes"), batch_size, "outputs.image_sizes")
    targets = _as_sizes(target_sizes, batch_size, "target_sizes")
    several = isinstance(decoder.stride, tuple)
    keywords = {_decoder_name(key, decoder): value for key, value in arguments.items()}
    results = []
    for index in range(batch_size):
        if input_sizes is None:
            height, width = (side * strides[0] for side in levels[0].shape[-2:])
        else:
            height, width = input_sizes[index]
        where = f" of image {index}" if batch_size > 1 else ""
        maps = [
            _probabilities(level[index, :, : -(-height // stride), : -(-width // stride)], decoder.activation, where)
            for level, stride in zip(levels, strides)
        ]
        polygons, scores = decoder.function(maps if several else maps[0], **keywords)
        target = (height, width) if targets is None else targets[index]
        scale = np.array([target[1] / width, target[0] / height]) * (1 if several else strides[0])
        results.append(_to_result(polygons, scores, scale, target, arguments.get("shape"), reading_order))
    return results


def as_levels(outputs, decoder: Decoder) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The maps of every level and their strides; one level where the detector has a single map."""
    logits = _output_field(outputs, "logits")
    several = isinstance(decoder.stride, tuple)
    strides = decoder.stride if isinstance(decoder.stride, tuple) else (decoder.stride,)
    levels = logits if several else (logits,)
    if several and not (isinstance(levels, tuple | list) and len(levels) == len(strides)):
        raise ValueError(f"outputs must have `logits` of {len(strides)} levels, those of the strides {strides}")
    if any(getattr(level, "ndim", None) != 4 for level in levels):
        raise ValueError("outputs must have `logits` of shape (batch, channels, height, width)")
    return tuple(levels), strides


def _probabilities(logits: Any, activation: str, where: str) -> np.ndarray:
    """One image's map, of shape (height, width) when it has a single channel; of a tensor without importing torch."""
    is_tensor = hasattr(logits, "detach")
    # Half precision has no room for probabilities next to 1, hence fp32 before the sigmoid.
    values: Any = logits.detach().float() if is_tensor else np.asarray(logits, dtype=np.float32)
    # NaN and infinite values show in the extremes.
    extremes = (values.aminmax() if is_tensor else (values.min(), values.max())) if math.prod(values.shape) else ()
    if not all(math.isfinite(value) for value in extremes):
        raise ValueError(
            f"the logits{where} are NaN or infinite; run the model in bfloat16 or float32 instead of float16, or check "
            "its weights"
        )
    if activation == "sigmoid":
        # In place where `values` is a copy: a second large array costs more than the function.
        if is_tensor:
            values = values.sigmoid() if values.dtype == logits.dtype else values.sigmoid_()
        else:
            with np.errstate(over="ignore"):  # exp of much is infinite, and its inverse 0
                values = 1 / (1 + np.exp(-values))
    array = values.cpu().numpy() if is_tensor else values
    return array[0] if len(array) == 1 else array


def _public_name(name: str) -> str:
    return "threshold" if name == "score_threshold" else name


def _decoder_name(name: str, decoder: Decoder) -> str:
    return "score_threshold" if name == "threshold" and "score_threshold" in decoder.keywords else name


def _output_field(outputs: Any, name: str) -> Any:
    return outputs.get(name) if hasattr(outputs, "get") else getattr(outputs, name, None)


def _as_sizes(sizes: Any, batch_size: int, name: str) -> list[tuple[int, int]] | None:
    if sizes is None:
        return None
    sizes = [tuple(int(side) for side in size) for size in (sizes.tolist() if hasattr(sizes, "tolist") else sizes)]
    if len(sizes) != batch_size or any(len(size) != 2 or min(size) < 1 for size in sizes):
        raise ValueError(f"{name} must hold one (height, width) for each of the {batch_size} images, got {sizes}")
    return sizes


def _to_result(polygons, scores, scale, target, shape, reading_order: bool) -> dict[str, Any]:
    """Scales polygons to the original image, cuts them at its border and collects one image's result."""
    height, width = target
    scaled = [np.asarray(polygon, dtype=np.float64) * scale for polygon in polygons]
    areas, _, boxes = measure_polygons(scaled) if scaled else (np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    inside: Any = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= (width, height)).all(axis=1)
    if scale[0] != scale[1]:
        # Decoders give points in order; uneven scales can change what that is.
        _order(scaled, np.flatnonzero(inside).tolist(), shape)
    kept, kept_scores = [], []
    for polygon, score, area, is_inside in zip(scaled, scores, areas, inside):
        for part in ([polygon] if area > 0 else []) if is_inside else _cut(polygon, width, height, shape):
            kept.append(part.astype(np.float32))
            kept_scores.append(float(score))
    order = list(range(len(kept)))
    if reading_order and kept:
        order = sort_in_reading_order(kept)
    boxes = measure_polygons(kept)[2] if kept else np.zeros((0, 4))
    return {
        "polygons": [kept[i] for i in order],
        "scores": np.array([kept_scores[i] for i in order], dtype=np.float32),
        "labels": np.zeros(len(kept), dtype=np.int64),
        "boxes": boxes[order].astype(np.float32),
    }


def _order(polygons: list[np.ndarray], indices: list[int], shape: str | None) -> None:
    """Lets some of the polygons start where reading does, in place."""
    quads = [i for i in indices if len(polygons[i]) == 4 and shape is not None]
    if quads:
        for i, quad in zip(quads, quads_at_top_left(np.stack([polygons[i] for i in quads]))):
            polygons[i] = quad
    others = list(set(indices) - set(quads))
    some = [polygons[i] for i in others]
    ordered = [order_outline(polygon) for polygon in some] if shape == "auto" else order_all_clockwise(some)
    for i, polygon in zip(others, ordered):
        polygons[i] = polygon


def _cut(polygon: np.ndarray, width: int, height: int, shape: str | None) -> list[np.ndarray]:
    """What of a polygon that crosses the border of an image lies inside, in its shape: nothing, one part or several."""
    if shape in ("quad", "box"):
        # Cutting would give more than four corners; moving them onto the border keeps the shape's promise.
        parts = [np.clip(polygon, 0, (width, height))]
    else:
        parts = clip_polygon(polygon, width, height)
    if shape == "auto":
        # The cut made corners of its own: what is left gets an outline again.
        parts = [outline_in_image(part, "auto", width, height) for part in parts]
    parts = [part for part in parts if polygon_area(part) > 0]
    return [order_outline(part) if shape == "auto" else order_clockwise(part) for part in parts]


def describe_texts(
    result: Mapping[str, Any], size: tuple[int, int], labels: Mapping[int, str]
) -> list[dict[str, Any]]:
    """
    The texts of one image, as the pipeline gives them.

    Args:
        result (`dict`): of [`decode_outputs`], in arrays or in tensors.
        size (`tuple[int, int]`): height and width of the image.
        labels (`dict[int, str]`): the model's `id2label`.

    Returns:
        `list[dict]`: `score`, `label`, `box` and `polygon` of each text.
    """
    height, width = size
    texts = []
    for polygon, score, label, box in zip(
        result["polygons"], result["scores"].tolist(), result["labels"].tolist(), result["boxes"].tolist()
    ):
        xmin, ymin, xmax, ymax = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
        texts.append(
            {
                "score": score,
                "label": labels[label],
                "box": {"xmin": xmin, "ymin": ymin, "xmax": min(xmax, width), "ymax": min(ymax, height)},
                "polygon": polygon.tolist(),
            }
        )
    return texts


def rounded_detection(detection: dict[str, Any]) -> dict[str, Any]:
    """A detection for a file: a hundredth of a pixel is enough there, and far shorter than all digits."""
    polygon = [[round(coordinate, 2) for coordinate in point] for point in detection["polygon"]]
    return {**detection, "score": round(detection["score"], 4), "polygon": polygon}
