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
"""Image processor of TCM: images to model inputs, and model outputs to text polygons in the image's own pixels."""

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs
from transformers.utils import IMAGE_PROCESSOR_NAME

from .configuration_towers import naming_file
from .decoding_db import decode_db  # noqa: F401 - the registry finds it; transformers copies what is imported
from .decoding_fce import decode_fce  # noqa: F401
from .decoding_pan import decode_pan  # noqa: F401
from .detector_sharing import load_own_detector, save_own_detector
from .detectors import find_detector, register_decoder
from .image_annotations import build_labels, read_annotations
from .image_arrays import check_resized_pixels, normalize, resize, resized_size
from .image_loading import DEFAULT_MAX_PIXELS, convert_to_rgb, describe_source, load_any_image
from .image_processing_settings import IMAGE_MEAN, IMAGE_STD, check_backend, check_settings
from .post_processing import as_levels, decode_outputs, decoding_arguments
from .sharing import ProcessorSharingMixin
from .tower_statistics import tower_statistics


logger = logging.getLogger(__name__)

# See `TCMImageProcessor.reduction_warning`. Longer ones, as panoramas and receipts, have no large text instead.
LONG_PICTURE = 4
MIN_SCALE = 1 / 2
READABLE_HEIGHT = 8  # pixels


_LOGGED_SIZES: set = set()
# Attributes of an image processor that are not saved.
_NO_SETTINGS = ("config_source", "has_warned_of_reduction")


def _is_long(height: int, width: int) -> bool:
    return max(height, width) > LONG_PICTURE * min(height, width)


def _log_size_once(before, after, size, do_upscale) -> None:
    """Tells, for the first image that a size limit changes, what becomes of it."""
    key = (str(size), bool(do_upscale))
    if before != after and key not in _LOGGED_SIZES:
        _LOGGED_SIZES.add(key)
        logger.info(
            "images are resized to fit size=%s, do_upscale=%s: the first from %d x %d to %d x %d pixels (width x "
            "height); pass another `size` if small text gets lost",
            dict(size), bool(do_upscale), *before, *after,
        )  # fmt: skip


class _Picture(NamedTuple):
    """An image on its way into a batch: 8 bits of shape (height, width, channels)."""

    array: np.ndarray
    unit_range: bool
    original_size: tuple[int, int]


class TCMImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    do_upscale (`bool`, *optional*, defaults to `self.do_upscale`):
        Whether images smaller than `size` are enlarged.
    max_upscale (`float`, *optional*, defaults to `self.max_upscale`):
        Largest factor by which `do_upscale` enlarges.
    do_turn (`bool`, *optional*, defaults to `self.do_turn`):
        Whether the pipeline looks a second time at images on their side; only when the processor is made or loaded.
    size_divisor (`int`, *optional*, defaults to `self.size_divisor`):
        Padded heights and widths are multiples of this number of pixels.
    resize_backend (`str`, *optional*, defaults to `self.resize_backend`):
        `"pillow"` or `"opencv"`: what resizes the images.
    max_pixels (`int`, *optional*, defaults to `self.max_pixels`):
        Largest width times height of an image, before and after resizing.
    detector (`str`, *optional*, defaults to `self.detector`):
        Name of the detector whose outputs are decoded; only when the processor is made or loaded.
    decoding (`dict`, *optional*, defaults to `self.decoding`):
        Default arguments of post-processing; only when the processor is made or loaded.
    target_settings (`dict`, *optional*, defaults to `self.target_settings`):
        Arguments of the function that makes the labels from `annotations`.
    """

    do_upscale: bool | None
    max_upscale: float | None
    do_turn: bool | None
    size_divisor: int | None
    resize_backend: str | None
    max_pixels: int | None
    detector: str | None
    decoding: dict | None
    target_settings: dict | None


class TCMImageProcessor(ProcessorSharingMixin, PilBackend):
    r"""
    Prepares images for TCM and turns the model's outputs into text polygons.

    Images may be paths, `http(s)://` addresses, bytes of image files, PIL images, NumPy arrays, torch tensors, or a
    list that mixes them and their sizes; see [`~image_loading.load_rgb_image`] for how each is read (EXIF orientation,
    transparency, 16 bits, float arrays). They are resized as 8-bit images, rescaled, normalized with the means of TCM's
    released models, and padded at the right and at the bottom with zeros.

    Float arrays in 0..1 are not rescaled a second time, so `do_rescale` may stay on for them.

    Args:
        do_convert_rgb (`bool`, *optional*, defaults to `True`):
            Whether to convert images to RGB. When off, all images of a batch need the same number of channels.
        do_resize (`bool`, *optional*, defaults to `True`):
            Whether to resize.
        size (`dict[str, int]` or `int`, *optional*, defaults to `{"shortest_edge": 1024, "longest_edge": 2048}`):
            Limits in pixels. With `shortest_edge` and/or `longest_edge`, or with `max_height` and `max_width`, the
            image keeps its proportions and fits all limits. With `height` and `width` it gets exactly this size. An
            `int` is a shortest edge without a limit on the longest.
        do_upscale (`bool`, *optional*, defaults to `False`):
            Whether images smaller than `size` are enlarged. `height` and `width` always are exact.
        max_upscale (`float`, *optional*):
            Largest factor by which `do_upscale` enlarges, for detectors that find small text better in enlarged
            images, and large text worse; at least 1. No limit by default.
        do_turn (`bool`, *optional*, defaults to `False`):
            Whether the pipeline looks a second time at images in whose maps more regions are higher than wide than the
            other way round, turned by a quarter: photos on their side take twice the time, and others no more. It
            has an effect with detectors of a single map of all pixels, such as DB.
        resample (`PILImageResampling`, *optional*, defaults to `BILINEAR`):
            Resampling filter.
        resize_backend (`str`, *optional*, defaults to `"pillow"`):
            `"pillow"` averages over all pixels where it reduces (anti-aliasing). `"opencv"` interpolates between the
            nearest ones, as the official implementation of TCM does: models that were trained with it see the pixels
            that they know. The filters nearest, bilinear, bicubic and Lanczos go with it.
        max_pixels (`int`, *optional*, defaults to 50331648):
            Largest width times height of an image, by its header and before it is decoded, and also after resizing.
        do_rescale (`bool`, *optional*, defaults to `True`), rescale_factor (`float`, *optional*, defaults to `1/255`):
            Whether, and by what, values in 0..255 are multiplied.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Whether to subtract `image_mean` and to divide by `image_std`.
        image_mean (`list[float]`, *optional*, defaults to `(122.679, 116.669, 104.007)` divided by 255):
            Mean of each RGB channel after rescaling.
        image_std (`list[float]`, *optional*, defaults to `(58.395, 57.12, 57.375)` divided by 255):
            Standard deviation of each RGB channel after rescaling.
        do_pad (`bool`, *optional*, defaults to `True`):
            Whether to pad to the largest height and width of the batch, rounded up to multiples of `size_divisor`, and
            to return `pixel_mask`.
        pad_size (`dict[str, int]`, *optional*):
            Height and width to pad to instead.
        size_divisor (`int`, *optional*, defaults to 32):
            See `do_pad`.
        detector (`str`, *optional*, defaults to `"db"`):
            Name of the detector.
        decoding (`dict`, *optional*):
            Defaults of [`~TCMImageProcessor.post_process_text_detection`] that differ from the detector's own.
        target_settings (`dict`, *optional*):
            Arguments of the function that makes the labels, such as [`~targets.build_db_targets`], that differ from its
            defaults. A processor that was loaded from a model's directory takes those that the model's configuration has
            in common with it.

    Example:

    >>> from tcm_hf import TCMImageProcessor, checkpoint_path

    >>> processor = TCMImageProcessor.from_pretrained(checkpoint_path())
    >>> inputs = processor("examples/sample.jpg", return_tensors="pt")
    >>> inputs["pixel_values"].shape
    torch.Size([1, 3, 1024, 1824])
    """

    valid_kwargs = TCMImageProcessorKwargs
    model_input_names = ["pixel_values", "pixel_mask"]

    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 1024, "longest_edge": 2048}
    default_to_square = False
    do_upscale = False
    max_upscale = None
    do_turn = False
    resample = PILImageResampling.BILINEAR
    resize_backend = "pillow"
    max_pixels = DEFAULT_MAX_PIXELS
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = [value / 255 for value in IMAGE_MEAN]
    image_std = [value / 255 for value in IMAGE_STD]
    do_pad = True
    size_divisor = 32
    detector = "db"
    decoding = None
    target_settings = None
    #: Where the configuration of its model is: directory or Hub id, and arguments for the Hub.
    config_source: tuple[str, dict[str, Any]] | None = None
    has_warned_of_reduction = False

    def __init__(self, **kwargs):
        check_backend(kwargs.pop("backend", None), kwargs.pop("use_fast", None))
        check_settings(kwargs)
        for key in kwargs:
            if callable(getattr(type(self), key, None)):
                raise ValueError(f"{key} is no setting of {type(self).__name__}, but its method; remove it")
        super().__init__(**kwargs)
        # Complete, so that preprocessor_config.json shows every threshold that is in force.
        self.decoding = self.decoding_arguments()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """
        Loads a saved image processor, see [`~transformers.ImageProcessingMixin.from_pretrained`].

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
            kwargs: settings that replace the saved ones, and what transformers takes.

        Returns:
            `TCMImageProcessor`

        Raises:
            ValueError: if a setting is wrong; the message names the file and the setting.
            OSError: if there is no such file, or it is no JSON.
        """
        load_own_detector(pretrained_model_name_or_path, kwargs)
        kwargs.pop("trust_remote_code", None)
        with naming_file(pretrained_model_name_or_path, IMAGE_PROCESSOR_NAME):
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        processor = loaded[0] if isinstance(loaded, tuple) else loaded  # with `return_unused_kwargs`
        names = ("cache_dir", "local_files_only", "revision", "subfolder", "token")
        hub_arguments = {name: kwargs[name] for name in names if name in kwargs}
        processor.config_source = (processor.card_source, hub_arguments)
        return loaded

    @classmethod
    def from_clip(cls, clip: Any, **kwargs):
        """
        The image processor of a model that `TCMForTextDetection.from_clip` makes: it normalizes as the image tower was trained.

        Mean and standard deviation are those of the `preprocessor_config.json` beside the tower's weights, such as 0.5 for SigLIP, and
        ImageNet's for DINOv3, ResNet and ConvNeXt. CLIP itself, the tower of the papers, keeps the statistics of their
        configurations, which are not CLIP's; where there is no such file they stay, too, with a warning.

        Args:
            clip (`str`, `os.PathLike` or `PreTrainedModel`): what the model is made of: directory, Hub id, or a model from one.
            kwargs: settings of the image processor; `image_mean` and `image_std` among them win.

        Returns:
            `TCMImageProcessor`

        Raises:
            ValueError: if a setting is wrong.
            OSError: if there is no such directory or Hub id.
        """
        return cls(**{**tower_statistics(clip), **kwargs})

    def save_pretrained(self, save_directory, **kwargs):  # type: ignore[override]  # all else by name
        """
        Saves the settings and the code, see [`~transformers.ImageProcessingMixin.save_pretrained`].

        Args:
            save_directory (`str` or `os.PathLike`): the directory; it is made when it does not exist.
        """
        saved = super().save_pretrained(save_directory, **kwargs)
        save_own_detector(save_directory, self.detector)
        return saved

    def to_dict(self) -> dict[str, Any]:
        """The settings, as they are saved."""
        return {key: value for key, value in super().to_dict().items() if key not in _NO_SETTINGS}

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs):
        if not isinstance(image_processor_dict, dict):
            kind = type(image_processor_dict).__name__
            raise ValueError(
                f"the image processor's file (preprocessor_config.json) must hold an object, got a {kind}"
            )
        check_backend(kwargs.pop("backend", None), kwargs.pop("use_fast", None))
        return super().from_dict(image_processor_dict, **kwargs)

    # ------------------------------------------------------------------ images -> model inputs

    def preprocess(self, images, annotations=None, **kwargs) -> BatchFeature:
        """
        Prepares one image or a list of images, and their annotations. Every argument of the class may be given for
        this call alone.

        Args:
            images: one image or a list of them, see the class.
            annotations (`dict`, [`TextRecord`] or a list of them, *optional*):
                What is in each image, in pixels of the upright image before it is resized; `None` in the list for a
                image without text. Either `{"polygons": [[[x, y], ...], ...], "ignore": [False, ...]}`, as in a
                [`TextRecord`], where `ignore` may be left out and `size` may be the height and width of another frame that
                the points are in; or COCO's `{"image_id": ..., "annotations": [{"segmentation": [[x, y, x, y, ...]],
                "bbox": [x, y, width, height], "iscrowd": 0}, ...]}`, of which the polygons are taken, each part as one
                text, or else the box. Text that is `ignore` or `iscrowd` is neither learned nor punished.
            return_tensors (`str`, *optional*): `"pt"` for torch tensors, `"np"` for NumPy arrays, lists by default.
            input_data_format (`str`, *optional*): `"channels_first"` or `"channels_last"` for arrays.

        Returns:
            `BatchFeature`: `pixel_values`, float32 of shape `(batch, channels, height, width)`, (with `do_pad`)
            `pixel_mask`, int64 of shape `(batch, height, width)`, 1 inside of the image and 0 on padding, and (with
            `annotations`) `labels`, a dict of the maps that [`TCMForTextDetection.forward`] takes for this detector.

        Raises:
            ValueError, OSError: if the list is empty, an image cannot be read (the message names its path or place in
                the list), an argument has a wrong value, or an annotation is wrong.
            TypeError: if there is an unknown argument.
            ImportError: with `annotations`, where this package is not installed: a checkpoint's own code lacks the
                functions that make labels.
        """
        for key in ("detector", "decoding"):
            if key in kwargs:
                raise TypeError(f"{key} belongs to post-processing: pass it when the processor is made or loaded")
        check_settings(kwargs)
        return super().preprocess(images, annotations, **kwargs)

    def target_builder(self, target_settings: dict[str, Any] | None = None) -> Callable[..., dict[str, np.ndarray]]:
        """
        The function that makes the labels of one image: the detector's targets with the settings of the model.

        Args:
            target_settings (`dict`, *optional*, defaults to `self.target_settings`): see the class.

        Returns:
            `Callable`: `builder(polygons, ignore, height, width) -> dict[str, np.ndarray]`.

        Raises:
            ValueError: if the detector declares no targets, or they refuse a setting.
            ImportError: where the targets are in this package and it is not installed.
        """
        changes = self.target_settings if target_settings is None else target_settings
        try:
            return find_detector(self.detector).target_builder(self._detector_config(), changes)
        except ValueError as error:
            raise ValueError(f"target_settings: {error}" if changes else str(error)) from error

    def _detector_config(self) -> dict[str, Any]:
        """The model's settings that stand beside this processor where it was loaded from; targets have to agree with them."""
        if self.config_source is None:
            return {}
        source, hub_arguments = self.config_source
        try:
            config, _ = PreTrainedConfig.get_config_dict(source, **hub_arguments)
        except OSError:  # a processor that was saved alone
            return {}
        return (config.get("detector_config") or {}) if config.get("detector", "db") == self.detector else {}

    def get_resized_size(
        self,
        height: int,
        width: int,
        size: dict[str, int] | None = None,
        do_upscale: bool | None = None,
        max_upscale: float | None = None,
    ) -> tuple[int, int]:
        """
        Size in pixels that an image gets, before padding.

        Args:
            height (`int`): height of the upright image in pixels.
            width (`int`): its width in pixels.
            size (`dict[str, int]`, *optional*, defaults to `self.size`): limits, see the class.
            do_upscale (`bool`, *optional*, defaults to `self.do_upscale`): see the class.
            max_upscale (`float`, *optional*, defaults to `self.max_upscale`): see the class.

        Returns:
            `tuple[int, int]`: height and width, at least 1.

        Raises:
            ValueError: if `size` has other keys or a limit that is not positive.
        """
        return resized_size(
            height,
            width,
            dict(self.size if size is None else size),
            self.do_upscale if do_upscale is None else do_upscale,
            self.max_upscale if max_upscale is None else max_upscale,
        )

    def reduction_warning(self, height: int, width: int, size: dict[str, int] | None = None) -> str | None:
        """
        Tells when an image is reduced so much that its small text gets lost: detectors need about 8 pixels of height.

        That is when less than half of its height and width is left, so that text of 16 pixels is lower than 8 then.

        Args:
            height, width, size: see [`~TCMImageProcessor.get_resized_size`].

        Returns:
            `str`, *optional*: one line that says what to do.
        """
        new_height, new_width = self.get_resized_size(height, width, size)
        scale = min(new_height / height, new_width / width)
        if scale >= MIN_SCALE:
            return None
        return (
            f"{width} x {height} pixels (width x height) are reduced to {new_width} x {new_height} to fit "
            f"size={dict(self.size if size is None else size)}, and text lower than {math.ceil(READABLE_HEIGHT / scale)} pixels "
            "most likely gets lost; pass tile=True (--tile) to read the image in tiles at full resolution, or a larger size "
            "(--size SHORTEST,LONGEST)"
        )

    def _warn_of_reduction(self, name: str, image_size: tuple[int, int], size) -> None:
        """Logs [`~TCMImageProcessor.reduction_warning`]; of images that are not long, of which a folder may be full, once."""
        warning = self.reduction_warning(*image_size, size)
        if warning is None:
            return
        if not _is_long(*image_size):
            if self.has_warned_of_reduction:
                return
            self.has_warned_of_reduction = True
            warning += "; other images like it get no message"
        logger.warning("%s: %s", name, warning)

    def _validate_preprocess_kwargs(  # type: ignore[override]  # by name
        self, do_center_crop=None, size_divisor=None, **kwargs
    ):
        super()._validate_preprocess_kwargs(**kwargs)
        if do_center_crop:
            raise ValueError("do_center_crop is not supported: it would cut text off and shift the polygons")
        if size_divisor is not None and size_divisor < 1:
            raise ValueError(f"size_divisor must be at least 1, got {size_divisor}")

    def _prepare_image_like_inputs(self, images, *args, **kwargs) -> list:
        """Flattens the input to a list of single images. They are decoded later, one at a time, to save memory."""
        if not isinstance(images, list | tuple):
            images = [images]
        flat: list = []
        for image in images:
            if isinstance(image, list | tuple):
                flat.extend(image)
            elif getattr(image, "ndim", None) == 4:
                flat.extend(list(image))
            else:
                flat.append(image)
        if not flat:
            raise ValueError("there are no images: the list is empty; pass at least one image")
        return flat

    def _preprocess(  # type: ignore[override]  # its arguments come by name, all of them
        self, images: list, annotations=None, **settings: Any
    ) -> BatchFeature:
        given = None if annotations is None else read_annotations(annotations, len(images))
        if given is not None and not settings["do_pad"]:
            raise ValueError("annotations need do_pad=True: labels have the common size of the padded images")
        prepared = [self._load_and_resize(source, index, settings) for index, source in enumerate(images)]
        arrays = [picture.array for picture in prepared]
        channels = {array.shape[-1] for array in arrays}
        if len(channels) > 1:
            raise ValueError(f"the images have {sorted(channels)} channels; leave do_convert_rgb on to batch them")
        do_pad, return_tensors = settings["do_pad"], settings["return_tensors"]
        outputs, pixel_mask = self._allocate(
            arrays, channels.pop(), do_pad, settings["pad_size"], settings["size_divisor"]
        )
        for output, picture in zip(outputs, prepared):
            height, width = picture.array.shape[:2]
            normalize(picture.array, settings, output[:height, :width], picture.unit_range)
            output[height:], output[:height, width:] = 0, 0

        # Channels stay last in memory, as images have them and as convolutions are fastest with.
        data: dict[str, Any] = {"pixel_values": [output.transpose(2, 0, 1) for output in outputs]}
        if do_pad:
            data = {"pixel_values": outputs.transpose(0, 3, 1, 2), "pixel_mask": pixel_mask}
        if return_tensors is None:
            data = {key: list(value) for key, value in data.items()}
        features = BatchFeature(data=data, tensor_type=return_tensors)
        if given is not None:
            labels = build_labels(
                given,
                [picture.original_size for picture in prepared],
                [array.shape[:2] for array in arrays],
                outputs.shape[1:3],
                self.target_builder(settings["target_settings"]),
            )
            # A dict of its own kind, so that `to` of the whole moves what is in it.
            features["labels"] = BatchFeature(data=labels, tensor_type=return_tensors)
        return features

    def _load_and_resize(self, source, index: int, settings: dict[str, Any]) -> "_Picture":
        """Reads one image and brings it to its size in the batch."""
        name, max_pixels = describe_source(source, index), settings["max_pixels"]
        image, unit_range = load_any_image(
            source, index=index, input_data_format=settings["input_data_format"], max_pixels=max_pixels
        )
        if settings["do_convert_rgb"]:
            image = convert_to_rgb(image, name=name)
        elif image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ValueError(f"{name} has mode {image.mode}; leave do_convert_rgb on for it")
        original_size = (image.height, image.width)
        if settings["do_resize"]:
            size, do_upscale = settings["size"], settings["do_upscale"]
            height, width = self.get_resized_size(*original_size, size, do_upscale, settings["max_upscale"])
            check_resized_pixels(image.size, (width, height), max_pixels, name)
            _log_size_once(image.size, (width, height), size, do_upscale)
            self._warn_of_reduction(name, original_size, size)
            if (width, height) != image.size:
                image = resize(image, (width, height), settings["resample"], settings["resize_backend"])
        return _Picture(np.atleast_3d(np.asarray(image)), unit_range, original_size)

    def _allocate(self, arrays, channels, do_pad, pad_size, size_divisor):
        """Room for the batch, one array when padded, and the mask of the pixels that belong to an image."""
        if not do_pad:
            return [np.empty(array.shape, dtype=np.float32) for array in arrays], None
        height, width = (max(array.shape[axis] for array in arrays) for axis in (0, 1))
        if pad_size:
            if not (pad_size.height and pad_size.width) or pad_size.height < height or pad_size.width < width:
                raise ValueError(
                    f"pad_size must have 'height' and 'width' of at least {height} and {width} pixels, got "
                    f"{dict(pad_size)}"
                )
            height, width = pad_size.height, pad_size.width
        else:
            divisor = size_divisor or 1
            height, width = (-(-side // divisor) * divisor for side in (height, width))
        mask = np.zeros((len(arrays), height, width), dtype=np.int64)
        for index, array in enumerate(arrays):
            mask[index, : array.shape[0], : array.shape[1]] = 1
        return np.empty((len(arrays), height, width, channels), dtype=np.float32), mask

    # ------------------------------------------------------------------ model outputs -> polygons

    def decoding_arguments(self, **overrides) -> dict[str, Any]:
        """
        Arguments of post-processing in force: the detector's defaults, changed by `self.decoding` and by `overrides`.

        Args:
            overrides: arguments of [`~TCMImageProcessor.post_process_text_detection`]; `None` keeps the default.

        Returns:
            `dict[str, Any]`: all arguments that the detector knows.

        Raises:
            ValueError: if the detector has no decoder here, or a value is out of range.
            TypeError: if the detector does not know an argument.
        """
        changes = {"decoding": self.decoding or {}, "post-processing": overrides}
        return decoding_arguments(self.detector, find_detector(self.detector).part("decoder"), changes)

    def post_process_text_detection(
        self,
        outputs,
        target_sizes: list[tuple[int, int]] | torch.Tensor | None = None,
        *,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        unclip_ratio: float | None = None,
        min_size: float | None = None,
        max_candidates: int | None = None,
        epsilon_ratio: float | None = None,
        shape: str | None = None,
        reading_order: bool = False,
        **detector_arguments,
    ) -> list[dict[str, Any]]:
        """
        Finds the text polygons in the outputs of [`TCMForTextDetection`].

        Arguments that are `None` take the value of `self.decoding`. They are those of the DB detector; others have
        their own, to be given by name.

        Args:
            outputs ([`TCMTextDetectionOutput`] or `dict`):
                With `logits` of shape `(batch, channels, height, width)` in any floating dtype, or a tuple of them for
                a detector of several levels, and `image_sizes` of shape `(batch, 2)`: height and width of each image
                in `pixel_values` without padding. When `image_sizes` is `None` or absent, nothing is taken as padding.
            target_sizes (`torch.Tensor` of shape `(batch, 2)` or `list[tuple[int, int]]`, *optional*):
                Height and width in pixels of the original, upright images; the results are in their pixels. By
                default the results are in the pixels of `pixel_values`.
            threshold (`float`, *optional*):
                Texts with a lower score are dropped.
            mask_threshold (`float`, *optional*):
                Probability above which a pixel belongs to a text kernel.
            unclip_ratio (`float`, *optional*):
                How far a kernel is expanded to the full text: distance = area * ratio / perimeter.
            min_size (`float`, *optional*):
                Texts with a shorter side, in pixels of the map, are dropped.
            max_candidates (`int`, *optional*):
                At most this many texts of each image, with a warning when there are more.
            epsilon_ratio (`float`, *optional*):
                Tolerance of the contour's simplification, as a fraction of its length.
            shape (`str`, *optional*):
                `"auto"` (the default of all detectors), `"polygon"`, `"quad"` (four corners) or `"box"` (upright
                rectangles). With `"auto"` a straight text is a quadrilateral of its contour's area, and a bent one its
                upper edge and then its lower one from the reading start, in an even number of points, at most 16; see
                [`~outlines.neat_outline`]. A polygon is the raw contour. A quad is the smallest rotated rectangle around
                the text; where it reaches over the border of the image, each corner outside is moved onto the border by
                itself, so that four corners remain, though not those of a rectangle.
            reading_order (`bool`, *optional*, defaults to `False`):
                Whether to sort the texts as they are read.
            detector_arguments:
                What only this detector's decoder knows, such as `seed_threshold` of DB; see [`~decoding_db.decode_db`],
                [`~decoding_pan.decode_pan`] and [`~decoding_fce.decode_fce`].

        Returns:
            `list[dict]`: for each image `polygons` (`list` of float32 `np.ndarray` of shape `(n, 2)`, x to the right
            and y downwards, clockwise from the top left, inside of the image), `scores` (float32 tensor of shape
            `(N,)`), `labels` (int64 tensor of shape `(N,)`, all 0) and `boxes` (float32 tensor of shape `(N, 4)`: left,
            top, right, bottom).

        Raises:
            ValueError: if the numbers of images differ, a value is out of range, or the logits are not finite.
            TypeError: if the detector does not know an argument.
        """
        arguments = self.decoding_arguments(
            threshold=threshold,
            mask_threshold=mask_threshold,
            unclip_ratio=unclip_ratio,
            min_size=min_size,
            max_candidates=max_candidates,
            epsilon_ratio=epsilon_ratio,
            shape=shape,
            **detector_arguments,
        )
        decoder = find_detector(self.detector).part("decoder")
        results = decode_outputs(decoder, outputs, target_sizes, arguments, reading_order)
        return [
            {**result, **{key: torch.from_numpy(result[key]) for key in ("scores", "labels", "boxes")}}
            for result in results
        ]

    def post_process_object_detection(
        self,
        outputs,
        threshold: float = 0.5,
        target_sizes: list[tuple[int, int]] | torch.Tensor | None = None,
        **decoding_arguments,
    ) -> list[dict[str, torch.Tensor]]:
        """
        Finds the upright boxes of texts, in the form that transformers' object detection tools expect.

        Args:
            outputs ([`TCMTextDetectionOutput`]): see [`~TCMImageProcessor.post_process_text_detection`].
            threshold (`float`, *optional*, defaults to 0.5): texts with a lower score are dropped.
            target_sizes (`torch.Tensor` or `list[tuple[int, int]]`, *optional*): height and width of each image.
            decoding_arguments:
                All others of [`~TCMImageProcessor.post_process_text_detection`], such as `mask_threshold`, `unclip_ratio`
                or `reading_order`.

        Returns:
            `list[dict[str, torch.Tensor]]`: for each image `scores`, `labels` and `boxes` (left, top, right, bottom), on
            the device of the outputs' logits.

        Raises:
            ValueError: if the numbers of images differ, a value is out of range, or the logits are not finite.
            TypeError: if the detector does not know an argument.
        """
        decoder = find_detector(self.detector).part("decoder")
        # A decoder without a threshold gives all that it finds.
        given: dict[str, Any] = {"threshold": threshold} if "threshold" in self.decoding_arguments() else {}
        results = self.post_process_text_detection(outputs, target_sizes, **given, **decoding_arguments)
        device = as_levels(outputs, decoder)[0][0].device
        if not given:
            results = [
                {key: result[key][result["scores"] >= threshold] for key in ("scores", "labels", "boxes")}
                for result in results
            ]
        return [{key: result[key].to(device) for key in ("scores", "labels", "boxes")} for result in results]


__all__ = ["TCMImageProcessor", "TCMImageProcessorKwargs", "register_decoder"]
