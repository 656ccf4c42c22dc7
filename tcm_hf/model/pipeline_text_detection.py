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
"""The `text-detection` pipeline: images in, text polygons out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForObjectDetection
from transformers.pipelines.base import Pipeline

from .detectors import find_detector
from .image_loading import load_rgb_image
from .image_processing_settings import check_settings
from .outlines import outline_in_image
from .polygons import bounding_box
from .polygons import reading_order as sort_in_reading_order
from .post_processing import describe_texts
from .sharing import SharingMixin
from .tiling import Tile, check_tile, merge_tiles, tile_grid
from .turning import can_turn, look_again


_UNSET = object()
# Tiles that go through the network together: accelerators need several to be busy, processors only lose time with them.
_TILES_AT_ONCE = {"cpu": 1}
_TILES_AT_ONCE_ELSEWHERE = 4


@dataclass(slots=True)
class _Numbered:
    """An image and its place among the others, for messages."""

    index: int | None
    source: Any


@dataclass(slots=True)
class _TiledImage:
    """An image whose tiles are cut, prepared, and decoded one after another, so that memory is that of a few tiles."""

    image: Any
    tiles: list[Tile]
    arguments: dict[str, Any]  # of the image processor


def _numbered(sources: Iterable) -> Iterator[_Numbered]:
    return (_Numbered(index, source) for index, source in enumerate(sources))


class TextDetectionPipeline(SharingMixin, Pipeline):
    """
    Finds text in images with any model that was trained as [`TCMForTextDetection`].

    All call arguments may also be given to `pipeline(...)`, as defaults for every call. On a CPU the model is prepared by
    [`TCMForTextDetection.optimize_for_inference`], which changes no result beyond float rounding.

    Example:

    >>> import tcm_hf
    >>> from transformers import pipeline

    >>> detector = pipeline("text-detection")
    >>> words = detector("examples/sample.jpg", reading_order=True)
    >>> words[0]
    {'score': 0..., 'label': 'text', 'box': {'xmin': ..., 'ymin': ..., 'xmax': ..., 'ymax': ...}, 'polygon': [[...]]}
    """

    _load_processor: Any = False
    _load_image_processor: Any = True
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    image_processor: Any  # a `TCMImageProcessor`, or one of the same methods that came with a checkpoint
    model: Any  # likewise

    def __init__(self, model, *args, **kwargs):
        missing = getattr(model, "missing_weights", ())
        if missing:
            names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise ValueError(
                f"the checkpoint {model.name_or_path!r} lacks {len(missing)} weights of {type(model).__name__} ({names}) or "
                "has them in another size, so its answers would be random; use a complete checkpoint, or train the model first"
            )
        if hasattr(model, "check_running_statistics"):
            model.check_running_statistics()
        super().__init__(model, *args, **kwargs)
        if self.device.type == "cpu" and hasattr(self.model, "optimize_for_inference"):
            self.model.optimize_for_inference()

    @property
    def card_source(self) -> str | None:  # type: ignore[override]  # what is read is what counts
        """The model card is that of the model."""
        return getattr(self.model, "card_source", None)

    @property
    def _can_turn(self) -> bool:
        return can_turn(find_detector(self.image_processor.detector).part("decoder"))

    def _sanitize_parameters(
        self,
        timeout=_UNSET,
        max_pixels=None,
        size=None,
        do_upscale=None,
        do_turn=None,
        reading_order=None,
        tile=None,
        **decoding,
    ):
        if self.image_processor is None:
            raise ValueError("TextDetectionPipeline needs image_processor=TCMImageProcessor(...)")
        preprocess_params = {"max_pixels": max_pixels, "size": size, "do_upscale": do_upscale}
        postprocess_params = {"reading_order": reading_order, **decoding}
        # Unknown names and wrong values are reported here, before any image is read.
        self.image_processor.decoding_arguments(**decoding)
        check_settings({"do_turn": do_turn})
        if do_turn and not self._can_turn:
            raise ValueError(
                "do_turn goes with detectors of a single map of all pixels, such as db, not with "
                f"{self.image_processor.detector!r}; leave it off"
            )
        if tile is not None:
            preprocess_params["tile"] = check_tile(tile)
            if preprocess_params["tile"] and size is not None:
                raise ValueError("tiles have the image's own resolution: pass either tile or size, not both")
        given = [
            {key: value for key, value in params.items() if value is not None}
            for params in (preprocess_params, postprocess_params, {"do_turn": do_turn, **decoding})
        ]
        if timeout is not _UNSET:  # `None` has a meaning of its own: no limit
            given[0]["timeout"] = timeout
        return given[0], given[2], given[1]

    def __call__(  # type: ignore[override]  # nothing else comes by position
        self, inputs: Any, **kwargs
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """
        Finds text in one image or in many.

        Args:
            inputs: an image, or many of them.

                - one image: a path, an `http(s)://` address, bytes of an image file, a `PIL.Image.Image`, a NumPy
                  array or a torch tensor; see [`~image_loading.load_rgb_image`] for how each is read;
                - many images: a list, a tuple, an array or tensor with a batch dimension, a generator, a column of a
                  `datasets.Dataset`, or a `KeyDataset`. Sizes and kinds may be mixed;
                - what `tcm_hf.iterate_images` yields for PDFs, videos, folders and other files of many images.
            threshold, mask_threshold, unclip_ratio, min_size, max_candidates, epsilon_ratio, shape (*optional*):
                see [`TCMImageProcessor.post_process_text_detection`]; `shape` is `"auto"`, `"polygon"`, `"quad"` or
                `"box"`.
            reading_order (`bool`, *optional*, defaults to `False`):
                Whether to sort the texts as they are read.
            size (`dict[str, int]`, *optional*), do_upscale (`bool`, *optional*):
                Size that images are resized to for detection, see [`TCMImageProcessor`].
            do_turn (`bool`, *optional*):
                Whether to look a second time at images on their side, see [`TCMImageProcessor`].
            tile (`bool`, `int` or `tuple[int, int]`, *optional*, defaults to `False`):
                Whether to cut images into overlapping tiles that keep their full resolution, for small text in large images;
                memory is that of a tile, beside the image itself. `True` cuts images that would be reduced, into
                the largest square tiles that are not; `(height, width)` in pixels cuts all that are larger. Regions that
                seams cut are joined, see [`~tiling.merge_tiles`]. Not together with `size`.
            timeout (`float`, *optional*, defaults to 60.0):
                Seconds that the download of one image may take in all, `None` for no limit.
            max_pixels (`int`, *optional*, defaults to that of the image processor, 50331648):
                Largest width times height of an image; larger ones are refused before they take memory.
            batch_size (`int`, *optional*, defaults to 1):
                Images per forward pass. They are padded to a common size, so similar sizes waste least.

        Returns:
            For one image a list of its texts; for a list, a tuple or an array a list of such lists; for a generator
            or a dataset an iterator of such lists. Each text is a `dict` with `score` (`float`), `label` (`str`), `box`
            (`dict` of the integers `xmin`, `ymin`, `xmax`, `ymax`: the smallest that hold the polygon) and `polygon`
            (list of `[x, y]` floats, clockwise from the reading start), in pixels of the upright image and inside of it.

        Raises:
            ValueError, OSError: if an image cannot be read, see [`~image_loading.load_rgb_image`]. The message names its
                path or its place in the list, counted from 0.
            TypeError: if there is an unknown argument.
        """
        if isinstance(inputs, str | bytes | bytearray | memoryview) or hasattr(inputs, "read"):
            return super().__call__(inputs, **kwargs)
        if getattr(inputs, "ndim", None) == 4:
            inputs = list(inputs)
        if isinstance(inputs, list):
            return super().__call__(list(_numbered(inputs)), **kwargs) if inputs else []
        if isinstance(inputs, Iterator):
            return super().__call__(_numbered(inputs), **kwargs)
        if isinstance(inputs, Sequence) and not isinstance(inputs, torch.utils.data.Dataset):
            # Tuples and dataset columns: read one by one, since a list would hold every decoded image.
            return list(super().__call__(_numbered(inputs), **kwargs))
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """
        Saves the model, the image processor and the code, so that the checkpoint also works where this package is not
        installed: `pipeline("text-detection", model=save_directory, trust_remote_code=True)`.

        Args:
            save_directory (`str` or `os.PathLike`): the directory; it is made when it does not exist.
        """
        # What the checkpoint tells about its pipeline. A registered class has the path of this installation's default
        # checkpoint in it, and a class that came with a checkpoint has no such entry at all.
        task = {"impl": type(self), "pt": (AutoModelForObjectDetection,), "type": "image"}
        self._registered_impl = {"text-detection": task}
        super().save_pretrained(save_directory, **kwargs)
        if hasattr(self.model.config, "custom_pipelines"):
            del self.model.config.custom_pipelines

    def preprocess(  # type: ignore[override]  # by name
        self, inputs, timeout=60.0, max_pixels=None, tile=False, **size_arguments
    ) -> dict[str, Any]:
        picture = inputs if isinstance(inputs, _Numbered) else _Numbered(None, inputs)
        max_pixels = self.image_processor.max_pixels if max_pixels is None else max_pixels
        source = picture.source
        if hasattr(source, "facts"):  # an `InputImage` of `tcm_hf.inputs`, which knows its file and its place in it
            source = source.load()
        image = load_rgb_image(source, index=picture.index, timeout=timeout, max_pixels=max_pixels)
        if tile:
            arguments = {**size_arguments, "max_pixels": max_pixels}
            return {"target_sizes": [(image.height, image.width)], "tiled": [self._cut(image, tile, arguments)]}
        # Without padding, which depends on the other images of the batch; the model itself needs none.
        features = self.image_processor(image, do_pad=False, max_pixels=max_pixels, **size_arguments)
        # Lists, because transformers' collate function can only concatenate tensors of one size.
        return {
            "pixel_values": [torch.from_numpy(pixels).to(self.dtype) for pixels in features["pixel_values"]],
            "target_sizes": [(image.height, image.width)],
        }

    def _cut(self, image, tile: tuple[int, int] | bool, arguments: dict[str, Any]) -> _TiledImage:
        """The tiles of an image, and what the image processor is to do with each."""
        height, width = image.height, image.width
        limits = dict(arguments.get("size") or self.image_processor.size)
        resized_size = partial(
            self.image_processor.get_resized_size, size=limits, do_upscale=arguments.get("do_upscale")
        )
        resized = resized_size(height, width)
        reduced = resized[0] < height or resized[1] < width
        if isinstance(tile, bool):
            tile = (min(*limits.values(), height), min(*limits.values(), width)) if reduced else (height, width)
        tiles = tile_grid(height, width, tile)
        if len(tiles) > 1 or reduced:
            # All have one size, in which the image processor may enlarge them, but not reduce or stretch them.
            left, top, right, bottom = tiles[0].box
            size = resized_size(bottom - top, right - left)
            if set(limits) == {"height", "width"} or size[0] < bottom - top or size[1] < right - left:
                size = (bottom - top, right - left)
            arguments = {**arguments, "size": dict(zip(("height", "width"), size))}
        return _TiledImage(image, tiles, arguments)

    def _forward(  # type: ignore[override]  # by name
        self, model_inputs: dict[str, Any], do_turn: bool | None = None, **decoding
    ) -> dict[str, Any]:
        if do_turn is None:
            do_turn = getattr(self.image_processor, "do_turn", False) and self._can_turn
        if isinstance(model_inputs["target_sizes"][0], list):  # a batch: one list of length 1 per image
            model_inputs = {key: [item for items in value for item in items] for key, value in model_inputs.items()}
        if "tiled" in model_inputs:
            found = [self._detect_in_tiles(tiled, do_turn, decoding) for tiled in model_inputs["tiled"]]
            return {"target_sizes": torch.tensor(model_inputs["target_sizes"]), "regions": found}
        return self._forward_batch(model_inputs, do_turn)

    def _detect_in_tiles(self, tiled: _TiledImage, do_turn: bool, decoding: dict[str, Any]) -> tuple[list, list]:
        """The polygons and scores of an image, from its tiles."""
        # Tiles give whole outlines: only those can be joined.
        shape = {"shape": "polygon"} if "shape" in self.image_processor.decoding_arguments() else {}
        at_once = _TILES_AT_ONCE.get(self.device.type, _TILES_AT_ONCE_ELSEWHERE)
        regions = []
        for start in range(0, len(tiled.tiles), at_once):
            parts = [tiled.image.crop(tile.box) for tile in tiled.tiles[start : start + at_once]]
            features = self.image_processor(parts, do_pad=False, **tiled.arguments)
            outputs = self._forward_batch(
                {
                    "pixel_values": [
                        torch.from_numpy(pixels).to(self.device, self.dtype) for pixels in features["pixel_values"]
                    ],
                    "target_sizes": [(part.height, part.width) for part in parts],
                },
                do_turn,
            )
            results = self.image_processor.post_process_text_detection(
                _as_outputs(outputs), outputs["target_sizes"], **{**decoding, **shape}
            )
            regions += [(result["polygons"], result["scores"].tolist()) for result in results]
        polygons, scores = merge_tiles(tiled.tiles, regions, tiled.image.height, tiled.image.width)
        return polygons, scores.tolist()

    def _forward_batch(self, model_inputs: dict[str, Any], do_turn: bool) -> dict[str, Any]:
        pictures = model_inputs["pixel_values"]
        levels = self._logits(pictures)
        if do_turn:
            self._look_again(levels[0], pictures)
        # Only what post-processing needs: the rest would be kept, and copied from the device, for nothing.
        return {
            **{f"logits_{i}": level for i, level in enumerate(levels)},
            "image_sizes": torch.tensor([picture.shape[-2:] for picture in pictures]),
            "target_sizes": torch.tensor(model_inputs["target_sizes"]),
        }

    def _logits(self, pictures: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The maps of every level."""
        pixel_values, pixel_mask = _batch(pictures)
        logits = self.model(pixel_values=pixel_values, pixel_mask=pixel_mask).logits
        # A tensor for each level: transformers splits batches along the first axis of every value.
        return logits if isinstance(logits, tuple) else (logits,)

    def _look_again(self, logits: torch.Tensor, pictures: list[torch.Tensor]) -> None:
        """Gives images on their side the maps of a second look at them, in place."""
        for maps, picture in zip(logits, pictures):
            height, width = picture.shape[-2:]
            inside = maps[0, :height, :width]
            found = look_again(_as_array(inside), partial(self._turned_map, picture))
            if found is not None:
                inside.copy_(torch.from_numpy(found.copy()))

    def _turned_map(self, picture: torch.Tensor) -> np.ndarray:
        """The map of an image that is turned counterclockwise by a quarter."""
        turned = picture.rot90(1, (-2, -1))
        height, width = turned.shape[-2:]
        return _as_array(self._logits([turned])[0][0, 0, :height, :width])

    def postprocess(self, model_outputs: dict[str, Any], **parameters) -> list[dict[str, Any]]:
        (height, width), *_ = model_outputs["target_sizes"].tolist()
        if "regions" in model_outputs:
            regions = model_outputs["regions"]
            # A batch was taken apart already.
            polygons, scores = regions[0] if isinstance(regions, list) else regions
            arguments = {key: value for key, value in parameters.items() if key != "reading_order"}
            shape = self.image_processor.decoding_arguments(**arguments).get("shape", "polygon")
            polygons = [outline_in_image(polygon, shape, width, height) for polygon in polygons]
            order = sort_in_reading_order(polygons) if parameters.get("reading_order") else range(len(polygons))
            result = {
                "polygons": [polygons[i] for i in order],
                "scores": np.array([scores[i] for i in order]),
                "labels": np.zeros(len(polygons), dtype=np.int64),
                "boxes": np.array([bounding_box(polygons[i]) for i in order]),
            }
        else:
            result = self.image_processor.post_process_text_detection(
                _as_outputs(model_outputs), model_outputs["target_sizes"], **parameters
            )[0]
        return describe_texts(result, (height, width), self.model.config.id2label)


def _as_array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _as_outputs(model_outputs: dict[str, Any]) -> dict[str, Any]:
    """What post-processing takes, from what the pipeline carries along."""
    levels = tuple(value for key, value in model_outputs.items() if key.startswith("logits_"))
    return {"logits": levels if len(levels) > 1 else levels[0], "image_sizes": model_outputs["image_sizes"]}


def _batch(pictures: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    One tensor of images (channels, height, width), padded with zeros at the right and at the bottom where they differ
    in size, and then also the mask of what is no padding.
    """
    if all(picture.shape == pictures[0].shape for picture in pictures):
        return pictures[0][None] if len(pictures) == 1 else torch.stack(pictures), None
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (-2, -1))
    batch = pictures[0].new_zeros((len(pictures), pictures[0].shape[0], height, width))
    mask = torch.zeros((len(pictures), height, width), dtype=torch.long, device=batch.device)
    for item, item_mask, picture in zip(batch, mask, pictures):
        rows, columns = picture.shape[-2:]
        item[:, :rows, :columns] = picture
        item_mask[:rows, :columns] = 1
    return batch, mask
