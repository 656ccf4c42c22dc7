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
"""Reads one picture, whatever it comes as, into an upright 8-bit PIL image."""

import base64
import binascii
import io
import math
import os
import time

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


ORIENTATION_TAG = 0x0112
CHANNEL_COUNTS = (1, 2, 3, 4)  # gray; gray and alpha; RGB; RGBA
MAX_DOWNLOAD_BYTES = 256 * 2**20
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def describe_source(source, index: int | None = None) -> str:
    """Short name of a picture for messages: its path or address when it has one, otherwise its place in the list."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        return repr(text if len(text) <= 200 else text[:60] + "...")
    return "image" if index is None else f"image {index}"


def load_rgb_image(
    source, *, index: int | None = None, input_data_format: str | None = None, timeout: float | None = 60.0
) -> Image.Image:
    """
    Reads a picture as an upright RGB image of 8 bits per channel.

    Args:
        source (`str`, `os.PathLike`, `bytes`, file object, `PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            A path, an `http(s)://` address, a `data:image/...` URI, base64 text, the bytes of an image file, or the
            picture itself. EXIF orientation is applied. Of an animation or a multi-page file the first frame is read
            (of a PIL image, its current frame). Transparency is composited on white. Samples of 16 bits are scaled to
            8. Arrays have the shape `(height, width)`, `(height, width, channels)` or `(channels, height, width)` with
            1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA) channels. Float arrays hold values in 0..1, or in 0..255
            when any value is above 1; integer arrays hold 0..255, or 0..65535 when any value is above 255.
        index (`int`, *optional*):
            Place of the picture in the caller's list, for messages.
        input_data_format (`str`, *optional*):
            `"channels_first"` or `"channels_last"` for arrays. By default it is found from the shape; when both ends
            could be channels, NumPy arrays are taken as channels-last and torch tensors as channels-first.
        timeout (`float`, *optional*, defaults to 60.0):
            Seconds that a download may take, `None` for no limit. It may have 256 MiB at most.

    Returns:
        `PIL.Image.Image`: in mode RGB, decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if the file cannot be read or downloaded, is no image, or is damaged.
        ValueError: if the values are not those of an image (NaN, out of range, no pixels, too many pixels).
        TypeError: if the source is of another type.
    """
    image, _ = load_any_image(source, index=index, input_data_format=input_data_format, timeout=timeout)
    return convert_to_rgb(image, name=describe_source(source, index))


def load_any_image(
    source, *, index: int | None = None, input_data_format: str | None = None, timeout: float | None = 60.0
) -> tuple[Image.Image, bool]:
    """
    Like [`load_rgb_image`], but keeps the channels of the picture.

    Returns:
        `tuple[PIL.Image.Image, bool]`: the upright picture with 8 bits per channel, and whether it came as an array of
        floats in 0..1.
    """
    name = describe_source(source, index)
    if isinstance(source, Image.Image):
        image = _decode(source, name)
    elif isinstance(source, np.ndarray):
        return _array_to_image(source, name, input_data_format, ambiguous="channels_last")
    elif hasattr(source, "detach") and hasattr(source, "cpu"):  # a torch tensor, without importing torch
        tensor = source.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return _array_to_image(array, name, input_data_format, ambiguous="channels_first")
    elif isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read"):
        with _open(source, name, timeout) as file:
            image = _decode(file, name)
    else:
        raise TypeError(
            f"{name}: cannot read a picture from {type(source).__name__}; pass a path, an http(s) address, the bytes of "
            "an image file, a PIL image, a NumPy array or a torch tensor"
        )
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16, copy=False) >> 8).astype(np.uint8)), False
    if image.mode in ("I", "F"):
        return _array_to_image(np.asarray(image), name, None, ambiguous="channels_last")
    return image, False


def convert_to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Converts a PIL image of 8 bits per channel to RGB; transparent parts become white."""
    has_alpha = image.mode in ALPHA_MODES or "transparency" in image.info
    if image.mode == "RGB" and not has_alpha:
        return image
    try:
        if has_alpha:
            image = image.convert("RGBA")
            canvas = Image.new("RGB", image.size, (255, 255, 255))
            canvas.paste(image, mask=image.getchannel("A"))
            return canvas
        return image.convert("RGB")
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: cannot convert mode {image.mode} to RGB ({error}); convert it first") from error


