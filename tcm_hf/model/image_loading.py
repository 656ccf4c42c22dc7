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
"""Reads one image, whatever it comes as, into an upright 8-bit PIL image."""

import base64
import binascii
import io
import math
import numbers
import os
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError


ORIENTATION_TAG = 0x0112
# What every command takes for an image by its name; without case.
IMAGE_SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .tif .tiff .webp .gif .avif .jp2 .j2k .jpx .jpf .pbm .pgm .ppm .pnm".split()
)
# Of files that lie beside images and are not meant as such.
_COMPANION_SUFFIXES = frozenset(
    ".txt .json .jsonl .xml .mat .csv .tsv .parquet .arrow .yaml .yml .md .rst .html .pdf .py .sh .lock".split()
)
CHANNEL_COUNTS = (1, 2, 3, 4)  # gray; gray and alpha; RGB; RGBA
# 8192 x 6144, a phone's 50 megapixels. The hungriest format (JPEG 2000) takes 25 bytes for each while it is decoded.
DEFAULT_MAX_PIXELS = 50_331_648
START_OF_SCAN, MAX_SCANS = b"\xff\xda", 100  # encoders make about 10
MAX_SIDE = 2**20  # rows take memory by themselves, and lines of pixels are no images
MAX_FILE_BYTES = 512 * 2**20  # some decoders read the whole file
MAX_DOWNLOAD_BYTES = 256 * 2**20
MAX_REDIRECTS = 10
# What the values of the EXIF tag ask for, and where Pillow keeps it.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# Pillow hands EPS files to the program Ghostscript, which runs what is written in them. The others are stubs or drawings.
REFUSED_FORMATS = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"))
# Arrays may leave their range by this share of it: bicubic resizing does that, around sharp edges by up to 0.45.
OVERSHOOT = 0.5
# An image whose brightest value is below this share of white was most likely meant in another range.
DARKEST_WHITE = 1 / 16
BAND_VALUES = 2**22  # arrays are converted piece by piece: a float copy of a large image is what would cost memory


class ImageReadError(OSError, ValueError):
    """An image that cannot be read or is refused. The message names it, the reason and the remedy, in one line."""


def describe_source(source, index: int | None = None) -> str:
    """Short name of an image for messages: its path or address when it has one, otherwise its place in the list."""
    if isinstance(source, Image.Image):
        source = getattr(source, "filename", None) or source
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        return repr(text if len(text) <= 200 else text[:60] + "...")
    return "image" if index is None else f"image {index}"


def load_rgb_image(
    source,
    *,
    index: int | None = None,
    input_data_format: str | None = None,
    timeout: float | None = 60.0,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    name: str | None = None,
) -> Image.Image:
    """
    Reads an image as an upright RGB image of 8 bits per channel.

    Args:
        source (`str`, `os.PathLike`, `bytes`, file object, `PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            A path, an `http(s)://` address, a `data:image/...` URI, base64 text, the bytes of an image file, or the
            image itself. EXIF orientation is applied. Of an animation or a multi-page file the first frame is read
            (of a PIL image, its current frame). Transparency is composited as [`convert_to_rgb`] does. Samples of 16
            bits are scaled to 8. Arrays have the shape `(height, width)`, `(height, width, channels)` or
            `(channels, height, width)` with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA) channels. Integer arrays
            hold 0..255 or 0..65535, float arrays also 0..1; what is outside of the smaller range by
            at most half of the range, as after bicubic resizing, is clamped.
        index (`int`, *optional*):
            Place of the image in the caller's list, for messages.
        input_data_format (`str`, *optional*):
            `"channels_first"` or `"channels_last"` for arrays. By default it is found from the shape; when both ends
            could be channels, NumPy arrays are taken as channels-last and torch tensors as channels-first.
        timeout (`float`, *optional*, defaults to 60.0):
            Seconds that a download may take in all, `None` for no limit. It may have 256 MiB at most.
        max_pixels (`int`, *optional*, defaults to 50331648):
            Largest width times height, by the header, before anything is decoded; `None` for no limit but Pillow's own
            (`PIL.Image.MAX_IMAGE_PIXELS`). With a limit, no side may be longer than 1,048,576 pixels.
        name (`str`, *optional*):
            What messages call it; by default its path or address, or its place in the list.

    Returns:
        `PIL.Image.Image`: in mode RGB, decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        ImageReadError: (an `OSError` and a `ValueError`) if the image cannot be read or downloaded, is none, is
            damaged or too large, or its values are not those of an image.
        TypeError: if the source is of another type.
    """
    name = describe_source(source, index) if name is None else name
    image, _ = load_any_image(
        source, input_data_format=input_data_format, timeout=timeout, max_pixels=max_pixels, name=name
    )
    rgb = convert_to_rgb(image, name=name)
    if rgb is not source and isinstance(source, str | os.PathLike) and len(name) <= 202:
        # As Pillow does when it opens a file itself, so that later messages name it, too.
        rgb.filename = os.fsdecode(source)  # type: ignore[attr-defined]  # of opened images only, as Pillow has it
    return rgb


