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
"""The maps of one image: where a detector sees text, and where CLIP's image and text sides agree."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import torch
from PIL import Image

from ..model.detectors import find_detector
from ..model.post_processing import as_levels


# Pixels of the model's input for each cell of the matching map.
MATCHING_STRIDE = 32


@dataclass(frozen=True)
class ImageMaps:
    """
    What a model gave for one image. Other thresholds need no other forward pass.

    Args:
        pipeline ([`TextDetectionPipeline`]): whose model it is.
        outputs ([`TCMTextDetectionOutput`]): of that model for this image alone, on the CPU.
        input_size (`tuple[int, int]`): height and width of the resized image in `outputs`, without padding.
        image_size (`tuple[int, int]`): height and width of the upright image.
    """

    pipeline: Any
    outputs: Any
    input_size: tuple[int, int]
    image_size: tuple[int, int]

    def detections(self, **arguments) -> list[dict[str, Any]]:
        """
        The texts, as the pipeline gives them.

        Args:
            arguments: of the pipeline's post-processing, such as `threshold`, `shape` and `reading_order`.

        Returns:
            `list[dict]`: see [`TextDetectionPipeline`].

        Raises:
            ValueError, TypeError: for arguments that the detector does not know, or values out of range.
        """
        logits = self.outputs.logits
        levels = logits if isinstance(logits, tuple) else (logits,)
        results = {f"logits_{index}": level for index, level in enumerate(levels)}
        results["image_sizes"] = torch.tensor([self.input_size])
        results["target_sizes"] = torch.tensor([self.image_size])
        return self.pipeline.postprocess(results, **arguments)

    def text_probability(self) -> np.ndarray | None:
        """
        The detector's text probability in the pixels of its own map.

        Returns:
            `np.ndarray`: float32 of shape (height, width), in 0..1, over the whole image; `None` for a detector whose
            decoder has several maps and no `text_map`, see [`Decoder`].
        """
        decoder = find_detector(self.pipeline.image_processor.detector).part("decoder")
        maps = []
        for level, stride in zip(*as_levels(self.outputs, decoder)):
            height, width = (-(-side // stride) for side in self.input_size)
            values = level[0, :, :height, :width].float()
            maps.append((values.sigmoid() if decoder.activation == "sigmoid" else values).numpy())
        if decoder.text_map is None:
            single = len(maps) == 1 and len(maps[0]) == 1 and decoder.activation == "sigmoid"
            return maps[0][0] if single else None
        several = isinstance(decoder.stride, tuple)
        return decoder.text_map(maps if several else maps[0][0] if len(maps[0]) == 1 else maps[0])

    def matching(self) -> np.ndarray | None:
        """
        The instance-language matching map: for each cell of 32 pixels of the model's input the probability that its
        pixels match the prompt (eq. 9 of the CVPR 2023 paper).

        Returns:
            `np.ndarray`: float32 of shape (rows, columns), in 0..1; `None` for a model without text side.
        """
        score_map = self.outputs.score_map
        if score_map is None:
            return None
        config = self.pipeline.model.config
        logits = score_map[0, 0].float() / (1.0 if config.scale_score_map else config.temperature)
        rows, columns = (-(-side // MATCHING_STRIDE) for side in self.input_size)
        return logits[:rows, :columns].sigmoid().numpy()

    def matching_on_image(self) -> np.ndarray | None:
        """
        The matching map in the pixels of the model's input, smoothed between the centers of its cells.

        Returns:
            `np.ndarray`: float32 of the shape `input_size`, in 0..1; `None` for a model without text side.
        """
        matching = self.matching()
        if matching is None:
            return None
        rows, columns = matching.shape
        size = (columns * MATCHING_STRIDE, rows * MATCHING_STRIDE)
        # The last cells reach over the border of the image.
        whole = np.asarray(Image.fromarray(matching).resize(size, Image.Resampling.BILINEAR))
        return whole[: self.input_size[0], : self.input_size[1]]

    def text_cells(self, detections: list[dict[str, Any]]) -> np.ndarray:
        """
        Cells of the matching map that a text covers, be it in part.

        Args:
            detections (`list[dict]`): of [`ImageMaps.detections`].

        Returns:
            `np.ndarray`: bool of shape (rows, columns).
        """
        rows, columns = (-(-side // MATCHING_STRIDE) for side in self.input_size)
        scale = np.array(self.input_size[::-1]) / self.image_size[::-1] / MATCHING_STRIDE
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        squares = shapely.box(x, y, x + 1, y + 1)
        cells = np.zeros((rows, columns), dtype=bool)
        for detection in detections:
            outline = shapely.Polygon(np.array(detection["polygon"]) * scale).buffer(0)
            cells |= shapely.intersects(outline, squares)
        return cells


def find_maps(pipeline, image: Image.Image, **size_arguments) -> ImageMaps:
    """
    Runs a model on one image and keeps what it gave.

    Args:
        pipeline ([`TextDetectionPipeline`]): of the model.
        image (`PIL.Image.Image`): upright and RGB, as [`~image_loading.load_rgb_image`] gives it.
        size_arguments: `size` and `do_upscale` of [`TCMImageProcessor`], where they differ from the checkpoint's.

    Returns:
        [`ImageMaps`]

    Example:

    >>> import tcm_hf
    >>> from PIL import Image
    >>> from transformers import pipeline
    >>> from tcm_hf.explanation import find_maps

    >>> maps = find_maps(pipeline("text-detection"), Image.open("examples/sample.jpg"))
    >>> maps.matching().shape
    (32, 57)
    >>> len(maps.detections(threshold=0.7)) <= len(maps.detections(threshold=0.5))
    True
    """
    processor, model = pipeline.image_processor, pipeline.model
    # Without padding, so that the maps are those of the image and of nothing else.
    features = processor(image, do_pad=False, **size_arguments)
    pixels = torch.from_numpy(features["pixel_values"][0])[None]
    with torch.inference_mode():
        outputs = model(pixel_values=pixels.to(pipeline.device, pipeline.dtype))
    kept = {
        name: tuple(each.cpu() for each in value) if isinstance(value, tuple) else value.cpu()
        for name, value in outputs.items()
        if name in ("logits", "score_map", "text_embeddings", "visual_embeddings")
    }
    height, width = pixels.shape[-2:]
    return ImageMaps(pipeline, type(outputs)(**kept), (height, width), (image.height, image.width))