def _open(source, name: str, timeout: float | None) -> Image.Image:
    """Opens an image file from a path, address, base64 text, bytes or file object, without decoding its pixels."""
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str):
        if source.startswith(("http://", "https://")):
            source = _download(source, name, timeout)
        elif os.path.isdir(source):
            raise IsADirectoryError(f"{name} is a directory; pass the image files inside of it")
        elif not os.path.exists(source):
            source = io.BytesIO(_decode_base64(source, name))
    elif isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    try:
        return Image.open(source)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except UnidentifiedImageError as error:
        raise OSError(f"{name} is not an image that Pillow can read, or it is empty or damaged") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise SyntaxError, struct.error, EOFError and more on damaged headers
        raise OSError(f"{name} cannot be read ({error}); check the file and its permissions") from error


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Decodes the pixels of an opened image and turns it upright."""
    if 0 in image.size:
        raise ValueError(f"{name} has no pixels (width x height = {image.width} x {image.height}); drop it")
    try:
        image.load()
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except MemoryError:
        raise
    except Exception as error:  # see _open
        raise OSError(f"{name} is truncated or damaged ({error}); get a complete copy of the file") from error
    try:
        upright = image.getexif().get(ORIENTATION_TAG, 1) not in range(2, 9)
        return image if upright else ImageOps.exif_transpose(image)
    except Exception:  # broken metadata does not make the pixels unreadable
        return image


def _too_many_pixels(name: str) -> ValueError:
    limit = 2 * Image.MAX_IMAGE_PIXELS / 1e6 if Image.MAX_IMAGE_PIXELS else math.inf
    return ValueError(
        f"{name} has more than {limit:.0f} million pixels, which may be a decompression bomb; make it smaller, or raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )


def _download(url: str, name: str, timeout: float | None) -> io.BytesIO:
    from huggingface_hub.utils import httpx  # the HTTP client that huggingface_hub itself uses

    deadline = math.inf if timeout is None else time.monotonic() + timeout
    content = io.BytesIO()
    try:
        with httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content.write(chunk)
                if content.tell() > MAX_DOWNLOAD_BYTES:
                    raise OSError(
                        f"{name} has more than {MAX_DOWNLOAD_BYTES / 2**20:g} MiB; download it yourself and pass the file"
                    )
                if time.monotonic() > deadline:  # httpx limits each wait for data, but not their sum
                    raise TimeoutError(f"{name} takes longer than {timeout:g} seconds to download; raise `timeout`")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise OSError(f"{name} cannot be downloaded ({reason}); check the address and the connection") from error
    content.seek(0)
    return content


def _decode_base64(text: str, name: str) -> bytes:
    """Bytes of a `data:` URI or of base64 text; anything else is taken as the name of a missing file."""
    payload = text.partition(",")[2] if text.startswith("data:image/") else text
    try:
        data = base64.b64decode(payload, validate=True)
        Image.open(io.BytesIO(data)).close()
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except (binascii.Error, ValueError, OSError) as error:
        if text.startswith("data:image/"):
            raise OSError(f"{name} does not hold a base64-encoded image ({error})") from error
        raise FileNotFoundError(f"{name}: no such file; check the path") from error
    return data


def _array_to_image(
    array: np.ndarray, name: str, input_data_format: str | None, ambiguous: str
) -> tuple[Image.Image, bool]:
    """Converts an array to a PIL image; the second value tells whether it held floats in 0..1."""
    if array.size == 0:
        raise ValueError(f"{name} has no pixels (shape {array.shape}); drop it")
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim != 3:
        raise ValueError(f"{name} has shape {array.shape}; expected 2 or 3 dimensions for one picture")
    else:
        layout = _channel_layout(array.shape, name, input_data_format, ambiguous)
        array = np.moveaxis(array, 0, -1) if layout == "channels_first" else array
    array, unit_range = _to_uint8(array, name)
    channels = array.shape[-1]
    array = array[..., 0] if channels == 1 else array
    return Image.fromarray(np.ascontiguousarray(array)), unit_range


def _channel_layout(shape: tuple[int, ...], name: str, input_data_format, ambiguous: str) -> str:
    if input_data_format is not None:
        layout = str(getattr(input_data_format, "value", input_data_format))
        channels = {"channels_first": shape[0], "channels_last": shape[-1]}.get(layout)
        if channels not in CHANNEL_COUNTS:
            raise ValueError(f"{name} has shape {shape}, which is no picture in the layout {layout!r}")
        return layout
    # Two channels (gray, alpha) are so rare that they count only when no other reading is possible.
    for counts in ((1, 3, 4), (2,)):
        first, last = shape[0] in counts, shape[-1] in counts
        if first and last:
            return ambiguous
        if first or last:
            return "channels_first" if first else "channels_last"
    raise ValueError(f"{name} has shape {shape}: neither its first nor its last dimension is 1, 2, 3 or 4 channels")


def _to_uint8(array: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    if array.dtype == np.uint8:
        return array, False
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255, False
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} has values of type {array.dtype}; expected integers, floats or booleans")
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} holds NaN or infinite pixel values; replace them before detection")
    is_float = array.dtype.kind == "f"
    if low < 0 or high > (255 if is_float else 65535):
        expected = "0..1 or 0..255" if is_float else "0..255 or 0..65535"
        raise ValueError(
            f"{name} has {array.dtype} values from {low:g} to {high:g}; expected {expected}: pass it before normalization"
        )
    if not is_float:
        return (array >> 8 if high > 255 else array).astype(np.uint8), False
    unit_range = high <= 1
    # float32 throughout: a float64 copy of a large photo is what would cost memory.
    scaled = np.multiply(array, 255.0 if unit_range else 1.0, dtype=np.float32, casting="same_kind")
    return np.rint(scaled, out=scaled).astype(np.uint8), unit_range