def load_any_image(
    source,
    *,
    index: int | None = None,
    input_data_format: str | None = None,
    timeout: float | None = 60.0,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    name: str | None = None,
) -> tuple[Image.Image, bool]:
    """
    Like [`load_rgb_image`], but keeps the channels of the image.

    Returns:
        `tuple[PIL.Image.Image, bool]`: the upright image with 8 bits per channel, and whether it came as an array of
        floats in 0..1.
    """
    name = describe_source(source, index) if name is None else name
    is_tensor = hasattr(source, "detach") and hasattr(source, "cpu")  # of torch, without importing it
    if not (
        is_tensor
        or isinstance(source, Image.Image | np.ndarray | str | os.PathLike | bytes | bytearray | memoryview)
        or hasattr(source, "read")
    ):
        raise TypeError(
            f"{name}: cannot read an image from {type(source).__name__}; pass a path, an http(s) address, the bytes of "
            "an image file, a PIL image, a NumPy array or a torch tensor"
        )
    with _reading(name):
        if is_tensor:
            array = _tensor_to_array(source)
            return _array_to_image(array, name, input_data_format, "channels_first", max_pixels)
        if isinstance(source, np.ndarray):
            return _array_to_image(source, name, input_data_format, "channels_last", max_pixels)
        if isinstance(source, Image.Image):
            image = _decode(source, name, max_pixels)
        else:
            with open_image(fetch_source(source, name, timeout), name=name, max_pixels=max_pixels) as file:
                image = _decode(file, name, max_pixels)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image, _ = _array_to_image(np.asarray(image), name, None, "channels_last", None)
        return image, False


def open_image(source, *, name: str | None = None, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Image.Image:
    """
    Opens an image file and reads its header; [`decode_image`] reads its pixels. Every file of a user should be opened by
    these two, since Pillow's decoders raise errors of any kind and take any amount of memory.

    Args:
        source (`str`, `os.PathLike`, `bytes` or file object): a path or the content; text is never taken as an address.
        name (`str`, *optional*): for messages; found from the source by default.
        max_pixels (`int`, *optional*, defaults to 50331648): see [`load_rgb_image`].

    Returns:
        `PIL.Image.Image`: not decoded; use it as a context manager, which closes the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ImageReadError: if it cannot be read, is no image, or is too large.
    """
    name = describe_source(source) if name is None else name
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    with _reading(name):
        if isinstance(source, str | os.PathLike):
            if os.path.isdir(source):
                raise ImageReadError(f"{name} is a directory; pass the image files inside of it")
            if os.path.isfile(source):
                if os.path.getsize(source) > MAX_FILE_BYTES:
                    raise _too_many_bytes(name, MAX_FILE_BYTES)
            elif os.path.exists(source):  # a pipe or a device, which may never end
                with open(source, "rb") as file:
                    source = _read_limited(file, name)
            else:
                raise FileNotFoundError(f"{name}: no such file; check the path")
        elif not hasattr(source, "seek"):
            source = _read_limited(source, name)
        try:
            with _without_warnings():
                image = Image.open(source, formats=_formats())
        except UnidentifiedImageError as error:
            reason = "is not an image that Pillow can read, or it is empty or damaged"
            raise ImageReadError(f"{name} {reason}; save it as PNG or JPEG") from error
        try:
            _check_size(image.size, name, max_pixels)
        except ImageReadError:
            image.close()
            raise
        return image


def decode_image(
    image: Image.Image, *, name: str | None = None, max_pixels: int | None = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """
    Decodes the pixels of an opened image and turns it upright.

    Args:
        image (`PIL.Image.Image`): an image of [`open_image`] or `PIL.Image.open`.
        name (`str`, *optional*): for messages; found from the image by default.
        max_pixels (`int`, *optional*, defaults to 50331648): see [`load_rgb_image`].

    Returns:
        `PIL.Image.Image`: decoded, in its own mode; the same object unless it had to be turned.

    Raises:
        ImageReadError: if it has no pixels, too many, or is damaged.
    """
    name = describe_source(image) if name is None else name
    with _reading(name):
        return _decode(image, name, max_pixels)


def convert_to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """
    Converts a PIL image of 8 bits per channel to RGB.

    Transparent parts get the shade, of white, black and grays, that differs most from what borders on them: letters of
    any color on a transparent background stay visible. White is taken unless another one is clearly better.

    Args:
        image (`PIL.Image.Image`): the image.
        name (`str`, *optional*, defaults to `"image"`): for messages.

    Returns:
        `PIL.Image.Image`: in mode RGB; the same object if it needs no conversion.

    Raises:
        ImageReadError: if its mode cannot be converted.
    """
    has_alpha = image.mode in ALPHA_MODES or "transparency" in image.info
    if image.mode == "RGB" and not has_alpha:
        return image
    with _reading(name, f"cannot be converted from mode {image.mode} to RGB", "convert it first"):
        if image.mode == "La":  # Pillow turns it into no other mode
            image = image.convert("LA")
        if not has_alpha:
            return image.convert("RGB")
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema()[0] == 255:
            return image.convert("RGB")
        shade = _background_shade(image, alpha)
        canvas = Image.new("RGB", image.size, (shade, shade, shade))
        canvas.paste(image, mask=alpha)
        return canvas


def _background_shade(image: Image.Image, alpha: Image.Image) -> int:
    """The gray level for transparent parts of an RGBA image, see [`convert_to_rgb`]."""
    levels = np.asarray(alpha)
    opaque = levels >= max(int(levels.max()) / 2, 1)
    outside = ~opaque
    border = np.zeros_like(opaque)
    border[1:] |= outside[:-1]
    border[:-1] |= outside[1:]
    border[:, 1:] |= outside[:, :-1]
    border[:, :-1] |= outside[:, 1:]
    border &= opaque
    del outside
    # Where nothing borders on transparency, as in an image that is half transparent everywhere, all that is visible.
    mask = Image.fromarray(border if border.any() else opaque).convert("L")
    counts = np.array(image.convert("L").histogram(mask), dtype=np.float64)
    if not counts.any():
        return 255
    shades = (255, 0, 128, 64, 192)
    # Beyond 96 levels, more contrast shows no more.
    contrasts = [counts @ np.minimum(np.abs(np.arange(256) - shade), 96) for shade in shades]
    contrasts[0] *= 1.1  # white, as on paper, unless another one is clearly better
    return shades[int(np.argmax(contrasts))]


@contextmanager
def _reading(name: str, problem: str = "cannot be read", remedy: str = "get a complete copy of it") -> Iterator[None]:
    """
    Turns whatever a decoder raises into an [`ImageReadError`] of one line.

    Decoders raise SyntaxError, struct.error, EOFError, KeyError, zlib.error and more on damaged files, and MemoryError
    on sizes that are made up; hence all of `Exception`.
    """
    try:
        yield
    except (ImageReadError, FileNotFoundError):
        raise
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)
        raise ImageReadError(
            f"{name} has more than {limit:.0f} pixels, the limit of Pillow; make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except MemoryError as error:
        raise ImageReadError(f"{name} {problem} (there is not enough memory); make it smaller") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        if getattr(error, "errno", None):
            remedy = "check the file and its permissions"
        raise ImageReadError(f"{name} {problem} ({reason}); {remedy}") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns of large images, which have a limit of their own here, and of metadata that nobody reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.ID if name not in REFUSED_FORMATS]


def _check_size(size: tuple[int, int], name: str, max_pixels: int | None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageReadError(f"{name} has no pixels (width x height = {width} x {height}); drop it")
    if max_pixels is not None and max(width, height) > MAX_SIDE:
        raise ImageReadError(
            f"{name} has {width} x {height} pixels (width x height), more than {MAX_SIDE} on a side; cut it into pieces"
        )
    if max_pixels is not None and width * height > max_pixels:
        raise ImageReadError(
            f"{name} has {width} x {height} pixels (width x height), more than max_pixels={max_pixels}; make it smaller, "
            "or raise max_pixels if there is memory for it"
        )


def _decode(image: Image.Image, name: str, max_pixels: int | None) -> Image.Image:
    """Decodes the pixels of an opened image and turns it upright."""
    _check_size(image.size, name, max_pixels)
    with _reading(name, "is truncated or damaged"), _without_warnings():
        file = getattr(image, "fp", None)
        if image.info.get("progressive") and file is not None:
            _check_scans(file, name)
        image.load()
    _check_size(image.size, name, max_pixels)  # icons tell another size than the image inside of them has
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken metadata does not make the pixels unreadable
        turn = None
    if turn is None:
        return image
    image = image.transpose(turn)
    for key in ORIENTATION_KEYS:  # or it would be turned again when it is read again
        image.info.pop(key, None)
    return image


def _check_scans(file, name: str) -> None:
    """Every scan of a progressive JPEG goes over the whole image, so that thousands of empty ones take hours."""
    position, scans, last = file.tell(), 0, b""
    file.seek(0)
    while part := file.read(2**20):
        scans += (last + part).count(START_OF_SCAN)
        last = part[-1:]
    file.seek(position)
    if scans > MAX_SCANS:
        raise ImageReadError(f"{name} has {scans} scans, more than {MAX_SCANS} of a progressive JPEG; save it anew")


def _read_limited(file, name: str) -> io.BytesIO:
    """The content of a file object that may never end."""
    content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise _too_many_bytes(name, MAX_FILE_BYTES)
    return io.BytesIO(content)


def _too_many_bytes(name: str, limit: int) -> ImageReadError:
    return ImageReadError(f"{name} has more than {limit / 2**20:g} MiB; make it smaller, or pass it decoded")


def fetch_source(source, name: str, timeout: float | None = 60.0):
    """
    The path, content or file object that a source stands for: an address is downloaded, base64 text decoded.

    Args:
        source (`str`, `os.PathLike`, `bytes` or file object): See [`load_rgb_image`].
        name (`str`): for messages.
        timeout (`float`, *optional*, defaults to 60.0): Seconds that a download may take in all, `None` for no limit.

    Raises:
        FileNotFoundError: if there is no such file.
        ImageReadError: if it cannot be downloaded.
    """
    if isinstance(source, os.PathLike):
        source = os.fsdecode(source)
    if not isinstance(source, str):
        return source
    if source[:8].lower().startswith(("http://", "https://")):
        return _download(source, name, timeout)
    return source if os.path.exists(source) else _decode_base64(source, name)


def _decode_base64(text: str, name: str) -> bytes:
    """Bytes of a `data:` URI or of base64 text; anything else is taken as the name of a missing file."""
    is_uri = text.startswith("data:image/")
    try:
        data = base64.b64decode(text.partition(",")[2] if is_uri else text, validate=True)
        if not is_uri:  # a name such as "image" is base64, too
            open_image(data, max_pixels=None).close()
        return data
    except (binascii.Error, ValueError) as error:
        if is_uri:
            raise ImageReadError(f"{name} does not hold a base64-encoded image ({error})") from error
        raise FileNotFoundError(f"{name}: no such file; check the path") from error


def _download(url: str, name: str, timeout: float | None) -> bytes:
    """
    Downloads within one deadline.

    It runs in a thread of its own, since looking a name up cannot be limited, and the HTTP client limits each wait for
    data, but not their sum: a server that sends a byte of its headers now and then would hold it for hours.
    """
    if timeout is not None and not (isinstance(timeout, numbers.Real) and timeout > 0):
        raise ImageReadError(f"{name}: timeout must be a positive number of seconds, or None, got {timeout!r}")
    if timeout is not None and timeout > threading.TIMEOUT_MAX:
        timeout = None
    outcome: list[bytes | Exception] = []
    streams: list[Any] = []
    stopped = threading.Event()

    def run() -> None:
        try:
            outcome.append(_transfer(url, name, timeout, streams, stopped))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="tcm_hf download", daemon=True)
    thread.start()
    try:
        thread.join(timeout)
    finally:
        expired = thread.is_alive()
        stopped.set()
        for stream in list(streams) if expired else ():
            with suppress(Exception):  # it may be closed at this very moment
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    if expired:  # whatever it ends with now
        raise ImageReadError(f"{name} takes longer than {timeout:g} seconds to download; raise timeout")
    if isinstance(outcome[0], ImageReadError):
        raise outcome[0]
    if isinstance(outcome[0], Exception):
        reason = " ".join(str(outcome[0]).split()) or type(outcome[0]).__name__
        raise ImageReadError(
            f"{name} cannot be downloaded ({reason}); check the address and the connection"
        ) from outcome[0]
    return outcome[0]


def _transfer(url: str, name: str, timeout: float | None, streams: list, stopped: threading.Event) -> bytes:
    from huggingface_hub.utils import httpx  # the HTTP client that huggingface_hub itself uses

    def trace(event: str, details: dict) -> None:
        if stopped.is_set():
            raise TimeoutError
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            streams.append(details["return_value"])

    content = io.BytesIO()
    with (
        # Redirections lead to other http(s) addresses only: the client knows no other scheme.
        # Its own limit is for what can't be shut down from outside, such as a connection that is being made.
        httpx.Client(
            timeout=None if timeout is None else timeout + 1, follow_redirects=True, max_redirects=MAX_REDIRECTS
        ) as client,
        # Not compressed, since a small answer could become a huge one.
        client.stream("GET", url, headers={"Accept-Encoding": "identity"}, extensions={"trace": trace}) as response,
    ):
        response.raise_for_status()
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ImageReadError(
                f"{name} comes compressed ({encoding}) unasked; download it yourself and pass the file"
            )
        for chunk in response.iter_raw():
            content.write(chunk)
            if content.tell() > MAX_DOWNLOAD_BYTES:
                limit = MAX_DOWNLOAD_BYTES / 2**20
                raise ImageReadError(f"{name} has more than {limit:g} MiB; download it yourself and pass the file")
            if stopped.is_set():
                raise TimeoutError
    return content.getvalue()


def _tensor_to_array(tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:
        # NumPy lacks bfloat16 and the floats of 8 bits. Half precision has the digits for them and half the memory of
        # float32; what is too large for it becomes infinite and is refused as such.
        return tensor.half().numpy()


def _array_to_image(
    array: np.ndarray, name: str, input_data_format: str | None, ambiguous: str, max_pixels: int | None
) -> tuple[Image.Image, bool]:
    """Converts an array to a PIL image; the second value tells whether it held floats in 0..1."""
    if array.size == 0:
        raise ImageReadError(f"{name} has no pixels (shape {array.shape}); drop it")
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim != 3:
        raise ImageReadError(f"{name} has shape {array.shape}; expected 2 or 3 dimensions for one image")
    else:
        layout = _channel_layout(array.shape, name, input_data_format, ambiguous)
        array = np.moveaxis(array, 0, -1) if layout == "channels_first" else array
    _check_size((array.shape[1], array.shape[0]), name, max_pixels)
    array, unit_range = _to_uint8(array, name)
    channels = array.shape[-1]
    array = array[..., 0] if channels == 1 else array
    return Image.fromarray(np.ascontiguousarray(array)), unit_range


def count_passed_over(folders: Iterable[str | os.PathLike]) -> dict[str, int]:
    """
    Counts the files of folders, and below, that no command reads because of their suffix.

    Args:
        folders (`Iterable[str]`): The folders; what is no folder is left out. Hidden files, annotations and documents do not
            count.

    Returns:
        `dict[str, int]`: number of files by suffix, the most frequent first.
    """
    counts: Counter = Counter()
    seen = set()
    for root in folders:
        for folder, below, names in os.walk(os.fspath(root)):
            below[:] = [name for name in below if not name.startswith((".", "__MACOSX"))]
            if (place := os.path.realpath(folder)) in seen:
                continue
            seen.add(place)
            suffixes = [os.path.splitext(name)[1].lower() for name in names if not name.startswith(".")]
            counts.update(suffix for suffix in suffixes if suffix not in _COMPANION_SUFFIXES)
    return {suffix: count for suffix, count in counts.most_common() if suffix not in IMAGE_SUFFIXES}


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """One line on what [`count_passed_over`] found."""
    named = ", ".join(f"{suffix or 'no suffix'}: {count}" for suffix, count in counts.items())
    total = sum(counts.values())
    return (
        f"{total} file{' was' if total == 1 else 's were'} passed over, by the suffix no image that is read ({named}); "
        f"read are {' '.join(IMAGE_SUFFIXES)}"
    )


def _channel_layout(shape: tuple[int, ...], name: str, input_data_format, ambiguous: str) -> str:
    if input_data_format is not None:
        layout = str(getattr(input_data_format, "value", input_data_format))
        channels = {"channels_first": shape[0], "channels_last": shape[-1]}.get(layout)
        if channels not in CHANNEL_COUNTS:
            raise ImageReadError(f"{name} has shape {shape}, which is no image in the layout {layout!r}")
        return layout
    # Two channels (gray, alpha) are so rare that they count only when no other reading is possible.
    for counts in ((1, 3, 4), (2,)):
        first, last = shape[0] in counts, shape[-1] in counts
        if first and last:
            return ambiguous
        if first or last:
            return "channels_first" if first else "channels_last"
    raise ImageReadError(
        f"{name} has shape {shape}: neither its first nor its last dimension is 1, 2, 3 or 4 channels"
    )


def _to_uint8(array: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """The array (height, width, channels) with 8 bits, and whether it held floats in 0..1."""
    if array.dtype == np.uint8:
        return array, False
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255, False
    if array.dtype.kind not in "iuf":
        raise ImageReadError(f"{name} has values of type {array.dtype}; expected integers, floats or booleans")
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageReadError(f"{name} holds NaN or infinite pixel values; replace them before detection")
    full = _value_range(array, low, high, name)
    output = np.empty(array.shape, np.uint8)
    axis = int(array.shape[1] > array.shape[0])
    pieces, results = np.moveaxis(array, axis, 0), np.moveaxis(output, axis, 0)
    step = max(1, BAND_VALUES // (array.size // len(pieces)))
    for start in range(0, len(pieces), step):
        piece = pieces[start : start + step]
        if array.dtype.kind != "f":
            piece = piece >> 8 if full == 65535 else piece
        else:
            piece = np.multiply(piece, 255 / full, dtype=np.float32, casting="same_kind")
            piece = np.rint(piece, out=piece)
        results[start : start + step] = np.clip(piece, 0, 255)
    return output, full == 1


def _value_range(array: np.ndarray, low: float, high: float, name: str) -> int:
    """
    The value of white in an array: 1, 255 or 65535.

    What no range fits is refused: read in the next larger one, such an image would be black.
    """
    is_float = array.dtype.kind == "f"

    def fits(white: float) -> bool:
        return -OVERSHOOT * high <= low and high <= (1 + OVERSHOOT) * white

    if is_float and fits(1):
        return 1
    # Nearly black frames are no mistake where they are integers, or were.
    if fits(255) and (not is_float or high >= DARKEST_WHITE * 255 or bool((array == np.rint(array)).all())):
        return 255
    if low >= 0 and DARKEST_WHITE * 65535 <= high <= 65535:
        return 65535
    expected = f"{'0..1, ' if is_float else ''}0..255 or 0..65535"
    raise ImageReadError(
        f"{name} has {array.dtype} values from {low:g} to {high:g}; expected {expected}: scale it to one of these, and pass "
        "it before normalization"
    )
